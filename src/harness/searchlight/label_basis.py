"""Label vectors written in few basis vectors, for decoders that are linear in the labels."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def find_label_basis(labels: NDArray[np.bool_]) -> Array:
    """Return a basis C of label vectors Y, with few columns: Y = C Z, where all entries of Y and Z are +-1.

    Samples that have the same, or always the opposite, label in all vectors share a basis vector. Two classes
    whose blocks are exchanged within scanner runs need one per scanner run, whatever the number of volumes.

    Parameters
    ----------
    labels : ndarray of shape (n_samples, n_labels), bool
        Where Y is +1.

    Returns
    -------
    C : ndarray of shape (n_samples, n_basis)
        One entry of -1 or +1 per row, the others 0.
    """
    flipped = ~labels[:, 0]
    distinct, basis = np.unique(labels ^ flipped[:, np.newaxis], axis=0, return_inverse=True)
    C = np.zeros((len(labels), len(distinct)))
    C[np.arange(len(labels)), basis.ravel()] = np.where(flipped, -1.0, 1.0)
    return C


def merge_opposite_columns(
    A: NDArray[np.bool_],
) -> tuple[NDArray[np.bool_], NDArray[np.intp], NDArray[np.bool_]]:
    """Return the columns of a matrix that differ from all others and from their opposites.

    Parameters
    ----------
    A : ndarray of shape (n_rows, n_columns), bool
        With at least one row.

    Returns
    -------
    distinct : ndarray of shape (n_rows, n_distinct), bool
    place : ndarray of shape (n_columns,), int
        Where each column of A is in `distinct`.
    opposite : ndarray of shape (n_columns,), bool
        Whether it is the opposite of that.
    """
    opposite = ~A[0]
    packed = np.packbits(A ^ opposite, axis=0)
    _, first, place = np.unique(packed.T, axis=0, return_index=True, return_inverse=True)
    place = place.ravel()
    # In the order in which they appear: the first label vector, the true one, stays first.
    order = np.argsort(first)
    return (A ^ opposite)[:, first[order]], np.argsort(order)[place], opposite
