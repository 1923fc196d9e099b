"""A moved run store is found and repaired, and artifacts that were not moved with it are left alone."""

import multiprocessing
import os
import re
import shutil
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow.tracking import MlflowClient

from harness.errors import TrackingError, UsageError
from harness.tracking import locks, relocation
from harness.tracking.relocation import find_artifact_locations, relocate_store
from harness.tracking.store import local_uri, open_store

# Linux shows who holds a lock.
HOLDER = f"process {os.getpid()}" if sys.platform.startswith("linux") else "another process"
posix = pytest.mark.skipif(sys.platform == "win32", reason="kill -9 and fork of POSIX systems")


@pytest.fixture(scope="module")
def original(make_store, tmp_path_factory):
    """A store with one run, whose artifacts are in it."""
    store = make_store(tmp_path_factory.mktemp("original") / "mlruns")
    add_run(store.client, store.experiment_id)
    return store


@pytest.fixture
def before(original, tmp_path):
    """A copy of it with a directory of its own."""
    directory = tmp_path / "before" / "mlruns"
    shutil.copytree(original.directory, directory)
    relocate_store(directory)
    return directory


def add_run(client, experiment_id):
    run = client.create_run(experiment_id).info.run_id
    client.log_text(run, "kept", "note.txt")
    client.set_terminated(run)
    return run


def read_notes(directory):
    """Return what MLflow reads as the note of every run of a store."""
    client = MlflowClient(tracking_uri=local_uri(directory))
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return [
        Path(client.download_artifacts(run.info.run_id, "note.txt")).read_text(encoding="utf-8")
        for run in runs
    ]


def read_locations(directory):
    """Return the artifact locations of a store's experiments, without MLflow's."""
    with closing(sqlite3.connect(directory / "mlflow.db")) as connection:
        return dict(
            connection.execute("SELECT name, artifact_location FROM experiments WHERE experiment_id != 0")
        )


def test_moved_store_is_repaired_once(before, tmp_path):
    after = tmp_path / "after %_" / "mlruns"
    before.parent.rename(after.parent)
    there, here = (before / "artifacts").as_uri(), (after / "artifacts").as_uri()
    relocated = relocate_store(after)
    assert (relocated.repaired, relocated.elsewhere) == ({there: 1}, {})
    assert read_notes(after) == ["kept"]
    assert read_locations(after) == {"tests": here}
    assert relocate_store(after).repaired == {}


def test_copied_store_is_repaired_and_the_original_unchanged(before, tmp_path):
    after = tmp_path / "after"
    shutil.copytree(before, after)
    assert list(relocate_store(after).repaired.values()) == [1]
    shutil.rmtree(after / "artifacts")
    assert read_notes(before) == ["kept"]


