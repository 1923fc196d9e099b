"""Haxby 2001: visual object recognition, six subjects, eight categories, 12 runs of 121 volumes.

References
----------
Haxby, Gobbini, Furey, Ishai, Schouten, Pietrini (2001), Science 293:2425-2430, doi:10.1126/science.1063736
"""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.datasets.locations import expand_path
from harness.datasets.options import check_options
from harness.datasets.recording import Recording
from harness.datasets.tables import is_missing
from harness.errors import DataError, first_line

SUBJECTS = (1, 2, 3, 4, 5, 6)
T_R = 2.5  # seconds; the image headers lack it
BOLD_FILE, LABELS_FILE, ANAT_FILE = "bold.nii.gz", "labels.txt", "anat.nii.gz"
MASK_FILES = {
    "vt": "mask4_vt.nii.gz",
    "face": "mask8_face_vt.nii.gz",
    "house": "mask8_house_vt.nii.gz",
    "face_little": "mask8b_face_vt.nii.gz",
    "house_little": "mask8b_house_vt.nii.gz",
}
SUBJECT_FILES = (BOLD_FILE, LABELS_FILE, *MASK_FILES.values(), ANAT_FILE)
REQUIRED_FILES = (BOLD_FILE, LABELS_FILE)  # a subject can be decoded without the others
BRAIN_FILE = "mask.nii.gz"  # in the directory of all subjects


@dataclass(frozen=True)
class Haxby:
    """The measured data, read from disk, or downloaded if they are not there.

    Parameters
    ----------
    data_dir : str or Path, optional
        Directory that contains ``haxby2001/subj1`` and so on, or ``subj1`` itself. By default nilearn's data
        directories are searched (``NILEARN_SHARED_DATA``, ``NILEARN_DATA``, ``~/nilearn_data``).
    """

    data_dir: str | Path | None = None

    def __post_init__(self) -> None:
        check_options(self)

    def load(self, subject: int) -> Recording:
        """Return the recording of one subject, 1 to 6; it is downloaded unless it is on disk.

        Raises
        ------
        DataError
            If `data_dir` or the subject does not exist, the download fails, or a file is missing or damaged.
        """
        if (
            self.data_dir is not None
            and not (path := expand_path("dataset.data_dir", self.data_dir)).is_dir()
        ):
            raise DataError(
                f"dataset.data_dir={path} is not a directory; expected the one that contains haxby2001/subj1 "
                "or subj1: correct it, or create it and download the subject: python -m harness fetch "
                f"dataset=haxby dataset.data_dir={path} subject={subject}"
            )
        return self._read(subject, replace_damaged=False)

    def fetch(self, subject: int) -> Recording:
        """Return the recording of one subject, 1 to 6; it is downloaded if missing or damaged.

        Raises
        ------
        DataError
            If the subject does not exist, or the download fails.
        """
        return self._read(subject, replace_damaged=True)

    def verify(self, recording: Recording) -> str:
        """Return how a recording compares with the published files.

        Raises
        ------
        DataError
            If a file differs from the published one.
        """
        from harness.datasets.haxby_download import verify_subject

        assert isinstance(recording.bold, Path)
        return verify_subject(recording.bold.parent, recording.subject)

    def _read(self, subject: int, *, replace_damaged: bool) -> Recording:
        if subject not in SUBJECTS:
            raise DataError(f"subject={subject}: Haxby 2001 has subjects 1 to 6; choose one of them")
        directory = self._find(subject)
        if directory is None or replace_damaged:
            # Imported here, because it reads this module's file names, and a run seldom downloads.
            from harness.datasets.haxby_download import download_subject, find_damage

            if directory is None or find_damage(directory / f"subj{subject}"):
                directory = directory or self._choose_download_directory()
                download_subject(directory, subject, self._list_available())
        return read_subject(directory, subject, dataset="haxby")

    def candidates(self) -> list[Path]:
        """Return the directories that may contain a subject, in the order of the search."""
        return [place for own in self.own_directories() for place in (own, own.parent)]

    def own_directories(self) -> list[Path]:
        """Return the directories of this data set alone, in one of which a download puts its subjects."""
        if self.data_dir is not None:
            roots = [expand_path("dataset.data_dir", self.data_dir)]
        else:
            from nilearn.datasets import get_data_dirs

            roots = [Path(root) for root in get_data_dirs()]
        return [root / "haxby2001" for root in roots]

    def _find(self, subject: int) -> Path | None:
        """Return the directory with a subject's required files, or at least with the subject's directory."""
        name = f"subj{subject}"
        found = [directory for directory in self.candidates() if (directory / name).is_dir()]
        complete = [directory for directory in found if not list_missing(directory / name, REQUIRED_FILES)]
        return next(iter(complete or found), None)

    def _list_available(self) -> list[str]:
        return sorted({path.name for directory in self.candidates() for path in directory.glob("subj?")})

    def _choose_download_directory(self) -> Path:
        """Return the directory that has other subjects, else the first that can be written."""
        for directory in self.candidates():
            if any(directory.glob("subj?")) and os.access(directory, os.W_OK):
                return directory
        own = self.own_directories()
        for directory in own:
            with suppress(OSError):
                directory.mkdir(parents=True, exist_ok=True)
                if os.access(directory, os.W_OK):
                    return directory
        return own[0]


