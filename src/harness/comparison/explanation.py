"""Why two stored runs differ: their origins, their scores and their predictions."""

from dataclasses import dataclass

import pandas as pd

from harness.comparison.differences import Difference, list_differences
from harness.comparison.map_differences import MapDifferences, compare_maps
from harness.comparison.numbers import NumberChange, Results, compare_results, read_results, select_metrics
from harness.comparison.origins import Origin, Prepare, read_origin
from harness.comparison.volumes import VolumeDifferences, compare_volumes
from harness.errors import TrackingError, UsageError
from harness.tracking.run_tables import MAP_METRICS
from harness.tracking.stored_run import StoredRun

SHOWN_SCORES = (
    *("test_", "selected_", "train_accuracy", "optimism_", "p_value/", "stability_"),
    *MAP_METRICS,
)


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why two runs differ.

    Attributes
    ----------
    differences : tuple of Difference
        In what their origins differ.
    scores : DataFrame, one row per score
        ``score, first, second, difference`` (second minus first); undefined where one run lacks it.
    changes : tuple of NumberChange
        In what their numbers differ; empty if every number is identical.
    volumes : VolumeDifferences or str
        The reason, where volumes cannot be compared.
    missing : tuple of str
        What could not be read, and so is not explained.
    maps : MapDifferences, str or None
        How the maps of two searchlights differ, or the reason where one of the runs is none; None for two
        decodings.
    """

    first: StoredRun
    second: StoredRun
    differences: tuple[Difference, ...]
    scores: pd.DataFrame
    changes: tuple[NumberChange, ...]
    volumes: VolumeDifferences | str
    missing: tuple[str, ...] = ()
    maps: MapDifferences | str | None = None

    @property
    def is_identical(self) -> bool:
        """Whether both runs have results, and every number is the same."""
        return not self.changes and not self.missing


def explain_runs(first: StoredRun, second: StoredRun, prepare: Prepare, n_volumes: int = 10) -> Explanation:
    """Explain why two runs differ.

    Parameters
    ----------
    prepare : callable
        See `harness.comparison.origins.Prepare`.
    n_volumes : int
        Rows of the table of volumes.

    Raises
    ------
    UsageError
        If both are the same run.
    """
    if first.run_id == second.run_id:
        raise UsageError(f"both are run {first.title}; give two different runs")
    origins = read_origin(first, prepare), read_origin(second, prepare)
    missing = [text for origin in origins for text in origin.missing]
    results = []
    for run in (first, second):
        try:
            run.require_finished()
            read = read_results(run)
            missing += read.unreadable.values()
        except TrackingError as error:
            missing.append(str(error))
            read = Results({}, select_metrics(run.metrics))
        results.append(read)
    return Explanation(
        first=first,
        second=second,
        differences=tuple(list_differences(*origins)),
        scores=compare_scores(first, second),
        changes=tuple(compare_results(*results)),
        volumes=_compare_volumes(first, second, origins, n_volumes),
        missing=tuple(dict.fromkeys(missing)),
        maps=compare_maps(first, second),
    )


def compare_scores(first: StoredRun, second: StoredRun) -> pd.DataFrame:
    """Return the scores of two runs; see `Explanation.scores`."""
    metrics = [run.metrics for run in (first, second)]
    names = [
        name
        for start in SHOWN_SCORES
        for name in dict.fromkeys([*metrics[0], *metrics[1]])
        if name.startswith(start) and not name.endswith("_std") and "/" not in name.removeprefix("p_value/")
    ]
    table = pd.DataFrame(
        {
            "score": [name.removesuffix("_mean") for name in names],
            "first": [metrics[0].get(name, float("nan")) for name in names],
            "second": [metrics[1].get(name, float("nan")) for name in names],
        }
    )
    return table.assign(difference=table["second"] - table["first"])


def _compare_volumes(
    first: StoredRun, second: StoredRun, origins: tuple[Origin, Origin], limit: int
) -> VolumeDifferences | str:
    """Compare volume by volume, unless the runs are of other people or other classes."""
    if first.is_searchlight or second.is_searchlight:
        return "a searchlight stores no predictions of volumes"
    for name in ("dataset", "subject", "contrast"):
        values = [origin.choices.get(name) for origin in origins]
        if values[0] != values[1]:
            return f"the runs differ in {name} ({values[0]}, {values[1]}), so that volumes do not correspond"
    try:
        tables = first.read_table("predictions.csv"), second.read_table("predictions.csv")
    except TrackingError as error:
        return str(error)
    return compare_volumes(*tables, limit=limit)
