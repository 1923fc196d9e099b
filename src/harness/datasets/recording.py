"""The recording of one subject: its files, and the condition and run of every volume."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from harness.errors import DataError


@dataclass(frozen=True, eq=False)
class Recording:
    """One subject's recording.

    Attributes
    ----------
    dataset : str
        Name for titles and messages, without a path: that of the option, or the one in a BIDS data set's
        ``dataset_description.json``.
    bold : Path or tuple of Path
        4D image, volumes along the last axis; or several, in order of time.
    labels : DataFrame with columns ``condition`` (str) and ``run`` (int), one row per volume
        Each run is one block of rows.
    labels_file : Path or tuple of Path
        The file, or files, that the labels were read from.
    masks : mapping of str to Path
        The ROI masks of the data set, by the name that `roi.mask` takes.
    anat : Path or None
        Anatomical image, 3D and NIfTI.
    t_r : float or None
        Repetition time in seconds, if it is known.
    confounds : DataFrame or None, one row per volume
        Time courses that can be regressed out.
    notice : str or None
        A notice that every run prints, for example that the data are simulated.
    space : str or None
        The space that the images share with those of other subjects, as in BIDS, for example
        ``MNI152NLin2009cAsym``; None if every subject has its own.

    Raises
    ------
    DataError
        If the volumes of a run are not contiguous.
    """

    dataset: str
    subject: int
    bold: Path | tuple[Path, ...]
    labels: pd.DataFrame
    labels_file: Path | tuple[Path, ...]
    masks: Mapping[str, Path]
    anat: Path | None = None
    t_r: float | None = None
    confounds: pd.DataFrame | None = None
    notice: str | None = None
    space: str | None = None

    def __post_init__(self) -> None:
        runs = self.labels["run"].to_numpy()
        seen = set(runs[:1].tolist())
        for start in (np.flatnonzero(runs[1:] != runs[:-1]) + 1).tolist():
            run = int(runs[start])
            if run in seen:
                raise DataError(
                    f"{describe_files(self.labels_file)}: run {run} comes back after another run, at volume "
                    f"{start} (from 0); expected the rows in the order of time, and another number for every "
                    "run"
                )
            seen.add(run)


def describe_files(files: Path | tuple[Path, ...]) -> str:
    """Return the name of a file, or of the first of several and the number of the others."""
    if isinstance(files, Path):
        return str(files)
    return str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


class Dataset(Protocol):
    """A class that can be chosen with ``dataset``."""

    def load(self, subject: int) -> Recording:
        """Return the recording of one subject."""
        ...
