"""The SQLite database of a local run store: its creation, its migration with a backup, and its locks."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import mlflow
from alembic.script import ScriptDirectory
from mlflow.tracking import MlflowClient

from harness.errors import TrackingError

DATABASE = "mlflow.db"
LOCKED_SECONDS = 60.0  # for which to wait for a database that another process has locked
NOTICE_SECONDS = 5.0  # after which to print what is being waited for
COMMAND_LENGTH = 100  # characters of a process's command line in a message
SETTLE_SECONDS = 1.0  # within which a database that another program is creating changes
POOL_SETTINGS = "MLFLOW_SQLALCHEMYSTORE_"  # prefix of the environment variables
# Tables whose rows are somebody's work. Every complete database has one experiment, "Default".
CONTENT = ("runs", "registered_models", "trace_info")

T = TypeVar("T")


def database_uri(database: Path) -> str:
    """Return the tracking URI of a SQLite database.

    Parameters
    ----------
    database : Path

    Returns
    -------
    uri : str
        Absolute, so that it means the same from every directory.
    """
    path = database.resolve()
    text = path.as_posix()
    if "%" in text or "?" in text:
        # SQLAlchemy decodes '%41' to 'A' and reads options behind a '?', so both have to be quoted. MLflow
        # creates the parent directory of the quoted path; quoting the slashes too leaves it the root only.
        text = path.anchor.replace("\\", "/") + quote(text[len(path.anchor) :], safe="")
    return f"sqlite:///{text}"


# Locks ------------------------------------------------------------------------------------------------------


def driver_error(error: BaseException) -> BaseException:
    """Return the exception of the database's driver that lies behind those of SQLAlchemy and MLflow.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    BaseException
    """
    found: BaseException = error
    cause: BaseException | None = error
    while cause is not None:
        found, cause = getattr(cause, "orig", None) or found, cause.__cause__ or cause.__context__
    return found


def is_locked(error: BaseException) -> bool:
    """Return whether an operation failed because another process has locked the SQLite database.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    locked : bool
    """
    code = getattr(driver_error(error), "sqlite_errorcode", 0) & 0xFF  # the primary result code
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def retry_while_locked(operation: Callable[[], T]) -> T:
    """Return what an operation of MLflow returns; repeat it while the database is locked, up to a minute.

    Parameters
    ----------
    operation : callable
        Has to be repeatable. MLflow rolls back what fails, and waits 20 seconds each time.

    Returns
    -------
    object
    """
    end = time.monotonic() + LOCKED_SECONDS
    while True:
        try:
            return operation()
        except Exception as error:
            if not is_locked(error) or time.monotonic() >= end:
                raise


def explain_lock(file: Path, seconds: float | None = None) -> str:
    """Return a message that a file has been locked for too long, by whom, and what to do.

    Parameters
    ----------
    file : Path
    seconds : float, optional
        How long it was waited for, where that is known.

    Returns
    -------
    message : str
    """
    state = "is locked" if seconds is None else f"has been locked for {seconds:.0f} s"
    return (
        f"{file} {state} by {describe_lock_holders(file)}. Wait until it has ended, or end it; or choose "
        "another run store with tracking.folder=..."
    )


def describe_lock_holders(file: Path) -> str:
    """Return the processes that hold a lock on a file, with their command lines, as far as the system tells.

    Parameters
    ----------
    file : Path

    Returns
    -------
    description : str
    """
    holders = lock_holders(file)
    if not holders:
        return f"another process, which could not be identified (`lsof {file}` lists those that have it open)"
    return " and ".join(f"process {number}{_command_of(number)}" for number in holders)


def lock_holders(file: Path) -> list[int]:
    """Return the numbers of the processes that hold a lock on a file; none where Linux's /proc is missing.

    Parameters
    ----------
    file : Path

    Returns
    -------
    holders : list of int
    """
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
        status = file.stat()
    except OSError:
        return []
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    # Such as "1: POSIX  ADVISORY  WRITE 4711 fe:00:2351713 0 EOF"; who waits has "->" as second word.
    fields = [line.split() for line in lines]
    numbers = {int(row[-4]) for row in fields if len(row) == 8 and row[-3] == place}
    return sorted(number for number in numbers if number > 0)


def _command_of(number: int) -> str:
    try:
        command = Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # it has ended, or belongs to somebody else
        return ""
    printable = "".join(letter if letter.isprintable() else "?" for letter in command.strip())
    return f" ({printable[:COMMAND_LENGTH]})" if printable else ""


def connect(database: Path, write: bool = False) -> sqlite3.Connection:
    """Connect to a database once no other process has locked it.

    Parameters
    ----------
    database : Path
        Has to exist.
    write : bool
        Whether to begin a transaction that keeps other processes from writing.

    Returns
    -------
    Connection
        In autocommit mode.

    Raises
    ------
    sqlite3.Error
        If the database is damaged, cannot be written, or is locked for more than a minute.
    """
    connection = sqlite3.connect(database, timeout=NOTICE_SECONDS, isolation_level=None)
    statement = "BEGIN IMMEDIATE" if write else "SELECT count(*) FROM sqlite_master"
    try:
        try:
            connection.execute(statement).fetchall()
        except sqlite3.OperationalError as error:
            if not is_locked(error):
                raise
            print(
                f"{database} is locked by {describe_lock_holders(database)}; "
                f"waiting for it for up to {LOCKED_SECONDS:.0f} s",
                file=sys.stderr,
            )
            connection.execute(f"PRAGMA busy_timeout = {int(LOCKED_SECONDS * 1000)}")
            connection.execute(statement).fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


# Schema -----------------------------------------------------------------------------------------------------


def is_current(database: Path) -> bool:
    """Return whether the installed MLflow can use a database as it is.

    Parameters
    ----------
    database : Path

    Returns
    -------
    current : bool

    Raises
    ------
    sqlite3.Error
        If the database is damaged or locked.
    """
    if not database.is_file() or database.stat().st_size == 0:
        return False
    with closing(connect(database)) as connection:
        return read_revision(connection) == _migrations().get_current_head()


def read_revision(connection: sqlite3.Connection) -> str | None:
    """Return the revision of a database's schema, None where it has none.

    Parameters
    ----------
    connection : Connection

    Returns
    -------
    revision : str or None
    """
    if "alembic_version" not in _tables(connection):
        return None
    found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if found is None else str(found[0])


def prepare_database(database: Path) -> None:
    """Create a database that is missing or incomplete, and migrate one of an older MLflow.

    Whatever is interrupted leaves the database as it was: a new one is completed in a directory beside it,
    and then renamed. A database that is replaced is kept as a backup, and standard error says where.

    Parameters
    ----------
    database : Path
        The caller holds the lock of its store.

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
        print(f"{database} was empty (0 bytes) and is created anew", file=sys.stderr)
        _create(database)
        return
    migrations = _migrations()
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


