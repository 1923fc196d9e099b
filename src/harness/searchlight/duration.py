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
FIRST_LABELLINGS, GROWTH = 9, 4  # labellings that are timed first; their growth from step to step
TIMED_SECONDS = 1.0  # seconds of CPU for the estimate; slow estimators need more for the first two sizes


def estimate_map_test(
    samples: RecordedSamples,
    spheres: Spheres,
    question: Question,
    settings: Searchlight,
    permutation: PermutationSettings,
    processes: int = 1,
) -> tuple[int, float]:
    """Return how many relabellings the test of a map has, and about how many seconds it takes.

    Spheres of the middle size are timed under two numbers of labellings at least, and the difference is
    extrapolated: closed forms share most of their work between labellings, and that part is not repeated.

    Raises
    ------
    HarnessError
        If the design does not allow the test.
    """
    start = time.process_time()  # which other programs do not lengthen
    relabellings = plan_relabellings(samples, permutation)
    n = len(relabellings)

    def time_rows(n_rows: int, numbers: NDArray[np.intp]) -> float:
        labels = np.stack([relabellings.labels(row) for row in range(n_rows)])
        return _time_spheres(samples, question, settings, spheres, labels, numbers)

    n_rows = min(FIRST_LABELLINGS, n)
    some = _choose_spheres(spheres, 1)
    time_rows(n_rows, some)  # the first call of a library is slower
    single = time_rows(n_rows, some)
    # As many spheres as allow two steps if no work is shared: few are enough for slow estimators.
    some = _choose_spheres(spheres, int(TIMED_SECONDS / (GROWTH**2 * max(single, 1e-6))))
    seconds = single if len(some) == 1 else time_rows(n_rows, some)
    slope, is_measured = seconds / n_rows, False
    while n_rows < n:
        more = min(n, GROWTH * n_rows)
        if is_measured and slope > 0:
            left = TIMED_SECONDS - (time.process_time() - start) - seconds
            more = min(more, n_rows + int(left / slope))
            if more < min(n, 2 * n_rows):
                break
        before, seconds = seconds, time_rows(more, some)
        slope = max(0.0, seconds - before) / (more - n_rows)
        n_rows, is_measured = more, True
    seconds += slope * (n - n_rows)
    return n, seconds / len(some) * len(spheres) / processes


def _choose_spheres(spheres: Spheres, number: int) -> NDArray[np.intp]:
    """Return the numbers of spheres of the middle size, of one to `N_SPHERES`."""
    number = min(max(1, number), N_SPHERES, len(spheres))
    middle = (len(spheres) - number) // 2
    return np.sort(np.argsort(spheres.sizes, kind="stable")[middle : middle + number])


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
        start = time.process_time()
        scorer.score(numbers)
        return time.process_time() - start
