"""The health of a store is found without changing a byte of it."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow.tracking import MlflowClient

from harness.errors import TrackingError, UsageError
from harness.tracking.store import local_uri, open_store
from harness.tracking.store_health import examine_server, examine_store

OLDER = "bda7b8c39065"  # an earlier revision of MLflow's schema
posix = pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX systems")


def execute(directory, *statements):
    with closing(sqlite3.connect(directory / "mlflow.db")) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def overwrite(directory, place, content):
    with (directory / "mlflow.db").open("r+b") as file:
        file.seek(place)
        file.write(content)


def read_files(directory):
    """Return content and time of every file below a directory."""
    return {
        path: (path.read_bytes() if path.is_file() else None, path.stat().st_mtime_ns)
        for path in [directory, *directory.rglob("*")]
    }


@pytest.fixture
def store(make_store, tmp_path):
    """A store with two runs."""
    return fill(make_store(tmp_path / "mlruns"))


@pytest.fixture(scope="module")
def original(make_store, tmp_path_factory):
    return fill(make_store(tmp_path_factory.mktemp("original") / "mlruns")).directory


@pytest.fixture
def copied(original, tmp_path):
    """The directory of a copy of a store with two runs."""
    return Path(shutil.copytree(original, tmp_path / "mlruns"))


def fill(store):
    for _ in range(2):
        run = store.client.create_run(store.experiment_id)
        store.client.log_text(run.info.run_id, "kept", "note.txt")
        store.client.set_terminated(run.info.run_id)
    return store


CHANGES = {
    "current": lambda directory: None,
    "older": lambda directory: execute(directory, f"UPDATE alembic_version SET version_num = '{OLDER}'"),
    "newer": lambda directory: execute(directory, "UPDATE alembic_version SET version_num = 'ffffffffffff'"),
    "damaged": lambda directory: overwrite(directory, 20_000, os.urandom(4000)),
    "incomplete": lambda directory: (directory / "mlflow.db").write_bytes(b""),
    "absent": lambda directory: (directory / "mlflow.db").unlink(),
}


@pytest.mark.parametrize("state", CHANGES)
def test_state_is_found_and_no_byte_is_changed(copied, state, tmp_path, monkeypatch):
    CHANGES[state](copied)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # MLflow can create ./mlruns
    before = read_files(tmp_path)
    assert examine_store(copied).state == state
    assert read_files(tmp_path) == before


def test_text_file_and_truncated_database_are_damaged(copied):
    database = copied / "mlflow.db"
    database.write_bytes(database.read_bytes()[:300_000])
    assert examine_store(copied).state == "damaged"
    database.write_text("a table of runs\n")
    assert examine_store(copied).state == "damaged"


def test_database_of_another_program_is_foreign(tmp_path):
    execute(tmp_path, "CREATE TABLE invoices (amount)")
    health = examine_store(tmp_path)
    assert health.state == "foreign"
    assert "invoices" in health.reason


def test_store_directory_that_does_not_exist_is_absent_and_not_created(tmp_path):
    assert examine_store(tmp_path / "mlruns").state == "absent"
    assert not (tmp_path / "mlruns").exists()


def test_moved_store_names_the_place_that_it_came_from(store, tmp_path):
    assert examine_store(store.directory).moved == ()
    moved = store.directory.rename(tmp_path / "moved")
    assert examine_store(moved).moved == (store.directory,)


def test_locked_database_is_reported_with_its_holder(copied, monkeypatch):
    monkeypatch.setattr("harness.tracking.store_health.BUSY_SECONDS", 0.1)
    with closing(sqlite3.connect(copied / "mlflow.db")) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        health = examine_store(copied)
    assert health.state == "locked"
    assert "process" in health.reason


INTERRUPT = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 2")  # so that pages are written before the end
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE runs SET name = randomblob(200000)")
os._exit(0)
"""


@posix
def test_interrupted_transaction_is_left_for_the_next_opening(store):
    """A journal that was not applied: SQLite does not read the database unless it may write it."""
    subprocess.run([sys.executable, "-c", INTERRUPT, str(store.directory / "mlflow.db")], check=True)
    assert (store.directory / "mlflow.db-journal").stat().st_size
    before = read_files(store.directory)
    assert examine_store(store.directory).state == "interrupted"
    assert read_files(store.directory) == before
    assert open_store(None, store.directory, "tests").experiment_id == store.experiment_id
    assert examine_store(store.directory).state == "current"


@posix
def test_running_runs_are_distinguished_by_their_locks(store):
    locks = store.running
    locks.mkdir()
    start = int((time.time() - 3600) * 1000)
    runs = {
        name: store.client.create_run(store.experiment_id, start).info.run_id
        for name in ("alive", "killed", "unknown")
    }
    (locks / f"{runs['killed']}.lock").touch()
    before = read_files(store.directory / "mlflow.db")
    with FileLock(locks / f"{runs['alive']}.lock"):
        running = examine_store(store.directory).running
    assert (running.alive, running.killed, running.unknown) == tuple((runs[name],) for name in runs)
    assert MlflowClient(local_uri(store.directory)).get_run(runs["killed"]).info.status == "RUNNING"
    assert (locks / f"{runs['killed']}.lock").exists()
    assert read_files(store.directory / "mlflow.db") == before


def test_server_that_does_not_answer_is_an_error_with_its_address():
    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:9 "):
        examine_server("http://127.0.0.1:9", ".")


def test_path_is_not_a_server(tmp_path):
    with pytest.raises(UsageError, match="is not a server"):
        examine_server(str(tmp_path), tmp_path)
