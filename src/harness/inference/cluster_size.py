"""Sizes of the clusters of a map above a fixed threshold."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import label

Array = NDArray[np.float64]


def measure_clusters(values: ArrayLike, mask: NDArray[np.bool_], threshold: float) -> Array:
    """Return the size of the cluster of every voxel, in voxels that share faces.

    Parameters
    ----------
    values : ndarray of shape (n_voxels,)
        In the C order of the mask's voxels.
    mask : ndarray of shape (x, y, z), bool
    threshold : float
        Clusters consist of voxels above it.

    Returns
    -------
    sizes : ndarray of shape (n_voxels,)
        0 for voxels that are not above the threshold.
    """
    above = np.zeros(mask.shape, dtype=bool)
    above[mask] = np.asarray(values) > threshold
    numbers = label(above)[0][mask]
    sizes = np.bincount(numbers).astype(np.float64)
    sizes[0] = 0
    return sizes[numbers]
