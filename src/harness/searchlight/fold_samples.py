"""Samples of a searchlight, standardised in every fold as for the test scores of a decoding.

Nothing of the held-out volumes enters training.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.samples.samples import Samples
from harness.samples.signal import find_moments

Array = NDArray[np.float64]
Folds = Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]


@dataclass(frozen=True, eq=False)
class FoldSamples:
    """The training and held-out values of any voxels in every fold.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_voxels), float64, in Fortran order
        As they were read.
    folds : sequence of (train, test) index arrays
    zscore : {"own", "train"} or None
        ``"own"``: the training values of a fold are standardised by their mean and SD (ddof=1), and the
        held-out values by theirs. ``"train"``: both by those of the training values. None: neither.
    """

    X: Array
    folds: Folds
    zscore: str | None

    def training(self, fold: int, columns: NDArray[np.intp]) -> Array:
        """Return the training values of some voxels in a fold, by its place in `folds`.

        Parameters
        ----------
        columns : ndarray of shape (..., n_columns), int

        Returns
        -------
        values : ndarray of shape (..., n_train, n_columns)
        """
        train, _ = self.folds[fold]
        values = np.take(self.take(columns), train, axis=-1)
        if self.zscore is not None:
            location, scale = find_moments(values, axis=-1)
            values = (values - location) / scale
        return values.swapaxes(-1, -2)

    def held_out(self, fold: int, columns: NDArray[np.intp]) -> Array:
        """Return the held-out values of some voxels in a fold, (..., n_test, n_columns); see `training`."""
        return self.held_out_of(fold, self.take(columns)).swapaxes(-1, -2)

    def held_out_of(self, fold: int, values: Array) -> Array:
        """Return the held-out values of a fold, (..., n_columns, n_test), of voxels that `take` returned."""
        train, test = self.folds[fold]
        # Contiguous whatever the number of voxels: sums then do not depend on how many there are.
        held = np.take(values, test, axis=-1)
        if self.zscore is None:
            return held
        reference = held if self.zscore == "own" else np.take(values, train, axis=-1)
        location, scale = find_moments(reference, axis=-1)
        return np.asarray((held - location) / scale)

    def take(self, columns: NDArray[np.intp]) -> Array:
        """Return the values of some voxels in `X`, (..., n_columns, n_samples), a copy."""
        return self.X.T[columns]


def prepare_fold_samples(samples: Samples, folds: Folds) -> FoldSamples:
    """Return the samples of a searchlight in double precision.

    Parameters
    ----------
    samples : Samples
        `samples.preparation` says how they are standardised.
    """
    X = np.asfortranarray(samples.X, dtype=np.float64)
    every = [(np.asarray(train), np.asarray(test)) for train, test in folds]
    return FoldSamples(X, every, samples.preparation.zscore)
