"""The brain mask of several runs: the intersection of theirs, written once."""

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from harness.datasets.images import read_mask
from harness.errors import DataError


def intersect_brain_masks(masks: Sequence[Path], directory: Path) -> Path:
    """Return the file of the voxels that are in every mask; it is written unless it exists.

    A voxel outside of one run's mask was not measured in that run, or is not brain.

    Parameters
    ----------
    directory : Path
        The file's name there is a digest of the masks. If all masks are equal byte by byte, nothing is
        written, and the first mask is returned.

    Raises
    ------
    DataError
        If the masks have different grids or cannot be read, or `directory` cannot be written.
    """
    try:
        contents = {hashlib.sha256(mask.read_bytes()).hexdigest() for mask in masks}
    except OSError as error:
        raise DataError(f"a brain mask cannot be read: {error}; check the permissions of the file") from error
    if len(contents) == 1:
        return masks[0]
    target = directory / f"{hashlib.sha256(chr(10).join(sorted(contents)).encode()).hexdigest()[:32]}.nii.gz"
    if target.is_file():
        return target
    brain, affine = _intersect(masks)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory, prefix=".") as unfinished:
            nib.save(nib.Nifti1Image(brain.astype(np.uint8), affine), Path(unfinished) / target.name)
            (Path(unfinished) / target.name).replace(target)
    except OSError as error:
        raise DataError(
            f"the brain mask of all runs cannot be written to {directory}: {error}; choose another directory "
            "with dataset.cache_dir= or the environment variable HARNESS_CACHE"
        ) from error
    return target


def _intersect(masks: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels in every mask, of shape (x, y, z), and their affine."""
    intersection, affine = read_mask(masks[0])
    for mask in masks[1:]:
        brain, brain_affine = read_mask(mask)
        if brain.shape != intersection.shape or not np.allclose(brain_affine, affine):
            raise DataError(
                f"the brain masks {masks[0]} and {mask} cannot be intersected: their shapes, "
                f"{intersection.shape} and {brain.shape}, or their affines differ; expected one grid: choose "
                "runs with dataset.space=, dataset.session= or dataset.run=[...]"
            )
        intersection &= brain
    return intersection, affine
