"""Ridge classifiers equal scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV

from harness.solvers.ridge import (
    factorise_ridge,
    factorise_ridge_gram,
    leave_one_out_errors,
    solve_ridge_cv,
    solve_ridge_cv_gram,
)
from harness.solvers.spaces import compute_gram

ALPHAS = np.geomspace(1e-3, 1e4, 8)


@st.composite
def designs(draw):
    n, p = draw(st.integers(8, 40)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = rng.standard_normal((n, p)) + rng.standard_normal(p)
    shape = draw(st.sampled_from(["plain", "rows repeat", "low rank", "constant voxels"]))
    if shape == "rows repeat":
        X = X[rng.integers(0, n // 2, n)]
    elif shape == "low rank":
        X = X[:, :2] @ rng.standard_normal((X[:, :2].shape[1], p))
    elif shape == "constant voxels":
        X[:, : (p + 1) // 2] = 1.5
    # Both classes in every training set: each fold of four holds one sample of each.
    y = np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
    y[8:] = rng.choice([-1.0, 1.0], n - 8)
    return X, y, np.arange(n) // 2 % 4


@settings(max_examples=5, deadline=None)
@given(design=designs())
def test_leave_one_out_errors_equal_refitting_without_each_sample(design):
    X, y, _ = design
    alphas = ALPHAS[::3]
    errors = leave_one_out_errors(factorise_ridge(X), y[:, None], alphas)
    np.testing.assert_allclose(
        errors, leave_one_out_errors(factorise_ridge_gram(compute_gram(X)), y[:, None], alphas), rtol=1e-5
    )
    expected = np.empty_like(errors[:, 0])
    for k, alpha in enumerate(alphas):
        model = RidgeClassifier(alpha=alpha, solver="svd")
        left_out = [
            model.fit(np.delete(X, i, axis=0), np.delete(y, i)).decision_function(X[[i]])[0]
            for i in range(len(y))
        ]
        expected[k] = ((y - left_out) ** 2).mean()
    np.testing.assert_allclose(errors[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("name", [pytest.param("haxby2001-vt", marks=pytest.mark.slow), "haxby2001-slice"])
def test_ridge_equals_scikit_learn_on_real_volumes(load_face_cat, name):
    X, y, runs = load_face_cat(name)
    K = compute_gram(X)
    train_sets = [runs != run for run in np.unique(runs)]
    fixed = [solve_ridge_cv_gram(K, y, train_sets, [alpha])[0] for alpha in ALPHAS[::3]]
    cv, chosen = solve_ridge_cv_gram(K, y, train_sets, ALPHAS)
    for i, train in enumerate(train_sets):
        for decoders, alpha in zip(fixed, ALPHAS[::3], strict=True):
            reference = RidgeClassifier(alpha=alpha).fit(X[train], y[train])
            scale = np.abs(reference.coef_).max()
            np.testing.assert_allclose(
                decoders.coef(X)[i, 0, 0], np.ravel(reference.coef_), atol=1e-9 * scale
            )
            expected = reference.decision_function(X[~train])
            np.testing.assert_allclose(decoders.decisions[i, 0, 0, ~train], expected, atol=1e-8)
        reference = RidgeClassifierCV(alphas=ALPHAS).fit(X[train], y[train])
        assert chosen[i, 0] == reference.alpha_
        np.testing.assert_allclose(cv.coef(X)[i, 0, 0], np.ravel(reference.coef_), atol=1e-10)
        assert cv.intercepts[i, 0, 0] == pytest.approx(np.ravel(reference.intercept_)[0], abs=1e-10)


def test_ridge_of_many_labels_is_that_of_each_alone_to_the_last_bit():
    rng = np.random.default_rng(0)
    K = compute_gram(rng.standard_normal((40, 70)))
    Y = np.where(rng.random((40, 9)) < 0.5, 1.0, -1.0)
    train_sets = [np.arange(40) % 4 != fold for fold in range(4)]
    together, chosen = solve_ridge_cv_gram(K, Y, train_sets, ALPHAS)
    for j in range(9):
        alone, alone_chosen = solve_ridge_cv_gram(K, Y[:, j], train_sets, ALPHAS)
        np.testing.assert_array_equal(together.weights[:, :, [j]], alone.weights)
        np.testing.assert_array_equal(together.decisions[:, :, [j]], alone.decisions)
        np.testing.assert_array_equal(chosen[:, [j]], alone_chosen)


@settings(max_examples=15, deadline=None)
@given(design=designs(), alpha=st.sampled_from(list(ALPHAS)))
def test_predictions_of_held_out_samples_equal_scikit_learn(design, alpha):
    X, y, folds = design
    train_sets = [folds != fold for fold in range(4)]
    for decoders, _ in (
        solve_ridge_cv(X, y, train_sets, [alpha]),
        solve_ridge_cv_gram(compute_gram(X), y, train_sets, [alpha]),
    ):
        for i, train in enumerate(train_sets):
            reference = RidgeClassifier(alpha=alpha, solver="svd").fit(X[train], y[train])
            expected = reference.decision_function(X[~train])
            scale = 1 + np.abs(expected).max()
            np.testing.assert_allclose(decoders.decisions[i, 0, 0, ~train], expected, atol=1e-6 * scale)
