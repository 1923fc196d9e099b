"""The cache of masked volumes: an image that was read with a mask is mapped into memory the next time.

A key consists of three digests: of mask and preprocessing; of the paths, sizes, times and inodes of the
images, so that a lookup does not read them; and of their bytes, so that a moved or copied image is found.
"""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets.images import digest_files, list_files
from harness.datasets.locations import cache_directory
from harness.samples.array_directory import ArrayDirectory, DamagedEntryError
from harness.samples.volumes import MaskedVolumes, read_masked

FORMAT = "format-3"  # directory of the entries
FORMAT_2 = ("entries", "digests", "unfinished", "locks")  # directories of the previous format
FileStatus = list[list[Any]]  # of every file: path, size, modification and change time, inode


@dataclass(frozen=True)
class CacheEntry:
    """Masked volumes in the cache; `last_used` is in seconds since the epoch."""

    key: str
    images: list[str]  # where the files were when they were read
    preprocessing: Mapping[str, Any]
    shape: tuple[int, int]  # (n_volumes, n_voxels)
    n_bytes: int
    last_used: float


class SampleCache:
    """Masked volumes on disk, shared by all processes of a user.

    Parameters
    ----------
    directory : Path, optional
        By default `harness.datasets.locations.cache_directory`.
    max_bytes : int, default=5 GiB
        Above this size the least recently used entries are removed.
    enabled : bool, optional
        Whether anything is read or written: by default, unless `directory` is None and ``HARNESS_CACHE=off``.
    """

    def __init__(
        self, directory: Path | None = None, *, max_bytes: int = 5 * 2**30, enabled: bool | None = None
    ) -> None:
        switched_off = os.environ.get("HARNESS_CACHE", "").strip().lower() == "off"
        self.enabled = (directory is not None or not switched_off) if enabled is None else enabled
        self.directory = (
            Path(directory if directory is not None else cache_directory()).absolute() / "samples"
        )
        self.max_bytes = max_bytes
        self._arrays = ArrayDirectory(self.directory / FORMAT)
        self._warned = False

    def fetch(
        self,
        bold: Path | Sequence[Path],
        mask: np.ndarray,
        mask_affine: np.ndarray,
        preprocessing: Mapping[str, Any] | None = None,
        compute: Callable[[], MaskedVolumes] | None = None,
    ) -> MaskedVolumes:
        """Return the masked volumes of an image, from the cache if it has them, else computed and stored.

        Of several processes that need the same entry, one computes and the others wait for it.

        Parameters
        ----------
        bold : Path or sequence of Path
            The image, or the images in order of time.
        mask : ndarray of shape (x, y, z), bool
        mask_affine : ndarray of shape (4, 4)
        preprocessing : mapping, optional
            What `compute` does in addition to masking, as values that JSON can hold.
        compute : callable, optional
            By default `harness.samples.volumes.read_masked`.

        Returns
        -------
        MaskedVolumes
            Its arrays are read-only.
        """

        def read_image() -> MaskedVolumes:
            masked = read_masked(bold, mask, mask_affine) if compute is None else compute()
            for array in (masked.data, masked.mean_volume, masked.affine):
                array.flags.writeable = False
            return masked

        files = _file_status(bold) if self.enabled else None
        if files is None:
            return read_image()
        preprocessing = dict(preprocessing or {})
        recipe = _digest_recipe(mask, mask_affine, preprocessing)
        status = _digest_status(bold, files)
        with suppress(DamagedEntryError):
            if found := self._find(_key(recipe, status, "*")):
                return found
        with self._arrays.lock(_digest_json([recipe, status])):
            try:
                if found := self._find(_key(recipe, status, "*")):
                    return found
                if found := self._find_content(recipe, status, bold, files):
                    return found
            except DamagedEntryError as damage:
                warnings.warn(f"Sample cache: {damage}. It is computed again.", stacklevel=2)
            masked = read_image()
            if _file_status(bold) == files:  # else the image changed while it was read
                metadata = {"files": files, "preprocessing": preprocessing, "shape": masked.data.shape}
                self._store(_key(recipe, status, masked.digest), masked, metadata)
            return masked

    def find_digest(self, bold: Path | Sequence[Path]) -> str | None:
        """Return the digest of an image that was read before and has not changed since, else None."""
        files = _file_status(bold) if self.enabled else None
        keys = [] if files is None else self._arrays.keys(_key("*", _digest_status(bold, files), "*"))
        return _image_digest(keys[0]) if keys else None

    def digest(self, bold: Path | Sequence[Path]) -> str:
        """Return `digest_files` of an image, which is read only if its digest is not known."""
        digest = self.find_digest(bold)
        if digest is None:
            files = _file_status(bold) if self.enabled else None
            digest = digest_files(bold)
            if files is not None and _file_status(bold) == files:
                with suppress(OSError):  # an entry without arrays
                    self._arrays.write(_key("image", _digest_status(bold, files), digest), [], {})
        return digest

    def entries(self) -> list[CacheEntry]:
        """Return the entries, the most recently used first; unreadable ones are left to `check`."""
        return [
            CacheEntry(
                key=entry.key,
                images=[file[0] for file in entry.metadata["files"]],
                preprocessing=entry.metadata["preprocessing"],
                shape=tuple(entry.metadata["shape"]),
                n_bytes=entry.n_bytes,
                last_used=entry.last_used,
            )
            for entry in self._arrays.entries()
            if "files" in entry.metadata
        ]

    def check(self) -> dict[str, str]:
        """Verify all entries, remove damaged ones, and return the problem of each by its key."""
        return self._arrays.check()

    def trim(self, max_bytes: int | None = None) -> list[str]:
        """Remove the least recently used entries above a size, by default the limit; return their keys."""
        self._remove_format_2()
        return self._arrays.trim(self.max_bytes if max_bytes is None else max_bytes)

    def clear(self) -> None:
        """Remove the whole cache; arrays that are still mapped stay valid."""
        self._remove_format_2()
        shutil.rmtree(self.directory / FORMAT, ignore_errors=True)
        with suppress(OSError):
            self.directory.rmdir()

    def _remove_format_2(self) -> None:
        if any(self.directory.glob("entries/*/entry.json")):  # else they are not of this program
            for name in FORMAT_2:
                shutil.rmtree(self.directory / name, ignore_errors=True)

    def _find(self, pattern: str) -> MaskedVolumes | None:
        """Return the masked volumes of the entry whose key matches a pattern."""
        for key in self._arrays.keys(pattern):
            if arrays := self._arrays.read(key):
                data, mean_volume, affine = arrays
                return MaskedVolumes(data, mean_volume, _image_digest(key), affine)
        return None

    def _find_content(
        self, recipe: str, status: str, bold: Path | Sequence[Path], files: FileStatus
    ) -> MaskedVolumes | None:
        """Return the entry of files that were moved, copied or touched: same bytes, other path or time."""
        sizes = [file[1] for file in files]  # files of other sizes are not digested
        others = self._arrays.entries(_key(recipe, "*", "*"))
        if all([file[1] for file in other.metadata.get("files", [])] != sizes for other in others):
            return None
        digest = self.digest(bold)
        for key in self._arrays.keys(_key(recipe, "*", digest)):
            self._arrays.rename(key, _key(recipe, status, digest))
        return self._find(_key(recipe, "*", digest))

    def _store(self, key: str, masked: MaskedVolumes, metadata: Mapping[str, Any]) -> None:
        problem = None
        if masked.data.nbytes > self.max_bytes:
            problem = f"they take {masked.data.nbytes} bytes, more than the limit of {self.max_bytes}"
        else:
            try:
                arrays = [masked.data, masked.mean_volume, masked.affine]
                self._arrays.write(key, arrays, metadata)
                self.trim()
            except OSError as error:
                problem = error.strerror or str(error)
        if problem is not None and not self._warned:
            self._warned = True
            warnings.warn(
                f"The sample cache in {self.directory} cannot store masked volumes: {problem}. The run "
                "continues without it. Set HARNESS_CACHE to a writable directory with free space, or to off.",
                stacklevel=3,
            )


