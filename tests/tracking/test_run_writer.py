"""Runs are RUNNING until they are FINISHED, FAILED or KILLED, also if the store cannot be written."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager

import pytest
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from harness.errors import DataError, TrackingError
from harness.tracking.endings import EndingNote
from harness.tracking.ledger import Sweep
from harness.tracking.run_writer import MAX_TAG, TrackedRun, claim_run, track_run
from harness.tracking.store import open_store
from harness.tracking.sweep_notes import close_sweep
from harness.tracking.tags import SWEEP_TAG


@pytest.fixture(scope="module")
def store(make_store, tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "mlruns")


def read_run(store, run):
    return store.client.get_run(run.run_id)


def test_run_is_running_until_it_is_finished(store):
    run = TrackedRun(store, "a name", {"estimator": "svc"}, {"harness.overrides": "x"})
    started = read_run(store, run)
    assert started.info.status == "RUNNING"
    assert started.info.run_name == "a name"
    assert started.data.tags["mlflow.source.name"] == "harness"
    assert started.data.tags["mlflow.user"]
    store.client.set_terminated(run.run_id, "FINISHED")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DataError("a file is broken"), "FAILED"),
        (ZeroDivisionError("a bug"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
    ],
)
def test_run_that_raises_has_status_reason_and_traceback(store, error, status):
    with pytest.raises(type(error)), track_run(store, "bad", {"estimator": "svc"}, {}) as run:
        raise error
    ended = read_run(store, run)
    assert ended.info.status == status
    assert ended.data.params == {"estimator": "svc"}
    assert ended.data.tags["harness.error"] == (str(error) or "KeyboardInterrupt")
    text = store.client.download_artifacts(run.run_id, "error.txt")
    with open(text, encoding="utf-8") as stream:  # noqa: PTH123  MLflow returns a str
        assert type(error).__name__ in stream.read()


def test_more_metrics_than_a_batch_holds_are_all_logged(store):
    run = TrackedRun(store, "many", {f"p{n}": "x" for n in range(250)}, {})
    metrics = [Metric("score", float(step), 0, step) for step in range(1005)]
    run._log(metrics, {}, {})
    assert len(store.client.get_metric_history(run.run_id, "score")) == 1005
    assert len(read_run(store, run).data.params) == 250


def test_long_tags_are_shortened(store):
    run = TrackedRun(store, "long", {}, {"harness.long": "x" * 20_000})
    assert len(read_run(store, run).data.tags["harness.long"]) <= MAX_TAG


def test_store_that_fails_while_a_run_is_written_is_one_message(store):
    with pytest.raises(TrackingError, match="disk is full"), track_run(store, "full", {}, {}) as run:
        raise MlflowException("disk is full")
    assert read_run(store, run).info.status == "FAILED"


REFUSALS = [
    f"CREATE TRIGGER full_{table}_{verb} BEFORE {verb} ON {table} "
    "BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
    for table in ("runs", "tags", "params", "latest_metrics")
    for verb in ("INSERT", "UPDATE")
]


@contextmanager
def refusing(store):
    """Let a store's database refuse what is written, in the words of SQLite on a full disk."""
    with closing(sqlite3.connect(store.directory / "mlflow.db")) as connection:
        for statement in REFUSALS:
            connection.execute(statement)
        try:
            yield
        finally:
            for statement in REFUSALS:
                connection.execute(f"DROP TRIGGER {statement.split()[2]}")


def read_end(store, run_id):
    """Open the store, as the next command does, and return status and reason of a run."""
    for lock in store.running.glob("*.lock"):
        os.utime(lock, (time.time() - 60,) * 2)  # one that is new may be about to be held
    open_store(None, store.directory, "tests")
    found = store.client.get_run(run_id)
    return found.info.status, found.data.tags.get("harness.error", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (DataError("a file is broken " + 4000 * "ß"), "FAILED", "a file is broken"),
        pytest.param(KeyboardInterrupt(), "KILLED", "KeyboardInterrupt", marks=pytest.mark.slow),
    ],
)
def test_end_that_the_store_refuses_is_entered_when_it_is_opened_next(
    tmp_path, make_store, error, status, reason
):
    store = make_store(tmp_path)
    with pytest.raises(TrackingError, match="disk is full"), ExitStack() as stack:
        with track_run(store, "unlucky", {}, {}) as run:
            stack.enter_context(refusing(store))
            raise error
    assert store.client.get_run(run.run_id).info.status == "RUNNING"
    ended, text = read_end(store, run.run_id)
    assert ended == status
    assert reason in text
    assert not list(store.running.iterdir())


