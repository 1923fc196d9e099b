"""Blocks: consecutive volumes of one run with the same condition."""

import numpy as np

NO_CONDITION = ""


def find_blocks(conditions: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Return the number of the block of every volume, from 0; rest forms blocks, too."""
    starts = np.ones(len(conditions), dtype=bool)
    starts[1:] = (conditions[1:] != conditions[:-1]) | (runs[1:] != runs[:-1])
    return np.cumsum(starts) - 1


def shift_conditions(conditions: np.ndarray, runs: np.ndarray, lag: int) -> np.ndarray:
    """Delay the conditions by `lag` volumes, as the haemodynamic response is delayed.

    The first `lag` volumes of every run have the condition ``""``.
    """
    if lag == 0:
        return conditions
    shifted = np.full_like(conditions, NO_CONDITION)
    for run in np.unique(runs):
        rows = np.flatnonzero(runs == run)
        shifted[rows[lag:]] = conditions[rows[:-lag]]
    return shifted


def trim_blocks(conditions: np.ndarray, runs: np.ndarray, first: int, last: int) -> np.ndarray:
    """Return which volumes are not among the `first` and the `last` of their block, as booleans."""
    blocks = find_blocks(conditions, runs)
    sizes = np.bincount(blocks)
    first, last = (min(n, len(blocks)) for n in (first, last))  # larger numbers may exceed NumPy's integers
    position = np.arange(len(blocks)) - (np.cumsum(sizes) - sizes)[blocks]
    return (position >= first) & (position < sizes[blocks] - last)


def average_blocks(X: np.ndarray, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average the volumes of every block.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)
    blocks : ndarray of shape (n_samples,), int
        Block of every sample.

    Returns
    -------
    means : ndarray of shape (n_blocks, n_voxels), of the dtype of `X`
    first : ndarray of shape (n_blocks,), int
        The first sample of every block, in the order of the recording.
    """
    _, first, block = np.unique(blocks, return_index=True, return_inverse=True)
    sums = np.zeros((len(first), X.shape[1]), dtype=np.float64)
    np.add.at(sums, block, X)
    return (sums / np.bincount(block)[:, np.newaxis]).astype(X.dtype), first
