"""The health of a run store, found without changing it: no migration, no marking of runs, no new files."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient

from harness.tracking.choices import DATABASE, StoreState
from harness.tracking.database import count_table, find_migrations, list_tables, read_revision
from harness.tracking.endings import SECONDS_TO_LOCK
from harness.tracking.locks import describe_lock_holders, is_locked
from harness.tracking.relocation import find_artifact_locations, location_path
from harness.tracking.store import check_server, local_uri, reach_server, server_locks
from harness.tracking.store_errors import translate_errors

BUSY_SECONDS = 2.0  # to wait for a process that writes
QUICK_CHECK_BYTES = 200 << 20  # of larger databases, the pages are not checked
# MLflow's client otherwise tries for minutes.
REQUEST_SETTINGS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


@dataclass(frozen=True)
class RunningRuns:
    """The identifiers of runs that are RUNNING in a store.

    Attributes
    ----------
    alive : tuple of str
        A process holds the lock of the run.
    killed : tuple of str
        The process has ended, and the run was not marked yet.
    unknown : tuple of str
        No lock of this machine: of another machine, or another program.
    """

    alive: tuple[str, ...] = ()
    killed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoreHealth:
    """What was found in a store.

    Attributes
    ----------
    reason : str
        Details of the state.
    revision : str or None
        Of the database's schema.
    moved : tuple of Path
        The directories in which artifacts are looked for, if the store was moved.
    """

    state: StoreState
    reason: str = ""
    revision: str | None = None
    running: RunningRuns = RunningRuns()
    moved: tuple[Path, ...] = ()


def examine_store(directory: Path) -> StoreHealth:
    """Return the health of the local store in a directory.

    Raises
    ------
    TrackingError
        If MLflow cannot read it although its database is sound.
    """
    directory = directory.resolve()
    database = directory / DATABASE
    if not database.is_file():
        return StoreHealth(StoreState.absent, f"{directory} has no {DATABASE}")
    try:
        health = _examine_database(database)
    except sqlite3.DatabaseError as error:
        return _classify_error(database, error)
    if health.state != StoreState.current:
        return health
    with translate_errors(str(directory)):
        client = MlflowClient(tracking_uri=local_uri(directory))
        moved = find_artifact_locations(client, directory).moved
        return StoreHealth(
            StoreState.current,
            revision=health.revision,
            running=_find_running(client, directory / "running"),
            moved=tuple(location_path(location).parent for location in moved),
        )


def examine_server(uri: str, directory: Path) -> RunningRuns:
    """Return which runs of a server are RUNNING; `directory` has the locks of this machine's runs.

    Raises
    ------
    UsageError
        If the URI is not that of a server.
    TrackingError
        If the server does not answer, or not as MLflow's.
    """
    check_server(uri)
    reach_server(uri)
    with translate_errors(uri), _environment(REQUEST_SETTINGS):
        return _find_running(MlflowClient(tracking_uri=uri), server_locks(uri, directory))


def _examine_database(database: Path) -> StoreHealth:
    """Read a database by SQL, because MLflow's client would migrate it and create a missing experiment."""
    if database.stat().st_size == 0:
        return StoreHealth(StoreState.incomplete, f"{database} is empty")
    with closing(_connect(database)) as connection:
        tables = list_tables(connection)
        if database.stat().st_size < QUICK_CHECK_BYTES:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                return StoreHealth(StoreState.damaged, " ".join(str(verdict).split()))
        revision = read_revision(connection)
        has_experiment = "experiments" in tables and count_table(connection, "experiments") > 0
    migrations = find_migrations()
    if revision == migrations.get_current_head():
        return StoreHealth(StoreState.current if has_experiment else StoreState.incomplete, revision=revision)
    if tables and "experiments" not in tables:
        return StoreHealth(StoreState.foreign, f"its tables are {', '.join(sorted(tables)[:5])}", revision)
    if revision is None:
        return StoreHealth(StoreState.incomplete, "its creation was interrupted")
    known = revision in {script.revision for script in migrations.walk_revisions()}
    return StoreHealth(StoreState.older if known else StoreState.newer, revision=revision)


def _connect(database: Path) -> sqlite3.Connection:
    """Connect to a database for reading alone: SQLite then writes nothing, not even to repair it."""
    with database.open("rb") as file:
        header = file.read(20)
    # A write-ahead log that no process uses would be created by reading.
    is_quiet = header[18:20] == b"\x02\x02" and not database.with_name(f"{database.name}-wal").exists()
    uri = f"file:{quote(database.as_posix())}?mode=ro" + "&immutable=1" * is_quiet
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)


def _classify_error(database: Path, error: sqlite3.DatabaseError) -> StoreHealth:
    if is_locked(error):
        return StoreHealth(StoreState.locked, f"by {describe_lock_holders(database)}")
    if database.with_name(f"{database.name}-journal").exists() and isinstance(
        error, sqlite3.OperationalError
    ):
        return StoreHealth(StoreState.interrupted, "a process was killed while it wrote")
    return StoreHealth(StoreState.damaged, " ".join(str(error).split()))


def _find_running(client: MlflowClient, locks: Path) -> RunningRuns:
    experiments = [item.experiment_id for item in client.search_experiments(ViewType.ALL)]
    if not experiments:
        return RunningRuns()
    found = client.search_runs(experiments, "attributes.status = 'RUNNING'", max_results=1000)
    sorted_ids: dict[str, list[str]] = {"alive": [], "killed": [], "unknown": []}
    for run in found:
        is_new = time.time() - run.info.start_time / 1000 < SECONDS_TO_LOCK
        state = "alive" if is_new else _examine_lock(locks / f"{run.info.run_id}.lock")
        sorted_ids[state].append(run.info.run_id)
    return RunningRuns(**{state: tuple(ids) for state, ids in sorted_ids.items()})


def _examine_lock(file: Path) -> Literal["alive", "killed", "unknown"]:
    """Return whether a process holds a lock file, which filelock would open for writing to find out."""
    try:
        import fcntl
    except ImportError:  # Windows
        return "unknown"
    with suppress(FileNotFoundError), file.open("rb") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return "alive"
        except OSError:  # a file system without locks
            return "unknown"
        fcntl.flock(opened, fcntl.LOCK_UN)
        return "killed"
    return "unknown"


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Set environment variables that the user did not set, within this context."""
    own = {key: value for key, value in settings.items() if key not in os.environ}
    os.environ.update(own)
    try:
        yield
    finally:
        for key in own:
            os.environ.pop(key, None)
