"""The order in which images were acquired, from BIDS's ``scans.tsv`` and ``sessions.tsv``.

References
----------
https://bids-specification.readthedocs.io/en/stable/modality-agnostic-files/data-summary-files.html
"""

import re
import warnings
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path

from harness.datasets.bids_files import BidsFile
from harness.datasets.tables import read_table
from harness.errors import DataError


def order_by_acquisition(
    images: Sequence[BidsFile], root: Path, label: str
) -> tuple[list[BidsFile], str | None]:
    """Sort images by acquisition time.

    Parameters
    ----------
    images : sequence of BidsFile
        Sorted by session and run, an order that is kept where the times are not known.
    root : Path
        The raw data set.
    label : str
        What follows ``sub-``.

    Returns
    -------
    notice : str or None
        A notice if the order of the sessions is not known.
    """
    sessions = list(dict.fromkeys(image.label("ses") for image in images))
    times = _find_scan_times(images, root, label)
    table = root / f"sub-{label}" / f"sub-{label}_sessions.tsv"
    starts = _find_session_starts(images, times, table) if len(sessions) > 1 else {}
    in_order = sorted(sessions, key=starts.__getitem__) if starts else sessions
    order = sorted(
        range(len(images)),
        key=lambda i: (in_order.index(images[i].label("ses")), times[i] if times else i),
    )
    notice = None
    if len(sessions) > 1 and not starts:
        notice = (
            f"sub-{label} has the sessions {', '.join(sessions)} without acquisition times (acq_time in "
            "scans.tsv or sessions.tsv) that order them; they are sorted by name. If another order is right, "
            f"write the times into {table}."
        )
    return [images[i] for i in order], notice


def _find_scan_times(images: Sequence[BidsFile], root: Path, label: str) -> list[datetime]:
    """Return the acquisition time of every image, or an empty list if ``scans.tsv`` lacks one."""
    scans: dict[str, list[tuple[BidsFile, datetime | None]]] = {}
    times = []
    for image in images:
        session = image.label("ses")
        if session not in scans:
            parts = [f"sub-{label}", *([f"ses-{session}"] if session else [])]
            read = _read_times(root.joinpath(*parts, f"{'_'.join(parts)}_scans.tsv"), "filename")
            bold = [name for name in read if re.search(r"_bold\.nii(\.gz)?$", name)]
            scans[session] = [(BidsFile.parse(name), read[name]) for name in bold]
        # Preprocessing combines the echoes of a run into one image, and so it does magnitude and phase.
        matching = [
            (len(scan.entities), time)
            for scan, time in scans[session]
            if {item for item in scan.comparable.items() if item[0] not in ("echo", "part")}
            <= image.comparable.items()
        ]
        times.append(max(matching, key=lambda each: each[0])[1] if matching else None)
    known = [time for time in times if time is not None]
    return known if _are_comparable(times) else []


def _find_session_starts(
    images: Sequence[BidsFile], times: Sequence[datetime], table: Path
) -> dict[str, datetime]:
    """Return when every session began, by its scans or by ``sessions.tsv``; empty if that is unknown."""
    scanned: dict[str, datetime] = {}
    for image, time in zip(images, times, strict=False):  # there are times of all images, or of none
        session = image.label("ses")
        scanned[session] = min(time, scanned.get(session, time))
    read = _read_times(table, "session_id")
    listed = {session: read.get(f"ses-{session}") for session in {image.label("ses") for image in images}}
    for starts in (scanned, listed):
        known = {session: start for session, start in starts.items() if start is not None}
        if _are_comparable(starts.values()) and len(set(known.values())) == len(starts):
            return known
    return {}


def _read_times(file: Path, key: str) -> dict[str, datetime | None]:
    """Return ``acq_time`` of every row by the column `key`; empty if there is no such file or column.

    A file that is not a table causes a warning and not an error, because only the order depends on it.
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
    return {name: _parse_time(time) for name, time in zip(table[key], table["acq_time"], strict=True)}


def _are_comparable(times: Collection[datetime | None]) -> bool:
    """Return whether there are times, none is missing, and all or none are in UTC."""
    known = [time for time in times if time is not None]
    return 0 < len(known) == len(times) and len({time.tzinfo is None for time in known}) == 1


def _parse_time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
