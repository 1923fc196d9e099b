"""One run: load, fingerprint, decode, store and show.

What computes is imported inside the functions, so that ``--help`` and completion answer at once.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from harness.app.composition import build_request
from harness.app.computation import ComputedRun, RunData, compute_run, tag_foreign_code
from harness.app.run_spec import RunSpec
from harness.errors import HarnessError
from harness.tracking.ledger import FRONT_DOOR_VARIABLE, Outcome, Sweep

if TYPE_CHECKING:
    from harness.tracking.run_writer import FinishedRun, TrackedRun
    from harness.tracking.store import Store


def run_job(config: DictConfig, sweep: Sweep | None = None) -> Outcome:
    """Decode as a composed configuration specifies, track it, and show the result of a single run.

    Parameters
    ----------
    config : DictConfig
        See `harness.app.schema.RunSchema`.
    sweep : Sweep, optional
        The sweep that the job is of, if it is one of many.

    Returns
    -------
    Outcome
        Finished or skipped.

    Raises
    ------
    HarnessError
        If the configuration, the data or the store cannot be used; a run that was started is then FAILED.
    """
    start = time.perf_counter()
    job = HydraConfig.get()
    spec = build_request(config, job.runtime.choices, job.overrides.task)
    number = 0 if sweep is None else job.job.num
    outcome = Outcome(number, "finished", spec.overrides, spec.name, words=spec.choices)
    tracking = spec.config["tracking"]
    store = open_configured_store(tracking, experiment_name(tracking, job.runtime.choices["dataset"]))
    run = _Job(spec, store, sweep, outcome, RunData(spec))
    run.data.seconds["startup"] = time.perf_counter() - start
    if store is None:
        return run.compute()

    from harness.report.progress import ProgressBar

    try:
        with ProgressBar(spec.name, sweep is None):
            fingerprint = run.data.fingerprint()
    except BaseException:
        with run.open():  # stored as FAILED or KILLED
            raise
    resume = sweep is not None if spec.config["resume"] is None else spec.config["resume"]
    if not resume:
        return run.compute(fingerprint)

    from harness.tracking.run_writer import claim_run, find_finished

    with claim_run(store, fingerprint, partial(_report_wait, spec.name, sweep)):
        found = find_finished(store, fingerprint)
        return run.compute(fingerprint) if found is None else run.skip(store, found)


def _report_wait(name: str, sweep: Sweep | None) -> None:
    """Print why a single run waits; the progress of a sweep shows it anyway."""
    if sweep is None:
        print(f"{name} is being computed by another process; waiting for its result", file=sys.stderr)


class _UntrackedRun:
    """Stands for the tracked run with ``tracking=off``: its files stay in Hydra's own directory."""

    run_id = None

    def __init__(self) -> None:
        self.where = str(_own_directory())


