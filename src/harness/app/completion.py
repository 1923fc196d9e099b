"""Completion in the shell: of verbs, their options, filters, runs and sweeps; of overrides by Hydra.

Hydra's shell functions (``harness -sc install=bash``) call ``harness -sc query=bash`` with the line in the
variable COMP_LINE. What is right for a verb is printed here; everything else is Hydra's. So one line of
installation completes both, in the shells that Hydra knows, and no package is added.
"""

import argparse
import os
import re
import sys
from contextlib import redirect_stderr, suppress
from importlib import import_module
from io import StringIO
from pathlib import Path

from harness.app.verbs import VERBS
from harness.comparison.choices import NOT_COMPARED
from harness.tracking.choices import COMPARED_PARAMS, EARLIER_PARAMS, STATUSES

FLAGS = ("-sc", "--shell-completion")
RUNS_OFFERED = 50  # the newest
ID_LENGTH = 12  # characters of a run's ID that are offered; any beginning is accepted


def is_query(arguments: list[str]) -> bool:
    """Return whether a shell requests completions, which are not those of installation."""
    return len(arguments) == 2 and arguments[0] in FLAGS and arguments[1].startswith("query=")


def complete(arguments: list[str]) -> int:
    """Print the completions of the last word of COMP_LINE; an error leaves none, and no message."""
    line = os.environ.get("COMP_LINE", "")
    words = line.split()[1:]
    if not line or line[-1].isspace():
        words.append("")
    if not words:
        return 0
    *before, word = words
    if not before:
        print(*(verb for verb in VERBS if verb.startswith(word)), sep="\n")
        return _complete_overrides(arguments)
    if before[0] not in VERBS and before[-1] in ("-cn", "--config-name"):
        with suppress(Exception):
            print(*(name for name in _list_studies(before) if name.startswith(word)), sep="\n")
        return 0
    if before[0] not in VERBS:
        is_run = before[0].startswith(("-", "+", "~")) or "=" in before[0]
        return _complete_overrides(arguments) if is_run else 0
    if _takes_overrides(before[0]) and not word.startswith("-") and not _expects_value(before):
        # Without the verb, the line is that of a run.
        overrides = [other for other in before[1:] if "=" in other and not other.startswith("-")]
        os.environ["COMP_LINE"] = " ".join(["harness", *overrides, word])
        return _complete_overrides(arguments)
    found: list[str] = []
    with suppress(Exception), redirect_stderr(StringIO()):
        found = list_words(before, word)
    if not found and arguments[1] == "query=fish":  # bash and zsh complete files themselves
        found = [str(path) + "/" * path.is_dir() for path in Path().glob(f"{word}*")]
    print(*(text for text in found if text.startswith(word)), sep="\n")
    sys.stdout.flush()
    return 0


def _complete_overrides(arguments: list[str]) -> int:
    """Let Hydra print the completions of overrides."""
    from harness.app.entry import run

    with redirect_stderr(StringIO()):  # about words that are no overrides
        return run(arguments)


def list_words(before: list[str], word: str) -> list[str]:
    """Return the words that can follow a verb and its arguments; none where a file is expected."""
    verb = before[0]
    if (option := _expects_value(before)) is not None:
        return _list_values(option, before)
    if word.startswith("-"):
        return list(_read_options(verb))
    usage = _make_parser(verb).format_usage()
    words: list[str] = []
    if "NAME=VALUE" in usage:
        words += _list_filters(verb, before, word)
    if re.search(r"(?<!-)\bRUN", usage):
        words += _list_runs(before)
    if "SWEEP" in usage:
        words += _list_sweeps(before)
    return words


def _make_parser(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=verb)
    import_module(f"harness.app.verbs.{verb}").add_arguments(parser)
    return parser


def _takes_overrides(verb: str) -> bool:
    return "GROUP=OPTION" in _make_parser(verb).format_usage()


def _read_options(verb: str) -> dict[str, str]:
    """Return what --help shows after every option: the name of its value; empty for a flag."""
    # Lines such as "  --config-dir DIR, -cd DIR" and "  --csv FILE     also write ...".
    lines = re.findall(r"^  (-.*?)(?:  |$)", _make_parser(verb).format_help(), flags=re.MULTILINE)
    found = {}
    for line in lines:
        for part in line.split(", -"):
            name, _, value = part.partition(" ")
            found[name if name.startswith("-") else f"-{name}"] = value
    return found


def _expects_value(before: list[str]) -> str | None:
    """Return the option whose value is the next word."""
    return before[-1] if _read_options(before[0]).get(before[-1]) else None


def _list_values(option: str, before: list[str]) -> list[str]:
    if option == "--sweep":
        return _list_sweeps(before)
    if option == "--run":
        return _list_runs(before)
    if option == "--status":
        return list(STATUSES)
    value = _read_options(before[0])[option]
    return value[1:-1].split(",") if value.startswith("{") else []


def _list_filters(verb: str, before: list[str], word: str) -> list[str]:
    """Return the parameters that runs are selected by, or, after ``NAME=``, the values of the newest runs."""
    name, equals, values = word.partition("=")
    if equals and name in COMPARED_PARAMS:
        chosen, _, _ = values.rpartition(",")
        start = f"{name}={chosen}," if chosen else f"{name}="
        offered = [value for value in _list_seen(before, name) if not re.search(r"\s", value)]
        return [start + value for value in offered if value not in chosen.split(",")]
    keys = [f"{key}=" for key in COMPARED_PARAMS if f"{key}=" not in " ".join(before)]
    if "by=" not in _make_parser(verb).format_help():
        return keys
    compared = [f"by={key}" for key in COMPARED_PARAMS if key not in NOT_COMPARED]
    return compared if name == "by" and equals else ["by=", *keys]


def _list_runs(before: list[str]) -> list[str]:
    """Return the newest runs of the store that the line names, by the beginnings of their IDs."""
    from harness.tracking.queries import RunQuery, select_runs

    runs = select_runs(_find_store(before), RunQuery(), limit=RUNS_OFFERED).runs
    return [run.info.run_id[:ID_LENGTH] for run in runs]


def _list_seen(before: list[str], name: str) -> list[str]:
    """Return the values of a parameter that the newest runs have."""
    from harness.tracking.queries import RunQuery, select_runs

    runs = select_runs(_find_store(before), RunQuery(), limit=RUNS_OFFERED).runs
    found = [EARLIER_PARAMS | run.data.params for run in runs]
    return list(dict.fromkeys(params[name] for params in found if name in params))


def _list_sweeps(before: list[str]) -> list[str]:
    from harness.errors import HarnessError
    from harness.tracking.sweep_notes import list_sweeps

    try:
        return ["latest", *(sweep.identifier for sweep in list_sweeps(_find_store(before)))]
    except HarnessError:  # no store
        return ["latest"]


def _list_studies(before: list[str]) -> list[str]:
    """Return the studies, also those of the directory that the line names with --config-dir."""
    from harness.app.composition import composing, list_studies

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    options, _ = parser.parse_known_args([*before, ""])
    with composing(options.config_dir):
        return list_studies()


def _find_store(before: list[str]) -> str:
    """Return the tracking URI of the store that a line names with --uri or --folder."""
    from harness.app.verbs.arguments import add_folder_argument, read_store

    parser = argparse.ArgumentParser(add_help=False)
    add_folder_argument(parser)
    parser.add_argument("--uri")
    options, _ = parser.parse_known_args(before[1:])
    return read_store(options)
