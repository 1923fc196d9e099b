"""Run stores: where MLflow keeps runs; any number of processes may open the same one at once."""

import logging
import os
import re
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname, urlopen

from filelock import FileLock, Timeout
from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from harness.errors import TrackingError, UsageError, first_line
from harness.tracking.databases import (
    DATABASE,
    connect,
    database_uri,
    driver_error,
    explain_lock,
    is_current,
    is_locked,
    prepare_database,
    retry_while_locked,
)
from harness.tracking.endings import Ending, EndingNote

# Making a store would otherwise announce its migrations among the run's own output.
logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)
# What a database refuses is said once, by us; this would print the traceback of every attempt.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
# A server's address is printed once, with the scores.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

LOCK_SECONDS = 120
SECONDS_TO_LOCK = 2.0  # between making a lock's file and holding the lock, at most
# Tags by which runs are found again. A run's sweeps are all that asked for it, oldest first, separated by
# spaces; an experiment has a tag for every sweep, with a point and the sweep's name behind it.
SWEEP_TAG = "harness.sweep"
IDENTITY_TAG = "harness.identity"
ERROR_TAG = "harness.error"  # the first line of why a run failed
SERVER_SECONDS = 10.0  # to answer in
PATIENCE_OF_WORKERS = 240.0  # for which a worker of a sweep waits for a server to come back

# Every column in which MLflow stores an absolute path.
PATH_COLUMNS = (
    ("runs", "artifact_uri"),
    ("experiments", "artifact_location"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
    ("trace_request_metadata", "value"),
)
UI_PORT = 5050  # macOS keeps MLflow's own 5000 for itself


@dataclass(frozen=True)
class Store:
    """An open run store and the experiment that runs go to.

    Attributes
    ----------
    client : MlflowClient
    uri : str
        Tracking URI.
    experiment_id : str
    folder : Path or None
        The folder ``mlruns`` of a local store.
    running : Path
        Folder of the locks that processes hold while their runs are RUNNING.
    """

    client: MlflowClient
    uri: str
    experiment_id: str
    folder: Path | None
    running: Path

    @property
    def argument(self) -> str:
        """What the verbs have to be told to find the store from where the run was started."""
        if self.folder is None:
            return f" --uri {self.uri}"
        if self.folder == Path("mlruns").resolve():
            return ""
        return f' --folder "{self.folder}"'


def local_uri(folder: Path) -> str:
    """Return the tracking URI of the SQLite store inside a folder.

    Parameters
    ----------
    folder : Path
        Usually ``mlruns``.

    Returns
    -------
    uri : str
        Absolute, so that it means the same from everywhere.
    """
    return database_uri(folder / DATABASE)


def ui_address(uri: str) -> str:
    """Return where the pages of a store are: the server itself, or the light one of ``harness ui``.

    Parameters
    ----------
    uri : str
        Tracking URI.

    Returns
    -------
    address : str
    """
    return uri.rstrip("/") if uri.startswith("http") else f"http://127.0.0.1:{UI_PORT}"


def run_link(address: str, experiment_id: str, run_id: str) -> str:
    """Return the address of a run's page.

    Parameters
    ----------
    address : str
        Where the pages are, such as ``http://127.0.0.1:5050``.
    experiment_id, run_id : str

    Returns
    -------
    link : str
    """
    return f"{address}/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


def open_store(uri: str | None, folder: Path, experiment: str, patience: float = 0.0) -> Store:
    """Open a run store, making it and the experiment where they are missing.

    Parameters
    ----------
    uri : str or None
        Tracking URI of a server; None means the local store in `folder`.
    folder : Path
        Where the local store lives, and what a server need not know.
    experiment : str
        Name of the experiment.
    patience : float
        For how many seconds to wait for a server that cannot be reached.

    Returns
    -------
    Store

    Raises
    ------
    TrackingError
        If the store cannot be opened or written.
    """
    local = uri is None
    where = str(folder.resolve()) if uri is None else uri
    try:
        if local:
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder):
                prepare_database(folder / DATABASE)
                mend_moved_store(folder)
                client = MlflowClient(tracking_uri=local_uri(folder))
                artifacts = (folder.resolve() / "artifacts").as_uri()
                experiment_id = retry_while_locked(
                    lambda: _find_or_make_experiment(client, experiment, artifacts)
                )
                running = folder.resolve() / "running"
                _end_abandoned_runs(client, running)
            return Store(client, local_uri(folder), experiment_id, folder.resolve(), running)
        assert uri is not None
        reach_server(uri, patience)
        client = MlflowClient(tracking_uri=uri)
        # Runs of one server must not be looked for on another.
        running = folder.resolve() / "running" / re.sub(r"\W+", "_", uri)
        _end_abandoned_runs(client, running)
        return Store(client, uri, _find_or_make_experiment(client, experiment, None), None, running)
    except TrackingError:
        raise
    except Exception as error:  # the disk, SQLAlchemy, alembic and requests all raise types of their own
        raise TrackingError(explain_store_error(where, error)) from error


