"""Tables of runs: the best first, or the newest first with status and time; means over runs of two keys."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd
from mlflow.entities import Run

from harness.errors import UsageError, format_unknown
from harness.tracking.choices import EARLIER_PARAMS
from harness.tracking.ledger import Outcome
from harness.tracking.queries import COMPARED_PARAMS, RunQuery, select_runs
from harness.tracking.stored_run import choose_newest, is_searchlight, read_stored_runs
from harness.tracking.sweep_notes import SweepRecord
from harness.tracking.tags import AUDIT_TAG, ERROR_TAG, PRIMARY_TAG

COMPARED_SCORES = ("test_accuracy", "test_roc_auc", "selected_roc_auc", "selected_accuracy")
# Columns of searchlights; threshold and smallest p are those of the chosen correction.
MAP_VALUES = (
    *("max_score", "median_score", "max_z", "n_corrected", "threshold", "smallest_p_fwe", "n_spheres"),
)
CORRECTED = ("n_corrected", "threshold", "smallest_p_fwe")  # of every correction, such as threshold/tfce
MAP_METRICS = tuple(name for name in MAP_VALUES if name != "threshold")
MAXIMUM = "maximum"  # the correction that every test has
SIZES = {"folds": "n_folds", "volumes": "n_samples"}  # columns of tables, and the parameters that they are
SCORED_DIFFERENTLY = ("cv", "scoring", "contrast")  # scores of other schemes or chance levels have no order
SCORER = r"\bscorer=(\w+)"  # of a searchlight that has another one than the usual
TWO_CLASSES = re.compile(r"((?!_vs_).)+_vs_((?!_vs_).)+")  # names of contrasts whose chance level is .5


@dataclass(frozen=True)
class RunTable:
    """A table of runs.

    Attributes
    ----------
    runs : DataFrame, one row per run
        Columns ``name, status``, the parameters in which runs can differ, ``folds, volumes``, mean and SD of
        the scores; where a run is a searchlight, ``searchlight`` (true or false), `MAP_VALUES` and
        ``correction`` (the chosen one, that `CORRECTED` are of; none without a test); where a run has a
        permutation test, ``p`` (of the primary score, uncorrected), ``p_fwe`` (corrected over the runs of its
        sweep) and ``p_score`` (the primary score); ``audit`` (the worst verdict; empty where there was no
        audit) and ``run_id``.
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
        params = [name for name in (*COMPARED_PARAMS, *SIZES) if name in self.runs]
        # A run that failed early has no number of folds, which makes no difference to show.
        values = {name: [v for v in self.runs[name].unique() if v or name not in SIZES] for name in params}
        same = {name: str(found[0]) for name, found in values.items() if len(found) == 1 and found[0]}
        if same.items() >= EARLIER_PARAMS.items():  # the usual analysis distinguishes nothing
            same = {name: value for name, value in same.items() if name not in EARLIER_PARAMS}
        return same, [name for name in params if len(values[name]) > 1]

    @property
    def has_maps(self) -> bool:
        """Whether any of the runs is a searchlight."""
        return "searchlight" in self.runs

    def split_analyses(self) -> list["RunTable"]:
        """Return the decodings and the searchlights as tables of their own, without empty ones."""
        if not self.has_maps:
            return [self]
        is_map = self.runs["searchlight"].astype(bool)
        parts = [self.runs[~is_map].drop(columns=["searchlight"]), self.runs[is_map]]
        found = [part.dropna(axis="columns", how="all").reset_index(drop=True) for part in parts if len(part)]
        return [RunTable(part, self.has_more, self.sweep) for part in found]

    @property
    def ranked_within(self) -> list[str]:
        """Parameters that vary and whose values have no common scale: runs are ordered within each."""
        return _find_scales(self.runs)

    def view_columns(self) -> list[str]:
        """Return the parameters that vary, and the mean scores."""
        _, varying = self.split_params()
        params = [name for name in varying if name not in SIZES]
        shown = ("max_score", "n_corrected")
        return params + [
            column for column in self.runs.columns if column.endswith("_mean") or column in shown
        ]


def compare_runs(uri: str, query: RunQuery | None = None, limit: int = 100) -> RunTable:
    """Return the newest runs that match a query, the best of every scheme first; errors: `select_runs`."""
    selected = select_runs(uri, query or RunQuery(), limit)
    table = _best_first([_run_row(run) for run in selected.runs])
    return RunTable(table, selected.has_more, selected.sweep)


