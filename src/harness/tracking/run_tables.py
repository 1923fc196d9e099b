"""Tables of runs: the best first, or the newest first with status and time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd
from mlflow.entities import Run

from harness.tracking.ledger import Outcome
from harness.tracking.queries import COMPARED_PARAMS, RunQuery, select_runs
from harness.tracking.sweep_notes import SweepRecord
from harness.tracking.tags import AUDIT_TAG, ERROR_TAG

COMPARED_SCORES = ("test_accuracy", "test_roc_auc", "selected_roc_auc", "selected_accuracy")


@dataclass(frozen=True)
class RunTable:
    """A table of runs.

    Attributes
    ----------
    runs : DataFrame, one row per run
        Columns ``name, status``, the parameters in which runs can differ, mean and SD of the scores,
        ``audit`` (the worst verdict; empty where there was no audit) and ``run_id``.
    has_more : bool
        Whether older runs match, too.
    sweep : str or None
        Identifier of the sweep of these runs.
    """

    runs: pd.DataFrame
    has_more: bool = False
    sweep: str | None = None

    def split_params(self) -> tuple[dict[str, str], list[str]]:
        """Return the parameters that are the same in all runs, with their values, and those that vary.

        A parameter that no run has is left out.
        """
        params = [name for name in COMPARED_PARAMS if name in self.runs]
        varying = [name for name in params if self.runs[name].nunique() > 1]
        values = {name: str(self.runs[name].iloc[0]) for name in params if name not in varying}
        return {name: value for name, value in values.items() if value}, varying

    def view_columns(self) -> list[str]:
        """Return the parameters that vary, and the mean scores."""
        _, varying = self.split_params()
        return varying + [column for column in self.runs.columns if column.endswith("_mean")]


def compare_runs(uri: str, query: RunQuery | None = None, limit: int = 100) -> RunTable:
    """Return the newest runs that match a query, the best first; errors as in `select_runs`."""
    selected = select_runs(uri, query or RunQuery(), limit)
    table = _best_first([_run_row(run) for run in selected.runs])
    return RunTable(table, selected.has_more, selected.sweep)


def list_runs(uri: str, query: RunQuery, limit: int = 50) -> RunTable:
    """Return the newest runs that match a query, the newest first.

    The table has the columns ``started`` (with zone), ``seconds`` (of a run that is RUNNING: up to now) and
    ``error`` (the first line of why a run failed), too. Errors as in `select_runs`.
    """
    selected = select_runs(uri, query, limit)
    table = pd.DataFrame([_run_times(run) | _run_row(run) for run in selected.runs])
    return RunTable(table, selected.has_more, selected.sweep)


def compare_outcomes(outcomes: Sequence[Outcome]) -> RunTable:
    """Return a table of the runs of a sweep, the best first, from the outcomes of its jobs."""
    rows = {
        # Two jobs of a sweep that are the same run have one row.
        outcome.run_id or str(outcome.job): _row(outcome.name, "FINISHED", outcome.words, outcome.scores)
        | {"audit": outcome.audit, "run_id": outcome.run_id}
        for outcome in outcomes
    }
    return RunTable(_best_first(list(rows.values())))


def _best_first(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    order = [f"{score}_mean" for score in COMPARED_SCORES if f"{score}_mean" in table]
    if order:
        table = table.sort_values(order, ascending=False, na_position="last")
    return table.reset_index(drop=True)


def _run_row(run: Run) -> dict[str, object]:
    row = _row(run.info.run_name, run.info.status, run.data.params, run.data.metrics)
    return row | {"audit": run.data.tags.get(AUDIT_TAG, ""), "run_id": run.info.run_id}


def _row(
    name: str, status: str, params: Mapping[str, str], metrics: Mapping[str, float]
) -> dict[str, object]:
    row: dict[str, object] = {"name": name, "status": status}
    row |= {name: params.get(name, "") for name in COMPARED_PARAMS}
    for score in COMPARED_SCORES:
        if f"{score}_mean" in metrics:
            row |= {f"{score}_{part}": metrics.get(f"{score}_{part}") for part in ("mean", "std")}
    return row


def _run_times(run: Run) -> dict[str, object]:
    now = datetime.now(UTC).timestamp() * 1000
    # A run whose process was killed has no end, and how long it took is unknown.
    end = run.info.end_time or (now if run.info.status == "RUNNING" else None)
    return {
        "started": datetime.fromtimestamp(run.info.start_time / 1000).astimezone(),
        "seconds": None if end is None else round((end - run.info.start_time) / 1000, 3),
        "error": run.data.tags.get(ERROR_TAG, ""),
    }


def tabulate_sweeps(sweeps: Sequence[SweepRecord]) -> pd.DataFrame:
    """Return a table of sweeps, one row per sweep."""
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
