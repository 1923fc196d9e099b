"""Stored scores against chance: every run by its own null distribution, and groups of subjects."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.comparison.comparability import describe_unfinished, leave_out_searchlights, sort_values
from harness.comparison.group import summarise_groups
from harness.comparison.group_table import explain_columns, format_groups, tabulate_groups
from harness.errors import DesignError, TrackingError, UsageError, format_unknown
from harness.inference.paired_tests import holm
from harness.tracking.queries import COMPARED_PARAMS
from harness.tracking.stored_run import StoredRun, choose_newest
from harness.tracking.tags import PRIMARY_TAG

NO_TEST = "no permutation test: repeat with inference=permutation"


@dataclass(frozen=True, eq=False)
class ChanceComparison:
    """Runs, and groups of subjects, compared with chance by one score.

    Attributes
    ----------
    score : str
    fixed : mapping of str to str
        The parameters that all runs share.
    runs : DataFrame, one row per run
        The parameters that vary, ``run_id, score, n`` (volumes), ``baseline`` (mean of the run's null
        distribution), ``p`` (one-sided, from the run's permutation test), ``p_holm`` (over the runs of this
        table) and ``note``.
    groups : DataFrame, one row per configuration of two subjects or more
        The parameters that vary, and the columns of `harness.comparison.group_table.tabulate_groups`.
    explanation : str
        Of the columns of `groups`, and the correction of their p-values.
    """

    score: str
    fixed: Mapping[str, str]
    runs: pd.DataFrame
    groups: pd.DataFrame
    notes: tuple[str, ...]
    explanation: str = ""


def compare_with_chance(
    runs: Sequence[StoredRun], scores: Sequence[str] | None = None
) -> list[ChanceComparison]:
    """Compare the scores of runs, and of groups of subjects, with chance.

    Parameters
    ----------
    scores : sequence of str, optional
        Scores; by default the primary scores of the runs' permutation tests, or else the test accuracy.

    Raises
    ------
    UsageError
        If no run has a score.
    DesignError
        If no run is FINISHED.
    """
    runs, notes = leave_out_searchlights(runs)
    notes += describe_unfinished(runs)
    finished = [run for run in runs if run.status == "FINISHED"]
    newest = sorted(choose_newest(finished), key=lambda run: run.started)
    notes += _note_repeated(finished, newest)
    if not newest:
        raise DesignError(" ".join(["there is no finished run to compare with chance.", *notes]))
    primary = dict.fromkeys(run.tags[PRIMARY_TAG] for run in newest if PRIMARY_TAG in run.tags)
    comparisons = []
    for score in scores or primary or ("test_accuracy",):
        rows, own = _list_runs(newest, score)
        if not rows:
            known = {
                key.removesuffix("_mean") for run in newest for key in run.metrics if key.endswith("_mean")
            }
            raise UsageError(format_unknown(f"--score {score}", score, sorted(known), "score"))
        names = [name for name in COMPARED_PARAMS if name != "inference"]
        values = {name: sort_values({str(row[name]) for row in rows}) for name in names}
        fixed = {name: found[0] for name, found in values.items() if len(found) == 1 and found[0]}
        varying = [name for name, found in values.items() if len(found) > 1]
        table = pd.DataFrame(rows)
        table["p_holm"] = holm(table["p"].to_numpy())
        columns = [*varying, "run_id", "score", "n", "baseline", "p", "p_holm", "note"]
        summaries = summarise_groups(newest, [score])
        groups = tabulate_groups(summaries, [name for name in varying if name != "subject"])
        explanation = explain_columns(format_groups(groups), summaries) if summaries else ""
        comparisons.append(
            ChanceComparison(score, fixed, table[columns], groups, (*notes, *own), explanation)
        )
    return comparisons


def _note_repeated(runs: Sequence[StoredRun], newest: Sequence[StoredRun]) -> list[str]:
    """Return a note on the runs that do not count, and on permutation tests among them."""
    if len(runs) == len(newest):
        return []
    note = f"{len(runs) - len(newest)} repeated: the newest counts"
    untested = [run for run in newest if PRIMARY_TAG not in run.tags]
    older = choose_newest([run for run in runs if PRIMARY_TAG in run.tags])
    # Of a configuration whose newest run has no test, this is the newer of the two.
    lost = [run for run in older if choose_newest([run, *untested]) == untested]
    if lost:
        values = ",".join(dict.fromkeys(run.params.get("inference", "") for run in lost))
        note += (
            f"; {len(lost)} older with a permutation test: {shlex.quote(f'inference={values}')} selects them"
        )
    return [note]


def _list_runs(runs: Sequence[StoredRun], score: str) -> tuple[list[dict[str, object]], list[str]]:
    rows, notes = [], []
    for run in runs:
        if f"{score}_mean" not in run.metrics:
            notes.append(f"run {run.title} has no {score}, and is left out")
            continue
        p = run.metrics.get(f"p_value/{score}", math.nan)
        row: dict[str, object] = {name: run.params.get(name, "") for name in COMPARED_PARAMS}
        row |= {"run_id": run.run_id, "score": run.metrics[f"{score}_mean"], "p": p}
        row |= {"n": int(run.params.get("n_samples", 0)), "baseline": math.nan, "note": ""}
        if math.isnan(p):
            row["note"] = NO_TEST
        elif not run.has_complete_test:
            row["note"] = (
                "a sequential test (inference.stop_early=true) has no null mean; repeat with "
                "inference.stop_early=false"
            )
        else:
            try:
                row["baseline"] = float(np.nanmean(run.read_null_scores(score)))
            except TrackingError as error:
                row |= {"p": math.nan, "note": f"the null distribution cannot be read: {error}"}
        rows.append(row)
    return rows, notes