@dataclass(frozen=True, eq=False)
class _Job:
    """One run of a store and, where it is one of many, of a sweep."""

    spec: RunSpec
    store: "Store | None"
    sweep: Sweep | None
    outcome: Outcome
    data: RunData

    def skip(self, store: "Store", found: "FinishedRun") -> Outcome:
        """Return the outcome of a run that finished before."""
        from harness.report.run_summary import print_finished
        from harness.tracking.sweep_notes import join_sweep

        if self.spec.config["model"]:
            _complete_model(found.run_id, store)
        if self.sweep is None:
            print_finished(self.spec.name, found, store)
        else:
            join_sweep(store, found, self.sweep.id)
        known: dict[str, Any] = {"run_id": found.run_id, "scores": found.scores, "audit": found.audit}
        return replace(self.outcome, status="skipped", notices=tuple(found.notices), **known)

    def compute(self, fingerprint: str | None = None) -> Outcome:
        """Compute, write the files, track, and show a single run; return the outcome with its results."""
        from harness.report.progress import ProgressBar

        single, data = self.sweep is None, self.data
        figures = self.spec.config["figures"]
        if figures == "auto":
            figures = "full" if single else "light"
        with self.open(fingerprint) as run, ProgressBar(self.spec.name, single) as progress:
            computed = compute_run(data, progress, single, self._checkpoint(fingerprint))
            progress("figures", 1, 1)
            with _artifact_directory(keep=run.run_id is None) as directory:
                begin = time.perf_counter()
                with _explaining_write_errors(str(directory)):
                    computed = computed.write(directory, self.spec.to_yaml(), figures)
                seconds = {**data.seconds, **computed.seconds, "figures": time.perf_counter() - begin}
                seconds |= self._log_model(computed, run.run_id)
                if run.run_id is not None:
                    with _explaining_write_errors(run.where):
                        run.finish(computed.describe(directory, seconds, run.run_id), directory)
        if (checkpoint := self._checkpoint(fingerprint)) is not None:
            shutil.rmtree(checkpoint, ignore_errors=True)  # the run is stored
        if single:
            computed.show(self.spec.name, run.where, None if self.store is None else run)
        return replace(
            self.outcome,
            run_id=run.run_id,
            scores=dict(computed.scores),
            notices=tuple(computed.notices),
            audit=computed.audit,
        )

    def _log_model(self, computed: ComputedRun, run_id: str | None) -> dict[str, float]:
        """Log the decoder as an MLflow model, if that is configured; return how long it took."""
        if not self.spec.config["model"] or self.store is None or run_id is None:
            return {}
        begin = time.perf_counter()
        computed.log_model(run_id, self.store.uri)
        return {"model": time.perf_counter() - begin}

    def _checkpoint(self, fingerprint: str | None) -> Path | None:
        """Return the directory in which the relabellings of an interrupted test are kept for the next try."""
        if self.store is None or fingerprint is None:
            return None
        return self.store.running / "relabellings" / fingerprint

    @contextmanager
    def open(self, fingerprint: str | None = None) -> Iterator[Any]:
        """Start the tracked run, and name it in the sweep."""
        opened: AbstractContextManager[Any] = nullcontext(_UntrackedRun())
        if self.store is not None:
            opened = self._track(self.store, fingerprint)
        with opened as run:
            if self.sweep is not None:
                self.sweep.note_run(self.outcome.job, self.spec.name, run.run_id)
            yield run

    def _track(self, store: "Store", fingerprint: str | None) -> "AbstractContextManager[TrackedRun]":
        from harness.tracking.run_writer import track_run
        from harness.tracking.stored_run import SEARCHLIGHT
        from harness.tracking.tags import ANALYSIS_TAG, IDENTITY_TAG, OVERRIDES_TAG, SWEEP_TAG

        tags = {OVERRIDES_TAG: " ".join(self.spec.overrides)} | tag_foreign_code(self.spec.config)
        tags |= {} if self.spec.searchlight is None else {ANALYSIS_TAG: SEARCHLIGHT}
        tags |= {} if fingerprint is None else {IDENTITY_TAG: fingerprint}
        tags |= {} if self.sweep is None else {SWEEP_TAG: self.sweep.id}
        return track_run(store, self.spec.name, self.spec.params, tags)


def _complete_model(run_id: str, store: "Store") -> None:
    """Log the model of a run that finished before, if it has none."""
    from harness.tracking.model_export import find_model, log_model
    from harness.tracking.queries import find_stored_run
    from harness.tracking.run_decoder import read_decoder

    if find_model(run_id, store.uri) is None:
        log_model(read_decoder(find_stored_run(run_id, store.uri)), run_id, store.uri)


def experiment_name(tracking: Mapping[str, Any], dataset: str) -> str:
    """Return the name of the MLflow experiment of a data set's runs."""
    return str(tracking["experiment"] or f"{dataset} decoding")


def open_configured_store(tracking: Mapping[str, Any], experiment: str) -> "Store | None":
    """Open the store once in every process; None with ``tracking=off``."""
    if tracking["kind"] == "off":
        return None
    directory = Path(tracking["folder"]).absolute()
    return open_store_once(tracking["uri"] if tracking["kind"] == "server" else None, directory, experiment)


@cache
def open_store_once(uri: str | None, directory: Path, experiment: str) -> "Store":
    """Open a store, or return the one that this process has opened before."""
    from harness.tracking.store import PATIENCE_OF_WORKERS, check_server, open_store

    if uri is not None:
        check_server(uri)
    # Commands fail at once if the server is unreachable; the workers of a sweep retry.
    is_worker = os.environ.get(FRONT_DOOR_VARIABLE, str(os.getpid())) != str(os.getpid())
    patience = PATIENCE_OF_WORKERS if is_worker else 0.0
    return open_store(uri, directory, experiment, patience)


def _own_directory() -> Path:
    return Path(HydraConfig.get().runtime.output_dir) / "artifacts"


@contextmanager
def _artifact_directory(keep: bool) -> Iterator[Path]:
    """Yield Hydra's own directory to keep, or a temporary one that lasts until its files are in the store."""
    directory = _own_directory()
    with _explaining_write_errors(str(directory) if keep else "a temporary directory"):
        if keep:
            directory.mkdir(parents=True, exist_ok=True)
        made: Any = nullcontext(directory) if keep else tempfile.TemporaryDirectory(prefix="harness-")
    with made as name:
        yield Path(name)


@contextmanager
def _explaining_write_errors(where: str) -> Iterator[None]:
    """Turn what the operating system raises, for example, for a full disk, into one message."""
    try:
        yield
    except OSError as error:
        raise HarnessError(
            f"the files of this run cannot be written to {where}: {error}. Check the disk's free space and "
            "the permissions, or choose another directory: with tracking.folder=... for the store, with the "
            "environment variable TMPDIR for temporary files"
        ) from error
