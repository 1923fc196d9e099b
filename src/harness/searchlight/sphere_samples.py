"""The samples of a searchlight: all voxels that spheres may take, and the voxels that are their centres."""

import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness.datasets.images import read_mask
from harness.datasets.recording import Recording
from harness.decoding.choices import Engine
from harness.decoding.question import Question
from harness.errors import DataError
from harness.samples.cache import SampleCache
from harness.samples.samples import RecordedSamples, Roi, Sources, find_mask, open_sources, read_samples
from harness.searchlight.settings import Searchlight

MASK_KEY = "analysis.mask"
SAME_GRID = "choose masks of one grid, or resample one with nilearn.image.resample_to_img"


def open_sphere_sources(recording: Recording, question: Question, settings: Searchlight) -> Sources:
    """Read the brain mask and the confounds of a recording, and find the mask of the centres.

    Raises
    ------
    DataError
        If a mask cannot be read, or the two have different grids.
    """
    if settings.mask == "brain" and "brain" not in recording.masks:
        raise DataError(
            f"{recording.dataset} subject {recording.subject} has no brain mask (analysis.mask=brain), of "
            "whose voxels spheres are made; give one, for example analysis.mask=/data/brain_mask.nii.gz, or "
            f"one of its own masks: {', '.join(recording.masks) or 'it has none'}"
        )
    sources = open_sources(recording, _samples_roi(settings), question.signal, MASK_KEY)
    centres_file = find_mask(recording, question.roi.mask)
    centres, affine = read_mask(centres_file)
    if centres.shape != sources.mask.shape or not np.allclose(affine, sources.affine):
        raise DataError(
            f"{centres_file} (roi.mask, the centres) and {sources.mask_file} ({MASK_KEY}) have different "
            f"grids: {_describe_difference((centres, affine), (sources.mask, sources.affine))}; {SAME_GRID}"
        )
    return replace(sources, centres_file=centres_file)


def read_sphere_samples(
    sources: Sources, question: Question, settings: Searchlight, cache: SampleCache | None = None
) -> RecordedSamples:
    """Read all usable voxels of the brain mask, without screening; see `read_samples`."""
    single = question.engine != Engine.nilearn
    roi = _samples_roi(settings)
    return read_samples(sources, question.contrast, roi, question.signal, cache, single_precision=single)


def find_centres(samples: RecordedSamples) -> NDArray[np.bool_]:
    """Return the centres that are voxels of samples, (x, y, z); warn of the others.

    Raises
    ------
    DataError
        If no centre is one of them.
    """
    sources = samples.sources
    assert sources.centres_file is not None
    centres, _ = read_mask(sources.centres_file)
    usable = centres & samples.grid.mask
    n_outside = int((centres & ~sources.mask).sum())
    n_dropped = int((centres & sources.mask & ~samples.grid.mask).sum())
    if not usable.any():
        raise DataError(
            f"{sources.centres_file} (roi.mask): none of its {centres.sum()} voxels can be the centre of a "
            f"sphere: {n_outside} are outside {sources.mask_file} ({MASK_KEY}), {n_dropped} were dropped"
        )
    if n_outside:
        warnings.warn(
            f"{n_outside} of {centres.sum()} centres are outside the mask that spheres take voxels of "
            f"({MASK_KEY}={sources.mask_file.name}); they were left out",
            stacklevel=2,
        )
    if n_dropped:
        warnings.warn(
            f"{n_dropped} of {centres.sum()} centres are voxels that were dropped; they were left out",
            stacklevel=2,
        )
    return usable


def _samples_roi(settings: Searchlight) -> Roi:
    return Roi(settings.mask, screening_percentile=100.0)


def _describe_difference(*grids: tuple[NDArray[np.bool_], NDArray[np.float64]]) -> str:
    """Return in what two grids, each a mask and its affine, differ."""
    found = {
        "shapes": [str(mask.shape) for mask, _ in grids],
        "voxel sizes": [f"{_format_sizes(affine)} mm" for _, affine in grids],
        "origins": [", ".join(f"{place:.4g}" for place in affine[:3, 3]) + " mm" for _, affine in grids],
    }
    words = [f"{name} {first} and {other}" for name, (first, other) in found.items() if first != other]
    return ", ".join(words) or "the directions of their axes differ"


def _format_sizes(affine: NDArray[np.float64]) -> str:
    sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    return " x ".join(f"{size:.4g}" for size in sizes)
