"""What a data set knows about one subject: where its images are and what happened in every volume."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pandas as pd


@dataclass(frozen=True)
class Recording:
    """One subject's recording.

    Attributes
    ----------
    dataset : str
        Name of the data set, as it is shown to people.
    subject : int
        Number of the subject.
    bold : Path
        4D image, volumes along the last axis.
    labels : DataFrame with columns ``condition`` (str) and ``run`` (int), one row per volume
        What was shown in each volume, and in which run it was recorded.
    labels_file : Path
        The file that the labels were read from.
    masks : mapping of str to Path
        The ROI masks that come with the data set, by the name that `roi.mask` takes.
    anat : Path or None
        Anatomical image, where the data set has one.
    t_r : float
        Repetition time in seconds.
    notice : str or None
        What must be said at every run, for instance that the data are simulated.
    """

    dataset: str
    subject: int
    bold: Path
    labels: pd.DataFrame
    labels_file: Path
    masks: Mapping[str, Path]
    anat: Path | None = None
    t_r: float = 2.5
    notice: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


class Dataset(Protocol):
    """Anything that can load a subject."""

    def load(self, subject: int) -> Recording:
        """Return the recording of one subject."""
        ...
