"""Masked volumes: one pass over an image's compressed bytes, keeping the mask's voxels only."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling

from harness.errors import DataError

try:  # about three times the standard library's speed; it has no wheel for some machines
    from isal import isal_zlib
    from isal.igzip import GzipFile

    InflateError: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # isal's stub says an instance
except ImportError:
    from gzip import GzipFile

    InflateError = zlib.error

# Large enough that waiting for a thread vanishes beside inflating, small enough not to count as memory.
_CHUNK = 4 << 20


@dataclass(frozen=True, eq=False)
class MaskedVolumes:
    """The voxels of a mask in every volume of an image.

    Attributes
    ----------
    data : ndarray of shape (n_volumes, n_voxels), float32
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
    part = _describe(Path(path))
    if part.n_volumes != 1:
        raise DataError(
            f"{path}: has shape {part.shape}, but a mask is one 3D volume. Give a 3D image, for instance one "
            "volume of this one (nilearn.image.index_img)."
        )
    shape = part.shape[:3]
    # Streamed as well, as nibabel does not verify gzip's checksum; the sum over one volume is that volume.
    volume, _ = _read_part(part, np.empty(0, dtype=np.intp), np.empty((1, 0), dtype=np.float32))
    values = part.scaled(volume)
    mask = np.ascontiguousarray((np.isfinite(values) & (values != 0)).reshape(shape, order="F"))
    if not mask.any():
        raise DataError(f"{path}: every voxel of this mask is zero, so it selects nothing. Choose another.")
    return mask, part.affine


