"""Blocks: expected values by hand."""

import numpy as np
import pytest

from harness.samples.blocks import average_blocks, find_blocks, shift_conditions, trim_blocks

SHOWN = np.array(["rest", "face", "face", "face", "cat", "cat", "cat", "cat", "face", "face"])
RUNS = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])


def test_block_ends_with_its_condition_and_with_its_run():
    assert find_blocks(SHOWN, RUNS).tolist() == [0, 1, 1, 1, 2, 2, 3, 3, 4, 4]


def test_lag_moves_conditions_within_their_run():
    shifted = shift_conditions(SHOWN, RUNS, 2)
    assert shifted.tolist() == ["", "", "rest", "face", "face", "face", "", "", "cat", "cat"]
    np.testing.assert_array_equal(shift_conditions(SHOWN, RUNS, 0), SHOWN)


def test_lag_as_long_as_a_run_leaves_no_condition():
    assert set(shift_conditions(SHOWN, RUNS, 6).tolist()) == {""}


@pytest.mark.parametrize(
    ("first", "last", "kept"),
    [
        (0, 0, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        (1, 0, [0, 0, 1, 1, 0, 1, 0, 1, 0, 1]),
        (1, 1, [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_trimming_removes_the_edges_of_blocks(first, last, kept):
    assert trim_blocks(SHOWN, RUNS, first, last).astype(int).tolist() == kept


def test_average_of_every_block(rng):
    X = rng.normal(size=(10, 3)).astype(np.float32)
    means, first = average_blocks(X, find_blocks(SHOWN, RUNS))
    assert first.tolist() == [0, 1, 4, 6, 8]
    expected = [X[:1].mean(0), X[1:4].mean(0), X[4:6].mean(0), X[6:8].mean(0), X[8:].mean(0)]
    np.testing.assert_allclose(means, expected, rtol=1e-6)
    assert means.dtype == np.float32
