"""Masked volumes: one pass over an image's compressed bytes, keeping the mask's voxels only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.datasets.headers import NiftiHeader, explain_damage, read_nifti_header
from harness.datasets.images import (
    HashedFile,
    check_same_space,
    digest_of_list,
    list_files,
    read_stored_volumes,
)
from harness.errors import DataError

# From a volume of shape (x, y, z) and its affine to the volume that is masked.
VolumeTransform = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class MaskedVolumes:
    """The voxels of a mask in every volume of an image.

    Attributes
    ----------
    data : ndarray of shape (n_volumes, n_voxels), float32 or float64
        Voxels in C order of the mask, as `volumes[mask].T` gives them; NaN and infinities are kept.
    mean_volume : ndarray of shape (x, y, z), float32
        Mean over all volumes, of the whole field of view: the background of pictures.
    digest : str
        SHA-256 (hexadecimal) of the file as it is on disk; for a list, of its files' digests, one per line.
    affine : ndarray of shape (4, 4)
        From voxel indices to mm.
    """

    data: np.ndarray
    mean_volume: np.ndarray
    digest: str
    affine: np.ndarray


def read_masked(
    bold: Path | Sequence[Path],
    mask: np.ndarray,
    mask_affine: np.ndarray,
    *,
    mask_name: str = "the mask",
    transform: VolumeTransform | None = None,
    dtype: type[np.floating] | None = np.float32,
) -> MaskedVolumes:
    """Stream an image and keep a mask's voxels of every volume.

    Equals `nilearn.masking.apply_mask(bold, mask, dtype=numpy.float32)` bit for bit, and with `dtype` None
    what `nilearn.maskers.NiftiMasker` gives without cleaning. There is one difference: nilearn replaces
    values that are not finite by zero, here they stay, so that the caller can drop and count their voxels.
    The memory taken is that of the result and of a few volumes, however many there are. The whole file is
    read, so that gzip's checksum and length are always verified.

    Parameters
    ----------
    bold : Path or sequence of Path
        NIfTI-1 or NIfTI-2, ``.nii`` or ``.nii.gz``: one 4D image, or several 3D or 4D images in time's order.
    mask : ndarray of shape (x, y, z), bool
        The voxels to keep.
    mask_affine : ndarray of shape (4, 4)
        The mask's affine, which must be the image's.
    mask_name : str, default="the mask"
        What messages call the mask, for instance its file.
    transform : callable, optional
        Takes a whole volume, as nibabel's `dataobj` gives it, and the image's affine, and returns the volume
        that is masked.
    dtype : type, default=numpy.float32
        Type of the samples. None keeps the floating-point type that the values have after scaling and
        `transform`, as `nilearn.maskers.NiftiMasker` does: float64 for float64 images and for every image
        with a slope or an intercept, else float32.

    Returns
    -------
    MaskedVolumes

    Raises
    ------
    DataError
        If an image is missing, unreadable, truncated, damaged, of another shape or affine than the mask, or
        holds no volume, or if the mask holds no voxel.
    """
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.ndim != 3 or not mask.any():
        raise DataError(
            f"{mask_name}: {mask.dtype} of shape {mask.shape} with {mask.sum()} voxels inside, but expected "
            "a 3D array of bool with at least one voxel. Read it with read_mask, or choose another."
        )
    alone = isinstance(bold, str | Path)
    paths = list_files(bold)
    if not paths:
        raise DataError(
            "No image was given: the list of images is empty, but expected at least one 4D or 3D image."
        )
    parts = [read_nifti_header(path) for path in paths]
    if alone and len(parts[0].shape) == 3:
        raise DataError(
            f"{paths[0]}: is 3D, of shape {parts[0].shape}, but expected 4D, with volumes along the last "
            "dimension. Give the 4D image, or the list of all 3D images."
        )
    for part in parts:
        check_same_space(part, mask.shape, np.asarray(mask_affine), mask_name)

    n_volumes = sum(part.n_volumes for part in parts)
    with explain_damage(paths[0]):
        sample_dtype = _sample_dtype(parts, transform) if dtype is None else np.dtype(dtype)
        data = np.empty((n_volumes, np.count_nonzero(mask)), dtype=sample_dtype)
        mean = np.zeros(mask.size)
    extract = _voxels_of(mask) if transform is None else _transformed(mask, transform)
    digests = []
    first = 0
    # Values that are not finite, or overflow float32, are the caller's to count, not a warning's.
    with np.errstate(over="ignore", invalid="ignore"):
        for part in parts:
            total, digest = _read_part(part, extract, data[first : first + part.n_volumes])
            mean += part.scaled(total / part.n_volumes) * (part.n_volumes / n_volumes)
            digests.append(digest)
            first += part.n_volumes
        mean_volume = np.ascontiguousarray(mean.reshape(mask.shape, order="F"), dtype=np.float32)
    return MaskedVolumes(
        data=data,
        mean_volume=mean_volume,
        digest=digests[0] if alone else digest_of_list(digests),
        affine=parts[0].affine,
    )


def _sample_dtype(parts: Sequence[NiftiHeader], transform: VolumeTransform | None) -> np.dtype:
    """Return the floating-point type of an image's values after scaling and transform."""
    dtypes = []
    for part in parts:
        volume = part.scaled(np.zeros((1, 1, 1), part.dtype))
        if transform is not None:
            volume = transform(volume, part.affine)
        dtypes.append(volume.dtype if volume.dtype.kind == "f" else np.dtype(np.float32))
    return np.result_type(*dtypes)  # in the machine's byte order


