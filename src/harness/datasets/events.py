"""Events in BIDS's format, converted to one condition per volume.

Each volume takes the condition of the event that covers its mid-acquisition time: ``(i + 0.5) * TR`` after
the run's start for volume ``i``, from 0. Events that begin with a scanner pulse begin with a volume, so that
the start of a volume would be between two events, where a millisecond decides; and fMRIPrep's slice timing
correction moves every slice to the middle of its volume [1]_. ``signal.lag`` allows for the haemodynamic
delay.

References
----------
.. [1] fMRIPrep, ``--slice-time-ref``, by default 0.5: https://fmriprep.org/en/stable/usage.html
"""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from harness.datasets.tables import MISSING, is_missing, read_table
from harness.errors import DataError

REST = "rest"  # the condition of volumes that no event covers
_TOLERANCE = 1e-6  # seconds, for times that binary numbers cannot represent
_NUMBER = re.compile(
    r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?"
)  # float() would take 1_0 for 10


def read_events(
    file: Path, column: str = "trial_type", trial_types: Sequence[str | int] | None = None
) -> pd.DataFrame:
    """Read the events of a run.

    Parameters
    ----------
    file : Path
        Table with the columns ``onset`` and ``duration``, in seconds, and `column`.
    column : str
        The column with the condition; rows with ``n/a`` in it are skipped.
    trial_types : sequence of str or int, optional
        The conditions whose events are used, by default all.

    Returns
    -------
    events : DataFrame with columns ``onset`` (float), ``duration`` (float), ``condition`` (str)
        Sorted by onset; the index is the line in the file.

    Raises
    ------
    DataError
        If it is not such a table, or a time is not a number.

    Warns
    -----
    UserWarning
        If a missing condition is written in another way than ``n/a``; see `is_missing`.
    """
    table = read_table(file, ["onset", "duration", column])
    table = table[table[column] != MISSING]
    if trial_types is not None:
        table = table[table[column].isin([str(name) for name in trial_types])]
    else:
        table = _drop_missing(table, column, file)
    for line, row in table.iterrows():
        for name in ("onset", "duration"):
            if not _NUMBER.fullmatch(row[name]) or (name == "duration" and float(row[name]) < 0):
                what = "expected seconds" + (", not negative" if name == "duration" else "")
                raise DataError(
                    f"{file}, line {line}: {name} of {row[column]!r} is {row[name]!r}; {what}. "
                    "Correct it, or choose the events to use with dataset.trial_types=[...]"
                )
    events = pd.DataFrame(
        {
            "onset": table["onset"].astype(float),
            "duration": table["duration"].astype(float),
            "condition": table[column],
        }
    )
    return events.sort_values("onset", kind="stable")


def label_volumes(events: pd.DataFrame, n_volumes: int, t_r: float, file: Path) -> tuple[np.ndarray, int]:
    """Return the condition of every volume of a run.

    Overlapping events of one condition are merged.

    Parameters
    ----------
    events : DataFrame
        See `read_events`.
    t_r : float
        Repetition time in seconds.
    file : Path
        The events' file, for messages.

    Returns
    -------
    conditions : ndarray of shape (n_volumes,), str
        ``rest`` if no event covers the volume.
    n_lost : int
        Events that cover the middle of no volume: too short, or outside of the run.

    Raises
    ------
    DataError
        If events of two conditions cover a volume.
    """
    middle = (np.arange(n_volumes) + 0.5)[:, np.newaxis] * t_r
    onset, end = events["onset"].to_numpy(), (events["onset"] + events["duration"]).to_numpy()
    inside = (middle >= onset - _TOLERANCE) & (middle < end - _TOLERANCE)
    codes, names = pd.factorize(events["condition"].to_numpy(dtype=object))
    shown = np.zeros((n_volumes, len(names)), dtype=bool)
    volumes, which = np.nonzero(inside)
    shown[volumes, codes[which]] = True
    doubtful = np.flatnonzero(shown.sum(axis=1) > 1)
    if len(doubtful):
        first = int(doubtful[0])
        one, other = events[inside[first]].drop_duplicates("condition")[:2].itertuples()
        raise DataError(
            f"{file}, lines {one.Index} and {other.Index}: the events {one.condition!r} and "
            f"{other.condition!r} overlap: both cover the middle of volume {first} ({middle[first, 0]:g} s); "
            "expected one condition at a time: choose the conditions with dataset.trial_types=[...]"
        )
    conditions = np.full(n_volumes, REST, dtype=object)
    volumes, which = np.nonzero(shown)
    conditions[volumes] = names[which]
    return conditions, int((~inside.any(axis=0)).sum())


def label_runs(
    files: Sequence[Path],
    runs: Sequence[int],
    n_volumes: Sequence[int],
    t_r: float,
    column: str = "trial_type",
    trial_types: Sequence[str | int] | None = None,
) -> pd.DataFrame:
    """Return the condition and the run of every volume of several runs; warn of events without any.

    Parameters
    ----------
    files, runs, n_volumes : sequences
        The events, the number and the count of volumes of every run.
    t_r : float
        Repetition time in seconds.
    column, trial_types
        See `read_events`.

    Raises
    ------
    DataError
        If the events cannot be read, or overlap.
    """
    parts, lost = [], []
    for file, run, count in zip(files, runs, n_volumes, strict=True):
        events = read_events(file, column, trial_types)
        conditions, n_lost = label_volumes(events, count, t_r, file)
        parts.append(pd.DataFrame({"condition": conditions, "run": run}))
        if n_lost:
            lost.append(f"{n_lost} of {len(events)} in {file} (0 to {count * t_r:g} s)")
    if lost:
        more = f", and in {len(lost) - 1} more files" if len(lost) > 1 else ""
        warnings.warn(
            f"events that cover the middle of no volume, because they are shorter than the TR of {t_r:g} s "
            f"or outside of the run: {lost[0]}{more}",
            stacklevel=2,
        )
    labels = pd.concat(parts, ignore_index=True)
    return labels.astype({"condition": str, "run": int})


def _drop_missing(table: pd.DataFrame, column: str, file: Path) -> pd.DataFrame:
    """Remove, with a warning, the rows whose condition is missing but not written ``n/a``."""
    missing = table[column].map(is_missing).astype(bool)
    if missing.any():
        more = f", and {missing.sum() - 1} more" if missing.sum() > 1 else ""
        warnings.warn(
            f"{file}, line {table.index[missing][0]}: {column} is {table[column][missing].iloc[0]!r}{more}; "
            "skipped as a missing value, which BIDS writes n/a. If it is the name of a condition, choose the "
            "conditions with dataset.trial_types=[...]",
            stacklevel=3,
        )
    return table[~missing]
