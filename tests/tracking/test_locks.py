"""Locks of a store: who holds them, how long they are waited for, and what happens to what waits."""

import sqlite3
import subprocess
import sys

import pytest

from harness.errors import TrackingError
from harness.tracking import locks
from harness.tracking.run_writer import TrackedRun
from harness.tracking.store import local_store_uri, open_store

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

HOLD = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN " + sys.argv[2])
print("held", flush=True)
time.sleep(float(sys.argv[3]))
connection.rollback()
"""


@pytest.fixture
def hold():
    """Return a function that starts a process which holds a lock on a store's database for some seconds."""
    started = []

    def start(directory, kind="EXCLUSIVE", seconds=300):
        command = [sys.executable, "-c", HOLD, str(directory / "mlflow.db"), kind, str(seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout.readline() == b"held\n"
        process.stdout.close()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(locks, "NOTICE_SECONDS", 0.1)
    monkeypatch.setattr(locks, "LOCKED_SECONDS", 0.2)


@linux
@pytest.mark.parametrize("kind", ["EXCLUSIVE", "IMMEDIATE"])
def test_store_that_stays_locked_is_refused_with_the_process_that_holds_it(
    make_store, tmp_path, impatient, kind, hold
):
    make_store(tmp_path)
    holder = hold(tmp_path, kind)
    with pytest.raises(TrackingError, match=rf"is locked by process {holder.pid} \(.*python"):
        open_store(None, tmp_path, "tests")


@linux
def test_reading_a_locked_store_names_the_process_that_holds_it(make_store, tmp_path, impatient, hold):
    make_store(tmp_path)
    holder = hold(tmp_path)
    with pytest.raises(TrackingError, match=f"by process {holder.pid} "):
        local_store_uri(tmp_path)


def test_unknown_holder_is_reported_as_unknown(make_store, tmp_path, impatient, monkeypatch, hold):
    monkeypatch.setattr(locks, "find_lock_holders", lambda file: [])
    make_store(tmp_path)
    hold(tmp_path)
    with pytest.raises(TrackingError, match=r"could not be identified.*lsof"):
        open_store(None, tmp_path, "tests")


def test_opening_waits_for_a_lock_and_prints_a_notice(make_store, tmp_path, monkeypatch, capsys, hold):
    monkeypatch.setattr(locks, "NOTICE_SECONDS", 0.1)
    make_store(tmp_path)
    capsys.readouterr()
    holder = hold(tmp_path, seconds=2)
    open_store(None, tmp_path, "tests")
    assert holder.wait(10) == 0
    assert "waiting for it" in capsys.readouterr().err


def test_operation_is_repeated_while_the_database_is_locked():
    results = iter([locked_error(), locked_error(), "written"])

    def operation():
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    assert locks.retry_while_locked(operation) == "written"


def test_other_errors_are_not_repeated():
    calls = []

    def operation():
        calls.append(1)
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        locks.retry_while_locked(operation)
    assert calls == [1]


def locked_error():
    """Return what SQLite raises where another process has locked the database."""
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


@pytest.mark.slow
def test_run_is_written_once_a_lock_of_half_a_minute_is_released(make_store, tmp_path, hold):
    """MLflow itself gives up after 20 seconds."""
    store = make_store(tmp_path)
    holder = hold(tmp_path, "IMMEDIATE", seconds=30)
    run = TrackedRun(store, "patient", {"estimator": "svc"}, {})
    assert holder.wait(10) == 0
    assert store.client.get_run(run.run_id).data.params == {"estimator": "svc"}
    run.stop("FAILED", RuntimeError("the test ends here"))
