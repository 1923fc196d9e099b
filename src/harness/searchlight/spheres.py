"""Spheres of voxels around the centres of a searchlight."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.errors import DesignError, UsageError

TOLERANCE = 1e-6
"""Millimetres that a voxel may lie outside the radius: rounding of distances that equal it."""

VOXELS_TOGETHER = 2_000_000
"""Voxels that are looked up together."""

MAX_MEMBERS = 500_000_000
"""Voxels of all spheres together; their numbers need 4 GB."""


@dataclass(frozen=True, eq=False)
class Spheres:
    """The voxels of every sphere, as columns of samples.

    Attributes
    ----------
    centres : ndarray of shape (n_spheres,), int
        Column of the voxel in the centre of every sphere; ascending.
    columns : ndarray of shape (n_members,), int
        Columns of the voxels of the first sphere, then of the second, and so on; ascending within a sphere.
    starts : ndarray of shape (n_spheres + 1,), int
        Where the columns of every sphere begin in `columns`.
    n_small : int
        Centres that were left out because their spheres have too few voxels.
    """

    centres: NDArray[np.intp]
    columns: NDArray[np.intp]
    starts: NDArray[np.intp]
    n_small: int = 0

    def __len__(self) -> int:
        return len(self.centres)

    @property
    def sizes(self) -> NDArray[np.intp]:
        """Number of voxels of every sphere, (n_spheres,)."""
        return np.diff(self.starts)

    def columns_of(self, number: int) -> NDArray[np.intp]:
        """Return the columns of one sphere, (n_voxels,)."""
        return self.columns[self.starts[number] : self.starts[number + 1]]


def find_spheres(
    samples_mask: NDArray[np.bool_],
    affine: NDArray[np.float64],
    centres: NDArray[np.bool_],
    radius: float,
    min_voxels: int = 1,
) -> Spheres:
    """Return the voxels within a radius of every centre, by the distance between the centres of voxels.

    Parameters
    ----------
    samples_mask : ndarray of shape (x, y, z), bool
        Voxels that are columns of the samples, in C order.
    affine : ndarray of shape (4, 4)
        Voxel indices to millimetres.
    centres : ndarray of shape (x, y, z), bool
        Those outside `samples_mask` are left out.
    radius : float
        In mm.
    min_voxels : int
        Centres with fewer voxels around them are left out, and counted.

    Raises
    ------
    UsageError
        If the radius reaches no other voxel.
    DesignError
        If no centre is in `samples_mask`, or no sphere has `min_voxels` voxels.
    """
    if samples_mask.shape != centres.shape:
        raise DesignError(
            f"the region has the shape {centres.shape}, the mask of the samples {samples_mask.shape}; both "
            "must be on the grid of the image"
        )
    offsets = _find_offsets(affine, radius, samples_mask.shape)
    at = np.argwhere(centres & samples_mask)
    if not len(at):
        raise DesignError(
            f"none of the {np.count_nonzero(centres)} voxels of the region (roi.mask) is a usable voxel of "
            "analysis.mask; choose a region in that mask"
        )
    _check_size(len(at), len(offsets), radius)
    found, columns, n_voxels = _look_up(samples_mask, at, offsets, min_voxels)
    enough = n_voxels >= min_voxels
    if not enough.any():
        largest, n = n_voxels.max(), len(at)
        raise DesignError(
            f"analysis.min_voxels={min_voxels}: of {n} {'sphere' if n == 1 else 'spheres'} of "
            f"analysis.radius={radius:g} mm the largest has {largest} "
            f"{'voxel' if largest == 1 else 'voxels'}; choose fewer voxels or a larger radius"
        )
    starts = np.concatenate([[0], np.cumsum(n_voxels[enough])]).astype(np.intp)
    return Spheres(found[enough], columns, starts, int((~enough).sum()))


def _look_up(
    samples_mask: NDArray[np.bool_], at: NDArray[np.intp], offsets: NDArray[np.intp], min_voxels: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return the column of every centre, the columns of spheres that are kept, and the sizes of all spheres.

    Parameters
    ----------
    at : ndarray of shape (n_centres, 3), int
        Indices of the centres.
    """
    # A margin around the volume, so that every offset from a centre is a place in the array.
    margin = np.abs(offsets).max(axis=0)
    lookup = np.full(np.array(samples_mask.shape) + 2 * margin, -1, dtype=np.intp)
    inner = tuple(slice(width, width + size) for width, size in zip(margin, samples_mask.shape, strict=True))
    lookup[inner][samples_mask] = np.arange(np.count_nonzero(samples_mask))
    steps = offsets @ (np.array(lookup.strides) // lookup.itemsize)
    places = np.ravel_multi_index(tuple((at + margin).T), lookup.shape)
    column_of = lookup.ravel()
    columns, sizes = [], []
    rows = max(1, VOXELS_TOGETHER // len(steps))
    for start in range(0, len(places), rows):
        found = column_of[places[start : start + rows, np.newaxis] + steps]
        inside = found >= 0
        kept = inside.sum(axis=1) >= min_voxels
        columns.append(found[kept][inside[kept]])
        sizes.append(inside.sum(axis=1))
    return column_of[places], np.concatenate(columns), np.concatenate(sizes)


def _check_size(n_centres: int, n_offsets: int, radius: float) -> None:
    """Refuse spheres whose lists of voxels alone would use up the memory."""
    if n_centres * n_offsets > MAX_MEMBERS:
        raise UsageError(
            f"analysis.radius={radius:g} mm: {n_centres} spheres of up to {n_offsets} voxels need up to "
            f"{8e-9 * n_centres * n_offsets:.0f} GB; choose a smaller radius or fewer centres (roi)"
        )


def _find_offsets(affine: NDArray[np.float64], radius: float, shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the steps on a grid, (n_offsets, 3), in C order, that are not longer than the radius."""
    linear = np.asarray(affine, dtype=np.float64)[:3, :3]
    # A step of length r moves the index i by at most r times the length of row i of the inverse.
    reach = np.floor((radius + TOLERANCE) * np.linalg.norm(np.linalg.inv(linear), axis=1) + 1e-9)
    # No step within the volume is longer than its side; one step more shows whether there is a neighbour.
    reach = np.minimum(reach, np.maximum(1, np.array(shape) - 1)).astype(np.intp)
    grid = np.indices(2 * reach + 1).reshape(3, -1).T - reach
    offsets = grid[np.linalg.norm(grid @ linear.T, axis=1) <= radius + TOLERANCE]
    if len(offsets) == 1:
        around = np.indices((3, 3, 3)).reshape(3, -1).T - 1
        distances = np.linalg.norm(around[around.any(axis=1)] @ linear.T, axis=1)
        raise UsageError(
            f"analysis.radius={radius:g} mm reaches no neighbour: the centre of the nearest voxel is "
            f"{distances.min():.4g} mm away; choose a larger radius, for example, {2 * distances.min():.3g}"
        )
    return offsets