def migrate_store(folder: Path) -> None:
    """Let the installed MLflow read a local store, which its older versions may have written.

    Parameters
    ----------
    folder : Path
        Has a database.

    Raises
    ------
    TrackingError
        If it cannot be read; see `harness.tracking.databases.prepare_database`.
    """
    try:
        if not is_current(folder / DATABASE):
            with _locked(folder):
                prepare_database(folder / DATABASE)
    except TrackingError:
        raise
    except (OSError, sqlite3.Error, MlflowException) as error:
        raise TrackingError(explain_store_error(str(folder.resolve()), error)) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from creating, migrating or relocating the store of a folder."""
    lock = FileLock(folder / "store.lock")
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout as error:
        raise TrackingError(explain_lock(folder.resolve() / "store.lock", LOCK_SECONDS)) from error
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class Relocation:
    """What was done to let a store find its artifacts.

    Attributes
    ----------
    mended : mapping of str to int
        Places, as they were stored, and how many runs now have their artifacts beside the store instead.
    elsewhere : mapping of str to tuple of str
        Places that were left as they are, because the artifacts are not here, and their experiments.
    """

    mended: Mapping[str, int]
    elsewhere: Mapping[str, tuple[str, ...]]


def mend_moved_store(folder: Path) -> Relocation:
    """Let a store that was moved with its folder find its artifacts again, and say so on standard error.

    MLflow stores where artifacts are as absolute paths; after a move the pages would show none, and new runs
    would go to the old place (https://github.com/mlflow/mlflow/issues/3144). What was not moved with the
    store is left where it is.

    Parameters
    ----------
    folder : Path
        Usually ``mlruns``. The caller holds the store's lock.

    Returns
    -------
    Relocation
    """
    relocation = _mend(folder)
    for there in relocation.mended:
        print(f"this run store was moved here from {there}: mended", file=sys.stderr)
    return relocation


def _mend(folder: Path) -> Relocation:
    database = folder / "mlflow.db"
    mended: dict[str, int] = {}
    elsewhere: dict[str, tuple[str, ...]] = {}
    if not database.is_file():
        return Relocation(mended, elsewhere)
    artifacts = folder.resolve() / "artifacts"
    here = artifacts.as_uri()
    with closing(connect(database)) as connection, connection:
        connection.isolation_level = "DEFERRED"  # all updates or none
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if not {"experiments", "runs"} <= tables:
            return Relocation(mended, elsewhere)
        places: dict[str, list[str]] = {}
        for place, name in connection.execute(
            "SELECT artifact_location, name FROM experiments WHERE experiment_id != 0 ORDER BY experiment_id"
        ):
            places.setdefault(str(place), []).append(str(name))
        for there, experiments in places.items():
            if there == here:
                continue
            # A place may be asked for that is no folder, such as a server's or a bucket; it does not move.
            if not there.startswith("file:") or not _came_along(connection, there, artifacts):
                elsewhere[there] = tuple(experiments)
                continue
            mended[there] = 0
            for table, column in PATH_COLUMNS:
                if table in tables:
                    changed = connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
                        f" WHERE substr({column}, 1, ?) = ? AND substr({column}, ?, 1) IN ('', '/')",
                        (here, len(there) + 1, len(there), there, len(there) + 1),
                    )
                    mended[there] += changed.rowcount if table == "runs" else 0
    return Relocation(mended, elsewhere)


def _came_along(connection: sqlite3.Connection, there: str, artifacts: Path) -> bool:
    """Return whether the artifacts of a place are beside the store now, or there are none to be anywhere."""
    runs = {
        run
        for (run,) in connection.execute(
            "SELECT run_uuid FROM runs JOIN experiments USING (experiment_id) WHERE artifact_location = ?",
            (there,),
        )
    }
    if not runs:
        return not Path(url2pathname(urlsplit(there).path)).exists()
    return artifacts.is_dir() and not runs.isdisjoint(entry.name for entry in artifacts.iterdir())


def relocate_store(folder: Path) -> Relocation:
    """Mend a store that was moved, on demand.

    Parameters
    ----------
    folder : Path
        Usually ``mlruns``.

    Returns
    -------
    Relocation

    Raises
    ------
    UsageError
        If the folder is no run store.
    TrackingError
        If the store is damaged, locked, or cannot be written.
    """
    database = folder / "mlflow.db"
    if not database.is_file():
        inner = folder / "mlruns"
        hint = f"; did you mean --folder {inner}?" if (inner / "mlflow.db").is_file() else ""
        raise UsageError(
            f"--folder {folder}: {folder.resolve()} has no mlflow.db, so it is no run store; "
            f"expected the folder that a run store lies in now, such as mlruns{hint}"
        )
    try:
        with _locked(folder):
            with closing(connect(database)) as connection:
                (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if verdict != "ok":
                raise TrackingError(_damaged(database, verdict))
            if not {"experiments", "runs"} <= tables:
                raise TrackingError(
                    f"{database.resolve()} has no tables of MLflow, so it is no run store; "
                    "expected the mlflow.db that runs were written to"
                )
            return _mend(folder)
    except sqlite3.OperationalError as error:
        if is_locked(error):
            raise TrackingError(explain_store_error(str(folder.resolve()), error)) from error
        raise TrackingError(
            f"{database.resolve()} cannot be written: {error}; check that this folder can be written"
        ) from error
    except sqlite3.DatabaseError as error:
        raise TrackingError(_damaged(database, str(error))) from error


def _damaged(database: Path, why: str) -> str:
    return (
        f"{database.resolve()} is damaged: {' '.join(why.split())}. Nothing was changed; copy it again from "
        "where it came from, or recover what is left with: sqlite3 mlflow.db .recover"
    )


def _end_abandoned_runs(client: MlflowClient, running: Path) -> None:
    """Call runs killed whose process is gone: the system gives a lock back when its owner dies."""
    for file in running.glob("*.lock"):
        lock = FileLock(file, timeout=0)
        # A lock that is held is of a run that lives; what cannot be asked now is asked the next time.
        with suppress(Timeout, MlflowException, OSError):
            # A file dated far ahead is not a new one: a clock was wrong.
            if abs(time.time() - file.stat().st_mtime) < SECONDS_TO_LOCK:
                continue
            with lock:
                reason = "its process ended without a word: killed, or no memory"
                end_dead_run(client, running, file.stem, reason)


def is_alive(store: Store, run_id: str) -> bool:
    """Return whether a process holds the lock of a run.

    Parameters
    ----------
    store : Store
    run_id : str

    Returns
    -------
    alive : bool
    """
    file = store.running / f"{run_id}.lock"
    try:
        with FileLock(file, timeout=0):
            return False
    except Timeout:
        return True


def end_dead_run(client: MlflowClient, running: Path, run_id: str, reason: str) -> None:
    """End a run in place of its process, unless the process did so itself, and remove the run's lock.

    Parameters
    ----------
    client : MlflowClient
    running : Path
        See `Store`.
    run_id : str
    reason : str
        Why it is KILLED, where its process left no note of how it ended.
    """
    note = EndingNote(running / f"{run_id}.end")
    try:
        status = client.get_run(run_id).info.status
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        status = "deleted"
    if status == "RUNNING":
        ending = note.read() or Ending("KILLED", reason)
        client.set_tag(run_id, ERROR_TAG, ending.reason)
        client.set_terminated(run_id, ending.status)
    note.remove()
    (running / f"{run_id}.lock").unlink(missing_ok=True)


def check_server(uri: str) -> None:
    """Refuse a tracking URI that is no server's, or that holds a password, which runs would then show.

    Parameters
    ----------
    uri : str

    Raises
    ------
    UsageError
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        raise UsageError(
            f"tracking.uri={uri} is no server; expected such as http://127.0.0.1:5000, or tracking=local"
        )
    if parts.username or parts.password:
        raise UsageError(
            "tracking.uri holds a user or password, which every run would show; put them into the "
            "environment variables MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )


def reach_server(uri: str, patience: float = 0.0) -> None:
    """Ask a server whether it is there; MLflow itself would go on asking for minutes.

    Parameters
    ----------
    uri : str
    patience : float
        For how many seconds to ask again.

    Raises
    ------
    TrackingError
        If it does not answer.
    """
    end = time.monotonic() + patience
    while True:
        try:
            with urlopen(f"{uri.rstrip('/')}/health", timeout=SERVER_SECONDS):
                return
        except HTTPError:
            return  # it answers; what it thinks of the question is MLflow's to find out
        except OSError as error:
            if time.monotonic() > end:
                raise TrackingError(explain_store_error(uri, error)) from error
            time.sleep(0.5)


def explain_store_error(where: str, error: BaseException) -> str:
    """Say in one message that a store cannot be used, why, and what to do.

    Parameters
    ----------
    where : str
        Folder or tracking URI.
    error : BaseException

    Returns
    -------
    message : str
    """
    if is_locked(error):
        is_folder = not where.startswith("sqlite:")
        database = Path(where) / DATABASE if is_folder else Path(unquote(where.removeprefix("sqlite:///")))
        return f"the run store cannot be used: {explain_lock(database)}"
    said = driver_error(error)
    first = first_line(said)
    return (
        f"the run store {where} cannot be used: {first}. Check that the folder can be written (or the server "
        "is up), choose another with tracking.folder=... or tracking.uri=..., or do without: tracking=off"
    )


def _find_or_make_experiment(client: MlflowClient, name: str, artifacts: str | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=artifacts)
        except MlflowException:
            # Another process made it in between, which only a server allows.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != LifecycleStage.ACTIVE:
        raise TrackingError(
            f"the experiment {name!r} is in MLflow's trash; restore it (mlflow experiments restore "
            f"--experiment-id {found.experiment_id}) or choose another name with tracking.experiment=..."
        )
    return str(found.experiment_id)
