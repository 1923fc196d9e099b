"""What is printed at the end of runs and sweeps, and by the verbs runs, compare and cache."""

import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import pandas as pd
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from harness.errors import HarnessError
from harness.report.console import PlainConsole, format_duration, format_moment, format_score, plus_minus
from harness.report.inference_tables import print_audit, print_corrected_tests, print_inference
from harness.samples.cache import SampleCache
from harness.samples.contrasts import file_word
from harness.tracking.comparison import Comparison, compare_outcomes
from harness.tracking.ledger import Outcome, Sweep
from harness.tracking.sweep_notes import SweepRecord

if TYPE_CHECKING:
    from harness.decoding.decode import Decoding
    from harness.tracking.run_result import RunResult
    from harness.tracking.run_writer import FinishedRun, TrackedRun
    from harness.tracking.store import Store
    from harness.tracking.sweep_correction import CorrectedTests

MAX_FOLDS_SHOWN = 20
OPTIONS = "options"  # the column that all options share on a narrow terminal


def print_run(
    result: "RunResult", name: str, artifacts: str, tracked: "TrackedRun | None", hint: str = ""
) -> None:
    """Print the scores of a run, where its files are, and how to compare it.

    Parameters
    ----------
    name : str
        Name of the run.
    artifacts : str
        Where the files are.
    tracked : TrackedRun or None
        None for a run without tracking.
    hint : str
        The command that adds a permutation test, printed where the run has none.
    """
    console, decoding = PlainConsole(), result.decoding
    console.print(_fold_table(decoding, name))
    console.print(
        "selected: parameters chosen on the fold that is scored, as nilearn's cv_scores_; "
        "test: volumes that took part in no choice. SD: over folds (ddof=1)."
    )
    if len(decoding.samples.contrast.classes) > 2:
        console.print("selected scores are means over classes, each against the rest.")
    for text in decoding.describe_optimism():
        console.print(text)
    console.print(
        f"train_accuracy {decoding.train_accuracy:.3f} (on the volumes fitted: no measure of decoding)"
    )
    print_audit(console, result.findings)
    if result.inference is not None:
        print_inference(console, result.inference)
    elif hint:
        console.print(hint, soft_wrap=True)
    for text in decoding.notices:
        console.print(text, style="yellow")
    console.print(f"files    {artifacts}", soft_wrap=True)
    if tracked is not None:
        _print_store_commands(console, tracked.store)
        console.print(f"this run {tracked.page}", soft_wrap=True)


def print_finished(name: str, run: "FinishedRun", store: "Store") -> None:
    """Print the scores of a run that is skipped because another has its result.

    Parameters
    ----------
    name : str
        Name of the skipped run.
    run : FinishedRun
        The run that has its result.
    """
    console = PlainConsole()
    console.print(
        f"{name} has finished before, with the same data, configuration and code: run {run.run_id} "
        f"({run.name}). resume=false computes it again.",
        soft_wrap=True,
    )
    for score in (key.removesuffix("_mean") for key in sorted(run.scores) if key.endswith("_mean")):
        mean, sd = run.scores[f"{score}_mean"], run.scores.get(f"{score}_std")
        console.print(f"  {score:24} {format_score(mean, sd)}")
    if run.audit:
        console.print(f"audit    {run.audit}; audit.json of that run has why")
    _print_store_commands(console, store)


def print_sweep(
    sweep: Sweep,
    outcomes: Sequence[Outcome],
    store: "Store | None",
    views: Sequence[str],
    rerun: str,
    families: Sequence["CorrectedTests"] = (),
) -> None:
    """Print the results of a sweep, the best first, its warnings, and the runs that failed.

    Parameters
    ----------
    store : Store or None
        Where its runs are, if they are tracked.
    views : sequence of str
        Links to its runs in the MLflow UI of a server.
    rerun : str
        The command that repeats the failed runs only; empty if there is none.
    families : sequence of CorrectedTests
        Tests that were corrected for their number.
    """
    console = PlainConsole()
    results = [outcome for outcome in outcomes if outcome.status in ("finished", "skipped")]
    if results:
        print_comparison(compare_outcomes(results))
    for family in families:
        print_corrected_tests(console, family)
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
    if store is not None:
        _print_store_commands(console, store, f" --sweep {sweep.id}")
    for link in views:
        console.print(f"view     {link}", soft_wrap=True)
    _print_failures(outcomes, rerun)


