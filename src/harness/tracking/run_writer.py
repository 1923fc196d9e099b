"""The only writer of MLflow runs: one flat run per decoding, RUNNING until FINISHED, FAILED or KILLED."""

import getpass
import html
import json
import math
import re
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlparse
from urllib.request import url2pathname

from filelock import FileLock, Timeout
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from harness.datasets.images import list_files
from harness.errors import HarnessError, TrackingError, escape_controls, first_line
from harness.tracking.databases import explain_lock, retry_while_locked
from harness.tracking.endings import Ending, EndingNote
from harness.tracking.ledger import Sweep
from harness.tracking.provenance import git_commit, package_versions
from harness.tracking.store import (
    ERROR_TAG,
    IDENTITY_TAG,
    LOCK_SECONDS,
    SWEEP_TAG,
    Store,
    end_dead_run,
    explain_store_error,
    is_alive,
    run_link,
    ui_address,
)

if TYPE_CHECKING:
    from harness.decoding.decode import Decoding

MAX_SWEEPS = 150  # of which a run remembers that they asked for it
SECONDS_BETWEEN_CLAIMS = 0.5
# Exit statuses of a process that a signal ends, and the signal's name.
_EXITS_BY_SIGNAL: Mapping[object, str] = {128 + number: number.name for number in signal.Signals}
MAX_PARAM, MAX_TAG = 6000, 5000  # characters; beyond, kinds of store cut or refuse a value


