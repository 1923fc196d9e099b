"""Ridge and LDA equal scikit-learn's; left-out folds equal refitting without them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV

from harness.solvers.discriminant import fit_discriminant, ledoit_wolf_shrinkage, solve_discriminant
from harness.solvers.ridge import (
    factorise_ridge,
    factorise_ridge_gram,
    leave_one_out_errors,
    predict_left_out,
    solve_ridge_cv_gram,
    solve_ridge_gram,
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


@settings(max_examples=100, deadline=None)
@given(design=designs(), alpha=st.sampled_from(list(ALPHAS)))
def test_left_out_folds_equal_refitting(design, alpha):
    X, y, folds = design
    test_sets = [folds == fold for fold in range(4)]
    left_out = predict_left_out(compute_gram(X), y, test_sets, [alpha])[0, 0]
    trained = solve_ridge_gram(compute_gram(X), y, [~test for test in test_sets], [alpha])
    for i, test in enumerate(test_sets):
        reference = RidgeClassifier(alpha=alpha, solver="svd").fit(X[~test], y[~test])
        expected = reference.decision_function(X[test])
        scale = 1 + np.abs(expected).max()
        np.testing.assert_allclose(left_out[test], expected, atol=1e-6 * scale)
        np.testing.assert_allclose(trained.decisions[i, 0, 0, test], expected, atol=1e-6 * scale)


@settings(max_examples=100, deadline=None)
@given(design=designs())
def test_leave_one_out_equals_leaving_one_out(design):
    X, y, _ = design
    errors = leave_one_out_errors(factorise_ridge(X), y[:, None], ALPHAS)
    np.testing.assert_allclose(
        errors, leave_one_out_errors(factorise_ridge_gram(compute_gram(X)), y[:, None], ALPHAS), rtol=1e-5
    )
    singles = [np.arange(len(y)) == i for i in range(len(y))]
    left_out = predict_left_out(compute_gram(X), y, singles, ALPHAS)[:, 0]
    np.testing.assert_allclose(errors[:, 0], ((y - left_out) ** 2).mean(axis=1), rtol=1e-5)


@pytest.mark.parametrize("name", ["haxby2001-vt", "haxby2001-slice"])
def test_ridge_equals_scikit_learn_on_real_volumes(load_face_cat, name):
    X, y, runs = load_face_cat(name)
    K = compute_gram(X)
    train_sets = [runs != run for run in np.unique(runs)]
    decoders = solve_ridge_gram(K, y, train_sets, ALPHAS)
    left_out = predict_left_out(K, y, [~train for train in train_sets], ALPHAS)
    cv, chosen = solve_ridge_cv_gram(K, y, train_sets, ALPHAS)
    for i, train in enumerate(train_sets):
        for k, alpha in enumerate(ALPHAS):
            reference = RidgeClassifier(alpha=alpha).fit(X[train], y[train])
            scale = np.abs(reference.coef_).max()
            np.testing.assert_allclose(
                decoders.coef(X)[i, k, 0], np.ravel(reference.coef_), atol=1e-9 * scale
            )
            expected = reference.decision_function(X[~train])
            np.testing.assert_allclose(decoders.decisions[i, k, 0, ~train], expected, atol=1e-8)
            np.testing.assert_allclose(left_out[k, 0, ~train], expected, atol=1e-8)
        reference = RidgeClassifierCV(alphas=ALPHAS).fit(X[train], y[train])
        assert chosen[i, 0] == reference.alpha_
        np.testing.assert_allclose(cv.coef(X)[i, 0, 0], np.ravel(reference.coef_), atol=1e-10)
        assert cv.intercepts[i, 0, 0] == pytest.approx(np.ravel(reference.intercept_)[0], abs=1e-10)


def test_ridge_of_many_labels_is_that_of_each_alone_to_the_last_bit():
    rng = np.random.default_rng(0)
    K = compute_gram(rng.standard_normal((40, 70)))
    Y = np.where(rng.random((40, 9)) < 0.5, 1.0, -1.0)
    test_sets = [np.arange(40) % 4 == fold for fold in range(4)]
    train_sets = [~test for test in test_sets]
    left_out = predict_left_out(K, Y, test_sets, [1.0, 10.0])
    trained, (cv, chosen) = (
        solve_ridge_gram(K, Y, train_sets, [1.0]),
        solve_ridge_cv_gram(K, Y, train_sets, ALPHAS),
    )
    for j in range(9):
        np.testing.assert_array_equal(left_out[:, [j]], predict_left_out(K, Y[:, j], test_sets, [1.0, 10.0]))
        one = solve_ridge_gram(K, Y[:, j], train_sets, [1.0])
        np.testing.assert_array_equal(trained.decisions[:, :, [j]], one.decisions)
        one, one_chosen = solve_ridge_cv_gram(K, Y[:, j], train_sets, ALPHAS)
        np.testing.assert_array_equal(cv.weights[:, :, [j]], one.weights)
        np.testing.assert_array_equal(chosen[:, [j]], one_chosen)


def test_a_prediction_does_not_depend_on_its_own_fold_s_labels():
    rng = np.random.default_rng(1)
    K, y = compute_gram(rng.standard_normal((24, 50))), np.tile([1.0, -1.0], 12)
    test_sets = [np.arange(24) // 6 == fold for fold in range(4)]
    flipped = np.where(test_sets[1], -y, y)
    before, after = (predict_left_out(K, labels, test_sets, [0.1])[0, 0] for labels in (y, flipped))
    np.testing.assert_array_equal(before[test_sets[1]], after[test_sets[1]])
    assert not np.array_equal(before[test_sets[0]], after[test_sets[0]])


def test_samples_in_no_fold_have_no_prediction_and_folds_may_not_overlap():
    rng = np.random.default_rng(1)
    K, y = compute_gram(rng.standard_normal((12, 5))), np.tile([1.0, -1.0], 6)
    decisions = predict_left_out(K, y, [[0, 1], [2, 3]], [1.0])[0, 0]
    assert np.isfinite(decisions[:4]).all() and np.isnan(decisions[4:]).all()
    with pytest.raises(ValueError, match="overlap"):
        predict_left_out(K, y, [[0, 1], [1, 2]], [1.0])


@settings(max_examples=100, deadline=None)
@given(n=st.integers(3, 40), p=st.integers(2, 60), seed=st.integers(0, 2**32 - 1))
def test_shrinkage_equals_scikit_learn(n, p, seed):
    X = np.random.default_rng(seed).standard_normal((n, p)) * np.linspace(0.2, 2, p)
    shrinkage, mu = ledoit_wolf_shrinkage(X - X.mean(axis=0))
    expected = ledoit_wolf(X)
    assert shrinkage == pytest.approx(expected[1], abs=1e-10)
    assert mu == pytest.approx(np.trace(expected[0]) / p)


@settings(max_examples=100, deadline=None)
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


@pytest.mark.parametrize("n_per_class", [1, 2])
def test_lda_without_shrinkage_has_the_least_norm(n_per_class):
    # With one or two samples of each class Ledoit-Wolf does not shrink, and the covariance is singular.
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((3 * n_per_class, 20)), np.repeat([0, 1, 2], n_per_class)
    X = np.vstack([X, X[-1] + rng.standard_normal(20)]) if n_per_class == 1 else X
    y = np.append(y, 2) if n_per_class == 1 else y
    coef, _ = fit_discriminant(X, y)
    assert np.isfinite(coef).all()


@pytest.mark.parametrize("name", ["haxby2001-vt", "haxby2001-slice"])
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
