"""Downloading subjects of Haxby 2001, and comparing them with what was published."""

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock

from harness.datasets.archives import PublishedFile, describe_network_error, download, unpack
from harness.datasets.haxby import (
    ANAT_FILE,
    BOLD_FILE,
    BRAIN_FILE,
    REQUIRED_FILES,
    SUBJECT_FILES,
    list_missing,
)
from harness.datasets.headers import read_nifti_header
from harness.datasets.images import digest_files, stream_volumes
from harness.errors import DataError

# The data set is published over http; https is tried first. The digests are a copy of the MD5SUMS there, so
# that what arrives without encryption is the published archive, or is refused.
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
# Size in bytes, if it was published, and SHA-256, by subject and file below haxby2001/.
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


def download_subject(directory: Path, subject: int, available: Sequence[str] = ()) -> None:
    """Download a subject into ``directory/subjN``, which appears when it is complete and verified.

    Unfinished work is in ``.subjN-unfinished``: the archive, whose download the next call resumes, and
    unpacked files, which the next call unpacks anew. A damaged ``subjN`` is renamed.

    Parameters
    ----------
    subject : int
        1 to 6.
    available : sequence of str
        The subjects on this machine, for the message.

    Raises
    ------
    DataError
        If the download fails, or differs from what was published.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory / f".subj{subject}.lock"):
            _download_locked(directory, subject)
    except DataError:
        raise
    except Exception as error:  # any error of requests, tarfile or the disk
        unfinished, home = unfinished_directory(directory, subject), directory / f"subj{subject}"
        kept = "What has arrived is kept, and the next attempt resumes. " if unfinished.exists() else ""
        archive = f"{SERVERS[-1]}{ARCHIVE.format(subject=subject)} (MD5 {ARCHIVE_MD5[subject]})"
        raise DataError(
            f"subject {subject} of Haxby 2001 is not in {directory} "
            f"(available: {', '.join(available) or 'no subjects'}) and could not be downloaded: "
            f"{describe_network_error(error)}. {kept}Connect to the internet and try again; or download "
            f"{archive} by hand and unpack it into {directory}, so that {home / BOLD_FILE} exists (for "
            f"roi=brain save {BRAIN_MASK} as {directory / BRAIN_FILE}); or set dataset.data_dir to a "
            "directory that has the subject; or use dataset=simulated"
        ) from error


def verify_subject(home: Path, subject: int) -> str:
    """Return how a subject's files compare with the published ones; a difference is a `DataError`."""
    missing = list_missing(home, list_expected(subject))
    note = (
        f"; missing: {', '.join(missing)}. To have them, move {home} away and fetch it again"
        if missing
        else ""
    )
    if subject not in PUBLISHED:
        return f"complete: no file is cut short. Digests of the files are published of subject 2 alone{note}"
    same, differences = compare_with_published(home, subject)
    if differences:
        raise DataError(
            f"subject {subject} differs from the published files: {'; '.join(differences)}. Unless that is "
            f"intended, move it away and type: python -m harness fetch dataset=haxby subject={subject}"
        )
    return f"verified: {', '.join(same)} are the published files{note}"


def find_damage(home: Path) -> str | None:
    """Return which required file of a subject is missing, or which image is damaged, else None."""
    if missing := list_missing(home, REQUIRED_FILES):
        return f"{home / missing[0]} is missing"
    damaged = (file for file in sorted(home.glob("*.nii.gz")) if not _is_whole(file))
    return next((f"{file} is damaged or cut short" for file in damaged), None)


def _is_whole(file: Path) -> bool:
    """Return whether the last bytes of a compressed image give the length that its header announces.

    Only if they do not, the whole image is read: several gzip members in one file are valid, and its last
    bytes give the length of the last member. Reading a subject takes seconds, reading its last bytes none.
    """
    try:
        header = read_nifti_header(file)
        with file.open("rb") as raw:
            raw.seek(-4, os.SEEK_END)
            length = int.from_bytes(raw.read(4), "little")
        if length != (header.offset + header.n_volumes * header.volume_bytes) % 2**32:
            for _ in stream_volumes(file):
                pass
    except (DataError, OSError):
        return False
    return True


