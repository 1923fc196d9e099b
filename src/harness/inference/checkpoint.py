"""Computed parts of a permutation test on disk, so that an interrupted test can be resumed."""

import hashlib
import os
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import joblib
import numpy as np

from harness.inference.null_scores import NullScores, RelabelledAnalysis
from harness.inference.relabelling import Relabellings

PACKAGES = ("datasets", "decoding", "inference", "samples", "solvers")
"""Packages whose code the scores depend on."""


def digest_test(analysis: RelabelledAnalysis, relabellings: Relabellings) -> str:
    """Return what identifies the scores of a test: samples, question, relabellings and code."""
    question = analysis.question
    samples = analysis.samples
    arrays = (samples.X, samples.y, samples.runs, samples.conditions, samples.preparation)
    content = joblib.hash((question, arrays, analysis.is_batched, relabellings.digest))
    return hashlib.sha256(f"{content} {_digest_code()}".encode()).hexdigest()


def _digest_code() -> str:
    root = Path(__file__).parents[1]
    found = hashlib.sha256()
    for package in PACKAGES:
        for file in sorted((root / package).glob("*.py")):
            found.update(file.read_bytes())
    return found.hexdigest()


@dataclass
class Checkpoint:
    """A directory of computed chunks.

    Parameters
    ----------
    directory : Path or None
        Created where it does not exist; None keeps nothing.
    digest : str
        See `digest_test`; chunks of another digest are ignored, and overwritten.
    """

    directory: Path | None
    digest: str
    _full: bool = field(default=False, init=False)

    def load(self, number: int, rows: Sequence[int]) -> NullScores | None:
        """Return a chunk; None if it is missing, damaged, or belongs to another test."""
        if self.directory is None:
            return None
        try:
            with self._file(number).open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                if str(stored["digest"]) != self.digest or stored["rows"].tolist() != list(rows):
                    return None
                return NullScores(stored["scores"], stored["decisions"], int(stored["unconverged"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None

    def save(self, number: int, rows: Sequence[int], chunk: NullScores) -> None:
        """Write a chunk, whole or not at all; warn once if that is not possible."""
        if self.directory is None or self._full:
            return
        file = self._file(number)
        temporary = file.with_suffix(f".{os.getpid()}.tmp")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as stream:
                np.savez(
                    stream,
                    digest=np.array(self.digest),
                    rows=np.array(rows),
                    scores=chunk.scores,
                    decisions=chunk.decisions,
                    unconverged=np.array(chunk.unconverged),
                )
            temporary.replace(file)
        except OSError as error:
            self._full = True
            warnings.warn(
                f"{self.directory}: the relabellings computed so far cannot be stored "
                f"({error.strerror or error}); the test continues, but cannot be resumed",
                stacklevel=2,
            )
            try:
                temporary.unlink(missing_ok=True)
            except OSError:
                return

    def _file(self, number: int) -> Path:
        assert self.directory is not None
        return self.directory / f"chunk-{number:05d}.npz"
