"""Prepared views: what they ask MLflow's pages to show, and that they never stand in the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from urllib.request import urlopen

import pytest
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from harness.app import cli
from harness.tracking.mlflow_views import VIEW_TAG, ensure_view, experiment_link, prepare_views
from harness.tracking.store import local_uri
from harness.tracking.sweep_notes import list_sweeps

SWEEP = "20261121-023015-ab12cd34"
COLUMNS = ["subject", "estimator", "test_accuracy_mean"]


@pytest.fixture(scope="module")
def made(make_store, tmp_path_factory):
    """A sweep of two runs, and a run beside it."""
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
    # As the pages of MLflow 3.17 save it.
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
    assert prepare_views(store.uri, address, sweep) == {
        f"sweep {SWEEP}, tests": f"{table}&viewStateShareKey=sweep-{SWEEP}"
    }
    columns = read_view(store, f"sweep-{SWEEP}")["selectedColumns"]
    assert columns == ["params.`subject`", "metrics.`test_accuracy_mean`"], "what is the same has no column"
    assert prepare_views(store.uri, address, None) == {
        "all runs, tests": f"{table}&viewStateShareKey=all-runs"
    }
    assert read_view(store, "all-runs")["searchFilter"] == ""


@pytest.mark.parametrize("platform", ["linux", "win32"])
@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("display", ["", ":0"])
def test_browser_is_opened_only_in_front_of_somebody(monkeypatch, platform, terminal, display):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert cli._can_browse() == (terminal and (platform == "win32" or bool(display)))


@pytest.fixture
def pages(monkeypatch):
    """Replace MLflow's server by nothing, and return what was opened in the browser."""
    opened = []

    class Server:
        pid = 2**22 + 1  # no process has it

        def __init__(self, *arguments, **options):
            pass

        def poll(self):
            return None

        def wait(self):
            deadline = time.monotonic() + 5
            while not opened and cli._can_browse() and time.monotonic() < deadline:
                time.sleep(0.01)
            return 0

        def terminate(self):
            pass

    monkeypatch.setattr(cli.subprocess, "Popen", Server)
    monkeypatch.setattr(cli.signal, "signal", lambda *arguments: None)
    monkeypatch.setattr(cli, "urlopen", lambda address, timeout: nullcontext())
    monkeypatch.setattr(cli.webbrowser, "open", opened.append)
    monkeypatch.setattr(cli, "_can_browse", lambda: True)
    return opened


def test_ui_says_the_view_first_and_opens_it(store, pages, capsys):
    assert cli.run_verb(["ui", "--folder", os.fspath(store.directory), "--port", "5999"]) == 0
    lines = capsys.readouterr().out.splitlines()
    view = (
        f"http://127.0.0.1:5999/#/experiments/{store.experiment_id}/runs"
        f"?workflowType=machine_learning&viewStateShareKey=sweep-{SWEEP}"
    )
    assert lines[0] == f"sweep {SWEEP}, tests: {view}"
    assert any(line.endswith("workflowType=machine_learning") for line in lines)
    assert pages == [view]


def test_ui_opens_nothing_when_it_is_told_so(store, pages, capsys, monkeypatch):
    monkeypatch.setattr(cli, "_can_browse", lambda: False)
    assert cli.run_verb(["ui", "--folder", os.fspath(store.directory), "--sweep", SWEEP]) == 0
    monkeypatch.setattr(cli, "_can_browse", lambda: True)
    monkeypatch.setattr(cli.time, "monotonic", iter(range(0, 1000, 9)).__next__)
    assert cli.run_verb(["ui", "--folder", os.fspath(store.directory), "--no-browser"]) == 0
    assert pages == []


def test_ui_goes_on_without_a_view(store, pages, capsys, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("the pages of the future have no tags")

    monkeypatch.setattr("harness.tracking.mlflow_views.ensure_view", fail)
    assert cli.run_verb(["ui", "--folder", os.fspath(store.directory), "--port", "5999"]) == 0
    printed = capsys.readouterr()
    assert "no prepared view" in printed.err
    plain = f"http://127.0.0.1:5999/#/experiments/{store.experiment_id}/runs?workflowType=machine_learning"
    assert f"  tests: {plain}" in printed.out.splitlines()
    assert pages == [plain]


def test_ui_opens_the_run_that_is_named(store, pages, capsys):
    runs = store.client.search_runs([store.experiment_id])
    for run in runs:
        identifier = run.info.run_id
        folder = ["--folder", os.fspath(store.directory), "--port", "5999"]
        for asked in (identifier, identifier[:8]):
            assert cli.run_verb(["ui", *folder, "--run", asked]) == 0
            link = (
                f"http://127.0.0.1:5999/#/experiments/{store.experiment_id}/runs/{identifier}"
                "?workflowType=machine_learning"
            )
            assert pages[-1] == link
            assert link in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("0" * 32, "no such run"),
        ("", "no such run"),
        ("sub-2", "python -m harness runs"),
        ("' OR 1=1", "no such run"),
        ("%", "no such run"),
    ],
)
def test_ui_refuses_a_run_that_does_not_exist(store, pages, capsys, asked, words):
    assert cli.run_verb(["ui", "--folder", os.fspath(store.directory), "--run", asked]) == 2
    assert words in capsys.readouterr().err
    assert pages == []


def test_ui_refuses_an_abbreviation_of_several_runs(store, pages, capsys):
    runs = [run.info.run_id for run in store.client.search_runs([store.experiment_id])]
    client = store.client
    while len({run[0] for run in runs}) == len(runs):
        runs.append(client.create_run(store.experiment_id).info.run_id)
    first = next(run[0] for run in runs if sum(other[0] == run[0] for other in runs) > 1)
    assert cli.run_verb(["ui", "--folder", os.fspath(store.directory), "--run", first]) == 2
    message = capsys.readouterr().err
    assert all(run in message for run in runs if run[0] == first)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
def test_ui_at_a_terminal_opens_the_view_once_the_pages_answer(store, tmp_path):
    import pty

    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{opened}.new"; mv "{opened}.new" "{opened}"\n')
    browser.chmod(0o755)
    keyboard, screen = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "ui"],
        cwd=tmp_path,
        stdout=screen,
        stderr=screen,
        env=os.environ | {"BROWSER": f"{browser} %s", "DISPLAY": ":0"},
    )
    os.close(screen)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None and not opened.exists():
            time.sleep(0.5)
        link = opened.read_text().strip()
        assert link.endswith(f"&viewStateShareKey=sweep-{SWEEP}")
        page, _, _ = link.partition("/#/")
        with urlopen(page, timeout=10) as answer:
            assert b"<title>MLflow</title>" in answer.read()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        os.close(keyboard)
