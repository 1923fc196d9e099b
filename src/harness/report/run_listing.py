"""Tables of stored runs and sweeps: the best first, or the newest first."""

from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.table import Table

from harness.inference.corrections import format_p
from harness.report.console import PlainConsole, format_duration, format_moment, format_score, plus_minus
from harness.report.fitted_table import print_first_that_fits
from harness.searchlight.descriptions import name_correction
from harness.tracking.run_tables import RunTable
from harness.tracking.sweep_notes import SweepRecord

P_COLUMNS = ("p", "p_fwe")
MAP_HEADINGS = {
    "max_score": "max score",
    "median_score": "median",
    "n_corrected": "voxels",
    "threshold": "threshold",
    "smallest_p_fwe": "min p fwe",
    "n_spheres": "spheres",
}
THRESHOLDS = {"maximum": "z", "tfce": "TFCE of z", "cluster_size": "voxels of a cluster"}  # units
OPTIONS = "options"  # the column that all options share on a narrow terminal


def print_comparison(comparison: RunTable) -> None:
    """Print runs side by side; a parameter that is the same in all of them is printed above the table.

    Searchlights have a table of their own: the highest of thousands of scores has no order with a single one.
    """
    console = PlainConsole()
    if not _print_heading(console, comparison):
        return
    for part in comparison.split_analyses():
        (_print_maps if part.has_maps else _print_decodings)(console, part)
    _print_has_more(console, comparison)


def _print_maps(console: Console, comparison: RunTable) -> None:
    """Print searchlights side by side."""
    runs = comparison.runs
    shown = _print_same(console, comparison, ["subject", "analysis", "estimator"])
    corrections = [] if "correction" not in runs else sorted(runs["correction"].dropna().unique())
    if len(corrections) > 1:
        shown.append("correction")
        runs = runs.assign(correction=runs["correction"].fillna(""))
    values = [name for name in MAP_HEADINGS if name in runs]
    formatted = pd.DataFrame(
        {MAP_HEADINGS[name]: [_format_map_value(name, value) for value in runs[name]] for name in values}
    )
    known = "run_id" in runs and runs["run_id"].astype(bool).all()
    last = {"run": runs["run_id"].str[:8].tolist()} if known else {}
    candidates = [
        _option_cells(runs, shown, merged).join(formatted).assign(**last) for merged in (False, True)
    ]
    print_first_that_fits(console, candidates, wrapping=OPTIONS)
    words = "searchlights: the score is the mean over folds of test scores in the best sphere"
    if "n_corrected" in runs:
        units = "; ".join(f"{name_correction(name)}: {THRESHOLDS[name]}" for name in corrections)
        words += (
            "; voxels: those with p <= .05 after the correction over voxels (analysis.correction), whose "
            f"statistic is above the threshold; threshold and min p fwe are of that correction ({units})"
        )
    console.print(f"{words}.")


def _format_map_value(name: str, value: float) -> str:
    if pd.isna(value):
        return ""
    if name == "smallest_p_fwe":
        return format_p(value)
    counts = name in ("n_corrected", "n_spheres") or (name == "threshold" and float(value).is_integer())
    return f"{value:.0f}" if counts else f"{value:.3f}"


def _print_same(console: Console, comparison: RunTable, usual: Sequence[str]) -> list[str]:
    """Print what is the same in all runs; return the columns that say in what they differ, else `usual`."""
    runs = comparison.runs
    same, varying = comparison.split_params()
    audits = runs["audit"].unique().tolist() if "audit" in runs else []
    same |= {"audit": audits[0]} if len(audits) == 1 and audits[0] else {}
    if same and len(runs) > 1:
        console.print("  ".join(f"{name}={value}" for name, value in same.items()))
    shown = [*(varying or usual), *(["status"] if (runs["status"] != "FINISHED").any() else [])]
    return shown + (["audit"] if len(audits) > 1 or (audits and audits[0] and len(runs) == 1) else [])