def list_missing(home: Path, names: tuple[str, ...]) -> list[str]:
    """Return which of the files are not in a subject's directory."""
    return [name for name in names if not (home / name).is_file()]


def read_subject(
    directory: Path, subject: int, *, dataset: str, notice: str | None = None, space: str | None = None
) -> Recording:
    """Return the recording of a subject in Haxby's layout, with the masks and the anatomy that exist.

    Parameters
    ----------
    directory : Path
        Contains ``subj1`` and so on, and ``mask.nii.gz`` if there is a brain mask.
    dataset, notice, space
        See `Recording`.

    Raises
    ------
    DataError
        If the image or the labels are missing, or the labels cannot be read.
    """
    home = directory / f"subj{subject}"
    if missing := list_missing(home, REQUIRED_FILES):
        raise DataError(
            f"{home / missing[0]} is missing; subject {subject} needs {' and '.join(REQUIRED_FILES)}. To "
            f"download it again: python -m harness fetch dataset={dataset} subject={subject}"
        )
    masks = {name: home / file for name, file in MASK_FILES.items()} | {"brain": directory / BRAIN_FILE}
    anat = home / ANAT_FILE
    return Recording(
        dataset=dataset,
        subject=subject,
        bold=home / BOLD_FILE,
        labels=read_labels(home / LABELS_FILE),
        labels_file=home / LABELS_FILE,
        masks={name: path for name, path in masks.items() if path.is_file()},
        anat=anat if anat.is_file() else None,
        t_r=T_R,
        notice=notice,
        space=space,
    )


def read_labels(file: Path) -> pd.DataFrame:
    """Read a ``labels.txt``: one row per volume, columns ``labels`` and ``chunks``.

    Raises
    ------
    DataError
        If it is not such a table, or a row is incomplete.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # a file that is not text raises a ValueError
        raise DataError(
            f"{file} cannot be read as text: {first_line(error)}; expected a table, saved as UTF-8"
        ) from error
    # Not pandas: it reads a third word as an index, interprets quotation marks, and skips empty lines.
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    header = lines[0][1] if lines else []
    if header != ["labels", "chunks"]:
        raise DataError(f"{file} has the columns {header[:5]}; expected 'labels chunks' in the first line")
    if len(lines) == 1:
        raise DataError(f"{file} has a header and no rows; expected one row per volume")
    for number, words in lines[1:]:
        if len(words) != 2 or is_missing(words[0]) or not re.fullmatch("[0-9]{1,9}", words[1]):
            raise DataError(
                f"{file}, line {number}: {' '.join(words)[:60]!r}; "
                "expected a condition and a whole number, for example 'face 0'"
            )
    return pd.DataFrame(
        {
            "condition": [condition for _, (condition, _) in lines[1:]],
            "run": [int(run) for _, (_, run) in lines[1:]],
        }
    )
