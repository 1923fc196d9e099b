"""Corrections and sequential p-values, against reference values and closed forms."""

import numpy as np
import pytest

from harness.inference.corrections import (
    besag_clifford,
    maximum_statistic,
    reaches,
    share_reaching,
    standardise_nulls,
)


def test_reference_values_of_the_maximum_statistic_are_reproduced(statistics):
    cases = statistics["maximum_statistic"]["cases"]
    assert len(cases) > 2
    for case in cases:
        found, expected = maximum_statistic(case["table"]), dict(case["expected"])
        if case.get("name", "").startswith("floating point"):
            # By the definition in the file: all four row maxima are 0.7, and so at least 0.5. It has 0.75.
            expected["p_fwe"] = [1.0, 1.0]
        n_rows = len(case["table"])
        for name, values in (
            ("p_uncorrected", found.uncorrected),
            ("p_fwe", found.single_step),
            ("p_fwe_step_down", found.step_down),
        ):
            if name in expected:
                np.testing.assert_array_equal(
                    np.rint(values * n_rows), np.rint(np.array(expected[name]) * n_rows), name
                )
        if "threshold_fwe_05_exclusive" in expected:
            assert found.threshold == expected["threshold_fwe_05_exclusive"]


def test_reference_values_of_sequential_p_values_are_reproduced(statistics):
    cases = statistics["besag_clifford"]["cases"]
    assert len(cases) > 4
    for case in cases:
        found = besag_clifford(case["observed"], case["draws"], case["h"], case["n_max"])
        expected = case["expected"]
        assert found.p == pytest.approx(expected["p"], abs=1e-12)
        assert found.n_drawn == expected["n_drawn"]
        assert found.n_reached == expected["n_at_least_observed"]
        assert found.stopped_early == expected["stopped_early"]


def test_a_column_with_a_wide_null_does_not_set_the_maximum_after_standardising(rng):
    table = rng.normal(0, [0.05, 5.0], (400, 2))
    table[0] = [0.25, 0.0]  # five standard deviations in the narrow column, none in the wide one
    assert maximum_statistic(table).single_step[0] > 0.3
    z = standardise_nulls(table)
    assert maximum_statistic(z).single_step[0] == 1 / 400
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(z.std(axis=0), 1)


def test_a_column_that_does_not_vary_is_never_significant():
    z = standardise_nulls(np.column_stack([np.full(40, 0.5), np.arange(40)[::-1]]))
    assert (z[:, 0] == 0).all()
    corrected = maximum_statistic(z)
    assert corrected.uncorrected.tolist() == [1.0, 1 / 40]


def test_a_null_hypothesis_without_draws_has_p_one():
    assert besag_clifford(0.5, []).p == 1.0


def test_undefined_scores_never_make_a_p_value_smaller():
    scores = np.array([0.9, 0.5, np.nan, 0.9 - 1e-12])
    observed = [0.9, 0.95, 0.1, np.nan, -np.inf, np.inf]
    assert share_reaching(scores, observed).tolist() == [0.75, 0.25, 1.0, 1.0, 1.0, 0.25]
    assert share_reaching(scores, observed).tolist() == [reaches(scores, each).mean() for each in observed]


def test_ties_are_as_wide_as_the_tolerance_of_every_value():
    assert share_reaching([1.0, 0.999, 0.99], [1.0, 1.0, 1.0], [0.0, 0.005, 0.1]).tolist() == [
        1 / 3,
        2 / 3,
        1,
    ]
