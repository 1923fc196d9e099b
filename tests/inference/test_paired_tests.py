"""Paired tests, against reference values, brute force and scipy."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from harness.errors import DesignError
from harness.inference.paired_tests import corrected_t, holm, sign_flip, smallest_sign_flip_p

EIGHTHS = st.integers(-16, 16).map(lambda k: k / 8)  # ties, without rounding


def approximately(value):
    return pytest.approx(value, abs=1e-10, rel=0)


def test_reference_values_of_the_corrected_t_test_are_reproduced(statistics):
    cases = statistics["corrected_t"]["cases"]
    assert len(cases) == 8
    for case in cases:
        expected = case["expected"]
        values = case["a"], case["b"], case["n_train"], case["n_test"]
        if expected == "refuse":
            with pytest.raises(DesignError):
                corrected_t(*values, min_folds=2)
            continue
        found = corrected_t(*values, min_folds=2)
        assert found.n_folds == len(case["a"])
        for name, value in (
            ("mean_difference", found.difference),
            ("n_test_over_n_train", found.ratio),
            ("df", found.df),
            ("t", found.t),
            ("p_two_sided", found.p),
            ("p_greater", found.p_greater),
            ("p_less", 1 - found.p_greater),
            ("ci95", list(found.interval)),
        ):
            if name in expected:
                assert value == approximately(expected[name]), (case["name"], name)


@pytest.mark.parametrize("n_folds", [1, 2])
def test_one_and_two_folds_are_refused(n_folds):
    with pytest.raises(DesignError, match=f"3 folds or more, and there (is|are) {n_folds}"):
        corrected_t(np.arange(n_folds), np.zeros(n_folds), 10, 5)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([0.9, 0.8, 0.7], [0.8, 0.7, 0.6], "in every one of the 3 folds"),
        ([0.9, np.nan, 0.7], [0.8, 0.7, 0.6], "1 of 3 scores"),
        ([0.9, 0.8, 0.7], [0.8, 0.7], "3 and 2"),
        ([], [], "no scores"),
    ],
)
def test_differences_without_a_standard_error_are_refused(first, second, message):
    with pytest.raises(DesignError, match=message):
        corrected_t(first, second, 20, 10)


def test_folds_without_training_volumes_are_refused():
    with pytest.raises(DesignError, match="training"):
        corrected_t([0.9, 0.8, 0.6], [0.8, 0.7, 0.6], [20, 0, 20], 10)


def test_without_shared_volumes_it_is_the_paired_t_test(rng):
    """As the held-out share goes to zero, so does the correction."""
    a, b = rng.random((2, 9))
    found, expected = corrected_t(a, b, 1e15, 1), stats.ttest_rel(a, b)
    assert (found.t, found.p) == approximately((expected.statistic, expected.pvalue))


@given(arrays(float, (2, 6), elements=EIGHTHS), st.integers(-8, 8).map(float))
def test_corrected_t_is_antisymmetric_and_ignores_a_common_shift(scores, shift):
    a, b = scores
    if np.ptp(a - b) == 0:
        return
    found, swapped, moved = (corrected_t(*pair, 10, 2) for pair in ((a, b), (b, a), (a + shift, b + shift)))
    assert (swapped.t, swapped.p) == approximately((-found.t, found.p))
    assert (moved.t, moved.p) == approximately((found.t, found.p))
    assert corrected_t(a, b, 10, 5).p >= found.p  # more shared volumes, less evidence


def test_reference_values_of_the_sign_flip_test_are_reproduced(statistics):
    cases = statistics["sign_flip"]["cases"]
    assert len(cases) == 9
    for case in cases:
        expected = case["expected"]
        found = sign_flip(case["differences"])
        opposite = sign_flip(-np.array(case["differences"]))
        assert found.is_exact
        for name, value in (
            ("n", found.n),
            ("mean", found.difference),
            ("n_sign_patterns", found.n_patterns),
            ("count_greater", found.p_greater * found.n_patterns),
            ("count_two_sided", found.p * found.n_patterns),
            ("p_greater", found.p_greater),
            ("p_less", opposite.p_greater),
            ("p_two_sided", found.p),
            ("dz", found.d_z),
            ("hedges_gz", found.hedges_g),
            ("ci95", found.interval and list(found.interval)),
            ("ci_exact_coverage", found.coverage),
        ):
            if name in expected:
                assert value == (expected[name] and approximately(expected[name])), name


@given(arrays(float, st.integers(1, 7), elements=EIGHTHS))
def test_sign_flip_equals_brute_force(differences):
    sums = np.array([np.dot(signs, differences) for signs in product([1, -1], repeat=len(differences))])
    found = sign_flip(differences)
    assert found.p_greater == (sums >= differences.sum()).mean()
    assert found.p == (np.abs(sums) >= abs(differences.sum())).mean()
    assert sign_flip(differences[::-1]).p == found.p
    assert sign_flip(-differences).p == sign_flip(4 * differences).p == found.p


@given(arrays(float, st.integers(6, 9), elements=EIGHTHS, unique=True))
def test_values_within_the_interval_are_those_that_the_test_does_not_reject(differences):
    low, high = sign_flip(differences).interval
    assert sign_flip(differences - low - 1e-6).p > 0.05
    assert sign_flip(differences - high + 1e-6).p > 0.05
    assert sign_flip(differences - low + 1e-6).p <= 0.05 + 2 / 2 ** len(differences)
    assert sign_flip(differences - high - 1e-6).p <= 0.05 + 2 / 2 ** len(differences)


def test_sign_flip_of_many_differences_draws_patterns(rng):
    differences = rng.normal(0.1, 0.4, 17)
    found = sign_flip(differences)
    assert (found.is_exact, found.n_patterns) == (False, 10_001)
    exact = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert found.p == pytest.approx(exact.pvalue, abs=4 * np.sqrt(exact.pvalue / 10_000))
    low, high = found.interval
    t_low, t_high = stats.ttest_1samp(differences, 0).confidence_interval()
    assert (low, high) == pytest.approx((t_low, t_high), abs=0.05)
    assert found.coverage == approximately(1 - 500 / 10_001)


def test_many_equal_differences_have_the_smallest_p_value():
    assert sign_flip(np.ones(40)).p == smallest_sign_flip_p(40) == 1 / 10_001


def test_differences_of_zero_are_no_evidence():
    found = sign_flip(np.zeros(8))
    assert (found.p, found.p_greater, found.interval) == (1.0, 1.0, (0.0, 0.0))
    assert np.isnan(found.d_z)


@pytest.mark.parametrize("differences", [[], [0.1, np.nan]])
def test_sign_flip_refuses_undefined_differences(differences):
    with pytest.raises(DesignError):
        sign_flip(differences)


@pytest.mark.parametrize(("n_tests", "n"), [(1, 6), (3, 7), (6, 8), (15, 10)])
def test_the_smallest_n_for_a_significant_result_is_that_of_two_to_the_n(n_tests, n):
    assert smallest_sign_flip_p(n, n_tests) <= 0.05 < smallest_sign_flip_p(n - 1, n_tests)


def test_reference_values_of_holm_are_reproduced(statistics):
    cases = statistics["holm"]["cases"]
    assert len(cases) == 5
    for case in cases:
        found, expected = holm(case["p"]), case["expected"]
        np.testing.assert_allclose(found, expected["p_adjusted"], rtol=0, atol=1e-10)
        assert (found <= 0.05).tolist() == expected["reject_at_0_05"]


@given(arrays(float, st.integers(0, 6), elements=st.integers(0, 64).map(lambda k: k / 64)), st.randoms())
def test_holm_is_monotone_and_does_not_depend_on_the_order(p_values, random):
    adjusted = holm(p_values)
    assert (adjusted >= p_values).all()
    assert (adjusted <= np.minimum(1, len(p_values) * p_values)).all()
    order = list(range(len(p_values)))
    random.shuffle(order)
    np.testing.assert_array_equal(holm(p_values[order]), adjusted[order])
    assert (np.diff(adjusted[np.argsort(p_values, kind="stable")]) >= 0).all()


@given(arrays(float, st.integers(1, 5), elements=st.integers(0, 64).map(lambda k: k / 64)))
def test_holm_is_the_closed_testing_procedure(p_values):
    """Each hypothesis: the largest Bonferroni p-value of all sets of hypotheses that hold it."""
    sets = [np.array(chosen) for chosen in product([False, True], repeat=len(p_values)) if any(chosen)]
    bonferroni = [min(1.0, chosen.sum() * p_values[chosen].min()) for chosen in sets]
    expected = [
        max(p for p, chosen in zip(bonferroni, sets, strict=True) if chosen[i]) for i in range(len(p_values))
    ]
    np.testing.assert_allclose(holm(p_values), expected, rtol=0, atol=1e-15)


def test_tests_that_were_not_computed_do_not_count():
    np.testing.assert_array_equal(holm([0.02, np.nan, 0.04]), [0.04, np.nan, 0.04])
