"""Blocks: stretches of neighbouring volumes of one run that show the same condition."""

import numpy as np

NOTHING = ""  # the condition of volumes of which none is known


def find_blocks(conditions: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Give every block of a recording a number.

    Parameters
    ----------
    conditions : ndarray of shape (n_volumes,), str
    runs : ndarray of shape (n_volumes,), int

    Returns
    -------
    blocks : ndarray of shape (n_volumes,), int
        From 0, in the order of the recording; rest makes blocks, too.
    """
    starts = np.ones(len(conditions), dtype=bool)
    starts[1:] = (conditions[1:] != conditions[:-1]) | (runs[1:] != runs[:-1])
    return np.cumsum(starts) - 1


def shift_conditions(conditions: np.ndarray, runs: np.ndarray, lag: int) -> np.ndarray:
    """Move the conditions later in time, because the haemodynamic response follows what is shown.

    Parameters
    ----------
    conditions : ndarray of shape (n_volumes,), str
    runs : ndarray of shape (n_volumes,), int
    lag : int
        Volumes by which the response lags behind, from 0.

    Returns
    -------
    shifted : ndarray of shape (n_volumes,), str
        The first `lag` volumes of every run have the condition ``""``.
    """
    if lag == 0:
        return conditions
    shifted = np.full_like(conditions, NOTHING)
    for run in np.unique(runs):
        rows = np.flatnonzero(runs == run)
        shifted[rows[lag:]] = conditions[rows[:-lag]]
    return shifted


def trim_blocks(conditions: np.ndarray, runs: np.ndarray, first: int, last: int) -> np.ndarray:
    """Find the volumes that are not at the edge of their block.

    Parameters
    ----------
    conditions : ndarray of shape (n_volumes,), str
    runs : ndarray of shape (n_volumes,), int
    first, last : int
        Volumes that are left out at the beginning and at the end of every block.

    Returns
    -------
    kept : ndarray of shape (n_volumes,), bool
    """
    blocks = find_blocks(conditions, runs)
    sizes = np.bincount(blocks)
    first, last = (
        min(first, len(blocks)),
        min(last, len(blocks)),
    )  # larger numbers may exceed NumPy's integers
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
