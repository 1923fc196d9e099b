"""Directories of pages: a page of another program is not replaced."""

import json
import os
from pathlib import Path
from typing import Any

from harness.errors import UsageError

PAGE = "index.html"


def check_page_directory(directory: Path, record: str, key: str) -> None:
    """Raise if a directory holds a page that is not of the harness.

    Parameters
    ----------
    record : str
        JSON file that is next to every page of this kind.
    key : str
        Key of that file, by which it is not mistaken for one of another program.

    Raises
    ------
    UsageError
        If there is a page without its record.
    """
    page = directory / PAGE
    if os.path.lexists(page) and key not in _read_keys(directory / record):
        raise UsageError(
            f"{page} was not written by this command, which would replace it; choose another directory with "
            "--out, or move the file away"
        )


def _read_keys(file: Path) -> list[Any]:
    """Return the keys of a JSON object; none where it cannot be read."""
    try:
        return list(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return []