def print_comparison(comparison: Comparison) -> None:
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


def print_runs(comparison: Comparison, reasons: bool) -> None:
    """Print runs, the newest first; what is the same in all of them is printed above the table.

    Parameters
    ----------
    comparison : Comparison
        With times, see `harness.tracking.comparison.list_runs`.
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


def print_cache(cache: SampleCache) -> None:
    """Print the entries of the cache, the most recently used first."""
    console = PlainConsole()
    entries = cache.entries()
    console.print(
        f"{cache.directory}: {len(entries)} set(s) of samples, {sum(e.n_bytes for e in entries) / 1e6:.1f} MB"
    )
    if not entries:
        return
    table = Table("image", "volumes", "voxels", "MB", "last used", "preprocessing")
    for entry in entries:
        image = entry.images[0] + (f" and {len(entry.images) - 1} more" if len(entry.images) > 1 else "")
        used = datetime.fromtimestamp(entry.last_used).isoformat(sep=" ", timespec="minutes")
        steps = ", ".join(f"{name}={value}" for name, value in entry.preprocessing.items())
        table.add_row(image, *map(str, entry.shape), f"{entry.n_bytes / 1e6:.1f}", used, steps)
    console.print(table)


def print_error(error: BaseException) -> None:
    """Print why a run failed: the message of a user error, the traceback of any other."""
    if isinstance(error, HarnessError):
        print(f"error: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error)


def _print_store_commands(console: Console, store: "Store", which: str = "") -> None:
    console.print(f"compare  python -m harness compare{store.argument}{which}", soft_wrap=True)
    if store.directory is not None:
        console.print(f"browse   python -m harness ui{store.argument}{which}", soft_wrap=True)


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


def _fold_table(decoding: "Decoding", name: str) -> Table:
    folds, summary = decoding.folds, decoding.summarise()
    shown = ["fold", "runs_held_out", "n_test", *decoding.score_columns]
    # The one-vs-rest scores of every class do not fit a terminal; folds.csv has them.
    classes = decoding.samples.contrast.classes
    if len(classes) > 2:
        of_classes = tuple(f"_{file_word(name)}" for name in classes)
        shown = [column for column in shown if not column.endswith(of_classes)]
    else:
        shown += [column for column in folds.columns if column.startswith("best_")]
    table = Table(title=name, title_style="bold", show_footer=False)
    for column in shown:
        table.add_column(column.replace("_", " ").replace("runs held out", "runs out"), justify="right")
    if len(folds) <= MAX_FOLDS_SHOWN:
        for _, row in folds.iterrows():
            table.add_row(*(_format_cell(column, row[column]) for column in shown))
        table.add_section()
    for label, key in (("mean", "mean"), ("SD", "sd")):
        values = summary[key].to_dict()
        cells = [_format_cell(column, values.get(column, "")) for column in shown[1:]]
        table.add_row(label, *cells, style="bold" if key == "mean" else None)
    return table


def _format_cell(column: str, value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if pd.isna(value):
        return "-"
    return f"{value:g}" if column.startswith("best_") else f"{value:.3f}"


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


def _print_heading(console: Console, comparison: Comparison) -> bool:
    """Print the sweep whose runs these are; return whether there are any runs."""
    if comparison.sweep is not None:
        console.print(f"sweep {comparison.sweep}")
    if comparison.runs.empty:
        console.print("no such runs")
    return not comparison.runs.empty


def _print_has_more(console: Console, comparison: Comparison) -> None:
    if comparison.has_more:
        n = len(comparison.runs)
        console.print(f"more than {n} runs match; these are the newest. Give a larger --most, or a filter")
