"""What a data set knows about one subject: where its images are and what happened in every volume."""

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
        Name of the data set, as it is shown to people.
    subject : int
        Number of the subject.
    bold : Path or tuple of Path
        4D image, volumes along the last axis; or several, in order of time.
    labels : DataFrame with columns ``condition`` (str) and ``run`` (int), one row per volume
        What was shown in each volume, and in which run it was recorded.
    labels_file : Path or tuple of Path
        The file, or files, that the labels were read from.
    masks : mapping of str to Path
        The ROI masks that come with the data set, by the name that `roi.mask` takes.
    anat : Path or None
        Anatomical image, 3D and NIfTI, where the data set has one.
    t_r : float or None
        Repetition time in seconds; None where neither the files nor the user say it.
    confounds : DataFrame or None, one row per volume
        Time courses that can be regressed out, where the data set comes with them.
    notice : str or None
        What must be said at every run, for instance that the data are simulated.

    Raises
    ------
    DataError
        If a run comes back after another one; see `check_runs`.
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

    def __post_init__(self) -> None:
        check_runs(self.labels["run"].to_numpy(), describe_files(self.labels_file))


def check_runs(runs: np.ndarray, name: str) -> None:
    """Refuse a run that comes back after another one, whatever the data set.

    Parameters
    ----------
    runs : ndarray of shape (n_volumes,), int
    name : str
        The file that the runs come from, for the message.

    Raises
    ------
    DataError
        If the volumes of a run are not next to each other.
    """
    starts = np.flatnonzero(runs[1:] != runs[:-1]) + 1
    seen = set(runs[:1].tolist())
    for start in starts.tolist():
        run = int(runs[start])
        if run in seen:
            raise DataError(
                f"{name}: run {run} comes back after another run, at volume {start} (from 0); expected the "
                "rows in the order of time, and another number for every run"
            )
        seen.add(run)


def describe_files(files: Path | tuple[Path, ...]) -> str:
    """Name a file, or several, in a message.

    Parameters
    ----------
    files : Path or tuple of Path

    Returns
    -------
    description : str
    """
    if isinstance(files, Path):
        return str(files)
    return str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


class Dataset(Protocol):
    """Anything that can load a subject."""

    def load(self, subject: int) -> Recording:
        """Return the recording of one subject."""
        ...
