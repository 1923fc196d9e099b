"""Squared hinge and logistic decoders are the optimum of liblinear's objective, whatever the data look like.

Expected values come from liblinear and scikit-learn at tight tolerances, from the support vector machine
posed as non-negative least squares, and from the gradient of the objective written out here in extended
precision.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from harness.solvers import lockstep
from harness.solvers.logistic import (
    Problems,
    solve_logistic,
    solve_logistic_cv,
    solve_logistic_cv_gram,
    solve_logistic_gram,
)
from harness.solvers.solutions import solve_in_batches
from harness.solvers.spaces import SampleSpace, VoxelSpace, compute_gram
from harness.solvers.squared_hinge import solve_squared_hinge, solve_squared_hinge_gram

SOLVERS = {"squared hinge": solve_squared_hinge, "logistic": solve_logistic}
GRAM_SOLVERS = {"squared hinge": solve_squared_hinge_gram, "logistic": solve_logistic_gram}
SLOPES = {
    "squared hinge": lambda C, margins: 2 * C * np.maximum(0, 1 - margins),
    "logistic": lambda C, margins: C / (1 + np.exp(margins)),
}
CURVATURES = {
    "squared hinge": lambda C, margins: 2 * C * (margins < 1),
    "logistic": lambda C, margins: C / (2 + np.exp(margins) + np.exp(-margins)),
}


def augment(X):
    return np.column_stack([X, np.ones(len(X))])


def joined(solutions, X, i=0, k=0, j=0):
    """Coefficients and intercept of one decoder in one vector."""
    return np.append(solutions.coef(X)[i, k, j], solutions.intercepts[i, k, j])


def size(X, y, C, w, loss):
    """||w||, or what rounding leaves of terms that cancel to a w near 0."""
    X = augment(X)
    terms = SLOPES[loss](C, y * (X @ w)) @ np.linalg.norm(X, axis=1)
    return np.linalg.norm(w) + 1e-6 * terms


def distance_to_optimum(X, y, C, w, loss):
    """Length of a Newton step on the objective, its gradient summed in extended precision, relative to w."""
    rows = augment(X)
    X_long, w_long = rows.astype(np.longdouble), w.astype(np.longdouble)
    margins = y * (X_long @ w_long)
    gradient = (w_long - X_long.T @ (y * SLOPES[loss](C, margins))).astype(float)
    curvatures = CURVATURES[loss](C, margins.astype(float))
    hessian = np.eye(len(w)) + (rows.T * curvatures) @ rows
    return np.linalg.norm(np.linalg.solve(hessian, gradient)) / size(X, y, C, w, loss)


def solve_by_nnls(X, y, C):
    """The dual of the squared hinge: min_{b >= 0} 1/2 b^T (Q + I / 2C) b - sum(b) as least squares."""
    signed = augment(X) * y[:, None]
    n, p = signed.shape
    A = np.vstack([signed.T, np.eye(n) / np.sqrt(2 * C)])
    b, _ = nnls(A, np.append(np.zeros(p), np.full(n, np.sqrt(2 * C))), maxiter=1000 * n)
    return signed.T @ b


@st.composite
def problems(draw):
    n, p = draw(st.integers(2, 40)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = rng.standard_normal((n, p)) + draw(st.sampled_from([0, 3])) * rng.standard_normal(p)
    n_positive = draw(st.integers(1, n - 1))
    y = rng.permutation(np.where(np.arange(n) < n_positive, 1.0, -1.0))
    shape = draw(
        st.sampled_from(["plain", "rows repeat", "low rank", "constant voxels", "separable", "one sample"])
    )
    if shape == "rows repeat":
        X = X[rng.integers(0, (n + 1) // 2, n)]
    elif shape == "low rank":
        X = X[:, :2] @ rng.standard_normal((X[:, :2].shape[1], p))
    elif shape == "constant voxels":
        X[:, : (p + 1) // 2] = 1.5
    elif shape == "separable":
        X += 2 * y[:, None] * rng.standard_normal(p)
    elif shape == "one sample":
        X[:] = X[0]
    return X, y, 10 ** draw(st.floats(-3, 4))


@pytest.mark.parametrize("space", ["samples", "voxels"])
@pytest.mark.parametrize("loss", SOLVERS)
@settings(max_examples=150, deadline=None)
@given(problem=problems())
def test_random_problems_end_at_the_optimum(loss, space, problem):
    X, y, C = problem
    solutions = SOLVERS[loss](X, y, [np.arange(len(y))], [C], space=space)
    assert solutions.space == space
    assert solutions.converged.all()
    assert solutions.gradients.max() < 1e-9
    w = joined(solutions, X)
    assert distance_to_optimum(X, y, C, w, loss) < 1e-8
    np.testing.assert_allclose(solutions.decisions[0, 0, 0], augment(X) @ w, rtol=1e-7, atol=1e-7)


@settings(max_examples=150, deadline=None)
@given(problem=problems())
def test_squared_hinge_equals_non_negative_least_squares(problem):
    X, y, C = problem
    w = joined(solve_squared_hinge(X, y, [np.arange(len(y))], [C]), X)
    expected = solve_by_nnls(X, y, C)
    # nnls is exact but for rounding, which its normal equations amplify where samples repeat each other.
    if distance_to_optimum(X, y, C, expected, "squared hinge") < 1e-9:
        assert np.linalg.norm(w - expected) < 1e-8 * size(X, y, C, expected, "squared hinge")


@settings(max_examples=40, deadline=None)
@given(problem=problems())
def test_a_path_ends_where_each_c_ends_alone(problem):
    X, y, _ = problem
    Cs = [10.0, 1e-3, 1e4, 10.0, 0.5]
    for solve in SOLVERS.values():
        together = solve(X, y, [np.arange(len(y))], Cs)
        for k, C in enumerate(Cs):
            alone = solve(X, y, [np.arange(len(y))], [C])
            scale = 1 + np.abs(alone.decisions).max()
            np.testing.assert_allclose(together.decisions[0, k], alone.decisions[0, 0], atol=1e-7 * scale)


@pytest.mark.parametrize("space", ["samples", "voxels"])
@pytest.mark.parametrize("loss", SOLVERS)
def test_every_point_of_a_path_is_the_optimum_itself(loss, space):
    """Not only to the digits that single precision has, in which the systems are factorised."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 60)) + rng.standard_normal((200, 3)) @ rng.standard_normal((3, 60))
    y = np.sign(X[:, :4].sum(axis=1) + rng.standard_normal(200))
    Cs = np.geomspace(1e-3, 1e4, 8)
    solutions = SOLVERS[loss](X, y, [np.arange(200), np.arange(150)], Cs, space=space)
    for i, n in enumerate((200, 150)):
        for k, C in enumerate(Cs):
            w = joined(solutions, X, i, k)
            assert distance_to_optimum(X[:n], y[:n], C, w, loss) < 1e-10


