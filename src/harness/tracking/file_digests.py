"""The digests of the files of a run, by which a file that was edited or damaged later is found."""

import hashlib
import json
from pathlib import Path

FILES_LIST = "files.json"
NOT_LISTED = (".png", ".svg", ".html")  # shown, never read back


def write_digests(directory: Path) -> str:
    """Write the SHA-256 of every data file of a directory into ``files.json``.

    Returns
    -------
    digest : str
        SHA-256 (hexadecimal) of ``files.json`` itself, which is stored as a tag of the run.

    Raises
    ------
    OSError
        If a file cannot be read, or the list cannot be written.
    """
    files = sorted(file for file in directory.rglob("*") if file.is_file() and file.name != FILES_LIST)
    digests = {
        file.relative_to(directory).as_posix(): digest_bytes(file.read_bytes())
        for file in files
        if file.suffix not in NOT_LISTED
    }
    content = json.dumps(digests, indent=1) + "\n"
    (directory / FILES_LIST).write_text(content, encoding="utf-8")
    return digest_bytes(content.encode())


def digest_bytes(content: bytes) -> str:
    """Return the SHA-256 (hexadecimal) of some content."""
    return hashlib.sha256(content).hexdigest()
