"""The SQLite database of a local run store: whole or absent, and of the schema of the installed MLflow.

MLflow creates a database in place, by 68 migrations under a lock of the machine, and refuses one whose
migrations were interrupted (measured: after kill -9 or with a full disk at any moment, tests/tracking). So it
creates ours in a temporary directory, and the result is renamed. `mlflow db upgrade` migrates in place and
makes no backup, so it migrates a copy. No public function of MLflow returns which revision it needs, so this
is read from the directory of its migrations with alembic.
"""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import mlflow
from alembic.script import ScriptDirectory
from mlflow.tracking import MlflowClient

from harness.errors import TrackingError
from harness.tracking.choices import DATABASE
from harness.tracking.locks import connect

SETTLE_SECONDS = 1.0  # within which a database that another program is creating changes
POOL_SETTINGS = "MLFLOW_SQLALCHEMYSTORE_"  # prefix of the environment variables


def database_uri(database: Path) -> str:
    """Return the absolute tracking URI of a SQLite database."""
    path = database.resolve()
    text = path.as_posix()
    if "%" in text or "?" in text:
        # SQLAlchemy decodes '%41' to 'A' and reads options after a '?', so both have to be quoted. MLflow
        # creates the parent directory of the quoted path; quoting the slashes too leaves it the root only.
        text = path.anchor.replace("\\", "/") + quote(text[len(path.anchor) :], safe="")
    return f"sqlite:///{text}"


def is_current(database: Path) -> bool:
    """Return whether the installed MLflow can use a database; raise sqlite3.Error if it is damaged."""
    if not database.is_file() or database.stat().st_size == 0:
        return False
    with closing(connect(database)) as connection:
        return read_revision(connection) == find_migrations().get_current_head()


def read_revision(connection: sqlite3.Connection) -> str | None:
    """Return the revision of a database's schema, None where it has none."""
    if "alembic_version" not in list_tables(connection):
        return None
    found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if found is None else str(found[0])


def prepare_database(database: Path) -> None:
    """Create a database that is missing or incomplete, and migrate one of an older MLflow.

    The caller holds the lock of the store. An interruption leaves the database as it was. One that is
    replaced is kept as a backup, whose name is printed on standard error.

    Raises
    ------
    TrackingError
        If it is not a database of MLflow, is of a newer MLflow, or cannot be migrated.
    sqlite3.Error
        If it is damaged, locked, or cannot be written.
    """
    database = database.resolve()
    for leftover in database.parent.glob(f".{DATABASE}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if not database.exists():
        _create(database)
        return
    if not database.is_file():
        kind = "a directory" if database.is_dir() else "not a regular file"
        raise TrackingError(
            f"{database} is {kind}; expected MLflow's SQLite database. Move it elsewhere, or choose another "
            "run store with tracking.folder=..."
        )
    if database.stat().st_size == 0:
        print(f"{database} was empty (0 bytes) and is created again", file=sys.stderr)
        _create(database)
        return
    migrations = find_migrations()
    head = migrations.get_current_head()
    (revision, tables), before = _read_schema(database), None
    while revision != head and (revision, tables) != before:  # another program may be creating it right now
        time.sleep(SETTLE_SECONDS)
        (revision, tables), before = _read_schema(database), (revision, tables)
    if revision == head:
        return
    if revision is not None and revision not in {script.revision for script in migrations.walk_revisions()}:
        raise TrackingError(
            f"{database} was written by a newer MLflow than the installed {mlflow.__version__}, which does "
            f"not know its schema {revision}. Upgrade it (pip install --upgrade mlflow), or choose another "
            "run store with tracking.folder=..."
        )
    if tables and "experiments" not in tables:
        raise TrackingError(
            f"{database} has no tables of MLflow, only {', '.join(sorted(tables)[:5])}; expected a run "
            "store. Choose another with tracking.folder=..."
        )
    _migrate(database, revision)


def find_migrations() -> ScriptDirectory:
    """Return the migrations of the installed MLflow, whose README names their directory."""
    return ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))


def _read_schema(database: Path) -> tuple[str | None, set[str]]:
    with closing(connect(database, write=True)) as connection:
        return read_revision(connection), list_tables(connection)


