"""A local store's database is whole or absent, whatever interrupts its creation or its migration."""

import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from mlflow.tracking import MlflowClient

from harness.errors import TrackingError
from harness.tracking import database as database_module
from harness.tracking.queries import list_experiments
from harness.tracking.store import local_store_uri, local_uri, open_store

OLDER = "bda7b8c39065"  # an earlier revision of MLflow's schema

# Opens a store in every directory of `work`, each in a process of its own, which ends at the part of the
# creation that the directory's name gives: "open-0.4" is killed after 40 % of the SQL statements,
# "open-guardrails" when that table has been created, and "full-0.4" finds the disk full at 40 % of the
# size. With "mlflow-" for "open-", MLflow itself creates mlflow.db in place.
INTERRUPT = """
import os, resource, signal, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
from harness.tracking.store import MlflowClient, local_uri, open_store

work = Path(sys.argv[1])
executed = 0

def create(directory, n_statements=sys.maxsize, n_bytes=0):
    how, _, part = directory.name.partition("-")

    def count(connection, cursor, statement, *arguments):
        global executed
        executed += 1
        if part[0].isalpha():
            reached = f"CREATE TABLE {part} " in statement
        else:
            reached = executed > float(part) * n_statements
        if reached:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "after_cursor_execute", count)
    if how == "full":
        size = int(float(part) * n_bytes)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    if how == "mlflow":
        directory.mkdir()
        MlflowClient(tracking_uri=local_uri(directory))
    open_store(None, directory, "tests")
    (work / "statements").write_text(str(executed))

def in_child(*arguments):
    child = os.fork()
    if child == 0:
        sys.stderr = open(os.devnull, "w")
        try:
            create(*arguments)
        finally:
            os._exit(7)
    return os.waitpid(child, 0)[1]

whole = ()
if any(name.partition("-")[2][0].isdigit() for name in sys.argv[2:]):
    in_child(work / "open-1")
    whole = int((work / "statements").read_text()), (work / "open-1" / "mlflow.db").stat().st_size
    (work / "statements").unlink()
for name in sys.argv[2:]:
    status = in_child(work / name, *whole)
    assert os.WIFSIGNALED(status) or name.startswith("full"), name
assert not (work / "statements").exists()  # none was completed
"""

posix = pytest.mark.skipif(sys.platform == "win32", reason="kill -9 and limits of POSIX systems")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
# To write to a store, and to read from it, as `runs`, `compare` and `ui` do.
openings = pytest.mark.parametrize(
    "open_directory", [lambda directory: open_store(None, directory, "tests"), local_store_uri]
)


def interrupt(work, *names):
    work.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-c", INTERRUPT, str(work), *names], check=True, timeout=600)
    return [work / name for name in names]


def schema(database):
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]


def content(database):
    """Return every row of every table."""
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


def assert_works(directory):
    """A run can be written to the store, and read back by MLflow's own client."""
    store = open_store(None, directory, "tests")
    run = store.client.create_run(store.experiment_id).info.run_id
    store.client.log_metric(run, "score", 0.5)
    client = MlflowClient(tracking_uri=local_uri(directory))
    (found,) = client.search_runs([store.experiment_id])
    assert found.data.metrics == {"score": 0.5}


@pytest.fixture(scope="module")
def created(tmp_path_factory):
    """A store that was created from nothing, with a name that needs quoting; environment before and after."""
    directory = tmp_path_factory.mktemp("created") / "p%41?q&r=s;t+u %é" / "mlruns"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "5")
        patch.delenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", raising=False)
        before = dict(os.environ)
        open_store(None, directory, "tests")
        return directory, before, dict(os.environ)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_new_store_is_in_its_directory_only_whatever_the_name(created):
    directory, _, _ = created
    assert "tests" in list_experiments(local_store_uri(directory))
    assert {path.name for path in directory.iterdir()} == {"mlflow.db", "store.lock"}
    assert [path.name for path in directory.parents[1].iterdir()] == [directory.parent.name]


