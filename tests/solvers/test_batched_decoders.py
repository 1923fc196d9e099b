"""Decoders of all folds and label vectors together, against single ones and optimality conditions."""

import numpy as np
import pytest
from hypothesis import given
from optima import SOLVERS, distance_to_optimum, problems

from harness.solvers.batched_decoders import (
    SHARED_FROM,
    BatchedClassifier,
    DecoderNumbers,
    LogisticCVClassifier,
)
from harness.solvers.estimators import ExactLogisticRegressionCV
from harness.solvers.training_units import find_training_units

NAMES = {"squared_hinge": "squared hinge", "logistic": "logistic"}


def every_decoder(n_folds, n_labels):
    return DecoderNumbers(np.repeat(np.arange(n_folds), n_labels), np.tile(np.arange(n_labels), n_folds))


def simulate(rng, n_samples, n_voxels, n_labels, n_folds):
    X = rng.standard_normal((n_samples, n_voxels)) @ rng.standard_normal((n_voxels, n_voxels)) / n_voxels**0.5
    Y = np.where(rng.random((n_labels, n_samples)) < 0.5, 1.0, -1.0)
    X += 0.5 * Y[0][:, np.newaxis] * rng.standard_normal(n_voxels)
    train = np.arange(n_samples) % n_folds != np.arange(n_folds)[:, np.newaxis]
    return X, Y, train


@pytest.mark.parametrize("loss", NAMES)
@pytest.mark.parametrize(
    ("n_voxels", "n_labels", "n_folds"),
    [(12, 1, 6), (12, 1, 1), (12, SHARED_FROM, 3), (70, 2, 5), (150, 2, 3)],
    ids=["one label vector", "one fold", "many label vectors", "many voxels", "more voxels than samples"],
)
def test_decoders_equal_those_that_are_solved_one_by_one(rng, loss, n_voxels, n_labels, n_folds):
    X, Y, train = simulate(rng, 120, n_voxels, n_labels, max(n_folds, 2))
    train = train[:n_folds]
    numbers = every_decoder(n_folds, n_labels)
    W, unconverged = BatchedClassifier(loss, 0.7).fit(X, Y, train, numbers)
    single = SOLVERS[NAMES[loss]](X, Y.T, list(train), [0.7])
    expected = np.concatenate([single.coef(X)[:, 0], single.intercepts[:, 0, :, np.newaxis]], axis=2)
    assert unconverged == 0
    errors = np.linalg.norm(W - expected.reshape(W.shape), axis=1) / np.linalg.norm(W, axis=1)
    assert errors.max() < 1e-8


@pytest.mark.parametrize("loss", NAMES)
@pytest.mark.parametrize(
    ("n_voxels", "n_labels", "n_folds"),
    [(12, 1, 6), (12, SHARED_FROM, 3), (70, 2, 5), (150, 2, 3)],
    ids=["one label vector", "many label vectors", "many voxels", "more voxels than samples"],
)
def test_folds_that_standardise_by_themselves_are_as_if_each_had_its_own_samples(
    rng, loss, n_voxels, n_labels, n_folds
):
    X, Y, train = simulate(rng, 120, n_voxels, n_labels, n_folds)
    X = 1000 + 20 * X + rng.standard_normal(n_folds)[np.arange(120) % n_folds, np.newaxis]
    shared = (X - X.mean(axis=0)) / X.std(axis=0, ddof=1)
    units = find_training_units(shared, train)
    W, unconverged = BatchedClassifier(loss, 0.7).fit(
        shared, Y, train, every_decoder(n_folds, n_labels), units
    )
    assert unconverged == 0
    for number, (rows, y) in enumerate((rows, y) for rows in train for y in Y):
        explicit = (X[rows] - X[rows].mean(axis=0)) / X[rows].std(axis=0, ddof=1)
        assert distance_to_optimum(explicit, y[rows], 0.7, W[number], NAMES[loss]) < 1e-8


@pytest.mark.parametrize("loss", NAMES)
def test_only_the_decoders_that_are_listed_are_trained_in_their_order(rng, loss):
    X, Y, train = simulate(rng, 60, 8, 5, 4)
    numbers = DecoderNumbers(np.array([3, 0, 2]), np.array([1, 4, 1]))
    W, _ = BatchedClassifier(loss, 1.0).fit(X, Y, train, numbers)
    for w, fold, label in zip(W, numbers.folds, numbers.labels, strict=True):
        rows = train[fold]
        assert distance_to_optimum(X[rows], Y[label, rows], 1.0, w, NAMES[loss]) < 1e-8


@pytest.mark.parametrize("loss", NAMES)
@pytest.mark.parametrize("n_copies", [1, SHARED_FROM])
@given(problem=problems())
def test_decoders_are_optimal(loss, n_copies, problem):
    X, y, C = problem
    Y, train = np.tile(y, (n_copies, 1)), np.ones((1, len(y)), dtype=bool)
    W, unconverged = BatchedClassifier(loss, C).fit(X, Y, train, every_decoder(1, n_copies))
    assert unconverged == 0
    assert distance_to_optimum(X, y, C, W[-1], NAMES[loss]) < 2e-8


@pytest.mark.parametrize("loss", NAMES)
def test_badly_scaled_voxels_are_solved_again_to_full_accuracy(rng, loss):
    X, Y, train = simulate(rng, 60, 8, 1, 4)
    X[:, 0] += 1e7
    W, unconverged = BatchedClassifier(loss, 1.0).fit(X, Y, train, every_decoder(4, 1))
    assert unconverged == 0
    for w, rows in zip(W, train, strict=True):
        assert distance_to_optimum(X[rows], Y[0, rows], 1.0, w, NAMES[loss]) < 1e-8


@pytest.mark.parametrize("loss", NAMES)
def test_decoders_that_do_not_converge_are_counted(rng, loss):
    X, Y, train = simulate(rng, 60, 8, 2, 4)
    _, unconverged = BatchedClassifier(loss, 1e3, max_iter=1).fit(X, Y, train[:1], every_decoder(1, 2))
    assert unconverged == 2


def test_c_is_chosen_inside_every_training_set(rng):
    X, Y, train = simulate(rng, 60, 8, 2, 3)
    Cs = np.array([1e-3, 1e-1, 10.0])
    W, unconverged = LogisticCVClassifier(Cs, n_folds=4).fit(X, Y, train, every_decoder(3, 2))
    assert unconverged == 0
    for number, (rows, y) in enumerate((rows, y) for rows in train for y in Y):
        model = ExactLogisticRegressionCV(Cs, cv=4).fit(X[rows], y[rows])
        expected = np.append(model.coef_, model.intercept_)
        np.testing.assert_allclose(W[number], expected, rtol=0, atol=1e-8 * np.linalg.norm(expected))
