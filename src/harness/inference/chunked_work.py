"""Long computations in chunks: shared by processes, stored as they are computed, with the time left."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass

from joblib import Parallel, cpu_count, delayed, parallel_config

from harness.decoding.evaluation import Progress
from harness.errors import HarnessError
from harness.inference.checkpoint import Arrays, Checkpoint

Compute = Callable[[Sequence[int]], Arrays]
"""Returns the arrays of some rows. It is pickled for every chunk; large arrays in it are memory-mapped."""


@dataclass(frozen=True)
class Chunk:
    """The arrays of some rows, and whether they were computed now or read from a checkpoint."""

    rows: Sequence[int]
    arrays: Arrays
    is_new: bool


def compute_chunks(
    compute: Compute,
    chunks: Sequence[Sequence[int]],
    store: Checkpoint,
    processes: int,
    option: str = "inference.processes",
) -> Iterator[Chunk]:
    """Yield the arrays of all chunks in order; those that are not stored yet are computed, and then stored.

    Parameters
    ----------
    processes : int
        Processes that share the chunks. Each has one BLAS thread, and reads large arrays from memory maps
        that all share.
    option : str
        Which option sets `processes`, for messages.

    Raises
    ------
    HarnessError
        If a worker process was killed.
    """
    processes = min(processes, len(chunks))
    with _open_pool(processes, store, option) as run:
        # In rounds, not as a generator of results: that one cannot be closed before its end.
        for start in range(0, len(chunks), processes):
            numbers = range(start, min(start + processes, len(chunks)))
            found = {number: store.load(number, chunks[number]) for number in numbers}
            new = iter(run(compute, [chunks[number] for number in numbers if found[number] is None]))
            for number in numbers:
                arrays = found[number]
                is_new = arrays is None
                if arrays is None:
                    arrays = next(new)
                    store.save(number, chunks[number], arrays)
                yield Chunk(chunks[number], arrays, is_new)


@contextmanager
def _open_pool(
    processes: int, store: Checkpoint, option: str
) -> Iterator[Callable[[Compute, Sequence[Sequence[int]]], Sequence[Arrays]]]:
    """Yield a function that computes some chunks at once."""
    if processes <= 1:
        yield lambda compute, chunks: [compute(rows) for rows in chunks]
        return
    try:
        with (
            parallel_config(backend="loky", n_jobs=processes, inner_max_num_threads=1),
            Parallel() as pool,
        ):
            yield lambda compute, chunks: list(pool(delayed(compute)(rows) for rows in chunks))
    except BrokenProcessPool as error:
        raise HarnessError(
            f"a worker process of the {store.title} was killed, often because memory ran out. Run the same "
            f"command again, which resumes after the {store.parts} that were stored; "
            f"{option}=1 needs less memory"
        ) from error


class ProgressClock:
    """Reports progress, with an estimate of the time left from what was computed now.

    Parameters
    ----------
    stage : str
        What is computed.
    total : int
        Number of rows in all.
    """

    def __init__(self, progress: Progress | None, stage: str, total: int) -> None:
        self.progress, self.stage, self.total = progress, stage, total
        self.done = self.computed = 0
        self.start = time.perf_counter()
        if progress is not None:
            progress(stage, 0, total)

    def report(self, n_rows: int, is_new: bool) -> None:
        """Count some rows as done."""
        self.done += n_rows
        self.computed += n_rows * is_new
        if self.progress is None:
            return
        stage = self.stage
        if self.computed:
            left = (time.perf_counter() - self.start) / self.computed * (self.total - self.done)
            stage = f"{stage}, about {format_duration(left)} left"
        self.progress(stage, self.done, self.total)


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return int(cpu_count())


def format_duration(seconds: float) -> str:
    """Return a duration in words, coarse: ``30 s``, ``4 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
