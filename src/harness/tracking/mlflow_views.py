"""Prepared views of the MLflow pages: the runs of a sweep, their scores in columns, the best first."""

import json
import time
from collections.abc import Sequence

from mlflow.tracking import MlflowClient

from harness.tracking.comparison import compare_runs
from harness.tracking.queries import Selection, SweepRecord, list_experiments, select_runs, sweep_filter

# MLflow's pages keep a view that is shared by its link in an experiment tag of this name. That is documented
# nowhere: it was read from the pages of MLflow 3.17, so whoever calls this must be able to do without.
VIEW_TAG = "mlflow.sharedViewState."
RUN_NAME, CREATED = "attributes.`Run Name`", "runDateAndNestInfo"  # what the pages call these columns
PIXELS = {RUN_NAME: 240, CREATED: 145}


def prepare_views(uri: str, address: str, sweep: SweepRecord | None) -> dict[str, str]:
    """Prepare the views of a sweep, or of the experiment that was used last.

    Parameters
    ----------
    uri : str
        Tracking URI.
    address : str
        Where the pages are.
    sweep : SweepRecord or None

    Returns
    -------
    links : dict of str to str
        By what they show, one per experiment.
    """
    client, experiments = MlflowClient(tracking_uri=uri), list_experiments(uri)
    identifier = sweep.identifier if sweep else None
    if sweep:
        names = list(sweep.experiments)
    else:
        used = {run.info.experiment_id for run in select_runs(uri, Selection(), most=1).runs}
        names = [name for name, experiment_id in experiments.items() if experiment_id in used]
    links = {}
    for name in names:
        columns = compare_runs(uri, Selection(name, identifier)).view_columns()
        key = ensure_view(client, experiments[name], identifier, columns)
        title = f"sweep {identifier}, {name}" if identifier else f"all runs, {name}"
        links[title] = experiment_link(address, experiments[name], key)
    return links


def ensure_view(client: MlflowClient, experiment_id: str, sweep: str | None, columns: Sequence[str]) -> str:
    """Prepare the table of a sweep's runs, unless somebody has changed it since in the pages.

    Parameters
    ----------
    client : MlflowClient
    experiment_id : str
    sweep : str or None
        Identifier of the sweep; None means every run of the experiment.
    columns : sequence of str
        Names of parameters and of metrics (those end in ``_mean`` or ``_std``), in the order in which they
        are shown. Runs are ordered by the first metric, the best first.

    Returns
    -------
    key : str
        For `experiment_link`.
    """
    key = f"sweep-{sweep}" if sweep else "all-runs"
    now = int(time.time() * 1000)
    before = _read_view(client.get_experiment(experiment_id).tags.get(VIEW_TAG + key, ""))
    created = before.get("createdAt", now)
    if before.get("updatedAt", created) != created:
        return key
    state = _view_state(sweep, columns)
    # The pages of MLflow 3.17 list views by name, and look for them in `state`; those before it read the
    # state itself, and neither minds what the other needs.
    envelope = {
        "name": f"sweep {sweep}" if sweep else "all runs",
        "createdAt": created,
        "updatedAt": created,
        "state": json.dumps(state),
    }
    text = json.dumps(state | envelope)
    if before != json.loads(text):
        client.set_experiment_tag(experiment_id, VIEW_TAG + key, text)
    return key


def experiment_link(address: str, experiment_id: str, key: str | None = None) -> str:
    """Return the address of an experiment's table of runs, or of a prepared view of it.

    Parameters
    ----------
    address : str
        Where the pages are, such as ``http://127.0.0.1:5050``.
    experiment_id : str
    key : str, optional
        See `ensure_view`.

    Returns
    -------
    link : str
    """
    # The plain address opens on a page for language models; this one opens on the table of runs.
    link = f"{address}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    return link if key is None else f"{link}&viewStateShareKey={key}"


def _read_view(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _view_state(sweep: str | None, columns: Sequence[str]) -> dict[str, object]:
    kinds = {name: "metrics" if name.endswith(("_mean", "_std")) else "params" for name in columns}
    shown = {f"{kind}.`{name}`": kind for name, kind in kinds.items()}
    best = next((column for column, kind in shown.items() if kind == "metrics"), "attributes.start_time")
    # A header is cut where it is wider than its column; some 7 pixels per letter, and a mark.
    widths = {column: 45 + 7 * len(name) for name, column in zip(columns, shown, strict=True)}
    return {
        "searchFilter": sweep_filter(sweep) if sweep else "",
        "orderByKey": best,
        "orderByAsc": False,
        "selectedColumns": list(shown),
        "columnOrder": [*PIXELS, *shown],
        "columnWidths": PIXELS | widths,
        # The charts are of the first ten runs otherwise.
        "runsHiddenMode": "SHOW_ALL",
    }