def _print_decodings(console: Console, comparison: RunTable) -> None:
    """Print decodings side by side, the best first."""
    runs = comparison.runs
    scores = [column.removesuffix("_mean") for column in runs.columns if column.endswith("_mean")]
    shown = _print_same(console, comparison, ["subject", "estimator", "cv"])
    runs = _format_p_values(runs)
    shown += [column for column in P_COLUMNS if column in runs]
    # Where the terminal is too narrow, the options share a column; then only test scores are shown.
    test_scores = [score for score in scores if score.startswith("test_")] or scores
    candidates = [
        _comparison_cells(runs, shown, scores, merged=False),
        _comparison_cells(runs, shown, scores, merged=True),
        _comparison_cells(runs, shown, test_scores, merged=True),
    ]
    scales = comparison.ranked_within
    keys = runs[scales].apply(tuple, axis=1).tolist() if scales else []
    breaks = [row for row in range(1, len(keys)) if keys[row] != keys[row - 1]]
    chosen = print_first_that_fits(console, candidates, wrapping=OPTIONS, sections=breaks)
    console.print(
        f"mean {plus_minus()} SD over folds (ddof=1). selected: chosen on the fold that is scored; test: not."
    )
    if scales:
        console.print(
            f"The best first within each {' and '.join(scales)}: scores of different schemes, scorings or "
            "numbers of classes have no common order."
        )
    if "p" in runs:
        corrected = (
            "; p_fwe: corrected over the runs of its sweep (maximum statistic)" if "p_fwe" in runs else ""
        )
        tested = ", ".join(sorted(runs["p_score"].dropna().unique())).replace("_", " ")
        console.print(f"p: one-sided, of {tested} by relabelling blocks, for each run alone{corrected}.")
    if chosen == 2 and test_scores != scores:
        hidden = [score.replace("_", " ") for score in scores if score not in test_scores]
        console.print(f"Not shown on a terminal this narrow: {', '.join(hidden)}; --csv FILE writes them.")


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
    if "audit" in runs and runs["audit"].nunique() == 1:
        same |= {"audit": runs["audit"].iloc[0]}
    if same:
        console.print("  ".join(f"{name}={value}" for name, value in same.items() if value), soft_wrap=True)
    shown = [*([] if "status" in same else ["status"]), *varying]
    if "audit" in runs and runs["audit"].nunique() > 1:
        shown.append("audit")
    # Where the terminal is too narrow, the options share a column; then the duration is left out, too.
    candidates = [
        _runs_cells(runs, shown, merged=False, took=True),
        _runs_cells(runs, shown, merged=True, took=True),
        _runs_cells(runs, shown, merged=True, took=False),
    ]
    print_first_that_fits(console, candidates, wrapping=OPTIONS)
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
    known = "run_id" in runs and runs["run_id"].astype(bool).all()  # runs that are not tracked have none
    return cells.assign(run=runs["run_id"].str[:8].tolist()) if known else cells


def _runs_cells(runs: pd.DataFrame, shown: Sequence[str], merged: bool, took: bool) -> pd.DataFrame:
    cells = _option_cells(runs, shown, merged)
    cells.insert(0, "started", [format_moment(moment) for moment in runs["started"]])
    if "searchlight" not in runs or not runs["searchlight"].all():
        cells["test accuracy"] = _score_cells(runs, "test_accuracy")
    for name in ("max_score", "n_corrected"):
        if name in runs:
            cells[MAP_HEADINGS[name]] = [_format_map_value(name, value) for value in runs[name]]
    if took:
        cells["took"] = [
            format_duration(seconds) + (" so far" if status == "RUNNING" else "")
            for seconds, status in zip(runs["seconds"], runs["status"], strict=True)
        ]
    cells["run"] = runs["run_id"].str[:8].tolist()
    return cells


def _format_p_values(runs: pd.DataFrame) -> pd.DataFrame:
    """Return runs with p-values as text, empty where there is none."""
    written = {
        column: ["" if pd.isna(p) else format_p(p) for p in runs[column]]
        for column in P_COLUMNS
        if column in runs
    }
    return runs.assign(**written)


def _option_cells(runs: pd.DataFrame, shown: Sequence[str], merged: bool) -> pd.DataFrame:
    """Return the options of every run: a column each, or one column that wraps between them."""
    cells = runs[list(shown)].astype(str)
    if not merged:
        return cells
    pairs = [{name: value for name, value in row.items() if value} for row in cells.to_dict("records")]
    return pd.DataFrame({OPTIONS: [" ".join(f"{name}={row[name]}" for name in row) for row in pairs]})


def _score_cells(runs: pd.DataFrame, score: str) -> list[str]:
    return [format_score(run.get(f"{score}_mean"), run.get(f"{score}_std")) for _, run in runs.iterrows()]


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
