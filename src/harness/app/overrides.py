"""Command lines: overrides with the quotes of Hydra's grammar, and whole commands with those of the shell."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

# Groups of options: their values are names of options, even those that Hydra would read as numbers.
GROUPS = (
    *("analysis", "dataset", "contrast", "roi", "signal", "estimator", "cv", "scoring", "inference"),
    "tracking",
)
NOT_A_NAME = re.compile(
    r"[+-]?([0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(inf|nan)|true|false|null",
    flags=re.IGNORECASE,
)


def quote_override(word: str) -> str:
    """Return an override, such as ``roi.mask=~/roi.nii.gz``, in Hydra's grammar.

    A prefix ``++`` allows the open groups every argument of their target, also those that the option's file
    lacks; `harness.app.run_spec` checks them against the target's signature. Paths with characters beyond
    ASCII, a tilde or backslashes are quoted.
    """
    match = re.fullmatch(r"([+~]*[\w./@]+)=(.*)", word, flags=re.DOTALL)
    if match is None:
        return word
    key, value = match.groups()
    if value.startswith("~/"):
        value = str(Path(value).expanduser())
    name = key.lstrip("+~")
    if name in GROUPS or name.startswith("hydra/"):
        value = quote_options(value)
    elif re.search(r"[^\x00-\x7f]|[~\\]", value) and not re.search(r"['\"\[\]{}(),$]", value):
        value = f"'{value}'"
    return re.sub(r"^\+*(?=(analysis|dataset|estimator|cv)\.)", "++", f"{key}={value}")


def quote_options(value: str) -> str:
    """Quote numbers, ``true``, ``null``, lists and mappings after ``GROUP=``: Hydra then takes them as names.

    Hydra then lists the names of the options; unquoted, they raise other exceptions in it. Names, several
    names with commas, and Hydra's functions are returned as they are.
    """
    if value.startswith(("[", "{")):
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{quoted}'"
    if re.search(r"['\"(\[{]", value):
        return value
    names = value.split(",")
    return ",".join(f"'{name}'" if NOT_A_NAME.fullmatch(name.strip()) else name for name in names)


def format_command(words: Sequence[str], config_dir: Path | None = None, start: Sequence[str] = ()) -> str:
    """Return a command line of the harness, quoted for the shell.

    Parameters
    ----------
    words : sequence of str
        Overrides, or all words.
    config_dir : Path, optional
        The directory of --config-dir.
    start : sequence of str, optional
        What comes first: a verb, or the name of a study.
    """
    flags = [] if config_dir is None else ["--config-dir", str(config_dir)]
    return shlex.join(["python", "-m", "harness", *start, *flags, *words])
