"""Progress of a run, and of a sweep, on standard error."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from harness.errors import escape_controls

SECONDS_BETWEEN_LINES = 10.0  # where standard error is not a terminal
MAX_NAME = 30  # columns, so that the stage fits next to it
SECONDS_BETWEEN_UPDATES = 0.5  # where it is


class ProgressBar:
    """A progress bar on standard error; where that is not a terminal, a line every 10 s.

    Parameters
    ----------
    name : str
        Name of the run.
    shown : bool
        False for a run of a sweep, which has a status line instead.
    """

    def __init__(self, name: str, shown: bool = True) -> None:
        console = Console(stderr=True)
        self._name = escape_controls(name)
        self._name = self._name if len(self._name) <= MAX_NAME else f"{self._name[: MAX_NAME - 3]}..."
        self._prints_lines = shown and not console.is_terminal
        self._printed = time.monotonic()
        self._is_drawn = shown and console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not self._is_drawn,
        )
        self._task = self._bar.add_task(f"{self._name}: data", total=None)

    def __enter__(self) -> Self:
        if self._is_drawn:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._is_drawn:  # a disabled bar prints an empty line here before rich 14.3
            self._bar.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of the `total` steps of a stage are finished."""
        if self._prints_lines and time.monotonic() - self._printed >= SECONDS_BETWEEN_LINES:
            self._printed = time.monotonic()
            print(f"{self._name}: {stage}, {done} of {total}", file=sys.stderr, flush=True)
        self._bar.update(self._task, description=f"{self._name}: {stage}", completed=done, total=total)


class SweepProgress:
    """A status line on stderr; when stderr is not a terminal, a new line every 10 s.

    Parameters
    ----------
    count : callable returning a Counter
        Number of jobs by status.
    total : int or None
        Number of jobs; None where the sweeper chooses them one after another.
    """

    def __init__(self, count: Callable[[], Counter[str]], total: int | None) -> None:
        self._count, self._total = count, total
        self._console = Console(stderr=True)
        self._start = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._update, daemon=True)
        self._printed = ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._count():  # otherwise no job was started
            self._print(self.describe(), last=True)

    def describe(self) -> str:
        """Return the status line: jobs done, failed, skipped and remaining, and the time left."""
        counts = self._count()
        failed = counts["failed"] + counts["killed"]
        line = f"{counts['finished']} done, {failed} failed, {counts['skipped']} skipped"
        seconds = time.monotonic() - self._start
        if self._total is not None:
            remaining = self._total - sum(counts.values())
            line += f", {remaining} remaining"
            computed = counts["finished"] + failed
            if remaining and computed:
                line += f", about {_format_clock(seconds / computed * remaining)} left"
        return f"{line} ({_format_clock(seconds)})"

    def _update(self) -> None:
        pause = SECONDS_BETWEEN_UPDATES if self._console.is_terminal else SECONDS_BETWEEN_LINES
        while not self._ended.wait(pause):
            self._print(self.describe(), last=False)

    def _print(self, line: str, last: bool) -> None:
        if self._console.is_terminal:
            # One write that erases the line and replaces it: rich's Live would redirect stdout and stderr.
            self._console.file.write(f"\r\x1b[2K{line[: self._console.width - 1]}" + ("\n" if last else ""))
            self._console.file.flush()
        elif line.partition(" (")[0] != self._printed or last:
            self._printed = line.partition(" (")[0]
            print(line, file=sys.stderr, flush=True)


def _format_clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
