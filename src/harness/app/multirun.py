"""A sweep from its launch to its summary."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.plugins import Plugins
from hydra.types import HydraContext

from harness.app.group_maps import StoredGroupMaps, store_group_maps
from harness.app.hydra_errors import explaining, format_launcher_error
from harness.app.interrupts import stop_sweep_on_sigint
from harness.app.job import open_configured_store
from harness.app.job_callbacks import JobCallbacks
from harness.app.launching import end_sweep, launch_jobs
from harness.app.overrides import format_command
from harness.app.sweep_plan import Plan
from harness.app.worker import run_sweep_job
from harness.errors import HarnessError, UsageError
from harness.tracking.ledger import FRONT_DOOR_VARIABLE, SWEEP_DIRECTORY_VARIABLE, Outcome, Sweep

if TYPE_CHECKING:
    from harness.comparison.group import GroupSummary
    from harness.tracking.store import Store
    from harness.tracking.sweep_correction import CorrectedTests


def run_multirun(
    plan: Plan, arguments: Sequence[str], options: argparse.Namespace, sweep: Sweep | None = None
) -> int:
    """Run the jobs of a sweep, also if some fail; print a summary and return the exit status.

    Parameters
    ----------
    arguments : sequence of str
        The command line, without ``python -m harness``.
    options : Namespace
        With ``config_dir, config_name, overrides``.
    sweep : Sweep, optional
        A new sweep, from which the caller reads the outcomes afterwards.
    """
    from harness.report.progress import SweepProgress
    from harness.report.sweep_summary import SweepSummary, print_sweep
    from harness.tracking.sweep_notes import begin_sweep

    sweep = sweep or Sweep.begin(Path(plan.tracking["folder"]) / "sweeps")
    command = format_command(arguments)
    # Made before any job starts, under a lock: processes that make a store at the same time destroy it.
    opened = [open_configured_store(plan.tracking, experiment) for experiment in plan.experiments]
    stores = [store for store in opened if store is not None]
    for store in stores:
        begin_sweep(store, sweep.id, command, len(plan.jobs))
    stopped: BaseException | None = None
    try:
        with (
            stop_sweep_on_sigint(sweep),
            _environment_of_workers(sweep),
            SweepProgress(sweep.count, len(plan.jobs)),
        ):
            try:
                launch = explaining(arguments, passing=(OSError, RuntimeError))(partial(_launch, plan))
                launch_jobs(sweep, len(plan.jobs), launch, partial(_find_uncomposable_jobs, plan))
                # Python loses an interruption that comes while it cleans up; the sweep has stopped even so.
                stopped = KeyboardInterrupt() if sweep.stopping else None
            except (KeyboardInterrupt, SystemExit) as error:
                stopped = error
            if stopped is not None:
                end_sweep(sweep)
    except RuntimeError as error:  # what launchers raise
        raise format_launcher_error(error) from error
    finally:
        outcomes = sweep.outcomes()
        unclosed = _close_sweep(sweep, stores)
        failed = [outcome for outcome in outcomes if outcome.status in ("failed", "killed")]
        first = stores[0] if stores else None
        families = _correct_tests(stores, outcomes)
        again = rerun_command(arguments, options, failed, first) if stopped is None else ""
        if outcomes:
            groups, maps, pages = _summarise_subjects(plan, sweep, stores)
            views = _prepare_views(sweep, stores)
            print_sweep(
                SweepSummary(
                    sweep, outcomes, first, views, again, families, groups, pages, maps.groups, maps.refused
                )
            )
    if isinstance(stopped, SystemExit):
        return int(stopped.code or 1)
    if stopped is not None:
        print("stopped; the same command resumes the sweep", file=sys.stderr)
        return 130
    incomplete = unclosed or len(outcomes) < len(plan.jobs)
    statuses = {outcome.exit_status for outcome in failed} | ({1} if incomplete else set())
    return statuses.pop() if len(statuses) == 1 else min(len(statuses), 1)


def _launch(plan: Plan) -> None:
    """Have Hydra's launcher run all jobs; those that may not be claimed end at once."""
    callbacks = JobCallbacks(plan.config)
    callbacks.notify("on_multirun_start", config=plan.config, config_name=plan.config.hydra.job.config_name)
    context = HydraContext(plan.loader, callbacks)  # type: ignore[arg-type]  # the declared class is private
    launcher = Plugins.instance().instantiate_launcher(context, run_sweep_job, plan.config)
    size = plan.config.hydra.sweeper.get("max_batch_size") or len(plan.jobs)
    for start in range(0, len(plan.jobs), size):
        for done in launcher.launch(plan.jobs[start : start + size], start):
            _ = done.return_value  # raises what the job raised
    callbacks.notify("on_multirun_end", config=plan.config, config_name=plan.config.hydra.job.config_name)


