"""Validation of the solvers' arguments; each function raises ValueError."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.solvers.cholesky import Array


def check_labels(Y: ArrayLike, n_samples: int) -> Array:
    """Return Y as (n_samples, n_labels) in float64; every entry must be -1 or +1."""
    Y = np.asarray(Y, dtype=np.float64)
    Y = Y[:, None] if Y.ndim == 1 else Y
    if Y.ndim != 2 or len(Y) != n_samples:
        raise ValueError(f"Y must have shape ({n_samples},) or ({n_samples}, n_labels), got {Y.shape}.")
    if not np.isin(Y, (-1.0, 1.0)).all():
        raise ValueError("Y must hold -1 and +1 only.")
    return Y


def check_train_sets(train_sets: Sequence[ArrayLike], Y: Array) -> list[NDArray[np.intp]]:
    """Return the training sets as indices; each must hold both classes of every label vector."""
    sets = []
    for i, train in enumerate(train_sets):
        indices = np.arange(len(Y))[np.asarray(train)]
        if len(np.unique(indices)) != len(indices):
            raise ValueError(f"Training set {i} contains a sample twice.")
        totals = np.abs(Y[indices].sum(axis=0))
        if (totals == len(indices)).any():
            j = int(np.argmax(totals == len(indices)))
            raise ValueError(
                f"Training set {i} holds only one class of label vector {j}; both classes are needed."
            )
        sets.append(indices)
    return sets


def check_penalties(values: ArrayLike, name: str) -> Array:
    """Return the values of C or alpha as (n_values,) in float64; all must be finite and above 0."""
    values = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if values.ndim != 1 or not len(values) or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"{name} must be positive and finite, got {values.tolist()}.")
    return values


def check_matrix(A: ArrayLike, name: str) -> Array:
    """Return A in float64; it must be a matrix of finite numbers."""
    A = np.asarray(A, dtype=np.float64)
    if A.ndim != 2 or not np.isfinite(A).all():
        raise ValueError(f"{name} must be a matrix of finite numbers.")
    return A


def check_gram(K: ArrayLike) -> Array:
    """Return K in float64; it must be a square matrix of finite numbers."""
    K = check_matrix(K, "K")
    if K.shape[0] != K.shape[1]:
        raise ValueError(f"K must be square, got shape {K.shape}.")
    return K
