"""The cache of masked samples: what was read from an image once is mapped into memory the next time.

An entry is a folder with the samples, the mean volume and a sidecar. Its name says what it holds: the digests
of mask and preprocessing, and of the images' bytes. A small record per image says which digest a file of this
size and time had, so that finding an entry takes no look into the image.
"""

import hashlib
import json
import os
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock

from harness.datasets.images import digest_files, list_files
from harness.datasets.locations import cache_folder
from harness.samples.volumes import MaskedVolumes, read_masked

try:  # four times the standard library's speed
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

# Part of every key: a change of the layout, or of what is stored, makes old entries unreachable, and trimming
# removes them as the least recently used.
_FORMAT = 2

_SAMPLES = "samples.npy"
_MEAN_VOLUME = "mean_volume.npy"

# What a killed process left behind is removed when no living one can still be writing it (seconds).
_ABANDONED_AFTER = 3600

# Cache folders that were already said to be unwritable, once per process.
_said: set[Path] = set()


@dataclass(frozen=True)
class CacheEntry:
    """One set of samples in the cache.

    Attributes
    ----------
    key : str
        Name of the entry's folder.
    images : list of str
        The files that the samples were read from, where they were at the time.
    preprocessing : mapping
        What was done to them.
    shape : tuple of int
        (n_volumes, n_voxels).
    n_bytes : int
        Size on disk.
    last_used : float
        Seconds since the epoch.
    """

    key: str
    images: list[str]
    preprocessing: Mapping[str, Any]
    shape: tuple[int, int]
    n_bytes: int
    last_used: float


class _DamagedError(Exception):
    """An entry is there, but is not what was written."""


