"""TFCE, against reference values, a flood at every height, and Riemann sums."""

import numpy as np
import pytest
from scipy.ndimage import label

from harness.inference.tfce import compute_tfce, find_neighbours


@pytest.fixture(scope="module")
def golden(statistics):
    entry = statistics["tfce"]
    volume = np.array(entry["volume"])
    return volume, {name: np.array(values) for name, values in entry["expected"].items()}


def enhance(volume, mask=None):
    mask = np.ones(volume.shape, dtype=bool) if mask is None else mask
    enhanced = np.zeros(volume.shape)
    enhanced[mask] = compute_tfce(volume[mask], find_neighbours(mask))
    return enhanced


def sum_over_heights(volume, heights, weights, above):
    """Return the sum over heights of e(h)^.5 times a weight, with clusters found by scipy."""
    total = np.zeros(volume.shape)
    for height, weight in zip(heights, weights, strict=True):
        numbers, _ = label(above(volume, height))
        sizes = np.bincount(numbers.ravel()).astype(float)
        sizes[0] = 0
        total += np.sqrt(sizes)[numbers] * weight
    return total


def integrate(volume, mask):
    """Return the integral: between two neighbouring values of the map, clusters do not change."""
    heights = np.unique(np.append(volume[mask & (volume > 0)], 0.0))
    inside = np.where(mask, volume, -1.0)
    return sum_over_heights(inside, heights[1:], np.diff(heights**3) / 3, np.greater_equal)


def test_the_exact_integral_of_the_reference_is_reproduced(golden):
    volume, expected = golden
    np.testing.assert_allclose(enhance(volume), expected["exact"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("decimals", [1, 12])
def test_every_mask_and_ties_agree_with_a_flood_at_every_height(rng, decimals):
    for _ in range(40):
        shape = rng.integers(1, 6, 3)
        mask = rng.random(shape) < rng.uniform(0.4, 1)
        if not mask.any():
            continue
        volume = rng.standard_normal(shape).round(decimals)
        expected = np.where(mask, integrate(volume, mask), 0)
        np.testing.assert_allclose(enhance(volume, mask), expected, rtol=1e-12, atol=1e-14)


def test_other_programs_add_up_steps_instead_of_integrating(golden):
    """MNE multiplies by its fixed step, nilearn takes 100 steps to the maximum of each map and does not."""
    volume, expected = golden
    exact = enhance(volume)

    def riemann(step):
        heights = np.arange(1, int(np.ceil(volume.max() / step))) * step
        return sum_over_heights(volume, heights, step * heights**2, np.greater)

    np.testing.assert_allclose(riemann(0.05), expected["mne"], rtol=0, atol=1e-9)
    differences = [np.abs(riemann(step) - exact).max() for step in (0.05, 0.005, 0.0005)]
    assert differences[0] > 2 * differences[1] > 4 * differences[2]

    heights = np.linspace(0, volume.max(), 101)[1:]
    counted = sum_over_heights(volume, heights, heights**2, np.greater_equal)
    np.testing.assert_allclose(counted, expected["nilearn_auto"], rtol=1e-9)
    # With the step of this map, nilearn's sum is near the integral: its unit depends on the maximum.
    np.testing.assert_allclose(counted.max() * volume.max() / 100, exact.max(), rtol=0.03)


def test_one_voxel_has_the_closed_form():
    volume = np.zeros((3, 3, 3))
    volume[1, 1, 1] = 2.0
    assert enhance(volume)[1, 1, 1] == pytest.approx(8 / 3)
    assert enhance(volume).sum() == enhance(volume)[1, 1, 1]


def test_a_plateau_counts_all_its_voxels():
    volume = np.full((2, 3, 1), 1.5)
    np.testing.assert_allclose(enhance(volume), np.sqrt(6) * 1.5**3 / 3)


def test_voxels_that_share_an_edge_only_are_apart():
    volume = np.zeros((2, 2, 1))
    volume[0, 0, 0] = volume[1, 1, 0] = 1.0
    np.testing.assert_allclose(enhance(volume)[volume > 0], 1 / 3)


def test_maps_without_positive_values_have_none():
    assert not enhance(np.full((2, 2, 2), -1.0)).any()


@pytest.mark.parametrize(
    "values", [np.ones(7), np.array([1.0] * 7 + [np.nan]), np.array([1.0] * 7 + [np.inf])]
)
def test_maps_that_cannot_be_integrated_are_refused(values):
    with pytest.raises(ValueError, match=r"8 voxels|finite"):
        compute_tfce(values, find_neighbours(np.ones((2, 2, 2), dtype=bool)))
