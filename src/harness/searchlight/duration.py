"""How long the test of a map takes, from the time of a few of its spheres."""

import time
import warnings

import numpy as np
from numpy.typing import NDArray

from harness.decoding.question import Question
from harness.inference.relabelling import plan_relabellings
from harness.inference.settings import PermutationSettings
from harness.samples.samples import RecordedSamples
from harness.searchlight.scorers import make_scorer
from harness.searchlight.settings import Searchlight
from harness.searchlight.spheres import Spheres
from harness.solvers.threads import one_blas_thread

N_SPHERES = 8
FIRST_LABELLINGS = 9  # labellings that are timed first
TIMED_SECONDS = 0.25  # seconds; longer times are extrapolated


def estimate_map_test(
    samples: RecordedSamples,
    spheres: Spheres,
    question: Question,
    settings: Searchlight,
    permutation: PermutationSettings,
    processes: int = 1,
) -> tuple[int, float]:
    """Return how many relabellings the test of a map has, and about how many seconds it takes.

    Spheres of the middle size are timed under more and more labellings, because closed forms share most of
    their work between labellings.

    Raises
    ------
    HarnessError
        If the design does not allow the test.
    """
    relabellings = plan_relabellings(samples, permutation)
    n = len(relabellings)
    numbers = np.argsort(spheres.sizes, kind="stable")
    middle = max(0, len(numbers) // 2 - N_SPHERES // 2)
    some = np.sort(numbers[middle : middle + N_SPHERES])

    def time_rows(n_rows: int) -> float:
        labels = np.stack([relabellings.labels(row) for row in range(n_rows)])
        return _time_spheres(samples, question, settings, spheres, labels, some)

    n_rows, seconds = min(FIRST_LABELLINGS, n), time_rows(min(FIRST_LABELLINGS, n))
    slope = seconds / n_rows
    while seconds < TIMED_SECONDS and n_rows < n:
        before, n_rows = (n_rows, seconds), min(n, 4 * n_rows)
        seconds = time_rows(n_rows)
        slope = max(0.0, seconds - before[1]) / (n_rows - before[0])
    seconds += slope * (n - n_rows)
    return n, seconds / len(some) * len(spheres) / processes


def _time_spheres(
    samples: RecordedSamples,
    question: Question,
    settings: Searchlight,
    spheres: Spheres,
    labels: NDArray[np.str_],
    numbers: NDArray[np.intp],
) -> float:
    with warnings.catch_warnings(), one_blas_thread():
        warnings.simplefilter("ignore")  # the map itself warns
        scorer = make_scorer(samples, question, settings, spheres, labels)
        scorer.score(numbers[:1])  # the first call of a library is slower
        start = time.process_time()  # which other programs do not lengthen
        scorer.score(numbers)
        return time.process_time() - start
