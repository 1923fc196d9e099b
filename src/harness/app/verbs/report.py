"""``report``: one page on a run or on a sweep, and figures fit for a paper."""

import argparse
import hashlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.app.verbs.arguments import (
    add_run_arguments,
    print_seen_values,
    read_selection,
    read_store,
)
from harness.errors import HarnessError, UsageError, escape_controls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.map_figures import StoredImages
    from harness.tracking.stored_run import StoredRun

MAX_REPORTED = 10_000
EPILOG = (
    "RUN is an identifier, its first characters, a name, or latest; SWEEP an identifier (--sweep latest: the "
    "newest). With NAME=VALUE the report is on all runs that match, such as --sweep latest subject=1,2"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.epilog = EPILOG
    parser.usage = "python -m harness report [RUN | SWEEP | --sweep ID] [NAME=VALUE ...] [options]"
    add_run_arguments(parser, limit=MAX_REPORTED, with_tables=False)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="directory of the report (default: mlruns/reports/ID)"
    )
    parser.add_argument(
        "--no-images", action="store_true", help="do not read the recording again for anatomy and volumes"
    )
    parser.add_argument("--no-log", action="store_true", help="do not copy the report to MLflow")


def run(options: argparse.Namespace) -> int:
    """Write the report of a run, or of several, and print its files."""
    from harness.report.page_directory import check_page_directory
    from harness.report.report_page import RECORD

    if options.out is not None:
        check_page_directory(options.out, RECORD, "files")
    conditions = [word for word in options.conditions if re.match(r"\w+=", word)]
    words = [word for word in options.conditions if word not in conditions]
    if len(words) > 1:
        raise UsageError(f"{' '.join(words)}: a report is on one run or one sweep; quote a name with spaces")
    selects = bool(conditions or options.sweep or options.status or options.failed or options.experiment)
    if words and options.sweep:
        raise UsageError(
            f"{words[0]!r} and --sweep {options.sweep}: a report is on one of them; leave one out"
        )
    if not words and not selects:
        raise UsageError("which run or sweep? Give an identifier, a name, or latest; see report --help")
    uri = read_store(options)
    options.conditions = conditions
    if words and (conditions or not _is_sweep(words[0], uri)):
        if selects:
            other = (conditions or ["an option"])[0]
            raise UsageError(f"{words[0]!r} is one run, which {other} cannot select; leave one of them out")
        return _report_run(options, words[0], uri)
    if words:
        options.sweep = words[0]
    return _report_runs(options, uri)


def _is_sweep(word: str, uri: str) -> bool:
    from harness.tracking.sweep_notes import list_sweeps

    return re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]+", word) is not None or word in {
        sweep.identifier for sweep in list_sweeps(uri)
    }


def _report_run(options: argparse.Namespace, word: str, uri: str) -> int:
    from harness.app.stored_images import read_stored_images
    from harness.report.map_figures import choose_volumes
    from harness.report.run_report import write_run_report
    from harness.tracking.queries import find_stored_run

    stored = find_stored_run(word, uri)
    stored.require_finished()
    try:
        chosen = choose_volumes(stored.read_table("predictions.csv"))["volume"].astype(int).tolist()
    except (HarnessError, KeyError, ValueError):
        chosen = []  # the section of the predictions says what is wrong with them
    images: StoredImages | str = "the recording was not read again (--no-images)"
    if not options.no_images:
        images = read_stored_images(stored, chosen)
    files = write_run_report(stored, images, _directory(options, stored.run_id))
    return _finish(options, files, [stored])


def _report_runs(options: argparse.Namespace, uri: str) -> int:
    from harness.report.sweep_report import write_sweep_report
    from harness.tracking.queries import select_runs
    from harness.tracking.report_log import find_group_runs
    from harness.tracking.stored_run import read_stored_runs

    selection = read_selection(options)
    selected = select_runs(uri, selection, options.most)
    if not selected.runs:
        print_seen_values(uri, selection)
        raise UsageError("no runs match, so there is nothing to report; python -m harness runs lists them")
    runs = read_stored_runs(selected.runs, uri)
    notes = [f"More than {options.most} runs match; these are the newest."] if selected.has_more else []
    name = selected.sweep if selected.sweep and not selection.params else _name_selection(runs)
    title = f"Sweep {selected.sweep}" if selected.sweep else f"{len(runs)} runs"
    if selection.params:
        title += ": " + ", ".join(f"{key}={','.join(values)}" for key, values in selection.params.items())
    whole = selected.sweep is not None and not selection.params
    groups = find_group_runs(uri, selected.sweep) if whole and selected.sweep else []
    files = write_sweep_report(title, runs, _directory(options, name), notes, groups)
    return _finish(options, files, [] if options.no_log else groups)


def _name_selection(runs: "Sequence[StoredRun]") -> str:
    """Name the directory of a report by its runs."""
    digest = hashlib.sha256(" ".join(sorted(run.run_id for run in runs)).encode()).hexdigest()
    return f"runs-{digest[:12]}"


def _directory(options: argparse.Namespace, name: str) -> Path:
    if options.out is not None:
        return Path(options.out).absolute()
    home = Path("mlruns") if options.uri else Path(options.folder)
    return (home / "reports" / name).absolute()


def _finish(options: argparse.Namespace, files: list[Path], targets: "Sequence[StoredRun]") -> int:
    """Print the files of a report, and copy them to MLflow runs."""
    page, *others = files
    for file in reversed(others):
        print(f"file     {file}")
    print(f"page     {page}")
    if options.no_log:
        return 0
    if not targets:
        print("mlflow   not copied: there is no group run of exactly these runs")
        return 0
    from harness.tracking.report_log import REPORT, log_report

    for target in targets:
        try:
            log_report(target, files)
        except HarnessError as error:
            print(f"the report was not copied to MLflow: {error}", file=sys.stderr)
            return 0
        print(f"mlflow   {REPORT}/ of run {escape_controls(target.title)}")
    return 0