class SampleCache:
    """Samples that were computed before, shared by all processes of this user.

    Parameters
    ----------
    folder : Path or None
        Where the entries are; None for `harness.datasets.locations.cache_folder`.
    max_bytes : int, default=5 GiB
        Beyond this size the least recently used entries are removed.
    enabled : bool or None
        False reads every image anew; None asks the environment, where ``HARNESS_CACHE=off`` says so.
    """

    def __init__(
        self, folder: Path | None = None, *, max_bytes: int = 5 * 2**30, enabled: bool | None = None
    ) -> None:
        switched_off = os.environ.get("HARNESS_CACHE", "").strip().lower() == "off"
        self.enabled = (folder is not None or not switched_off) if enabled is None else enabled
        self.folder = Path(folder if folder is not None else cache_folder()).absolute() / "samples"
        self.max_bytes = max_bytes

    def fetch(
        self,
        bold: Path | Sequence[Path],
        mask: np.ndarray,
        mask_affine: np.ndarray,
        preprocessing: Mapping[str, Any] | None = None,
        compute: Callable[[], MaskedVolumes] | None = None,
    ) -> MaskedVolumes:
        """Return an image's masked volumes, from the cache where it has them.

        Of several processes that ask for the same, one computes and the others wait for it.

        Parameters
        ----------
        bold : Path or sequence of Path
            The image, or the images in order of time.
        mask : ndarray of shape (x, y, z), bool
        mask_affine : ndarray of shape (4, 4)
        preprocessing : mapping, optional
            All that `compute` does beside masking, in terms that JSON can hold.
        compute : callable, optional
            Makes the masked volumes, with the digest that `harness.datasets.images.digest_files` gives; by
            default `harness.samples.volumes.read_masked` does.

        Returns
        -------
        MaskedVolumes
            Its arrays are read-only, wherever they come from.
        """

        def make() -> MaskedVolumes:
            return _read_only(read_masked(bold, mask, mask_affine) if compute is None else compute())

        files = _identify(bold) if self.enabled else None
        if files is None:
            return make()
        preprocessing = dict(preprocessing or {})
        recipe = _digest_recipe(mask, mask_affine, preprocessing)
        with suppress(_DamagedError):
            if found := self._find(recipe, files):
                return found
        with self._turn(_digest_json([recipe, files])):
            try:
                if found := self._find(recipe, files) or self._find_content(recipe, files, bold):
                    return found
            except _DamagedError as damage:
                warnings.warn(f"{damage}. The samples are made anew.", stacklevel=2)
            masked = make()
            # An image that changed while it was read has no digest that one could trust later.
            if _identify(bold) == files:
                self._store(masked, recipe, files, preprocessing)
            return masked

    def find_digest(self, bold: Path | Sequence[Path]) -> str | None:
        """Return the digest of an image that was read before and has not changed since; else None."""
        files = _identify(bold) if self.enabled else None
        if files is None:
            return None
        with suppress(OSError, _DamagedError):
            record = _read_json(self._digest_record(files))
            if record["files"] == files:
                return str(record["digest"])
        return None

    def digest(self, bold: Path | Sequence[Path]) -> str:
        """Return the digest of an image, without reading it where it is as it was when it was last read.

        Parameters
        ----------
        bold : Path or sequence of Path

        Returns
        -------
        digest : str
            See `harness.datasets.images.digest_files`.

        Raises
        ------
        DataError
            If a file cannot be read.
        """
        known = self.find_digest(bold)
        if known is not None:
            return known
        files = _identify(bold) if self.enabled else None
        digest = digest_files(bold)
        if files is None:
            return digest
        if _identify(bold) == files:
            with suppress(OSError):
                self._write_digest_record(files, digest)
        return digest

    def entries(self) -> list[CacheEntry]:
        """Return the entries, the most recently used first; damaged ones are left to `check`."""
        found = []
        for folder in self._entry_folders():
            with suppress(_DamagedError, OSError):
                sidecar = _read_json(folder / "entry.json")
                found.append(
                    CacheEntry(
                        key=folder.name,
                        images=[str(file[0]) for file in sidecar["files"]],
                        preprocessing=sidecar["preprocessing"],
                        shape=tuple(sidecar["arrays"][_SAMPLES]["shape"]),
                        n_bytes=_size(folder),
                        last_used=_last_used(folder),
                    )
                )
        return sorted(found, key=lambda entry: entry.last_used, reverse=True)

    def check(self) -> dict[str, str]:
        """Read every byte of every entry, and remove the entries that are damaged.

        Returns
        -------
        dict of str to str
            What was wrong, by the key of the entry that was removed.
        """
        damaged = {}
        for folder in self._entry_folders():
            try:
                _open_entry(folder)
            except _DamagedError as damage:
                damaged[folder.name] = str(damage)
                self._remove(folder)
        self._sweep()
        return damaged

    def trim(self, max_bytes: int | None = None) -> list[str]:
        """Remove the least recently used entries until the rest fits.

        Parameters
        ----------
        max_bytes : int, optional
            Default: the cache's own limit.

        Returns
        -------
        list of str
            Keys of the entries that were removed.
        """
        allowed = self.max_bytes if max_bytes is None else max_bytes
        sizes = {folder: _size(folder) for folder in sorted(self._entry_folders(), key=_last_used)}
        excess = sum(sizes.values()) - allowed
        removed = []
        for folder, size in sizes.items():
            if excess <= 0:
                break
            self._remove(folder)
            removed.append(folder.name)
            excess -= size
        if removed:
            self._forget()
        self._sweep()
        return removed

    def clear(self) -> None:
        """Remove the whole cache. Samples that are in use stay whole for those who use them."""
        for folder in self._entry_folders():
            self._remove(folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _entry_folders(self, recipe: str = "*") -> list[Path]:
        return sorted((self.folder / "entries").glob(f"{recipe[:32]}-*"))

    def _entry_folder(self, recipe: str, digest: str) -> Path:
        return self.folder / "entries" / f"{recipe[:32]}-{digest[:32]}"

    def _digest_record(self, files: list[list[Any]]) -> Path:
        return self.folder / "digests" / f"{_digest_json([file[0] for file in files])}.json"

    def _find(self, recipe: str, files: list[list[Any]]) -> MaskedVolumes | None:
        """Find the entry of files that are as they were when they were last read."""
        try:
            record = _read_json(self._digest_record(files))
        except (OSError, _DamagedError):
            return None
        return self._open(recipe, record["digest"]) if record["files"] == files else None

    def _find_content(
        self, recipe: str, files: list[list[Any]], bold: Path | Sequence[Path]
    ) -> MaskedVolumes | None:
        """Find the entry of files that were moved, copied or touched: same bytes, other name or time."""
        # Digesting is cheap beside computing, but not worth it where the sizes alone say no.
        sizes = [file[1] for file in files]
        if not any(entry_sizes == sizes for entry_sizes in self._sizes(recipe)):
            return None
        digest = digest_files(bold)
        found = self._open(recipe, digest)
        if found is not None:
            with suppress(OSError):
                self._write_digest_record(files, digest)
        return found

    def _sizes(self, recipe: str) -> Iterator[list[int]]:
        for folder in self._entry_folders(recipe):
            with suppress(_DamagedError, OSError):
                yield [file[1] for file in _read_json(folder / "entry.json")["files"]]

    def _open(self, recipe: str, digest: str) -> MaskedVolumes | None:
        folder = self._entry_folder(recipe, digest)
        masked = _open_entry(folder)
        if masked is not None:
            with suppress(OSError):
                os.utime(folder / "entry.json")
        return masked

    def _store(
        self, masked: MaskedVolumes, recipe: str, files: list[list[Any]], preprocessing: Mapping[str, Any]
    ) -> None:
        """Write an entry such that it is either whole or not there, whenever this process dies."""
        if masked.data.nbytes + masked.mean_volume.nbytes > self.max_bytes:
            self._say(f"the samples take {masked.data.nbytes} bytes, more than its limit of {self.max_bytes}")
            return
        unfinished = self.folder / "unfinished" / uuid.uuid4().hex
        try:
            unfinished.mkdir(parents=True)
            sidecar = {
                "format": _FORMAT,
                "digest": masked.digest,
                "affine": masked.affine.tolist(),
                "preprocessing": preprocessing,
                "files": files,
                "arrays": {
                    _SAMPLES: _write_array(unfinished / _SAMPLES, masked.data),
                    _MEAN_VOLUME: _write_array(unfinished / _MEAN_VOLUME, masked.mean_volume),
                },
            }
            _write_json(unfinished / "entry.json", sidecar)
            # All files are on the disk itself: losing power may lose the rename, but never half of an entry.
            folder = self._entry_folder(recipe, masked.digest)
            self._remove(folder)
            folder.parent.mkdir(exist_ok=True)
            try:
                unfinished.rename(folder)
            except OSError:
                # Whoever reads the same bytes under another path may have been faster.
                if not folder.exists():
                    raise
            self._write_digest_record(files, masked.digest)
            self.trim()
        except OSError as error:
            self._say(error.strerror or str(error))
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _write_digest_record(self, files: list[list[Any]], digest: str) -> None:
        record = self._digest_record(files)
        unfinished = self.folder / "unfinished" / uuid.uuid4().hex
        for folder in (record.parent, unfinished.parent):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            _write_json(unfinished, {"files": files, "digest": digest})
            unfinished.replace(record)
        finally:
            unfinished.unlink(missing_ok=True)

    def _remove(self, folder: Path) -> None:
        """Take an entry away in one step, so that nobody finds half of it."""
        doomed = self.folder / "unfinished" / uuid.uuid4().hex
        with suppress(OSError):
            doomed.parent.mkdir(exist_ok=True)
            folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def _forget(self) -> None:
        """Remove the records of images that no entry is left of."""
        digests = {folder.name.partition("-")[2] for folder in self._entry_folders()}
        for record in (self.folder / "digests").glob("*.json"):
            with suppress(_DamagedError, OSError):
                if _read_json(record)["digest"][:32] not in digests:
                    record.unlink()

    def _sweep(self) -> None:
        """Remove what killed processes left unfinished, and old locks."""
        for left in [*(self.folder / "unfinished").glob("*"), *(self.folder / "locks").glob("*")]:
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _ABANDONED_AFTER:
                    shutil.rmtree(left) if left.is_dir() else left.unlink()

    @contextmanager
    def _turn(self, name: str) -> Iterator[None]:
        """Wait for those who make the same; the system ends the turn of a process that dies.

        Nothing but a second computation depends on the lock: entries appear in one step.
        """
        lock = None
        try:
            (self.folder / "locks").mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / "locks" / f"{name}.lock")
            lock.acquire()
        except (OSError, NotImplementedError) as error:
            lock = None
            self._say(getattr(error, "strerror", None) or str(error))
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def _say(self, reason: str) -> None:
        if self.folder not in _said:
            _said.add(self.folder)
            warnings.warn(
                f"The sample cache in {self.folder} does not keep these samples: {reason}. This run goes on "
                "without it. Set HARNESS_CACHE to a folder with room that can be written, or to off.",
                stacklevel=4,
            )


