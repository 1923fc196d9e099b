"""Correction of the tests of a sweep over regions, estimators or signals by the maximum statistic."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from mlflow.entities import Metric, Run

from harness.inference.corrections import maximum_statistic, standardise_nulls
from harness.tracking.locks import retry_while_locked
from harness.tracking.store import Store
from harness.tracking.store_errors import translate_errors
from harness.tracking.stored_run import NULL_TABLE
from harness.tracking.tags import PRIMARY_TAG, RELABELLINGS_TAG

SAME_VOLUMES = ("dataset", "location", "subject", "contrast")  # params that runs of one family share


@dataclass(frozen=True, eq=False)
class CorrectedTests:
    """Runs of one subject that were tested with the same relabellings.

    Attributes
    ----------
    score : str
        The primary score of the runs.
    table : DataFrame, one row per run
        ``run_id, name, score, p, p_fwe``.
    """

    subject: str
    score: str
    table: pd.DataFrame


def correct_sweep(store: Store, run_ids: Sequence[str]) -> list[CorrectedTests]:
    """Correct the p-values of runs that used the same relabellings, and log them as ``p_fwe/<score>``.

    Every run is standardised by its own null distribution before the maximum over runs is taken, so that the
    run with the widest one does not dominate.

    Returns
    -------
    families : list of CorrectedTests
        Of two runs or more.
    """
    with translate_errors(store.uri):
        runs = [
            retry_while_locked(partial(store.client.get_run, run_id)) for run_id in dict.fromkeys(run_ids)
        ]
        families: dict[tuple[str, ...], list[Run]] = {}
        for run in runs:
            # A score that is not defined has no p-value.
            if RELABELLINGS_TAG in run.data.tags and f"p_value/{_primary(run)}" in run.data.metrics:
                params = run.data.params
                key = (
                    run.data.tags[RELABELLINGS_TAG],
                    _primary(run),
                    *(params.get(n, "") for n in SAME_VOLUMES),
                )
                families.setdefault(key, []).append(run)
        return [_correct_family(store, family) for family in families.values() if len(family) > 1]


def _primary(run: Run) -> str:
    """Return the score whose p-value is the run's headline."""
    return run.data.tags.get(PRIMARY_TAG, "")


def _correct_family(store: Store, runs: Sequence[Run]) -> CorrectedTests:
    score = _primary(runs[0])
    columns = []
    with tempfile.TemporaryDirectory(prefix="harness-") as directory:
        for run in runs:
            file = store.client.download_artifacts(run.info.run_id, NULL_TABLE, directory)
            columns.append(pd.read_csv(file)[score].to_numpy())
    table = np.column_stack(columns)
    p_fwe = maximum_statistic(standardise_nulls(table)).single_step
    now = int(time.time() * 1000)
    for run, p in zip(runs, p_fwe, strict=True):
        metric = [Metric(f"p_fwe/{score}", float(p), now, 0)]
        retry_while_locked(partial(store.client.log_batch, run.info.run_id, metric))
    rows = [
        {
            "run_id": run.info.run_id,
            "name": run.info.run_name,
            "score": table[0, j],
            "p": run.data.metrics[f"p_value/{score}"],
            "p_fwe": float(p_fwe[j]),
        }
        for j, run in enumerate(runs)
    ]
    return CorrectedTests(runs[0].data.params.get("subject", ""), score, pd.DataFrame(rows))
