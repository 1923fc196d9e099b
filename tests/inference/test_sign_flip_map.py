"""Maps tested by changes of sign, against scipy and brute force over all patterns."""

from functools import partial
from itertools import product

import numpy as np
import pytest
from scipy import stats

from harness.errors import DesignError
from harness.inference import sign_flip_map as module
from harness.inference.sign_flip_map import refuse_few, sign_flip_map
from harness.inference.tfce import compute_tfce, find_neighbours


def keep_positive(values):
    """A stand-in for TFCE, with which both corrections are the same for positive maxima."""
    return np.maximum(values, 0)


def test_one_voxel_equals_scipy(rng):
    d = rng.normal(0.3, 1.0, size=(8, 1))
    expected = stats.permutation_test(
        (d[:, 0],),
        lambda x, axis: x.mean(axis=axis),
        permutation_type="samples",
        alternative="greater",
        n_resamples=2**8,
        vectorized=True,
    )
    found = sign_flip_map(d, keep_positive, min_subjects=2)
    assert (found.is_exact, found.n_patterns) == (True, 256)
    assert found.p[0] == pytest.approx(expected.pvalue, abs=1e-12)
    assert found.p_fwe[0] == found.p[0]


def test_statistic_increases_with_students_t(rng):
    d = rng.normal(0.2, 1.0, size=(9, 30))
    t = stats.ttest_1samp(d, 0.0).statistic
    z = sign_flip_map(d, keep_positive, min_subjects=2).z
    np.testing.assert_array_equal(np.argsort(z), np.argsort(t))
    r = z / 3
    np.testing.assert_allclose(r * np.sqrt(8) / np.sqrt(1 - r**2), t, rtol=1e-9)


def test_corrections_equal_brute_force(rng):
    mask = np.ones((2, 3, 2), dtype=bool)
    d = rng.normal(0.4, 1.0, size=(6, 12))
    enhance = partial(compute_tfce, neighbours=find_neighbours(mask))
    found = sign_flip_map(d, enhance, min_subjects=2)
    maps = []
    for signs in product((1, -1), repeat=6):
        flipped = d * np.array(signs)[:, np.newaxis]
        maps.append(flipped.mean(axis=0) / np.sqrt((flipped**2).mean(axis=0)) * np.sqrt(6))
    maxima = np.array([values.max() for values in maps])
    largest = np.array([enhance(values).max() for values in maps])
    np.testing.assert_allclose(found.z, maps[0], atol=1e-12)
    np.testing.assert_allclose(found.p, (np.array(maps) >= maps[0] - 1e-9).mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(found.p_fwe, [(maxima >= z - 1e-9).mean() for z in maps[0]], atol=1e-12)
    expected = [(largest >= value - 1e-9).mean() if value > 0 else 1.0 for value in enhance(maps[0])]
    np.testing.assert_allclose(found.p_tfce, expected, atol=1e-12)
    assert ((found.p_tfce <= 0.05) == (found.tfce > found.threshold_tfce)).all()


def test_more_subjects_than_can_be_enumerated_have_drawn_patterns(rng):
    d = rng.normal(0.4, 1.0, size=(13, 5))
    found = sign_flip_map(d, keep_positive, n_draws=400, seed=3)
    assert (found.is_exact, found.n_patterns) == (False, 401)
    expected = [
        stats.permutation_test(
            (column,), np.mean, permutation_type="samples", alternative="greater", n_resamples=2**13
        ).pvalue
        for column in d.T
    ]
    # The SD of a share of 400 draws is at most .025.
    np.testing.assert_allclose(found.p, expected, atol=0.1)
    assert found.p.min() >= 1 / 401 - 1e-12


def test_results_do_not_depend_on_how_many_are_computed_together(rng, monkeypatch):
    d = rng.normal(size=(7, 10))
    together = sign_flip_map(d, keep_positive, min_subjects=2)
    monkeypatch.setattr(module, "CHUNK_NUMBERS", 30)
    found = sign_flip_map(d, keep_positive, min_subjects=2)
    for name in ("p", "p_fwe", "p_tfce"):
        np.testing.assert_array_equal(getattr(found, name), getattr(together, name))


def test_subjects_that_agree_are_finite_and_zeros_are_not_significant():
    d = np.column_stack([np.full(12, 0.1), np.zeros(12), np.linspace(-0.1, 0.2, 12)])
    found = sign_flip_map(d, keep_positive)
    assert found.p[0] == found.p_fwe[0] == 1 / 4096
    assert (found.p[1], found.p_fwe[1], found.p_tfce[1], found.z[1]) == (1.0, 1.0, 1.0, 0.0)


@pytest.mark.parametrize(("n", "patterns"), [(2, 4), (6, 64), (11, 2048)])
def test_few_subjects_are_refused_with_their_number_of_patterns(n, patterns):
    assert f"{n} subjects have {patterns} patterns" in refuse_few(n)
    with pytest.raises(DesignError, match=f"{patterns} patterns"):
        sign_flip_map(np.ones((n, 3)), keep_positive)
    assert not refuse_few(12)


def test_undefined_scores_are_refused():
    d = np.ones((12, 3))
    d[4, 1] = np.nan
    with pytest.raises(DesignError, match="not defined"):
        sign_flip_map(d, keep_positive)
