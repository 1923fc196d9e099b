"""The front door of runs: Hydra launches one or many, each is decoded, tracked, shown and accounted for.

Start-up imports Hydra and the schema alone, so that ``--help`` and completion answer at once; everything that
computes is imported inside the job.
"""

import os
import re
import shlex
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra import compose
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from harness.app.composition import (
    Request,
    build_request,
    check_study,
    composing,
    decode_request,
    expand_grid,
    explaining,
    searching,
)
from harness.app.conflicts import check_launching, check_tracking
from harness.app.overrides import say_to_hydra, sort_arguments
from harness.errors import HarnessError, UsageError, describe_error
from harness.tracking.ledger import (
    FRONT_DOOR_VARIABLE,
    Outcome,
    Sweep,
    current_sweep,
    end_sweep,
    end_with_front_door,
    interrupt,
    launch_jobs,
    warm_workers,
)
from harness.tracking.ledger import VARIABLE as SWEEP_VARIABLE

if TYPE_CHECKING:
    from harness.samples.cache import SampleCache
    from harness.tracking.run_writer import TrackedRun
    from harness.tracking.store import Store

# Our options for launchers bear the names of the plugins' own, which validate them; Hydra warns of that.
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against", UserWarning)
# Without an accounting database submitit warns at every look at the queue, and finds its jobs all the same.
os.environ.setdefault("SUBMITIT_LOG_LEVEL", "ERROR")

# Flags of Hydra that show something and run nothing.
SHOWING_FLAGS = ("help", "hydra_help", "cfg", "info", "shell_completion")

# The process of the front door; in every other one, a launcher's workers, a job must not take others with it.
_front_door: int | None = None
# Exit status of a job that failed, where it is the only one.
_status = 0


