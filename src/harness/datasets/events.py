"""Events, as BIDS writes them: what was shown from when on and for how long, turned into labels of volumes.

A volume belongs to the event during which the middle of its acquisition lies: volume ``i`` of a run, from 0,
stands for the time ``(i + 0.5) * TR`` after the run's start. Events that begin with a scanner's pulse begin
with a volume, so its beginning would lie between two events, where a millisecond decides; and slice timing
correction, as fMRIPrep does it, moves every slice to the middle of its volume [1]_. The response that follows
an event seconds later is not meant here: ``signal.lag`` is for that.

References
----------
.. [1] fMRIPrep, ``--slice-time-ref``, by default 0.5: https://fmriprep.org/en/stable/usage.html
"""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from harness.datasets.tables import MISSING, read_table
from harness.errors import DataError

REST = "rest"  # the condition of volumes that lie in no event
_TOLERANCE = 1e-6  # seconds, for times that are not exact as binary numbers


def read_events(
    file: Path, column: str = "trial_type", trial_types: Sequence[str | int] | None = None
) -> pd.DataFrame:
    """Read the events of a run.

    Parameters
    ----------
    file : Path
        Table with the columns ``onset`` and ``duration``, in seconds, and `column`.
    column : str
        What names the condition. Rows with ``n/a`` there are no condition's, and left out.
    trial_types : sequence of str or int, optional
        The conditions that count; events of others are left out. By default all count.

    Returns
    -------
    events : DataFrame with columns ``onset`` (float), ``duration`` (float), ``condition`` (str)
        In order of time; the index is the line in the file.

    Raises
    ------
    DataError
        If it is not such a table, or a time is not a number.
    """
    table = read_table(file, ["onset", "duration", column])
    table = table[~table[column].isin(MISSING)]
    if trial_types is not None:
        table = table[table[column].isin([str(name) for name in trial_types])]
    for line, row in table.iterrows():
        for name in ("onset", "duration"):
            number = _as_seconds(row[name])
            if not math.isfinite(number) or (name == "duration" and number < 0):
                what = "expected seconds" + (", not negative" if name == "duration" else "")
                raise DataError(
                    f"{file}, line {line}: {name} of {row[column]!r} is {row[name]!r}; {what}. "
                    "Correct it, or choose the events that count with dataset.trial_types=[...]"
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
    """Say what was shown in every volume of a run.

    Parameters
    ----------
    events : DataFrame
        See `read_events`.
    n_volumes : int
    t_r : float
        Repetition time in seconds.
    file : Path
        Where the events come from, for messages.

    Returns
    -------
    conditions : ndarray of shape (n_volumes,), str
        ``rest`` where there is no event.
    n_lost : int
        Events that hold the middle of no volume: too short, or not within the run.

    Raises
    ------
    DataError
        If a volume lies in two events.
    """
    middle = (np.arange(n_volumes) + 0.5)[:, np.newaxis] * t_r
    onset, end = events["onset"].to_numpy(), (events["onset"] + events["duration"]).to_numpy()
    inside = (middle >= onset - _TOLERANCE) & (middle < end - _TOLERANCE)
    doubtful = np.flatnonzero(inside.sum(axis=1) > 1)
    if len(doubtful):
        first = int(doubtful[0])
        lines = events.index[inside[first]]
        names = events["condition"][inside[first]]
        raise DataError(
            f"{file}, lines {lines[0]} and {lines[1]}: the events {names.iloc[0]!r} and {names.iloc[1]!r} "
            f"overlap, both hold the middle of volume {first} ({middle[first, 0]:g} s); expected one event "
            "at a time: choose those that count with dataset.trial_types=[...]"
        )
    names = events["condition"].to_numpy(dtype=object)
    conditions = np.full(n_volumes, REST, dtype=object)
    volumes, which = np.nonzero(inside)
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
    """Say what was shown in every volume of several runs.

    Parameters
    ----------
    files : sequence of Path
        The events of every run.
    runs : sequence of int
        The numbers of the runs.
    n_volumes : sequence of int
        Their volumes.
    t_r : float
        Repetition time in seconds.
    column, trial_types
        See `read_events`.

    Returns
    -------
    labels : DataFrame with columns ``condition`` (str) and ``run`` (int), one row per volume

    Raises
    ------
    DataError
        If the events cannot be read, or overlap.

    Warns
    -----
    UserWarning
        If events hold no volume.
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
            f"events that hold the middle of no volume, as they are shorter than the TR of {t_r:g} s or not "
            f"within the run: {lost[0]}{more}",
            stacklevel=2,
        )
    labels = pd.concat(parts, ignore_index=True)
    return labels.astype({"condition": str, "run": int})


def _as_seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