def test_equal_values_of_c_give_equal_decoders():
    X, Y, train_sets = simulated(n_labels=1)
    solutions = solve_logistic(X, Y, train_sets, [1.0, 1.0, 2.0, 1.0])
    for k in (1, 3):
        np.testing.assert_allclose(solutions.decisions[:, k], solutions.decisions[:, 0], atol=1e-9)


@pytest.mark.parametrize("space", [SampleSpace, VoxelSpace])
def test_problems_shorten_their_steps_each_by_itself(space, monkeypatch):
    """Some start on the wrong side, where the loss is straight and a full step overshoots, some do not."""
    X, Y, _ = simulated(n_labels=1)
    y, rows = Y[:, 0], augment(X)
    train_sets = [np.arange(60), np.arange(30), np.arange(5, 25), np.arange(20, 60)]
    whole = space(rows @ rows.T if space is SampleSpace else rows)
    V = np.zeros((4, whole.n_weights))
    for i, strength in ((0, 1.0), (2, 30.0)):
        V[i] = -strength * (y if space is SampleSpace else y @ rows)
        V[i] *= np.isin(np.arange(60), train_sets[i]) if space is SampleSpace else 1.0
    shares, shorten = [], lockstep.shorten

    def watched(*asked):
        shares.append(shorten(*asked))
        return shares[-1]

    monkeypatch.setattr(lockstep, "shorten", watched)
    minima = Problems(whole, train_sets).minimise(3.0, y, V, whole.decide(V), 1e-11, 200)
    assert any(0 < share < 1 for share in shares)
    assert minima.converged.all() and minima.n_iter[0] != minima.n_iter[1]
    for train, v, f in zip(train_sets, minima.V, minima.F, strict=True):
        w = v @ rows if space is SampleSpace else v
        assert distance_to_optimum(X[train], y[train], 3.0, w, "logistic") < 1e-10
        np.testing.assert_allclose(f, rows @ w, atol=1e-9)