def run(arguments: list[str]) -> int:
    """Compose and run one job, or a multirun of several.

    Parameters
    ----------
    arguments : list of str
        Hydra's overrides and flags.

    Returns
    -------
    status : int
        0 if every run finished, 1 if a run failed, 2 if the request makes no sense, 130 after Ctrl-C.
    """
    global _front_door, _status
    _front_door, _status = os.getpid(), 0
    _open_store_once.cache_clear()
    words = [say_to_hydra(word) for word in sort_arguments(arguments)]
    sys.argv = ["harness", *words]
    with_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # With the first, Hydra lets its errors through, to be said better below, where it would print and exit.
    variables = ("HYDRA_FULL_ERROR", SWEEP_VARIABLE, FRONT_DOOR_VARIABLE)
    before = {name: os.environ.get(name) for name in variables}
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        asked = get_args_parser().parse_args(words)
        config_dir = None if asked.config_dir is None else Path(asked.config_dir)
        with _terminable(), searching(config_dir):
            with explaining(words):
                if asked.config_name is not None and asked.config_path is None:
                    check_study(asked.config_name, config_dir)
                plan = _plan_multirun(words)
            if plan is not None:
                sweep = Sweep.begin(Path(plan.tracking["folder"]) / "sweeps")
                os.environ |= {SWEEP_VARIABLE: str(sweep.folder), FRONT_DOOR_VARIABLE: str(_front_door)}
                with warm_workers(plan.launcher, plan.total) as wait_for_workers:
                    return _run_multirun(plan, sweep, arguments, wait_for_workers)
            with explaining(words, passing=(OSError,)):
                _main()
    except HarnessError as error:
        if with_traceback and error.__cause__ is not None:
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        # Hydra's own output folder; a run's files have messages of their own.
        print(
            f"error: {error}; check that this folder can be written, or choose another with "
            "tracking.folder=...",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    finally:
        _front_door = None
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    return _status


@dataclass(frozen=True)
class _Plan:
    """What a multirun is going to do, known before its first job.

    Attributes
    ----------
    name : str
        Of the primary configuration: ``config``, or a study.
    jobs : list of list of str
        The overrides of every job.
    listed : bool
        Whether these are the jobs; False with a sweeper that decides as it goes.
    tracking : mapping
        See `harness.app.schema.TrackingSchema`.
    experiments : tuple of str
        Where the runs go.
    config_dir : str or None
        What --config-dir names.
    launcher : mapping
        Its options.
    """

    name: str
    jobs: list[list[str]]
    listed: bool
    tracking: Mapping[str, Any]
    experiments: tuple[str, ...]
    config_dir: str | None
    launcher: Mapping[str, Any]

    @property
    def total(self) -> int | None:
        """How many jobs there are, if that is known."""
        return len(self.jobs) if self.listed else None


def _close_sweep(sweep: Sweep, stores: Sequence["Store"]) -> bool:
    """Note the end of a sweep in its stores; return whether that failed, which must not hide the results."""
    from harness.tracking.run_writer import close_sweep

    failed = False
    for store in stores:
        try:
            close_sweep(store, sweep)
        except HarnessError as error:
            failed = True
            print(f"error: {error}", file=sys.stderr)
    return failed


def _prepare_views(sweep: Sweep, stores: Sequence["Store"]) -> list[str]:
    """Return links to the sweep's runs in the pages of a server; ``harness ui`` does it for a local store."""
    from harness.tracking.mlflow_views import prepare_views
    from harness.tracking.queries import find_sweep, list_sweeps
    from harness.tracking.store import ui_address

    links: list[str] = []
    for uri in dict.fromkeys(store.uri for store in stores if store.folder is None):
        with suppress(Exception):  # a view is a convenience, and of a kind that MLflow does not document
            record = find_sweep(sweep.id, list_sweeps(uri), uri)
            links += prepare_views(uri, ui_address(uri), record).values()
    return links


def _say_again(arguments: Sequence[str], failed: Sequence[Outcome], store: "Store | None") -> str:
    """Return the command that runs what failed again, and only that; or several, a line each."""
    if not failed:
        return ""
    start = ["python", "-m", "harness"]
    resuming = not any(word.lstrip("+").startswith("resume=") for word in arguments)
    if store is not None and resuming and all(outcome.overrides for outcome in failed):
        return shlex.join([*start, *arguments])
    asked = get_args_parser().parse_args(sort_arguments(list(arguments)))
    named = {"-cd": asked.config_dir, "-cn": asked.config_name}
    flags = [word for flag, value in named.items() if value is not None for word in (flag, value)]
    return "\n".join(shlex.join([*start, *flags, *outcome.overrides]) for outcome in failed)


def _plan_multirun(words: list[str]) -> _Plan | None:
    """Find out what a multirun asks for; None if one run is asked for, or something is only to be shown.

    Parameters
    ----------
    words : list of str
        Flags first, then overrides, as Hydra takes them.
    """
    asked = get_args_parser().parse_args(words)
    shows = next((flag for flag in SHOWING_FLAGS if getattr(asked, flag)), None)
    if shows is not None:
        if asked.multirun and not asked.shell_completion:
            raise UsageError(f"--{shows.replace('_', '-')} shows one run and launches none; leave out -m")
        return None
    name, overrides = asked.config_name or "config", list(asked.overrides)
    if not asked.multirun and name == "config" and not any("hydra.mode" in word for word in overrides):
        check_launching(overrides, multirun=False)
        return None
    with composing(None if asked.config_dir is None else Path(asked.config_dir)):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        swept = [override.is_sweep_override() for override in parser.parse_overrides(overrides)]
        fixed = [word for word, many in zip(overrides, swept, strict=True) if not many]
        config = compose(name, fixed, return_hydra_config=True)
        if not asked.multirun and config.hydra.mode != RunMode.MULTIRUN:
            check_launching(overrides, multirun=False)
            return None
        check_launching(overrides, multirun=True)
        params = config.hydra.sweeper.get("params") or {}
        listed = str(config.hydra.sweeper._target_).endswith((".GridSweeper", ".BasicSweeper"))
        jobs = expand_grid([*(f"{key}={value}" for key, value in params.items()), *overrides])
        if params:  # what a study asks of every job
            common = [word for word in jobs[0] if all(word in job for job in jobs)]
            config = compose(name, common, return_hydra_config=True)
        tracking, launcher = _plain(config.tracking), _plain(config.hydra.launcher)
        check_tracking(tracking)
        chosen = str(config.hydra.runtime.choices["dataset"])
    for word in {word for job in jobs for word in job if word.lstrip("+").startswith("tracking")}:
        if not all(word in job for job in jobs):
            raise UsageError(
                f"{word.partition('=')[0]} has several values; a sweep has one store: choose one"
            )
    datasets = {word.removeprefix("dataset=") for job in jobs for word in job if word.startswith("dataset=")}
    experiments = sorted({_experiment_name(tracking, dataset) for dataset in datasets or {chosen}})
    return _Plan(name, jobs, listed, tracking, tuple(experiments), asked.config_dir, launcher)


def _plain(node: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(node, resolve=True, enum_to_str=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _find_unsound(plan: _Plan, error: BaseException, numbers: Sequence[int]) -> Iterator[Outcome]:
    """Find the jobs that cannot be composed: such a job ends Hydra's launcher before it is a job at all."""
    if not isinstance(error, UsageError):
        return
    with composing(None if plan.config_dir is None else Path(plan.config_dir)):
        for number in numbers:
            try:
                with explaining(plan.jobs[number]):
                    compose(plan.name, plan.jobs[number], return_hydra_config=True)
            except UsageError as error:
                overrides = tuple(word.removeprefix("++") for word in plan.jobs[number])
                status = UsageError.exit_status
                yield Outcome(number, "failed", overrides, error=str(error), exit_status=status)


def _run_multirun(
    plan: _Plan, sweep: Sweep, arguments: Sequence[str], wait_for_workers: Callable[[], None]
) -> int:
    """Have the jobs of a multirun done, whatever happens to some of them, and say what became of them."""
    from harness.report.display import SweepProgress, show_sweep
    from harness.tracking.run_writer import begin_sweep

    command = shlex.join(["python", "-m", "harness", *arguments])
    # Made before any job starts, under a lock: processes that make a store at the same time destroy it.
    opened = [_open_store(plan.tracking, experiment) for experiment in plan.experiments]
    stores = [store for store in opened if store is not None]
    for store in stores:
        begin_sweep(store, sweep.id, command, plan.total)
    check = partial(_find_unsound, plan) if plan.listed else None
    stopped: BaseException | None = None
    try:
        with _stopping(sweep), SweepProgress(sweep.count, plan.total):
            try:
                wait_for_workers()
                launch = explaining(arguments, passing=(OSError, RuntimeError))(_main)
                launch_jobs(sweep, plan.total, launch, check)
                # Python loses an interruption that comes while it cleans up; the sweep was told all the same.
                stopped = KeyboardInterrupt() if sweep.stopping else None
            except (KeyboardInterrupt, SystemExit) as error:
                stopped = error
            if stopped is not None:
                end_sweep(sweep)
    except RuntimeError as error:  # what launchers raise
        raise _explain_launcher(error) from error
    finally:
        outcomes = sweep.outcomes()
        unclosed = _close_sweep(sweep, stores)
        failed = [outcome for outcome in outcomes if outcome.status in ("failed", "killed")]
        first = stores[0] if stores else None
        again = _say_again(arguments, failed, first) if stopped is None else ""
        if outcomes:
            show_sweep(sweep, outcomes, first, _prepare_views(sweep, stores), again)
    if isinstance(stopped, SystemExit):
        return int(stopped.code or 1)
    if stopped is not None:
        print("stopped; the same command goes on where it ended", file=sys.stderr)
        return 130
    undone = plan.total is not None and len(outcomes) < plan.total
    statuses = {outcome.exit_status for outcome in failed} | ({1} if unclosed or undone else set())
    return statuses.pop() if len(statuses) == 1 else min(len(statuses), 1)


@contextmanager
def _stopping(sweep: Sweep) -> Iterator[None]:
    """Let Ctrl-C stop the sweep as such, beside interrupting what this process is doing."""

    def stop(number: int, frame: object) -> None:
        sweep.stop()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@hydra.main(version_base="1.3", config_path="pkg://harness.conf", config_name="config")
def _main(config: DictConfig) -> None:
    """Do one job, in whichever process the launcher chose."""
    # Launchers send this function by value, what it calls by name: so workers have the module's own state.
    _do_job(config)


def _do_job(config: DictConfig) -> None:
    """Do one job; what goes wrong with it is kept, so that the other jobs of a multirun go on."""
    global _status
    job = HydraConfig.get()
    if job.mode == RunMode.MULTIRUN:
        with _terminable():
            _do_job_of_sweep(config, job.job.num, tuple(job.overrides.task))
        return
    try:
        run_job(config)
    except Exception as error:
        from harness.report.display import show_error

        show_error(error)
        _status = getattr(error, "exit_status", 1)


def _do_job_of_sweep(config: DictConfig, number: int, overrides: tuple[str, ...]) -> None:
    """Do a job that is one of many, and note what became of it."""
    sweep = current_sweep()
    overrides = tuple(word.removeprefix("++") for word in overrides)
    with sweep.take(number, overrides) as taken:
        if not taken:
            return
        failed = Outcome(number, "failed", overrides, exit_status=1)
        try:
            with _ending_with(sweep):
                outcome = run_job(config, sweep)
            sweep.record(outcome)
        except Exception as error:
            # Text alone: an exception would keep the job's arrays alive, and cannot travel.
            lines = [] if isinstance(error, HarnessError) else traceback.format_exception(error)
            status = getattr(error, "exit_status", 1)
            sweep.record(
                replace(failed, error=describe_error(error), traceback="".join(lines), exit_status=status)
            )
        except (KeyboardInterrupt, SystemExit):
            sweep.record(replace(failed, status="killed", error="stopped while it ran"))
            if os.getpid() == _front_door:
                raise


@contextmanager
def _ending_with(sweep: Sweep) -> Iterator[None]:
    """End this process's job when the sweep is stopped, wherever that is done."""
    if os.getpid() == _front_door:
        yield
        return
    # Processes of other launchers, such as SLURM's, finish their jobs without the front door.
    if str(HydraConfig.get().launcher._target_).endswith(".JoblibLauncher"):
        end_with_front_door(int(os.environ[FRONT_DOOR_VARIABLE]))
    done = threading.Event()

    def watch() -> None:
        while not done.wait(1.0):
            if sweep.stopping:
                interrupt(signal.SIGTERM)
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


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
    store = _open_store(request.tracking, _experiment_name(request.tracking, request.dataset_option))
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
    from harness.report.display import show_finished
    from harness.tracking.run_writer import find_finished, join_sweep

    found = find_finished(store, identity)
    if found is None:
        return None
    if sweep is None:
        show_finished(name, found, store)
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
    from harness.report.display import ProgressBar, show_decoding

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
        show_decoding(decoding, request.name, where, tracked)
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


@contextmanager
def _terminable() -> Iterator[None]:
    """Let what schedulers, containers and closed terminals send end a run as Ctrl-C does: with a status."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), stop) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _experiment_name(tracking: Mapping[str, Any], dataset: str) -> str:
    return str(tracking["experiment"] or f"{dataset} decoding")


def _open_store(tracking: Mapping[str, Any], experiment: str) -> "Store | None":
    """Open the store once in every process; None with ``tracking=off``."""
    if tracking["kind"] == "off":
        return None
    folder = Path(tracking["folder"]).absolute()
    return _open_store_once(tracking["uri"] if tracking["kind"] == "server" else None, folder, experiment)


@cache
def _open_store_once(uri: str | None, folder: Path, experiment: str) -> "Store":
    from harness.tracking.store import PATIENCE_OF_WORKERS, check_server, open_store

    if uri is not None:
        check_server(uri)
    # A person wants to know at once that a server is not there; a worker in the night can wait for it.
    patience = 0.0 if os.getpid() == _front_door else PATIENCE_OF_WORKERS
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


def _explain_launcher(error: RuntimeError) -> HarnessError:
    """Say why a launcher could not do its work."""
    missing = re.search(
        r"Unknown plugin class : 'hydra_plugins\.hydra_(joblib|submitit)_launcher", str(error)
    )
    if missing is not None:
        extra = {"joblib": "joblib", "submitit": "slurm"}[missing.group(1)]
        return UsageError(f"this launcher is not installed; it comes with: pip install 'harness[{extra}]'")
    return HarnessError(
        f"the launcher gave up: {describe_error(error)}. The same command goes on where it ended"
    )