def test_creation_leaves_the_settings_of_mlflows_connections_as_they_were(created):
    _, before, after = created
    assert after == before


@linux
def test_database_is_renamed_only_when_it_is_closed(created):
    files = {os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")}  # noqa: PTH208
    assert not [file for file in files if ".mlflow.db-" in file]


def test_leftovers_of_an_interrupted_creation_are_removed(make_store, tmp_path):
    leftover = tmp_path / ".mlflow.db-k1ll3d"
    leftover.mkdir()
    (leftover / "mlflow.db").write_bytes(b"incomplete")
    make_store(tmp_path)
    assert not leftover.exists()


@posix
@pytest.mark.slow
def test_store_whose_creation_was_killed_is_created_by_the_next_opening(tmp_path):
    for directory in interrupt(tmp_path / "work", "open-guardrails", "open-0.5"):
        assert_works(directory)
        assert {path.name for path in directory.iterdir()} == {"mlflow.db", "store.lock"}


@posix
@pytest.mark.slow
def test_store_can_be_opened_after_an_interruption_at_any_moment(tmp_path):
    kills = [f"open-{part / 8}" for part in range(8)]
    kills += ["open-experiments", "open-registered_models", "open-logged_models", "open-guardrails"]
    full = [f"full-{part}" for part in (0, 0.1, 0.6, 0.99)]
    for directory in interrupt(tmp_path / "work", *kills, *full):
        assert not (directory / "mlflow.db").exists()
        assert_works(directory)
        assert {path.name for path in directory.iterdir()} == {"mlflow.db", "store.lock"}


@posix
@pytest.mark.slow
def test_database_that_an_older_harness_left_incomplete_is_created_anew(tmp_path, capsys):
    """It ran MLflow's first migrations on mlflow.db itself."""
    for directory in interrupt(
        tmp_path / "work", "mlflow-guardrails", *[f"mlflow-{part / 4}" for part in range(4)]
    ):
        assert (directory / "mlflow.db").exists()
        capsys.readouterr()
        local_store_uri(directory)  # by `runs`, `compare` or `ui`
        assert_works(directory)
        assert f"{directory / 'mlflow.db'} was " in capsys.readouterr().err


@posix
@pytest.mark.slow
def test_processes_that_start_together_on_a_leftover_lose_no_run(tmp_path):
    (directory,) = interrupt(tmp_path / "work", "open-0.5")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=start_run, args=(directory,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    client = MlflowClient(tracking_uri=local_uri(directory))
    assert len(client.search_runs([client.get_experiment_by_name("tests").experiment_id])) == 4


def start_run(directory):
    store = open_store(None, directory, "tests")
    store.client.create_run(store.experiment_id)


# Files that are not a current database ----------------------------------------------------------------------


@pytest.mark.slow
def test_empty_database_is_replaced_with_a_notice(tmp_path, capsys):
    (tmp_path / "mlflow.db").touch()
    assert_works(tmp_path)
    assert "mlflow.db was empty (0 bytes)" in capsys.readouterr().err


@openings
def test_directory_with_the_name_of_the_database_is_refused(tmp_path, open_directory):
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(TrackingError, match=r"mlflow\.db is a directory.*tracking\.folder="):
        open_directory(tmp_path)
    assert list((tmp_path / "mlflow.db").iterdir()) == []


@openings
def test_database_of_another_program_is_refused_and_left_alone(tmp_path, open_directory):
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("CREATE TABLE invoices (amount)")
    before = (tmp_path / "mlflow.db").read_bytes()
    with pytest.raises(TrackingError, match="invoices"):
        open_directory(tmp_path)
    assert (tmp_path / "mlflow.db").read_bytes() == before


@openings
def test_newer_schema_is_refused(make_store, tmp_path, open_directory):
    make_store(tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(TrackingError, match=r"newer MLflow.*ffffffffffff.*pip install --upgrade mlflow"):
        open_directory(tmp_path)
    assert schema(tmp_path / "mlflow.db") == "ffffffffffff"


CREATE_OLDER = """
import sys
from pathlib import Path
from alembic import command
from mlflow.exceptions import MlflowException
from harness.tracking.store import MlflowClient, local_uri

upgrade = command.upgrade
command.upgrade = lambda config, revision: upgrade(config, sys.argv[2])
try:
    MlflowClient(tracking_uri=local_uri(Path(sys.argv[1])))
except MlflowException as error:
    assert "out-of-date" in str(error)
"""


@pytest.fixture(scope="module")
def older_schema(tmp_path_factory):
    """A database at an earlier revision of MLflow's schema; no engine of this process has opened it."""
    directory = tmp_path_factory.mktemp("older schema")
    subprocess.run([sys.executable, "-c", CREATE_OLDER, str(directory), OLDER], check=True, timeout=120)
    assert schema(directory / "mlflow.db") == OLDER
    return directory / "mlflow.db"


@pytest.fixture
def older(older_schema, tmp_path):
    """A store of an older MLflow, with one run."""
    directory = tmp_path / "older"
    directory.mkdir()
    shutil.copy(older_schema, directory)
    with closing(sqlite3.connect(directory / "mlflow.db")) as connection, connection:
        connection.execute(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage)"
            " VALUES (0, 'Default', 'file:///nowhere', 'active'), (1, 'tests', ?, 'active')",
            ((directory / "artifacts").as_uri(),),
        )
        connection.execute(
            "INSERT INTO runs (run_uuid, name, user_id, status, start_time, lifecycle_stage, artifact_uri,"
            " experiment_id) VALUES ('a1', 'kept', 'somebody', 'FINISHED', 1, 'active', ?, 1)",
            ((directory / "artifacts" / "a1").as_uri(),),
        )
    return directory


def backups(directory):
    return sorted(directory.glob("mlflow.db.backup-*"))


@pytest.mark.slow
@openings
def test_older_store_is_migrated_and_its_backup_named(older, open_directory, capsys):
    before = content(older / "mlflow.db")
    capsys.readouterr()
    open_directory(older)
    (backup,) = backups(older)
    assert content(backup) == before
    assert str(backup) in capsys.readouterr().err
    client = MlflowClient(tracking_uri=local_uri(older))
    assert [run.info.run_id for run in client.search_runs(["1"])] == ["a1"]
    open_directory(older)
    assert capsys.readouterr().err == ""
    assert backups(older) == [backup]


@pytest.fixture
def unmigratable(make_store, tmp_path, monkeypatch):
    """A store of an older revision whose migration fails; a new database is a copy of an empty one."""
    store = make_store(tmp_path / "store")
    database = store.directory / "mlflow.db"
    empty = shutil.copy(make_store(tmp_path / "empty").directory / "mlflow.db", tmp_path)
    with closing(sqlite3.connect(empty)) as connection, connection:
        connection.execute("DELETE FROM experiments WHERE experiment_id != 0")
    monkeypatch.setattr(database_module, "_upgrade", lambda database: "table guardrails already exists")
    monkeypatch.setattr(database_module, "_create_at", lambda database: shutil.copy(empty, database))
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [OLDER])
    return store


def test_failed_migration_of_a_store_with_data_changes_nothing(unmigratable):
    database = unmigratable.directory / "mlflow.db"
    before = content(database)
    with pytest.raises(TrackingError, match=r"guardrails already exists.*Nothing was changed"):
        local_store_uri(unmigratable.directory)
    assert content(database) == before
    assert backups(unmigratable.directory) == []


def test_failed_migration_of_a_store_without_data_creates_it_again(unmigratable, capsys):
    database = unmigratable.directory / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM experiments WHERE experiment_id != 0")
    before = content(database)
    local_store_uri(unmigratable.directory)
    (backup,) = backups(unmigratable.directory)
    assert content(backup) == before
    assert schema(database) != OLDER
    assert f"a backup of it is {backup}" in capsys.readouterr().err


@pytest.mark.slow
def test_earlier_backup_is_never_overwritten(older, monkeypatch):
    class Clock(database_module.datetime):
        @classmethod
        def now(cls):
            return cls(2024, 5, 6, 7, 8, 9)

    monkeypatch.setattr(database_module, "datetime", Clock)
    first = older / "mlflow.db.backup-20240506-070809"
    first.write_text("of an earlier migration")
    open_store(None, older, "tests")
    assert first.read_text() == "of an earlier migration"
    assert backups(older) == [first, older / "mlflow.db.backup-20240506-070809-2"]


@pytest.mark.slow
def test_older_store_with_runs_that_cannot_be_migrated_is_left_as_it_was(older):
    """Its tables are those of a migration in place that was interrupted."""
    with closing(sqlite3.connect(older / "mlflow.db")) as connection, connection:
        connection.execute("CREATE TABLE guardrails (identifier)")
    before = content(older / "mlflow.db")
    with pytest.raises(TrackingError, match=r"guardrails already exists.*Nothing was changed"):
        open_store(None, older, "tests")
    assert content(older / "mlflow.db") == before
    assert backups(older) == []


MIGRATE = """
import os, resource, signal, sys
from pathlib import Path
import harness.tracking.database
from harness.tracking.store import open_store

directory = Path(sys.argv[1])
if sys.argv[2] == "full":
    size = (directory / "mlflow.db").stat().st_size // 2
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
else:
    harness.tracking.database._upgrade = lambda database: os.kill(os.getpid(), signal.SIGKILL)
open_store(None, directory, "tests")
"""


@posix
@pytest.mark.slow
@pytest.mark.parametrize("how", ["full", "killed"])
def test_migration_that_is_interrupted_leaves_the_older_store(older, how):
    before = content(older / "mlflow.db")
    done = subprocess.run(
        [sys.executable, "-c", MIGRATE, str(older), how],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    if how == "full":
        assert "no backup of it could be made" in done.stderr
    assert content(older / "mlflow.db") == before
    assert backups(older) == []
    open_store(None, older, "tests")
    assert content(*backups(older)) == before
    assert list(older.glob(".mlflow.db-*")) == []


@pytest.mark.slow
def test_journal_of_an_earlier_database_is_not_applied_to_a_new_one(tmp_path):
    """SQLite rolls back what a journal of that name holds, whichever database it was of."""
    other, directory = tmp_path / "other.db", tmp_path / "mlruns"
    with closing(sqlite3.connect(other, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE other (value)")
        connection.executemany("INSERT INTO other VALUES (zeroblob(3000))", [()] * 50)
        connection.execute("PRAGMA cache_size = 1")  # pages are written before the transaction ends
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE another (value)")
        connection.execute("UPDATE other SET value = randomblob(3000)")
        journal = tmp_path.joinpath("other.db-journal").read_bytes()
        connection.rollback()
    directory.mkdir()
    (directory / "mlflow.db").touch()
    (directory / "mlflow.db-journal").write_bytes(journal)
    assert_works(directory)
    assert not [line for line in content(directory / "mlflow.db") if line.startswith("CREATE TABLE other")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a?b#c", "p%41?q&r=s;t+u %é"])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_address_of_a_store_works_in_another_process(make_store, tmp_path, name):
    """`mlflow ui` is one."""
    directory = tmp_path / name / "mlruns"
    make_store(directory)
    code = "import mlflow, sys; print(mlflow.MlflowClient(sys.argv[1]).get_experiment_by_name('tests'))"
    done = subprocess.run(
        [sys.executable, "-c", code, local_uri(directory)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert "name='tests'" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert {path.name for path in directory.iterdir()} == {"mlflow.db", "store.lock"}
