"""Masked volumes: one pass over an image's compressed bytes, keeping the mask's voxels only."""

import hashlib
import io
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from harness.errors import DataError
from harness.headers import NiftiHeader, explain_damage, is_compressed, read_nifti_header

try:  # about three times the standard library's speed; it has no wheel for some machines
    from isal.igzip import GzipFile
except ImportError:
    from gzip import GzipFile

# Large enough that waiting for a thread vanishes beside inflating, small enough not to count as memory.
_CHUNK = 4 << 20

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


def read_mask(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a 3D mask image; every finite value but zero is inside.

    Parameters
    ----------
    path : Path
        NIfTI, 3D, or 4D with a single volume.

    Returns
    -------
    mask : ndarray of shape (x, y, z), bool
    affine : ndarray of shape (4, 4)

    Raises
    ------
    DataError
        If the file is missing, unreadable, damaged, holds several volumes, or no voxel is inside.
    """
    values, affine = read_volume(path)
    mask = np.ascontiguousarray(np.isfinite(values) & (values != 0))
    if not mask.any():
        raise DataError(f"{path}: every voxel of this mask is zero, so it selects nothing. Choose another.")
    return mask, affine


def read_volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read an image of one volume to its end, so that gzip's checksum and length are verified.

    Parameters
    ----------
    path : Path
        NIfTI, 3D, or 4D with a single volume.

    Returns
    -------
    values : ndarray of shape (x, y, z)
        With the header's slope and intercept.
    affine : ndarray of shape (4, 4)

    Raises
    ------
    DataError
        If the file is missing, unreadable or damaged, or holds several volumes.
    """
    header = read_nifti_header(Path(path))
    if header.n_volumes != 1:
        raise DataError(
            f"{path}: has shape {header.shape}, but expected one 3D volume. Give a 3D image, for instance "
            "one volume of this one (nilearn.image.index_img)."
        )
    (values,) = stream_volumes([path])
    return values, header.affine


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
        _check_same_space(part, mask.shape, np.asarray(mask_affine), mask_name)

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
        digest=digests[0] if alone else _digest_of_list(digests),
        affine=parts[0].affine,
    )


def stream_volumes(bold: Path | Sequence[Path]) -> Iterator[np.ndarray]:
    """Yield the volumes of an image one by one, without ever holding more than a few.

    Parameters
    ----------
    bold : Path or sequence of Path
        As `read_masked` takes it.

    Yields
    ------
    volume : ndarray of shape (x, y, z)
        With the header's slope and intercept, as nibabel's `dataobj` gives it; in Fortran order.

    Raises
    ------
    DataError
        If an image is missing, unreadable, truncated or damaged, or the images differ in shape or affine.
    """
    parts = [read_nifti_header(path) for path in list_files(bold)]
    for part in parts[1:]:
        _check_same_space(part, parts[0].shape[:3], parts[0].affine, str(parts[0].path))
    for part in parts:
        with explain_damage(part.path), _HashedFile(part.path) as raw:
            for volumes in _stored_volumes(part, raw):
                for volume in part.scaled(volumes):
                    yield volume.reshape(part.shape[:3], order="F")


def digest_files(bold: Path | Sequence[Path]) -> str:
    """Digest images without inflating them: the `digest` that `read_masked` would find.

    Parameters
    ----------
    bold : Path or sequence of Path

    Returns
    -------
    str

    Raises
    ------
    DataError
        If a file cannot be read.
    """
    digests = []
    for path in list_files(bold):
        with explain_damage(path), _HashedFile(path) as raw:
            while raw.read(_CHUNK):
                pass
            digests.append(raw.hexdigest())
    return digests[0] if isinstance(bold, str | Path) else _digest_of_list(digests)


def list_files(bold: Path | Sequence[Path]) -> list[Path]:
    """Return the files of an image that is one file or a list of them."""
    return [Path(bold)] if isinstance(bold, str | Path) else [Path(path) for path in bold]


def _digest_of_list(digests: list[str]) -> str:
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _ahead(produce: Callable[[], bytes]) -> Generator[bytes, None, None]:
    """Yield what `produce` gives until it gives nothing, always one call ahead in a thread of its own."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(produce)
        while content := coming.result():
            coming = thread.submit(produce)
            yield content


class _HashedFile(io.RawIOBase):
    """A file that is read and digested ahead of its reader.

    Parameters
    ----------
    path : Path
        File to open.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._hash = hashlib.sha256()
        self._chunks = _ahead(self._read_chunk)
        self._chunk = memoryview(b"")

    def _read_chunk(self) -> bytes:
        chunk = self._file.read(_CHUNK)
        self._hash.update(chunk)
        return chunk

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._chunk:
            self._chunk = memoryview(next(self._chunks, b""))
        n = min(len(buffer), len(self._chunk))
        buffer[:n] = self._chunk[:n]
        self._chunk = self._chunk[n:]
        return n

    def close(self) -> None:
        self._chunks.close()
        self._file.close()
        super().close()

    def hexdigest(self) -> str:
        """Return the digest of the whole file, once it was read to its end."""
        return self._hash.hexdigest()


def _check_same_space(
    part: NiftiHeader, mask_shape: tuple[int, ...], mask_affine: np.ndarray, mask_name: str
) -> None:
    if part.shape[:3] != mask_shape:
        raise DataError(
            f"{part.path}: has volumes of shape {part.shape[:3]}, but {mask_name} has shape {mask_shape}. "
            "Choose the mask of this subject, or resample it to the image (nilearn.image.resample_to_img)."
        )
    # The tolerance of nilearn.masking.apply_mask.
    if mask_affine.shape != (4, 4) or not np.allclose(mask_affine, part.affine):
        raise DataError(
            f"{part.path}: its affine differs from that of {mask_name}: their voxels are other places.\n"
            f"image:\n{part.affine}\nmask:\n{mask_affine}\n"
            "Choose the mask of this subject, or resample it to the image (nilearn.image.resample_to_img)."
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
    with explain_damage(part.path), _HashedFile(part.path) as raw:
        for volumes in _stored_volumes(part, raw):
            out[n_read : n_read + len(volumes)] = extract(part, volumes)
            for volume in volumes:
                np.add(total, volume, out=total)
            n_read += len(volumes)
        return total, raw.hexdigest()


def _stored_volumes(part: NiftiHeader, raw: _HashedFile) -> Iterator[np.ndarray]:
    """Yield a file's volumes as stored, a few at a time, each of shape (n, x * y * z)."""
    at_once = max(1, _CHUNK // part.volume_bytes)
    n_read = 0
    # Both are files opened for reading; the inflater's own type is not declared.
    stream = cast(
        BinaryIO,
        GzipFile(fileobj=raw, mode="rb") if is_compressed(part.path) else io.BufferedReader(raw, _CHUNK),
    )
    _skip(stream, part.offset)
    # To the very end: gzip's checksum and length stand there, and the digest is one of all bytes.
    with closing(_ahead(lambda: stream.read(at_once * part.volume_bytes))) as contents:
        for content in contents:
            n_whole = min(len(content) // part.volume_bytes, part.n_volumes - n_read)
            n_values = n_whole * part.volume_size
            if n_whole:
                yield np.frombuffer(content, part.dtype, count=n_values).reshape(n_whole, part.volume_size)
            n_read += n_whole
    if n_read < part.n_volumes:
        raise part.cut_short(n_read)


def _skip(stream: BinaryIO, n_bytes: int) -> None:
    while n_bytes > 0 and (skipped := len(stream.read(min(n_bytes, _CHUNK)))):
        n_bytes -= skipped
