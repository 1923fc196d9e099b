"""Haxby 2001: visual object recognition, six subjects, eight categories, 12 runs of 121 volumes.

References
----------
Haxby, Gobbini, Furey, Ishai, Schouten, Pietrini (2001), Science 293:2425-2430, doi:10.1126/science.1063736
"""

import gzip
import hashlib
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import nibabel as nib
import pandas as pd
from filelock import FileLock

from harness.datasets.archives import PublishedFile, describe_network_error, download, unpack
from harness.datasets.locations import expand_path
from harness.datasets.options import check_options
from harness.datasets.recording import Recording, check_runs
from harness.datasets.tables import is_missing
from harness.errors import DataError, first_line

SUBJECTS = (1, 2, 3, 4, 5, 6)
T_R = 2.5  # seconds; the image headers do not say it
MASK_FILES = {
    "vt": "mask4_vt.nii.gz",
    "face": "mask8_face_vt.nii.gz",
    "house": "mask8_house_vt.nii.gz",
    "face_little": "mask8b_face_vt.nii.gz",
    "house_little": "mask8b_house_vt.nii.gz",
}
NEEDED = ("bold.nii.gz", "labels.txt")  # without the others a subject can be decoded, too
# The data set's home is at http; https is tried first. These digests are a copy of the MD5SUMS there:
# what arrives without encryption is the published archive, or is refused.
SERVERS = ("https://data.pymvpa.org/datasets/haxby2001/", "http://data.pymvpa.org/datasets/haxby2001/")
ARCHIVE = "subj{subject}-2010.01.14.tar.gz"
ARCHIVE_MD5 = {
    1: "03e6865ec33bd5ebccdad3f13ef1d77f",
    2: "56902b0583c0329b8364cadc1abb3ed5",
    3: "fa6e21e52d161f108e5b45f9b6571d76",
    4: "5c0a0e45b562112ed4f15da9f27c7176",
    5: "2b983a6f4d16bad9053654e57c00483a",
    6: "2fecf6b76e781b349e616c594a74064e",
}
BRAIN_MASK = "https://www.nitrc.org/frs/download.php/7868/mask.nii.gz"
# Size in bytes, where it was published, and SHA-256, by subject and file below haxby2001/.
PUBLISHED: dict[int, dict[str, tuple[int | None, str]]] = {
    2: {
        "subj2/bold.nii.gz": (
            284_094_471,
            "d3e71d07ef780d11673580653cdbe10365e4e93fd78d0f8ed27582086fd0b701",
        ),
        "subj2/labels.txt": (None, "9bda5eaa9900b7506b4836348a67e5c38f76eda5d11ee9f337577821b64e4800"),
        "mask.nii.gz": (2969, "d9b531908176bdb5e749f144852ed2adce0712bb476a3fc607abe939363f0b1d"),
    }
}


