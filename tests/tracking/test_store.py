"""Opening a run store: created once, refused with one message if it cannot be used, or was moved."""

import multiprocessing
import os
import shutil
import time

import pytest
from mlflow.tracking import MlflowClient

from harness.errors import TrackingError
from harness.tracking import store as stores
from harness.tracking.relocation import relocate_store
from harness.tracking.run_writer import TrackedRun
from harness.tracking.store import local_store_uri, local_uri, open_store


@pytest.fixture(scope="module")
def store(make_store, tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "mlruns")


def test_local_store_is_in_its_directory(store):
    assert (store.directory / "mlflow.db").is_file()
    experiment = store.client.get_experiment(store.experiment_id)
    assert experiment.name == "tests"
    assert experiment.artifact_location == (store.directory / "artifacts").as_uri()


def test_opening_again_finds_the_same_experiment(store):
    assert open_store(None, store.directory, "tests").experiment_id == store.experiment_id


def open_and_start(directory, results):
    store = open_store(None, directory, "together")
    run = TrackedRun(store, "one of many", {}, {})
    store.client.set_terminated(run.run_id, "FINISHED")
    results.put(store.experiment_id)


@pytest.mark.slow
def test_processes_that_start_together_on_a_fresh_store_lose_no_run(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=open_and_start, args=(tmp_path / "mlruns", results)) for _ in range(6)]
    for worker in workers:
        worker.start()
    experiments = {results.get(timeout=120) for _ in workers}
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    (experiment,) = experiments
    runs = MlflowClient(tracking_uri=local_uri(tmp_path / "mlruns")).search_runs([experiment])
    assert len(runs) == 6


# Stores that were moved -------------------------------------------------------------------------------------


@pytest.fixture
def moved(make_store, tmp_path):
    """A store with one run, after a move."""
    store = make_store(tmp_path / "before" / "mlruns")
    run = store.client.create_run(store.experiment_id, run_name="old").info.run_id
    store.client.log_text(run, "kept", "note.txt")
    store.client.set_terminated(run)
    (tmp_path / "before").rename(tmp_path / "after")
    return tmp_path / "after" / "mlruns"


def test_run_is_refused_in_a_moved_store_until_it_is_relocated(moved, tmp_path):
    command = f'python -m harness relocate --folder "{moved}"'
    with pytest.raises(TrackingError, match="was moved or copied from") as caught:
        open_store(None, moved, "tests")
    assert str(tmp_path / "before" / "mlruns") in str(caught.value)
    assert command in str(caught.value)
    with pytest.raises(TrackingError, match="relocate"):
        open_store(None, moved, "an experiment that is new")
    relocate_store(moved)
    run = TrackedRun(open_store(None, moved, "tests"), "new", {}, {})
    assert run.where == str(moved / "artifacts" / run.run_id / "artifacts")
    assert not (tmp_path / "before").exists()


def test_moved_store_can_be_read_with_a_notice(moved, capsys):
    capsys.readouterr()
    client = MlflowClient(tracking_uri=local_store_uri(moved))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    assert [run.info.run_name for run in client.search_runs(experiments)] == ["old"]
    printed = capsys.readouterr()
    assert printed.err.startswith(f"notice: the run store {moved} was moved or copied from ")
    assert printed.err.endswith(f'Repair it with: python -m harness relocate --folder "{moved}"\n')
    assert printed.err.count("\n") == 1
    relocate_store(moved)
    local_store_uri(moved)
    assert capsys.readouterr().err == ""


def test_command_for_the_usual_directory_needs_no_option(moved, monkeypatch):
    monkeypatch.chdir(moved.parent)
    with pytest.raises(TrackingError, match="python -m harness relocate, and then"):
        open_store(None, moved, "tests")


def test_original_of_a_copy_is_not_moved(moved, tmp_path, capsys):
    relocate_store(moved)
    shutil.copytree(moved, tmp_path / "copy")
    relocate_store(tmp_path / "copy")
    capsys.readouterr()
    for directory in (moved, tmp_path / "copy"):
        open_store(None, directory, "tests")
        local_store_uri(directory)
    assert capsys.readouterr().err == ""


# Errors -----------------------------------------------------------------------------------------------------


def test_store_that_cannot_be_created_is_one_message(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrackingError, match=r"tracking\.folder=.*tracking=off"):
        open_store(None, tmp_path / "file" / "mlruns", "tests")


def test_damaged_store_is_one_message(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"this is not a database, and long enough not to be empty" * 100)
    with pytest.raises(TrackingError, match="cannot be used"):
        open_store(None, tmp_path, "tests")


def test_server_that_does_not_answer_is_one_message_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "MlflowClient", None)  # which would try for minutes
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1:9"):
        open_store("http://127.0.0.1:9", tmp_path, "tests")


def test_deleted_experiment_is_named_with_the_command_that_restores_it(make_store, tmp_path):
    store = make_store(tmp_path / "mlruns", "deleted")
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(TrackingError, match="mlflow experiments restore"):
        open_store(None, tmp_path / "mlruns", "deleted")


def test_reading_a_directory_without_a_store_names_the_command_that_starts_one(tmp_path):
    with pytest.raises(TrackingError, match="python -m harness"):
        local_store_uri(tmp_path)


# Abandoned runs ---------------------------------------------------------------------------------------------


def start_and_die(directory, results):
    run = TrackedRun(open_store(None, directory, "tests"), "dies", {"estimator": "svc"}, {})
    results.put(run.run_id)
    results.close()
    results.join_thread()
    os._exit(9)


@pytest.mark.slow
def test_run_whose_process_died_is_marked_killed_by_the_next_opening(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    worker = context.Process(target=start_and_die, args=(tmp_path, results))
    worker.start()
    dead = results.get(timeout=120)
    worker.join(30)
    client = MlflowClient(tracking_uri=local_uri(tmp_path))
    assert client.get_run(dead).info.status == "RUNNING"
    assert client.get_run(dead).data.params == {"estimator": "svc"}
    (lock,) = (tmp_path / "running").glob("*.lock")
    os.utime(lock, (time.time() - 60,) * 2)  # one that is new may be about to be held
    store = open_store(None, tmp_path, "tests")
    assert client.get_run(dead).info.status == "KILLED"
    alive = TrackedRun(store, "alive", {}, {})
    open_store(None, tmp_path, "tests")
    assert client.get_run(alive.run_id).info.status == "RUNNING"


@pytest.mark.parametrize("seconds_ahead", [3600, 10 * 365 * 86400, -3600])
def test_killed_run_is_found_whatever_the_date_of_its_lock(make_store, tmp_path, seconds_ahead):
    store = make_store(tmp_path)
    dead = store.client.create_run(store.experiment_id).info.run_id
    lock = store.running / f"{dead}.lock"
    lock.parent.mkdir()
    lock.touch()
    os.utime(lock, (time.time() + seconds_ahead,) * 2)
    open_store(None, tmp_path, "tests")
    assert store.client.get_run(dead).info.status == "KILLED"
    assert not lock.exists()


def test_killed_run_is_found_by_readers_too(make_store, tmp_path):
    store = make_store(tmp_path)
    dead = store.client.create_run(store.experiment_id).info.run_id
    alive = TrackedRun(store, "alive", {}, {})
    lock = store.running / f"{dead}.lock"
    lock.touch()
    os.utime(lock, (time.time() - 60,) * 2)
    local_store_uri(tmp_path)
    assert store.client.get_run(dead).info.status == "KILLED"
    assert store.client.get_run(alive.run_id).info.status == "RUNNING"
