"""Lays runs side by side: the best first, or the newest first with what became of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from mlflow.entities import Run

from harness.errors import TrackingError
from harness.tracking.ledger import Outcome
from harness.tracking.queries import COMPARED_PARAMS, Selection, SweepRecord, select_runs
from harness.tracking.store import ERROR_TAG, local_uri, migrate_store

COMPARED_SCORES = ("test_accuracy", "test_roc_auc", "selected_roc_auc", "selected_accuracy")


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes
    ----------
    runs : DataFrame, one row per run
        Columns ``name, status``, the parameters in which runs can differ, mean and SD of the scores, and
        ``run_id``.
    experiment_ids : mapping of str to str
        Identifiers of the experiments that were read, by name.
    n_more : int or None
        How many older runs there are; None if there are some, and the store cannot count them.
    sweep : str or None
        Identifier of the sweep whose runs these are.
    """

    runs: pd.DataFrame
    experiment_ids: Mapping[str, str]
    n_more: int | None = 0
    sweep: str | None = None

    def split_params(self) -> tuple[dict[str, str], list[str]]:
        """Tell the parameters that are the same in all runs from those that vary.

        Returns
        -------
        same : dict of str to str
            Parameters of one value; without those that no run has.
        varying : list of str
            Names of the others.
        """
        params = [name for name in COMPARED_PARAMS if name in self.runs]
        varying = [name for name in params if self.runs[name].nunique() > 1]
        values = {name: str(self.runs[name].iloc[0]) for name in params if name not in varying}
        return {name: value for name, value in values.items() if value}, varying

    def view_columns(self) -> list[str]:
        """Return what a table of these runs needs to show: what varies, and the mean scores.

        Returns
        -------
        columns : list of str
        """
        _, varying = self.split_params()
        return varying + [column for column in self.runs.columns if column.endswith("_mean")]


def open_local_store(folder: Path) -> str:
    """Return the tracking URI of a folder's store.

    Parameters
    ----------
    folder : Path
        Usually ``mlruns``.

    Returns
    -------
    uri : str

    Raises
    ------
    TrackingError
        If there is no store.
    """
    if not (folder / "mlflow.db").exists():
        raise TrackingError(
            f"no runs yet in {folder.resolve()}: it has no mlflow.db. Start one with `python -m harness`, "
            "or name another folder with --folder"
        )
    migrate_store(folder)
    return local_uri(folder)


def compare_runs(uri: str, selection: Selection | None = None, most: int = 100) -> Comparison:
    """Read the newest of the selected runs and put the best first.

    Parameters
    ----------
    uri : str
        Tracking URI.
    selection : Selection, optional
        By default all runs.
    most : int
        How many runs at the most.

    Returns
    -------
    Comparison

    Raises
    ------
    UsageError
        If there is no such sweep, or a value cannot be searched for.
    TrackingError
        If the store cannot be read, or has no such experiment.
    """
    selected = select_runs(uri, selection or Selection(), most)
    table = _best_first([_row(run) for run in selected.runs])
    return Comparison(table, selected.experiment_ids, selected.n_more, selected.sweep)


def list_runs(uri: str, selection: Selection, most: int = 50) -> Comparison:
    """Read the newest of the runs that are asked for, and what became of them.

    Parameters
    ----------
    uri : str
        Tracking URI.
    selection : Selection
    most : int
        How many runs at the most.

    Returns
    -------
    Comparison
        The newest first; with the columns ``started`` (with zone), ``seconds`` (of a run that still runs:
        up to now) and ``error`` (the first line of why a run failed), too.

    Raises
    ------
    UsageError
        If there is no such sweep, or a value cannot be asked for.
    TrackingError
        If the store cannot be read, or has no such experiment.
    """
    selected = select_runs(uri, selection, most)
    table = pd.DataFrame([_times(run) | _row(run) for run in selected.runs])
    return Comparison(table, selected.experiment_ids, selected.n_more, selected.sweep)


def compare_outcomes(outcomes: Sequence[Outcome]) -> Comparison:
    """Lay the runs of a sweep side by side, from what its jobs said of them.

    Parameters
    ----------
    outcomes : sequence of Outcome

    Returns
    -------
    Comparison
        Without experiments.
    """
    rows = {
        # A run that is asked for twice in one sweep is one run.
        outcome.run_id or str(outcome.job): _lay_out(outcome.name, "FINISHED", outcome.words, outcome.scores)
        | {"run_id": outcome.run_id}
        for outcome in outcomes
    }
    return Comparison(_best_first(list(rows.values())), {})


def _best_first(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    order = [f"{score}_mean" for score in COMPARED_SCORES if f"{score}_mean" in table]
    if order:
        table = table.sort_values(order, ascending=False, na_position="last")
    return table.reset_index(drop=True)


def _row(run: Run) -> dict[str, object]:
    row = _lay_out(run.info.run_name, run.info.status, run.data.params, run.data.metrics)
    return row | {"run_id": run.info.run_id}


def _lay_out(
    name: str, status: str, params: Mapping[str, str], metrics: Mapping[str, float]
) -> dict[str, object]:
    row: dict[str, object] = {"name": name, "status": status}
    row |= {name: params.get(name, "") for name in COMPARED_PARAMS}
    for score in COMPARED_SCORES:
        if f"{score}_mean" in metrics:
            row |= {f"{score}_{part}": metrics.get(f"{score}_{part}") for part in ("mean", "std")}
    return row


def _times(run: Run) -> dict[str, object]:
    now = datetime.now(UTC).timestamp() * 1000
    # A run that was killed outright has no end, and nobody knows how long it took.
    end = run.info.end_time or (now if run.info.status == "RUNNING" else None)
    return {
        "started": datetime.fromtimestamp(run.info.start_time / 1000).astimezone(),
        "seconds": None if end is None else round((end - run.info.start_time) / 1000, 3),
        "error": run.data.tags.get(ERROR_TAG, ""),
    }


def tabulate_sweeps(sweeps: Sequence[SweepRecord]) -> pd.DataFrame:
    """Return sweeps as a table, one row per sweep.

    Parameters
    ----------
    sweeps : sequence of SweepRecord

    Returns
    -------
    table : DataFrame
    """
    return pd.DataFrame(
        {
            "sweep": sweep.identifier,
            "started": sweep.started,
            "ended": sweep.ended,
            **sweep.counts,
            "command": sweep.command,
            "experiments": ", ".join(sweep.experiments),
        }
        for sweep in sweeps
    )
