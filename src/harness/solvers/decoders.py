"""Linear decoders of several training sets, as the solvers return them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.solvers.cholesky import Array
from harness.solvers.threads import one_blas_thread


@dataclass(frozen=True)
class LinearDecoders:
    """Linear decoders f = X w + b: one per training set, penalty and label vector.

    Attributes
    ----------
    space : {"dual", "primal"}
        What `weights` are.
    weights : ndarray of shape (n_sets, n_Cs, n_labels, n_samples) or (n_sets, n_Cs, n_labels, n_voxels)
        In dual space the dual coefficients, zero outside the training set: w = X^T weights and
        f = K weights + b. In primal space w itself.
    intercepts : ndarray of shape (n_sets, n_Cs, n_labels)
        b.
    decisions : ndarray of shape (n_sets, n_Cs, n_labels, n_samples)
        f for ALL samples, inside and outside the training set.
    """

    space: Literal["dual", "primal"]
    weights: Array
    intercepts: Array
    decisions: Array

    def coef(self, X: ArrayLike) -> Array:
        """Return w, of shape (n_sets, n_Cs, n_labels, n_voxels), from the samples that were solved for."""
        if self.space == "primal":
            return self.weights
        with one_blas_thread():
            return self.weights @ np.asarray(X, dtype=np.float64)


@dataclass(frozen=True)
class SolvedDecoders(LinearDecoders):
    """Decoders from an iteration, with a bound of their error; all arrays as `intercepts`.

    Attributes
    ----------
    gradients : ndarray of shape (n_sets, n_Cs, n_labels)
        Norm of the gradient, relative to its bound at w = 0 (`NewtonResult.gradient`).
    steps : ndarray of shape (n_sets, n_Cs, n_labels)
        Bound of the relative error of (w, b), that of rounding included (`NewtonResult.step`).
    n_iter : ndarray of int of shape (n_sets, n_Cs, n_labels)
        Newton steps.
    converged : ndarray of bool of shape (n_sets, n_Cs, n_labels)
        Where it is False, the solver has also issued a ConvergenceWarning.
    """

    gradients: Array
    steps: Array
    n_iter: NDArray[np.intp]
    converged: NDArray[np.bool_]


@dataclass(frozen=True)
class InnerScores:
    """Scores inside the training sets, by which a classifier with a search of its own chooses its penalty.

    Attributes
    ----------
    name : str
        What they are, as scikit-learn would name it; larger is better.
    penalties : ndarray of shape (n_penalties,)
    scores : ndarray of shape (n_sets, n_labels, n_penalties)
    """

    name: str
    penalties: Array
    scores: Array


@dataclass(frozen=True)
class CandidateDecoders:
    """The decoders that a classifier tries on several training sets, and the penalty of each.

    Attributes
    ----------
    parameter : {"C", "alpha"} or None
        What the values are; None for a classifier without a penalty.
    values : ndarray of shape (n_sets, n_values, n_labels), or None
    inner : InnerScores or None
        By which a classifier with a search of its own has chosen its value.
    """

    decoders: LinearDecoders
    parameter: str | None = None
    values: Array | None = None
    inner: InnerScores | None = None


def choose_space(
    space: Literal["auto", "dual", "primal"], n_voxels: int, train_sets: Sequence[ArrayLike]
) -> Literal["dual", "primal"]:
    """Return the space to solve in; "auto" is primal where n_voxels + 1 is below the mean training set."""
    if space == "auto":
        masks = [np.asarray(train) for train in train_sets]
        n_train = sum(int(mask.sum()) if mask.dtype == bool else len(mask) for mask in masks)
        return "primal" if (n_voxels + 1) * len(masks) < n_train else "dual"
    if space not in ("dual", "primal"):
        raise ValueError(f"space must be 'auto', 'dual' or 'primal', got {space!r}.")
    return space
