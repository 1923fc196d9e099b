"""Squared hinge and logistic decoders are the optimum of liblinear's objective, in both spaces."""

import numpy as np
import pytest
from hypothesis import given, settings
from optima import (
    GRAM_SOLVERS,
    SLOPES,
    SOLVERS,
    augment,
    distance_to_optimum,
    joined,
    problems,
    simulated,
)
from sklearn.exceptions import ConvergenceWarning

from harness.solvers.spaces import compute_gram


@pytest.mark.parametrize("space", ["dual", "primal"])
@pytest.mark.parametrize("loss", SOLVERS)
@settings(max_examples=20, deadline=None)
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


@settings(max_examples=8, deadline=None)
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


@pytest.mark.parametrize("space", ["dual", "primal"])
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


@pytest.mark.parametrize("loss", SOLVERS)
def test_training_sets_with_repeated_samples_do_not_disturb_the_others(loss):
    X, Y, _ = simulated(n_labels=2)
    X[30:] = X[:30]
    train_sets = [np.arange(30), np.arange(10, 50), np.arange(20, 45), np.arange(60)]
    Cs = [100.0, 0.1]
    solutions = SOLVERS[loss](X, Y, train_sets, Cs, space="dual")
    for i, train in enumerate(train_sets):
        assert not np.delete(solutions.weights[i], train, axis=-1).any()
        for k, C in enumerate(Cs):
            for j, y in enumerate(Y.T):
                w = joined(solutions, X, i, k, j)
                assert distance_to_optimum(X[train], y[train], C, w, loss) < 1e-8
                np.testing.assert_allclose(solutions.decisions[i, k, j], augment(X) @ w, atol=1e-7)


@pytest.mark.parametrize("loss", SOLVERS)
def test_both_spaces_the_gram_matrix_and_single_problems_agree(loss):
    X, Y, train_sets = simulated()
    Cs = [100.0, 0.01, 1.0]
    samples = SOLVERS[loss](X, Y, train_sets, Cs, space="dual")
    voxels = SOLVERS[loss](X, Y, train_sets, Cs, space="primal")
    gram = GRAM_SOLVERS[loss](compute_gram(X), Y, train_sets, Cs)
    assert samples.space == "dual" and voxels.space == "primal"
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
    solutions = SOLVERS[loss](X, y, [train], [C], space="dual")
    slopes = y * SLOPES[loss](C, y * solutions.decisions[0, 0, 0])
    np.testing.assert_allclose(solutions.weights[0, 0, 0, train], slopes[train], atol=1e-10)
    assert not solutions.weights[0, 0, 0, ~train].any()
    assert solutions.intercepts[0, 0, 0] == pytest.approx(slopes[train].sum(), abs=1e-10)


@pytest.mark.parametrize("loss", SOLVERS)
@pytest.mark.parametrize("space", ["dual", "primal"])
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