@dataclass(frozen=True)
class FinishedRun:
    """A run that has finished.

    Attributes
    ----------
    run_id : str
    name : str
    scores : mapping of str to float
        All its metrics, means and standard deviations among them.
    tags : mapping of str to str
    """

    run_id: str
    name: str
    scores: Mapping[str, float]
    tags: Mapping[str, str]

    @property
    def notices(self) -> list[str]:
        """What must be said of its result; see `harness.decoding.decode.Decoding.notices`."""
        return self.tags.get("harness.notices", "").splitlines()


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
        cut_tags = {key: _cut(value, MAX_TAG) for key, value in every_tag.items()}
        run = retry_while_locked(
            lambda: store.client.create_run(store.experiment_id, run_name=name, tags=cut_tags)
        )
        self.run_id = str(run.info.run_id)
        self.artifact_uri = str(run.info.artifact_uri)
        self._alive = FileLock(store.running / f"{self.run_id}.lock")
        self._note = EndingNote(store.running / f"{self.run_id}.end")
        try:
            store.running.mkdir(parents=True, exist_ok=True)
            self._alive.acquire()
            self._note.reserve()
            # At once, so that a run that is killed still says what it was.
            retry_while_locked(lambda: self._log([], params, {}))
        except BaseException as error:
            # Nobody has the run yet who could end it.
            self.stop("FAILED" if isinstance(error, Exception) else "KILLED", error)
            raise

    @property
    def where(self) -> str:
        """Where the artifacts are: a folder of this machine, or a server's address."""
        if self.store.folder is not None and self.artifact_uri.startswith("file:"):
            return str(Path(url2pathname(urlparse(self.artifact_uri).path)))
        return self.artifact_uri

    @property
    def page(self) -> str:
        """The address of the run's page on a server, or the command that opens it from a local store."""
        if self.store.folder is not None:
            return f"python -m harness ui{self.store.argument} --run {self.run_id}"
        return run_link(ui_address(self.store.uri), self.store.experiment_id, self.run_id)

    def finish(self, decoding: "Decoding", artifacts: Path, seconds: Mapping[str, float]) -> None:
        """Log everything that a decoding found, and only then call the run finished.

        Parameters
        ----------
        decoding : Decoding
        artifacts : Path
            Folder whose files become the run's artifacts.
        seconds : mapping of str to float
            Wall time of the stages, those after the decoding included.
        """
        facts = {
            "n_samples": len(decoding.samples.y),
            "n_voxels": decoding.samples.n_voxels,
            "n_folds": len(decoding.folds),
            "n_folds_skipped": len(decoding.skipped),
        }
        params = {name: str(value) for name, value in facts.items()}
        metrics = fold_metrics(decoding) + summary_metrics(decoding, seconds)
        client = self.store.client
        # Each of them can be repeated: what the store has already is the same.
        retry_while_locked(lambda: client.log_artifacts(self.run_id, str(artifacts)))
        retry_while_locked(lambda: self._log_input(_dataset_input(decoding)))
        retry_while_locked(lambda: self._log(metrics, params, result_tags(decoding)))
        retry_while_locked(lambda: client.set_terminated(self.run_id, "FINISHED"))
        self._release()

    def stop(self, status: Literal["FAILED", "KILLED"], error: BaseException) -> None:
        """End a run that did not come to its end, with the reason as a tag and the traceback as an artifact.

        Where the store cannot be written, the end is noted beside it, and entered when it is opened next.

        Parameters
        ----------
        status : {"FAILED", "KILLED"}
        error : BaseException
        """
        reason = self._describe_end(error)
        client = self.store.client
        with suppress(OSError):  # without a note, the next opening calls the run killed
            self._note.write(Ending(status, reason))
        try:
            self._log([], {}, {ERROR_TAG: reason})
            with suppress(OSError):  # the disk is too full for the traceback; the reason is in the tag
                client.log_text(self.run_id, "".join(traceback.format_exception(error)), "error.txt")
        finally:
            try:
                # Whatever else is lost, a run that failed must not go on looking as if it ran.
                client.set_terminated(self.run_id, status)
            finally:
                # The files of lock and note stay unless the store has the end: the next opening needs them.
                self._alive.release()
        self._release()

    def _describe_end(self, error: BaseException) -> str:
        """Return in one line why the run ended."""
        if isinstance(error, SystemExit) and error.code in _EXITS_BY_SIGNAL:
            return f"stopped by {_EXITS_BY_SIGNAL[error.code]}"
        text = first_line(error)
        if isinstance(error, MlflowException):  # whose first line may be SQLAlchemy's advice
            text = explain_store_error(self.store.uri, error)
        return text.splitlines()[0]

    def _log_input(self, dataset: DatasetInput) -> None:
        """Say which data the run read.

        Of two processes that are the first to name a data set, MLflow's database refuses one
        (UniqueViolation of dataset_pk); asked again, it finds the data set there.
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


def find_finished(store: Store, identity: str) -> FinishedRun | None:
    """Find a run that has finished with the same identity.

    Parameters
    ----------
    store : Store
    identity : str
        See `harness.tracking.fingerprint.identify`.

    Returns
    -------
    FinishedRun or None
        The newest, if there are several; one that was deleted does not count.

    Raises
    ------
    TrackingError
        If the store cannot be read.
    """
    asked = f"attributes.status = 'FINISHED' AND tags.`{IDENTITY_TAG}` = '{identity}'"
    try:
        found = retry_while_locked(
            lambda: store.client.search_runs([store.experiment_id], asked, max_results=1)
        )
    except Exception as error:
        raise TrackingError(explain_store_error(store.uri, error)) from error
    if not found:
        return None
    run = found[0]
    return FinishedRun(str(run.info.run_id), str(run.info.run_name), run.data.metrics, run.data.tags)


@contextmanager
def claim_run(store: Store, identity: str, report_wait: Callable[[], None]) -> Iterator[None]:
    """Claim what a run computes, so that no other process computes the same; wait while another one has it.

    The claim is a lock in the store's folder, which the system returns when its process dies. It holds among
    the processes that share ``tracking.folder``. Machines that share nothing but a server do not see each
    other's claims: they may compute the same run twice, and the server keeps both results.

    Parameters
    ----------
    store : Store
    identity : str
        See `harness.tracking.fingerprint.identify`.
    report_wait : callable
        Called once if another process has the claim.

    Raises
    ------
    TrackingError
        If the folder cannot be written.
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
        raise TrackingError(explain_store_error(store.uri, error)) from error
    try:
        yield
    finally:
        # While it is held: who waits looks for the file by its name. Windows keeps a file that is open.
        with suppress(OSError):
            file.unlink()
        lock.release()


def join_sweep(store: Store, run: FinishedRun, sweep: str) -> None:
    """Let a run that had finished before belong to a sweep that would have computed it again.

    Parameters
    ----------
    store : Store
    run : FinishedRun
    sweep : str
        Name of the sweep.

    Raises
    ------
    TrackingError
        If the store cannot be written, or another process holds the lock for too long.
    """

    def add_name() -> None:
        sweeps = store.client.get_run(run.run_id).data.tags.get(SWEEP_TAG, "").split()
        if sweep not in sweeps:
            store.client.set_tag(run.run_id, SWEEP_TAG, " ".join([*sweeps, sweep][-MAX_SWEEPS:]))

    lock = store.running / "joining"
    try:
        # Sweeps that run at the same time add their names one after the other.
        with FileLock(lock, timeout=LOCK_SECONDS):
            retry_while_locked(add_name)
    except Timeout as error:
        raise TrackingError(explain_lock(lock, LOCK_SECONDS)) from error
    except Exception as error:  # whatever the store's driver raises
        raise TrackingError(explain_store_error(store.uri, error)) from error


def begin_sweep(store: Store, sweep: str, command: str, total: int | None) -> None:
    """Note in the experiment that a sweep begins.

    Parameters
    ----------
    store : Store
    sweep : str
        Name of the sweep.
    command : str
        What the user typed.
    total : int or None
        How many runs it will have, where that is known.
    """
    note = {"started": _now(), "ended": None, "command": command, "total": total}
    _write_sweep(store, sweep, note)


