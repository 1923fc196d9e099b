"""Ridge operators of stacked spheres give scikit-learn's decision values and left-out errors."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeCV

from harness.solvers.batched_ridge import SharedRidge, solve_ridge_stack

ALPHAS = np.array([1e-3, 1.0, 1e3])
OUT = np.r_[3:9, 14]


def draw(rng, n_voxels, n_spheres=4, n=30):
    X = rng.normal(size=(n_spheres, n_voxels, n))
    X -= X.mean(axis=2, keepdims=True)
    C = np.eye(4)[np.arange(n) % 4] * rng.choice([-1.0, 1.0], size=(n, 1))
    return X, rng.normal(size=(n_spheres, n_voxels, 5)), C, rng.choice([-1.0, 1.0], size=(4, 6))


def make_dependent(X):
    """Add a voxel that is the sum of two others but for 1e-9."""
    X[:, -1] = X[:, 0] + X[:, 1] + 1e-9 * X[:, -1]
    return X


def check(operators, X, T, C, Z, alphas, tolerance=1e-8):
    """Compare with one fit of scikit-learn per sphere, alpha and label vector."""
    for s, a in np.ndindex(len(X), len(alphas)):
        Y = C @ Z
        model = Ridge(alphas[a], solver="svd").fit(X[s].T, Y)
        np.testing.assert_allclose(
            operators.decisions[s, a] @ Z, model.predict(T[s].T), rtol=0, atol=tolerance
        )
        if len(alphas) == 1:
            assert operators.errors is None
            continue
        search = RidgeCV([alphas[a]], store_cv_results=True, gcv_mode="svd").fit(X[s].T, Y)
        expected = search.cv_results_[..., 0].sum(axis=0)
        found = ((operators.errors[s, a] @ Z) * Z).sum(axis=0)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("alphas", [ALPHAS, ALPHAS[1:2]], ids=["several alphas", "one alpha"])
@pytest.mark.parametrize("n_voxels", [1, 7, 40])
def test_operators_of_one_training_set(rng, n_voxels, alphas):
    X, T, C, Z = draw(rng, n_voxels)
    X += 5.0
    check(solve_ridge_stack(X, T, C, alphas), X, T, C, Z, alphas)


@pytest.mark.parametrize("alphas", [ALPHAS, ALPHAS[1:2]], ids=["several alphas", "one alpha"])
@pytest.mark.parametrize("n_voxels", [1, 7, 40])
@pytest.mark.parametrize("out", [OUT, slice(3, 9)], ids=["scattered", "consecutive"])
def test_operators_of_training_sets_that_share_their_samples(rng, n_voxels, alphas, out):
    X, T, C, Z = draw(rng, n_voxels)
    shared = SharedRidge.of(X, C)
    train = np.setdiff1d(np.arange(30), np.arange(30)[out])
    operators = shared.solve(out, np.arange(4), T, alphas)
    check(operators, X[:, :, train], T, C[train], Z, alphas)


def test_basis_vectors_that_are_not_used_are_left_out(rng):
    X, T, C, Z = draw(rng, 7)
    C[:, 2] = 0
    C[OUT[0], 2] = 1
    train = np.setdiff1d(np.arange(30), OUT)
    used = np.array([0, 1, 3])
    operators = SharedRidge.of(X, C).solve(OUT, used, T, ALPHAS)
    check(operators, X[:, :, train], T, C[train][:, used], Z[used], ALPHAS)


@pytest.mark.parametrize("alphas", [ALPHAS, ALPHAS[:1]], ids=["several alphas", "one alpha"])
def test_nearly_dependent_voxels_keep_their_digits(rng, alphas):
    X, T, C, Z = draw(rng, 7)
    X = 1e3 * make_dependent(X)
    T = 1e3 * make_dependent(T)
    train = np.setdiff1d(np.arange(30), OUT)
    check(solve_ridge_stack(X, T, C, alphas), X, T, C, Z, alphas, tolerance=1e-7)
    operators = SharedRidge.of(X, C).solve(OUT, np.arange(4), T, alphas)
    check(operators, X[:, :, train], T, C[train], Z, alphas, tolerance=1e-7)


@pytest.mark.parametrize("alphas", [ALPHAS, ALPHAS[:1]], ids=["several alphas", "one alpha"])
def test_an_outlier_in_the_samples_left_out_does_not_cost_digits(rng, alphas):
    X, T, C, Z = draw(rng, 7)
    X[:, :, OUT[0]] *= 1e6
    X -= X.mean(axis=2, keepdims=True)
    train = np.setdiff1d(np.arange(30), OUT)
    operators = SharedRidge.of(X, C).solve(OUT, np.arange(4), T, alphas)
    check(operators, X[:, :, train], T, C[train], Z, alphas)


@pytest.mark.parametrize("alphas", [ALPHAS, ALPHAS[1:2]], ids=["several alphas", "one alpha"])
@pytest.mark.parametrize("n_voxels", [1, 2, 7, 43])
def test_numbers_of_a_sphere_do_not_depend_on_the_others(rng, n_voxels, alphas):
    X, T, C, _ = draw(rng, n_voxels, n_spheres=9, n=60)
    together = SharedRidge.of(X, C).solve(slice(3, 9), np.arange(4), T, alphas)
    apart = solve_ridge_stack(X, T, C, alphas)
    for part in (slice(2, 3), slice(4, 9)):
        single = SharedRidge.of(X[part].copy(), C).solve(slice(3, 9), np.arange(4), T[part].copy(), alphas)
        assert np.array_equal(single.decisions, together.decisions[part])
        alone = solve_ridge_stack(X[part].copy(), T[part].copy(), C, alphas)
        assert np.array_equal(alone.decisions, apart.decisions[part])
        if len(alphas) > 1:
            assert np.array_equal(single.errors, together.errors[part])
            assert np.array_equal(alone.errors, apart.errors[part])
