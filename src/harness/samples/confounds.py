"""Confounds: columns of a table, one row per volume, that are regressed out of the time courses."""

import numpy as np
import pandas as pd

from harness.datasets.locations import expand_path
from harness.datasets.recording import Recording
from harness.datasets.tables import as_numbers, read_table
from harness.errors import DataError
from harness.samples.signal import Signal


def select_confounds(signal: Signal, recording: Recording, runs: np.ndarray) -> pd.DataFrame | None:
    """Return the confounds that `signal` selects, one row per volume, or None if it selects none.

    Leading gaps of a run, which fMRIPrep leaves in temporal derivatives, are filled with the next value.

    Parameters
    ----------
    runs : ndarray of shape (n_volumes,), int

    Raises
    ------
    DataError
        If the table cannot be read, lacks a column, has gaps, or has another length than the recording.
    """
    if signal.confounds_file is None and not signal.confounds:
        return None
    source, table = _find_confounds(signal, recording)
    names = [str(name) for name in signal.confounds] if signal.confounds else list(table.columns)
    missing = [name for name in names if name not in table]
    if missing:
        raise DataError(
            f"signal.confounds: {source} has no column {missing[0]!r}; "
            f"it has {', '.join(map(str, table.columns[:20]))}"
        )
    if "" in names:
        raise DataError(f"{source} has a column without a name; select columns with signal.confounds=[...]")
    if len(table) != len(runs):
        raise DataError(f"{source} has {len(table)} rows, but the recording has {len(runs)} volumes")
    chosen = table[names].reset_index(drop=True)
    is_leading = ~chosen.notna().groupby(runs).cummax()
    chosen = chosen.mask(is_leading, chosen.groupby(runs).bfill())
    for name in names:
        numbers = pd.to_numeric(chosen[name], errors="coerce")
        if not np.isfinite(numbers).all():
            row = int((~np.isfinite(numbers)).to_numpy().argmax())
            raise DataError(
                f"{source}, column {name!r}, row {row + 1} is {table[name].iloc[row]!r}; expected a number: "
                "correct it, or leave the column out of signal.confounds"
            )
    return chosen.astype(float)


def _find_confounds(signal: Signal, recording: Recording) -> tuple[str, pd.DataFrame]:
    """Return the name of the table for messages, and the table."""
    if signal.confounds_file is not None:
        given = signal.confounds_file.replace("{subject}", str(recording.subject))
        file = expand_path("signal.confounds_file", given)
        return str(file), as_numbers(read_table(file))
    if recording.confounds is None:
        raise DataError(
            f"signal.confounds={list(signal.confounds or [])}: {recording.dataset} contains no confounds; "
            "give a table with signal.confounds_file=PATH"
        )
    return f"the confounds of {recording.dataset}", recording.confounds
