"""Haxby 2001: visual object recognition, six subjects, eight categories, 12 runs of 121 volumes.

References
----------
Haxby, Gobbini, Furey, Ishai, Schouten, Pietrini (2001), Science 293:2425-2430, doi:10.1126/science.1063736
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.datasets.recording import Recording
from harness.errors import DataError

SUBJECTS = (1, 2, 3, 4, 5, 6)
T_R = 2.5  # seconds; the image headers do not say it
MASK_FILES = {
    "vt": "mask4_vt.nii.gz",
    "face": "mask8_face_vt.nii.gz",
    "house": "mask8_house_vt.nii.gz",
    "face_little": "mask8b_face_vt.nii.gz",
    "house_little": "mask8b_house_vt.nii.gz",
}


@dataclass(frozen=True)
class Haxby:
    """The real data, read from disk, or downloaded by nilearn where they are not there.

    Parameters
    ----------
    data_dir : str or Path, optional
        Folder that holds ``haxby2001/subj1`` and so on, or ``subj1`` itself. Without it, nilearn's data
        folders are searched (``NILEARN_SHARED_DATA``, ``NILEARN_DATA``, ``~/nilearn_data``).
    """

    data_dir: str | Path | None = None

    def load(self, subject: int) -> Recording:
        """Return the recording of one subject.

        Parameters
        ----------
        subject : int
            1 to 6.

        Returns
        -------
        Recording

        Raises
        ------
        DataError
            If there is no such subject, it cannot be downloaded, or its files are damaged.
        """
        if subject not in SUBJECTS:
            raise DataError(f"subject={subject}: Haxby 2001 has subjects 1 to 6; choose one of them")
        folder = self._find(subject) or self._download(subject)
        return read_subject(folder, subject, dataset="haxby")

    def _folders(self) -> list[Path]:
        """Return the folders in which a subject may lie, in the order of the search."""
        if self.data_dir is not None:
            roots = [Path(self.data_dir).expanduser()]
        else:
            from nilearn.datasets import get_data_dirs

            roots = [Path(root) for root in get_data_dirs()]
        return [folder for root in roots for folder in (root / "haxby2001", root)]

    def _find(self, subject: int) -> Path | None:
        for folder in self._folders():
            if (folder / f"subj{subject}").is_dir():
                return folder
        return None

    def _download(self, subject: int) -> Path:
        from nilearn.datasets import fetch_haxby

        data_dir = None if self.data_dir is None else str(Path(self.data_dir).expanduser())
        try:
            fetched = fetch_haxby(data_dir=data_dir, subjects=[subject], verbose=1)
        except Exception as error:  # nilearn lets through whatever requests, tarfile and the disk raise
            places = self._folders()
            here = sorted({path.name for folder in places for path in folder.glob("subj*")})
            raise DataError(
                f"subject {subject} of Haxby 2001 is not in {places[0]} "
                f"(there: {', '.join(here) or 'no subjects'}) and could not be downloaded: "
                f"{_why(error)}. Connect to the internet, or unpack "
                f"http://data.pymvpa.org/datasets/haxby2001/subj{subject}-2010.01.14.tar.gz into "
                f"{places[0]}, or point dataset.data_dir at a folder that has it, or use dataset=simulated"
            ) from error
        return Path(fetched.func[0]).parent.parent


def read_subject(folder: Path, subject: int, *, dataset: str, notice: str | None = None) -> Recording:
    """Describe a subject whose files lie in Haxby's own layout.

    Parameters
    ----------
    folder : Path
        The folder that holds ``subj1`` and so on, and ``mask.nii.gz`` where there is one.
    subject : int
    dataset : str
        Name of the data set, as it is shown to people.
    notice : str, optional
        What must be said at every run.

    Returns
    -------
    Recording
        With the masks and the anatomy that exist; subject 6 of the real data has no anatomy.

    Raises
    ------
    DataError
        If the image or the labels are missing, or the labels cannot be read.
    """
    home = folder / f"subj{subject}"
    bold, labels_file = home / "bold.nii.gz", home / "labels.txt"
    for file in (bold, labels_file):
        if not file.is_file():
            raise DataError(
                f"{file} is missing; subject {subject} needs bold.nii.gz and labels.txt: "
                f"fetch it again, or delete {home} so that it is downloaded anew"
            )
    candidates = {name: home / file for name, file in MASK_FILES.items()}
    candidates["brain"] = folder / "mask.nii.gz"
    anat = home / "anat.nii.gz"
    return Recording(
        dataset=dataset,
        subject=subject,
        bold=bold,
        labels=read_labels(labels_file),
        labels_file=labels_file,
        masks={name: path for name, path in candidates.items() if path.is_file()},
        anat=anat if anat.is_file() else None,
        t_r=T_R,
        notice=notice,
    )


def read_labels(file: Path) -> pd.DataFrame:
    """Read a ``labels.txt``: one row per volume, columns ``labels`` and ``chunks``.

    Parameters
    ----------
    file : Path

    Returns
    -------
    labels : DataFrame with columns ``condition`` (str) and ``run`` (int, from 0)

    Raises
    ------
    DataError
        If it is not such a table, or a row is incomplete.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # a file that is not text raises a ValueError
        raise DataError(f"{file} cannot be read as text: {_first_line(error)}") from error
    # Not pandas: it takes a third word for an index, quotes for more than themselves, and skips empty lines.
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    header = lines[0][1] if lines else []
    if header != ["labels", "chunks"]:
        raise DataError(f"{file} has the columns {header[:5]}; expected 'labels chunks' in the first line")
    if len(lines) == 1:
        raise DataError(f"{file} has a header and no rows; expected one row per volume")
    for number, words in lines[1:]:
        if len(words) != 2 or not re.fullmatch("[0-9]{1,9}", words[1]):
            raise DataError(
                f"{file}, line {number}: {' '.join(words)[:60]!r}; "
                "expected a condition and a whole number, such as 'face 0'"
            )
    return pd.DataFrame(
        {
            "condition": [condition for _, (condition, _) in lines[1:]],
            "run": [int(run) for _, (_, run) in lines[1:]],
        }
    )


def _why(error: BaseException) -> str:
    from requests.exceptions import ConnectionError as NoConnection

    if isinstance(error, NoConnection):
        return "there is no connection to its server"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
