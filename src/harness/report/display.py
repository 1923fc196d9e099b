"""What a person sees on the terminal while a run works and when it ends."""

import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from harness.errors import HarnessError, escape_controls
from harness.samples.cache import SampleCache
from harness.samples.contrasts import file_word
from harness.tracking.comparison import Comparison, compare_outcomes
from harness.tracking.ledger import Outcome, Sweep
from harness.tracking.sweep_notes import SweepRecord

if TYPE_CHECKING:
    from harness.decoding.decode import Decoding
    from harness.tracking.run_writer import FinishedRun, TrackedRun
    from harness.tracking.store import Store

MAX_FOLDS_SHOWN = 20
WIDTH_OF_FILES = 160  # columns, where the output is no terminal
SECONDS_BETWEEN_LINES = 10.0  # likewise


class ProgressBar:
    """A progress bar on standard error; silent where that is no terminal.

    Parameters
    ----------
    name : str
        What is being run.
    shown : bool
        False for a run that is one of many.
    """

    def __init__(self, name: str, shown: bool = True) -> None:
        console = Console(stderr=True)
        name = escape_controls(name)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not (shown and console.is_terminal),
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


class SweepProgress:
    """One line on standard error that says how far a sweep is; in a file, now and then one more.

    Parameters
    ----------
    count : callable returning a Counter
        How many jobs have which status.
    total : int or None
        How many jobs there are; None where nobody knows beforehand.
    """

    def __init__(self, count: Callable[[], Counter[str]], total: int | None) -> None:
        self._count, self._total = count, total
        self._console = _PlainConsole(stderr=True)
        self._begin = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._said = ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._count():  # else it did not come to any job
            self._say(self.describe(), last=True)

    def describe(self) -> str:
        """Return the line: done, failed, skipped, remaining, time left."""
        counts = self._count()
        failed = counts["failed"] + counts["killed"]
        line = f"{counts['finished']} done, {failed} failed, {counts['skipped']} skipped"
        seconds = time.monotonic() - self._begin
        if self._total is not None:
            remaining = self._total - sum(counts.values())
            line += f", {remaining} remaining"
            computed = counts["finished"] + failed
            if remaining and computed:
                line += f", about {_clock(seconds / computed * remaining)} left"
        return f"{line} ({_clock(seconds)})"

    def _watch(self) -> None:
        terminal = self._console.is_terminal
        while not self._ended.wait(0.5 if terminal else SECONDS_BETWEEN_LINES):
            self._say(self.describe(), last=False)

    def _say(self, line: str, last: bool) -> None:
        if self._console.is_terminal:
            # The line is written over; what is left of a longer one goes.
            self._console.file.write(f"\r\x1b[2K{line[: self._console.width - 1]}" + ("\n" if last else ""))
            self._console.file.flush()
        elif line.partition(" (")[0] != self._said or last:
            self._said = line.partition(" (")[0]
            print(line, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def show_decoding(decoding: "Decoding", name: str, artifacts: str, tracked: "TrackedRun | None") -> None:
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
    """
    console = _console()
    console.print(_fold_table(decoding, name, decoding.summarise()))
    console.print(
        "selected: parameters chosen on the fold that is scored, as nilearn's cv_scores_; "
        "test: volumes that took part in no choice."
    )
    if len(decoding.samples.contrast.classes) > 2:
        console.print("selected scores are means over classes, each against the rest.")
    console.print(
        f"train_accuracy {decoding.train_accuracy:.3f} (on the volumes fitted: no measure of decoding)"
    )
    for text in decoding.notices:
        console.print(text, style="yellow")
    console.print(f"files    {artifacts}", soft_wrap=True)
    if tracked is not None:
        _show_store(console, tracked.store)
        console.print(f"this run {tracked.page}", soft_wrap=True)


def _show_store(console: Console, store: "Store", which: str = "") -> None:
    console.print(f"compare  python -m harness compare{store.argument}{which}", soft_wrap=True)
    if store.directory is not None:
        console.print(f"pages    python -m harness ui{store.argument}{which}", soft_wrap=True)


def show_finished(name: str, run: "FinishedRun", store: "Store") -> None:
    """Print the scores of a run that need not be computed again.

    Parameters
    ----------
    name : str
        Name of the run that was asked for.
    run : FinishedRun
        The one that has its result.
    store : Store
    """
    console = _console()
    console.print(
        f"{name} has finished before, with the same data, question and code: run {run.run_id} ({run.name}). "
        "resume=false computes it again.",
        soft_wrap=True,
    )
    for score in (key.removesuffix("_mean") for key in sorted(run.scores) if key.endswith("_mean")):
        sd = run.scores.get(f"{score}_std", float("nan"))
        row = pd.Series({"mean": run.scores[f"{score}_mean"], "sd": sd})
        console.print(f"  {score:24} {_mean_sd(row)}")
    _show_store(console, store)


def show_sweep(
    sweep: Sweep, outcomes: Sequence[Outcome], store: "Store | None", views: Sequence[str], again: str
) -> None:
    """Print what a sweep came to: the results, the best first, what there is to know of them, what failed.

    Parameters
    ----------
    sweep : Sweep
    outcomes : sequence of Outcome
    store : Store or None
        Where its runs are, if they are tracked.
    views : sequence of str
        Links to its runs in the pages of a server.
    again : str
        The command that runs again what failed, and only that; empty if there is none.
    """
    console = _console()
    results = [outcome for outcome in outcomes if outcome.status in ("finished", "skipped")]
    if results:
        show_comparison(compare_outcomes(results))
    skipped = sum(outcome.status == "skipped" for outcome in outcomes)
    if skipped:
        console.print(
            f"{skipped} skipped: runs with the same data, question and code had finished before; "
            "resume=false computes, and draws, them again."
        )
    for notice, times in Counter(notice for outcome in results for notice in outcome.notices).items():
        every = "" if times == len(results) else f" [{times} of {len(results)} runs]"
        console.print(f"{notice}{every}", style="yellow")
    console.print(f"sweep    {sweep.id}")
    if store is not None:
        _show_store(console, store, f" --sweep {sweep.id}")
    for link in views:
        console.print(f"view     {link}", soft_wrap=True)
    failed = [outcome for outcome in outcomes if outcome.status in ("failed", "killed")]
    if not failed:
        return
    errors = _PlainConsole(stderr=True)
    if not errors.is_terminal:
        errors.width = WIDTH_OF_FILES
    table = Table(title=f"{len(failed)} failed or killed", title_justify="left")
    table.add_column("run")
    table.add_column("status")
    table.add_column("why", overflow="fold")
    # What all runs of the sweep were asked alike tells none of them from another.
    alike = (
        set.intersection(*(set(outcome.overrides) for outcome in outcomes)) if len(outcomes) > 1 else set()
    )
    for outcome in failed:
        asked = " ".join(word for word in outcome.overrides if word not in alike)
        table.add_row(asked or f"job {outcome.job}", outcome.status, outcome.error)
    errors.print(table)
    for text, times in Counter(outcome.traceback for outcome in failed if outcome.traceback).items():
        errors.print(f"{times} of them with this traceback:\n{text}")
    if again:
        errors.print(f"these again, and only these:\n{again}", soft_wrap=True)


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


class _PlainConsole(Console):
    """A console that shows text as it is: a path or a condition may hold brackets, ``:cat:``, or controls."""

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return what is printed of a text; rich calls this for everything that is a string."""
        return super().render_str(escape_controls(text), **options)


def _console() -> Console:
    console = _PlainConsole()
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
    return (
        f"{row['mean']:.3f}" if pd.isna(row["sd"]) else f"{row['mean']:.3f} {_plus_minus()} {row['sd']:.3f}"
    )


def _plus_minus() -> str:
    """Return the sign between a mean and its SD in letters that standard output has."""
    try:
        "±".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return "+/-"
    return "±"


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
        console.print("no such runs")
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
    console.print(
        f"mean {_plus_minus()} SD over folds. selected: chosen on the fold that is scored; test: not."
    )
    _show_more(console, comparison)


def show_runs(comparison: Comparison, reasons: bool) -> None:
    """Print runs, the newest first; what is the same in all of them is said once, above the table.

    Parameters
    ----------
    comparison : Comparison
        With times, see `harness.tracking.comparison.list_runs`.
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


def show_sweeps(sweeps: Sequence[SweepRecord], n_sweeps: int) -> None:
    """Print sweeps, the newest first.

    Parameters
    ----------
    sweeps : sequence of SweepRecord
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
    if comparison.has_more:
        n = len(comparison.runs)
        console.print(f"more than {n} runs match; these are the newest. Give a larger --most, or a filter")


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
