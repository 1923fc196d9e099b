"""Discriminant analysis equals scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from harness.solvers.discriminant import fit_discriminant, ledoit_wolf_shrinkage, solve_discriminant


@settings(max_examples=20, deadline=None)
@given(n=st.integers(3, 40), p=st.integers(2, 60), seed=st.integers(0, 2**32 - 1))
def test_shrinkage_equals_scikit_learn(n, p, seed):
    X = np.random.default_rng(seed).standard_normal((n, p)) * np.linspace(0.2, 2, p)
    shrinkage, mu = ledoit_wolf_shrinkage(X - X.mean(axis=0))
    expected = ledoit_wolf(X)
    assert shrinkage == pytest.approx(expected[1], abs=1e-10)
    assert mu == pytest.approx(np.trace(expected[0]) / p)


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.lists(st.integers(5, 20), min_size=2, max_size=4),
    p=st.integers(1, 80),
    constant=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_lda_equals_scikit_learn(sizes, p, constant, seed):
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    X = rng.standard_normal((len(codes), p)) * rng.uniform(0.5, 2, p) + 2
    if constant and p > 2:
        X[:, 0] = 3.0
    coef, intercept = fit_discriminant(X, codes)
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(X, codes)
    if len(sizes) == 2:
        coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    expected = reference.coef_
    np.testing.assert_allclose(coef, expected, rtol=1e-7, atol=1e-8 * np.abs(expected).max())
    scale = 1 + np.abs(reference.intercept_).max()
    np.testing.assert_allclose(intercept, reference.intercept_, atol=1e-7 * scale)


def test_lda_without_shrinkage_has_the_least_norm():
    # With two samples of each class Ledoit-Wolf does not shrink, and the covariance is singular.
    rng = np.random.default_rng(0)
    X, codes = rng.standard_normal((6, 20)), np.repeat([0, 1, 2], 2)
    coef, _ = fit_discriminant(X, codes)
    means = np.stack([X[codes == c].mean(axis=0) for c in range(3)])
    centred = X - means[codes]
    expected = means @ np.linalg.pinv(centred.T @ centred / len(X))
    np.testing.assert_allclose(coef, expected, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("name", [pytest.param("haxby2001-vt", marks=pytest.mark.slow), "haxby2001-slice"])
def test_lda_equals_scikit_learn_on_real_volumes(load_face_cat, name):
    X, y, runs = load_face_cat(name)
    train_sets = [runs != run for run in (0, 5)]
    Y = np.column_stack([y, -y])
    decoders = solve_discriminant(X, Y, train_sets)
    for i, train in enumerate(train_sets):
        reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(X[train], y[train])
        scale = np.abs(reference.coef_).max()
        np.testing.assert_allclose(decoders.coef(X)[i, 0, 0], reference.coef_[0], atol=1e-9 * scale)
        np.testing.assert_allclose(decoders.decisions[i, 0, 0], reference.decision_function(X), atol=1e-8)
        np.testing.assert_allclose(decoders.decisions[i, 0, 1], -decoders.decisions[i, 0, 0], atol=1e-9)
