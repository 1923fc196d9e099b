"""The only writer of MLflow runs: one flat run per decoding, RUNNING until FINISHED, FAILED or KILLED."""

import getpass
import json
import logging
import math
import os
import sqlite3
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote, urlparse, urlsplit
from urllib.request import url2pathname, urlopen

from filelock import FileLock, Timeout
from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from harness.decoding import Decoding
from harness.errors import HarnessError, TrackingError, UsageError
from harness.provenance import git_commit, package_versions
from harness.volumes import list_files

# Making a store would otherwise announce its migrations among the run's own output.
logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)
# A server's address is printed once, with the scores.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

MAX_PARAM, MAX_TAG = 6000, 5000  # characters; beyond, kinds of store cut or refuse a value
LOCK_SECONDS = 120
SERVER_SECONDS = 10
RUNNING = "running"  # folder of the locks that processes hold while their runs are RUNNING

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
    """

    client: MlflowClient
    uri: str
    experiment_id: str
    folder: Path | None


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
    # SQLAlchemy would read '%41' as 'A', and take what follows a '?' for an option.
    return f"sqlite:///{quote((folder.resolve() / 'mlflow.db').as_posix(), safe='/:')}"


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


def open_store(uri: str | None, folder: Path, experiment: str) -> Store:
    """Open a run store, making it and the experiment where they are missing.

    Parameters
    ----------
    uri : str or None
        Tracking URI of a server; None means the local store in `folder`.
    folder : Path
        Where the local store lives.
    experiment : str
        Name of the experiment.

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
            # Making a store takes 68 migrations; two processes that make the same one at once both die.
            with FileLock(folder / "store.lock", timeout=LOCK_SECONDS):
                mend_moved_store(folder)
                client = MlflowClient(tracking_uri=local_uri(folder))
                artifacts = (folder.resolve() / "artifacts").as_uri()
                experiment_id = _find_or_make_experiment(client, experiment, artifacts)
                _end_abandoned_runs(client, folder)
            return Store(client, local_uri(folder), experiment_id, folder.resolve())
        assert uri is not None
        _reach_server(uri)
        client = MlflowClient(tracking_uri=uri)
        return Store(client, uri, _find_or_make_experiment(client, experiment, None), None)
    except Timeout as error:
        raise TrackingError(
            f"the run store {where} has been locked by another process for {LOCK_SECONDS} s; "
            "wait for it, or end it"
        ) from error
    except TrackingError:
        raise
    except Exception as error:  # the disk, SQLAlchemy, alembic and requests all raise types of their own
        raise TrackingError(explain_store_error(where, error)) from error


def mend_moved_store(folder: Path) -> None:
    """Let a store that was moved with its folder find its artifacts again.

    MLflow stores where artifacts are as absolute paths; after a move the pages would show none, and new runs
    would go to the old place (https://github.com/mlflow/mlflow/issues/3144).

    Parameters
    ----------
    folder : Path
        Usually ``mlruns``.
    """
    database, here = folder / "mlflow.db", (folder.resolve() / "artifacts").as_uri()
    if not database.is_file():
        return
    with closing(sqlite3.connect(database)) as connection, connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if "experiments" not in tables:
            return
        places = connection.execute(
            "SELECT DISTINCT artifact_location FROM experiments WHERE experiment_id != 0"
        ).fetchall()
        for (there,) in places:
            if there == here or not str(there).startswith("file:"):
                continue
            for table, column in PATH_COLUMNS:
                if table in tables:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
                        f" WHERE substr({column}, 1, ?) = ?",
                        (here, len(there) + 1, len(there), there),
                    )
            print(f"this run store was moved here from {there}: mended", file=sys.stderr)


