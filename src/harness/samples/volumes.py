"""Masked volumes: the voxels of a mask, read in a single pass through the compressed bytes of an image."""

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

VolumeTransform = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From a volume of shape (x, y, z) and its affine to the volume that is masked."""

VoxelExtractor = Callable[[NiftiHeader, np.ndarray], np.ndarray]
"""From volumes as stored, of shape (n, x * y * z), to samples of shape (n, n_voxels)."""


@dataclass(frozen=True, eq=False)
class MaskedVolumes:
    """The voxels of a mask in every volume of an image.

    Attributes
    ----------
    data : ndarray of shape (n_volumes, n_voxels), float32 or float64
        Voxels in C order of the mask, as `volumes[mask].T` gives them, including NaN and infinite values.
    mean_volume : ndarray of shape (x, y, z), float32
        Mean over all volumes, of the whole field of view.
    digest : str
        See `harness.datasets.images.digest_files`.
    affine : ndarray of shape (4, 4)
        Voxel indices to mm.
    """

    data: np.ndarray
    mean_volume: np.ndarray
    digest: str
    affine: np.ndarray


def read_masked(
    bold: Path | Sequence[Path],
    mask: np.ndarray,
    affine: np.ndarray,
    *,
    mask_name: str = "the mask",
    transform: VolumeTransform | None = None,
    dtype: type[np.floating] | None = np.float32,
) -> MaskedVolumes:
    """Read the voxels of a mask from every volume of an image, in one pass and with bounded memory.

    The samples equal those of `nilearn.masking.apply_mask(bold, mask, dtype=numpy.float32)` bit for bit, or,
    with `dtype` None, those of `nilearn.maskers.NiftiMasker` without cleaning, except that nilearn replaces
    values that are not finite by zero. Here they remain, so that the caller can count and drop their voxels.

    Parameters
    ----------
    bold : Path or sequence of Path
        ``.nii`` or ``.nii.gz``: one 4D image, or several 3D or 4D images in order of time.
    mask : ndarray of shape (x, y, z), bool
    affine : ndarray of shape (4, 4)
        Of the mask and of the image.
    mask_name : str
        Name of the mask in messages, for example its file.
    transform : callable, optional
        Applied to every whole volume before it is masked.
    dtype : type, optional
        Type of the samples. None is the type of the values after scaling and `transform`, as in nilearn:
        float64 for float64 images and images with a slope or an intercept, else float32.

    Raises
    ------
    DataError
        If an image is missing, unreadable, truncated, damaged, of another shape or affine than the mask, or
        has no volumes, or if the mask is empty.
    """
    mask = np.asarray(mask)
    parts = _read_headers(bold, mask, np.asarray(affine), mask_name)
    n_volumes = sum(part.n_volumes for part in parts)
    with explain_damage(parts[0].path):
        sample_dtype = _sample_dtype(parts, transform) if dtype is None else np.dtype(dtype)
        data = np.empty((n_volumes, np.count_nonzero(mask)), dtype=sample_dtype)
        mean = np.zeros(mask.size)
    extract = _select_voxels(mask) if transform is None else _transform_and_select_voxels(mask, transform)
    digests: list[str] = []
    first = 0
    # Values that are not finite, or that overflow float32, are counted by the caller.
    with np.errstate(over="ignore", invalid="ignore"):
        for part in parts:
            total, digest = _read_part(part, extract, data[first : first + part.n_volumes])
            mean += part.scaled(total / part.n_volumes) * (part.n_volumes / n_volumes)
            digests.append(digest)
            first += part.n_volumes
        mean_volume = np.ascontiguousarray(mean.reshape(mask.shape, order="F"), dtype=np.float32)
    digest = digests[0] if isinstance(bold, str | Path) else digest_of_list(digests)
    return MaskedVolumes(data, mean_volume, digest, parts[0].affine)


def _read_headers(
    bold: Path | Sequence[Path], mask: np.ndarray, affine: np.ndarray, mask_name: str
) -> list[NiftiHeader]:
    """Read the headers of an image, and check that it can be masked."""
    if mask.dtype != bool or mask.ndim != 3 or not mask.any():
        raise DataError(
            f"{mask_name}: {mask.dtype} of shape {mask.shape} with {mask.sum()} voxels inside, but expected "
            "a 3D array of bool with at least one voxel. Read it with read_mask, or choose another."
        )
    parts = [read_nifti_header(path) for path in list_files(bold)]
    if not parts:
        raise DataError("The list of images is empty, but expected at least one 4D or 3D image.")
    if isinstance(bold, str | Path) and not parts[0].is_series:
        raise DataError(
            f"{parts[0].path}: is 3D, of shape {parts[0].shape}, but expected 4D, with volumes along "
            "the last dimension. Give the 4D image, or the list of all 3D images."
        )
    for part in parts:
        check_same_space(part, mask.shape, affine, mask_name)
    return parts


def _sample_dtype(parts: Sequence[NiftiHeader], transform: VolumeTransform | None) -> np.dtype:
    """Return the floating-point type of the values of an image after scaling and transform."""
    dtypes = []
    for part in parts:
        volume = part.scaled(np.zeros((1, 1, 1), part.dtype))
        if transform is not None:
            volume = transform(volume, part.affine)
        dtypes.append(volume.dtype if volume.dtype.kind == "f" else np.dtype(np.float32))
    return np.result_type(*dtypes)  # in the byte order of the machine


def _select_voxels(mask: np.ndarray) -> VoxelExtractor:
    # Files are in Fortran order, samples in C order of the mask.
    voxels = np.ravel_multi_index(np.nonzero(mask), mask.shape, order="F")
    return lambda part, volumes: part.scaled(volumes[:, voxels])


def _transform_and_select_voxels(mask: np.ndarray, transform: VolumeTransform) -> VoxelExtractor:
    def extract(part: NiftiHeader, volumes: np.ndarray) -> np.ndarray:
        whole = (volume.reshape(mask.shape, order="F") for volume in volumes)
        return np.stack([transform(part.scaled(volume), part.affine)[mask] for volume in whole])

    return extract


def _read_part(part: NiftiHeader, extract: VoxelExtractor, out: np.ndarray) -> tuple[np.ndarray, str]:
    """Write the samples of one file to `out`, of shape (n_volumes, n_voxels).

    Returns
    -------
    total : ndarray of shape (x * y * z,), int32 or float64
        Sum over the volumes as stored, without slope and intercept.
    digest : str
        SHA-256 of the file.
    """
    # Integers of 16 bits cannot overflow int32 here, and their sum takes half the time.
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
