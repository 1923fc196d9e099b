"""The front door of runs: Hydra launches one or many, each is decoded, tracked, shown and accounted for.

Start-up imports Hydra and the schema alone, so that ``--help`` and completion answer at once; everything that
computes is imported inside the job.
"""

import os
import re
import shlex
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
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
    check_study,
    composing,
    expand_grid,
    explaining,
    searching,
)
from harness.app.conflicts import check_launching, check_tracking
from harness.app.job import experiment_name, open_configured_store, open_store_once, run_job
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
    open_store_once.cache_clear()
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
    experiments = sorted({experiment_name(tracking, dataset) for dataset in datasets or {chosen}})
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
    from harness.report.progress import SweepProgress
    from harness.report.tables import print_sweep
    from harness.tracking.run_writer import begin_sweep

    command = shlex.join(["python", "-m", "harness", *arguments])
    # Made before any job starts, under a lock: processes that make a store at the same time destroy it.
    opened = [open_configured_store(plan.tracking, experiment) for experiment in plan.experiments]
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
            print_sweep(sweep, outcomes, first, _prepare_views(sweep, stores), again)
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
        from harness.report.tables import print_error

        print_error(error)
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
