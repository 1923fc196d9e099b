"""The verb ``ui``: its links, its port, and the server that it starts."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from urllib.request import urlopen

import pytest

from harness.app.verbs import run_verb, ui
from harness.tracking.mlflow_views import experiment_link
from harness.tracking.store import UI_PORT, local_uri, run_link

SWEEP = "20261121-023015-ab12cd34"
MAX_SECONDS = 300  # of a wait for the server


@pytest.fixture(scope="module")
def made(make_store, tmp_path_factory):
    """A store with a sweep of two runs."""
    from mlflow.entities import Metric, Param, RunTag

    store = make_store(tmp_path_factory.mktemp("ui") / "mlruns")
    for number in (1, 2):
        run = store.client.create_run(store.experiment_id, start_time=number).info.run_id
        scores = [Metric("test_accuracy_mean", 0.5 + number / 10, 0, 0)]
        store.client.log_batch(run, scores, [Param("subject", str(number))], [RunTag("harness.sweep", SWEEP)])
        store.client.set_terminated(run)
    store.client.set_experiment_tag(
        store.experiment_id, f"harness.sweep.{SWEEP}", json.dumps({"started": "2026-11-21T02:30:15+00:00"})
    )
    return store


@pytest.fixture
def store(made, tmp_path):
    """A copy of the store, to change."""
    from mlflow.tracking import MlflowClient

    folder = tmp_path / "mlruns"
    shutil.copytree(made.directory, folder)
    uri = local_uri(folder)
    return replace(made, client=MlflowClient(tracking_uri=uri), uri=uri, directory=folder)


@pytest.fixture
def served(monkeypatch):
    """Replace the server, and return the links that a browser would open (None with --no-browser)."""
    links = []

    def serve(uri, port, link):
        links.append(link)
        return 0

    monkeypatch.setattr(ui, "_serve", serve)
    monkeypatch.setattr(ui, "_can_browse", lambda: True)
    return links


def start(store, *arguments):
    return run_verb(["ui", "--folder", os.fspath(store.directory), *arguments])


def view_link(store, port, key):
    return experiment_link(f"http://127.0.0.1:{port}", store.experiment_id, key)


def test_the_latest_sweep_is_printed_first_and_opened(store, served, capsys):
    assert start(store, "--port", "5999") == 0
    lines = capsys.readouterr().out.splitlines()
    average, view = (view_link(store, 5999, f"sweep-{SWEEP}{end}") for end in ("-subjects", ""))
    assert lines[:2] == [
        f"sweep {SWEEP}, tests, mean over subjects: {average}",
        f"sweep {SWEEP}, tests: {view}",
    ]
    assert f"  tests: {view_link(store, 5999, None)}" in lines
    assert served == [average]


@pytest.mark.parametrize("platform", ["linux", "win32"])
@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("display", ["", ":0"])
def test_a_browser_opens_only_from_a_terminal_of_a_desktop(monkeypatch, platform, terminal, display):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert ui._can_browse() == (terminal and (platform == "win32" or bool(display)))


def test_no_browser_opens_nothing(store, served):
    assert start(store, "--sweep", SWEEP, "--no-browser") == 0
    assert served == [None]


def test_an_experiment_is_opened_when_views_cannot_be_prepared(store, served, capsys, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("this MLflow has no tags")

    monkeypatch.setattr("harness.tracking.mlflow_views.ensure_view", fail)
    assert start(store, "--port", "5999") == 0
    printed = capsys.readouterr()
    assert "no prepared view" in printed.err
    plain = view_link(store, 5999, None)
    assert f"  tests: {plain}" in printed.out.splitlines()
    assert served == [plain]


def test_a_run_is_opened_by_its_id_or_the_beginning_of_it(store, served, capsys):
    for run in store.client.search_runs([store.experiment_id]):
        for typed in (run.info.run_id, run.info.run_id[:8]):
            assert start(store, "--port", "5999", "--run", typed) == 0
            link = run_link("http://127.0.0.1:5999", store.experiment_id, run.info.run_id)
            assert served[-1] == link
            assert link in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("0" * 32, "is not a run"),
        ("", "is not a run"),
        ("sub-2", "python -m harness runs"),
        ("' OR 1=1", "is not a run"),
        ("%", "is not a run"),
    ],
)
def test_a_run_that_does_not_exist_is_refused(store, served, capsys, typed, message):
    assert start(store, "--run", typed) == 2
    assert message in capsys.readouterr().err
    assert served == []


def test_an_abbreviation_of_several_runs_is_refused(store, served, capsys):
    runs = [run.info.run_id for run in store.client.search_runs([store.experiment_id])]
    while len({run[0] for run in runs}) == len(runs):
        runs.append(store.client.create_run(store.experiment_id).info.run_id)
    first = next(run[0] for run in runs if sum(other[0] == run[0] for other in runs) > 1)
    assert start(store, "--run", first) == 2
    message = capsys.readouterr().err
    assert all(run[:12] in message for run in runs if run[0] == first)


@pytest.mark.parametrize("port", ["0", "65536", "-1", "5050.0", "http", ""])
def test_a_port_is_a_number_from_1_to_65535(port, capsys):
    with pytest.raises(SystemExit) as ended:
        run_verb(["ui", f"--port={port}"])
    assert ended.value.code == 2
    assert f"{port!r} is not a port; expected 1 to 65535" in capsys.readouterr().err


def test_a_port_in_use_is_refused_if_it_was_given_and_else_avoided(store, served, capsys):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        assert start(store, "--port", str(port)) == 2
        assert f"--port {port} is in use" in capsys.readouterr().err
    with _occupied(UI_PORT):
        assert start(store) == 0
        (chosen,) = set(re.findall(r"http://127\.0\.0\.1:(\d+)/", capsys.readouterr().out))
        assert int(chosen) != UI_PORT


@contextmanager
def _occupied(port):
    try:
        with socket.create_server(("127.0.0.1", port)):
            yield
    except OSError:  # by another process
        yield


def wait_for_link(process, read_link):
    deadline = time.monotonic() + MAX_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        link = read_link()
        if link:
            try:
                with urlopen(link.partition("/#/")[0], timeout=10) as answer:
                    return link, answer.read()
            except OSError:
                pass
        time.sleep(0.3)
    raise AssertionError(f"no answer within {MAX_SECONDS} s (exit status {process.returncode})")


def is_answering(link):
    try:
        urlopen(link.partition("/#/")[0], timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.slow
def test_the_server_answers_on_a_free_port_and_ends_with_the_command(store, tmp_path):
    output = tmp_path / "output"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness", "ui", "--no-browser"],
            cwd=tmp_path,
            stdout=stream,
            stderr=stream,
        )

    def read_link():
        return next(iter(re.findall(r"http://\S+", output.read_text())), None)

    try:
        link, page = wait_for_link(process, read_link)
        assert link.endswith(f"&viewStateShareKey=sweep-{SWEEP}-subjects")  # means over subjects come first
        assert b"<title>MLflow</title>" in page
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    deadline = time.monotonic() + 60
    while is_answering(link) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert not is_answering(link)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
def test_at_a_terminal_the_view_opens_once_the_server_answers(store, tmp_path):
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
        link, page = wait_for_link(process, lambda: opened.read_text().strip() if opened.exists() else None)
        assert link.endswith(f"&viewStateShareKey=sweep-{SWEEP}-subjects")  # means over subjects come first
        assert b"<title>MLflow</title>" in page
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        os.close(keyboard)
