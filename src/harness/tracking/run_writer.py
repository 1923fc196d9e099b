"""The only writer of MLflow runs: one flat run per decoding, RUNNING until FINISHED, FAILED or KILLED."""

import getpass
import math
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import mlflow
from filelock import FileLock, Timeout
from mlflow.entities import DatasetInput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from harness.errors import TrackingError, first_line
from harness.tracking.endings import Ending, EndingNote, Status
from harness.tracking.file_digests import write_digests
from harness.tracking.locks import retry_while_locked
from harness.tracking.provenance import digest_sources, git_commit, package_versions
from harness.tracking.relocation import location_path
from harness.tracking.run_content import FIGURES, RunContent
from harness.tracking.store import Store, run_link, ui_address
from harness.tracking.store_errors import format_store_error, translate_errors
from harness.tracking.tags import (
    AUDIT_TAG,
    CODE_TAG,
    COMMIT_TAG,
    DIRECTORY_TAG,
    ERROR_TAG,
    FILES_TAG,
    IDENTITY_TAG,
    NOTICES_TAG,
    VERSION_TAG,
)

SECONDS_BETWEEN_CLAIMS = 0.5
MAX_PARAM, MAX_TAG = 6000, 5000  # characters; some kinds of store cut or refuse longer values
# Exit statuses of a process that a signal ends, and the signal's name.
_EXITS_BY_SIGNAL: Mapping[object, str] = {128 + number: number.name for number in signal.Signals}


@dataclass(frozen=True)
class FinishedRun:
    """A finished run of a store, with its metrics and tags."""

    run_id: str
    name: str
    scores: Mapping[str, float]
    tags: Mapping[str, str]

    @property
    def notices(self) -> list[str]:
        """See `harness.decoding.decode.Decoding.notices`."""
        return self.tags.get(NOTICES_TAG, "").splitlines()

    @property
    def audit(self) -> str:
        """The worst verdict of the audit; empty for a run of an earlier version."""
        return self.tags.get(AUDIT_TAG, "")