@pytest.mark.slow
def test_finish_that_the_store_refuses_makes_the_run_failed_with_the_reason(tmp_path, make_store):
    store = make_store(tmp_path)
    with pytest.raises(TrackingError, match="disk is full"), ExitStack() as stack:
        with track_run(store, "unlucky", {}, {}) as run:
            stack.enter_context(refusing(store))
            run._log([Metric("test_accuracy_mean", 0.5, 0, 0)], {}, {})
    ended, text = read_end(store, run.run_id)
    assert (ended, "disk is full" in text) == ("FAILED", True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk, as root")
def test_run_on_a_disk_that_fills_is_failed_with_the_reason(tmp_path, make_store):
    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)]
    if subprocess.run(command, check=False).returncode:
        pytest.skip("this machine does not allow mounts")
    try:
        store = make_store(small)
        with pytest.raises(TrackingError, match="disk is full"), track_run(store, "unlucky", {}, {}) as run:
            with (small / "rest").open("wb", buffering=0) as rest:
                while True:
                    rest.write(bytes(1024))
        assert store.client.get_run(run.run_id).info.status == "RUNNING"
        (small / "rest").unlink()
        status, reason = read_end(store, run.run_id)
        assert status == "FAILED"
        assert "No space left on device" in reason
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def test_space_for_the_end_is_reserved_with_the_run_and_released_after_it(tmp_path, make_store):
    store = make_store(tmp_path)
    run = TrackedRun(store, "a run", {}, {})
    (note,) = store.running.glob("*.end")
    assert note.stat().st_size == 4096
    run.stop("FAILED", DataError("a file is broken"))
    assert not list(store.running.iterdir())


@pytest.mark.parametrize(
    ("status", "reason"), [(143, "stopped by SIGTERM"), (129, "stopped by SIGHUP"), (3, "3")]
)
def test_run_that_a_signal_ends_names_the_signal(store, status, reason):
    with pytest.raises(SystemExit), track_run(store, "a run", {}, {}) as run:
        raise SystemExit(status)
    ended = store.client.get_run(run.run_id)
    assert (ended.info.status, ended.data.tags["harness.error"]) == ("KILLED", reason)


def test_run_whose_note_is_damaged_is_marked_killed(tmp_path, make_store):
    store = make_store(tmp_path)
    run = TrackedRun(store, "a run", {}, {})
    (note,) = store.running.glob("*.end")
    note.write_bytes(bytes(4096))  # what a power cut leaves
    assert EndingNote(note).read() is None
    run._lock.release()
    assert read_end(store, run.run_id)[0] == "KILLED"
    assert not list(store.running.iterdir())


def test_claim_is_held_by_one_process_at_a_time_and_per_identity(store):
    order = []

    def claim_second():
        with claim_run(store, "identity", lambda: order.append("second waits")):
            order.append("second")

    second = threading.Thread(target=claim_second)
    with pytest.raises(DataError), claim_run(store, "identity", lambda: order.append("first waits")):
        second.start()
        while not order:
            time.sleep(0.05)
        with claim_run(store, "another", lambda: order.append("another waits")):
            pass
        order.append("first")
        raise DataError("a run that fails releases its claim")
    second.join(60)
    assert order == ["second waits", "first", "second"]
    assert not list((store.running / "claims").iterdir())


def test_claim_that_cannot_be_written_is_one_message(tmp_path, make_store):
    store = make_store(tmp_path)
    store.running.mkdir(exist_ok=True)
    (store.running / "claims").write_text("in the way")
    with pytest.raises(TrackingError, match="claims"), claim_run(store, "identity", print):
        pass


def close_refused(store, sweep):
    with pytest.raises(TrackingError, match="disk is full"):
        close_sweep(store, sweep)


@pytest.mark.slow
def test_sweep_that_ends_on_a_full_disk_leaves_its_runs_to_the_next_opening(tmp_path, make_store):
    store = make_store(tmp_path)
    sweep = Sweep.begin(tmp_path / "sweeps")
    with pytest.raises(TrackingError), ExitStack() as stack:
        with track_run(store, "unlucky", {}, {SWEEP_TAG: sweep.id}) as run:
            stack.enter_context(refusing(store))
            stack.callback(close_refused, store, sweep)
            raise DataError("a file is broken")
    assert read_end(store, run.run_id) == ("FAILED", "a file is broken")
