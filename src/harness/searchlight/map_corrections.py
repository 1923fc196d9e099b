"""Corrections over voxels that use the neighbours of a voxel: TFCE and cluster size.

They need the map of every labelling as a whole. The maps are in a file of float32, mapped by all processes.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.decoding.evaluation import Progress
from harness.errors import HarnessError
from harness.inference.checkpoint import Arrays, Checkpoint
from harness.inference.chunked_work import ProgressClock, compute_chunks
from harness.inference.cluster_size import measure_clusters
from harness.inference.corrections import share_reaching, threshold_of_maxima
from harness.inference.tfce import VoxelNeighbours, compute_tfce, find_neighbours
from harness.searchlight.choices import Correction
from harness.searchlight.map_test import CorrectedMap

Array = NDArray[np.float64]
ZMaps = NDArray[np.float32]

CHUNK = 32
"""Labellings whose maps are corrected, and stored, together."""

OPTION = "analysis.processes"

TIE_SHARE = 1e-6
"""Relative difference of values that are equal. Maps are rounded to float32, relatively by up to 6e-8, and
TFCE changes continuously with the map, at most with the third power of its scale."""


@dataclass(frozen=True, eq=False)
class MapWork:
    """Corrects the maps of labellings.

    Attributes
    ----------
    z_maps : ndarray of shape (n_labellings, n_centres), float32
        Standardised statistic; infinite where it is not defined.
    mask : ndarray of shape (x, y, z), bool
        The centres.
    cluster_z : float
        Threshold of the clusters.
    """

    z_maps: ZMaps
    mask: NDArray[np.bool_]
    neighbours: VoxelNeighbours
    correction: str
    cluster_z: float

    def enhance(self, row: int) -> Array:
        """Return the corrected map of one labelling, (n_centres,); infinite where one of it is undefined."""
        z = np.asarray(self.z_maps[row], dtype=np.float64)
        if not np.isfinite(z).all():
            return np.full(len(z), np.inf)
        if self.correction == Correction.tfce:
            return compute_tfce(z, self.neighbours)
        return measure_clusters(z, self.mask, self.cluster_z)

    def compute(self, rows: Sequence[int]) -> Arrays:
        """Return the maxima of the corrected maps of some labellings, (n_rows,)."""
        return {"maxima": np.array([self.enhance(row).max() for row in rows])}


def correct_by_maxima(values: Array, maxima: Array, tolerance: Array | float) -> CorrectedMap:
    """Return a map with p-values by the distribution of its maximum, (n_labellings,), the true one first."""
    return CorrectedMap(values, share_reaching(maxima, values, tolerance), threshold_of_maxima(maxima))


def correct_z_maps(
    z_maps: ZMaps,
    mask: NDArray[np.bool_],
    correction: str,
    cluster_z: float,
    store: Checkpoint,
    *,
    processes: int = 1,
    progress: Progress | None = None,
) -> tuple[CorrectedMap, Array]:
    """Correct the map of the true labelling, the first, by TFCE or by the size of its clusters.

    Parameters
    ----------
    z_maps : ndarray of shape (n_labellings, n_centres), float32
    mask : ndarray of shape (x, y, z), bool
        The centres.

    Returns
    -------
    corrected : CorrectedMap
    maxima : ndarray of shape (n_labellings,)

    Raises
    ------
    HarnessError
        If a worker process was killed.
    """
    work = MapWork(z_maps, mask, find_neighbours(mask), correction, cluster_z)
    rows = range(len(z_maps))
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    clock = ProgressClock(progress, correction.replace("_", " "), len(rows))
    parts = []
    for chunk in compute_chunks(work.compute, chunks, store, processes, OPTION):
        parts.append(np.asarray(chunk.arrays["maxima"], dtype=np.float64))
        clock.report(len(chunk.rows), chunk.is_new)
    maxima = np.concatenate(parts)
    values = work.enhance(0)
    return correct_by_maxima(values, maxima, TIE_SHARE * np.abs(values)), maxima


@contextmanager
def open_z_maps(directory: Path | None, n_labellings: int, n_spheres: int) -> Iterator[ZMaps]:
    """Yield an array for the map of every labelling, in a file that is removed at the end.

    Parameters
    ----------
    directory : Path or None
        Where the file is written if the temporary directory of the system is full. It may be removed by
        another process that has finished the same map.

    Raises
    ------
    HarnessError
        If both are full.
    """
    shape = (n_labellings, n_spheres)
    reasons = []
    for parent in (Path(tempfile.gettempdir()), directory):
        if parent is None:
            continue
        try:
            parent.mkdir(parents=True, exist_ok=True)
            home = tempfile.TemporaryDirectory(dir=parent, prefix="z-", ignore_cleanup_errors=True)
        except OSError as error:
            reasons.append(f"{parent}: {error.strerror or error}")
            continue
        with home as name:
            file = Path(name) / "z.float32"
            try:
                _reserve(file, shape)
            except OSError as error:
                reasons.append(f"{parent}: {error.strerror or error}")
                continue
            maps = np.memmap(file, dtype=np.float32, mode="r+", shape=shape)
            yield maps
            return
    raise HarnessError(
        f"the maps of {n_labellings} labellings need {4 * n_labellings * n_spheres / 1e6:.0f} MB on disk "
        f"({'; '.join(reasons)}); free disk space, set TMPDIR to another directory, or use "
        "analysis.correction=maximum"
    )


def _reserve(file: Path, shape: tuple[int, int]) -> None:
    """Write zeros: a memory map of a file with holes would end the process where the disk is full."""
    row = np.zeros(shape[1], dtype=np.float32).tobytes()
    with file.open("wb") as stream:
        for _ in range(shape[0]):
            stream.write(row)