class TrackedRun:
    """One MLflow run that is being written.

    Parameters
    ----------
    params : mapping of str to str
        Group choices and resolved configuration.
    tags : mapping of str to str
        Those that are known before the decoding.
    """

    def __init__(self, store: Store, name: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        self.store = store
        all_tags = _system_tags() | dict(tags)
        cut_tags = {key: _cut(value, MAX_TAG) for key, value in all_tags.items()}
        run = retry_while_locked(
            lambda: store.client.create_run(store.experiment_id, run_name=name, tags=cut_tags)
        )
        self.run_id = str(run.info.run_id)
        self.artifact_uri = str(run.info.artifact_uri)
        self._lock = FileLock(store.running / f"{self.run_id}.lock")
        self._note = EndingNote(store.running / f"{self.run_id}.end")
        try:
            store.running.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            self._note.reserve()
            # At once, so that a run that is killed has its parameters.
            retry_while_locked(lambda: self._log([], params, {}))
        except BaseException as error:
            # The caller does not have the run yet, so it cannot end it.
            self.stop("FAILED" if isinstance(error, Exception) else "KILLED", error)
            raise

    @property
    def where(self) -> str:
        """Where the artifacts are: a directory of this machine, or an address of a server."""
        if self.store.directory is not None and self.artifact_uri.startswith("file:"):
            return str(location_path(self.artifact_uri))
        return self.artifact_uri

    @property
    def page(self) -> str:
        """The link to the run in a server's MLflow UI, or the command that opens it from a local store."""
        if self.store.directory is not None:
            return f"python -m harness ui{self.store.argument} --run {self.run_id}"
        return run_link(ui_address(self.store.uri), self.store.experiment_id, self.run_id)

    def finish(self, content: RunContent, artifacts: Path) -> None:
        """Log the results of a run, and then mark it FINISHED.

        Parameters
        ----------
        artifacts : Path
            Directory whose files become the run's artifacts.
        """
        client = self.store.client
        tags = {**content.tags, FILES_TAG: write_digests(artifacts)}
        # All of them can be repeated: a value that the store already has stays the same.
        retry_while_locked(lambda: client.log_artifacts(self.run_id, str(artifacts)))
        if content.figure is not None:
            self._log_figure(content.figure)
        retry_while_locked(lambda: self._log_input(content.dataset))
        retry_while_locked(lambda: self._log(content.metrics, content.params, tags))
        retry_while_locked(lambda: client.set_terminated(self.run_id, "FINISHED"))
        self._release()

    def finish_summary(self, metrics: Mapping[str, float], artifacts: Path) -> None:
        """Log the metrics and files of a run that is not a decoding, and then mark it FINISHED."""
        client, now = self.store.client, int(time.time() * 1000)
        logged = [Metric(name, value, now, 0) for name, value in metrics.items() if math.isfinite(value)]
        tags = {FILES_TAG: write_digests(artifacts)}
        retry_while_locked(lambda: client.log_artifacts(self.run_id, str(artifacts)))
        retry_while_locked(lambda: self._log(logged, {}, tags))
        retry_while_locked(lambda: client.set_terminated(self.run_id, "FINISHED"))
        self._release()

    def stop(self, status: Status, error: BaseException) -> None:
        """End a run that did not finish, with the reason as a tag and the traceback as an artifact.

        If the store cannot be written, the end is noted near it, and entered by the next opening.
        """
        reason = self._describe_end(error)
        client = self.store.client
        with suppress(OSError):  # without a note, the next opening marks the run KILLED
            self._note.write(Ending(status, reason))
        try:
            self._log([], {}, {ERROR_TAG: reason})
            with suppress(OSError):  # the disk is too full for the traceback; the reason is in the tag
                client.log_text(self.run_id, "".join(traceback.format_exception(error)), "error.txt")
        finally:
            try:
                # Whatever else is lost, a run that failed must not stay RUNNING.
                client.set_terminated(self.run_id, status)
            finally:
                # The files of lock and note stay unless the store has the end: the next opening needs them.
                self._lock.release()
        self._release()

    def _describe_end(self, error: BaseException) -> str:
        """Return in one line why the run ended."""
        if isinstance(error, SystemExit) and error.code in _EXITS_BY_SIGNAL:
            return f"stopped by {_EXITS_BY_SIGNAL[error.code]}"
        if isinstance(error, MlflowException):  # whose first line may be SQLAlchemy's advice
            return format_store_error(self.store.uri, error).splitlines()[0]
        return first_line(error)

    def _log_figure(self, file: Path) -> None:
        """Log a figure for the panel in which the MLflow UI shows those of several runs."""
        figure = mlflow.Image(str(file))
        retry_while_locked(lambda: self.store.client.log_image(self.run_id, figure, key=FIGURES))

    def _log_input(self, dataset: DatasetInput) -> None:
        """Log which data the run read.

        If two processes are the first to log a data set, MLflow's database refuses one of them
        (UniqueViolation of dataset_pk); a second try finds the data set there.
        """
        for last in (False, False, True):
            try:
                self.store.client.log_inputs(self.run_id, [dataset])
                return
            except MlflowException as error:
                if last or "dataset" not in str(error):
                    raise

    def _release(self) -> None:
        self._note.remove()
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)

    def _log(self, metrics: Sequence[Metric], params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Write everything with one batch, which the client splits where the store requires it."""
        self.store.client.log_batch(
            self.run_id,
            list(metrics),
            [Param(name, _cut(value, MAX_PARAM)) for name, value in params.items()],
            [RunTag(name, _cut(value, MAX_TAG)) for name, value in tags.items()],
        )


@contextmanager
def track_run(
    store: Store, name: str, params: Mapping[str, str], tags: Mapping[str, str]
) -> Iterator[TrackedRun]:
    """Start a run, which the caller finishes; end it as FAILED or KILLED if the block raises an exception.

    Raises TrackingError if the store can no longer be written.
    """
    with translate_errors(store.uri):
        run = TrackedRun(store, name, params, tags)
    try:
        yield run
    except BaseException as error:
        killed = isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit)
        try:
            run.stop("KILLED" if killed else "FAILED", error)
        except Exception as second:
            raise TrackingError(
                f"{format_store_error(store.uri, second)}. Run {run.run_id} failed before that: {error}"
            ) from error
        if isinstance(error, MlflowException):
            raise TrackingError(format_store_error(store.uri, error)) from error
        raise


def find_finished(store: Store, identity: str) -> FinishedRun | None:
    """Return the newest finished run of a fingerprint that was not deleted, None if there is none."""
    query = f"attributes.status = 'FINISHED' AND tags.`{IDENTITY_TAG}` = '{identity}'"
    with translate_errors(store.uri):
        found = retry_while_locked(
            lambda: store.client.search_runs([store.experiment_id], query, max_results=1)
        )
    if not found:
        return None
    run = found[0]
    return FinishedRun(str(run.info.run_id), str(run.info.run_name), run.data.metrics, run.data.tags)


@contextmanager
def claim_run(store: Store, identity: str, report_wait: Callable[[], None]) -> Iterator[None]:
    """Claim a run, so that no other process computes the same; wait while another process has the claim.

    The claim is a lock in the store's directory, which the system releases when its process dies. It holds
    among the processes that share ``tracking.folder``. Machines that share only a server may compute the same
    run twice, and the server keeps both results.

    Parameters
    ----------
    identity : str
        Fingerprint of the run.
    report_wait : callable
        Called once if another process has the claim.
    """
    file = store.running / "claims" / f"{store.experiment_id}-{identity}.lock"
    lock = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            report_wait()
            lock.acquire(timeout=-1, poll_interval=SECONDS_BETWEEN_CLAIMS)
    except OSError as error:
        raise TrackingError(format_store_error(store.uri, error)) from error
    try:
        yield
    finally:
        # While it is held: waiting processes look for the file by its name. Windows keeps an open file.
        with suppress(OSError):
            file.unlink()
        lock.release()


def _system_tags() -> dict[str, str]:
    tags = {f"{VERSION_TAG}.{name}": version for name, version in package_versions().items()}
    tags |= {CODE_TAG: digest_sources(), DIRECTORY_TAG: str(Path.cwd())}
    commit = git_commit()
    if commit is not None:
        tags[COMMIT_TAG] = commit
    # MLflow's client, unlike its fluent interface, does not fill these in.
    return tags | {"mlflow.user": _user(), "mlflow.source.name": "harness", "mlflow.source.type": "LOCAL"}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such account, as in some containers
        return "unknown"


def _cut(value: str, length: int) -> str:
    return value if len(value) <= length else value[: length - 4] + " ..."
