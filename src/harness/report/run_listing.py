"""Tables of stored runs and sweeps: the best first, or the newest first."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from harness.report.console import PlainConsole, format_duration, format_moment, format_score, plus_minus
from harness.tracking.run_tables import RunTable
from harness.tracking.sweep_notes import SweepRecord

if TYPE_CHECKING:
    pass

OPTIONS = "options"  # the column that all options share on a narrow terminal


def print_comparison(comparison: RunTable) -> None:
    """Print runs side by side; a parameter that is the same in all of them is printed above the table."""
    console = PlainConsole()
    runs = comparison.runs
    if not _print_heading(console, comparison):
        return
    scores = [column.removesuffix("_mean") for column in runs.columns if column.endswith("_mean")]
    same, varying = comparison.split_params()
    audits = runs["audit"].unique().tolist() if "audit" in runs else []
    same |= {"audit": audits[0]} if len(audits) == 1 and audits[0] else {}
    if same and len(runs) > 1:
        console.print("  ".join(f"{name}={value}" for name, value in same.items()))
    varying = varying or ["subject", "estimator", "cv"]
    shown = [*varying, *(["status"] if (runs["status"] != "FINISHED").any() else [])]
    shown += ["audit"] if len(audits) > 1 or (audits and audits[0] and len(runs) == 1) else []
    # Where the terminal is too narrow, the options share a column; then only test scores are shown.
    test_scores = [score for score in scores if score.startswith("test_")] or scores
    candidates = [
        _comparison_cells(runs, shown, scores, merged=False),
        _comparison_cells(runs, shown, scores, merged=True),
        _comparison_cells(runs, shown, test_scores, merged=True),
    ]
    chosen = _print_first_that_fits(console, candidates)
    console.print(
        f"mean {plus_minus()} SD over folds (ddof=1). selected: chosen on the fold that is scored; test: not."
    )
    if chosen == 2 and test_scores != scores:
        hidden = [score.replace("_", " ") for score in scores if score not in test_scores]
        console.print(f"Not shown on a terminal this narrow: {', '.join(hidden)}; --csv FILE writes them.")
    _print_has_more(console, comparison)


def print_runs(comparison: RunTable, reasons: bool) -> None:
    """Print runs, the newest first; what is the same in all of them is printed above the table.

    Parameters
    ----------
    comparison : RunTable
        With times, see `harness.tracking.run_tables.list_runs`.
    reasons : bool
        Whether to print why runs failed.
    """
    console = PlainConsole()
    runs = comparison.runs
    if not _print_heading(console, comparison):
        return
    same, varying = comparison.split_params()
    if runs["status"].nunique() == 1:
        same = {"status": runs["status"].iloc[0]} | same
    if same:
        console.print("  ".join(f"{name}={value}" for name, value in same.items() if value), soft_wrap=True)
    shown = [*([] if "status" in same else ["status"]), *varying]
    # Where the terminal is too narrow, the options share a column; then the duration is left out, too.
    candidates = [
        _runs_cells(runs, shown, merged=False, took=True),
        _runs_cells(runs, shown, merged=True, took=True),
        _runs_cells(runs, shown, merged=True, took=False),
    ]
    _print_first_that_fits(console, candidates)
    if reasons:
        for _, run in runs.iterrows():
            options = " ".join(f"{name}={run[name]}" for name in varying)
            reason = run["error"] or "no reason was stored: the process was killed"
            console.print(f"{run['run_id'][:8]} {options}".rstrip() + f"\n  {reason}", soft_wrap=True)
    _print_has_more(console, comparison)


def print_sweeps(sweeps: Sequence[SweepRecord], n_sweeps: int) -> None:
    """Print sweeps, the newest first.

    Parameters
    ----------
    n_sweeps : int
        Number of sweeps in the store, including those not shown.
    """
    console = PlainConsole()
    if not sweeps:
        console.print("no sweeps yet; start one with python -m harness -m estimator=svc,logistic")
        return
    table = Table()
    for name in ("sweep", "started", "took"):
        table.add_column(name, justify="right" if name == "took" else "left", no_wrap=True)
    table.add_column("runs", overflow="fold")
    table.add_column("command", overflow="fold")
    for sweep in sweeps:
        seconds = None
        if sweep.started is not None and sweep.ended is not None:
            seconds = (sweep.ended - sweep.started).total_seconds()
        counts = [f"{n} {name}" for name, n in sweep.counts.items() if name != "total" and n]
        table.add_row(
            sweep.identifier,
            "-" if sweep.started is None else format_moment(sweep.started),
            format_duration(seconds),
            ", ".join(counts) if sweep.ended is not None else "not ended: running, or killed",
            sweep.command,
        )
    console.print(table)
    if n_sweeps > len(sweeps):
        console.print(
            f"These are the newest {len(sweeps)}; there are {n_sweeps - len(sweeps)} more: --most N"
        )
    console.print("its runs: python -m harness runs --sweep ID; side by side: compare --sweep ID")


def _comparison_cells(
    runs: pd.DataFrame, shown: Sequence[str], scores: Sequence[str], merged: bool
) -> pd.DataFrame:
    cells = _option_cells(runs, shown, merged)
    for score in scores:
        # In two lines where the options share a column: selected / roc auc.
        name = score.replace("_", "\n" if merged else " ", 1).replace("_", " ")
        cells[name] = _score_cells(runs, score)
    return cells


def _runs_cells(runs: pd.DataFrame, shown: Sequence[str], merged: bool, took: bool) -> pd.DataFrame:
    cells = _option_cells(runs, shown, merged)
    cells.insert(0, "started", [format_moment(moment) for moment in runs["started"]])
    cells["test accuracy"] = _score_cells(runs, "test_accuracy")
    if took:
        cells["took"] = [
            format_duration(seconds) + (" so far" if status == "RUNNING" else "")
            for seconds, status in zip(runs["seconds"], runs["status"], strict=True)
        ]
    cells["run"] = runs["run_id"].str[:8].tolist()
    return cells


def _option_cells(runs: pd.DataFrame, shown: Sequence[str], merged: bool) -> pd.DataFrame:
    """Return the options of every run: a column each, or one column that wraps between them."""
    cells = runs[list(shown)].astype(str)
    if not merged:
        return cells
    pairs = [{name: value for name, value in row.items() if value} for row in cells.to_dict("records")]
    return pd.DataFrame({OPTIONS: [" ".join(f"{name}={row[name]}" for name in row) for row in pairs]})


def _score_cells(runs: pd.DataFrame, score: str) -> list[str]:
    return [format_score(run.get(f"{score}_mean"), run.get(f"{score}_std")) for _, run in runs.iterrows()]


def _print_first_that_fits(console: Console, candidates: Sequence[pd.DataFrame]) -> int:
    """Print the first table that fits without breaking a word, else the last one; return its place."""
    fits = [_needed_width(cells) <= console.width for cells in candidates]
    chosen = fits.index(True) if any(fits) else len(fits) - 1
    table = Table()
    for name in map(str, candidates[chosen]):
        right = name.replace("\n", " ").startswith(("test ", "selected ", "took"))
        table.add_column(name, justify="right" if right else "left", no_wrap=name != OPTIONS, overflow="fold")
    for row in candidates[chosen].itertuples(index=False):
        table.add_row(*row)
    console.print(table)
    return chosen


def _needed_width(cells: pd.DataFrame) -> int:
    """Return the width in columns of a table in which only options wrap, between words."""
    width = 1
    for name, column in cells.items():
        parts = "\n".join([str(name), *column])
        width += 3 + max(
            cell_len(part) for part in (parts.split() if name == OPTIONS else parts.splitlines())
        )
    return width


def _print_heading(console: Console, comparison: RunTable) -> bool:
    """Print the sweep whose runs these are; return whether there are any runs."""
    if comparison.sweep is not None:
        console.print(f"sweep {comparison.sweep}")
    if comparison.runs.empty:
        console.print("no such runs")
    return not comparison.runs.empty


def _print_has_more(console: Console, comparison: RunTable) -> None:
    if comparison.has_more:
        n = len(comparison.runs)
        console.print(f"more than {n} runs match; these are the newest. Give a larger --most, or a filter")
