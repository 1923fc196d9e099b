"""Acquisition times, as BIDS's ``scans.tsv`` and ``sessions.tsv`` list them.

References
----------
BIDS specification, https://bids-specification.readthedocs.io/en/stable/modality-agnostic-files/data-summary-files.html
"""

import warnings
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from harness.datasets.tables import read_table
from harness.errors import DataError


def read_times(file: Path, key: str) -> dict[str, datetime | None]:
    """Return the acquisition time of every row of a table.

    Parameters
    ----------
    file : Path
        ``scans.tsv`` or ``sessions.tsv``.
    key : str
        The column that names the rows, ``filename`` or ``session_id``.

    Returns
    -------
    times : dict of str to datetime or None
        None where the column ``acq_time`` holds no time; empty if there is no such file or column.

    Warns
    -----
    UserWarning
        If the file is not a table: nothing else depends on it.
    """
    if not file.is_file():
        return {}
    try:
        table = read_table(file, [key])
    except DataError as error:
        warnings.warn(f"acquisition times are not used: {error}", stacklevel=2)
        return {}
    if "acq_time" not in table:
        return {}
    return {name: _parse(time) for name, time in zip(table[key], table["acq_time"], strict=True)}


def are_comparable(times: Collection[datetime | None]) -> bool:
    """Return whether there are times, none is missing, and all or none are in UTC."""
    known = [time for time in times if time is not None]
    return 0 < len(known) == len(times) and len({time.tzinfo is None for time in known}) == 1


def _parse(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
