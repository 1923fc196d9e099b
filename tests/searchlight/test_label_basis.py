"""Label vectors are products of few basis vectors."""

import numpy as np
import pytest

from harness.searchlight.label_basis import find_label_basis, merge_opposite_columns


@pytest.mark.parametrize("n_labels", [1, 2, 300])
def test_basis_times_coefficients_are_the_labels(rng, n_labels):
    Y = np.where(rng.random((30, n_labels)) < 0.5, 1, -1)
    Y[10:20] = -Y[:10]
    basis = find_label_basis(Y)
    assert np.array_equal(basis.C @ basis.Z, Y)
    assert np.array_equal(np.abs(basis.C).sum(axis=1), np.ones(30))


def test_two_blocks_that_are_exchanged_within_scanner_runs_share_a_basis_vector(rng):
    """12 scanner runs with a block of each class, 2048 relabellings: 12 basis vectors."""
    blocks = np.repeat(np.where(rng.random(12) < 0.5, 1, -1)[:, None] * [1, -1], 9, axis=1).ravel()
    swaps = np.where(rng.random((12, 2048)) < 0.5, 1, -1)
    basis = find_label_basis(blocks[:, None] * np.repeat(swaps, 18, axis=0))
    assert basis.C.shape == (216, 12)
    assert np.array_equal(np.abs(basis.C), np.repeat(np.abs(basis.C)[::18], 18, axis=0))


def test_merged_columns_are_found_again(rng):
    A = rng.random((4, 60)) < 0.5
    distinct, place, opposite = merge_opposite_columns(A)
    assert np.array_equal(distinct[:, place] ^ opposite, A)
    patterns = {min(tuple(column), tuple(~np.array(column))) for column in A.T.tolist()}
    assert distinct.shape[1] == len(patterns) == 8
    assert place[0] == 0
