"""What an image's header says, read without its volumes."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from harness.errors import DataError

# In NIfTI the unit of time is a field of its own; where it is missing, the fourth voxel size means nothing.
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


@dataclass(frozen=True)
class ImageHeader:
    """What is needed of a bold image before it is read.

    Attributes
    ----------
    file : Path
    n_volumes : int
    is_series : bool
        Whether it is 4D; a 3D image is one volume.
    t_r : float or None
        Repetition time in seconds, where the header gives it with its unit.
    """

    file: Path
    n_volumes: int
    is_series: bool
    t_r: float | None


def read_header(file: Path) -> ImageHeader:
    """Read the header of a NIfTI image.

    Parameters
    ----------
    file : Path
        ``.nii`` or ``.nii.gz``, 3D or 4D.

    Returns
    -------
    ImageHeader

    Raises
    ------
    DataError
        If it cannot be read, or has another number of dimensions.
    """
    try:
        image = nib.load(file)
        shape = image.shape
        unit = image.header.get_xyzt_units()[1] if isinstance(image, nib.Nifti1Image) else "unknown"
        zooms = image.header.get_zooms()
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, KeyError, zlib.error) as error:
        raise DataError(
            f"{file} cannot be read as an image: {str(error).splitlines()[0] if str(error) else error!r}. "
            "Expected NIfTI, .nii or .nii.gz; copy or download it again"
        ) from error
    if len(shape) not in (3, 4):
        raise DataError(
            f"{file} has {len(shape)} dimensions, shape {shape}; expected 4D, with volumes along the last"
        )
    is_series = len(shape) == 4
    size = float(zooms[3]) * _SECONDS.get(unit, 0.0) if is_series else 0.0
    return ImageHeader(
        file=file,
        n_volumes=int(shape[3]) if is_series else 1,
        is_series=is_series,
        t_r=round(size, 6) if size > 0 else None,  # the header holds a float32: 2.2 is 2.2000000477
    )
