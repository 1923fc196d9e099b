"""What an image's header says, read without its volumes."""

from dataclasses import dataclass
from pathlib import Path

from harness.headers import read_nifti_header


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
        See `harness.headers.read_nifti_header`.
    """
    header = read_nifti_header(file)
    return ImageHeader(file=file, n_volumes=header.n_volumes, is_series=header.is_series, t_r=header.t_r)