def _voxels_of(mask: np.ndarray) -> Callable[[NiftiHeader, np.ndarray], np.ndarray]:
    """Return what takes the mask's voxels out of volumes as they are stored."""
    # The file runs with x fastest (Fortran order); the samples run in C order of the mask.
    voxels = np.ravel_multi_index(np.nonzero(mask), mask.shape, order="F")
    return lambda part, volumes: part.scaled(volumes[:, voxels])


def _transformed(
    mask: np.ndarray, transform: VolumeTransform
) -> Callable[[NiftiHeader, np.ndarray], np.ndarray]:
    """Return what transforms volumes as they are stored, one by one, and takes the mask's voxels out."""

    def extract(part: NiftiHeader, volumes: np.ndarray) -> np.ndarray:
        whole = (volume.reshape(mask.shape, order="F") for volume in volumes)
        return np.stack([transform(part.scaled(volume), part.affine)[mask] for volume in whole])

    return extract


def _read_part(
    part: NiftiHeader, extract: Callable[[NiftiHeader, np.ndarray], np.ndarray], out: np.ndarray
) -> tuple[np.ndarray, str]:
    """Fill `out` with a file's masked volumes.

    Parameters
    ----------
    part : NiftiHeader
    extract : callable
        Takes volumes as stored, of shape (n, x * y * z), and returns their samples, of shape (n, n_voxels).
    out : ndarray of shape (n_volumes, n_voxels), float

    Returns
    -------
    total : ndarray of shape (x * y * z,), int32 or float64
        Sum over the volumes, as stored (without slope and intercept).
    digest : str
        SHA-256 of the file.
    """
    # Integers of 16 bits cannot overflow this sum, and it takes half the time.
    small = part.dtype.kind in "iu" and part.dtype.itemsize <= 2 and part.n_volumes < 2**15
    total = np.zeros(part.volume_size, dtype=np.int32 if small else np.float64)
    n_read = 0
    with explain_damage(part.path), HashedFile(part.path) as raw:
        for volumes in read_stored_volumes(part, raw):
            out[n_read : n_read + len(volumes)] = extract(part, volumes)
            for volume in volumes:
                np.add(total, volume, out=total)
            n_read += len(volumes)
        return total, raw.hexdigest()
