"""Reads runs back from the store and lays them side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient

from harness.errors import TrackingError
from harness.stores import explain_store_error, local_uri
from harness.sweeps import Outcome

# What tells runs apart, in the order in which people ask.
COMPARED_PARAMS = ("dataset", "subject", "contrast", "roi", "signal", "estimator", "cv", "scoring", "engine")
COMPARED_SCORES = ("test_accuracy", "test_roc_auc", "selected_roc_auc", "selected_accuracy")


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes
    ----------
    runs : DataFrame, one row per run, the best first
        Columns ``name, status``, the parameters in which runs can differ, and mean and SD of the scores.
    experiment_ids : mapping of str to str
        Identifiers of the experiments that were read, by name.
    """

    runs: pd.DataFrame
    experiment_ids: Mapping[str, str]


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
    if not (folder / "mlflow.db").is_file():
        raise TrackingError(
            f"no runs yet in {folder.resolve()}: it has no mlflow.db. Start one with `python -m harness`, "
            "or name another folder with --folder"
        )
    return local_uri(folder)


def compare_runs(uri: str, experiment: str | None = None, most: int = 100) -> Comparison:
    """Read the newest runs of a store.

    Parameters
    ----------
    uri : str
        Tracking URI.
    experiment : str, optional
        Name of the experiment; by default all of them.
    most : int
        How many runs at the most.

    Returns
    -------
    Comparison

    Raises
    ------
    TrackingError
        If the store cannot be read, or has no such experiment.
    """
    client = MlflowClient(tracking_uri=uri)
    try:
        found = {item.name: str(item.experiment_id) for item in client.search_experiments()}
        if experiment is not None:
            if experiment not in found:
                raise TrackingError(
                    f"no experiment {experiment!r} in {uri}; there are: {', '.join(sorted(found)) or 'none'}"
                )
            found = {experiment: found[experiment]}
        runs = client.search_runs(list(found.values()), run_view_type=ViewType.ACTIVE_ONLY, max_results=most)
    except TrackingError:
        raise
    except Exception as error:  # whatever the store's driver raises
        raise TrackingError(explain_store_error(uri, error)) from error
    return Comparison(_best_first([_row(run) for run in runs]), found)


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
    rows = [
        _lay_out(outcome.name, "FINISHED", outcome.words, outcome.scores) | {"run_id": outcome.run_id}
        for outcome in outcomes
    ]
    return Comparison(_best_first(rows), {})


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
