"""Run stores: where MLflow keeps runs; any number of processes may open the same one at once."""

import logging
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from harness.errors import TrackingError, UsageError, suggest
from harness.tracking.choices import STORE_LOCK
from harness.tracking.database import DATABASE, database_uri, is_current, prepare_database
from harness.tracking.endings import end_abandoned_runs
from harness.tracking.locks import lock_file, retry_while_locked
from harness.tracking.relocation import find_artifact_locations, location_path
from harness.tracking.store_errors import format_store_error, translate_errors
from harness.tracking.tags import KIND_TAG

# Creating a store would otherwise list its migrations in the run's output.
logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)
# Prints the traceback of every attempt that a database refuses; `translate_errors` prints one message.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
# A server's address is printed once, with the scores.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

SERVER_SECONDS = 10.0  # to wait for an answer
PATIENCE_OF_WORKERS = 240.0  # seconds for which a worker of a sweep waits for a server to come back
GROUPS = "groups"  # value of the tag of experiments of group summaries, and end of their names
UI_PORT = 5050  # macOS uses MLflow's default, 5000


@dataclass(frozen=True)
class Store:
    """An open run store and the experiment of its new runs.

    Attributes
    ----------
    uri : str
        Tracking URI.
    directory : Path or None
        The directory ``mlruns`` of a local store.
    running : Path
        Directory of the locks that processes hold while their runs are RUNNING.
    """

    client: MlflowClient
    uri: str
    experiment_id: str
    directory: Path | None
    running: Path

    @property
    def argument(self) -> str:
        """The option with which a verb finds the store, with a space before it; empty for ``mlruns``."""
        return f" --uri {self.uri}" if self.directory is None else _folder_option(self.directory)


def _folder_option(directory: Path) -> str:
    return "" if directory == Path("mlruns").resolve() else f' --folder "{directory}"'


def local_uri(directory: Path) -> str:
    """Return the absolute tracking URI of the SQLite store in a directory."""
    return database_uri(directory / DATABASE)


def ui_address(uri: str) -> str:
    """Return the address of the MLflow UI of a store: its server, or that of ``harness ui``."""
    return uri.rstrip("/") if uri.startswith("http") else f"http://127.0.0.1:{UI_PORT}"


def run_link(address: str, experiment_id: str, run_id: str) -> str:
    """Return the link to a run in the MLflow UI at an address, for example ``http://127.0.0.1:5050``."""
    return f"{address}/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


def open_store(uri: str | None, directory: Path, experiment: str, patience: float = 0.0) -> Store:
    """Open a run store to write to; create it and the experiment if they are missing.

    Parameters
    ----------
    uri : str or None
        Tracking URI of a server; None means the local store in `directory`.
    directory : Path
        Of the local store, or of the locks of a server's runs.
    experiment : str
        Name of the experiment.
    patience : float
        Seconds to wait for a server that cannot be reached.

    Raises
    ------
    TrackingError
        If the store cannot be opened or written, or was moved.
    """
    if uri is None:
        with translate_errors(str(directory.resolve())):
            return _open_local_store(directory, experiment)
    with translate_errors(uri):
        reach_server(uri, patience)
        client = MlflowClient(tracking_uri=uri)
        running = server_locks(uri, directory)
        end_abandoned_runs(client, running)
        return Store(client, uri, _find_or_create_experiment(client, experiment, None), None, running)


def server_locks(uri: str, directory: Path) -> Path:
    """Return the directory of the locks of a server's runs: those of one are not looked for on another."""
    return directory.resolve() / "running" / re.sub(r"\W+", "_", uri)


def _open_local_store(directory: Path, experiment: str) -> Store:
    directory.mkdir(parents=True, exist_ok=True)
    directory = directory.resolve()
    uri, running = local_uri(directory), directory / "running"
    with lock_file(directory / STORE_LOCK):
        prepare_database(directory / DATABASE)
        client = MlflowClient(tracking_uri=uri)
        moved = retry_while_locked(lambda: find_artifact_locations(client, directory).moved)
        if moved:
            raise TrackingError(f"{_format_move(directory, moved)}, and then run the same command again")
        artifacts = (directory / "artifacts").as_uri()
        experiment_id = retry_while_locked(lambda: _find_or_create_experiment(client, experiment, artifacts))
        end_abandoned_runs(client, running)
    return Store(client, uri, experiment_id, directory, running)


