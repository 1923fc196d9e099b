"""Label vectors are products of few basis vectors."""

import numpy as np
import pytest

from harness.searchlight.label_basis import find_label_basis, merge_opposite_columns


@pytest.mark.parametrize("n_labels", [1, 2, 300])
def test_basis_times_coefficients_are_the_labels(rng, n_labels):
    labels = rng.random((30, n_labels)) < 0.5
    labels[10:20] = ~labels[:10]
    C, Y = find_label_basis(labels), np.where(labels, 1.0, -1.0)
    Z = np.linalg.lstsq(C, Y)[0]
    np.testing.assert_allclose(C @ Z, Y, rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.abs(Z), 1, rtol=0, atol=1e-12)
    assert np.array_equal(np.abs(C).sum(axis=1), np.ones(30))
    assert C.shape[1] <= 20


def test_two_blocks_that_are_exchanged_within_scanner_runs_share_a_basis_vector(rng):
    """12 scanner runs with a block of each class, 2048 relabellings: 12 basis vectors."""
    blocks = np.repeat(np.where(rng.random(12) < 0.5, 1, -1)[:, None] * [1, -1], 9, axis=1).ravel()
    swaps = np.where(rng.random((12, 2048)) < 0.5, 1, -1)
    C = find_label_basis(blocks[:, None] * np.repeat(swaps, 18, axis=0) > 0)
    assert C.shape == (216, 12)
    assert np.array_equal(np.abs(C), np.repeat(np.abs(C)[::18], 18, axis=0))


def test_merged_columns_are_found_again(rng):
    A = rng.random((4, 60)) < 0.5
    distinct, place, opposite = merge_opposite_columns(A)
    assert np.array_equal(distinct[:, place] ^ opposite, A)
    patterns = {min(tuple(column), tuple(~np.array(column))) for column in A.T.tolist()}
    assert distinct.shape[1] == len(patterns) == 8
    assert place[0] == 0
