"""Spheres of equal size, which are computed together."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from harness.searchlight.spheres import Spheres

Index = NDArray[np.intp]


def batch_spheres(spheres: Spheres, numbers: Index) -> Iterator[tuple[Index, Index]]:
    """Divide spheres into batches of equally many voxels.

    Parameters
    ----------
    numbers : ndarray of shape (n_numbers,), int

    Yields
    ------
    places : ndarray of shape (n_batch,), int
        Indices into `numbers`.
    columns : ndarray of shape (n_batch, n_voxels), int
    """
    n_voxels = spheres.sizes[numbers]
    order = np.argsort(n_voxels, kind="stable")
    ends = np.flatnonzero(np.diff(n_voxels[order])) + 1
    for members in np.split(order, ends):
        if len(members):
            within = np.arange(n_voxels[members[0]])
            yield members, spheres.columns[spheres.starts[numbers[members]][:, np.newaxis] + within]