@dataclass(frozen=True)
class Haxby:
    """The real data, read from disk, or downloaded where they are not there.

    Parameters
    ----------
    data_dir : str or Path, optional
        Folder that holds ``haxby2001/subj1`` and so on, or ``subj1`` itself. Without it, nilearn's data
        folders are searched (``NILEARN_SHARED_DATA``, ``NILEARN_DATA``, ``~/nilearn_data``).
    """

    data_dir: str | Path | None = None

    def __post_init__(self) -> None:
        check_options(self)

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
        _check_subject(subject)
        folder = self._find(subject)
        if folder is None:
            folder = self._choose_folder()
            self._download(folder, subject)
        return read_subject(folder, subject, dataset="haxby")

    def fetch(self, subject: int) -> Recording:
        """Return the recording of one subject, whose files are whole; what is not is downloaded anew.

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
            If there is no such subject, or it cannot be downloaded.
        """
        _check_subject(subject)
        folder = self._find(subject)
        if folder is None or find_damage(folder / f"subj{subject}"):
            folder = folder or self._choose_folder()
            self._download(folder, subject)
        return read_subject(folder, subject, dataset="haxby")

    def verify(self, recording: Recording) -> str:
        """Compare a recording with what was published of it.

        Parameters
        ----------
        recording : Recording

        Returns
        -------
        verdict : str

        Raises
        ------
        DataError
            If a file differs from the published one.
        """
        assert isinstance(recording.bold, Path)
        home, subject = recording.bold.parent, recording.subject
        missing = [name for name in _expected_files(subject) if not (home / name).is_file()]
        note = (
            f"; not there: {', '.join(missing)}. To have them, move {home} away and fetch it again"
            if missing
            else ""
        )
        if subject not in PUBLISHED:
            return (
                f"complete: no file is cut short. Digests of the files are published of subject 2 alone{note}"
            )
        same, differ = _compare_with_published(home, subject)
        if differ:
            raise DataError(
                f"subject {subject} is not what was published: {'; '.join(differ)}. If nobody changed it on "
                f"purpose, move it away and type: python -m harness fetch dataset=haxby subject={subject}"
            )
        return f"verified: {', '.join(same)} are the published files{note}"

    def _roots(self) -> list[Path]:
        if self.data_dir is not None:
            return [expand_path("dataset.data_dir", self.data_dir)]
        from nilearn.datasets import get_data_dirs

        return [Path(root) for root in get_data_dirs()]

    def _folders(self) -> list[Path]:
        """Return the folders in which a subject may lie, in the order of the search."""
        return [folder for root in self._roots() for folder in (root / "haxby2001", root)]

    def _find(self, subject: int) -> Path | None:
        """Return the folder that holds a subject's needed files, or at least the subject's own folder."""
        there = [folder for folder in self._folders() if (folder / f"subj{subject}").is_dir()]
        complete = [folder for folder in there if not _missing(folder / f"subj{subject}")]
        return next(iter(complete or there), None)

    def _choose_folder(self) -> Path:
        """Return the folder to download into: where others are, else the first that can be written."""
        folders = self._folders()
        for folder in folders:
            if any(folder.glob("subj?")) and os.access(folder, os.W_OK):
                return folder
        for folder in folders[::2]:  # haxby2001, not the folder of all data sets
            with suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                if os.access(folder, os.W_OK):
                    return folder
        return folders[0]

    def _download(self, folder: Path, subject: int) -> None:
        """Download a subject, and give it its name when it is whole and verified.

        Work in progress is in a directory of its own, ``.subjN-unfinished``: the archive, which a later call
        resumes, and what is unpacked of it, which a later call unpacks anew.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder / f".subj{subject}.lock"):
                self._download_alone(folder, subject)
        except DataError:
            raise
        except Exception as error:  # whatever requests, tarfile and the disk raise
            here = sorted({path.name for place in self._folders() for path in place.glob("subj?")})
            staging, home = _staging(folder, subject), folder / f"subj{subject}"
            kept = "What has arrived is kept, and the next try goes on there. " if staging.exists() else ""
            archive = f"{SERVERS[-1]}{ARCHIVE.format(subject=subject)} (MD5 {ARCHIVE_MD5[subject]})"
            raise DataError(
                f"subject {subject} of Haxby 2001 is not in {folder} "
                f"(there: {', '.join(here) or 'no subjects'}) and could not be downloaded: "
                f"{describe_network_error(error)}. {kept}Connect to the internet and try again; or download "
                f"{archive} by hand and unpack it into {folder}, so that {home / NEEDED[0]} is there (for "
                f"roi=brain put {BRAIN_MASK} beside its folder, too); or point dataset.data_dir at a folder "
                "that has the subject; or use dataset=simulated"
            ) from error

    def _download_alone(self, folder: Path, subject: int) -> None:
        """Download a subject while no other process does."""
        home, staging = folder / f"subj{subject}", _staging(folder, subject)
        if home.is_dir() and not find_damage(home):
            return  # another process was faster
        try:
            if not (staging / home.name).is_dir():  # else it was downloaded and verified
                _download_into(staging, folder, subject)
        except Exception as error:
            from requests.exceptions import RequestException

            # A part of an archive can be resumed; anything else would go wrong in the same way again.
            part = staging / f"{ARCHIVE.format(subject=subject)}.part"
            if not (isinstance(error, RequestException) and part.exists() and part.stat().st_size):
                shutil.rmtree(staging, ignore_errors=True)
            raise
        if home.is_dir():
            aside = home.with_name(f"{home.name}-damaged-{uuid4().hex[:6]}")
            home.rename(aside)
            print(f"{home} was incomplete or damaged; it is now {aside.name}")
        (staging / home.name).rename(home)
        shutil.rmtree(staging)


def _staging(folder: Path, subject: int) -> Path:
    return folder / f".subj{subject}-unfinished"


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a lock whose file is removed at the end; a process that waits for it then takes a new file."""
    with FileLock(file):
        try:
            yield
        finally:
            with suppress(OSError):  # Windows, where the lock removes it
                file.unlink()