def _identify(bold: Path | Sequence[Path]) -> list[list[Any]] | None:
    """Return path, size, times and inode of every file; None where reading will explain what is wrong."""
    files = []
    for path in list_files(bold):
        try:
            status = path.stat()
        except OSError:
            return None
        # The time of the inode's change too: copying over a file may keep its size and modification time.
        files.append(
            [str(path.absolute()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        )
    return files


def _digest_json(content: object) -> str:
    return hashlib.sha256(json.dumps([_FORMAT, content], sort_keys=True).encode()).hexdigest()


def _digest_recipe(mask: np.ndarray, mask_affine: np.ndarray, preprocessing: Mapping[str, Any]) -> str:
    """Digest all that decides on the samples beside the images."""
    mask = np.ascontiguousarray(mask)
    affine = np.asarray(mask_affine, dtype=np.float64)
    return _digest_json(
        [
            hashlib.sha256(mask.tobytes()).hexdigest(),
            mask.dtype.str,
            mask.shape,
            affine.tolist(),
            preprocessing,
        ]
    )


def _read_only(masked: MaskedVolumes) -> MaskedVolumes:
    """Make what was just computed behave like what is mapped from the cache."""
    for array in (masked.data, masked.mean_volume, masked.affine):
        array.flags.writeable = False
    return masked


class _SummedFile:
    """A file to write to that keeps the checksum of what was written.

    Parameters
    ----------
    file : binary file
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.crc32 = 0

    def write(self, content: bytes) -> int:
        self.crc32 = crc32(content, self.crc32)
        return self._file.write(content)


def _write_array(path: Path, array: np.ndarray) -> dict[str, Any]:
    """Write an array to the disk itself, and return what its file must look like."""
    with path.open("xb") as file:
        summed = _SummedFile(file)
        np.save(summed, array)
        size = file.tell()
        _sync(file)
    return {"size": size, "crc32": summed.crc32, "shape": array.shape, "dtype": array.dtype.str}


def _map_array(path: Path, expected: Mapping[str, Any]) -> np.ndarray:
    size = path.stat().st_size
    if size != expected["size"]:
        raise _DamagedError(f"{path.name} has {size} bytes instead of {expected['size']}")
    # At every use: a checksum takes a third of the time that looking for NaN takes afterwards.
    if crc32(np.memmap(path, mode="r")) != expected["crc32"]:
        raise _DamagedError(f"the bytes of {path.name} have changed")
    array = np.load(path, mmap_mode="r")
    if array.dtype.str != expected["dtype"] or list(array.shape) != expected["shape"]:
        raise _DamagedError(f"{path.name} holds {array.dtype} of shape {array.shape}")
    return np.asarray(array)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    # As it will be read, where tuples are lists and keys are strings.
    content = json.loads(json.dumps(content))
    with path.open("x") as file:
        json.dump({"content": content, "crc32": _sum_json(content)}, file)
        _sync(file)


def _read_json(path: Path) -> dict[str, Any]:
    text = path.read_bytes()
    try:
        summed = json.loads(text)
        whole = summed["crc32"] == _sum_json(summed["content"])
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise _DamagedError(f"{path.name} is not what was written")
    return summed["content"]


def _sum_json(content: object) -> int:
    return crc32(json.dumps(content, sort_keys=True).encode())


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _open_entry(folder: Path) -> MaskedVolumes | None:
    """Map an entry into memory, or return None if there is none.

    Raises
    ------
    _DamagedError
        If the entry is not what was written.
    """
    try:
        sidecar = _read_json(folder / "entry.json")
        if sidecar["format"] != _FORMAT:
            raise _DamagedError(f"it was written in format {sidecar['format']}, and this is {_FORMAT}")
        arrays = {name: _map_array(folder / name, expected) for name, expected in sidecar["arrays"].items()}
    except FileNotFoundError as error:
        # Entries go in one step, so that one whose folder stands is not one that is being removed.
        if folder.exists():
            missing = Path(error.filename).name
            raise _DamagedError(
                f"The cached samples in {folder} are damaged: {missing} is missing"
            ) from error
        return None
    except (_DamagedError, OSError, ValueError) as error:
        raise _DamagedError(f"The cached samples in {folder} are damaged: {error}") from error
    return _read_only(
        MaskedVolumes(
            data=arrays[_SAMPLES],
            mean_volume=arrays[_MEAN_VOLUME],
            digest=sidecar["digest"],
            affine=np.array(sidecar["affine"]),
        )
    )


def _last_used(folder: Path) -> float:
    with suppress(OSError):
        return (folder / "entry.json").stat().st_mtime
    return 0.0


def _size(folder: Path) -> int:
    size = 0
    for path in folder.glob("*"):
        with suppress(OSError):
            size += path.stat().st_size
    return size
