"""Prepared views of the MLflow UI: the runs of a sweep, their scores in columns, the best first."""

import json
import time
from collections.abc import Mapping, Sequence

from mlflow.tracking import MlflowClient

from harness.tracking.queries import RunQuery, list_experiments, select_runs
from harness.tracking.run_content import FIGURES
from harness.tracking.run_tables import MAP_METRICS, compare_runs
from harness.tracking.sweep_notes import SweepRecord, sweep_filter

# The MLflow UI stores a view that is shared by its link in an experiment tag of this name. The format is not
# documented: it is that of MLflow 3.17, so callers must work without views where another UI ignores them.
VIEW_TAG = "mlflow.sharedViewState."
FIGURES_TAG = "mlflow.loggedImages"  # `log_image` sets it
RUN_NAME, CREATED = "attributes.`Run Name`", "runDateAndNestInfo"  # the UI's names of these columns
PIXELS = {RUN_NAME: 240, CREATED: 145}


def prepare_views(uri: str, address: str, sweep: SweepRecord | None) -> dict[str, str]:
    """Prepare the views of a sweep, or of the experiment that was used last.

    Returns
    -------
    links : dict of str to str
        For the MLflow UI at an address, by title. One per experiment; before it, for a sweep over several
        subjects, one to the averages over subjects.
    """
    client, experiments = MlflowClient(tracking_uri=uri), list_experiments(uri)
    identifier = sweep.identifier if sweep else None
    if sweep:
        names = list(sweep.experiments)
    else:
        used = {run.info.experiment_id for run in select_runs(uri, RunQuery(), limit=1).runs}
        names = [name for name, experiment_id in experiments.items() if experiment_id in used]
    links = {}
    for name in names:
        columns = compare_runs(uri, RunQuery(name, identifier)).view_columns()
        title = f"sweep {identifier}, {name}" if identifier else f"all runs, {name}"
        for average in (True, False) if identifier and "subject" in columns else (False,):
            key = ensure_view(client, experiments[name], identifier, columns, average)
            words = f"{title}, mean over subjects" if average else title
            links[words] = experiment_link(address, experiments[name], key)
    return links


def ensure_view(
    client: MlflowClient,
    experiment_id: str,
    sweep: str | None,
    columns: Sequence[str],
    average: bool = False,
) -> str:
    """Write the view of a sweep's runs, unless a user has changed it since in the UI.

    Parameters
    ----------
    sweep : str or None
        Identifier; None means every run of the experiment.
    columns : sequence of str
        Names of parameters and of metrics (those end in ``_mean`` or ``_std``, or are of searchlights), in
        the order of the table.
        Runs are ordered by the first metric, the best first.
    average : bool
        Group the runs that differ in the subject alone, and show the averages of their metrics.

    Returns
    -------
    key : str
        For `experiment_link`.
    """
    key, name = (f"sweep-{sweep}", f"sweep {sweep}") if sweep else ("all-runs", "all runs")
    if average:
        key, name = f"{key}-subjects", f"{name}, mean over subjects"
    now = int(time.time() * 1000)
    before = _read_view(client.get_experiment(experiment_id).tags.get(VIEW_TAG + key, ""))
    created = before.get("createdAt", now)
    if before.get("updatedAt", created) != created:
        return key
    state = _view_state(sweep, columns, average)
    if not average and _has_figures(client, experiment_id, sweep):  # the panel is empty for groups
        state |= _figure_panel()
    # The UI of MLflow 3.17 lists views by name and reads `state`; earlier ones read the keys of the state
    # itself. Each ignores the keys of the other.
    envelope = {
        "name": name,
        "createdAt": created,
        "updatedAt": created,
        "state": json.dumps(state),
    }
    text = json.dumps(state | envelope)
    if before != json.loads(text):
        client.set_experiment_tag(experiment_id, VIEW_TAG + key, text)
    return key


def experiment_link(address: str, experiment_id: str, key: str | None = None) -> str:
    """Return the link to an experiment's table of runs, or to the view with the key of `ensure_view`."""
    # Without the parameter, the UI opens a page for language models instead of the table.
    link = f"{address}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    return link if key is None else f"{link}&viewStateShareKey={key}"


def _read_view(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _view_state(sweep: str | None, columns: Sequence[str], average: bool) -> dict[str, object]:
    kinds = {
        name: "metrics" if name.endswith(("_mean", "_std")) or name in MAP_METRICS else "params"
        for name in columns
    }
    grouping = {"groupBy": _group_by(kinds)} if average else {}
    if average:
        kinds.pop("subject", None)  # the UI would show the mean of their numbers
    shown = {f"{kind}.`{name}`": kind for name, kind in kinds.items()}
    best = next((column for column, kind in shown.items() if kind == "metrics"), "attributes.start_time")
    # The UI cuts a header that is wider than its column: some 7 pixels per letter, and a mark.
    widths = {column: 45 + 7 * len(name) for name, column in zip(kinds, shown, strict=True)}
    return {
        "searchFilter": sweep_filter(sweep) if sweep else "",
        "orderByKey": best,
        "orderByAsc": False,
        "selectedColumns": list(shown),
        "columnOrder": [*PIXELS, *shown],
        "columnWidths": PIXELS | widths,
        # Otherwise, the charts show the first ten runs only.
        "runsHiddenMode": "SHOW_ALL",
        **grouping,
    }


def _has_figures(client: MlflowClient, experiment_id: str, sweep: str | None) -> bool:
    """Return whether any run has a figure for the panel."""
    conditions = [f"tags.`{FIGURES_TAG}` != ''", *([sweep_filter(sweep)] if sweep else [])]
    return bool(client.search_runs([experiment_id], " AND ".join(conditions), max_results=1))


def _figure_panel() -> dict[str, object]:
    """Return the wide panel of the figures of all runs, at the top of the charts; the UI adds the others.

    Its own panel would be a third of the width, and list every parameter of a run.
    """
    section = {"uuid": "maps", "name": FIGURES.partition("/")[0], "display": True, "isReordered": False}
    section |= {"deleted": False, "isGenerated": True, "columns": 1, "cardHeight": 560}
    chart = {
        "uuid": "weights",
        "type": "IMAGE",
        "metricSectionId": "maps",
        "imageKeys": [FIGURES],
        "step": 0,
    }
    chart |= {"runsCountToCompare": 10, "showRunParams": False, "deleted": False, "isGenerated": True}
    return {"compareRunCharts": [chart], "compareRunSections": [section]}


def _group_by(kinds: Mapping[str, str]) -> dict[str, object]:
    """Return the grouping by the parameters that vary, without the subject: what is averaged are subjects."""
    varying = [name for name, kind in kinds.items() if kind == "params" and name != "subject"]
    # A grouping needs a parameter: where the subject alone varies, one that is the same in all runs.
    keys = [{"mode": "param", "groupByData": name} for name in varying or ["dataset"]]
    return {"aggregateFunction": "average", "groupByKeys": keys}
