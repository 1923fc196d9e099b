"""Samples in the units of training sets, against samples that are standardised one by one."""

import numpy as np
import pytest

from harness.solvers.training_units import find_training_units


@pytest.fixture
def sets(rng):
    """Raw values, three training sets, and the values standardised by each, with a column of ones."""
    X = 1000 + 20 * rng.standard_normal((30, 5)) * rng.uniform(0.5, 2, 5)
    train = np.arange(30) % 3 != np.arange(3)[:, np.newaxis]
    explicit = [(X - X[rows].mean(axis=0)) / X[rows].std(axis=0, ddof=1) for rows in train]
    return X, train, np.array([np.column_stack([values, np.ones(30)]) for values in explicit])


def standardise(X):
    return (X - X.mean(axis=0)) / X.std(axis=0, ddof=1)


def share(X, train):
    shared = standardise(X)
    return np.column_stack([shared, np.ones(len(X))]), find_training_units(shared, train)


def test_samples_can_be_taken_in_the_units_of_a_fold(sets):
    X, train, explicit = sets
    shared, units = share(X, train)
    for fold in range(3):
        np.testing.assert_allclose(units.standardise(shared, fold), explicit[fold], rtol=0, atol=1e-11)
        without_ones = units.standardise(shared[:, :-1], fold)
        np.testing.assert_allclose(without_ones, explicit[fold][:, :-1], rtol=0, atol=1e-11)


def test_decision_values_and_sums_are_those_of_standardised_samples(sets, rng):
    X, train, explicit = sets
    shared, units = share(X, train)
    W, S, H = rng.standard_normal((3, 6)), rng.standard_normal((3, 30)), rng.random((3, 30))
    np.testing.assert_allclose(
        units.weigh_samples(W) @ shared.T, np.einsum("fij,fj->fi", explicit, W), atol=1e-10
    )
    np.testing.assert_allclose(
        units.convert_sums(S @ shared), np.einsum("fij,fi->fj", explicit, S), atol=1e-10
    )
    products = units.convert_products(np.tril(np.einsum("fi,ij,ik->fjk", H, shared, shared)))
    expected = np.einsum("fi,fij,fik->fjk", H, explicit, explicit)
    np.testing.assert_allclose(np.tril(products), np.tril(expected), atol=1e-10)
    np.testing.assert_allclose(units.square_lengths(shared), (explicit**2).sum(axis=2), rtol=1e-10)


def test_units_of_some_decoders_are_rows(sets):
    X, train, explicit = sets
    shared, units = share(X, train)
    some = units.take(np.array([2, 0, 2]))
    np.testing.assert_allclose(some.standardise(shared, 0), explicit[2], rtol=0, atol=1e-11)
    np.testing.assert_allclose(some.standardise(shared, 1), explicit[0], rtol=0, atol=1e-11)


@pytest.mark.parametrize("factor", [0.0, 0.3], ids=["constant", "hardly varying"])
def test_voxels_that_vary_less_in_a_training_set_are_refused(sets, factor):
    X, train, _ = sets
    X = X - X.mean(axis=0)
    X[train[1], 2] *= factor
    X[~train[1], 2] *= 3
    assert find_training_units(standardise(X), train) is None


def test_constant_voxels_are_refused(sets):
    X, train, _ = sets
    X = standardise(X)
    X[:, 2] = 1e-13  # what rounding of the mean leaves
    assert find_training_units(X, train) is None
