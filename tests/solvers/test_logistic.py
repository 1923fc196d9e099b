"""Logistic decoders, and their choice of C, equal scikit-learn at a tight tolerance."""

import numpy as np
import pytest
from optima import augment, joined, simulated
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from harness.solvers.logistic import (
    solve_logistic,
    solve_logistic_cv,
    solve_logistic_cv_gram,
)
from harness.solvers.spaces import DualSpace, compute_gram


def test_equal_values_of_c_give_equal_decoders():
    X, Y, train_sets = simulated(n_labels=1)
    solutions = solve_logistic(X, Y, train_sets, [1.0, 1.0, 2.0, 1.0])
    for k in (1, 3):
        np.testing.assert_allclose(solutions.decisions[:, k], solutions.decisions[:, 0], atol=1e-9)


@pytest.mark.parametrize("C", [1e-3, 0.1, 10.0, pytest.param(1e4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [pytest.param("haxby2001-vt", marks=pytest.mark.slow), "haxby2001-slice"])
def test_logistic_equals_tight_references_on_real_volumes(load_face_cat, name, C):
    X, y, runs = load_face_cat(name)
    train = runs != runs[0]
    w = joined(solve_logistic(X, y, [train], [C]), X)
    newton = LogisticRegression(C=C, solver="newton-cholesky", fit_intercept=False, tol=1e-14, max_iter=1000)
    expected = newton.fit(augment(X)[train], y[train]).coef_[0]
    assert np.linalg.norm(w - expected) < 1e-10 * np.linalg.norm(expected)
    liblinear = LogisticRegression(C=C, solver="liblinear", tol=1e-12, max_iter=1000).fit(X[train], y[train])
    expected = np.append(liblinear.coef_, liblinear.intercept_)
    # As near as liblinear's own stopping rule lets it come.
    assert np.linalg.norm(w - expected) < 1e-6 * np.linalg.norm(expected)


NILEARN_CS = np.geomspace(1e-3, 1e4, 8)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["haxby2001-vt", "haxby2001-slice"])
def test_inner_choice_of_c_equals_scikit_learn_at_the_optimum(load_face_cat, name):
    X, y, runs = load_face_cat(name)
    train_sets = [runs != run for run in (0, 7, 8)]
    chosen = solve_logistic_cv(X, y, train_sets, NILEARN_CS)
    for i, train in enumerate(train_sets):
        reference = LogisticRegressionCV(
            Cs=NILEARN_CS,
            cv=5,
            scoring="neg_log_loss",
            solver="newton-cholesky",
            fit_intercept=False,
            tol=1e-13,
            max_iter=1000,
            l1_ratios=(0,),
            use_legacy_attributes=False,
        ).fit(augment(X)[train], y[train])
        assert chosen.Cs[i, 0] == reference.C_
        # Beyond C=100 log losses are ruled by how 1 - p is rounded.
        np.testing.assert_allclose(chosen.scores[i, 0, :, :6], reference.scores_[:, 0, :6], rtol=1e-5)
        np.testing.assert_allclose(chosen.scores[i, 0], reference.scores_[:, 0], rtol=1e-3)
        w = joined(chosen.decoders, X, i)
        assert np.linalg.norm(w - reference.coef_[0]) < 1e-10 * np.linalg.norm(w)


def test_inner_choice_of_c_is_the_same_from_voxels_and_gram():
    X, Y, train_sets = simulated(n_labels=3)
    gram = solve_logistic_cv_gram(compute_gram(X), Y, train_sets, NILEARN_CS)
    voxels = solve_logistic_cv(X, Y, train_sets, NILEARN_CS, space="primal")
    assert gram.Cs.shape == (5, 3) and gram.scores.shape == (5, 3, 5, 8)
    np.testing.assert_array_equal(gram.Cs, voxels.Cs)
    np.testing.assert_allclose(gram.scores, voxels.scores, rtol=1e-4)


@pytest.mark.parametrize(
    "p", [pytest.param(90, id="dual", marks=pytest.mark.slow), pytest.param(20, id="primal")]
)
def test_inner_scores_equal_a_tight_reference_in_every_fold(p):
    X, Y, _ = simulated(p=p, n_labels=2)
    X += 0.4 * Y[:, :1] * (np.arange(p) < 10)
    train_sets = [np.arange(50), np.arange(7, 60)]
    chosen = solve_logistic_cv(X, Y, train_sets, NILEARN_CS)
    assert chosen.decoders.space == ("dual" if p == 90 else "primal")
    for i, train in enumerate(train_sets):
        for j, y in enumerate(Y[train].T):
            rows = augment(X)[train]
            for fold, (inner, held_out) in enumerate(StratifiedKFold(5).split(rows, y)):
                for k, C in enumerate(NILEARN_CS[:6]):
                    model = LogisticRegression(
                        C=C, solver="newton-cholesky", fit_intercept=False, tol=1e-13, max_iter=1000
                    ).fit(rows[inner], y[inner])
                    expected = -log_loss(y[held_out], model.predict_proba(rows[held_out]))
                    assert chosen.scores[i, j, fold, k] == pytest.approx(expected, abs=2e-6)


def test_problems_in_small_chunks_end_where_they_end_together(monkeypatch):
    X, Y, train_sets = simulated(n_labels=2)
    X += 0.3 * Y[:, :1]
    paths, chosen = (
        solve_logistic(X, Y, train_sets, NILEARN_CS),
        solve_logistic_cv(X, Y, train_sets, NILEARN_CS),
    )
    sizes = []
    restrict = DualSpace.restrict
    monkeypatch.setattr(DualSpace, "restrict", lambda *arguments: sizes.append(1) or restrict(*arguments))
    # Chunks of three training sets of 48 samples, and of three inner folds.
    monkeypatch.setattr("harness.solvers.c_path.CHUNK_BYTES", 24 * 48 * 60 * 3)
    in_chunks = solve_logistic(X, Y, train_sets, NILEARN_CS)
    np.testing.assert_allclose(in_chunks.weights, paths.weights, atol=1e-10 * np.abs(paths.weights).max())
    assert in_chunks.converged.all() and in_chunks.gradients.max() < 1e-9
    assert len(sizes) == len(train_sets)
    again = solve_logistic_cv(X, Y, train_sets, NILEARN_CS)
    np.testing.assert_array_equal(again.Cs, chosen.Cs)
    np.testing.assert_allclose(again.scores, chosen.scores, atol=1e-7)
    scale = np.abs(chosen.decoders.weights).max()
    np.testing.assert_allclose(again.decoders.weights, chosen.decoders.weights, atol=1e-10 * scale)


def test_choices_of_c_have_the_same_bits_at_every_call():
    X, Y, train_sets = simulated(n_labels=2)
    first, second = (solve_logistic_cv(X, Y, train_sets, NILEARN_CS) for _ in range(2))
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(first.decoders.weights, second.decoders.weights)
    # One label vector at a time: the others make no difference.
    alone = solve_logistic_cv(X, Y[:, 1], train_sets, NILEARN_CS)
    np.testing.assert_array_equal(alone.decoders.weights[:, :, 0], first.decoders.weights[:, :, 1])


def test_weights_outside_of_a_training_set_are_zero_after_the_choice_of_c():
    X, Y, train_sets = simulated(n_labels=1)
    solutions = solve_logistic_cv(X, Y, train_sets, NILEARN_CS).decoders
    np.testing.assert_allclose(solutions.weights.sum(axis=-1), solutions.intercepts)
    for train, weights in zip(train_sets, solutions.weights, strict=True):
        assert not weights[..., ~train].any()


def test_inner_decoders_that_did_not_converge_are_never_silent():
    X, Y, train_sets = simulated(n_labels=1)
    with pytest.warns(ConvergenceWarning, match="5 of 5 decoders did not converge"):
        chosen = solve_logistic_cv(X, Y, train_sets, NILEARN_CS, max_iter=1)
    assert not chosen.decoders.converged.any()


def test_of_equal_scores_the_first_c_is_chosen():
    X, y = np.zeros((20, 3)), np.tile([1.0, -1.0], 10)
    chosen = solve_logistic_cv(X, y, [np.arange(20)], [10.0, 0.1, 1.0])
    assert chosen.Cs[0, 0] == 10.0


def test_an_inner_fold_with_one_class_is_refused():
    X, y = np.random.default_rng(0).standard_normal((20, 3)), np.where(np.arange(20) == 0, 1.0, -1.0)
    with (
        pytest.warns(UserWarning, match="least populated class"),
        pytest.raises(ValueError, match="one class"),
    ):
        solve_logistic_cv(X, y, [np.arange(20)], NILEARN_CS)
