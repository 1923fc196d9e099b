"""Masked volumes that are smoothed while they are read."""

import math
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

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

    Equals `nilearn.maskers.NiftiMasker(mask, smoothing_fwhm=...)` bit for bit, but for voxels that are not
    finite in a volume. There they count as 0 while the volume is smoothed, as in nilearn, and stay NaN
    themselves, so that the caller can drop and count them as without smoothing.

    Parameters
    ----------
    bold : Path or sequence of Path
        4D images, in order of time.
    mask : ndarray of shape (x, y, z), bool
    affine : ndarray of shape (4, 4)
        The mask's, which is the images', too.
    smoothing_fwhm : float
        Full width at half maximum, in mm.
    mask_name : str, default="the mask"
        What messages call the mask, for instance its file.
    dtype : type, default=numpy.float32
        See `harness.samples.volumes.read_masked`.

    Returns
    -------
    MaskedVolumes
        Its mean volume is not smoothed.

    Raises
    ------
    DataError
        See `harness.samples.volumes.read_masked`.
    DesignError
        If the width is too large or too small for the image.
    """
    # Half a second to import, and few runs smooth.
    from nilearn.image import get_data, smooth_img

    _check_width(smoothing_fwhm, mask.shape, affine, mask_name)

    def smooth(volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
        image = nib.Nifti1Image(volume, affine, dtype=volume.dtype)  # nibabel asks for it where it is int64
        smoothed = get_data(smooth_img(image, smoothing_fwhm))
        smoothed[~np.isfinite(volume)] = np.nan
        return smoothed

    return read_masked(bold, mask, affine, mask_name=mask_name, transform=smooth, dtype=dtype)


def _check_width(fwhm: float, shape: Sequence[int], affine: np.ndarray, mask_name: str) -> None:
    """Refuse a Gaussian that makes all voxels the same, and may take all memory, or that changes nothing."""
    sizes = nib.affines.voxel_sizes(affine)
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        raise DataError(
            f"{mask_name}: signal.smoothing_fwhm={fwhm} mm needs the size of a voxel, but the affine gives "
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