def list_tables(connection: sqlite3.Connection) -> set[str]:
    """Return the names of the tables of a database."""
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _count_rows(database: Path) -> dict[str, int]:
    with closing(sqlite3.connect(database)) as connection:
        return {table: count_table(connection, table) for table in list_tables(connection)}


def count_table(connection: sqlite3.Connection, table: str) -> int:
    """Return the number of rows of a table."""
    (count,) = connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()
    return int(count)


def _create(database: Path) -> None:
    with _directory_near(database) as directory:
        _create_at(directory / DATABASE)
        _put_in_place(directory / DATABASE, database)


def _create_at(database: Path) -> None:
    """Create a database with MLflow, and close it, so that it can be renamed."""
    settings = {key: value for key, value in os.environ.items() if key.startswith(POOL_SETTINGS)}
    for key in settings:
        del os.environ[key]
    # Without a pool, SQLAlchemy closes every connection after its use; MLflow has no other way to close them.
    os.environ[f"{POOL_SETTINGS}POOLCLASS"] = "NullPool"
    try:
        MlflowClient(tracking_uri=database_uri(database))
    finally:
        del os.environ[f"{POOL_SETTINGS}POOLCLASS"]
        os.environ.update(settings)


def _migrate(database: Path, revision: str | None) -> None:
    """Migrate a copy of a database, keep the database as a backup, and put the copy in its place."""
    with _directory_near(database) as directory:
        backup, new = directory / "backup", directory / DATABASE
        with closing(connect(database)) as connection:
            # Refused while another process uses a write-ahead log, which could not be renamed with the file.
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("BEGIN IMMEDIATE")
            try:
                for target in (backup, new):
                    # Through another connection: SQLite does not copy from one that holds a lock.
                    with closing(connect(database)) as source, closing(sqlite3.connect(target)) as copy:
                        source.backup(copy)
                    shutil.copymode(database, target)
            except (OSError, sqlite3.Error) as error:
                raise TrackingError(
                    f"{database} is of an older MLflow and was not migrated, because no backup of it could "
                    f"be made in {database.parent}: {error}. Nothing was changed; the migration needs "
                    f"{2 * database.stat().st_size / 1e6:.1f} MB there"
                ) from error
            failure = _upgrade(new)
            if failure is not None:
                new.unlink()
                _create_at(new)
                rows = _count_rows(new)  # a database without data has no more
                if any(count > rows.get(table, 0) for table, count in _count_rows(backup).items()):
                    raise TrackingError(
                        f"{database} cannot be migrated from its schema {revision} to that of MLflow "
                        f"{mlflow.__version__}: {failure}. Nothing was changed; restore it from a backup, or "
                        "choose another run store with tracking.folder=..."
                    )
        kept = _backup_name(database)
        backup.rename(kept)
        _put_in_place(new, database)
    what = (
        f"was of an older MLflow and was migrated to that of {mlflow.__version__}"
        if failure is None
        else "was incomplete, because its creation was interrupted, and had no run; it was created again"
    )
    print(f"{database} {what}; a backup of it is {kept}", file=sys.stderr)


def _upgrade(database: Path) -> str | None:
    """Migrate a database in place with MLflow's command; return the error, None if there was none."""
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", database_uri(database)]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONWARNINGS": "ignore"}, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return None
    # The last line of the traceback that begins with an exception's name; lines of SQL follow it.
    exceptions = [line for line in done.stderr.splitlines() if re.match(r"[\w.]+: ", line)]
    return exceptions[-1] if exceptions else f"mlflow db upgrade ended with status {done.returncode}"


def _backup_name(database: Path) -> Path:
    """Return a name that no file has."""
    stem = f"{database.name}.backup-{datetime.now():%Y%m%d-%H%M%S}"
    number, name = 1, stem
    while (database.parent / name).exists():
        number += 1
        name = f"{stem}-{number}"
    return database.parent / name


@contextmanager
def _directory_near(database: Path) -> Iterator[Path]:
    """Yield a directory on the same file system; the next opening removes it if this process is killed."""
    with tempfile.TemporaryDirectory(prefix=f".{DATABASE}-", dir=database.parent) as directory:
        yield Path(directory)


def _put_in_place(new: Path, database: Path) -> None:
    # SQLite would apply the journal that an earlier database left to the new one.
    for suffix in ("-journal", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    new.replace(database)