def _migrations() -> ScriptDirectory:
    """Return the migrations of the installed MLflow, whose README says where they are."""
    return ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))


def _read_schema(database: Path) -> tuple[str | None, set[str]]:
    with closing(connect(database, write=True)) as connection:
        return read_revision(connection), _tables(connection)


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _holds_nothing(connection: sqlite3.Connection) -> bool:
    """Return whether nobody has stored anything in a database, complete or not."""
    tables = _tables(connection)
    limits = {table: 0 for table in CONTENT} | {"experiments": 1}
    return all(
        connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] <= limit
        for table, limit in limits.items()
        if table in tables
    )


def _create(database: Path) -> None:
    with _directory_beside(database) as directory:
        _create_at(directory / DATABASE)
        _put_in_place(directory / DATABASE, database)


def _create_at(database: Path) -> None:
    """Let MLflow create a database, and close it, so that it can be renamed."""
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
    with _directory_beside(database) as directory:
        backup, new = directory / "backup", directory / DATABASE
        with closing(connect(database)) as connection:
            # Refused while another process uses a write-ahead log, which could not be renamed with the file.
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("BEGIN IMMEDIATE")
            holds_nothing = _holds_nothing(connection)
            try:
                for target in (backup, new):
                    # Through a connection of its own: SQLite does not copy from one that has locked.
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
            if failure is not None and not holds_nothing:
                raise TrackingError(
                    f"{database} cannot be migrated from its schema {revision} to that of MLflow "
                    f"{mlflow.__version__}: {failure}. Nothing was changed; restore it from a backup, or "
                    "choose another run store with tracking.folder=..."
                )
            if failure is not None:
                new.unlink()
                _create_at(new)
        kept = _backup_name(database)
        backup.rename(kept)
        _put_in_place(new, database)
    what = (
        f"was of an older MLflow and was migrated to that of {mlflow.__version__}"
        if failure is None
        else "was incomplete, because its creation was interrupted, and held no run; it was created anew"
    )
    print(f"{database} {what}; as it was before, it is kept as {kept}", file=sys.stderr)


def _upgrade(database: Path) -> str | None:
    """Let MLflow's command migrate a database in place; return why it could not."""
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", database_uri(database)]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONWARNINGS": "ignore"}, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return None
    # The last line of a traceback that begins with the exception's name; behind it are the SQL statement's.
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
def _directory_beside(database: Path) -> Iterator[Path]:
    """Yield a directory on the same file system, which the next opening removes if this process is killed."""
    with tempfile.TemporaryDirectory(prefix=f".{DATABASE}-", dir=database.parent) as directory:
        yield Path(directory)


def _put_in_place(new: Path, database: Path) -> None:
    # SQLite would apply what an earlier database left of its journal to the new one.
    for suffix in ("-journal", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    new.replace(database)
