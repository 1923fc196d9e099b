"""What is computed of every chunk of spheres: scores, and the null distribution of the statistic."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.inference.checkpoint import Arrays
from harness.inference.corrections import drop_observed, share_reaching, standardise_nulls
from harness.searchlight.sphere_scores import SphereScorer
from harness.solvers.threads import one_blas_thread

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SphereWork:
    """Scores spheres, and compares the statistic of each with its own null distribution.

    Attributes
    ----------
    kept_rows : ndarray of shape (n_kept,), int or None
        Labellings whose statistics are kept; None if the map is not tested.
    keeps_z : bool
        Whether the standardised statistic of every labelling is returned, for corrections that use the
        neighbours of a voxel.
    enumerated : bool
        Whether the labellings are all distinct ones, so that the true one is part of the null distribution.
    """

    scorer: SphereScorer
    kept_rows: NDArray[np.intp] | None
    keeps_z: bool = False
    enumerated: bool = True

    def compute(self, numbers: Sequence[int]) -> Arrays:
        """Return what was found of some spheres.

        Returns
        -------
        arrays : dict of str to ndarray
            ``scores`` (n_scorers, n_spheres), ``unconverged`` (); with a test ``z``, ``p``, ``null_mean`` and
            ``n_undefined`` (n_spheres,), ``maxima`` (n_labellings,), ``kept`` (n_kept, n_spheres), and
            ``z_maps`` (n_labellings, n_spheres) if they are kept.
        """
        with one_blas_thread():
            found = self.scorer.score(np.asarray(numbers, dtype=np.intp))
        arrays: dict[str, NDArray[Any]] = {
            "scores": found.scores,
            "unconverged": np.array(found.unconverged),
        }
        if self.kept_rows is None:
            return arrays
        table = found.statistics
        z = standardise_spheres(table)
        p = np.array([share_reaching(column, column[:1])[0] for column in table.T])
        arrays |= {
            "z": z[0],
            "p": p,
            "null_mean": average_nulls(table, self.enumerated),
            "n_undefined": np.isnan(table).sum(axis=0),
            "maxima": z.max(axis=1),
            "kept": table[self.kept_rows].astype(np.float32),
        }
        if self.keeps_z:
            arrays["z_maps"] = z.astype(np.float32)
        return arrays


def average_nulls(table: Array, enumerated: bool) -> Array:
    """Return the mean of the null distribution of every sphere, without undefined values.

    Parameters
    ----------
    table : ndarray of shape (n_labellings, n_spheres)
        The true labelling first.
    enumerated : bool
        Whether the true labelling is part of the null distribution; see
        `harness.inference.corrections.drop_observed`.

    Returns
    -------
    means : ndarray of shape (n_spheres,)
        NaN where no value is defined.
    """
    nulls = np.ascontiguousarray(drop_observed(table, enumerated).T)  # as in `standardise_spheres`
    means = [values[~np.isnan(values)].mean() if not np.isnan(values).all() else np.nan for values in nulls]
    return np.array(means, dtype=np.float64)


def standardise_spheres(table: Array) -> Array:
    """Return the statistic of every sphere, standardised by its mean and SD over all labellings.

    An undefined statistic never makes a p-value smaller: under a relabelling it becomes infinite, and so
    reaches every observed value. A sphere without an observed statistic has 0 throughout.

    Parameters
    ----------
    table : ndarray of shape (n_labellings, n_spheres)
        The true labelling first.

    Returns
    -------
    z : ndarray of shape (n_labellings, n_spheres)
        0 for spheres whose statistic does not vary.
    """
    # One sphere after the other in memory, so that its sums do not depend on the number of spheres.
    by_sphere = np.ascontiguousarray(np.asarray(table, dtype=np.float64).T)
    z = standardise_nulls(by_sphere.T)
    for place in np.flatnonzero(np.isnan(by_sphere).any(axis=1)).tolist():
        defined = ~np.isnan(by_sphere[place])
        if not defined[0]:
            z[:, place] = 0
            continue
        z[~defined, place] = np.inf
        z[defined, place] = standardise_nulls(by_sphere[place, defined, np.newaxis])[:, 0]
    return z
