"""Directories of pages: a page of another program is not replaced."""

import os
from pathlib import Path

from harness.errors import UsageError

PAGE = "index.html"


def check_page_directory(directory: Path, record: str, key: str) -> None:
    """Raise if a directory holds a page that was not written by the harness, before anything is computed.

    Parameters
    ----------
    record : str
        JSON file that is next to every page of this kind.
    key : str
        Key that this file has, by which it is not mistaken for one of another program.

    Raises
    ------
    UsageError
        If there is a page without its record.
    """
    page = directory / PAGE
    try:
        content = (directory / record).read_bytes()
    except OSError:
        content = b""
    if os.path.lexists(page) and f'"{key}"'.encode() not in content:
        raise UsageError(
            f"--out {directory}: {page.absolute()} is another page, which this command would replace; choose "
            "another directory, or move that file away"
        )
