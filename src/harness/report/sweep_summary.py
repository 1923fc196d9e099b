"""What is printed at the end of a sweep, and of a job that failed."""

import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from harness.errors import HarnessError
from harness.report.console import PlainConsole, print_store_commands
from harness.report.group_map_tables import print_group_maps
from harness.report.group_tables import print_groups
from harness.report.inference_tables import print_corrected_tests
from harness.report.run_listing import print_comparison
from harness.tracking.ledger import Outcome, Sweep
from harness.tracking.run_tables import compare_outcomes

if TYPE_CHECKING:
    from harness.comparison.group import GroupSummary
    from harness.comparison.group_maps import GroupMaps, RefusedGroup
    from harness.tracking.store import Store
    from harness.tracking.sweep_correction import CorrectedTests

PAGES_PRINTED = 3  # of group summaries


@dataclass(frozen=True)
class SweepSummary:
    """What is printed of a sweep.

    Attributes
    ----------
    store : Store or None
        Where its runs are, if they are tracked.
    views : sequence of str
        Links to its runs in the MLflow UI of a server.
    rerun : str
        The command that repeats the failed runs only; empty if there is none.
    families : sequence of CorrectedTests
        Tests that were corrected for their number.
    groups : sequence of GroupSummary
        Scores over subjects.
    group_pages : sequence of str
        How the runs of these summaries are opened.
    group_maps : sequence of GroupMaps
        Searchlight maps over subjects.
    refused_maps : sequence of RefusedGroup
        Searchlights over whose maps no test is possible.
    """

    sweep: Sweep
    outcomes: Sequence[Outcome]
    store: "Store | None" = None
    views: Sequence[str] = ()
    rerun: str = ""
    families: "Sequence[CorrectedTests]" = ()
    groups: "Sequence[GroupSummary]" = ()
    group_pages: Sequence[str] = ()
    group_maps: "Sequence[GroupMaps]" = ()
    refused_maps: "Sequence[RefusedGroup]" = ()


def print_sweep(summary: SweepSummary) -> None:
    """Print the results of a sweep, the best first, its warnings, and the runs that failed."""
    sweep, outcomes, group_pages = summary.sweep, summary.outcomes, summary.group_pages
    console = PlainConsole()
    results = [outcome for outcome in outcomes if outcome.status in ("finished", "skipped")]
    if results:
        print_comparison(compare_outcomes(results))
    for family in summary.families:
        print_corrected_tests(console, family)
    print_groups(console, summary.groups)
    print_group_maps(console, summary.group_maps, summary.refused_maps)
    skipped = sum(outcome.status == "skipped" for outcome in outcomes)
    if skipped:
        console.print(
            f"{skipped} skipped: runs with the same data, configuration and code had finished before; "
            "resume=false computes, and draws, them again."
        )
    audits = Counter(outcome.audit for outcome in results if outcome.audit)
    if audits:
        verdicts = [f"{audits[name]} {name}" for name in ("leak", "caution", "ok") if audits[name]]
        console.print(
            f"audit    worst verdicts of the runs: {', '.join(verdicts)}; audit.json of each has why"
        )
    for notice, times in Counter(notice for outcome in results for notice in outcome.notices).items():
        share = "" if times == len(results) else f" [{times} of {len(results)} runs]"
        console.print(f"{notice}{share}", style="yellow")
    console.print(f"sweep    {sweep.id}")
    if summary.store is not None:
        print_store_commands(console, summary.store, f" --sweep {sweep.id}")
    for page in group_pages[:PAGES_PRINTED]:
        console.print(f"group    {page}", soft_wrap=True)
    if len(group_pages) > PAGES_PRINTED:
        console.print(
            f"group    and {len(group_pages) - PAGES_PRINTED} more, in the experiment of the groups"
        )
    for link in summary.views:
        console.print(f"view     {link}", soft_wrap=True)
    _print_failures(outcomes, summary.rerun)


def _print_failures(outcomes: Sequence[Outcome], rerun: str) -> None:
    """Print, on standard error, the failed and killed runs of a sweep, and each distinct traceback once."""
    failed = [outcome for outcome in outcomes if outcome.status in ("failed", "killed")]
    if not failed:
        return
    console = PlainConsole(stderr=True)
    table = Table(title=f"{len(failed)} failed or killed", title_justify="left")
    for name in ("run", "status", "why"):
        table.add_column(name, overflow="fold")
    # Overrides that all runs of the sweep share do not identify a run.
    shared = (
        set.intersection(*(set(outcome.overrides) for outcome in outcomes)) if len(outcomes) > 1 else set()
    )
    for outcome in failed:
        overrides = " ".join(override for override in outcome.overrides if override not in shared)
        table.add_row(overrides or f"job {outcome.job}", outcome.status, outcome.error)
    console.print(table)
    for text, times in Counter(outcome.traceback for outcome in failed if outcome.traceback).items():
        console.print(f"{times} of them with this traceback:\n{text}")
    if rerun:
        console.print(f"to run only these again:\n{rerun}", soft_wrap=True)


def print_error(error: BaseException) -> None:
    """Print why a run failed: the message of a user error, the traceback of any other."""
    if isinstance(error, HarnessError):
        print(f"error: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error)
