"""Arguments that several verbs share: overrides, a store, the runs to list."""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError, escape_controls, suggest

if TYPE_CHECKING:
    import pandas as pd

    from harness.tracking.queries import RunQuery


def add_override_arguments(parser: argparse.ArgumentParser, example: str) -> None:
    """Add the overrides that a run takes, and --config-dir."""
    parser.add_argument(
        "overrides", nargs="*", metavar="GROUP=OPTION", help=f"as for a run, such as {example}"
    )
    parser.add_argument("--config-dir", "-cd", type=Path, metavar="DIR", help="directory of your own options")


def add_folder_argument(parser: argparse.ArgumentParser) -> None:
    """Add --folder, the directory of a local store."""
    parser.add_argument(
        "--folder", type=Path, default=Path("mlruns"), help="directory of a local store (default: mlruns)"
    )


def add_run_arguments(
    parser: argparse.ArgumentParser, limit: int, with_tables: bool = True, with_sweeps: bool = False
) -> None:
    """Add a store and what selects runs in it.

    Parameters
    ----------
    limit : int
        Runs that are selected at most, by default.
    with_tables : bool
        Whether the verb prints a table, so that it has --csv and --json.
    with_sweeps : bool
        Whether the verb can list sweeps instead of runs.
    """
    add_store_arguments(parser)
    parser.add_argument(
        "conditions",
        nargs="*",
        metavar="NAME=VALUE",
        help="only runs with this parameter, such as subject=2 estimator=svc,lda (a comma: any of these)",
    )
    parser.add_argument("--experiment", help="one experiment, such as 'haxby decoding' (default: all)")
    parser.add_argument("--sweep", metavar="ID", help="only the runs of this sweep; latest is the newest")
    parser.add_argument(
        "--most", type=_parse_limit, default=limit, metavar="N", help=f"at most N (default: {limit})"
    )
    if with_tables:
        parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the table to FILE")
        parser.add_argument(
            "--json", action="store_true", help="write JSON, and nothing else, to standard output"
        )
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--status", help="only FINISHED, FAILED, KILLED or RUNNING, or several with commas")
    group.add_argument(
        "--failed", action="store_true", help="only runs that failed or were killed; `runs` gives the reasons"
    )
    if with_sweeps:
        group.add_argument("--sweeps", action="store_true", help="list the sweeps instead of their runs")


def _parse_limit(text: str) -> int:
    from harness.tracking.queries import MAX_RUNS

    with suppress(ValueError):
        if 1 <= int(text) <= MAX_RUNS:
            return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of runs; expected 1 to {MAX_RUNS}")


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --folder and --uri, the store that single runs are read from."""
    add_folder_argument(parser)
    parser.add_argument("--uri", help="tracking URI of a server, instead of a directory")


def read_store(options: argparse.Namespace) -> str:
    """Return the tracking URI of the store that --uri or --folder names, if it can be opened."""
    if options.uri:
        from harness.tracking.store import check_server, reach_server

        check_server(options.uri)
        reach_server(options.uri)
        return str(options.uri)
    from harness.tracking.store import local_store_uri

    return local_store_uri(options.folder)


def add_run_argument(parser: argparse.ArgumentParser, name: str = "run", metavar: str = "RUN") -> None:
    """Add the word that names a stored run, for `harness.tracking.queries.find_stored_run`."""
    parser.add_argument(
        name, metavar=metavar, help="a run: its identifier, the first characters of it, its name, or latest"
    )


def read_selection(options: argparse.Namespace) -> RunQuery:
    """Return which runs the options select."""
    from harness.tracking.queries import UNSUCCESSFUL, RunQuery, parse_conditions, parse_statuses

    statuses = UNSUCCESSFUL if options.failed else parse_statuses(options.status) if options.status else ()
    return RunQuery(options.experiment, options.sweep, statuses, parse_conditions(options.conditions))


def print_seen_values(uri: str, selection: RunQuery, as_json: bool = False) -> None:
    """Print the values that the newest runs have of the parameters that excluded every run.

    With `as_json` on standard error, since standard output holds JSON alone.
    """
    from harness.tracking.queries import seen_values

    stream = sys.stderr if as_json else sys.stdout
    for name, values in seen_values(uri, selection).items():
        hint = suggest(selection.params[name][0], values, form=f"{name}={{}}")
        text = f"{name} of the newest runs: {', '.join(values) or 'none'}.{hint}"
        print(escape_controls(text), file=stream)


def write_table(file: Path | None, table: pd.DataFrame, as_json: bool = False) -> None:
    """Write a table to the file of --csv, if one is given, and print its path.

    With `as_json` on standard error, since standard output holds JSON alone.
    """
    if file is None:
        return
    from harness.report.spreadsheets import write_csv

    try:
        if file.exists() and not file.is_file():  # such as /dev/stdout
            write_csv(table, file)
        else:
            # An older table stays until the new one is complete.
            with tempfile.TemporaryDirectory(prefix=f".{file.name}-", dir=file.resolve().parent) as made:
                write_csv(table, Path(made) / file.name)
                (Path(made) / file.name).replace(file.resolve())
    except OSError as error:
        raise UsageError(f"--csv {file} cannot be written: {error}; choose another file") from error
    print(f"table    {file.resolve()}", file=sys.stderr if as_json else sys.stdout)


def print_json(content: object) -> None:
    """Print tables, records and numbers as JSON; undefined numbers become null."""
    print(json.dumps(_to_plain(content), indent=1))


def _to_plain(value: Any) -> Any:
    """Return a value that JSON has: a table is a list of its rows."""
    if hasattr(value, "to_dict"):
        value = value.to_dict("records")
    if isinstance(value, Mapping):
        return {str(name): _to_plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    if isinstance(value, str | bool) or value is None:
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    return str(value) if str(value) != "NaT" else None