def _download_into(staging: Path, folder: Path, subject: int) -> None:
    """Download a subject into ``staging/subjN`` and verify it; put what all subjects share into `folder`."""
    staging.mkdir(parents=True, exist_ok=True)
    if not (folder / "mask.nii.gz").is_file():
        _, digest = PUBLISHED[2]["mask.nii.gz"]
        download(PublishedFile((BRAIN_MASK,), "sha256", digest), staging / "mask.nii.gz")
        (staging / "mask.nii.gz").replace(folder / "mask.nii.gz")
    if not (folder / "MD5SUMS").exists():  # so that nilearn finds the data set complete
        sums = [f"{digest}  {ARCHIVE.format(subject=number)}\n" for number, digest in ARCHIVE_MD5.items()]
        (staging / "MD5SUMS").write_text("".join(sums))
        (staging / "MD5SUMS").replace(folder / "MD5SUMS")
    archive = staging / ARCHIVE.format(subject=subject)
    addresses = tuple(f"{server}{archive.name}" for server in SERVERS)
    download(PublishedFile(addresses, "md5", ARCHIVE_MD5[subject]), archive)
    unpacked = staging / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir()
    unpack(archive, f"subj{subject}", unpacked)
    home = unpacked / f"subj{subject}"
    missing = [name for name in _expected_files(subject) if not (home / name).is_file()]
    damage = f"{missing[0]} is missing" if missing else find_damage(home)
    if damage is None and subject in PUBLISHED:
        _, differ = _compare_with_published(home, subject)
        damage = "; ".join(differ) or None
    if damage:
        raise DataError(f"what was downloaded of subject {subject} is not whole: {damage}. Try again")
    home.rename(staging / home.name)


def _expected_files(subject: int) -> list[str]:
    """Return the names of a subject's files; subject 6 has no anatomy."""
    return [*NEEDED, *MASK_FILES.values(), *(["anat.nii.gz"] if subject != 6 else [])]


def _compare_with_published(home: Path, subject: int) -> tuple[list[str], list[str]]:
    """Return which of a subject's files are the published ones, and how the others differ."""
    same, differ = [], []
    for name, (n_bytes, digest) in PUBLISHED[subject].items():
        file = home.parent / name
        if not file.is_file():
            continue
        size = file.stat().st_size
        if n_bytes is not None and size != n_bytes:
            differ.append(f"{file} has {size} bytes instead of {n_bytes}")
        elif (found := _digest(file)) != digest:
            differ.append(f"{file} has SHA-256 {found} instead of {digest}")
        else:
            same.append(file.name)
    return same, differ


def _check_subject(subject: int) -> None:
    if subject not in SUBJECTS:
        raise DataError(f"subject={subject}: Haxby 2001 has subjects 1 to 6; choose one of them")


def _missing(home: Path) -> list[Path]:
    return [home / name for name in NEEDED if not (home / name).is_file()]


def find_damage(home: Path) -> str | None:
    """Say what is missing of a subject, or cut short.

    A compressed file ends with the length of its content, so the end of a file that was cut short does not
    fit its header: no image is read as long as they fit.

    Parameters
    ----------
    home : Path
        Folder ``subjN``.

    Returns
    -------
    damage : str or None
        None if the image, the labels and every other image that is there are whole.
    """
    if missing := _missing(home):
        return f"{missing[0]} is missing"
    for file in sorted(home.glob("*.nii.gz")):
        if not _is_whole(file):
            return f"{file} is damaged or cut short"
    return None


def _is_whole(file: Path) -> bool:
    try:
        proxy = nib.load(file).dataobj
        expected = proxy.offset + math.prod(proxy.shape) * proxy.dtype.itemsize
        with file.open("rb") as raw:
            raw.seek(-4, os.SEEK_END)
            if int.from_bytes(raw.read(4), "little") == expected % 2**32:
                return True
        # Several compressed parts in one file are sound, too; its end has the length of the last alone.
        with gzip.open(file) as content:
            n_bytes = 0
            while chunk := content.read(1 << 20):
                n_bytes += len(chunk)
        return bool(n_bytes >= expected)
    except Exception:  # nibabel and gzip let through whatever a damaged file raises
        return False


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


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
                f"{file} is missing; subject {subject} needs bold.nii.gz and labels.txt. To have it anew: "
                f"python -m harness fetch dataset={dataset} subject={subject}"
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
        If it is not such a table, a row is incomplete, or a run comes back after another one.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # a file that is not text raises a ValueError
        raise DataError(f"{file} cannot be read as text: {first_line(error)}") from error
    # Not pandas: it takes a third word for an index, quotes for more than themselves, and skips empty lines.
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
                "expected a condition and a whole number, such as 'face 0'"
            )
    labels = pd.DataFrame(
        {
            "condition": [condition for _, (condition, _) in lines[1:]],
            "run": [int(run) for _, (_, run) in lines[1:]],
        }
    )
    check_runs(labels["run"].to_numpy(), str(file))
    return labels