@pytest.mark.parametrize("loss", SOLVERS)
def test_training_sets_with_repeated_samples_do_not_disturb_the_others(loss):
    X, Y, _ = simulated(n_labels=2)
    X[30:] = X[:30]
    train_sets = [np.arange(30), np.arange(10, 50), np.arange(20, 45), np.arange(60)]
    Cs = [100.0, 0.1]
    solutions = SOLVERS[loss](X, Y, train_sets, Cs, space="samples")
    for i, train in enumerate(train_sets):
        assert not np.delete(solutions.weights[i], train, axis=-1).any()
        for k, C in enumerate(Cs):
            for j, y in enumerate(Y.T):
                w = joined(solutions, X, i, k, j)
                assert distance_to_optimum(X[train], y[train], C, w, loss) < 1e-8
                np.testing.assert_allclose(solutions.decisions[i, k, j], augment(X) @ w, atol=1e-7)


@pytest.mark.parametrize("C", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("name", ["haxby2001-vt", "haxby2001-slice"])
def test_squared_hinge_equals_tight_liblinear_on_real_volumes(load_face_cat, name, C):
    X, y, runs = load_face_cat(name)
    train = runs != runs[0]
    solutions = solve_squared_hinge(X, y, [train], [C])
    assert solutions.space == ("samples" if X.shape[1] == 577 else "voxels")
    # The dual solver: liblinear's primal one stops between 5e-9 and 1e-7 even at tol=1e-12.
    reference = LinearSVC(C=C, dual=True, tol=1e-10, max_iter=10**6, random_state=0).fit(X[train], y[train])
    expected = np.append(reference.coef_, reference.intercept_)
    w = joined(solutions, X)
    assert np.linalg.norm(w - expected) < 1e-9 * np.linalg.norm(expected)
    assert np.linalg.norm(w - solve_by_nnls(X[train], y[train], C)) < 1e-12 * np.linalg.norm(w)


@pytest.mark.parametrize("C", [1e-3, 0.1, 10.0, 1e4])
@pytest.mark.parametrize("name", ["haxby2001-vt", "haxby2001-slice"])
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


def simulated(n=60, p=90, n_labels=7, seed=3):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    Y = np.where(rng.random((n, n_labels)) < 0.5, 1.0, -1.0)
    folds = np.arange(n) % 5
    return X, Y, [folds != fold for fold in range(5)]


@pytest.mark.parametrize("loss", SOLVERS)
def test_both_spaces_the_gram_matrix_and_single_problems_agree(loss):
    X, Y, train_sets = simulated()
    Cs = [100.0, 0.01, 1.0]
    samples = SOLVERS[loss](X, Y, train_sets, Cs, space="samples")
    voxels = SOLVERS[loss](X, Y, train_sets, Cs, space="voxels")
    gram = GRAM_SOLVERS[loss](compute_gram(X), Y, train_sets, Cs)
    assert samples.space == "samples" and voxels.space == "voxels"
    assert samples.weights.shape == (5, 3, 7, 60) and voxels.weights.shape == (5, 3, 7, 90)
    np.testing.assert_array_equal(samples.decisions, gram.decisions)
    np.testing.assert_allclose(samples.coef(X), voxels.coef(X), atol=1e-10 * np.abs(voxels.weights).max())
    np.testing.assert_allclose(samples.decisions, voxels.decisions, atol=1e-9)
    one = SOLVERS[loss](X, Y[:, 4], [train_sets[2]], [Cs[1]])
    np.testing.assert_allclose(one.coef(X)[0, 0, 0], voxels.weights[2, 1, 4], atol=1e-12)


@pytest.mark.parametrize("loss", SOLVERS)
def test_dual_coefficients_are_the_slopes_of_the_loss(loss):
    X, Y, train_sets = simulated()
    y, train, C = Y[:, 0], train_sets[0], 3.0
    solutions = SOLVERS[loss](X, y, [train], [C], space="samples")
    slopes = y * SLOPES[loss](C, y * solutions.decisions[0, 0, 0])
    np.testing.assert_allclose(solutions.weights[0, 0, 0, train], slopes[train], atol=1e-10)
    assert not solutions.weights[0, 0, 0, ~train].any()
    assert solutions.intercepts[0, 0, 0] == pytest.approx(slopes[train].sum(), abs=1e-10)


@pytest.mark.parametrize("loss", GRAM_SOLVERS)
def test_results_do_not_depend_on_the_batch_size_to_the_last_bit(loss):
    X, Y, train_sets = simulated()
    K = compute_gram(X)
    whole = GRAM_SOLVERS[loss](K, Y, train_sets, [1.0, 10.0])
    for batch_bytes, n_batches in ((1, 7), (8 * 5 * 2 * 124 * 3, 3), (2**40, 1)):
        batches = list(
            solve_in_batches(GRAM_SOLVERS[loss], K, Y, train_sets, [1.0, 10.0], batch_bytes=batch_bytes)
        )
        assert len(batches) == n_batches
        for labels, part in batches:
            np.testing.assert_array_equal(part.weights, whole.weights[:, :, labels])
            np.testing.assert_array_equal(part.decisions, whole.decisions[:, :, labels])


@pytest.mark.parametrize("loss", SOLVERS)
def test_results_do_not_depend_on_the_number_of_threads_to_the_last_bit(loss):
    X, Y, train_sets = simulated(n=150, p=400, n_labels=2)
    results = []
    for n_threads in (1, 2):
        with threadpool_limits(n_threads, user_api="blas"):
            results.append(SOLVERS[loss](X, Y, train_sets, [1.0, 100.0]))
    np.testing.assert_array_equal(results[0].weights, results[1].weights)
    np.testing.assert_array_equal(results[0].coef(X), results[1].coef(X))


@pytest.mark.parametrize("loss", SOLVERS)
@pytest.mark.parametrize("space", ["samples", "voxels"])
def test_too_few_iterations_warn_and_are_marked(loss, space):
    X, Y, train_sets = simulated(n_labels=1)
    with pytest.warns(ConvergenceWarning, match="5 of 5 decoders did not converge"):
        solutions = SOLVERS[loss](X, Y, train_sets, [100.0], space=space, max_iter=1)
    assert not solutions.converged.any()
    assert (solutions.steps > 1e-6).all()


@pytest.mark.parametrize("loss", SOLVERS)
def test_samples_without_any_signal_give_a_decoder_of_zeros(loss):
    solutions = SOLVERS[loss](np.zeros((6, 4)), [1, -1, 1, -1, 1, -1], [np.arange(6)], [1e-3, 1.0, 1e4])
    assert solutions.converged.all()
    np.testing.assert_allclose(solutions.decisions, 0, atol=1e-12)


def test_messages_name_what_is_wrong():
    X, Y, train_sets = simulated()
    with pytest.raises(ValueError, match="Training set 1 holds only one class of label vector 0"):
        solve_squared_hinge(X, Y[:, 0], [train_sets[0], np.flatnonzero(Y[:, 0] > 0)], [1.0])
    with pytest.raises(ValueError, match="names a sample twice"):
        solve_squared_hinge(X, Y, [[0, 1, 2, 3, 4, 5, 6, 0]], [1.0])
    with pytest.raises(ValueError, match="C must be positive"):
        solve_squared_hinge(X, Y, train_sets, [0.0])
    with pytest.raises(ValueError, match="-1 and \\+1 only"):
        solve_squared_hinge(X, np.zeros(len(X)), train_sets, [1.0])
    with pytest.raises(ValueError, match="finite"):
        solve_squared_hinge(np.full_like(X, np.nan), Y, train_sets, [1.0])
    with pytest.raises(ValueError, match="square"):
        solve_logistic_gram(X, Y, train_sets, [1.0])
    with pytest.raises(ValueError, match="'auto', 'samples' or 'voxels'"):
        solve_logistic(X, Y, train_sets, [1.0], space="both")
    with pytest.raises(ValueError, match="must have shape"):
        solve_logistic(X, Y[:-1], train_sets, [1.0])


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
        w = joined(chosen.solutions, X, i)
        assert np.linalg.norm(w - reference.coef_[0]) < 1e-10 * np.linalg.norm(w)


def test_inner_choice_of_c_is_the_same_from_voxels_and_gram():
    X, Y, train_sets = simulated(n_labels=3)
    gram = solve_logistic_cv_gram(compute_gram(X), Y, train_sets, NILEARN_CS)
    voxels = solve_logistic_cv(X, Y, train_sets, NILEARN_CS, space="voxels")
    assert gram.Cs.shape == (5, 3) and gram.scores.shape == (5, 3, 5, 8)
    np.testing.assert_array_equal(gram.Cs, voxels.Cs)
    np.testing.assert_allclose(gram.scores, voxels.scores, rtol=1e-4)


@pytest.mark.parametrize("p", [90, 20], ids=["samples", "voxels"])
def test_inner_scores_equal_a_tight_reference_in_every_fold(p):
    X, Y, _ = simulated(p=p, n_labels=2)
    X += 0.4 * Y[:, :1] * (np.arange(p) < 10)
    train_sets = [np.arange(50), np.arange(7, 60)]
    chosen = solve_logistic_cv(X, Y, train_sets, NILEARN_CS)
    assert chosen.solutions.space == ("samples" if p == 90 else "voxels")
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
    restrict = SampleSpace.restrict
    monkeypatch.setattr(SampleSpace, "restrict", lambda *asked: sizes.append(1) or restrict(*asked))
    # Chunks of three training sets of 48 samples, and of three inner folds.
    monkeypatch.setattr("harness.solvers.logistic.CHUNK_BYTES", 24 * 48 * 60 * 3)
    in_chunks = solve_logistic(X, Y, train_sets, NILEARN_CS)
    np.testing.assert_allclose(in_chunks.weights, paths.weights, atol=1e-10 * np.abs(paths.weights).max())
    np.testing.assert_array_equal(in_chunks.n_iter.shape, paths.n_iter.shape)
    assert len(sizes) == len(train_sets)
    again = solve_logistic_cv(X, Y, train_sets, NILEARN_CS)
    np.testing.assert_array_equal(again.Cs, chosen.Cs)
    np.testing.assert_allclose(again.scores, chosen.scores, atol=1e-7)
    scale = np.abs(chosen.solutions.weights).max()
    np.testing.assert_allclose(again.solutions.weights, chosen.solutions.weights, atol=1e-10 * scale)


def test_choices_of_c_have_the_same_bits_at_every_call():
    X, Y, train_sets = simulated(n_labels=2)
    first, second = (solve_logistic_cv(X, Y, train_sets, NILEARN_CS) for _ in range(2))
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(first.solutions.weights, second.solutions.weights)
    # One label vector at a time: the others make no difference.
    alone = solve_logistic_cv(X, Y[:, 1], train_sets, NILEARN_CS)
    np.testing.assert_array_equal(alone.solutions.weights[:, :, 0], first.solutions.weights[:, :, 1])


def test_weights_outside_of_a_training_set_are_zero_after_the_choice_of_c():
    X, Y, train_sets = simulated(n_labels=1)
    solutions = solve_logistic_cv(X, Y, train_sets, NILEARN_CS).solutions
    np.testing.assert_allclose(solutions.weights.sum(axis=-1), solutions.intercepts)
    for train, weights in zip(train_sets, solutions.weights, strict=True):
        assert not weights[..., ~train].any()


def test_inner_decoders_that_did_not_converge_are_never_silent():
    X, Y, train_sets = simulated(n_labels=1)
    with pytest.warns(ConvergenceWarning, match="5 of 5 decoders did not converge"):
        chosen = solve_logistic_cv(X, Y, train_sets, NILEARN_CS, max_iter=1)
    assert not chosen.solutions.converged.any()


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