@contextmanager
def _environment_of_workers(sweep: Sweep) -> Iterator[None]:
    """Set the variables that every launcher hands on to its workers."""
    added = {SWEEP_DIRECTORY_VARIABLE: str(sweep.directory), FRONT_DOOR_VARIABLE: str(os.getpid())}
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _find_uncomposable_jobs(plan: Plan, error: BaseException, numbers: Sequence[int]) -> Iterator[Outcome]:
    """Find the jobs that cannot be composed: such a job ends Hydra's launcher before it has begun."""
    if not isinstance(error, UsageError):
        return
    for number in numbers:
        try:
            with explaining(plan.jobs[number]):
                plan.loader.load_sweep_config(plan.config, plan.jobs[number])
        except UsageError as error:
            overrides = tuple(word.removeprefix("++") for word in plan.jobs[number])
            yield Outcome(number, "failed", overrides, error=str(error), exit_status=UsageError.exit_status)


def rerun_command(
    arguments: Sequence[str], options: argparse.Namespace, failed: Sequence[Outcome], store: "Store | None"
) -> str:
    """Return the command that runs the failed jobs again, and only them; or several, one per line."""
    if not failed:
        return ""
    resuming = not any(word.lstrip("+").startswith("resume=") for word in options.overrides)
    if store is not None and resuming and all(outcome.overrides for outcome in failed):
        return format_command(arguments)
    named = {"-cd": options.config_dir, "-cn": options.config_name}
    flags = [word for flag, value in named.items() if value is not None for word in (flag, str(value))]
    return "\n".join(format_command([*flags, *outcome.overrides]) for outcome in failed)


def _close_sweep(sweep: Sweep, stores: Sequence["Store"]) -> bool:
    """Record the end of a sweep in its stores; print errors and return whether there were any."""
    from harness.tracking.sweep_notes import close_sweep

    failed = False
    for store in stores:
        try:
            close_sweep(store, sweep)
        except HarnessError as error:
            failed = True
            print(f"error: {error}", file=sys.stderr)
    return failed


def _correct_tests(stores: Sequence["Store"], outcomes: Sequence[Outcome]) -> "list[CorrectedTests]":
    """Correct the permutation tests of a sweep's runs for their number; print an error of the store."""
    tested = [
        outcome.run_id
        for outcome in outcomes
        if outcome.run_id and outcome.words.get("inference", "none") != "none"
    ]
    if len(tested) < 2 or not stores:
        return []
    from harness.tracking.sweep_correction import correct_sweep

    try:
        return correct_sweep(stores[0], tested)  # all are of one database
    except HarnessError as error:
        print(f"error: the p-values of this sweep are not corrected: {error}", file=sys.stderr)
        return []


def _summarise_subjects(
    plan: Plan, sweep: Sweep, stores: Sequence["Store"]
) -> "tuple[list[GroupSummary], StoredGroupMaps, list[str]]":
    """Summarise a sweep over its subjects, and store the summaries; print an error of the store.

    Returns
    -------
    groups : list of GroupSummary
    maps : StoredGroupMaps
        Of searchlights.
    pages : list of str
        How the run of each configuration is opened.
    """
    subjects = {word for job in plan.jobs for word in job if word.startswith("subject=")}
    if len(subjects) < 2 or not stores:
        return [], StoredGroupMaps(), []
    from harness.comparison.group import summarise_groups
    from harness.comparison.group_record import describe_group, split_groups
    from harness.report.group_tables import write_group_files
    from harness.tracking.group_run import store_group
    from harness.tracking.queries import MAX_RUNS, RunQuery, select_runs
    from harness.tracking.stored_run import read_stored_runs

    groups: list[GroupSummary] = []
    maps = StoredGroupMaps()
    pages: list[str] = []
    try:
        selected = select_runs(stores[0].uri, RunQuery(sweep=sweep.id, statuses=("FINISHED",)), MAX_RUNS)
        runs = read_stored_runs(selected.runs, stores[0].uri)
        groups = summarise_groups(runs, n_planned=len(subjects))
        for scores in split_groups(groups):
            record = describe_group(scores, len(subjects))
            run = store_group(stores[0], record, partial(write_group_files, scores), sweep.id)
            pages.append(run.page)
        maps = store_group_maps(stores[0], runs, len(subjects), sweep.id)
    except HarnessError as error:
        print(f"error: the summary over subjects is not stored: {error}", file=sys.stderr)
    return groups, maps, [*pages, *maps.pages]


def _prepare_views(sweep: Sweep, stores: Sequence["Store"]) -> list[str]:
    """Return links to the sweep's runs in a server's MLflow UI; for a local store, see ``harness ui``."""
    from harness.tracking.mlflow_views import prepare_views
    from harness.tracking.store import ui_address
    from harness.tracking.sweep_notes import find_sweep, list_sweeps

    links: list[str] = []
    for uri in dict.fromkeys(store.uri for store in stores if store.directory is None):
        with suppress(Exception):  # a convenience, which MLflow does not document
            record = find_sweep(sweep.id, list_sweeps(uri), uri)
            links += prepare_views(uri, ui_address(uri), record).values()
    return links
