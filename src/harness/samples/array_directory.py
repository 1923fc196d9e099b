"""A directory of numpy arrays by key: checksummed, locked, limited in size, shared by processes.

`joblib.Memory` was tried instead: after a flipped byte it returned other data without a warning, it computed
eight times in eight processes, and on a full disk it lost the result. diskcache and zarr do not map arrays
into memory.
"""

import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock

try:  # four times the speed of the standard library
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

SUFFIX = ".arrays"
ALIGNMENT = 64  # bytes; every array starts at a multiple of it, as in files of `numpy.save`
CHECKSUM_BYTES = 4
ABANDONED_AFTER = 3600  # seconds; no process writes an entry or holds a lock that long


class DamagedEntryError(Exception):
    """The file of an entry is not what was written."""


@dataclass(frozen=True)
class EntryInfo:
    """An entry without its arrays; `last_used` is in seconds since the epoch."""

    key: str
    metadata: Mapping[str, Any]
    n_bytes: int
    last_used: float


class ArrayDirectory:
    """Numpy arrays with metadata by key, in one file per key.

    A file holds a line with the metadata (CRC-32 and JSON), the arrays as `numpy.save` writes them, and the
    CRC-32 of all of it. It appears in one step: an entry is whole or absent, whenever a process is killed.

    Parameters
    ----------
    path : Path
        Created when the first entry is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def keys(self, pattern: str = "*") -> list[str]:
        """Return the keys that match a pattern, as `pathlib.Path.glob` understands it."""
        return [file.name.removesuffix(SUFFIX) for file in self.path.glob(f"{pattern}{SUFFIX}")]

    def entries(self, pattern: str = "*") -> list[EntryInfo]:
        """Return the entries that match a pattern, the most recently used first; without damaged metadata."""
        found = []
        for key in self.keys(pattern):
            with suppress(OSError), self._file(key).open("rb") as file:
                status = os.fstat(file.fileno())
                found.append(EntryInfo(key, _read_metadata(file), status.st_size, status.st_mtime))
        return sorted(found, key=lambda entry: entry.last_used, reverse=True)

    def read(self, key: str) -> list[np.ndarray] | None:
        """Verify an entry, and return its arrays, read-only and mapped, or None if there is no such entry.

        Raises
        ------
        DamagedEntryError
            If the file is not what was written.
        """
        path = self._file(key)
        try:
            with path.open("rb") as file:
                arrays = _map_arrays(file)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise DamagedEntryError(f"{path} is damaged: {error}") from error
        with suppress(OSError):
            os.utime(path)
        return arrays

    def write(self, key: str, arrays: Sequence[np.ndarray], metadata: Mapping[str, Any]) -> None:
        """Write or replace an entry; raise OSError if the disk does not take it."""
        unfinished = self.path / "unfinished" / uuid.uuid4().hex
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        try:
            with unfinished.open("xb") as file:
                _write_entry(file, arrays, metadata)
                file.flush()
                os.fsync(file.fileno())  # a power failure may lose the entry, but not half of it
            unfinished.replace(self._file(key))
        finally:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)

    def rename(self, key: str, new_key: str) -> None:
        """Give an entry another key, where the directory can be written."""
        with suppress(OSError):
            self._file(key).replace(self._file(new_key))

    def remove(self, key: str) -> None:
        """Remove an entry; arrays that are still mapped stay valid."""
        with suppress(OSError):
            self._file(key).unlink(missing_ok=True)

    def trim(self, max_bytes: int) -> list[str]:
        """Remove the least recently used entries, and return their keys."""
        removed, total = [], 0
        for entry in self.entries():
            total += entry.n_bytes
            if total > max_bytes:
                self.remove(entry.key)
                removed.append(entry.key)
        self._remove_abandoned()
        return removed

    def check(self) -> dict[str, str]:
        """Verify all entries, remove the damaged ones, and return the problem of each by its key."""
        problems = {}
        for key in self.keys():
            try:
                self.read(key)
            except DamagedEntryError as damage:
                problems[key] = str(damage)
                self.remove(key)
        self._remove_abandoned()
        return problems

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Exclude other processes from the same lock; the system releases the locks of a process that ends.

        File systems without locks, or that cannot be written, exclude nothing: an entry may be computed
        twice, but is never wrong.
        """
        lock = FileLock(self.path / "locks" / f"{name}.lock")
        with suppress(OSError, NotImplementedError):
            Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _file(self, key: str) -> Path:
        return self.path / f"{key}{SUFFIX}"

    def _remove_abandoned(self) -> None:
        """Remove old locks, and the files that killed processes left unfinished."""
        for file in [*self.path.glob("unfinished/*"), *self.path.glob("locks/*")]:
            with suppress(OSError):
                if time.time() - file.stat().st_mtime > ABANDONED_AFTER:
                    file.unlink()


class _ChecksummedFile:
    """A file to write to, with the checksum of what was written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.crc32 = 0

    def write(self, content: bytes) -> int:
        self.crc32 = crc32(content, self.crc32)
        return self._file.write(content)


def _write_entry(file: IO[bytes], arrays: Sequence[np.ndarray], metadata: Mapping[str, Any]) -> None:
    text = json.dumps(metadata).encode()
    line = b"%08x %s" % (crc32(text), text)
    checksummed = _ChecksummedFile(file)
    checksummed.write(line + b" " * (-(len(line) + 1) % ALIGNMENT) + b"\n")
    for array in arrays:
        np.save(checksummed, array, allow_pickle=False)
        checksummed.write(bytes(-array.nbytes % ALIGNMENT))
    file.write(checksummed.crc32.to_bytes(CHECKSUM_BYTES, "little"))


def _read_metadata(file: IO[bytes]) -> dict[str, Any]:
    checksum, _, text = file.readline().rstrip().partition(b" ")
    return json.loads(text) if checksum == b"%08x" % crc32(text) else {}


def _map_arrays(file: IO[bytes]) -> list[np.ndarray]:
    content = np.memmap(file, mode="r")
    size = content.size - CHECKSUM_BYTES
    # At every use: a checksum takes a third of the time of the search for NaN that follows.
    if size < 0 or crc32(content[:size]) != int.from_bytes(content[size:].tobytes(), "little"):
        raise ValueError("the checksum does not match the content")
    file.seek(0)
    file.readline()
    arrays = []
    while file.tell() < size:
        np.lib.format.read_magic(file)
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        start, n_bytes = file.tell(), int(np.prod(shape)) * dtype.itemsize
        values = content[start : start + n_bytes].view(dtype)
        arrays.append(np.asarray(values.reshape(shape, order="F" if fortran_order else "C")))
        file.seek(start + n_bytes + -n_bytes % ALIGNMENT)
    return arrays
