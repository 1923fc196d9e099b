"""NIfTI images, read to the end in one pass, so that the checksum and the length of gzip are verified."""

import hashlib
import io
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from harness.datasets.headers import NiftiHeader, explain_damage, is_compressed, read_nifti_header
from harness.errors import DataError

try:  # about three times the speed of the standard library; some machines have no wheel
    from isal.igzip import GzipFile
except ImportError:
    from gzip import GzipFile

_CHUNK = 4 << 20  # bytes; waiting for a thread takes less time than inflating them, and they fit any memory


def read_mask(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a mask from an image of one volume: True where the value is finite and not zero.

    Returns
    -------
    mask : ndarray of shape (x, y, z), bool
    affine : ndarray of shape (4, 4)

    Raises
    ------
    DataError
        See `read_volume`; or if the mask is empty.
    """
    values, affine = read_volume(path)
    mask = np.ascontiguousarray(np.isfinite(values) & (values != 0))
    if not mask.any():
        raise DataError(f"{path}: every voxel of this mask is zero, so it selects nothing. Choose another.")
    return mask, affine


def read_volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read an image of one volume, 3D or 4D.

    Returns
    -------
    values : ndarray of shape (x, y, z)
        Scaled by slope and intercept.
    affine : ndarray of shape (4, 4)

    Raises
    ------
    DataError
        If the file is missing, unreadable or damaged, or has several volumes.
    """
    header = read_nifti_header(Path(path))
    if header.n_volumes != 1:
        raise DataError(
            f"{path}: has shape {header.shape}, but expected one 3D volume. Give a 3D image, for example "
            "one volume of this one (nilearn.image.index_img)."
        )
    (values,) = stream_volumes([path])
    return values, header.affine


def stream_volumes(bold: Path | Sequence[Path]) -> Iterator[np.ndarray]:
    """Yield the volumes of an image, or of several images in order of time, with bounded memory.

    Yields
    ------
    volume : ndarray of shape (x, y, z)
        Scaled by slope and intercept, as nibabel's `dataobj`; in Fortran order.

    Raises
    ------
    DataError
        If an image is missing, unreadable, truncated or damaged, or the images differ in shape or affine.
    """
    parts = [read_nifti_header(path) for path in list_files(bold)]
    for part in parts[1:]:
        check_same_space(part, parts[0].shape[:3], parts[0].affine, str(parts[0].path))
    for part in parts:
        with explain_damage(part.path), HashedFile(part.path) as raw:
            for volumes in read_stored_volumes(part, raw):
                for volume in part.scaled(volumes):
                    yield volume.reshape(part.shape[:3], order="F")


def digest_files(bold: Path | Sequence[Path]) -> str:
    """Return the SHA-256 (hexadecimal) of a file; of a list, that of the digests of its files, one per line.

    Raises
    ------
    DataError
        If a file cannot be read.
    """
    digests = []
    for path in list_files(bold):
        with explain_damage(path), HashedFile(path) as raw:
            while raw.read(_CHUNK):
                pass
            digests.append(raw.hexdigest())
    return digests[0] if isinstance(bold, str | Path) else digest_of_list(digests)


def list_files(bold: Path | Sequence[Path]) -> list[Path]:
    """Return the files of an image as a list."""
    return [Path(bold)] if isinstance(bold, str | Path) else [Path(path) for path in bold]


def digest_of_list(digests: list[str]) -> str:
    """Return the SHA-256 of the digests of several files, one per line."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _read_ahead(read: Callable[[], bytes]) -> Generator[bytes, None, None]:
    """Yield the results of `read` until one is empty; a thread reads the next while one is used."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(read)
        while content := following.result():
            following = thread.submit(read)
            yield content


class HashedFile(io.RawIOBase):
    """A file that a thread reads and digests before it is used."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._hash = hashlib.sha256()
        self._chunks = _read_ahead(self._read_chunk)
        self._chunk = memoryview(b"")

    def _read_chunk(self) -> bytes:
        chunk = self._file.read(_CHUNK)
        self._hash.update(chunk)
        return chunk

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Write the next bytes to `buffer`; return their number, 0 at the end."""
        if not self._chunk:
            self._chunk = memoryview(next(self._chunks, b""))
        n = min(len(buffer), len(self._chunk))
        buffer[:n] = self._chunk[:n]
        self._chunk = self._chunk[n:]
        return n

    def close(self) -> None:
        """Close the file and end the thread that reads ahead."""
        self._chunks.close()
        self._file.close()
        super().close()

    def hexdigest(self) -> str:
        """Return the SHA-256 of the file, after it was read to the end."""
        return self._hash.hexdigest()


def check_same_space(
    part: NiftiHeader, mask_shape: tuple[int, ...], mask_affine: np.ndarray, mask_name: str
) -> None:
    """Raise a `DataError` if the shape or the affine of an image is not that of a mask."""
    if part.shape[:3] != mask_shape:
        raise DataError(
            f"{part.path}: has volumes of shape {part.shape[:3]}, but {mask_name} has shape {mask_shape}. "
            "Choose the mask of this subject, or resample it to the image (nilearn.image.resample_to_img)."
        )
    # The tolerance of nilearn.masking.apply_mask.
    if mask_affine.shape != (4, 4) or not np.allclose(mask_affine, part.affine):
        raise DataError(
            f"{part.path}: its affine differs from that of {mask_name}.\n"
            f"image:\n{part.affine}\nmask:\n{mask_affine}\n"
            "Choose the mask of this subject, or resample it to the image (nilearn.image.resample_to_img)."
        )


def read_stored_volumes(part: NiftiHeader, raw: HashedFile) -> Iterator[np.ndarray]:
    """Yield the volumes of a file as stored, a few at a time, of shape (n, x * y * z)."""
    at_once = max(1, _CHUNK // part.volume_bytes)
    n_read = 0
    # The stub of isal does not declare that its GzipFile is a binary file.
    stream = cast(
        BinaryIO,
        GzipFile(fileobj=raw, mode="rb") if is_compressed(part.path) else io.BufferedReader(raw, _CHUNK),
    )
    _skip(stream, part.offset)
    # To the end of the file, for the checksum and the length of gzip and for the digest.
    with closing(_read_ahead(lambda: stream.read(at_once * part.volume_bytes))) as contents:
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


def average_volumes(bold: Path | Sequence[Path], groups: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Return the mean of each group of volumes, in one pass; see `stream_volumes` for what is verified.

    Parameters
    ----------
    groups : sequence of sequence of int
        Indices of volumes, from 0; a group of one is that volume.

    Returns
    -------
    means : list of ndarray of shape (x, y, z), float64

    Raises
    ------
    DataError
        If the image is damaged, or has fewer volumes than an index needs.
    """
    groups_of: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        for index in group:
            groups_of.setdefault(index, []).append(number)
    totals: dict[int, np.ndarray] = {}
    n_volumes = 0
    for n_volumes, volume in enumerate(stream_volumes(bold), start=1):
        for number in groups_of.get(n_volumes - 1, ()):
            totals[number] = totals.get(number, 0.0) + volume.astype(np.float64)
    largest = max(groups_of, default=-1)
    if largest >= n_volumes:
        raise DataError(f"{list_files(bold)[0]}: has {n_volumes} volumes, no volume {largest} (from 0)")
    return [totals[number] / len(group) for number, group in enumerate(groups)]
