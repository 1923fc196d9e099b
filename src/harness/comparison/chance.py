"""Stored scores against chance: every run by its own null distribution, and groups of subjects."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from harness.comparison.comparability import describe_unfinished, sort_values
from harness.comparison.group import summarise_groups
from harness.errors import DesignError, TrackingError, UsageError, format_unknown
from harness.inference.paired_tests import holm
from harness.tracking.queries import COMPARED_PARAMS
from harness.tracking.stored_run import StoredRun
from harness.tracking.tags import PRIMARY_TAG, RELABELLINGS_TAG

NULL_TABLE = "null_distribution.csv"
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
        ``p_holm`` (of ``p_means``, over the groups; ``p_majority`` and ``p_half`` are corrected, too) and
        ``note`` (one per line).
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
        p = run.metrics.get(f"p_value/{score}", math.nan)
        row: dict[str, object] = {name: run.params.get(name, "") for name in COMPARED_PARAMS}
        row |= {"run_id": run.run_id, "score": run.metrics[f"{score}_mean"], "p": p}
        row |= {"n": int(run.params.get("n_samples", 0)), "baseline": math.nan, "note": ""}
        if math.isnan(p):
            row["note"] = NO_TEST
        elif RELABELLINGS_TAG not in run.tags:
            row["note"] = "the test ended early: no null mean"
        else:
            try:
                row["baseline"] = float(run.read_table(NULL_TABLE)[score].mean())
            except (TrackingError, KeyError) as error:
                row |= {"p": math.nan, "note": f"the null distribution cannot be read: {error}"}
        rows.append(row)
    return rows, notes


def _list_groups(runs: Sequence[StoredRun], score: str, varying: Sequence[str]) -> pd.DataFrame:
    """Return a row per configuration of several subjects."""
    rows = []
    groups = summarise_groups(runs, [score])
    for group in groups:
        nulls, flipped, found = group.mean_test, group.sign_flip, group.prevalence
        row: dict[str, object] = {name: group.params.get(name, "") for name in varying}
        row |= {"n": group.n, "mean": group.mean}
        row["baseline"] = math.nan if nulls is None else float(nulls.null.mean())
        row["p_means"] = math.nan if nulls is None else nulls.p
        row["p_holm"] = group.p_holm.get("means", row["p_means"])
        p_majority = math.nan if found is None else found.p_majority
        row["p_majority"] = group.p_holm.get("prevalence_majority", p_majority)
        row["gamma0"] = math.nan if found is None or found.gamma0 is None else found.gamma0
        row["p_half"] = math.nan
        if flipped is not None and group.can_be_significant("sign_flip", len(groups)):
            row["p_half"] = group.p_holm.get("sign_flip", flipped.p_greater)
        rows.append(row | {"note": "\n".join(group.notes)})
    columns = ["n", "mean", "baseline", "p_means", "p_holm", "p_majority", "gamma0", "p_half", "note"]
    return pd.DataFrame(rows, columns=[*varying, *columns])