def close_sweep(store: Store, sweep: Sweep) -> None:
    """Note in the experiment what became of a sweep, and end the runs whose processes could not.

    Parameters
    ----------
    store : Store
    sweep : Sweep

    Raises
    ------
    TrackingError
        If the store cannot be written.
    """
    client, tag = store.client, f"{SWEEP_TAG}.{sweep.id}"

    def end_dead_runs() -> None:
        left = f"tags.`{SWEEP_TAG}` LIKE '%{sweep.id}%' AND attributes.status = 'RUNNING'"
        for run in client.search_runs([store.experiment_id], left):
            if not is_alive(store, run.info.run_id):
                end_dead_run(client, store.running, run.info.run_id, "its process was killed")

    try:
        retry_while_locked(end_dead_runs)
        if not sweep.taken() and not sweep.count():  # a usage error: no job was begun
            retry_while_locked(lambda: client.delete_experiment_tag(store.experiment_id, tag))
            return
        tags = retry_while_locked(lambda: client.get_experiment(store.experiment_id)).tags
        note = json.loads(tags.get(tag, "{}"))
        counts = sweep.count()
        note |= {status: counts[status] for status in ("finished", "skipped", "failed", "killed")}
        _write_sweep(store, sweep.id, note | {"ended": _now()})
    except TrackingError:
        raise
    except Exception as error:  # whatever the store's driver raises
        raise TrackingError(explain_store_error(store.uri, error)) from error


def _write_sweep(store: Store, sweep: str, note: Mapping[str, object]) -> None:
    content = json.dumps(note)
    if len(content) > MAX_TAG:
        content = json.dumps({**note, "command": "(too long to be kept)"})
    try:
        retry_while_locked(
            lambda: store.client.set_experiment_tag(store.experiment_id, f"{SWEEP_TAG}.{sweep}", content)
        )
    except Exception as error:  # whatever the store's driver raises
        raise TrackingError(explain_store_error(store.uri, error)) from error


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def fold_metrics(decoding: "Decoding") -> list[Metric]:
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


def summary_metrics(decoding: "Decoding", seconds: Mapping[str, float]) -> list[Metric]:
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
    values = {"train_accuracy": decoding.train_accuracy} | decoding.flat_scores()
    values |= {f"seconds/{stage}": value for stage, value in seconds.items()}
    return [Metric(key, float(value), now, 0) for key, value in values.items() if math.isfinite(value)]


def result_tags(decoding: "Decoding") -> dict[str, str]:
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
    if decoding.notices:
        tags["harness.notices"] = "\n".join(decoding.notices)
    if decoding.weights:
        tags["harness.weights.positive"] = ", ".join(weights.positive for weights in decoding.weights)
    tags["mlflow.note.content"] = describe_decoding(decoding)
    return tags


def describe_decoding(decoding: "Decoding") -> str:
    """Return the text that heads the run's page in the MLflow UI.

    Parameters
    ----------
    decoding : Decoding

    Returns
    -------
    text : str, Markdown
    """
    samples = decoding.samples
    estimator, scheme = decoding.question.estimator, decoding.question.scheme
    asked = f"{' vs '.join(samples.contrast.classes)}, {estimator.name}, cv={scheme.name}"
    lines = [
        f"**{_quote_markdown(decoding.recording.dataset)} subject {decoding.recording.subject}**: "
        f"{_quote_markdown(asked)}; {len(samples.y)} volumes, {samples.n_voxels} voxels.",
        "",
        "| score | mean over folds | SD |",
        "|---|---|---|",
    ]
    for score, row in decoding.summarise().iterrows():
        lines.append(f"| {_quote_markdown(str(score))} | {row['mean']:.3f} | {row['sd']:.3f} |")
    lines += [
        "",
        "*selected*: parameters chosen on the fold that is scored (nilearn's `cv_scores_`); "
        "*test*: volumes that took part in no choice.",
    ]
    if decoding.recording.notice:
        lines += ["", f"**{_quote_markdown(decoding.recording.notice)}**"]
    lines += [f"- warning: {_quote_markdown(text)}" for text in decoding.warnings]
    return "\n".join(lines)


def _quote_markdown(text: str) -> str:
    """Return a text as Markdown that shows it as it is: no HTML, links, code, table cells or emphasis."""
    line = escape_controls(text).replace("\n", " ")
    marked = re.sub(r"[\\`*\[\]|!~]|(?<!\w)_|_(?!\w)", r"\\\g<0>", line)
    return html.escape(marked, quote=False)


def _dataset_input(decoding: "Decoding") -> DatasetInput:
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
