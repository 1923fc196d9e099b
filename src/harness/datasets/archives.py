"""Files from the network: resumed where they broke off, compared with a published digest, unpacked safely."""

import gzip
import hashlib
import sys
import tarfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

from harness.errors import DataError, first_line

MAX_BYTES = 2 << 30  # of an unpacked archive
MAX_MEMBERS = 1000
TIMEOUT = (15.0, 60.0)  # seconds to connect, and between two pieces
PIECE = 1 << 14  # bytes
SECONDS_BETWEEN_LINES = 10.0  # of progress


@dataclass(frozen=True)
class PublishedFile:
    """A file on servers.

    Attributes
    ----------
    addresses : tuple of str
        The preferred one first.
    algorithm : {"md5", "sha256"}
    digest : str
        Hexadecimal, as it was published. What has another digest is thrown away.
    """

    addresses: tuple[str, ...]
    algorithm: str
    digest: str


def download(published: PublishedFile, file: Path) -> None:
    """Download a file, unless it is there, and compare it with its digest.

    What has arrived is in ``FILE.part`` until the file is complete; the next call resumes there.

    Parameters
    ----------
    published : PublishedFile
    file : Path

    Raises
    ------
    DataError
        If the content is not what was published; it is removed.
    requests.RequestException
        If no server answers, or a connection breaks.
    OSError
        If the file cannot be written.
    """
    part = file.with_name(f"{file.name}.part")
    if not file.exists():
        _receive_from_any(published.addresses, part)
        part.replace(file)
    with file.open("rb") as content:
        found = hashlib.file_digest(content, published.algorithm).hexdigest()
    if found != published.digest:
        file.unlink()
        raise DataError(
            f"{file.name} from {published.addresses[-1]} was removed: its {published.algorithm.upper()} "
            f"checksum is {found} instead of the published {published.digest}, so it is damaged or another "
            "file; try again, or unpack by hand a copy that you trust"
        )


def unpack(archive: Path, top: str, target: Path) -> None:
    """Unpack an archive of regular files that lie below one directory.

    Everything is checked before anything is written: whether the archive is whole, and that it has neither
    links nor devices, paths that lead elsewhere, duplicates, set-uid bits, or more than 2 GiB. What passes is
    written by tarfile's filter for data.

    Parameters
    ----------
    archive : Path
        A ``.tar.gz``.
    top : str
        Name of the directory that holds all files.
    target : Path
        New, empty directory.

    Raises
    ------
    DataError
        If the archive is damaged, or holds anything else.
    """
    if not hasattr(tarfile, "data_filter"):
        raise DataError(
            f"Python {sys.version.split()[0]} cannot unpack archives safely; Python 3.11.4 or newer can"
        )
    try:
        _check_stream(archive)
        with tarfile.open(archive, "r:gz") as tar:
            tar.extractall(target, members=list(_check_members(tar, archive.name, top)), filter="data")
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{archive.name} is damaged or not a .tar.gz archive: {error}") from error


def _check_stream(archive: Path) -> None:
    """Read an archive to its end, where gzip's own checksum is."""
    n_bytes = 0
    with gzip.open(archive) as content:
        while piece := content.read(1 << 20):
            n_bytes += len(piece)
            if n_bytes > MAX_BYTES:
                raise DataError(
                    f"{archive.name} holds more than {MAX_BYTES} bytes; expected a subject's files"
                )


def _check_members(tar: tarfile.TarFile, archive: str, top: str) -> Iterator[tarfile.TarInfo]:
    """Yield the files of an archive, or refuse what no archive of data has."""
    seen: set[str] = set()
    n_bytes = 0
    for number, member in enumerate(tar):
        path = PurePosixPath(member.name)
        n_bytes += max(member.size, 0)
        fault = None
        if path.parts[:1] != (top,) or ".." in path.parts or set(member.name) & set("\\:"):
            fault = f"is not a path below {top}"
        elif not (member.isreg() or member.isdir()):
            fault = "is a link or a device"
        elif member.isreg() and path == PurePosixPath(top):
            fault = "is not a directory"
        elif member.isreg() and member.mode & 0o7000:
            fault = f"has the mode {member.mode:o}"
        elif member.isreg() and str(path).casefold() in seen:
            fault = "is there twice"
        elif n_bytes > MAX_BYTES or number >= MAX_MEMBERS:
            fault = f"goes beyond {MAX_MEMBERS} members or {MAX_BYTES} bytes"
        if fault is not None:
            raise DataError(
                f"{archive} was refused, and nothing of it was unpacked: its member {member.name!r} {fault}; "
                f"expected regular files in {top}"
            )
        if member.isreg():
            seen.add(str(path).casefold())
            yield member


def _receive_from_any(addresses: tuple[str, ...], part: Path) -> None:
    """Receive a file from the first server that answers; what has begun is not continued elsewhere."""
    from requests.exceptions import RequestException

    for address, other in pairwise(addresses):
        before = _size(part)
        try:
            return _receive(address, part)
        except RequestException as error:
            if _size(part) > before:
                raise
            print(
                f"{address} cannot be used ({describe_network_error(error)}); trying {other}, without "
                "encryption. What arrives is compared with the published checksum.",
                file=sys.stderr,
            )
    return _receive(addresses[-1], part)


def _receive(address: str, part: Path) -> None:
    """Receive the rest of a file, or all of it where the server cannot resume."""
    import requests

    start = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(address, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if start and answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is missing, or it is another file: the digest tells
        answer.raise_for_status()
        resumed = answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        received = start if resumed else 0
        total = received + int(answer.headers.get("Content-Length", 0))
        print(
            f"downloading {address} ({total / 1e6:.0f} MB, {received / 1e6:.0f} MB are there)",
            file=sys.stderr,
        )
        said = time.monotonic()
        with part.open("ab" if resumed else "wb") as file:
            for piece in answer.iter_content(PIECE):
                file.write(piece)
                received += len(piece)
                if time.monotonic() - said > SECONDS_BETWEEN_LINES:
                    said = time.monotonic()
                    print(f"  {received / 1e6:.0f} of {total / 1e6:.0f} MB", file=sys.stderr)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def describe_network_error(error: BaseException) -> str:
    """Say in one line why a server gave nothing.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    description : str
    """
    from requests.exceptions import ConnectionError as NoConnection
    from requests.exceptions import SSLError

    if isinstance(error, NoConnection) and not isinstance(error, SSLError):
        return "there is no connection to its server"
    return first_line(error)
