"""Masked volumes that are smoothed while they are read."""

import math
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes

from harness.errors import DataError, DesignError
from harness.samples.volumes import MaskedVolumes, read_masked

# A Gaussian of this many times the field of view (FWHM) leaves exp(-(pi * 2 / 2.355)^2 / 2), 3 %, of the
# slowest change from one side of the image to the other: beyond, every voxel is the mean of the image.
MAX_FIELDS_OF_VIEW = 2


def mask_smoothed(
    bold: Path | Sequence[Path],
    mask: np.ndarray,
    affine: np.ndarray,
    smoothing_fwhm: float,
    *,
    mask_name: str = "the mask",
    dtype: type[np.floating] | None = np.float32,
) -> MaskedVolumes:
    """Smooth whole volumes with `nilearn.image.smooth_img`, one by one as they are read, and mask them.

    The samples equal those of `nilearn.maskers.NiftiMasker(mask, smoothing_fwhm=...)` bit for bit, except for
    values that are not finite: they count as 0 while their volume is smoothed, as in nilearn, but remain NaN
    themselves, so that the caller can count and drop them. The mean volume is not smoothed.

    Parameters
    ----------
    bold, mask, affine, mask_name, dtype
        See `harness.samples.volumes.read_masked`, also for the errors.
    smoothing_fwhm : float
        Full width at half maximum, in mm.

    Raises
    ------
    DesignError
        If the width is too large or too small for the image.
    """
    # Importing it takes half a second, and few runs smooth.
    from nilearn.image import get_data, smooth_img

    _check_width(smoothing_fwhm, mask.shape, affine, mask_name)

    def smooth(volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
        image = nib.Nifti1Image(volume, affine, dtype=volume.dtype)  # required for int64
        smoothed = get_data(smooth_img(image, smoothing_fwhm))
        smoothed[~np.isfinite(volume)] = np.nan
        return smoothed

    return read_masked(bold, mask, affine, mask_name=mask_name, transform=smooth, dtype=dtype)


def _check_width(fwhm: float, shape: Sequence[int], affine: np.ndarray, mask_name: str) -> None:
    """Refuse a Gaussian that makes all voxels equal and may exhaust the memory, or that has no effect."""
    sizes = voxel_sizes(affine)
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        raise DataError(
            f"{mask_name}: signal.smoothing_fwhm={fwhm} mm needs the size of a voxel, but its affine gives "
            f"{' x '.join(f'{size:g}' for size in sizes)} mm; correct the affine, or set "
            "signal.smoothing_fwhm=null"
        )
    largest = MAX_FIELDS_OF_VIEW * float((np.asarray(shape) * sizes).max())
    if fwhm > largest:
        raise DesignError(
            f"signal.smoothing_fwhm={fwhm} mm is more than {MAX_FIELDS_OF_VIEW} times the field of view of "
            f"{mask_name}; expected at most {largest:g} mm, and usually 2 to 3 voxels "
            f"({2 * sizes.max():g} to {3 * sizes.max():g} mm)"
        )
    # SciPy cuts the kernel at 4 standard deviations, rounded to whole voxels.
    smallest = 0.5 / 4 * math.sqrt(8 * math.log(2)) * float(sizes.min())
    if fwhm < smallest:
        raise DesignError(
            f"signal.smoothing_fwhm={fwhm} mm changes nothing in voxels of {sizes.min():g} mm; expected at "
            f"least {smallest:.2g} mm, or null for no smoothing"
        )
