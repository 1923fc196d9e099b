"""Threshold-free cluster enhancement of maps, by its exact integral.

TFCE(v) = integral from 0 to x(v) of e(h)^E h^H dh; e(h): number of voxels in the cluster of v above h

References
----------
.. [1] Smith, Nichols (2009), NeuroImage 44:83-98, doi:10.1016/j.neuroimage.2008.03.061.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

EXTENT_POWER = 0.5
HEIGHT_POWER = 2.0


@dataclass(frozen=True, eq=False)
class VoxelNeighbours:
    """Which voxels of a mask share a face.

    Attributes
    ----------
    numbers : ndarray of shape (n_voxels, n_faces), int
        Neighbour at every face, by its number in the C order of the mask's voxels; `n_voxels` where there is
        none.
    """

    numbers: NDArray[np.intp]

    @property
    def n_voxels(self) -> int:
        """Number of voxels of the mask."""
        return len(self.numbers)


def find_neighbours(mask: NDArray[np.bool_]) -> VoxelNeighbours:
    """Return the neighbours of the voxels of a mask, (x, y, z)."""
    mask = np.asarray(mask, dtype=bool)
    n_voxels = np.count_nonzero(mask)
    numbers = np.full(np.array(mask.shape) + 2, n_voxels, dtype=np.intp)
    inner = (slice(1, -1),) * mask.ndim
    numbers[inner][mask] = np.arange(n_voxels)
    shifts = [(axis, step) for axis in range(mask.ndim) for step in (-1, 1)]
    found = [np.roll(numbers, step, axis=axis)[inner][mask] for axis, step in shifts]
    return VoxelNeighbours(np.column_stack(found))


def compute_tfce(values: ArrayLike, neighbours: VoxelNeighbours) -> Array:
    """Return the TFCE of a map, with the powers E = 0.5 and H = 2 [1]_.

    The extent of a cluster changes only at the heights of its voxels, so that the integral is a sum over the
    voxels of the cluster that are lower than the voxel itself.

    Parameters
    ----------
    values : ndarray of shape (n_voxels,)
        Finite. Values that are not positive have a TFCE of 0; enhance ``-values`` for negative ones.
    neighbours : VoxelNeighbours
        Of the mask whose voxels these are; see `find_neighbours`.

    Returns
    -------
    enhanced : ndarray of shape (n_voxels,)

    Raises
    ------
    ValueError
        If the values do not fit the neighbours, or are not finite.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.shape != (neighbours.n_voxels,):
        raise ValueError(f"values of shape {x.shape} for a mask of {neighbours.n_voxels} voxels")
    if not np.isfinite(x).all():
        raise ValueError("TFCE needs finite values")
    enhanced = np.zeros(len(x))
    order = np.flatnonzero(x > 0)
    if not len(order):
        return enhanced
    order = order[np.argsort(-x[order], kind="stable")]
    n = len(order)
    ranks = np.full(len(x) + 1, n, dtype=np.intp)
    ranks[order] = np.arange(n)
    tree = _grow_tree(ranks[neighbours.numbers[order]])
    # Voxels of one cluster after the other, from the highest; each adds its share of the integral.
    by_cluster = np.argsort(tree.cluster, kind="stable")
    counts = np.bincount(tree.cluster, minlength=len(tree.ends))
    starts = np.concatenate([[0], np.cumsum(counts)])
    extents = np.arange(1, n + 1) + np.repeat(tree.add_up(counts) - starts[:-1], counts)
    powers = np.append(x[order] ** (HEIGHT_POWER + 1) / (HEIGHT_POWER + 1), 0.0)
    lower = np.append(by_cluster[1:], n)
    filled = np.flatnonzero(counts)
    lower[starts[1:][filled] - 1] = tree.ends[filled]
    shares = extents**EXTENT_POWER * (powers[by_cluster] - powers[lower])
    # Sums from the lowest voxel of a cluster upwards, on top of the larger cluster that it becomes part of.
    sums = np.zeros(n + 1)
    for cluster in filled[::-1].tolist():
        part = slice(starts[cluster], starts[cluster + 1])
        below = sums[tree.ends[cluster]]
        sums[by_cluster[part]] = shares[part][::-1].cumsum()[::-1] + below
    enhanced[order] = sums[:n]
    return enhanced


