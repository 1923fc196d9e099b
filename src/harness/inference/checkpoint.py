"""Computed parts of a long computation on disk, so that it can be resumed where it was interrupted."""

import hashlib
import os
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]

PACKAGES = ("datasets", "decoding", "inference", "samples", "solvers")
"""Packages whose code the scores of a permutation test depend on."""

DIGEST, ROWS = "digest", "rows"


def digest_work(*content: object, packages: Sequence[str] = PACKAGES) -> str:
    """Return what identifies a computation: the objects that it depends on, and the code of packages."""
    return hashlib.sha256(f"{joblib.hash(content)} {_digest_code(packages)}".encode()).hexdigest()


def _digest_code(packages: Sequence[str]) -> str:
    root = Path(__file__).parents[1]
    found = hashlib.sha256()
    for package in packages:
        for file in sorted((root / package).glob("*.py")):
            found.update(file.read_bytes())
    return found.hexdigest()


@dataclass
class Checkpoint:
    """A directory of computed chunks: some rows each, with named arrays.

    Parameters
    ----------
    directory : Path or None
        Created where it does not exist; None keeps nothing.
    digest : str
        See `digest_work`; chunks of another digest are ignored, and overwritten.
    title, parts : str
        What is computed, and what the rows are, for messages.
    """

    directory: Path | None
    digest: str
    title: str = "permutation test"
    parts: str = "relabellings"
    _full: bool = field(default=False, init=False)

    def load(self, number: int, rows: Sequence[int]) -> Arrays | None:
        """Return the arrays of a chunk; None if it is missing, damaged, or part of something else."""
        if self.directory is None:
            return None
        try:
            with self._file(number).open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                if str(stored[DIGEST]) != self.digest or stored[ROWS].tolist() != list(rows):
                    return None
                return {name: stored[name] for name in stored.files if name not in (DIGEST, ROWS)}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None

    def save(self, number: int, rows: Sequence[int], arrays: Arrays) -> None:
        """Write a chunk, whole or not at all; warn once if that is not possible."""
        if self.directory is None or self._full:
            return
        content: dict[str, Any] = {DIGEST: np.array(self.digest), ROWS: np.array(rows), **arrays}
        file = self._file(number)
        temporary = file.with_suffix(f".{os.getpid()}.tmp")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as stream:
                np.savez(stream, **content)
            temporary.replace(file)
        except OSError as error:
            self._full = True
            warnings.warn(
                f"{self.directory}: the {self.parts} computed so far cannot be stored "
                f"({error.strerror or error}); the {self.title} continues, but cannot be resumed",
                stacklevel=2,
            )
            try:
                temporary.unlink(missing_ok=True)
            except OSError:
                return

    def _file(self, number: int) -> Path:
        assert self.directory is not None
        return self.directory / f"chunk-{number:05d}.npz"