def _key(recipe: str, status: str, digest: str) -> str:
    return f"{recipe[:32]}-{status[:32]}-{digest}"


def _image_digest(key: str) -> str:
    return key.rpartition("-")[2]


def _digest_json(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digest_recipe(mask: np.ndarray, mask_affine: np.ndarray, preprocessing: Mapping[str, Any]) -> str:
    """Digest all that determines the masked volumes of given images."""
    values = hashlib.sha256(np.ascontiguousarray(mask).tobytes()).hexdigest()
    affine = np.asarray(mask_affine, dtype=np.float64).tolist()
    return _digest_json([values, mask.dtype.str, mask.shape, affine, preprocessing])


def _digest_status(bold: Path | Sequence[Path], files: FileStatus) -> str:
    # The digest of an image is not that of a list of this image alone.
    return _digest_json([isinstance(bold, str | Path), files])


def _file_status(bold: Path | Sequence[Path]) -> FileStatus | None:
    """Return what identifies the files without reading them; None if one is missing."""
    files = []
    for path in list_files(bold):
        try:
            status = path.stat()
        except OSError:
            return None
        # Copying over a file may keep its size, modification time and inode, but not its change time.
        times = (status.st_mtime_ns, status.st_ctime_ns)
        files.append([str(path.absolute()), status.st_size, *times, status.st_ino])
    return files