@dataclass(frozen=True, eq=False)
class _Tree:
    """The clusters of a map: one per peak, then one per merge of two, from the highest merge down.

    Attributes
    ----------
    ends : ndarray of shape (n_clusters,), int
        Rank of the voxel at which a cluster merges with another; the number of voxels if it never does.
    merged : list of (int, int)
        The two clusters of every merge.
    cluster : ndarray of shape (n_voxels,), int
        The cluster that a voxel joins at its own height.
    """

    ends: NDArray[np.intp]
    merged: list[tuple[int, int]]
    cluster: NDArray[np.intp]

    def add_up(self, counts: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the number of voxels that every cluster has when it begins."""
        sizes = counts.tolist()
        begin = [0] * len(sizes)
        for new, (one, other) in enumerate(self.merged, start=len(sizes) - len(self.merged)):
            begin[new] = sizes[one] + sizes[other]
            sizes[new] += begin[new]
        return np.array(begin, dtype=np.intp)


def _grow_tree(higher: NDArray[np.intp]) -> _Tree:
    """Return the tree of the clusters of voxels that are numbered from the highest, their ranks.

    Parameters
    ----------
    higher : ndarray of shape (n_voxels, n_faces), int
        Ranks of the neighbours; at least `n_voxels` for those that are not positive.
    """
    n = len(higher)
    ranks = np.arange(n)
    # The way up from every voxel, over its highest neighbour, ends at a peak.
    top = np.minimum(higher.min(axis=1), ranks)
    while True:
        next_top = top[top]
        if np.array_equal(next_top, top):
            break
        top = next_top
    is_peak = top == ranks
    basin = (np.cumsum(is_peak) - 1)[top]
    n_peaks = int(is_peak.sum())
    # Neighbours in different basins connect these at the height of the lower; the highest connection counts.
    of_higher = np.append(basin, -1)[np.where(higher < ranks[:, np.newaxis], higher, n)]
    low, face = np.nonzero((of_higher >= 0) & (of_higher != basin[:, np.newaxis]))
    one, other = basin[low], of_higher[low, face]
    pairs = np.minimum(one, other) * n_peaks + np.maximum(one, other)
    first = np.sort(np.unique(pairs, return_index=True)[1])
    merged, ends, parents = _merge_basins(low[first], one[first], other[first], n_peaks, n)
    cluster = basin
    late = np.flatnonzero(ranks >= ends[cluster])
    while len(late):
        cluster[late] = parents[cluster[late]]
        late = late[late >= ends[cluster[late]]]
    return _Tree(ends, merged, cluster)


def _merge_basins(
    at: NDArray[np.intp], one: NDArray[np.intp], other: NDArray[np.intp], n_peaks: int, never: int
) -> tuple[list[tuple[int, int]], NDArray[np.intp], NDArray[np.intp]]:
    """Return the merges of the basins of peaks, where each cluster ends, and the cluster it becomes part of.

    Parameters
    ----------
    at, one, other : ndarray of shape (n_connections,), int
        Rank of the voxel that connects two basins, ascending, and the basins.
    never : int
        The end of clusters that do not merge.
    """
    # Lists, not arrays: every step depends on the one before.
    top = list(range(n_peaks))  # of a basin, one nearer to the representative of its set
    current = list(range(n_peaks))  # of a representative, the cluster that its set is
    merged: list[tuple[int, int]] = []
    ends = [never] * n_peaks
    parents = [-1] * n_peaks
    for rank, a, b in zip(at.tolist(), one.tolist(), other.tolist(), strict=True):
        while top[a] != a:
            top[a] = a = top[top[a]]
        while top[b] != b:
            top[b] = b = top[top[b]]
        if a == b:
            continue
        pair = current[a], current[b]
        for cluster in pair:
            ends[cluster], parents[cluster] = rank, len(ends)
        merged.append(pair)
        top[a] = b
        current[b] = len(ends)
        ends.append(never)
        parents.append(-1)
    return merged, np.array(ends, dtype=np.intp), np.array(parents, dtype=np.intp)
