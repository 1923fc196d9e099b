"""Prepared views of the MLflow UI, and their failures, which are ignored."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from harness.tracking.mlflow_views import VIEW_TAG, ensure_view, experiment_link, prepare_views
from harness.tracking.run_content import FIGURES
from harness.tracking.store import local_uri
from harness.tracking.sweep_notes import list_sweeps

SWEEP = "20261121-023015-ab12cd34"
COLUMNS = ["subject", "estimator", "test_accuracy_mean"]


@pytest.fixture(scope="module")
def made(make_store, tmp_path_factory):
    """A sweep of two runs, and a run outside it."""
    store = make_store(tmp_path_factory.mktemp("views") / "mlruns")
    for number, (subject, sweep) in enumerate([("1", SWEEP), ("2", SWEEP), ("3", "")]):
        run = store.client.create_run(store.experiment_id, start_time=number + 1).info.run_id
        store.client.log_batch(
            run,
            [Metric("test_accuracy_mean", 0.5 + number / 10, 0, 0)],
            [Param("subject", subject), Param("estimator", "svc")],
            [RunTag("harness.sweep", sweep)] if sweep else [],
        )
        store.client.set_terminated(run)
    store.client.set_experiment_tag(
        store.experiment_id, f"harness.sweep.{SWEEP}", json.dumps({"started": "2026-11-21T02:30:15+00:00"})
    )
    return store


@pytest.fixture
def store(made, tmp_path):
    """A copy of them to change."""
    folder = tmp_path / "mlruns"
    shutil.copytree(made.directory, folder)
    uri = local_uri(folder)
    return replace(made, client=MlflowClient(tracking_uri=uri), uri=uri, directory=folder)


def read_view(store, key):
    return json.loads(store.client.get_experiment(store.experiment_id).tags[VIEW_TAG + key])


def test_view_shows_the_runs_of_the_sweep_the_best_first(store):
    key = ensure_view(store.client, store.experiment_id, SWEEP, COLUMNS)
    view = read_view(store, key)
    state = json.loads(view["state"])
    assert {name: view[name] for name in state} == state, "for the pages before and since MLflow 3.17"
    assert view["name"] == f"sweep {SWEEP}"
    found = store.client.search_runs([store.experiment_id], state["searchFilter"])
    assert [run.data.params["subject"] for run in found] == ["2", "1"]
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`test_accuracy_mean`", False)
    assert state["selectedColumns"] == [
        "params.`subject`",
        "params.`estimator`",
        "metrics.`test_accuracy_mean`",
    ]


def test_view_is_brought_up_to_date_until_somebody_changes_it(store):
    key = ensure_view(store.client, store.experiment_id, SWEEP, COLUMNS[:1])
    first = read_view(store, key)
    assert ensure_view(store.client, store.experiment_id, SWEEP, COLUMNS) == key
    second = read_view(store, key)
    assert len(json.loads(second["state"])["selectedColumns"]) == 3
    assert second["createdAt"] == first["createdAt"]
    # As the UI of MLflow 3.17 stores it.
    edited = {
        "name": "mine",
        "createdAt": first["createdAt"],
        "updatedAt": first["createdAt"] + 1,
        "state": "{}",
    }
    store.client.set_experiment_tag(store.experiment_id, VIEW_TAG + key, json.dumps(edited))
    assert ensure_view(store.client, store.experiment_id, SWEEP, COLUMNS) == key
    assert read_view(store, key) == edited


@pytest.mark.parametrize("damaged", ["no JSON", "[]", "1"])
def test_damaged_view_is_made_anew(store, damaged):
    store.client.set_experiment_tag(store.experiment_id, f"{VIEW_TAG}sweep-{SWEEP}", damaged)
    key = ensure_view(store.client, store.experiment_id, SWEEP, COLUMNS)
    assert read_view(store, key)["name"] == f"sweep {SWEEP}"


def test_views_of_a_sweep_and_of_all_runs(store):
    address = "http://127.0.0.1:5050"
    table = f"{address}/#/experiments/{store.experiment_id}/runs?workflowType=machine_learning"
    assert experiment_link(address, store.experiment_id) == table
    (sweep,) = list_sweeps(store.uri)
    views = prepare_views(store.uri, address, sweep)
    assert views == {
        f"sweep {SWEEP}, tests, mean over subjects": f"{table}&viewStateShareKey=sweep-{SWEEP}-subjects",
        f"sweep {SWEEP}, tests": f"{table}&viewStateShareKey=sweep-{SWEEP}",
    }
    assert next(iter(views)).endswith("mean over subjects"), "is opened"
    columns = read_view(store, f"sweep-{SWEEP}")["selectedColumns"]
    assert columns == ["params.`subject`", "metrics.`test_accuracy_mean`"], "what is the same has no column"
    assert prepare_views(store.uri, address, None) == {
        "all runs, tests": f"{table}&viewStateShareKey=all-runs"
    }
    assert read_view(store, "all-runs")["searchFilter"] == ""


@pytest.mark.parametrize(
    ("columns", "grouped"),
    [
        (["subject", "estimator", "cv", "test_accuracy_mean"], ["estimator", "cv"]),
        (["subject", "test_accuracy_mean"], ["dataset"]),
    ],
    ids=["several parameters vary", "the subject alone varies"],
)
def test_runs_that_differ_in_the_subject_alone_are_averaged(store, columns, grouped):
    key = ensure_view(store.client, store.experiment_id, SWEEP, columns, average=True)
    state = json.loads(read_view(store, key)["state"])
    keys = [{"mode": "param", "groupByData": name} for name in grouped]
    assert state["groupBy"] == {"aggregateFunction": "average", "groupByKeys": keys}
    assert "params.`subject`" not in state["selectedColumns"], "the UI would show the mean number"
    plain = ensure_view(store.client, store.experiment_id, SWEEP, columns)
    assert plain != key
    assert "groupBy" not in json.loads(read_view(store, plain)["state"])


def test_one_subject_has_no_averages(make_store, tmp_path):
    store = make_store(tmp_path / "mlruns")
    for estimator in ("svc", "lda"):
        run = store.client.create_run(store.experiment_id).info.run_id
        store.client.log_batch(
            run,
            [Metric("test_accuracy_mean", 0.5, 0, 0)],
            [Param("subject", "1"), Param("estimator", estimator)],
            [RunTag("harness.sweep", SWEEP)],
        )
        store.client.set_terminated(run)
    store.client.set_experiment_tag(
        store.experiment_id, f"harness.sweep.{SWEEP}", json.dumps({"started": "2026-11-21T02:30:15+00:00"})
    )
    (sweep,) = list_sweeps(store.uri)
    assert list(prepare_views(store.uri, "http://127.0.0.1:5050", sweep)) == [f"sweep {SWEEP}, tests"]


def test_runs_with_figures_have_a_panel_of_them(store):
    key = ensure_view(store.client, store.experiment_id, SWEEP, COLUMNS)
    assert "compareRunCharts" not in json.loads(read_view(store, key)["state"]), "it would be empty"
    run = store.client.search_runs([store.experiment_id])[-1]
    figure = np.zeros((4, 4, 3), dtype=np.uint8)
    store.client.log_image(run.info.run_id, figure, key=FIGURES)
    assert ensure_view(store.client, store.experiment_id, SWEEP, COLUMNS) == key
    state = json.loads(read_view(store, key)["state"])
    (chart,), (section,) = state["compareRunCharts"], state["compareRunSections"]
    assert chart["imageKeys"] == ["maps/weights"]
    assert chart["metricSectionId"] == section["uuid"]
    averages = ensure_view(store.client, store.experiment_id, SWEEP, COLUMNS, average=True)
    assert "compareRunCharts" not in json.loads(read_view(store, averages)["state"]), "groups have no figures"
