"""Stored scores against chance: every run by its own null distribution, and groups of subjects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.comparison.comparability import (
    NOT_IN_SCORES,
    describe_unfinished,
    read_folds,
    sort_values,
)
from harness.comparison.group import GroupSummary, summarise_groups
from harness.comparison.paired import ALPHA
from harness.checks.findings import Verdict, worst_verdict
from harness.errors import DesignError, TrackingError, UsageError, format_unknown
from harness.inference.paired_tests import holm, sign_flip
from harness.tracking.queries import COMPARED_PARAMS
from harness.tracking.stored_run import StoredRun
from harness.tracking.tags import PRIMARY_TAG, RELABELLINGS_TAG

NULL_TABLE = "null_distribution.csv"
TWO_CLASSES = 0.5  # accuracy, balanced accuracy and ROC AUC of a decoder that ignores the volumes
TESTED_AGAINST_HALF = ("test_accuracy", "test_balanced_accuracy", "test_roc_auc")
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
        The parameters that vary, ``n, mean, baseline`` (mean over subjects of the means of their null
        distributions), ``p_means`` (permutation of means, of the global null hypothesis), ``p_majority`` and
        ``gamma0`` (prevalence), ``p_half`` (sign-flip test of score - .5, the global null hypothesis),
        ``p_holm`` (of ``p_means``, over the groups) and ``note``.
    """

    score: str
    fixed: Mapping[str, str]
    runs: pd.DataFrame
    groups: pd.DataFrame
    notes: tuple[str, ...]


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
    notes = describe_unfinished(runs)
    newest, repeated = _choose_newest([run for run in runs if run.status == "FINISHED"])
    notes += repeated
    if not newest:
        raise DesignError(" ".join(["there is no finished run to compare with chance.", *notes]))
    primary = dict.fromkeys(run.tags[PRIMARY_TAG] for run in newest if PRIMARY_TAG in run.tags)
    comparisons = []
    for score in scores or primary or ("test_accuracy",):
        rows, own = _list_runs(newest, score)
        if not rows:
            names = {key.removesuffix("_mean") for run in newest for key in run.metrics if key.endswith("_mean")}
            raise UsageError(format_unknown(f"--score {score}", score, sorted(names), "score"))
        names = [name for name in COMPARED_PARAMS if name != "inference"]
        values = {name: sort_values({row[name] for row in rows}) for name in names}
        fixed = {name: found[0] for name, found in values.items() if len(found) == 1 and found[0]}
        varying = [name for name, found in values.items() if len(found) > 1]
        table = pd.DataFrame(rows)
        table["p_holm"] = holm(table["p"].to_numpy())
        columns = [*varying, "run_id", "score", "n", "baseline", "p", "p_holm", "note"]
        groups = _list_groups(newest, score, [name for name in varying if name != "subject"])
        comparisons.append(ChanceComparison(score, fixed, table[columns], groups, (*notes, *own)))
    return comparisons


def _choose_newest(runs: Sequence[StoredRun]) -> tuple[list[StoredRun], list[str]]:
    """Return the newest run of every configuration, one with a permutation test before one without."""
    chosen: dict[tuple[str, ...], StoredRun] = {}
    for run in sorted(runs, key=lambda run: (PRIMARY_TAG in run.tags, run.started)):
        chosen[_configuration(run, ("inference",))] = run
    repeated = len(runs) - len(chosen)
    kept = sorted(chosen.values(), key=lambda run: run.started)
    return kept, [f"{repeated} repeated: the newest with a permutation test count"] if repeated else []


def _configuration(run: StoredRun, left_out: Sequence[str]) -> tuple[str, ...]:
    return tuple(run.params.get(name, "") for name in COMPARED_PARAMS if name not in left_out)


