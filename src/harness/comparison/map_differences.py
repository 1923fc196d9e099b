"""How the maps of two searchlights differ."""

import json
import math
from dataclasses import dataclass

import nibabel as nib
import numpy as np

from harness.errors import TrackingError
from harness.tracking.stored_run import StoredRun

RECORD = "searchlight.json"


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
        images = _read_map(first), _read_map(second)
    except TrackingError as error:
        return str(error)
    one, other = (np.asarray(image.dataobj, dtype=np.float64) for image in images)
    if one.shape != other.shape or not np.allclose(images[0].affine, images[1].affine):
        return f"the maps have different grids ({one.shape}, {other.shape} voxels), so that voxels differ"
    centres = one != 0, other != 0  # outside of the centres, maps are 0
    both = centres[0] & centres[1]
    if not both.any():
        return "no voxel is a centre in both maps"
    change = np.where(both, other - one, 0.0)
    place = np.unravel_index(int(np.abs(change).argmax()), change.shape)
    where = nib.affines.apply_affine(images[0].affine, place)
    return MapDifferences(
        n_first=int(centres[0].sum()),
        n_second=int(centres[1].sum()),
        n_both=int(both.sum()),
        correlation=_correlate(one[both], other[both]),
        n_changed=int((change != 0).sum()),
        mean=float(change[both].mean()),
        largest=float(change[place]),
        where=tuple(float(value) for value in where),
        n_corrected=(_count_corrected(first), _count_corrected(second)),
    )


def _read_map(run: StoredRun) -> nib.Nifti1Image:
    """Return the scores of a searchlight; errors as in `StoredRun.read_file`."""
    run.require_finished()
    content = run.read_file(RECORD)
    try:
        contrast = json.loads(content)["contrast"]
    except (ValueError, KeyError, TypeError) as error:
        raise TrackingError(f"{RECORD} of run {run.title} cannot be read; repeat the run") from error
    return run.read_image(f"searchlight_{contrast}.nii.gz")


def _correlate(one: np.ndarray, other: np.ndarray) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return math.nan
    return float(np.corrcoef(one, other)[0, 1])


def _count_corrected(run: StoredRun) -> int | None:
    return int(run.metrics["n_corrected"]) if "n_corrected" in run.metrics else None