def _end_abandoned_runs(client: MlflowClient, folder: Path) -> None:
    """Call runs killed whose process is gone: the system gives a lock back when its owner dies."""
    for file in (folder / RUNNING).glob("*.lock"):
        lock = FileLock(file, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            continue  # alive
        try:
            with suppress(MlflowException):
                if client.get_run(file.stem).info.status == "RUNNING":
                    client.set_terminated(file.stem, "KILLED")
        finally:
            lock.release()
            file.unlink(missing_ok=True)


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


def _reach_server(uri: str) -> None:
    """Ask a server whether it is there; MLflow itself would go on asking for minutes."""
    try:
        with urlopen(f"{uri.rstrip('/')}/health", timeout=SERVER_SECONDS):
            return
    except HTTPError:
        return  # it answers; what it thinks of the question is MLflow's to find out
    except OSError as error:
        raise TrackingError(explain_store_error(uri, error)) from error


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
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
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


class TrackedRun:
    """One MLflow run that is being written.

    Parameters
    ----------
    store : Store
    name : str
        Name of the run.
    params : mapping of str to str
        Group choices and resolved configuration.
    tags : mapping of str to str
        What is known before anything is computed.
    """

    def __init__(self, store: Store, name: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        self.store = store
        every_tag = _system_tags() | dict(tags)
        run = store.client.create_run(
            store.experiment_id,
            run_name=name,
            tags={key: _cut(value, MAX_TAG) for key, value in every_tag.items()},
        )
        self.run_id = str(run.info.run_id)
        self._alive = None
        if store.folder is not None:
            (store.folder / RUNNING).mkdir(exist_ok=True)
            self._alive = FileLock(store.folder / RUNNING / f"{self.run_id}.lock")
            self._alive.acquire()
        # At once, so that a run that is killed still says what it was.
        self._log([], params, {})
        self.artifact_uri = str(run.info.artifact_uri)

    @property
    def where(self) -> str:
        """Where the artifacts are: a folder of this machine, or a server's address."""
        if self.store.folder is not None and self.artifact_uri.startswith("file:"):
            return str(Path(url2pathname(urlparse(self.artifact_uri).path)))
        return self.artifact_uri

    @property
    def store_argument(self) -> str:
        """What the verbs have to be told to find the store from where the run was started."""
        if self.store.folder is None:
            return f" --uri {self.store.uri}"
        if self.store.folder == Path("mlruns").resolve():
            return ""
        return f' --folder "{self.store.folder}"'

    @property
    def link(self) -> str:
        """Address of the run's page, once a UI is open."""
        experiment = f"{ui_address(self.store.uri)}/#/experiments/{self.store.experiment_id}"
        return f"{experiment}/runs/{self.run_id}?workflowType=machine_learning"

    def finish(self, decoding: Decoding, artifacts: Path, seconds: Mapping[str, float]) -> None:
        """Log everything that a decoding found, and only then call the run finished.

        Parameters
        ----------
        decoding : Decoding
        artifacts : Path
            Folder whose files become the run's artifacts.
        seconds : mapping of str to float
            Wall time of the stages, those after the decoding included.
        """
        client = self.store.client
        client.log_artifacts(self.run_id, str(artifacts))
        client.log_inputs(self.run_id, [_dataset_input(decoding)])
        facts = {
            "n_samples": len(decoding.samples.y),
            "n_voxels": decoding.samples.n_voxels,
            "n_folds": len(decoding.folds),
        }
        params = {name: str(value) for name, value in facts.items()}
        self._log(fold_metrics(decoding) + summary_metrics(decoding, seconds), params, result_tags(decoding))
        client.set_terminated(self.run_id, "FINISHED")
        self._release()

    def stop(self, status: str, error: BaseException) -> None:
        """End a run that did not come to its end, with the reason as an artifact.

        Parameters
        ----------
        status : {"FAILED", "KILLED"}
        error : BaseException
        """
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        client = self.store.client
        try:
            client.log_text(self.run_id, "".join(traceback.format_exception(error)), "error.txt")
            self._log([], {}, {"harness.error": reason})
        finally:
            # Whatever else is lost, a run that failed must not go on looking as if it ran.
            client.set_terminated(self.run_id, status)
            self._release()

    def _release(self) -> None:
        if self._alive is not None:
            self._alive.release()
            Path(self._alive.lock_file).unlink(missing_ok=True)

    def _log(self, metrics: list[Metric], params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Write everything with one batch, which the client splits where the store asks for it."""
        self.store.client.log_batch(
            self.run_id,
            metrics,
            [Param(name, _cut(value, MAX_PARAM)) for name, value in params.items()],
            [RunTag(name, _cut(value, MAX_TAG)) for name, value in tags.items()],
        )


@contextmanager
def track_run(
    store: Store, name: str, params: Mapping[str, str], tags: Mapping[str, str]
) -> Iterator[TrackedRun]:
    """Start a run, and end it as FAILED or KILLED if what happens inside does not end well.

    Parameters
    ----------
    store, name, params, tags
        See `TrackedRun`.

    Yields
    ------
    TrackedRun
        To be finished by the caller.

    Raises
    ------
    TrackingError
        If the store stops taking what is written.
    """
    try:
        run = TrackedRun(store, name, params, tags)
    except Exception as error:  # MLflow lets through whatever the store's driver raises
        raise TrackingError(explain_store_error(store.uri, error)) from error
    try:
        yield run
    except BaseException as error:
        killed = isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit)
        try:
            run.stop("KILLED" if killed else "FAILED", error)
        except Exception as second:
            raise TrackingError(
                f"{explain_store_error(store.uri, second)}. Run {run.run_id} failed before that: {error}"
            ) from error
        if isinstance(error, HarnessError) or not isinstance(error, MlflowException):
            raise
        raise TrackingError(explain_store_error(store.uri, error)) from error


def fold_metrics(decoding: Decoding) -> list[Metric]:
    """Return one metric per fold and score, with the fold as its step, from 1.

    Parameters
    ----------
    decoding : Decoding

    Returns
    -------
    metrics : list of Metric
        ``selected/<scorer>``, ``test/<scorer>`` and ``best_<parameter>``; undefined values are left out.
    """
    now = int(time.time() * 1000)
    metrics = []
    for column in decoding.folds.columns:
        kind, _, rest = column.partition("_")
        if kind not in ("selected", "test", "best"):
            continue
        key = column if kind == "best" else f"{kind}/{rest}"
        for fold, value in zip(decoding.folds["fold"], decoding.folds[column], strict=True):
            if isinstance(value, int | float) and math.isfinite(value):
                metrics.append(Metric(key, float(value), now, int(fold)))
    return metrics


def summary_metrics(decoding: Decoding, seconds: Mapping[str, float]) -> list[Metric]:
    """Return mean and standard deviation over folds, train accuracy, and seconds per stage.

    Parameters
    ----------
    decoding : Decoding
    seconds : mapping of str to float

    Returns
    -------
    metrics : list of Metric
        MLflow's tables show the last fold of a stepped metric, which is why the mean has a name of its own.
    """
    now = int(time.time() * 1000)
    values = {"train_accuracy": decoding.train_accuracy}
    for score, row in decoding.summarise().iterrows():
        values |= {f"{score}_mean": row["mean"], f"{score}_std": row["sd"]}
    values |= {f"seconds/{stage}": value for stage, value in seconds.items()}
    return [Metric(key, float(value), now, 0) for key, value in values.items() if math.isfinite(value)]


def result_tags(decoding: Decoding) -> dict[str, str]:
    """Return what is known of a run only after its data were read.

    Parameters
    ----------
    decoding : Decoding

    Returns
    -------
    tags : dict of str to str
    """
    tags = {f"harness.digest.{name}": digest for name, digest in decoding.samples.digests.items()}
    tags["harness.warnings"] = str(len(decoding.warnings))
    if decoding.warnings:
        tags["harness.warnings.text"] = "\n".join(decoding.warnings)
    if decoding.weights:
        tags["harness.weights.positive"] = ", ".join(weights.positive for weights in decoding.weights)
    tags["mlflow.note.content"] = describe_decoding(decoding)
    return tags


def describe_decoding(decoding: Decoding) -> str:
    """Return the text that heads the run's page in the MLflow UI.

    Parameters
    ----------
    decoding : Decoding

    Returns
    -------
    text : str, Markdown
    """
    samples = decoding.samples
    lines = [
        f"**{decoding.recording.dataset} subject {decoding.recording.subject}**: "
        f"{' vs '.join(samples.contrast.classes)}, {decoding.estimator.name}, cv={decoding.scheme.name}; "
        f"{len(samples.y)} volumes, {samples.n_voxels} voxels.",
        "",
        "| score | mean over folds | SD |",
        "|---|---|---|",
    ]
    for score, row in decoding.summarise().iterrows():
        lines.append(f"| {score} | {row['mean']:.3f} | {row['sd']:.3f} |")
    lines += [
        "",
        "*selected*: parameters chosen on the fold that is scored (nilearn's `cv_scores_`); "
        "*test*: volumes that took part in no choice.",
    ]
    if decoding.recording.notice:
        lines += ["", f"**{decoding.recording.notice}**"]
    lines += [f"- warning: {text}" for text in decoding.warnings]
    return "\n".join(lines)


def _dataset_input(decoding: Decoding) -> DatasetInput:
    recording, samples = decoding.recording, decoding.samples
    profile = {
        "volumes": len(recording.labels),
        "samples": len(samples.y),
        "voxels": samples.n_voxels,
        "classes": list(samples.contrast.classes),
    }
    dataset = Dataset(
        name=f"{recording.dataset} subject {recording.subject}",
        digest=samples.digests["bold"][:32],  # MLflow takes at most 36 characters
        source_type="local",
        source=json.dumps({"uri": list_files(recording.bold)[0].resolve().as_uri()}),
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "decoding")])


def _system_tags() -> dict[str, str]:
    tags = {f"harness.version.{name}": version for name, version in package_versions().items()}
    commit = git_commit()
    if commit is not None:
        tags["mlflow.source.git.commit"] = commit
    # MLflow's client, unlike its fluent interface, does not fill these in.
    return tags | {"mlflow.user": _user(), "mlflow.source.name": "harness", "mlflow.source.type": "LOCAL"}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such account, as in some containers
        return "unknown"


def _cut(value: str, length: int) -> str:
    return value if len(value) <= length else value[: length - 4] + " ..."