def list_runs(uri: str, query: RunQuery, limit: int = 50) -> RunTable:
    """Return the newest runs that match a query, the newest first.

    The table has the columns ``started`` (with zone), ``seconds`` (of a run that is RUNNING: up to now) and
    ``error`` (the first line of why a run failed), too. Errors as in `select_runs`.
    """
    selected = select_runs(uri, query, limit)
    table = _tabulate([_run_times(run) | _run_row(run) for run in selected.runs])
    return RunTable(table, selected.has_more, selected.sweep)


def compare_outcomes(outcomes: Sequence[Outcome]) -> RunTable:
    """Return a table of the runs of a sweep, the best first, from the outcomes of its jobs."""
    rows = {
        # Two jobs of a sweep that are the same run have one row.
        outcome.run_id or str(outcome.job): _row(outcome.name, "FINISHED", outcome.words, outcome.scores)
        | (map_values(outcome.scores) if "n_spheres" in outcome.scores else {})
        | {"audit": outcome.audit, "run_id": outcome.run_id}
        for outcome in outcomes
    }
    return RunTable(_best_first(list(rows.values())))


def _tabulate(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """Return rows as a table, with the column ``searchlight`` where any of them is one."""
    table = pd.DataFrame(rows)
    if "searchlight" in table:
        table["searchlight"] = table["searchlight"].eq(True)
    return table


def _best_first(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """Return a table with the best run of every scheme, scoring and number of classes first.

    Searchlights follow the decodings, the highest score first within each of these and each scorer, those
    without a score last.
    """
    table = _tabulate(rows)
    if "searchlight" not in table:
        return _order_decodings(table)
    maps = table[table["searchlight"]]
    apart, order = _find_scales(maps), [name for name in ("max_score", "n_corrected") if name in table]
    if order:
        keys = maps[[*apart, *order]].assign(
            scorer=maps["analysis"].str.extract(SCORER, expand=False).fillna(""),
            failed=maps[order[0]].isna(),
        )
        first = ["failed", *apart, "scorer"]
        ascending = [True] * len(first) + [False] * len(order)
        maps = maps.loc[keys.sort_values([*first, *order], ascending=ascending, kind="stable").index]
    decodings = _order_decodings(table[~table["searchlight"]])
    return pd.concat([decodings, maps]).reset_index(drop=True)[table.columns]


def _order_decodings(table: pd.DataFrame) -> pd.DataFrame:
    order = [f"{score}_mean" for score in COMPARED_SCORES if f"{score}_mean" in table]
    apart = _find_scales(table)
    if order or apart:
        ascending = [True] * len(apart) + [False] * len(order)
        table = table.sort_values([*apart, *order], ascending=ascending, na_position="last")
    return table.reset_index(drop=True)


def _find_scales(runs: pd.DataFrame) -> list[str]:
    """Return the parameters that vary between runs whose scores have different scales."""
    varying = [name for name in SCORED_DIFFERENTLY if name in runs and runs[name].nunique() > 1]
    if "contrast" in varying:
        options = [str(name).partition("[")[0] for name in runs["contrast"] if name]
        if all(TWO_CLASSES.fullmatch(name) for name in options):
            varying.remove("contrast")
    return varying


def _run_row(run: Run) -> dict[str, object]:
    params, metrics, tags = run.data.params, run.data.metrics, run.data.tags
    row = _row(run.info.run_name, run.info.status, params, metrics)
    row |= {column: params.get(name, "") for column, name in SIZES.items()}
    row |= map_values(metrics) if is_searchlight(tags) else {}
    primary = tags.get(PRIMARY_TAG, "")
    for column, metric in (("p", f"p_value/{primary}"), ("p_fwe", f"p_fwe/{primary}")):
        if metric in metrics:
            row |= {column: metrics[metric], "p_score": primary}
    return row | {"audit": tags.get(AUDIT_TAG, ""), "run_id": run.info.run_id}


def _row(
    name: str, status: str, params: Mapping[str, str], metrics: Mapping[str, float]
) -> dict[str, object]:
    row: dict[str, object] = {"name": name, "status": status}
    row |= {name: params.get(name, EARLIER_PARAMS.get(name, "")) for name in COMPARED_PARAMS}
    for score in COMPARED_SCORES:
        if f"{score}_mean" in metrics:
            row |= {f"{score}_{part}": metrics.get(f"{score}_{part}") for part in ("mean", "std")}
    return row


def map_values(metrics: Mapping[str, float]) -> dict[str, object]:
    """Return the columns of a searchlight."""
    row: dict[str, object] = {name: metrics[name] for name in MAP_METRICS if name in metrics}
    correction = find_correction(metrics)
    if correction is not None:
        row |= {"correction": correction}
        if correction != MAXIMUM:
            row.pop("smallest_p_fwe", None)  # that of the maximum statistic
        found = {name: metrics.get(f"{name}/{correction}") for name in CORRECTED}
        row |= {name: value for name, value in found.items() if value is not None}
    return row | {"searchlight": True}


def find_correction(metrics: Mapping[str, float]) -> str | None:
    """Return the correction over voxels that was chosen for a searchlight; None without a test."""
    # The maximum statistic is computed in any case, another correction only if it was chosen.
    names = [key.partition("/")[2] for key in metrics if key.startswith("n_corrected/")]
    return min(names, key=lambda name: name == MAXIMUM, default=None)


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


@dataclass(frozen=True, eq=False)
class PivotTable:
    """Mean scores over runs, by two parameters.

    Attributes
    ----------
    score : str
        Such as ``test_accuracy``.
    means, counts : DataFrame
        Mean score and number of runs; rows are values of the first parameter, columns of the second.
    fixed : mapping of str to str
        Parameters that are the same in all runs.
    averaged : mapping of str to list of str
        Other parameters that vary, with their values: a mean may be over them.
    scales : list of str
        See `RunTable.ranked_within`.
    n_repeated, n_without : int
        Older runs of the same configuration, and runs without the score; neither count.
    """

    score: str
    rows: str
    columns: str
    means: pd.DataFrame
    counts: pd.DataFrame
    fixed: Mapping[str, str]
    averaged: Mapping[str, list[str]]
    scales: list[str]
    n_repeated: int = 0
    n_without: int = 0


def parse_pivot(text: str) -> tuple[str, str]:
    """Return the two parameters in a text such as ``estimator,cv``.

    Raises
    ------
    UsageError
        If there are not two, or one does not exist.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in COMPARED_PARAMS:
            raise UsageError(format_unknown(f"--pivot {text}", name, COMPARED_PARAMS, "parameter"))
    if len(names) != 2 or names[0] == names[1]:
        raise UsageError(f"--pivot {text}: expected two parameters, for rows and columns: estimator,cv")
    return names[0], names[1]


def pivot_runs(uri: str, query: RunQuery, rows: str, columns: str, score: str, limit: int) -> PivotTable:
    """Return mean scores by two parameters; of runs of the same configuration, the newest counts.

    Runs with and without a permutation test are of the same, unless it is one of the two parameters.

    Raises
    ------
    UsageError
        If there are runs, but none with the score. Other errors as in `select_runs`.
    """
    selected = read_stored_runs(select_runs(uri, query, limit).runs, uri)
    metric = score if score in MAP_METRICS else f"{score}_mean"  # of searchlights, or of decodings
    with_score = [run for run in selected if run.status == "FINISHED" and metric in run.metrics]
    if selected and not with_score:
        names = {key.removesuffix("_mean") for run in selected for key in run.metrics if "_mean" in key}
        names |= {name for run in selected for name in MAP_METRICS if name in run.metrics}
        raise UsageError(format_unknown(f"--score {score}", score, sorted(names), "score"))
    shown = (rows, columns)
    newest = choose_newest(with_score, {"inference"}.difference(shown))
    values = [[run.params.get(name, "") for name in COMPARED_PARAMS] for run in newest]
    table = pd.DataFrame(values, columns=list(COMPARED_PARAMS))
    table["score"] = [run.metrics[metric] for run in newest]
    varying = [name for name in COMPARED_PARAMS if table[name].nunique() > 1]
    groups = table.groupby(list(shown))["score"]
    return PivotTable(
        score=score,
        rows=rows,
        columns=columns,
        means=groups.mean().unstack(),
        counts=groups.size().unstack().fillna(0).astype(int),
        fixed={
            name: table[name].iloc[0]
            for name in COMPARED_PARAMS
            if name not in (*varying, *shown) and len(table) and table[name].iloc[0]
        },
        averaged={name: sorted(table[name].unique()) for name in varying if name not in shown},
        scales=_find_scales(table),
        n_repeated=len(with_score) - len(newest),
        n_without=len(selected) - len(with_score),
    )