def unfinished_directory(directory: Path, subject: int) -> Path:
    """Return the directory in which a subject is downloaded and unpacked."""
    return directory / f".subj{subject}-unfinished"


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a lock whose file is removed at the end; a process that waits for it then takes a new file."""
    with FileLock(file):
        try:
            yield
        finally:
            with suppress(OSError):  # Windows, where the lock removes it
                file.unlink()


def _download_locked(directory: Path, subject: int) -> None:
    """Download a subject while no other process does."""
    home, unfinished = directory / f"subj{subject}", unfinished_directory(directory, subject)
    if home.is_dir() and not find_damage(home):
        return  # another process has downloaded it
    try:
        if not (unfinished / home.name).is_dir():  # otherwise it was downloaded and verified
            _download_shared_files(directory, unfinished)
            _download_verified(unfinished, subject)
    except Exception as error:
        from requests.exceptions import RequestException

        # A part of an archive can be resumed; any other failure would be repeated.
        part = unfinished / f"{ARCHIVE.format(subject=subject)}.part"
        if not (isinstance(error, RequestException) and part.exists() and part.stat().st_size):
            shutil.rmtree(unfinished, ignore_errors=True)
        raise
    if home.is_dir():
        damaged = home.with_name(f"{home.name}-damaged-{uuid4().hex[:6]}")
        home.rename(damaged)
        print(f"{home} was incomplete or damaged; it is now {damaged.name}")
    (unfinished / home.name).rename(home)
    shutil.rmtree(unfinished)


def _download_shared_files(directory: Path, unfinished: Path) -> None:
    """Put the files that all subjects share into `directory`: the brain mask, and nilearn's MD5SUMS."""
    unfinished.mkdir(parents=True, exist_ok=True)
    if not (directory / BRAIN_FILE).is_file():
        _, digest = PUBLISHED[2][BRAIN_FILE]
        download(PublishedFile((BRAIN_MASK,), "sha256", digest), unfinished / BRAIN_FILE)
        (unfinished / BRAIN_FILE).replace(directory / BRAIN_FILE)
    if not (directory / "MD5SUMS").exists():  # without it nilearn downloads the data set again
        sums = [f"{digest}  {ARCHIVE.format(subject=number)}\n" for number, digest in ARCHIVE_MD5.items()]
        (unfinished / "MD5SUMS").write_text("".join(sums))
        (unfinished / "MD5SUMS").replace(directory / "MD5SUMS")


def _download_verified(unfinished: Path, subject: int) -> None:
    """Download a subject into ``unfinished/subjN``, which appears when it is verified."""
    archive = unfinished / ARCHIVE.format(subject=subject)
    addresses = tuple(f"{server}{archive.name}" for server in SERVERS)
    download(PublishedFile(addresses, "md5", ARCHIVE_MD5[subject]), archive)
    unpacked = unfinished / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir()
    unpack(archive, f"subj{subject}", unpacked)
    home = unpacked / f"subj{subject}"
    missing = list_missing(home, list_expected(subject))
    damage = f"{missing[0]} is missing" if missing else find_damage(home)
    if damage is None and subject in PUBLISHED:
        _, differences = compare_with_published(home, subject)
        damage = "; ".join(differences) or None
    if damage:
        raise DataError(f"the downloaded subject {subject} is not complete: {damage}. Try again")
    home.rename(unfinished / home.name)


def list_expected(subject: int) -> tuple[str, ...]:
    """Return the names of a subject's files; subject 6 has no anatomy."""
    return tuple(name for name in SUBJECT_FILES if not (subject == 6 and name == ANAT_FILE))


def compare_with_published(
    home: Path, subject: int, max_bytes: float = math.inf
) -> tuple[list[str], list[str]]:
    """Return which of a subject's files are the published ones, and how the others differ.

    Of files above `max_bytes`, sizes alone are compared.
    """
    same, differences = [], []
    for name, (n_bytes, digest) in PUBLISHED.get(subject, {}).items():
        file = home.parent / name
        if not file.is_file():
            continue
        size = file.stat().st_size
        if n_bytes is not None and size != n_bytes:
            differences.append(f"{file} has {size} bytes instead of {n_bytes}")
        elif size <= max_bytes and (found := digest_files(file)) != digest:
            differences.append(f"{file} has SHA-256 {found} instead of {digest}")
        elif size <= max_bytes:
            same.append(file.name)
    return same, differences
