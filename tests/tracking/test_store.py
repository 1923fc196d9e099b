"""A run store that was moved finds its files again, and nothing is touched that was not moved with it."""

import os
import re
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow.tracking import MlflowClient

from harness.app.verbs import run_verb
from harness.errors import TrackingError, UsageError
from harness.tracking import databases
from harness.tracking import store as stores
from harness.tracking.store import local_uri, open_store, relocate_store

# Linux tells who holds a lock.
HOLDER = f"process {os.getpid()}" if sys.platform.startswith("linux") else "another process"


@pytest.fixture(scope="module")
def original(make_store, tmp_path_factory):
    """A store with one run, whose files lie beside it."""
    store = make_store(tmp_path_factory.mktemp("original") / "mlruns")
    add_run(store.client, store.experiment_id)
    return store


@pytest.fixture
def before(original, tmp_path):
    """A copy of it in a place of its own."""
    folder = tmp_path / "before" / "mlruns"
    shutil.copytree(original.folder, folder)
    relocate_store(folder)
    return folder


def add_run(client, experiment_id):
    run = client.create_run(experiment_id).info.run_id
    client.log_text(run, "kept", "note.txt")
    client.set_terminated(run)
    return run


def notes(folder):
    """Return what MLflow reads as the note of every run of a store."""
    client = MlflowClient(tracking_uri=local_uri(folder))
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return [
        Path(client.download_artifacts(run.info.run_id, "note.txt")).read_text(encoding="utf-8")
        for run in runs
    ]


def places(folder):
    """Return the artifact locations of a store's experiments, without MLflow's."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        return dict(
            connection.execute("SELECT name, artifact_location FROM experiments WHERE experiment_id != 0")
        )


def relocate(folder, capsys):
    capsys.readouterr()
    status = run_verb(["relocate", "--folder", os.fspath(folder)])
    return status, *capsys.readouterr()


def test_moved_store_is_mended_and_says_so_once(before, tmp_path, capsys):
    after = tmp_path / "after %_" / "mlruns"
    before.parent.rename(after.parent)
    there, here = (before / "artifacts").as_uri(), (after / "artifacts").as_uri()
    status, out, err = relocate(after, capsys)
    assert status == 0
    assert out == f"repaired 1 runs: {there} is now {here}\n"
    assert err == ""
    assert notes(after) == ["kept"]
    assert places(after) == {"tests": here}
    status, out, _ = relocate(after, capsys)
    assert (status, out) == (0, f"nothing to repair in {after}\n")


def test_copied_store_is_mended_and_the_original_left(before, tmp_path, capsys):
    after = tmp_path / "after"
    shutil.copytree(before, after)
    assert relocate(after, capsys)[0] == 0
    shutil.rmtree(after / "artifacts")
    assert notes(before) == ["kept"]


def test_files_that_are_elsewhere_are_left_there(before, tmp_path, capsys):
    """Also those whose place begins with the same letters as the one that was moved."""
    client = MlflowClient(tracking_uri=local_uri(before))
    disk = f"{(before / 'artifacts').as_uri()}-of-the-lab"
    bucket = "s3://bucket/runs"
    add_run(client, client.create_experiment("on a disk", artifact_location=disk))
    client.create_experiment("in a bucket", artifact_location=bucket)
    after = tmp_path / "after"
    shutil.copytree(before, after)
    shutil.rmtree(after / "artifacts-of-the-lab")
    status, out, _ = relocate(after, capsys)
    assert status == 0
    assert f"left     on a disk: the files are in {disk}" in out
    assert f"left     in a bucket: the files are in {bucket}" in out
    here = (after / "artifacts").as_uri()
    assert places(after) == {"tests": here, "on a disk": disk, "in a bucket": bucket}
    shutil.rmtree(before / "artifacts")
    assert notes(after) == ["kept", "kept"]


def test_experiment_without_runs_moves_along(make_store, tmp_path):
    """Or its first run would go to the old place."""
    store = make_store(tmp_path / "before")
    store.folder.rename(tmp_path / "after")
    moved = open_store(None, tmp_path / "after", "tests")
    assert places(moved.folder) == {"tests": (tmp_path / "after" / "artifacts").as_uri()}


def test_folder_without_a_store_is_refused(tmp_path, before):
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
def test_damaged_database_is_refused_and_not_touched(before, damage, capsys):
    damage(before / "mlflow.db")
    content = (before / "mlflow.db").read_bytes()
    status, _, err = relocate(before, capsys)
    assert status == 1
    assert "is damaged" in err
    assert err.count("\n") == 1
    assert (before / "mlflow.db").read_bytes() == content


def test_database_of_something_else_is_refused(tmp_path, capsys):
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("CREATE TABLE experiments (other)")
    status, _, err = relocate(tmp_path, capsys)
    assert status == 1
    assert "no tables of MLflow" in err


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="nothing is read-only to this user")
def test_store_that_cannot_be_written_is_one_message(before, tmp_path):
    before.parent.rename(tmp_path / "after")
    folder = tmp_path / "after" / "mlruns"
    (folder / "mlflow.db").chmod(0o444)
    with pytest.raises(TrackingError, match="cannot be written"):
        relocate_store(folder)


def test_store_that_another_program_holds_is_one_message(before, tmp_path, monkeypatch):
    before.parent.rename(tmp_path / "after")
    folder = tmp_path / "after" / "mlruns"
    monkeypatch.setattr(stores, "LOCK_SECONDS", 0.1)
    monkeypatch.setattr(databases, "NOTICE_SECONDS", 0.1)
    monkeypatch.setattr(databases, "LOCKED_SECONDS", 0.2)
    with closing(sqlite3.connect(folder / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TrackingError, match=rf"mlflow\.db is locked by {HOLDER}"):
            relocate_store(folder)
        other.rollback()
    with FileLock(folder / "store.lock"):
        with pytest.raises(TrackingError, match=rf"store\.lock has been locked .* by {HOLDER}"):
            relocate_store(folder)
        with pytest.raises(TrackingError, match=rf"store\.lock has been locked .* by {HOLDER}"):
            open_store(None, folder, "tests")
