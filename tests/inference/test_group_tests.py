"""Group tests, against reference values and brute force over all combinations."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.errors import DesignError
from harness.inference.group_tests import (
    permutation_of_means,
    prevalence,
    prevalence_arrays,
    prevalence_regions,
)

TWELFTHS = st.integers(0, 12).map(lambda k: k / 12)  # sums of these have rounding errors


def approximately(value):
    return value if value is None else pytest.approx(value, abs=1e-10, rel=0)


def test_reference_values_of_prevalence_are_reproduced(statistics):
    cases = statistics["prevalence"]["cases"]
    assert len(cases) == 3
    for case in cases:
        expected = case["expected"]
        for nulls, region in zip(case["table"], expected["regions"], strict=True):
            found = prevalence(nulls, expected["alpha"])
            assert found.n == expected["n_subjects"]
            assert found.minimum == approximately(region["minimum"])
            assert found.p_global == approximately(region["p_global_null"])
            assert found.p_majority == approximately(region["p_majority_null"])
            assert found.gamma0 == approximately(region["gamma0"])
            smallest = expected["smallest_possible"]
            assert found.largest_gamma0 == approximately(smallest["gamma0"])
            assert found.smallest_p_majority == approximately(smallest["p_majority_null"])
        corrected = prevalence_regions(case["table"], expected["alpha"])
        for found, region in zip(corrected, expected["regions"], strict=True):
            assert found.p_global_corrected == approximately(
                region.get("p_global_null_corrected", region["p_global_null"])
            )
            assert found.p_majority_corrected == approximately(
                region.get("p_majority_null_corrected", region["p_majority_null"])
            )
            assert found.gamma0_corrected == approximately(region.get("gamma0_corrected", region["gamma0"]))
            assert (found.p_global, found.p_majority, found.gamma0) == (
                approximately(region["p_global_null"]),
                approximately(region["p_majority_null"]),
                approximately(region["gamma0"]),
            )


@given(st.lists(arrays(float, st.integers(1, 6), elements=TWELFTHS), min_size=1, max_size=4))
def test_prevalence_equals_brute_force_over_all_combinations(nulls):
    observed = min(null[0] for null in nulls)
    minima = np.array([min(scores) for scores in product(*nulls)])
    assert prevalence(nulls).p_global == pytest.approx((minima >= observed).mean(), abs=1e-12)


@given(arrays(float, st.tuples(st.integers(2, 4), st.integers(1, 3), st.integers(1, 5)), elements=TWELFTHS))
def test_prevalence_of_regions_equals_brute_force(tables):
    _, n_subjects, n_relabellings = tables.shape
    combinations = list(product(range(n_relabellings), repeat=n_subjects))
    maxima = np.array(
        [max(min(region[k, i] for k, i in enumerate(chosen)) for region in tables) for chosen in combinations]
    )
    for region, found in zip(tables, prevalence_regions(tables), strict=True):
        assert found.p_global_corrected == pytest.approx((maxima >= region[:, 0].min()).mean(), abs=1e-12)


def test_combinations_of_many_regions_are_drawn(rng):
    tables = rng.random((11, 3, 8))
    drawn = prevalence_regions(tables)
    maxima = np.array(
        [tables[:, range(3), chosen].min(axis=1).max() for chosen in product(range(8), repeat=3)]
    )
    exact = [(maxima >= region[:, 0].min()).mean() for region in tables]
    assert [found.p_global_corrected for found in drawn] == pytest.approx(exact, abs=0.02)


@given(arrays(float, st.tuples(st.integers(2, 6), st.just(10)), elements=TWELFTHS))
def test_gamma0_is_where_the_p_value_crosses_alpha(nulls):
    found, n = prevalence(nulls), len(nulls)
    if found.gamma0 is None:
        assert found.p_global > 0.05
        return
    p = ((1 - found.gamma0) * found.p_global ** (1 / n) + found.gamma0) ** n
    assert p == approximately(0.05)
    assert (found.gamma0 > 0.5) == (found.p_majority < 0.05)


@pytest.mark.parametrize(
    ("n", "largest", "smallest_p"),
    [(4, None, 0.0625), (6, 0.607, 0.0157), (12, 0.779, None), (20, 0.861, None)],
)
def test_few_subjects_limit_the_statement(n, largest, smallest_p):
    """2048 relabellings, as twelve scanner runs have."""
    nulls = [np.linspace(1, 0, 2048)] * n
    found = prevalence(nulls)
    assert found.gamma0 == approximately(found.largest_gamma0)
    if largest is not None:
        assert found.largest_gamma0 == pytest.approx(largest, abs=5e-4)
    if smallest_p is not None:
        assert found.smallest_p_majority == pytest.approx(smallest_p, abs=2e-4)
    assert (found.smallest_p_majority <= 0.05) == (n > 4)


def test_few_relabellings_allow_no_statement():
    found = prevalence([np.arange(4)[::-1]])
    assert (found.p_global, found.gamma0, found.largest_gamma0) == (0.25, None, None)


@given(st.lists(arrays(float, st.integers(1, 6), elements=TWELFTHS), min_size=1, max_size=4))
def test_permutation_of_means_equals_brute_force(nulls):
    means = np.array([round(12 * sum(scores)) for scores in product(*nulls)])
    found = permutation_of_means(nulls)
    assert found.is_exact
    assert found.n_draws == len(means) - 1
    assert found.p == (means >= means[0]).mean()
    assert found.mean == approximately(np.mean([null[0] for null in nulls]))
    np.testing.assert_allclose(np.sort(found.null), np.sort(means) / 12 / len(nulls))
    assert permutation_of_means(nulls[::-1]).p == found.p


def test_drawn_combinations_agree_with_all(rng):
    nulls = rng.normal(0, 1, (3, 30))
    nulls[:, 0] = 0.7
    exact = permutation_of_means(nulls, n_draws=30**3)
    drawn = permutation_of_means(nulls, n_draws=10_000)
    assert (exact.is_exact, drawn.is_exact, drawn.n_draws) == (True, False, 10_000)
    assert drawn.p == pytest.approx(exact.p, abs=4 * np.sqrt(exact.p / 10_000))
    assert drawn.null[0] == drawn.mean == approximately(0.7)
    assert permutation_of_means(nulls, seed=1).p != permutation_of_means(nulls, seed=2).p


def test_an_undefined_score_of_a_relabelling_counts_against_the_effect():
    nulls = [[0.9, np.nan, 0.1, 0.2]] * 2
    assert permutation_of_means(nulls).p == (1 + 7) / 16  # the true one, and 7 with an undefined score
    assert prevalence(nulls).p_global == 0.25


@pytest.mark.parametrize("test", [permutation_of_means, prevalence])
@pytest.mark.parametrize("nulls", [[], [[np.nan, 0.5]], [[0.5], []]])
def test_undefined_scores_are_refused(test, nulls):
    with pytest.raises(DesignError):
        test(nulls)


def test_regions_with_other_relabellings_are_refused():
    with pytest.raises(DesignError, match="same relabellings"):
        prevalence_regions([[[0.9, 0.5]], [[0.9, 0.5, 0.4]]])


def test_prevalence_of_thousands_of_voxels_equals_single_regions(rng):
    tables = [rng.random((30, 3000)) + (np.arange(30) == 0)[:, np.newaxis] for _ in range(5)]
    tables[2][:, 7] = 0.5  # a voxel that does not vary in one subject
    found = prevalence_arrays(tables, n_draws=500, seed=2)
    for place in (0, 7, 2999):
        single = prevalence([table[:, place] for table in tables])
        assert found.p_global[place] == pytest.approx(single.p_global, rel=1e-12)
        assert found.p_majority[place] == pytest.approx(single.p_majority, rel=1e-12)
        shown = found.gamma0[place]
        assert (None if np.isnan(shown) else shown) == approximately(single.gamma0)
    # Chunks do not change the draws, and the draws are those of the generator.
    draws = np.random.default_rng(2)
    chosen = [draws.integers(30, size=500) for _ in range(5)]
    maxima = np.array(
        [
            np.min([table[rows[i]] for table, rows in zip(tables, chosen, strict=True)], axis=0).max()
            for i in range(500)
        ]
    )
    expected = [(1 + (maxima >= value).sum()) / 501 for value in found.minimum]
    np.testing.assert_allclose(found.p_global_corrected, expected, rtol=1e-12)
    np.testing.assert_allclose(
        found.p_majority_corrected,
        found.p_global_corrected + (1 - found.p_global_corrected) * found.p_majority,
    )


def test_limits_of_many_regions_are_those_of_the_largest_effect():
    tables = [np.repeat(np.linspace(1, 0, 100)[:, np.newaxis], 20, axis=1) for _ in range(6)]
    found = prevalence_arrays(tables)
    assert found.p_majority_corrected == approximately(np.full(20, found.smallest_p_majority))
    assert found.gamma0_corrected == approximately(np.full(20, found.largest_gamma0))
    few = prevalence_arrays(tables[:4])
    assert few.smallest_p_majority > 0.05
    assert (few.p_majority_corrected > 0.05).all()


def test_undefined_scores_of_relabellings_count_against_the_effect():
    table = np.column_stack([np.linspace(1, 0, 8)] * 11)
    undefined = table.copy()
    undefined[3, 4] = np.nan
    found = prevalence_arrays([undefined, undefined])
    assert found.p_global[4] == pytest.approx((2 / 8) ** 2)
    assert found.p_global_corrected.min() > prevalence_arrays([table, table]).p_global_corrected.max()
