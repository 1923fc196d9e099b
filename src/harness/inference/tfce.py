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
    pairs : ndarray of shape (n_pairs, 2), int
        Numbers of two neighbours in the C order of the mask's voxels.
    n_voxels : int
    """

    pairs: NDArray[np.intp]
    n_voxels: int


def find_neighbours(mask: NDArray[np.bool_]) -> VoxelNeighbours:
    """Return the pairs of voxels of a mask, (x, y, z), that share a face."""
    mask = np.asarray(mask, dtype=bool)
    numbers = np.full(mask.shape, -1, dtype=np.intp)
    numbers[mask] = np.arange(mask.sum())
    found = []
    for axis in range(mask.ndim):
        last = mask.shape[axis] - 1
        lower = np.take(numbers, np.arange(last), axis=axis).ravel()
        upper = np.take(numbers, np.arange(1, last + 1), axis=axis).ravel()
        both = (lower >= 0) & (upper >= 0)
        found.append(np.column_stack([lower[both], upper[both]]))
    return VoxelNeighbours(np.concatenate(found), int(mask.sum()))


def compute_tfce(
    values: ArrayLike,
    neighbours: VoxelNeighbours,
    *,
    extent_power: float = EXTENT_POWER,
    height_power: float = HEIGHT_POWER,
) -> Array:
    """Return the TFCE of a map [1]_.

    Between two merges of clusters the extent is constant, so that the integral is a sum over the clusters
    that a voxel is part of, from its own height down to 0.

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
    positive = x > 0
    order = np.flatnonzero(positive)
    order = order[np.argsort(-x[order], kind="stable")]
    if not len(order):
        return enhanced
    # Voxels are numbered from the highest, so that of two neighbours the larger number is the lower one.
    rank = np.empty(len(x), dtype=np.intp)
    rank[order] = np.arange(len(order))
    joined = rank[neighbours.pairs[positive[neighbours.pairs].all(axis=1)]]
    parents, born, sizes = _merge_clusters(joined, len(order))
    heights = x[order][born]
    ends = np.where(parents >= 0, heights[parents], 0.0)
    power = height_power + 1
    shares = sizes**extent_power * (heights**power - ends**power) / power
    enhanced[order] = _sum_to_roots(shares, parents)[: len(order)]
    return enhanced


def _merge_clusters(
    joined: NDArray[np.intp], n_voxels: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return the tree of clusters: those of single voxels, then each merge of two, from the highest down.

    Parameters
    ----------
    joined : ndarray of shape (n_pairs, 2), int
        Neighbours; voxels are numbered from the highest.

    Returns
    -------
    parents : ndarray of shape (n_clusters,), int
        The merge that ends a cluster; -1 for clusters that last down to 0.
    born : ndarray of shape (n_clusters,), int
        The voxel at whose height a cluster begins.
    sizes : ndarray of shape (n_clusters,)
    """
    lower, upper = joined.max(axis=1), joined.min(axis=1)
    order = np.argsort(lower, kind="stable")
    # Lists, not arrays: every step depends on the one before.
    top = list(range(n_voxels))  # of a voxel, one nearer to the representative of its set
    cluster = list(range(n_voxels))  # of a representative, the current cluster of its set
    parents = [-1] * n_voxels
    born = list(range(n_voxels))
    sizes = [1] * n_voxels
    for low, high in zip(lower[order].tolist(), upper[order].tolist(), strict=True):
        one = low
        while top[one] != one:
            top[one] = one = top[top[one]]
        other = high
        while top[other] != other:
            top[other] = other = top[top[other]]
        if one == other:
            continue
        a, b = cluster[one], cluster[other]
        new = len(parents)
        parents[a] = parents[b] = new
        size = sizes[a] + sizes[b]
        if sizes[a] > sizes[b]:
            one, other = other, one
        top[one] = other
        cluster[other] = new
        parents.append(-1)
        born.append(low)
        sizes.append(size)
    return np.array(parents), np.array(born), np.array(sizes, dtype=np.float64)


def _sum_to_roots(shares: Array, parents: NDArray[np.intp]) -> Array:
    """Return the sum over every cluster and those that contain it; a parent follows its children."""
    sums = shares.tolist()
    links = parents.tolist()
    for number in range(len(sums) - 1, -1, -1):
        if links[number] >= 0:
            sums[number] += sums[links[number]]
    return np.array(sums)
