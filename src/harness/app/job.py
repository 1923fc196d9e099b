"""One run: load, fingerprint, decode, store and show.

What computes is imported inside the functions, so that ``--help`` and completion answer at once.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from harness.app.composition import Request, build_request, decode_request
from harness.errors import HarnessError
from harness.tracking.ledger import FRONT_DOOR_VARIABLE, Outcome, Sweep

if TYPE_CHECKING:
    from harness.samples.cache import SampleCache
    from harness.tracking.run_writer import TrackedRun
    from harness.tracking.store import Store


def run_job(config: DictConfig, sweep: Sweep | None = None) -> Outcome:
    """Decode what a composed configuration asks for, track it, and show the result of a single run.

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
        If the request, the data or the store make no sense; a run that was started is then FAILED.
    """
    start = time.perf_counter()
    job = HydraConfig.get()
    request = build_request(config, job.runtime.choices, job.overrides.task)
    number = 0 if sweep is None else job.job.num
    outcome = Outcome(number, "finished", request.overrides, request.name, words=request.words)

    from harness.samples.cache import SampleCache
    from harness.tracking.run_writer import claim_run
    from harness.tracking.store import IDENTITY_TAG, SWEEP_TAG

    cache = SampleCache(enabled=None if request.cache else False)
    store = open_configured_store(request.tracking, experiment_name(request.tracking, request.dataset_option))
    identity = _identify(request, cache)
    tags = {"harness.overrides": " ".join(request.overrides)}
    tags |= {} if identity is None else {IDENTITY_TAG: identity}
    tags |= {} if sweep is None else {SWEEP_TAG: sweep.id}
    startup = time.perf_counter() - start
    resume = sweep is not None if request.resume is None else request.resume
    if not resume or store is None or identity is None:
        return _compute(request, store, tags, cache, sweep, outcome, startup)
    with claim_run(store, identity, partial(_report_wait, request.name, sweep)):
        finished = _find_finished(request.name, store, identity, sweep, outcome)
        return finished or _compute(request, store, tags, cache, sweep, outcome, startup)


def _report_wait(name: str, sweep: Sweep | None) -> None:
    """Print why a single run does not begin; a sweep's line of progress shows what remains."""
    if sweep is None:
        print(f"{name} is being computed by another process; waiting for its result", file=sys.stderr)


def _find_finished(
    name: str, store: "Store", identity: str, sweep: Sweep | None, outcome: Outcome
) -> Outcome | None:
    """Return the outcome of a run that need not be computed again; None if it has to be computed."""
    from harness.report.tables import print_finished
    from harness.tracking.run_writer import find_finished, join_sweep

    found = find_finished(store, identity)
    if found is None:
        return None
    if sweep is None:
        print_finished(name, found, store)
    else:
        join_sweep(store, found, sweep.id)
    known: dict[str, Any] = {"run_id": found.run_id, "scores": found.scores}
    return replace(outcome, status="skipped", notices=tuple(found.notices), **known)


def _compute(
    request: Request,
    store: "Store | None",
    tags: Mapping[str, str],
    cache: "SampleCache",
    sweep: Sweep | None,
    outcome: Outcome,
    startup: float,
) -> Outcome:
    """Decode, write the files, track, and show a single run; return the outcome with its results."""
    from harness.report.artifacts import write_artifacts
    from harness.report.progress import ProgressBar
    from harness.report.tables import print_decoding

    figures: Any = ("full" if sweep is None else "light") if request.figures == "auto" else request.figures
    with _open_run(store, request, tags) as tracked, ProgressBar(request.name, sweep is None) as progress:
        if sweep is not None:
            sweep.name_run(outcome.job, request.name, None if tracked is None else tracked.run_id)
        decoding = decode_request(request, progress, cache)
        progress("figures", 1, 1)
        with _artifact_folder(tracked is None) as folder:
            begin = time.perf_counter()
            with _explaining_write_errors(str(folder)):
                decoding = write_artifacts(decoding, folder, request.config, figures)
            seconds = {"startup": startup, **decoding.seconds, "figures": time.perf_counter() - begin}
            if tracked is not None:
                with _explaining_write_errors(tracked.where):
                    tracked.finish(decoding, folder, seconds)
            where = str(folder) if tracked is None else tracked.where
    if sweep is None:
        print_decoding(decoding, request.name, where, tracked)
    return replace(
        outcome,
        run_id=None if tracked is None else tracked.run_id,
        scores=decoding.flat_scores(),
        notices=tuple(decoding.notices),
    )


def _identify(request: Request, cache: "SampleCache") -> str | None:
    """Return the identity of the run; None where its data cannot be read, as the run itself will say."""
    from harness.app.allowed_targets import list_classes
    from harness.app.settings import normalise
    from harness.tracking.fingerprint import identify

    try:
        recording = request.dataset.load(request.subject)
        config = {key: value for key, value in request.asked.items() if key != "dataset"}
        classes = list_classes(config)
        return identify(normalise(config), recording, request.roi, request.signal, classes, cache)
    except HarnessError:
        return None


def experiment_name(tracking: Mapping[str, Any], dataset: str) -> str:
    """Return the name of the MLflow experiment of a data set's runs."""
    return str(tracking["experiment"] or f"{dataset} decoding")


def open_configured_store(tracking: Mapping[str, Any], experiment: str) -> "Store | None":
    """Open the store once in every process; None with ``tracking=off``."""
    if tracking["kind"] == "off":
        return None
    folder = Path(tracking["folder"]).absolute()
    return open_store_once(tracking["uri"] if tracking["kind"] == "server" else None, folder, experiment)


@cache
def open_store_once(uri: str | None, folder: Path, experiment: str) -> "Store":
    """Open a store, or return the one that this process has opened before."""
    from harness.tracking.store import PATIENCE_OF_WORKERS, check_server, open_store

    if uri is not None:
        check_server(uri)
    # A person wants to know at once that a server is not there; a worker in the night can wait for it.
    is_worker = os.environ.get(FRONT_DOOR_VARIABLE, str(os.getpid())) != str(os.getpid())
    patience = PATIENCE_OF_WORKERS if is_worker else 0.0
    return open_store(uri, folder, experiment, patience)


@contextmanager
def _open_run(
    store: "Store | None", request: Request, tags: Mapping[str, str]
) -> Iterator["TrackedRun | None"]:
    """Start the tracked run, or none with ``tracking=off``."""
    if store is None:
        yield None
        return
    from harness.tracking.run_writer import track_run

    with track_run(store, request.name, request.params, tags) as tracked:
        yield tracked


@contextmanager
def _artifact_folder(keep: bool) -> Iterator[Path]:
    """Yield Hydra's own folder to keep, or a temporary one that lasts until its files are in the store."""
    folder = Path(HydraConfig.get().runtime.output_dir) / "artifacts"
    with _explaining_write_errors(str(folder) if keep else "a temporary directory"):
        if keep:
            folder.mkdir(parents=True, exist_ok=True)
        made: Any = nullcontext(folder) if keep else tempfile.TemporaryDirectory(prefix="harness-")
    with made as name:
        yield Path(name)


@contextmanager
def _explaining_write_errors(where: str) -> Iterator[None]:
    """Turn what the operating system raises, such as for a full disk, into one message."""
    try:
        yield
    except OSError as error:
        raise HarnessError(
            f"the files of this run cannot be written to {where}: {error}. Check that there is room and that "
            "it can be written, or choose another directory: with tracking.folder=... for the store, with "
            "the environment variable TMPDIR for temporary files"
        ) from error
