"""What a person sees on the terminal while a run works and when it ends."""

import sys
import traceback
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from harness.cache import SampleCache
from harness.comparison import Comparison
from harness.contrasts import file_word
from harness.errors import HarnessError
from harness.selection import Sweep

if TYPE_CHECKING:
    from harness.decoding import Decoding
    from harness.tracking import TrackedRun

MAX_FOLDS_SHOWN = 20
WIDTH_OF_FILES = 160  # columns, where the output is no terminal


class ProgressBar:
    """A progress bar on standard error; silent where that is no terminal.

    Parameters
    ----------
    name : str
        What is being run.
    """

    def __init__(self, name: str) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._name = name
        self._task = self._bar.add_task(f"{name}: data", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show how far a stage is."""
        self._bar.update(self._task, description=f"{self._name}: {stage}", completed=done, total=total)


def show_decoding(
    decoding: "Decoding", name: str, artifacts: str, tracked: "TrackedRun | None", brief: bool
) -> None:
    """Print the scores of a run, where its files are, and how to compare it.

    Parameters
    ----------
    decoding : Decoding
    name : str
        Name of the run.
    artifacts : str
        Where the files are.
    tracked : TrackedRun or None
        The run in the store, if it is tracked.
    brief : bool
        One line, for a run that is one of many.
    """
    console = _console()
    summary = decoding.summarise()
    if brief:
        scores = "  ".join(
            f"{score} {_mean_sd(row)}" for score, row in summary.iterrows() if "accuracy" in str(score)
        )
        console.print(f"{name}  {scores}")
    else:
        console.print(_fold_table(decoding, name, summary))
        console.print(
            "selected: parameters chosen on the fold that is scored, as nilearn's cv_scores_; "
            "test: volumes that took part in no choice."
        )
        if len(decoding.samples.contrast.classes) > 2:
            console.print("selected scores are means over classes, each against the rest.")
        console.print(
            f"train_accuracy {decoding.train_accuracy:.3f} (on the volumes fitted: no measure of decoding)"
        )
    if decoding.recording.notice:
        console.print(decoding.recording.notice, style="yellow")
    for text in decoding.warnings:
        console.print(f"warning: {text}", style="yellow")
    if not brief:
        console.print(f"files    {artifacts}", soft_wrap=True)
        if tracked is not None:
            console.print(f"compare  python -m harness compare{tracked.store_argument}", soft_wrap=True)
            if tracked.store.folder is not None:
                console.print(f"pages    python -m harness ui{tracked.store_argument}", soft_wrap=True)
            console.print(f"this run {tracked.link}", soft_wrap=True)


def show_error(error: BaseException) -> None:
    """Print why a run failed: one message for what a user can mend, a traceback for what only we can.

    Parameters
    ----------
    error : BaseException
    """
    if isinstance(error, HarnessError):
        print(f"error: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error)


def show_failures(failures: Mapping[str, BaseException]) -> None:
    """Print which runs of a multirun failed, and why.

    Parameters
    ----------
    failures : mapping of str to BaseException
        By what the run was asked to do.
    """
    print(f"\n{len(failures)} failed:", file=sys.stderr)
    for asked, error in failures.items():
        reason = str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}"
        print(f"  {asked}\n    {reason}", file=sys.stderr)


def _console() -> Console:
    # No markup: a path or a warning may hold square brackets.
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = WIDTH_OF_FILES
    return console


def _fold_table(decoding: "Decoding", name: str, summary: pd.DataFrame) -> Table:
    folds = decoding.folds
    shown = ["fold", "runs_held_out", "n_test", *decoding.score_columns]
    # One-vs-rest scores of every class make a table that no terminal holds; folds.csv has them.
    classes = decoding.samples.contrast.classes
    if len(classes) > 2:
        shown = [
            column
            for column in shown
            if not column.endswith(tuple(f"_{file_word(name)}" for name in classes))
        ]
    else:
        shown += [column for column in folds.columns if column.startswith("best_")]
    table = Table(title=name, title_style="bold", show_footer=False)
    for column in shown:
        table.add_column(column.replace("_", " ").replace("runs held out", "runs out"), justify="right")
    if len(folds) <= MAX_FOLDS_SHOWN:
        for _, row in folds.iterrows():
            table.add_row(*(_cell(column, row[column]) for column in shown))
        table.add_section()
    for label, key in (("mean", "mean"), ("SD", "sd")):
        values = summary[key].to_dict()
        cells = [_cell(column, values.get(column, "")) for column in shown[1:]]
        table.add_row(label, *cells, style="bold" if key == "mean" else None)
    return table


def _cell(column: str, value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if pd.isna(value):
        return "-"
    return f"{value:g}" if column.startswith("best_") else f"{value:.3f}"


def _mean_sd(row: pd.Series) -> str:
    return f"{row['mean']:.3f}" if pd.isna(row["sd"]) else f"{row['mean']:.3f} ± {row['sd']:.3f}"


def show_comparison(comparison: Comparison) -> None:
    """Print runs side by side; a parameter that is the same in all of them is said once, above the table.

    Parameters
    ----------
    comparison : Comparison
    """
    console = _console()
    runs = comparison.runs
    _show_sweep(console, comparison)
    if runs.empty:
        console.print("no runs")
        return
    scores = [column.removesuffix("_mean") for column in runs.columns if column.endswith("_mean")]
    same, varying = comparison.split_params()
    if same and len(runs) > 1:
        console.print("  ".join(f"{name}={value}" for name, value in same.items()))
    varying = varying or ["subject", "estimator", "cv"]
    unfinished = (runs["status"] != "FINISHED").any()
    table = Table()
    for column in [*varying, *(["status"] if unfinished else [])]:
        table.add_column(column)
    for score in scores:
        table.add_column(score.replace("_", " "), justify="right", no_wrap=True)
    for _, run in runs.iterrows():
        cells = [str(run[name]) for name in varying] + ([run["status"]] if unfinished else [])
        table.add_row(*cells, *(_score_cell(run, score) for score in scores))
    console.print(table)
    console.print("mean ± SD over folds. selected: chosen on the fold that is scored; test: not.")
    _show_more(console, comparison)


def show_runs(comparison: Comparison, reasons: bool) -> None:
    """Print runs, the newest first; what is the same in all of them is said once, above the table.

    Parameters
    ----------
    comparison : Comparison
        With times, see `harness.comparison.list_runs`.
    reasons : bool
        Whether to print why runs failed.
    """
    console = _console()
    runs = comparison.runs
    _show_sweep(console, comparison)
    if runs.empty:
        console.print("no such runs")
        return
    same, varying = comparison.split_params()
    if runs["status"].nunique() == 1:
        same = {"status": runs["status"].iloc[0]} | same
    if same:
        console.print("  ".join(f"{name}={value}" for name, value in same.items() if value), soft_wrap=True)
    shown = [*([] if "status" in same else ["status"]), *varying]
    table = Table()
    table.add_column("started", no_wrap=True)
    for column in shown:
        table.add_column(column, overflow="fold")
    table.add_column("test accuracy", justify="right", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column("run", no_wrap=True)
    for _, run in runs.iterrows():
        table.add_row(
            _when(run["started"]),
            *(str(run[name]) for name in shown),
            _score_cell(run, "test_accuracy"),
            _how_long(run["seconds"]) + (" so far" if run["status"] == "RUNNING" else ""),
            run["run_id"][:8],
        )
    console.print(table)
    if reasons:
        for _, run in runs.iterrows():
            asked = " ".join(f"{name}={run[name]}" for name in varying)
            reason = run["error"] or "no reason was stored: its process was ended from outside"
            console.print(f"{run['run_id'][:8]} {asked}".rstrip() + f"\n  {reason}", soft_wrap=True)
    _show_more(console, comparison)


def show_sweeps(sweeps: Sequence[Sweep], n_sweeps: int) -> None:
    """Print sweeps, the newest first.

    Parameters
    ----------
    sweeps : sequence of Sweep
    n_sweeps : int
        How many there are, with those that are not shown.
    """
    console = _console()
    if not sweeps:
        console.print("no sweeps yet; start one with python -m harness -m estimator=svc,logistic")
        return
    table = Table()
    table.add_column("sweep", no_wrap=True)
    table.add_column("started", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column("runs")
    table.add_column("command", overflow="fold")
    for sweep in sweeps:
        seconds = None
        if sweep.started is not None and sweep.ended is not None:
            seconds = (sweep.ended - sweep.started).total_seconds()
        counts = [f"{n} {name}" for name, n in sweep.counts.items() if name != "total" and n]
        table.add_row(
            sweep.identifier,
            "-" if sweep.started is None else _when(sweep.started),
            _how_long(seconds),
            ", ".join(counts) if sweep.ended is not None else "not ended: it runs, or was killed",
            sweep.command,
        )
    console.print(table)
    if n_sweeps > len(sweeps):
        console.print(
            f"These are the newest {len(sweeps)}; there are {n_sweeps - len(sweeps)} more: --most N"
        )
    console.print("its runs: python -m harness runs --sweep ID; side by side: compare --sweep ID")


def _show_sweep(console: Console, comparison: Comparison) -> None:
    if comparison.sweep is not None:
        console.print(f"sweep {comparison.sweep}")


def _show_more(console: Console, comparison: Comparison) -> None:
    if comparison.n_more == 0:
        return
    several = "older runs" if comparison.n_more is None else f"{comparison.n_more} more, older"
    console.print(f"These are the newest {len(comparison.runs)}; there are {several}: --most N")


def _score_cell(run: pd.Series, score: str) -> str:
    mean, sd = run.get(f"{score}_mean"), run.get(f"{score}_std")
    return "" if mean is None or pd.isna(mean) else _mean_sd(pd.Series({"mean": mean, "sd": sd}))


def _when(moment: datetime) -> str:
    """Write a moment so that tables fit a terminal: the year is said where it is another."""
    text = moment.isoformat(sep=" ", timespec="minutes")[:16]
    return text[5:] if moment.year == datetime.now().year else text


def _how_long(seconds: float | None) -> str:
    if seconds is None or pd.isna(seconds):
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def show_cache(cache: SampleCache) -> None:
    """Print what the cache keeps, the most recently used first.

    Parameters
    ----------
    cache : SampleCache
    """
    console = _console()
    entries = cache.entries()
    console.print(
        f"{cache.folder}: {len(entries)} set(s) of samples, {sum(e.n_bytes for e in entries) / 1e6:.1f} MB"
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
