"""What a person types on the command line, put into the order and the quotes that Hydra's grammar wants."""

import re
from pathlib import Path

# Flags of Hydra that are followed by a value of their own.
FLAGS_WITH_VALUE = (
    *("-cn", "--config-name", "-cd", "--config-dir", "-cp", "--config-path"),
    *("-c", "--cfg", "-p", "--package"),
)

# Groups of options: their values are names of options, whatever else Hydra would read in them.
GROUPS = ("dataset", "contrast", "roi", "signal", "estimator", "cv", "scoring", "tracking")
NOT_A_NAME = re.compile(
    r"[+-]?([0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(inf|nan)|true|false|null",
    flags=re.IGNORECASE,
)


def sort_arguments(arguments: list[str]) -> list[str]:
    """Put Hydra's flags before the overrides: its parser does not take them in between.

    Parameters
    ----------
    arguments : list of str
        Flags, their values, and overrides, in any order.

    Returns
    -------
    arguments : list of str
    """
    flags, overrides, words = [], [], iter(arguments)
    for word in words:
        if not word.startswith("-"):
            overrides.append(word)
            continue
        flags.append(word)
        if word in FLAGS_WITH_VALUE:
            flags.extend(value for value in [next(words, None)] if value is not None)
    return flags + overrides


def say_to_hydra(word: str) -> str:
    """Write an override as Hydra's grammar wants it.

    The open groups take every argument of their target, also those that the file does not mention: `++` says
    so, and `harness.app.composition` checks them against the target's signature. Paths with letters beyond
    ASCII, a tilde or backslashes need quotes.

    Parameters
    ----------
    word : str
        An override, such as ``roi.mask=~/roi.nii.gz``.

    Returns
    -------
    word : str
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
    return re.sub(r"^\+*(?=(dataset|estimator|cv)\.)", "++", f"{key}={value}")


def quote_options(value: str) -> str:
    """Put into quotes what cannot be the name of an option, so that Hydra looks for it and lists the names.

    Hydra itself ends in a traceback where a group is given a number, ``true``, ``null``, a list or a mapping.

    Parameters
    ----------
    value : str
        What is typed after ``GROUP=``: a name, several with commas, or one of Hydra's functions.

    Returns
    -------
    value : str
    """
    if value.startswith(("[", "{")):
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{quoted}'"
    if re.search(r"['\"(\[{]", value):
        return value
    names = value.split(",")
    return ",".join(f"'{name}'" if NOT_A_NAME.fullmatch(name.strip()) else name for name in names)
