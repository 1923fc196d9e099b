"""Discriminant analysis under many labellings is that of scikit-learn under each of them."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from harness.solvers.batched_discriminant import CHUNK, find_blocks_of_labels, fit_discriminants


def draw(rng, n_classes, n_voxels, n_labellings=5, n_blocks=12, length=4):
    X = rng.normal(size=(n_blocks * length, n_voxels)) @ rng.normal(size=(n_voxels, n_voxels)) + 3.0
    codes = [rng.permutation(np.arange(n_blocks) % n_classes).repeat(length) for _ in range(n_labellings)]
    return X, np.array(codes)


def check(X, codes, n_classes, offset_of_ours=0.0):
    coef, intercept = fit_discriminants(X + offset_of_ours, find_blocks_of_labels(codes, n_classes))
    for row, y in enumerate(codes):
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(X, y)
        found, offset = coef[row], intercept[row]
        if n_classes == 2:
            found, offset = found[1:] - found[:1], offset[1:] - offset[:1]
        np.testing.assert_allclose(
            (X + offset_of_ours) @ found.T + offset,
            X @ model.coef_.T + model.intercept_,
            rtol=1e-8,
            atol=1e-8,
        )


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("n_voxels", [1, 6, 60], ids=["one voxel", "few voxels", "more voxels than samples"])
def test_decision_values_are_those_of_scikit_learn(rng, n_classes, n_voxels):
    check(*draw(rng, n_classes, n_voxels), n_classes)


def test_many_labellings_are_fitted_in_parts(rng):
    check(*draw(rng, 2, 3, n_labellings=CHUNK + 3), 2)


def test_labels_that_differ_within_blocks(rng):
    X, codes = draw(rng, 2, 5, n_blocks=48, length=1)
    check(X, codes, 2)


@pytest.mark.parametrize("noise", [0.0, 1e-9, 1e-3])
def test_a_voxel_that_is_nearly_constant_in_a_class(rng, noise):
    X, codes = draw(rng, 2, 5, n_labellings=1)
    X[codes[0] == 1, 2] = 7.0 + noise * rng.normal(size=(codes[0] == 1).sum())
    check(X, codes, 2)


def test_an_offset_that_is_large_against_the_variance(rng):
    X, codes = draw(rng, 2, 5)
    check(X, codes, 2, offset_of_ours=1e4)
