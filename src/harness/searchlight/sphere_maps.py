"""Maps of all spheres, assembled from chunks that are computed, or read from a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.decoding.evaluation import Progress
from harness.inference.checkpoint import Checkpoint
from harness.inference.chunked_work import Chunk, ProgressClock, compute_chunks
from harness.searchlight.sphere_work import SphereWork

Array = NDArray[np.float64]

STAGE = "searchlight"
OPTION = "analysis.processes"


@dataclass(frozen=True, eq=False)
class NullMaps:
    """What the labellings say about every sphere.

    Attributes
    ----------
    z, p : ndarray of shape (n_spheres,)
        Of the true labelling.
    null_mean : ndarray of shape (n_spheres,)
        Mean of the statistic under relabelling; NaN where it is never defined.
    n_undefined : ndarray of shape (n_spheres,), int
        Labellings under which the statistic is not defined.
    maxima : ndarray of shape (n_labellings,)
        Of the standardised statistic over all spheres.
    kept : ndarray of shape (n_kept, n_spheres), float32
    """

    z: Array
    p: Array
    null_mean: Array
    n_undefined: NDArray[np.intp]
    maxima: Array
    kept: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SphereMaps:
    """What was found of all spheres.

    Attributes
    ----------
    scores : ndarray of shape (n_scorers, n_spheres)
    nulls : NullMaps or None
        None if the map is not tested.
    unconverged : int
        Decoders whose solver did not converge.
    """

    scores: Array
    nulls: NullMaps | None
    unconverged: int


def compute_maps(
    work: SphereWork,
    sizes: NDArray[np.intp],
    batch_size: int,
    store: Checkpoint,
    *,
    processes: int = 1,
    progress: Progress | None = None,
    z_maps: NDArray[np.float32] | None = None,
) -> SphereMaps:
    """Compute all spheres in chunks of similar size, the largest spheres first.

    Parameters
    ----------
    sizes : ndarray of shape (n_spheres,), int
        Number of voxels of every sphere.
    batch_size : int
        Number of spheres of a chunk.
    z_maps : ndarray of shape (n_labellings, n_spheres), float32, optional
        Filled with the standardised statistic of every labelling.

    Raises
    ------
    HarnessError
        If a worker process was killed.
    """
    # Large spheres first: the time left is then over- rather than underestimated.
    order = np.argsort(-sizes, kind="stable").tolist()
    chunks = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    clock = ProgressClock(progress, STAGE, len(order))
    maps: dict[str, NDArray[Any]] = {}
    maxima: Array | None = None
    unconverged = 0
    for chunk in compute_chunks(work.compute, chunks, store, processes, OPTION):
        _place(chunk, maps, len(order), z_maps)
        unconverged += int(chunk.arrays["unconverged"])
        if "maxima" in chunk.arrays:
            found = np.asarray(chunk.arrays["maxima"], dtype=np.float64)
            maxima = found if maxima is None else np.maximum(maxima, found)
        clock.report(len(chunk.rows), chunk.is_new)
    scores = np.asarray(maps.pop("scores"), dtype=np.float64)
    return SphereMaps(scores, None if maxima is None else NullMaps(maxima=maxima, **maps), unconverged)


def _place(
    chunk: Chunk,
    maps: dict[str, NDArray[Any]],
    n_spheres: int,
    z_maps: NDArray[np.float32] | None,
) -> None:
    """Copy the values of some spheres, the last axis of every array, to their places in the maps."""
    rows: Sequence[int] = chunk.rows
    for name, values in chunk.arrays.items():
        if name in ("unconverged", "maxima"):
            continue
        if name == "z_maps":
            assert z_maps is not None
            z_maps[:, rows] = values
            continue
        if name not in maps:
            maps[name] = np.empty((*values.shape[:-1], n_spheres), dtype=values.dtype)
        maps[name][..., rows] = values
