"""Tests of mean maps over subjects, against brute force over all combinations of relabellings."""

from itertools import product

import numpy as np
import pytest
from scipy import ndimage, stats

from harness.errors import DesignError
from harness.inference import mean_map
from harness.inference.group_tests import permutation_of_means
from harness.inference.mean_map import permutation_of_mean_maps, standardise_maps


@pytest.fixture
def subjects(rng):
    """Standardised maps of three subjects, 4, 5 and 6 of them, of 7 voxels."""
    return [standardise_maps(rng.normal(size=(size, 7))) for size in (4, 5, 6)]


def enumerate_sums(subjects):
    """Return the sums of all combinations, the true one first, (n_combinations, n_voxels)."""
    rows = product(*[table.astype(np.float64) for table in subjects])
    return np.array([np.sum(chosen, axis=0) for chosen in rows])


def test_maps_are_standardised_by_their_own_null_distribution(rng):
    maps = rng.normal(0.5, 0.1, size=(20, 5)).astype(np.float32)
    maps[:, 2] = 0.5
    z = standardise_maps(maps)
    varying = [0, 1, 3, 4]
    expected = stats.zscore(maps[:, varying].astype(np.float64), axis=0)
    np.testing.assert_allclose(z[:, varying], expected, atol=1e-6)
    assert not z[:, 2].any()


def test_enumerated_test_equals_brute_force(subjects):
    found = permutation_of_mean_maps(subjects)
    sums = enumerate_sums(subjects)
    assert (found.is_exact, found.n_draws, found.n) == (True, 4 * 5 * 6 - 1, 3)
    np.testing.assert_allclose(found.z, sums[0] / np.sqrt(3), atol=1e-6)
    np.testing.assert_allclose(found.p, (sums >= sums[0] - 1e-6).mean(axis=0), atol=1e-12)
    maxima = sums.max(axis=1)
    np.testing.assert_allclose(
        found.p_fwe, [(maxima >= value - 1e-6).mean() for value in sums[0]], atol=1e-12
    )
    assert ((found.p_fwe <= 0.05) == (found.z > found.threshold)).all()


def test_statistic_has_mean_0_and_variance_1_over_combinations(subjects):
    sums = enumerate_sums(subjects) / np.sqrt(3)
    np.testing.assert_allclose(sums.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(sums.var(axis=0), 1, atol=1e-5)


def test_one_voxel_is_tested_like_the_scores_of_runs(rng):
    subjects = [standardise_maps(rng.normal(size=(8, 1))) for _ in range(4)]
    expected = permutation_of_means([table[:, 0] for table in subjects])
    found = permutation_of_mean_maps(subjects)
    assert found.p[0] == pytest.approx(expected.p, abs=1e-12)
    assert found.p_fwe[0] == found.p[0]


def test_drawn_combinations_approximate_all(subjects):
    exact, drawn = permutation_of_mean_maps(subjects), permutation_of_mean_maps(subjects, n_draws=100)
    assert not drawn.is_exact
    assert drawn.n_draws == 100
    # The SD of a share of 100 draws is at most .05.
    np.testing.assert_allclose(drawn.p, exact.p, atol=0.2)
    assert (drawn.p * 101 >= 1 - 1e-9).all()
    again = permutation_of_mean_maps(subjects, n_draws=100)
    np.testing.assert_array_equal(again.p_fwe, drawn.p_fwe)


def test_results_do_not_depend_on_how_many_are_computed_together(subjects, monkeypatch):
    together = permutation_of_mean_maps(subjects)
    monkeypatch.setattr(mean_map, "CHUNK_NUMBERS", 7 * 11)
    found = permutation_of_mean_maps(subjects)
    for name in ("p", "p_fwe"):
        np.testing.assert_array_equal(getattr(found, name), getattr(together, name))


def test_voxel_without_variance_is_not_significant(rng):
    maps = rng.normal(size=(10, 4))
    maps[:, 1] = 0.75
    found = permutation_of_mean_maps([standardise_maps(maps)] * 2)
    assert (found.p[1], found.p_fwe[1], found.z[1]) == (1.0, 1.0, 0.0)


def test_values_that_differ_by_the_rounding_of_stored_maps_tie():
    maps = np.array([[0.9], [0.5], [0.4], [0.3]], dtype=np.float32)
    equal = np.vstack([maps, maps[:1]])
    almost = equal.copy()
    almost[-1] = np.nextafter(almost[-1], np.float32(0))
    assert permutation_of_mean_maps([standardise_maps(equal)]).p[0] == 0.4
    assert permutation_of_mean_maps([standardise_maps(almost)]).p[0] == 0.4


def test_cluster_sizes_equal_brute_force(rng):
    mask = rng.random((4, 4, 4)) < 0.8
    subjects = [standardise_maps(rng.normal(size=(6, mask.sum()))) for _ in range(2)]
    found = permutation_of_mean_maps(subjects, mask=mask, cluster_z=0.7).clusters
    largest = []
    for values in enumerate_sums(subjects) / np.sqrt(2):
        volume = np.zeros(mask.shape, dtype=bool)
        volume[mask] = values > 0.7
        numbers, _ = ndimage.label(volume)
        sizes = np.array([(numbers == number).sum() for number in range(1, numbers.max() + 1)])
        if not largest:
            observed = np.array([0, *sizes])[numbers[mask]]
        largest.append(sizes.max(initial=0))
    np.testing.assert_array_equal(found.sizes, observed)
    expected = [(np.array(largest) >= size).mean() if size else 1.0 for size in observed]
    np.testing.assert_allclose(found.p, expected, atol=1e-12)


def test_a_test_without_subjects_is_refused():
    with pytest.raises(DesignError, match="no subjects"):
        permutation_of_mean_maps([])
