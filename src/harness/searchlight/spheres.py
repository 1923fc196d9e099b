"""Spheres of voxels around the centres of a searchlight."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
