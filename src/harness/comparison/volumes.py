"""Predictions of two runs compared volume by volume."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

DECISION = "decision_value"
MAX_RATIO = 2.0  # of the SDs of decision values that are compared as they are
DESCRIBED = ("volume", "run", "fold", "condition", "class")


@dataclass(frozen=True, eq=False)
class VolumeDifferences:
    """Held-out volumes on which two runs differ.

    Attributes
    ----------
    table : DataFrame, one row per volume and fold, the largest difference first
        ``volume, run, fold, condition, class``; what the two runs predicted; of the decision value that
        differs most (``decision`` names it) both values and their difference, second minus first. Where the
        runs' decision values have other scales, as those of different estimators, the difference is that of
        the values divided by the SD of each run.
    n_joined : int
        Volumes and folds that both runs hold out.
    n_other_prediction : int
        Those of them whose predicted class differs.
    n_changed : int
        Those of them with any decision value that differs.
    notes : tuple of str
    """

    table: pd.DataFrame
    n_joined: int
    n_other_prediction: int
    n_changed: int
    notes: tuple[str, ...] = ()


def compare_volumes(first: pd.DataFrame, second: pd.DataFrame, limit: int) -> VolumeDifferences | str:
    """Return the held-out volumes whose decision values differ most.

    Volumes are joined by number and fold; by number alone where the folds differ and each run holds every
    volume out once.

    Parameters
    ----------
    first, second : DataFrame
        Two runs' ``predictions.csv``.
    limit : int
        Rows of the table.

    Returns
    -------
    VolumeDifferences or str
        The reason, where volumes cannot be compared.
    """
    needed = {"volume", "run", "fold", "class", "predicted"}
    lacking = [sorted(needed - set(table.columns)) for table in (first, second)]
    if any(lacking):
        return f"predictions.csv has no column {(lacking[0] or lacking[1])[0]!r}"
    decisions = [name for name in first.columns if name.startswith(DECISION)]
    if decisions != [name for name in second.columns if name.startswith(DECISION)]:
        return "the runs have decision values of other classes"
    keys, notes = ["volume", "fold"], []
    if not _same_keys(first, second, keys):
        if first["volume"].duplicated().any() or second["volume"].duplicated().any():
            return "the folds differ, and a volume is held out in several of them"
        keys = ["volume"]
        notes.append("the folds differ: volumes are joined by their number alone")
    joined = first.merge(second, on=keys, suffixes=("", "_second"))
    alone = [len(table) - len(joined) for table in (first, second)]
    if any(alone):
        notes.append(f"held out by one run only: {alone[0]} volumes of the first, {alone[1]} of the second")
    other_class = joined["class"] != joined["class_second"]
    if other_class.any():
        count = int(other_class.sum())
        notes.append(f"left out, because their class differs between the runs: {count} volumes")
        joined = joined[~other_class].reset_index(drop=True)
    if joined.empty:
        return "no held-out volume is common to both runs"
    return _tabulate(joined, decisions, limit, tuple(notes))


def _same_keys(first: pd.DataFrame, second: pd.DataFrame, keys: list[str]) -> bool:
    one, other = (set(map(tuple, table[keys].to_numpy().tolist())) for table in (first, second))
    return one == other


def _tabulate(
    joined: pd.DataFrame, decisions: list[str], limit: int, notes: tuple[str, ...]
) -> VolumeDifferences:
    ones = joined[decisions].to_numpy(dtype=float)
    others = joined[[f"{name}_second" for name in decisions]].to_numpy(dtype=float)
    scales = float(np.nanstd(ones)), float(np.nanstd(others))
    differences = others - ones
    if min(scales) > 0 and max(scales) > MAX_RATIO * min(scales):
        differences = others / scales[1] - ones / scales[0]
        notes += (
            f"decision values have other scales (SD {scales[0]:.3g} and {scales[1]:.3g}): the difference is "
            "of values divided by the SD of their run",
        )
    sizes = np.abs(differences)
    largest = np.where(np.isnan(sizes), -np.inf, sizes).argmax(axis=1)
    rows = np.arange(len(joined))
    table = pd.DataFrame(
        {
            **{name: joined[name] for name in DESCRIBED if name in joined},
            "first_predicted": joined["predicted"],
            "second_predicted": joined["predicted_second"],
            "decision": [decisions[place].removeprefix(DECISION).lstrip("_") for place in largest],
            "first": ones[rows, largest],
            "second": others[rows, largest],
            "difference": differences[rows, largest],
        }
    )
    differs = joined["predicted"] != joined["predicted_second"]
    changed = (ones != others) & ~(np.isnan(ones) & np.isnan(others))
    order = table["difference"].abs().sort_values(ascending=False, kind="stable", na_position="last").index
    shown = table.loc[order][(changed.any(axis=1) | differs.to_numpy())[order]].head(limit)
    return VolumeDifferences(
        table=shown.reset_index(drop=True),
        n_joined=len(joined),
        n_other_prediction=int(differs.sum()),
        n_changed=int(changed.any(axis=1).sum()),
        notes=notes,
    )
