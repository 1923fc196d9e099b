"""The time that the test of a map takes is extrapolated from two numbers of labellings, not from one."""

import numpy as np
import pytest

from harness.inference.settings import PermutationSettings
from harness.searchlight import duration
from harness.searchlight.duration import estimate_map_test
from harness.searchlight.settings import Searchlight
from harness.searchlight.spheres import find_spheres
from small_brains import ask, make_brain

RANDOM = PermutationSettings(n=199, limit=1)
SETTINGS = Searchlight(radius=3.0, min_voxels=2)


@pytest.fixture
def estimate(monkeypatch):
    """Return a function that estimates the time of a scorer with given costs; it lists what was timed."""
    brain = make_brain()
    grid = brain.grid
    spheres = find_spheres(grid.mask, grid.affine, grid.mask, SETTINGS.radius, SETTINGS.min_voxels)

    def estimate(fixed, each, permutation=RANDOM, **options):
        timed = []

        def time_spheres(samples, question, settings, spheres, labels, numbers):
            assert len(np.unique(numbers)) == len(numbers)
            timed.append((len(labels), len(numbers)))
            return len(numbers) * (fixed + each * len(labels))

        monkeypatch.setattr(duration, "_time_spheres", time_spheres)
        n, seconds = estimate_map_test(brain, spheres, ask(), SETTINGS, permutation, **options)
        return n, seconds, timed

    return estimate


@pytest.mark.parametrize(("fixed", "each"), [(2.0, 0.001), (0.001, 0.5), (0.01, 0.00001), (0.0, 0.1)])
def test_work_that_labellings_share_is_counted_once(estimate, fixed, each):
    n, seconds, timed = estimate(fixed, each)
    assert n == 200
    assert seconds == pytest.approx(36 * (fixed + 200 * each))
    assert len({rows for rows, _ in timed}) > 1


def test_slow_estimators_are_timed_on_fewer_spheres_and_labellings(estimate):
    assert max(estimate(0.5, 0.1)[2]) == (36, 1)
    assert max(estimate(0.0001, 0.00001)[2]) == (200, 8)


def test_processes_share_the_time_and_few_labellings_are_all_timed(estimate):
    n, seconds, timed = estimate(0.3, 0.02, PermutationSettings(), processes=3)
    assert n == 32
    assert seconds == pytest.approx(12 * (0.3 + 32 * 0.02))
    assert max(timed)[0] == 32


def test_real_spheres_are_timed():
    brain = make_brain()
    grid = brain.grid
    spheres = find_spheres(grid.mask, grid.affine, grid.mask, SETTINGS.radius, SETTINGS.min_voxels)
    n, seconds = estimate_map_test(brain, spheres, ask(), SETTINGS, PermutationSettings())
    assert n == 32
    assert seconds > 0
