"""Samples that every decoder standardises by the moments of its own training set, without a copy for each.

Decoders of several folds share samples x~ = (x, 1), and each of them is trained on x' = (x - shift) factor.
Decision values, gradients and Hessians of w' are those of the shared samples after a change of coordinates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.solvers.cholesky import Array

SMALLEST_SHARE = 0.25
"""Variance of a voxel over a training set, relative to that over all samples, from which digits are kept."""


@dataclass(frozen=True, eq=False)
class TrainingUnits:
    """The coordinates of decoders, a row each.

    Attributes
    ----------
    shifts, factors : ndarray of shape (n_decoders, n_weights)
        Training means, and 1 / SD of the training samples; 0 and 1 for the intercept, which is the last.
    """

    shifts: Array
    factors: Array

    def take(self, rows: NDArray[np.intp]) -> "TrainingUnits":
        """Return the coordinates of some decoders; rows may repeat."""
        return TrainingUnits(self.shifts[rows], self.factors[rows])

    def standardise(self, X: Array, row: int) -> Array:
        """Return samples, (n_samples, n_weights or one less), in the units of one decoder."""
        n = X.shape[1]
        return np.asarray((X - self.shifts[row, :n]) * self.factors[row, :n])

    def weigh_samples(self, W: Array) -> Array:
        """Return the weights of the shared samples that give the decision values of w', (n_decoders, n)."""
        V = W * self.factors
        V[:, -1] -= np.vecdot(V, self.shifts)
        return V

    def convert_sums(self, G: Array) -> Array:
        """Return weighted sums of the samples x', (n_decoders, n_weights), from those of the shared ones."""
        return np.asarray(self.factors * (G - self.shifts * G[:, -1:]))

    def convert_products(self, A: Array) -> Array:
        """Return weighted sums of the outer products of x', from those of the shared samples.

        Parameters
        ----------
        A : ndarray of shape (n_decoders, n_weights, n_weights)
            The lower triangle is enough for that of the result.
        """
        half = A[:, -1] - self.shifts * A[:, -1, -1:] / 2
        A = A - self.shifts[:, :, np.newaxis] * half[:, np.newaxis]
        A -= half[:, :, np.newaxis] * self.shifts[:, np.newaxis]
        A *= self.factors[:, :, np.newaxis]
        A *= self.factors[:, np.newaxis]
        return A

    def square_lengths(self, X: Array) -> Array:
        """Return the squared norms of x', (n_decoders, n_samples), of shared samples x~."""
        squares = self.factors**2
        lengths = squares @ (X * X).T - 2 * (self.shifts * squares) @ X.T
        return np.asarray(lengths + np.vecdot(self.shifts**2, squares)[:, np.newaxis])


def find_training_units(X: Array, train: NDArray[np.bool_]) -> TrainingUnits | None:
    """Return the units of every fold, in which it shares the samples with the others.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)
        Standardised over all samples; 0, but for rounding, in voxels that are constant.
    train : ndarray of shape (n_folds, n_samples), bool

    Returns
    -------
    units : TrainingUnits or None
        A row per fold. None where a voxel varies so much less in a training set than in all samples that
        digits would be lost, or not at all.
    """
    squares = X * X
    n_train = train.sum(axis=1, keepdims=True)
    weights = train.astype(np.float64)
    shifts = weights @ X / n_train
    variances = (weights @ squares - n_train * shifts**2) / (n_train - 1)
    if (variances <= SMALLEST_SHARE).any():
        return None
    last = np.ones((len(train), 1))
    return TrainingUnits(np.hstack([shifts, 0 * last]), np.hstack([1 / np.sqrt(variances), last]))
