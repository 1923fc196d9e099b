"""NIfTI headers, checked against the size of the file."""

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling
from nibabel.wrapstruct import WrapStructError

from harness.errors import DataError

try:
    from isal import isal_zlib

    InflateError: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # an instance in the stub
except ImportError:
    InflateError = zlib.error

# By their size in bytes, which is the value of their first field.
_HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}

# One bit of a deflate stream encodes at most 258 bytes, which limits the size of the inflated file.
# https://zlib.net/zlib_tech.html, "Maximum Compression Factor"
_MAX_COMPRESSION = 1032

SECONDS_PER_UNIT = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """The header of a NIfTI file, as nibabel reads it.

    Attributes
    ----------
    shape : tuple of int
        Three or four positive numbers; the fourth is the number of volumes.
    dtype : dtype
        Of the stored values.
    offset : int
        Bytes before the first value.
    slope, inter : float
        Scaling of the stored values; 1 and 0 for none.
    affine : ndarray of shape (4, 4)
        Voxel indices to mm.
    voxel_mm : tuple of float
        The three sizes of a voxel.
    t_r : float or None
        Repetition time in seconds; None if the header does not contain it with a unit.
    is_oriented : bool
        Whether the header declares an orientation; otherwise left and right are NIfTI's default.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    slope: float
    inter: float
    affine: np.ndarray
    voxel_mm: tuple[float, ...]
    t_r: float | None
    is_oriented: bool

    @property
    def is_series(self) -> bool:
        """Whether the image is 4D."""
        return len(self.shape) == 4

    @property
    def n_volumes(self) -> int:
        """Number of volumes; 1 for a 3D image."""
        return self.shape[3] if self.is_series else 1

    @property
    def volume_size(self) -> int:
        """Number of voxels of a volume."""
        return math.prod(self.shape[:3])

    @property
    def volume_bytes(self) -> int:
        """Size of a stored volume in bytes."""
        return self.volume_size * self.dtype.itemsize

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Apply slope and intercept to stored values, in the precision that nibabel chooses."""
        # Zero-dimensional arrays, as in nibabel's ArrayProxy: plain floats would be promoted differently.
        return apply_read_scaling(values, np.asanyarray(self.slope), np.asanyarray(self.inter))

    def cut_short(self, n_whole: int) -> DataError:
        """Return the error for a file that holds only some of the volumes."""
        return DataError(
            f"{self.path}: ends within volume {n_whole + 1} of the {self.n_volumes} that its header "
            "announces. The file is cut short, or its header damaged: copy or download it again."
        )


def read_nifti_header(path: Path) -> NiftiHeader:
    """Read the header of a NIfTI-1 or NIfTI-2 image, ``.nii`` or ``.nii.gz``.

    Raises
    ------
    DataError
        If the file is missing or of another format, the header is invalid, the image is neither 3D nor 4D,
        its values are not real numbers, or the file is too small for its header.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file. Check the path, or fetch the data set again.")
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise DataError(
            f"{path}: not an image in a supported format, which are NIfTI-1 and NIfTI-2 in one file, .nii or "
            ".nii.gz. Convert other formats first, for example with nibabel.save or dcm2niix."
        )
    with explain_damage(path):
        header = _parse(path)
        n_bytes = path.stat().st_size
    _check_image(header)
    _check_size(header, n_bytes)
    return header


def is_compressed(path: Path) -> bool:
    """Return whether the name of a file ends in ``.gz``."""
    return path.name.lower().endswith(".gz")


@contextmanager
def explain_damage(path: Path) -> Iterator[None]:
    """Convert the errors of reading an image to a `DataError` that names the file."""
    try:
        yield
    except (gzip.BadGzipFile, InflateError, zlib.error, EOFError) as error:
        raise DataError(
            f"{path}: the compressed data are damaged or cut short ({error}). Copy or download it again."
        ) from error
    except (HeaderDataError, WrapStructError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}: the image's header is invalid ({error}). Copy or download the file again."
        ) from error
    except MemoryError as error:
        raise DataError(
            f"{path}: its volumes do not fit into memory ({error}). If the image should be smaller, its "
            "header is damaged: copy or download it again."
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}). Check the path and its permissions.") from error


def _parse(path: Path) -> NiftiHeader:
    with gzip.open(path) if is_compressed(path) else path.open("rb") as file:
        content = file.read(max(_HEADERS))
    sizes = [int.from_bytes(content[:4], order, signed=True) for order in ("little", "big")]
    size = next((size for size in sizes if size in _HEADERS), None)
    if size is None or len(content) < size:
        raise DataError(
            f"{path}: not an image that can be read: it does not begin with a NIfTI header. Expected NIfTI-1 "
            "or NIfTI-2, .nii, or compressed as .nii.gz. Copy or download it again."
        )
    with np.errstate(all="ignore"):  # invalid numbers are refused below
        header = _HEADERS[size](content[:size])
        slope, inter = header.get_slope_inter()
        return NiftiHeader(
            path=path,
            shape=tuple(int(n) for n in header.get_data_shape()),
            dtype=header.get_data_dtype(),
            offset=int(header.get_data_offset()),
            slope=1.0 if slope is None else slope,
            inter=0.0 if inter is None else inter,
            affine=header.get_best_affine(),
            voxel_mm=tuple(float(zoom) for zoom in header.get_zooms()[:3]),
            t_r=_find_t_r(header),
            is_oriented=bool(header["sform_code"] > 0 or header["qform_code"] > 0),
        )


def _find_t_r(header: nib.Nifti1Header) -> float | None:
    zooms = header.get_zooms()
    try:
        factor = SECONDS_PER_UNIT.get(header.get_xyzt_units()[1])
    except KeyError:  # a code that NIfTI does not define
        return None
    if factor is None or len(zooms) < 4 or not 0 < zooms[3] < math.inf:
        return None
    return round(float(zooms[3]) * factor, 6)  # the header holds a float32: 2.2 is 2.2000000477


def _check_image(header: NiftiHeader) -> None:
    path, shape = header.path, header.shape
    if len(shape) not in (3, 4):
        raise DataError(
            f"{path}: has {len(shape)} dimensions, shape {shape}, but expected 3D or 4D, with volumes along "
            "the last. Choose another image, or rearrange this one (numpy.squeeze)."
        )
    if min(shape) < 1:
        raise DataError(f"{path}: has shape {shape}, so it has no volume. Give an image with at least one.")
    if header.dtype.kind not in "iuf":
        raise DataError(
            f"{path}: holds {header.dtype} values, but expected one real number per voxel. Convert complex "
            "or colour images first."
        )
    if header.offset < 0 or not np.isfinite(header.affine).all():
        raise DataError(
            f"{path}: the image's header is invalid (its values begin at byte {header.offset}, its affine is "
            f"{header.affine.tolist()}). Copy or download the file again."
        )


def _check_size(header: NiftiHeader, n_bytes: int) -> None:
    """Refuse a file that cannot hold its image, before memory is allocated for it."""
    needed = header.offset + header.n_volumes * header.volume_bytes
    if not is_compressed(header.path):
        if n_bytes < needed:
            raise header.cut_short(max(n_bytes - header.offset, 0) // header.volume_bytes)
    elif n_bytes * _MAX_COMPRESSION < needed:
        raise DataError(
            f"{header.path}: its header announces {needed} bytes, shape {header.shape} of {header.dtype}, "
            f"but {n_bytes} compressed bytes hold at most {n_bytes * _MAX_COMPRESSION}. The header is "
            "damaged or the file cut short: copy or download it again."
        )
