"""Signal quality, against scipy and the percentiles of FSL FEAT."""

import numpy as np
import pytest
from scipy.stats import median_abs_deviation

from harness.checks.signal_quality import estimate_brain_mask, find_outliers
from harness.errors import DataError


def test_outliers_are_iglewicz_and_hoaglins(rng):
    values, runs = rng.normal(size=80), np.repeat([0, 1], 40)
    values[[3, 50]], values[60], values[0] = 9, -9, np.nan
    expected = np.zeros(80, dtype=bool)
    for run in (0, 1):
        rows = np.flatnonzero((runs == run) & np.isfinite(values))
        mad = median_abs_deviation(values[rows], scale="normal")  # MAD / 0.6745
        expected[rows] = np.abs(values[rows] - np.median(values[rows])) / mad > 3.5
    assert {3, 50, 60} <= set(np.flatnonzero(expected))
    np.testing.assert_array_equal(find_outliers(values, runs, sides="both"), expected)
    np.testing.assert_array_equal(find_outliers(values, runs, sides="high"), expected & (values > 0))
    assert not find_outliers(np.ones(80), runs, sides="both").any()


def test_brain_mask_is_estimated_as_in_feat(rng):
    volume = np.r_[np.zeros(100), rng.uniform(0, 40, 300), rng.uniform(500, 1000, 600)].reshape(10, 10, 10)
    np.testing.assert_array_equal(estimate_brain_mask(volume).ravel()[100:], volume.ravel()[100:] > 100)
    assert not estimate_brain_mask(volume).ravel()[:100].any()
    assert estimate_brain_mask(np.full((2, 2, 2), 7)).all()
    with pytest.raises(DataError, match="cannot be inspected"):
        estimate_brain_mask(np.zeros((2, 2, 2)))
