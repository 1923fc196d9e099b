"""The test of a searchlight's map by relabelling: p-values of every voxel, corrected over voxels."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.inference.corrections import ALPHA
from harness.inference.relabelling import Relabellings

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CorrectedMap:
    """A map whose p-values are corrected over voxels by the distribution of its maximum.

    Attributes
    ----------
    values : ndarray of shape (n_spheres,)
        What is compared with the maximum: the standardised statistic, its TFCE, or the size of the cluster.
    p : ndarray of shape (n_spheres,)
        Share of relabellings, the true labelling included, whose maximum reaches the value.
    threshold : float or None
        Values above it have p <= .05; None for fewer than 20 relabellings.
    """

    values: Array
    p: Array
    threshold: float | None

    @property
    def n_significant(self) -> int:
        """Number of centres with p <= .05."""
        return int((self.p <= ALPHA).sum())

    @property
    def smallest_p(self) -> float:
        """The smallest p of the map."""
        return float(self.p.min())


@dataclass(frozen=True, eq=False)
class MapTest:
    """The test of a map.

    Attributes
    ----------
    statistic : str
        See `harness.searchlight.settings.Searchlight`.
    z : ndarray of shape (n_spheres,)
        The statistic of the true labelling, standardised by its mean and SD over all relabellings in the same
        sphere; 0 where it does not vary, or is not defined for the true labelling.
    p : ndarray of shape (n_spheres,)
        Not corrected.
    null_mean : ndarray of shape (n_spheres,)
        Mean of the statistic over the null distribution of the sphere, which includes the true labelling
        where relabellings are enumerated; NaN where the statistic is never defined. Scores of schemes that
        leak are inflated, and so is it.
    corrected : mapping of str to CorrectedMap
        By name of the correction; "maximum" and the chosen one.
    maxima : DataFrame, one row per relabelling, the true labelling first
        Maximum over the map, one column per correction.
    kept : ndarray of shape (n_kept, n_spheres), float32
        The statistic under relabellings, those of `kept_rows`; the first is the true labelling.
    kept_rows : ndarray of shape (n_kept,), int
        Rows of `relabellings`: the true labelling, and others drawn without replacement with a fixed seed.
    """

    statistic: str
    z: Array
    p: Array
    null_mean: Array
    corrected: Mapping[str, CorrectedMap]
    maxima: pd.DataFrame
    relabellings: Relabellings
    kept: NDArray[np.float32]
    kept_rows: NDArray[np.intp]
    cautions: tuple[str, ...] = ()

    @property
    def median_null_mean(self) -> float:
        """The median of `null_mean` over spheres; NaN where it is defined for none."""
        defined = self.null_mean[np.isfinite(self.null_mean)]
        return float(np.median(defined)) if len(defined) else math.nan