def local_store_uri(directory: Path) -> str:
    """Return the tracking URI of an existing local store to read from; migrate one of an older MLflow.

    Runs whose processes were killed are marked KILLED, if the store can be written.

    Prints a notice on standard error if the store was moved. Raises TrackingError if the store does not
    exist or cannot be read; see `harness.tracking.database.prepare_database`.
    """
    directory = directory.resolve()
    database = directory / DATABASE
    if not database.exists():
        raise TrackingError(
            f"no runs yet in {directory}: it has no {DATABASE}. Start one with `python -m harness`, or "
            "choose another directory with --folder"
        )
    with translate_errors(str(directory)):
        if not is_current(database):
            with lock_file(directory / STORE_LOCK):
                prepare_database(database)
        moved = find_artifact_locations(MlflowClient(tracking_uri=local_uri(directory)), directory).moved
        if moved:
            print(f"notice: {_format_move(directory, moved)}", file=sys.stderr)
        else:
            end_abandoned_runs(MlflowClient(tracking_uri=local_uri(directory)), directory / "running")
    return local_uri(directory)


def _format_move(directory: Path, moved: Mapping[str, object]) -> str:
    places = " and ".join(str(location_path(location).parent) for location in moved)
    return (
        f"the run store {directory} was moved or copied from {places}, where MLflow still looks for the "
        f"files of its runs. Repair it with: python -m harness relocate{_folder_option(directory)}"
    )


def check_server(uri: str) -> None:
    """Raise UsageError if a tracking URI is not a server's, or has a password, which runs would then show."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        raise UsageError(
            f"tracking.uri={uri} is not a server; expected, for example, http://127.0.0.1:5000, or "
            "tracking=local"
        )
    if parts.username or parts.password:
        raise UsageError(
            "tracking.uri has a user or password, which every run would show; put them into the "
            "environment variables MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )


def reach_server(uri: str, patience: float = 0.0) -> None:
    """Raise TrackingError if a server does not answer for some seconds; MLflow would try for minutes."""
    end = time.monotonic() + patience
    while True:
        try:
            with urlopen(f"{uri.rstrip('/')}/health", timeout=SERVER_SECONDS):
                return
        except HTTPError:
            return  # a server answers; whether it is MLflow's, MLflow's client finds out
        except OSError as error:
            if time.monotonic() > end:
                raise TrackingError(format_store_error(uri, error)) from error
            time.sleep(0.5)


def find_experiments(
    client: MlflowClient, uri: str, name: str | None, with_groups: bool = False
) -> list[Experiment]:
    """Return the experiment of a name, or all of them; raise TrackingError if it does not exist.

    Parameters
    ----------
    with_groups : bool
        Whether all of them includes those of group summaries, whose runs are not decodings.
    """
    found = list(client.search_experiments())
    if name is None:
        return [item for item in found if with_groups or item.tags.get(KIND_TAG) != GROUPS]
    names = sorted(item.name for item in found)
    if name not in names:
        listed = f"{', '.join(names) or 'none'}.{suggest(name, names)}"
        raise TrackingError(f"no experiment {name!r} in {uri}; there are: {listed}")
    return [item for item in found if item.name == name]


def open_groups(store: Store, experiment_id: str) -> Store:
    """Open the experiment of the group summaries of an experiment's runs; create it if it is missing.

    Raises
    ------
    TrackingError
        If the store cannot be written, or the experiment is in MLflow's trash.
    """
    client = store.client
    with translate_errors(store.uri), lock_file(store.running / "groups"):
        name = f"{retry_while_locked(lambda: client.get_experiment(experiment_id)).name} {GROUPS}"
        artifacts = None if store.directory is None else (store.directory / "artifacts").as_uri()
        found = retry_while_locked(lambda: _find_or_create_experiment(client, name, artifacts))
        retry_while_locked(lambda: client.set_experiment_tag(found, KIND_TAG, GROUPS))
    return replace(store, experiment_id=found)


def _find_or_create_experiment(client: MlflowClient, name: str, artifacts: str | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=artifacts)
        except MlflowException:
            # Another process created it in between, which only a server allows.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != LifecycleStage.ACTIVE:
        raise TrackingError(
            f"the experiment {name!r} is in MLflow's trash; restore it (mlflow experiments restore "
            f"--experiment-id {found.experiment_id}) or choose another name with tracking.experiment=..."
        )
    return str(found.experiment_id)