def test_another_path_of_the_same_directory_is_not_a_move(before, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(before)
    client = MlflowClient(tracking_uri=local_uri(before))
    assert find_artifact_locations(client, link).moved == {}


def test_artifacts_that_are_elsewhere_are_left_there(before, tmp_path):
    """Also those whose location begins with the letters of the one that was moved."""
    client = MlflowClient(tracking_uri=local_uri(before))
    disk = f"{(before / 'artifacts').as_uri()}-of-the-lab"
    bucket = "s3://bucket/runs"
    add_run(client, client.create_experiment("on a disk", artifact_location=disk))
    client.create_experiment("in a bucket", artifact_location=bucket)
    after = tmp_path / "after"
    shutil.copytree(before, after)
    shutil.rmtree(after / "artifacts-of-the-lab", ignore_errors=True)
    assert relocate_store(after).elsewhere == {disk: ("on a disk",), bucket: ("in a bucket",)}
    here = (after / "artifacts").as_uri()
    assert read_locations(after) == {"tests": here, "on a disk": disk, "in a bucket": bucket}
    assert open_store(None, after, "on a disk").directory == after, "what is elsewhere is no reason to refuse"
    shutil.rmtree(before / "artifacts")
    assert read_notes(after) == ["kept", "kept"]


def test_experiment_without_runs_is_moved_with_the_store(make_store, tmp_path):
    """Otherwise, its first run would be written to the old place."""
    store = make_store(tmp_path / "before")
    store.directory.rename(tmp_path / "after")
    relocate_store(tmp_path / "after")
    assert read_locations(tmp_path / "after") == {"tests": (tmp_path / "after" / "artifacts").as_uri()}


def relocate_until_killed(directory, table):
    """Relocate a store in a process that is killed before it updates a table."""
    connect = locks.connect

    def connect_traced(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.set_trace_callback(
            lambda statement: (
                statement.startswith(f"UPDATE {table} ") and os.kill(os.getpid(), signal.SIGKILL)
            )
        )
        return connection

    relocation.connect = connect_traced
    relocate_store(directory)


@posix
@pytest.mark.parametrize(
    "table", ["experiments", *(pytest.param(name, marks=pytest.mark.slow) for name in ("runs", "trace_tags"))]
)
def test_relocation_that_is_killed_leaves_the_store_as_it_was(before, tmp_path, table):
    after = tmp_path / "after"
    before.rename(after)
    with closing(sqlite3.connect(after / "mlflow.db")) as connection:
        content = list(connection.iterdump())
    process = multiprocessing.get_context("fork").Process(target=relocate_until_killed, args=(after, table))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    with closing(sqlite3.connect(after / "mlflow.db")) as connection:
        assert list(connection.iterdump()) == content
    relocate_store(after)
    assert read_notes(after) == ["kept"]


def test_directory_without_a_store_is_refused(tmp_path, before):
    with pytest.raises(UsageError, match=r"has no mlflow\.db"):
        relocate_store(tmp_path)
    with pytest.raises(UsageError, match=re.escape(f"did you mean --folder {before}?")):
        relocate_store(before.parent)
    assert list(tmp_path.glob("*.lock")) == []


def damage_header(file):
    file.write_bytes(b"this is not a database, and long enough not to be empty" * 100)


def damage_page(file):
    content = bytearray(file.read_bytes())
    content[8192:40960] = b"\xff" * 32768
    file.write_bytes(content)


def cut(file):
    file.write_bytes(file.read_bytes()[:20000])


@pytest.mark.parametrize("damage", [damage_header, damage_page, cut])
def test_damaged_database_is_refused_and_unchanged(before, damage):
    damage(before / "mlflow.db")
    content = (before / "mlflow.db").read_bytes()
    with pytest.raises(TrackingError, match="is damaged") as caught:
        relocate_store(before)
    assert "\n" not in str(caught.value)
    assert (before / "mlflow.db").read_bytes() == content


def test_database_of_another_program_is_refused_and_unchanged(tmp_path):
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("CREATE TABLE invoices (amount)")
    content = (tmp_path / "mlflow.db").read_bytes()
    with pytest.raises(TrackingError, match="no tables of MLflow"):
        relocate_store(tmp_path)
    assert (tmp_path / "mlflow.db").read_bytes() == content


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="nothing is read-only to this user")
def test_store_that_cannot_be_written_is_one_message(before, tmp_path):
    before.parent.rename(tmp_path / "after")
    directory = tmp_path / "after" / "mlruns"
    (directory / "mlflow.db").chmod(0o444)
    with pytest.raises(TrackingError, match="cannot be written"):
        relocate_store(directory)


def test_locked_store_is_one_message(before, tmp_path, monkeypatch):
    before.parent.rename(tmp_path / "after")
    directory = tmp_path / "after" / "mlruns"
    monkeypatch.setattr(locks, "LOCK_SECONDS", 0.1)
    monkeypatch.setattr(locks, "NOTICE_SECONDS", 0.1)
    monkeypatch.setattr(locks, "LOCKED_SECONDS", 0.2)
    with closing(sqlite3.connect(directory / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TrackingError, match=rf"mlflow\.db is locked by {HOLDER}"):
            relocate_store(directory)
        other.rollback()
    with FileLock(directory / "store.lock"):
        with pytest.raises(TrackingError, match=rf"store\.lock has been locked .* by {HOLDER}"):
            relocate_store(directory)
        with pytest.raises(TrackingError, match=rf"store\.lock has been locked .* by {HOLDER}"):
            open_store(None, directory, "tests")
