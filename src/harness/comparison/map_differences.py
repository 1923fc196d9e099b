"""How the maps of two searchlights differ."""

import math
from dataclasses import dataclass

import nibabel as nib
import numpy as np

from harness.errors import TrackingError
from harness.tracking.stored_map import read_map
from harness.tracking.stored_run import StoredRun


@dataclass(frozen=True)
class MapDifferences:
    """How the scores of two maps differ in the voxels that are centres in both.

    Attributes
    ----------
    n_first, n_second, n_both : int
        Centres of each map, and of both.
    correlation : float
        Pearson's, over the voxels of both; NaN where one of the maps does not vary.
    n_changed : int
        Voxels of both with another score.
    mean : float
        Mean difference, second minus first.
    largest : float
        The difference with the largest absolute value.
    where : tuple of float
        Its place in mm, in the space of the images.
    n_corrected : tuple of (int or None)
        Voxels with a corrected p <= .05 in each map; None for a map without a test.
    """

    n_first: int
    n_second: int
    n_both: int
    correlation: float
    n_changed: int
    mean: float
    largest: float
    where: tuple[float, ...]
    n_corrected: tuple[int | None, int | None]


def compare_maps(first: StoredRun, second: StoredRun) -> MapDifferences | str | None:
    """Return how two maps differ, or why they cannot be compared; None for two decodings."""
    kinds = first.is_searchlight, second.is_searchlight
    if not any(kinds):
        return None
    if not all(kinds):
        names = "the first is a searchlight, the second a decoding"
        if kinds[1]:
            names = "the first is a decoding, the second a searchlight"
        return (
            f"{names}: they answer different questions, where there is information and whether a region as a "
            "whole has it, so that their scores cannot be compared"
        )
    try:
        one, other = read_map(first), read_map(second)
    except TrackingError as error:
        return str(error)
    if one.shape != other.shape or not np.allclose(one.affine, other.affine):
        return f"the maps have different grids ({one.shape}, {other.shape} voxels), so that voxels differ"
    voxels, of_one, of_other = np.intersect1d(one.voxels, other.voxels, True, return_indices=True)
    if not len(voxels):
        return "no voxel is a centre in both maps"
    scores = one.scores[of_one], other.scores[of_other]
    defined = np.isfinite(scores[0]) & np.isfinite(scores[1])
    if not defined.any():
        return "no voxel has a score that is defined in both maps"
    change = np.where(defined, scores[1] - scores[0], 0.0)
    largest = int(np.abs(change).argmax())
    where = nib.affines.apply_affine(one.affine, np.unravel_index(voxels[largest], one.shape))
    return MapDifferences(
        n_first=len(one.voxels),
        n_second=len(other.voxels),
        n_both=len(voxels),
        correlation=_correlate(scores[0][defined], scores[1][defined]),
        n_changed=int((change != 0).sum() + (np.isnan(scores[0]) != np.isnan(scores[1])).sum()),
        mean=float(change[defined].mean()),
        largest=float(change[largest]),
        where=tuple(float(value) for value in where),
        n_corrected=(_count_corrected(first), _count_corrected(second)),
    )


def _correlate(one: np.ndarray, other: np.ndarray) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return math.nan
    return float(np.corrcoef(one, other)[0, 1])


def _count_corrected(run: StoredRun) -> int | None:
    return int(run.metrics["n_corrected"]) if "n_corrected" in run.metrics else None
