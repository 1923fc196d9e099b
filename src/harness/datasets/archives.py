"""Downloads that resume and are compared with a published digest, and archives that are unpacked safely.

pooch compares digests too, but its HTTPDownloader opens the file anew and sends no Range header, so that it
cannot resume; an archive of Haxby 2001 has about 300 MB. nilearn's fetcher resumes, but unpacks unchecked.
"""

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

MAX_BYTES = 2 << 30  # unpacked
MAX_MEMBERS = 1000
TIMEOUT = (15.0, 60.0)  # seconds to connect, and between two pieces
PIECE = 1 << 14  # bytes
SECONDS_BETWEEN_LINES = 10.0  # of progress


@dataclass(frozen=True)
class PublishedFile:
    """A file on servers, the preferred address first, with its published digest ("md5" or "sha256")."""

    addresses: tuple[str, ...]
    algorithm: str
    digest: str


def download(published: PublishedFile, file: Path) -> None:
    """Download a file, unless it exists, and compare it with its digest.

    An unfinished download is in ``FILE.part``; the next call resumes it.

    Raises
    ------
    DataError
        If the digest differs from the published one; the file is removed.
    requests.RequestException
        If no server answers, or a connection breaks.
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
            "file; try again, or unpack a copy that you trust by hand"
        )


def unpack(archive: Path, top: str, target: Path) -> None:
    """Unpack a ``.tar.gz`` of regular files, all in the directory `top`, into a new directory.

    Everything is checked before anything is written: that the archive is complete, and that it has no links,
    devices, paths to other directories, duplicates, set-uid bits, or more than 2 GiB. Valid members are
    written with tarfile's data filter.

    Raises
    ------
    DataError
        If the archive is damaged, or has other members.
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
    """Read an archive to its end, which verifies gzip's checksum, and limit its size."""
    n_bytes = 0
    with gzip.open(archive) as content:
        while piece := content.read(1 << 20):
            n_bytes += len(piece)
            if n_bytes > MAX_BYTES:
                raise DataError(
                    f"{archive.name} unpacks to more than {MAX_BYTES} bytes; expected a subject's files"
                )


def _check_members(tar: tarfile.TarFile, archive: str, top: str) -> Iterator[tarfile.TarInfo]:
    """Yield the regular files of an archive; refuse any other member than these and directories."""
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
            fault = "is a duplicate"
        elif n_bytes > MAX_BYTES or number >= MAX_MEMBERS:
            fault = f"exceeds {MAX_MEMBERS} members or {MAX_BYTES} bytes"
        if fault is not None:
            raise DataError(
                f"{archive} was refused and not unpacked: its member {member.name!r} {fault}; "
                f"expected regular files in {top}"
            )
        if member.isreg():
            seen.add(str(path).casefold())
            yield member


def _receive_from_any(addresses: tuple[str, ...], part: Path) -> None:
    """Receive a file from the first server that answers; a download is not continued from another server."""
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
                "encryption. The file is compared with the published checksum.",
                file=sys.stderr,
            )
    return _receive(addresses[-1], part)


def _receive(address: str, part: Path) -> None:
    """Receive the rest of a file, or all of it where the server cannot resume."""
    import requests

    start = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(address, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if start and response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # it is complete, or another file: the digest decides
        response.raise_for_status()
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        received = start if resumed else 0
        total = received + int(response.headers.get("Content-Length", 0))
        print(
            f"downloading {address} ({total / 1e6:.0f} MB, {received / 1e6:.0f} MB of them on disk)",
            file=sys.stderr,
        )
        last_line = time.monotonic()
        with part.open("ab" if resumed else "wb") as file:
            for piece in response.iter_content(PIECE):
                file.write(piece)
                received += len(piece)
                if time.monotonic() - last_line > SECONDS_BETWEEN_LINES:
                    last_line = time.monotonic()
                    print(f"  {received / 1e6:.0f} of {total / 1e6:.0f} MB", file=sys.stderr)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def describe_network_error(error: BaseException) -> str:
    """Return one line about a failed download, without the internals of urllib3."""
    from requests.exceptions import ConnectionError as NoConnection
    from requests.exceptions import SSLError

    if isinstance(error, NoConnection) and not isinstance(error, SSLError):
        return "there is no connection to the server"
    return first_line(error)