def _list_runs(runs: Sequence[StoredRun], score: str) -> tuple[list[dict[str, object]], list[str]]:
    rows, notes = [], []
    for run in runs:
        if f"{score}_mean" not in run.metrics:
            notes.append(f"run {run.title} has no {score}, and is left out")
            continue
        p = run.metrics.get(f"p_value/{score}", float("nan"))
        row: dict[str, object] = {name: run.params.get(name, "") for name in COMPARED_PARAMS}
        row |= {"run_id": run.run_id, "score": run.metrics[f"{score}_mean"], "p": p}
        row |= {"n": int(run.params.get("n_samples", 0)), "baseline": float("nan"), "note": ""}
        if np.isnan(p):
            row["note"] = NO_TEST
        elif RELABELLINGS_TAG not in run.tags:
            row["note"] = "the test ended early: no null mean"
        else:
            try:
                row["baseline"] = float(run.read_table(NULL_TABLE)[score].mean())
            except (TrackingError, KeyError) as error:
                row |= {"p": float("nan"), "note": f"the null distribution cannot be read: {error}"}
        rows.append(row)
    return rows, notes


def _list_groups(runs: Sequence[StoredRun], score: str, varying: Sequence[str]) -> pd.DataFrame:
    """Return a row per configuration of several subjects."""
    groups: dict[tuple[str, ...], list[StoredRun]] = {}
    for run in runs:
        if f"{score}_mean" in run.metrics:
            groups.setdefault(_configuration(run, NOT_IN_SCORES), []).append(run)
    summaries = {
        tuple(summary.params.get(name, "") for name in COMPARED_PARAMS if name not in NOT_IN_SCORES): summary
        for summary in summarise_groups(runs)
        if summary.score == score
    }
    rows = []
    for configuration, members in groups.items():
        if len(members) > 1:
            row: dict[str, object] = {name: members[0].params.get(name, "") for name in varying}
            rows.append(row | _test_group(members, score, summaries.get(configuration)))
    columns = [*varying, "n", "mean", "baseline", "p_means", "p_majority", "gamma0", "p_half", "note"]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(columns.index("p_majority"), "p_holm", holm(table["p_means"].to_numpy(dtype=float)))
    return table


def _test_group(runs: Sequence[StoredRun], score: str, summary: GroupSummary | None) -> dict[str, object]:
    """Return the tests of the scores of several subjects."""
    scores = np.array([run.metrics[f"{score}_mean"] for run in runs])
    row: dict[str, object] = {"n": len(runs), "mean": float(scores.mean()), "note": ""}
    nan = float("nan")
    row |= {"baseline": nan, "p_means": nan, "p_majority": nan, "gamma0": nan, "p_half": nan}
    notes = []
    if summary is not None and summary.mean_test is not None:
        row |= {"p_means": summary.mean_test.p, "baseline": float(summary.mean_test.null.mean())}
    else:
        notes.append(NO_TEST)
    if summary is not None and summary.prevalence is not None:
        gamma0 = summary.prevalence.gamma0
        row |= {"p_majority": summary.prevalence.p_majority, "gamma0": nan if gamma0 is None else gamma0}
    if refusal := _refuse_half(runs, score):
        notes.append(f"no test against .5: {refusal}")
    elif 1 / 2 ** len(runs) > ALPHA:
        notes.append(f"test against .5: cannot be significant with n = {len(runs)}")
    else:
        row["p_half"] = sign_flip(scores - TWO_CLASSES).p_greater
    return row | {"note": "; ".join(notes)}


def _refuse_half(runs: Sequence[StoredRun], score: str) -> str | None:
    """Return why scores cannot be tested against .5; None if chance is .5 for an estimate of generalisation."""
    if score not in TESTED_AGAINST_HALF:
        return f"chance is not .5 for {score}"
    if any(run.params.get("cv", "").partition("[")[0] != "logo" for run in runs):
        return "chance is not .5 for this scheme"
    try:
        if any(len(run.read_config()["contrast"]["conditions"]) != 2 for run in runs):
            return "more than two classes"
        if any(worst_verdict(run.read_findings()) == Verdict.leak for run in runs):
            return "the audit calls a run leaky"
        read_folds(runs[0])
    except (TrackingError, KeyError, TypeError) as error:
        return f"{error}"
    return None