def read_masked(
    bold: Path | Sequence[Path], mask: np.ndarray, mask_affine: np.ndarray, *, mask_name: str = "the mask"
) -> MaskedVolumes:
    """Stream an image and keep a mask's voxels of every volume.

    Equals `nilearn.masking.apply_mask(bold, mask, dtype=numpy.float32)` bit for bit, with one difference:
    nilearn replaces values that are not finite by zero, here they stay, so that the caller can drop and count
    their voxels. The memory taken is that of the result and of a few volumes, however many there are. The
    whole file is read, so that gzip's checksum and length are always verified.

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
    parts = [_describe(path) for path in paths]
    if alone and len(parts[0].shape) == 3:
        raise DataError(
            f"{paths[0]}: is 3D, of shape {parts[0].shape}, but expected 4D, with volumes along the last "
            "dimension. Give the 4D image, or the list of all 3D images."
        )
    for part in parts:
        _check_same_space(part, mask.shape, np.asarray(mask_affine), mask_name)

    n_volumes = sum(part.n_volumes for part in parts)
    data = np.empty((n_volumes, np.count_nonzero(mask)), dtype=np.float32)
    # The file runs with x fastest (Fortran order); the samples run in C order of the mask.
    voxels = np.ravel_multi_index(np.nonzero(mask), mask.shape, order="F")
    mean = np.zeros(mask.size)
    digests = []
    first = 0
    # Values that are not finite, or overflow float32, are the caller's to count, not a warning's.
    with np.errstate(over="ignore", invalid="ignore"):
        for part in parts:
            total, digest = _read_part(part, voxels, data[first : first + part.n_volumes])
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
    parts = [_describe(path) for path in list_files(bold)]
    for part in parts[1:]:
        _check_same_space(part, parts[0].shape[:3], parts[0].affine, str(parts[0].path))
    for part in parts:
        with _explained(part.path), _HashedFile(part.path) as raw:
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
        with _explained(path), _HashedFile(path) as raw:
            while raw.read(_CHUNK):
                pass
            digests.append(raw.hexdigest())
    return digests[0] if isinstance(bold, str | Path) else _digest_of_list(digests)


def list_files(bold: Path | Sequence[Path]) -> list[Path]:
    """Return the files of an image that is one file or a list of them."""
    return [Path(bold)] if isinstance(bold, str | Path) else [Path(path) for path in bold]


def _digest_of_list(digests: list[str]) -> str:
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


@dataclass(frozen=True)
class _Part:
    """One file's header, as nibabel understands it."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    slope: float
    inter: float
    affine: np.ndarray

    @property
    def n_volumes(self) -> int:
        return self.shape[3] if len(self.shape) == 4 else 1

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Apply the header's slope and intercept with nibabel's own choice of precision."""
        # Zero-dimensional arrays, as in nibabel's ArrayProxy: plain floats would be promoted differently.
        return apply_read_scaling(values, np.asanyarray(self.slope), np.asanyarray(self.inter))


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


def _is_compressed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _load(path: Path) -> nib.Nifti1Image:
    """Read an image's header and nothing else."""
    if not path.exists():
        raise DataError(f"{path}: no such file. Check the path, or fetch the data set again.")
    image = nib.load(path)
    if not isinstance(image, nib.Nifti1Image) or not path.name.lower().endswith((".nii", ".nii.gz")):
        raise DataError(
            f"{path}: is a {type(image).__name__}, but expected a NIfTI image, .nii or .nii.gz. Convert it, "
            "for instance with nibabel.save."
        )
    return image


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what can go wrong while reading a file into one message about that file."""
    try:
        yield
    except (gzip.BadGzipFile, InflateError, zlib.error, EOFError) as error:
        raise DataError(
            f"{path}: the compressed data are damaged or cut short ({error}). Copy or download it again."
        ) from error
    except ImageFileError as error:
        raise DataError(
            f"{path}: not an image that can be read ({error}). Expected NIfTI, .nii or .nii.gz, and where "
            "the name ends in .gz, compressed. Copy or download it again."
        ) from error
    except (HeaderDataError, ValueError) as error:
        raise DataError(
            f"{path}: the image's header makes no sense ({error}). Copy or download the file again."
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}). Check the path and its permissions.") from error


def _describe(path: Path) -> _Part:
    with _explained(path):
        image = _load(path)
        proxy = image.dataobj
        part = _Part(
            path=path,
            shape=tuple(int(n) for n in proxy.shape),
            dtype=proxy.dtype,
            offset=int(proxy.offset),
            slope=proxy.slope,
            inter=proxy.inter,
            affine=image.affine,
        )
    if len(part.shape) not in (3, 4):
        raise DataError(
            f"{path}: has {len(part.shape)} dimensions, shape {part.shape}, but expected 3D or 4D, with "
            "volumes along the last. Choose another image, or rearrange this one (numpy.squeeze)."
        )
    if min(part.shape) < 1:
        raise DataError(
            f"{path}: has shape {part.shape}, so it holds no volume. Give an image with at least one."
        )
    if part.dtype.kind not in "iuf":
        raise DataError(
            f"{path}: holds {part.dtype} values, but expected one real number per voxel. Convert complex or "
            "colour images to real numbers first."
        )
    return part


def _check_same_space(
    part: _Part, mask_shape: tuple[int, ...], mask_affine: np.ndarray, mask_name: str
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


def _read_part(part: _Part, voxels: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, str]:
    """Fill `out` with a file's masked volumes.

    Parameters
    ----------
    part : _Part
    voxels : ndarray of shape (n_voxels,), int
        The mask's voxels as positions in a volume as stored.
    out : ndarray of shape (n_volumes, n_voxels), float32

    Returns
    -------
    total : ndarray of shape (x * y * z,), int32 or float64
        Sum over the volumes, as stored (without slope and intercept).
    digest : str
        SHA-256 of the file.
    """
    size = int(np.prod(part.shape[:3]))
    # Integers of 16 bits cannot overflow this sum, and it takes half the time.
    small = part.dtype.kind in "iu" and part.dtype.itemsize <= 2 and part.n_volumes < 2**15
    total = np.zeros(size, dtype=np.int32 if small else np.float64)
    n_read = 0
    with _explained(part.path), _HashedFile(part.path) as raw:
        for volumes in _stored_volumes(part, raw):
            out[n_read : n_read + len(volumes)] = part.scaled(volumes[:, voxels])
            for volume in volumes:
                np.add(total, volume, out=total)
            n_read += len(volumes)
        return total, raw.hexdigest()


def _stored_volumes(part: _Part, raw: _HashedFile) -> Iterator[np.ndarray]:
    """Yield a file's volumes as stored, a few at a time, each of shape (n, x * y * z)."""
    size = int(np.prod(part.shape[:3]))
    n_bytes = size * part.dtype.itemsize
    at_once = max(1, _CHUNK // n_bytes)
    n_read = 0
    # Both are files opened for reading; the inflater's own type is not declared.
    stream = cast(
        BinaryIO,
        GzipFile(fileobj=raw, mode="rb") if _is_compressed(part.path) else io.BufferedReader(raw, _CHUNK),
    )
    _skip(stream, part.offset)
    # To the very end: gzip's checksum and length stand there, and the digest is one of all bytes.
    with closing(_ahead(lambda: stream.read(at_once * n_bytes))) as contents:
        for content in contents:
            n_whole = min(len(content) // n_bytes, part.n_volumes - n_read)
            yield np.frombuffer(content, part.dtype, count=n_whole * size).reshape(n_whole, size)
            n_read += n_whole
    if n_read < part.n_volumes:
        raise DataError(
            f"{part.path}: ends within volume {n_read + 1} of the {part.n_volumes} that its header "
            "announces. The file is cut short: copy or download it again."
        )


def _skip(stream: BinaryIO, n_bytes: int) -> None:
    while n_bytes > 0 and (skipped := len(stream.read(min(n_bytes, _CHUNK)))):
        n_bytes -= skipped
