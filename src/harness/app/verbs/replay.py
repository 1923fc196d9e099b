"""``replay``: repeat a stored run from its own record, and compare every number."""

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.app.verbs.arguments import (
    add_run_argument,
    add_store_arguments,
    print_json,
    read_store,
)
from harness.errors import DataError, HarnessError

if TYPE_CHECKING:
    from harness.app.computation import RunData
    from harness.app.run_spec import RunSpec
    from harness.app.stored_spec import StoredSpec
    from harness.comparison.replay import Repetition
    from harness.tracking.stored_run import StoredRun

EPILOG = (
    "Nothing is stored. Exit status: 0 if every number is identical; 1 if one differs, or after an error; 2 "
    "after a usage error."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_run_argument(parser)
    parser.add_argument(
        "places",
        nargs="*",
        metavar="KEY=PLACE",
        help="where the data are now, such as dataset.data_dir=/new/place",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    add_store_arguments(parser)
    parser.epilog = EPILOG


def run(options: argparse.Namespace) -> int:
    """Repeat a run; return 1 if a number differs."""
    from harness.app.interrupts import exit_on_termination_signals
    from harness.app.stored_spec import complete_settings, prepare_settings, read_stored_spec
    from harness.comparison.replay import compare_replay
    from harness.report.explanation_tables import print_replay, replay_to_dict
    from harness.tracking.queries import find_stored_run

    uri = read_store(options)
    stored = find_stored_run(options.run, uri)
    stored.require_finished()
    with exit_on_termination_signals():
        spec = read_stored_spec(stored, options.places)
        try:
            repetition = _repeat(stored, spec)
        except KeyboardInterrupt:
            print("stopped; nothing was stored", file=sys.stderr)
            return 130

    def prepare(settings: dict[str, Any]) -> tuple[Any, tuple[str, ...]]:
        return prepare_settings(complete_settings(settings, stored.title)[0])

    replay = compare_replay(stored, repetition, prepare=prepare, notes=spec.notes)
    if not replay.is_identical:
        replay = dataclasses.replace(replay, notes=(*replay.notes, *_list_unseeded(spec.spec)))
    if options.json:
        print_json(replay_to_dict(replay))
    else:
        print_replay(replay)
    return 0 if replay.is_identical else 1


def _repeat(stored: "StoredRun", spec: "StoredSpec") -> "Repetition":
    """Compute the run again, from the images themselves: what the cache holds is not taken for granted."""
    from harness.app.computation import RunData, compute_run, tag_foreign_code
    from harness.app.stored_spec import prepare_settings
    from harness.comparison.replay import describe_repetition
    from harness.report.progress import ProgressBar

    data = RunData(spec.spec, cached=False)
    with ProgressBar(f"replay {spec.spec.name}") as progress:
        _open_sources(data, stored)
        computed = compute_run(data, progress, single=True)
    config = spec.spec.config
    try:
        with tempfile.TemporaryDirectory(prefix="harness-") as directory:
            computed = computed.write(Path(directory), spec.spec.to_yaml(), "off")
            content = computed.describe(Path(directory), {})
            settings, _ = prepare_settings(config)
            foreign = tag_foreign_code(config)
            return describe_repetition(content, Path(directory), settings, spec.spec.choices, foreign)
    except OSError as error:
        raise HarnessError(
            f"the files of the replay cannot be written to a temporary directory: {error}. Check the disk's "
            "free space, or choose another directory with the environment variable TMPDIR"
        ) from error


def _list_unseeded(spec: "RunSpec") -> Iterator[str]:
    """Yield what draws other random numbers every time."""
    model, splitter = spec.question.estimator.model, spec.question.scheme.splitter
    unseeded = [
        f"estimator.{key.replace('__', '.')}"
        for key, value in model.get_params().items()
        if key.rpartition("__")[2] == "random_state" and value is None
    ]
    if getattr(splitter, "shuffle", True) and getattr(splitter, "random_state", 0) is None:
        unseeded.append("cv.random_state")
    for key in unseeded:
        yield (
            f"{key} is null in the configuration of the run, so that its random numbers may be others every "
            f"time; a run with {key}=0 can be repeated"
        )


def _open_sources(data: "RunData", stored: "StoredRun") -> None:
    """Read mask and labels; where they are missing, name how to give their new place."""
    from harness.app.run_names import NOT_NAMED
    from harness.app.stored_spec import list_location_keys

    try:
        _ = data.sources
    except DataError as error:
        keys = [
            key for key in list_location_keys(data.spec.config) if key.rpartition(".")[2] not in NOT_NAMED
        ]
        if not keys:
            raise
        raise DataError(
            f"{error}. If the data of run {stored.title} are at another place now: python -m harness replay "
            f"{stored.run_id[:8]} {keys[0]}=/new/place"
        ) from error
