"""Ridge operators of stacked spheres give scikit-learn's decision values and left-out errors."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeCV

from harness.solvers.batched_ridge import SharedRidge

ALPHAS = np.array([1e-3, 1.0, 1e3])
OUT = np.r_[3:9, 14]


def draw(rng, n_voxels, n_spheres=4, n=30):
    X = rng.normal(size=(n_spheres, n_voxels, n))
    C = np.eye(4)[np.arange(n) % 4] * rng.choice([-1.0, 1.0], size=(n, 1))
    return X, rng.normal(size=(n_spheres, n_voxels, 5)), C, rng.choice([-1.0, 1.0], size=(4, 6))


def make_dependent(X):
    """Add a voxel that is the sum of two others but for 1e-9."""
    X[:, -1] = X[:, 0] + X[:, 1] + 1e-9 * X[:, -1]
    return X


def solve(X, T, C, alphas, out=OUT, used=None, standardised=False):
    """Return operators from centred samples, as a searchlight does."""
    means = X.mean(axis=2, keepdims=True)
    training = SharedRidge.of(X - means, C).leave_out(out, standardised=standardised)
    return training.solve(np.arange(4) if used is None else used, training.transform(T - means), alphas)


def standardise(X, out):
    """Return samples by the moments of the training samples; the SD of constant voxels is 1."""
    training = np.delete(X, out, axis=2)
    scale = training.std(axis=2, ddof=1, keepdims=True)
    constant = (training == training[:, :, :1]).all(axis=2, keepdims=True)
    return (X - training.mean(axis=2, keepdims=True)) / np.where(constant, 1.0, scale)


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
@pytest.mark.parametrize("out", [OUT, slice(3, 9)], ids=["scattered", "consecutive"])
def test_operators_of_training_sets_that_share_their_samples(rng, n_voxels, alphas, out):
    X, T, C, Z = draw(rng, n_voxels)
    X += 5.0
    train = np.delete(np.arange(30), out)
    check(solve(X, T, C, alphas, out), X[:, :, train], T, C[train], Z, alphas)


@pytest.mark.parametrize("alphas", [ALPHAS, ALPHAS[1:2]], ids=["several alphas", "one alpha"])
@pytest.mark.parametrize("n_voxels", [1, 7, 40])
@pytest.mark.parametrize("out", [OUT, slice(3, 9)], ids=["scattered", "consecutive"])
def test_standardised_samples_are_as_if_divided_by_their_deviations(rng, n_voxels, alphas, out):
    """Values of unprocessed images: means about 1000, SD from 2 to 200."""
    X, _, C, Z = draw(rng, n_voxels)
    X = 1000 + X * 20 * 10 ** rng.uniform(-1, 1, size=(4, n_voxels, 1))
    explicit = standardise(X, out)
    train = np.delete(np.arange(30), out)
    operators = solve(X, X[:, :, out], C, alphas, out, standardised=True)
    check(operators, explicit[:, :, train], explicit[:, :, out], C[train], Z, alphas, tolerance=1e-10)


@pytest.mark.parametrize("alphas", [ALPHAS, ALPHAS[:1]], ids=["several alphas", "one alpha"])
def test_voxels_that_are_constant_in_training_have_no_weight(rng, alphas):
    X, _, C, Z = draw(rng, 7)
    train = np.delete(np.arange(30), OUT)
    X = 1000 + 20 * X
    X[1, 3, train] = 700.1
    X[2, 5] = 0.3
    explicit = standardise(X, OUT)
    operators = solve(X, X[:, :, OUT], C, alphas, standardised=True)
    # The weight of a voxel that is 0 in training is 0, whatever its held-out values.
    check(operators, explicit[:, :, train], explicit[:, :, OUT], C[train], Z, alphas, tolerance=1e-10)


@pytest.mark.parametrize("alphas", [ALPHAS, ALPHAS[:1]], ids=["several alphas", "one alpha"])
def test_voxels_that_hardly_vary_in_training_keep_their_digits(rng, alphas):
    X, _, C, Z = draw(rng, 7)
    train = np.delete(np.arange(30), OUT)
    X[:, 2, train] *= 1e-6
    explicit = standardise(X, OUT)
    operators = solve(X, X[:, :, train[:3]], C, alphas, standardised=True)
    check(operators, explicit[:, :, train], explicit[:, :, train[:3]], C[train], Z, alphas)


@pytest.mark.parametrize("standardised", [False, True])
def test_basis_vectors_that_are_not_used_are_left_out(rng, standardised):
    X, _, C, Z = draw(rng, 7)
    C[:, 2] = 0
    C[OUT[0], 2] = 1
    train = np.delete(np.arange(30), OUT)
    used = np.array([0, 1, 3])
    operators = solve(X, X[:, :, :5], C, ALPHAS, used=used, standardised=standardised)
    like = standardise(X, OUT) if standardised else X
    check(operators, like[:, :, train], like[:, :, :5], C[train][:, used], Z[used], ALPHAS)


@pytest.mark.parametrize("alphas", [ALPHAS, ALPHAS[:1]], ids=["several alphas", "one alpha"])
@pytest.mark.parametrize("standardised", [False, True])
def test_nearly_dependent_voxels_keep_their_digits(rng, alphas, standardised):
    X, T, C, Z = draw(rng, 7)
    X = 1e3 * make_dependent(X)
    T = 1e3 * make_dependent(T)
    train = np.delete(np.arange(30), OUT)
    operators = solve(X, T, C, alphas, standardised=standardised)
    if standardised:
        both = standardise(np.concatenate([X, T], axis=2), np.r_[OUT, 30:35])
        X, T = both[:, :, :30], both[:, :, 30:]
    check(operators, X[:, :, train], T, C[train], Z, alphas, tolerance=1e-7)


@pytest.mark.parametrize("alphas", [ALPHAS, ALPHAS[:1]], ids=["several alphas", "one alpha"])
@pytest.mark.parametrize("standardised", [False, True])
def test_an_outlier_in_the_samples_left_out_does_not_cost_digits(rng, alphas, standardised):
    X, _, C, Z = draw(rng, 7)
    X[:, :, OUT[0]] *= 1e6
    train = np.delete(np.arange(30), OUT)
    operators = solve(X, X[:, :, train[:3]], C, alphas, standardised=standardised)
    X = standardise(X, OUT) if standardised else X
    check(operators, X[:, :, train], X[:, :, train[:3]], C[train], Z, alphas)


@pytest.mark.parametrize("alphas", [ALPHAS, ALPHAS[1:2]], ids=["several alphas", "one alpha"])
@pytest.mark.parametrize("n_voxels", [1, 2, 7, 43])
@pytest.mark.parametrize("standardised", [False, True])
def test_numbers_of_a_sphere_do_not_depend_on_the_others(rng, n_voxels, alphas, standardised):
    X, T, C, _ = draw(rng, n_voxels, n_spheres=9, n=60)
    together = solve(X, T, C, alphas, slice(3, 9), standardised=standardised)
    for part in (slice(2, 3), slice(4, 9)):
        single = solve(X[part].copy(), T[part].copy(), C, alphas, slice(3, 9), standardised=standardised)
        assert np.array_equal(single.decisions, together.decisions[part])
        if len(alphas) > 1:
            assert np.array_equal(single.errors, together.errors[part])
