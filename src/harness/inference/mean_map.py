"""The permutation test of a mean map over subjects, with relabelled maps of every subject.

The maps of every subject are standardised, voxel by voxel, by their mean and SD over the subject's
relabellings, and

    Z = sum over subjects of z / sqrt(n)

has mean 0 and variance 1 over combinations of one relabelling per subject in every voxel, so that the
maximum over voxels is not set by those whose null distribution is wide.

References
----------
.. [1] Stelzer, Chen, Turner (2013), NeuroImage 65:69-82, doi:10.1016/j.neuroimage.2012.09.063.
.. [2] Nichols, Holmes (2002), Human Brain Mapping 15:1-25, doi:10.1002/hbm.1058.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import DesignError
from harness.inference.cluster_size import measure_clusters
from harness.inference.corrections import share_reaching, standardise_nulls, threshold_of_maxima
from harness.inference.group_tests import CHUNK_NUMBERS, N_DRAWS

Array = NDArray[np.float64]

MAP_TOLERANCE = 1e-5
"""Standardised values that differ by no more are equal: the maps are stored with seven digits."""

ROUNDING = 1e-6
"""Share of its largest value up to which the SD of a voxel may be rounding alone."""

MIN_MAPS = 100  # per subject; [1]_ takes 100


@dataclass(frozen=True, eq=False)
class ClusterTest:
    """The sizes of clusters above a fixed threshold.

    Attributes
    ----------
    threshold : float
        Of Z.
    sizes : ndarray of shape (n_voxels,)
        Voxels of the cluster of every voxel; 0 below the threshold.
    p : ndarray of shape (n_voxels,)
        Share of combinations whose largest cluster is at least as large; 1 below the threshold.
    """

    threshold: float
    sizes: Array
    p: Array


@dataclass(frozen=True, eq=False)
class MeanMapTest:
    """The test of a mean map, of the global null hypothesis that no subject's labels are related to the data.

    Attributes
    ----------
    n : int
        Subjects.
    z : ndarray of shape (n_voxels,)
        Z of the true labellings.
    p : ndarray of shape (n_voxels,)
        One-sided, not corrected; 1 where no subject's maps vary.
    p_fwe : ndarray of shape (n_voxels,)
        Corrected over voxels by the maximum statistic [2]_.
    threshold : float or None
        Values of Z above it have a corrected p of at most .05; None for fewer than 20 combinations.
    n_draws : int
        Combinations besides the true one, so that p = (b + 1) / (n_draws + 1).
    is_exact : bool
        Whether these are all combinations.
    clusters : ClusterTest or None
    """

    n: int
    z: Array
    p: Array
    p_fwe: Array
    threshold: float | None
    n_draws: int
    is_exact: bool
    clusters: ClusterTest | None = None


def standardise_maps(maps: ArrayLike) -> NDArray[np.float32]:
    """Return every voxel's values minus their mean, divided by their SD, over the maps of one subject.

    Parameters
    ----------
    maps : ndarray of shape (n_maps, n_voxels)
        Under relabellings, the true labelling among them.

    Returns
    -------
    z : ndarray of shape (n_maps, n_voxels), float32
        0 in voxels that do not vary.
    """
    values = np.asarray(maps, dtype=np.float64)
    return standardise_nulls(values, ROUNDING * np.abs(values).max(axis=0)).astype(np.float32)


def permutation_of_mean_maps(
    subjects: Sequence[NDArray[np.floating]],
    n_draws: int = N_DRAWS,
    seed: int = 0,
    *,
    mask: NDArray[np.bool_] | None = None,
    cluster_z: float | None = None,
) -> MeanMapTest:
    """Test a mean map over subjects, relabelling every subject independently of the others [1]_.

    p = (b + 1) / (m + 1), where b of m combinations reach the value of the true labellings

    The combinations are computed some at a time: the memory is that of the arguments and of some 10 million
    further numbers.

    Parameters
    ----------
    subjects : sequence of ndarray of shape (n_maps, n_voxels)
        Standardised maps of a subject (`standardise_maps`), the true labelling first; the numbers of maps may
        differ.
    n_draws : int
        Combinations to draw; all are enumerated if there are no more.
    seed : int
        Of the draws.
    mask : ndarray of shape (x, y, z), bool
        Of these voxels, in C order; for `cluster_z`.
    cluster_z : float, optional
        Voxels with Z above it make clusters, whose sizes are tested.

    Raises
    ------
    DesignError
        Without subjects.
    """
    if not subjects:
        raise DesignError("there are no subjects to test")
    chosen, is_exact = _list_combinations([len(maps) for maps in subjects], n_draws, seed)
    observed = _sum_maps(subjects, chosen[:1])[0]
    counts = np.zeros(len(observed), dtype=np.int64)
    maxima, largest = np.empty(len(chosen)), np.zeros(len(chosen))
    for rows, values in _sum_in_chunks(subjects, chosen):
        counts += (values >= observed - MAP_TOLERANCE).sum(axis=0)
        maxima[rows] = values.max(axis=1)
        if mask is not None and cluster_z is not None:
            largest[rows] = [measure_clusters(row, mask, cluster_z).max(initial=0.0) for row in values]
    varies = np.any([np.any(maps != 0, axis=0) for maps in subjects], axis=0)
    clusters = None
    if mask is not None and cluster_z is not None:
        clusters = _compare_clusters(measure_clusters(observed, mask, cluster_z), largest, cluster_z)
    return MeanMapTest(
        n=len(subjects),
        z=observed,
        p=np.where(varies, counts / len(chosen), 1.0),
        p_fwe=np.where(varies, share_reaching(maxima, observed, MAP_TOLERANCE), 1.0),
        threshold=threshold_of_maxima(maxima),
        n_draws=len(chosen) - 1,
        is_exact=is_exact,
        clusters=clusters,
    )


def _list_combinations(sizes: Sequence[int], n_draws: int, seed: int) -> tuple[NDArray[np.intp], bool]:
    """Return the map of every subject in combinations, the true one first, and whether they are all."""
    if prod(sizes) - 1 <= n_draws:
        return np.array(list(product(*map(range, sizes)))), True
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(size, size=n_draws) for size in sizes]
    return np.vstack([np.zeros(len(sizes), dtype=np.intp), np.column_stack(drawn)]), False


def _compare_clusters(sizes: Array, largest: Array, cluster_z: float) -> ClusterTest:
    """Return the p-values of clusters by the largest one of every combination."""
    return ClusterTest(cluster_z, sizes, np.where(sizes > 0, share_reaching(largest, sizes), 1.0))


def _sum_in_chunks(
    subjects: Sequence[NDArray[np.floating]], chosen: NDArray[np.intp]
) -> Iterator[tuple[slice, Array]]:
    """Yield Z of some combinations at a time, and which they are."""
    n_together = max(CHUNK_NUMBERS // max(subjects[0].shape[1], 1), 1)
    for start in range(0, len(chosen), n_together):
        rows = slice(start, start + n_together)
        yield rows, _sum_maps(subjects, chosen[rows])


def _sum_maps(subjects: Sequence[NDArray[np.floating]], chosen: NDArray[np.intp]) -> Array:
    """Return Z of some combinations, (n_combinations, n_voxels); the order of the sum is always the same."""
    sums = subjects[0][chosen[:, 0]].astype(np.float64)
    for maps, rows in zip(subjects[1:], chosen.T[1:], strict=True):
        sums += maps[rows]
    sums /= np.sqrt(len(subjects))
    return sums
