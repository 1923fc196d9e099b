"""A sweep: many runs asked for at once, and what became of each.

A folder holds all that is known of it, one small file per job, because jobs may be done by other processes
and other machines than the one that asked for them, and because any of these may be killed.
"""

import _thread
import gc
import json
import os
import signal
import sys
import threading
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from harness.errors import UsageError, first_line

# Names the folder of the sweep; every launcher hands its environment on to its workers.
VARIABLE = "HARNESS_SWEEP"
FRONT_DOOR_VARIABLE = "HARNESS_FRONT_DOOR"  # its process id
POLL_SECONDS = 0.2
WATCH_THREAD = "watch for the front door's end"
# A job that looks dead this often in a row is dead: its process may be about to take it, or to note its end.
LOOKS_AT_LOSS, SECONDS_BETWEEN_LOOKS = 3, 5.0
# For how long jobs that other processes still work on are waited for, once the sweep is stopped.
STOP_SECONDS = 8.0
FRUITLESS_LAUNCHES = 3  # in a row, after which a pool whose workers die is given up

Status = Literal["finished", "skipped", "failed", "killed"]


@dataclass(frozen=True)
class Outcome:
    """What became of one job.

    Attributes
    ----------
    job : int
        Number of the job in its sweep, from 0.
    status : {"finished", "skipped", "failed", "killed"}
        Skipped: a run with the same identity had finished before.
    overrides : tuple of str
        What the job was asked to do.
    name : str
        Name of the run; empty where it failed before it had one.
    run_id : str or None
        The run in the store, where there is one.
    words : mapping of str to str
        What was chosen of every group.
    scores : mapping of str to float
        Means and standard deviations: ``test_accuracy_mean``, ``test_accuracy_std`` and so on.
    error : str
        Why it failed, in one line.
    traceback : str
        Empty where `error` says all.
    exit_status : int
        1 for a run that failed, 2 for a request that makes no sense.
    notices : tuple of str
        What must be said of the run: warnings, and that the data are simulated.
    """

    job: int
    status: Status
    overrides: tuple[str, ...] = ()
    name: str = ""
    run_id: str | None = None
    words: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    error: str = ""
    traceback: str = ""
    exit_status: int = 0
    notices: tuple[str, ...] = ()


class Sweep:
    """The folder of a sweep, as each of its processes sees it.

    Parameters
    ----------
    folder : Path
        Its name is the sweep's id. Made when the first job is taken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._jobs = folder / "jobs"

    @classmethod
    def begin(cls, parent: Path) -> "Sweep":
        """Name a new sweep, by the time, so that names sort as sweeps came.

        Parameters
        ----------
        parent : Path
            Folder of the sweeps' folders.

        Returns
        -------
        Sweep
        """
        return cls(parent.absolute() / f"{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:8]}")

    @property
    def id(self) -> str:
        """Name of the sweep, such as ``20261121-023015-ab12cd34``."""
        return self.folder.name

    @contextmanager
    def take(self, job: int, overrides: Sequence[str]) -> Iterator[bool]:
        """Take a job, unless it is done, is in other hands, or is not wanted now.

        The system gives a job back when the process that took it dies.

        Parameters
        ----------
        job : int
        overrides : sequence of str
            What it is asked to do.

        Yields
        ------
        taken : bool
        """
        self._jobs.mkdir(parents=True, exist_ok=True)
        if self.stopping or not self._wants(job):
            yield False
            return
        # Not at once: `in_hand` takes the lock for a moment, to see whether it can be had.
        lock = FileLock(self._jobs / f"{job}.lock", timeout=1)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            if self._has_outcome(job):
                yield False
                return
            self._write(f"{job}.taken", self._read(f"{job}.taken") | {"overrides": list(overrides)})
            yield True
        finally:
            lock.release()

    def name_run(self, job: int, name: str, run_id: str | None) -> None:
        """Note which run a job works on, so that it can be ended where its process cannot do so.

        Parameters
        ----------
        job : int
        name : str
        run_id : str or None
        """
        known = self._read(f"{job}.taken")
        run_ids = [*known.get("run_ids", []), *([] if run_id is None else [run_id])]
        self._write(f"{job}.taken", known | {"name": name, "run_ids": run_ids})

    def record(self, outcome: Outcome) -> None:
        """Note what became of a job.

        Parameters
        ----------
        outcome : Outcome
            Without name and run, those are taken that were noted when the run began.
        """
        known = self._read(f"{outcome.job}.taken")
        if outcome.run_id is None:
            run_id = next(reversed(known.get("run_ids", [])), None)
            outcome = replace(outcome, run_id=run_id, name=outcome.name or known.get("name", ""))
        self._write(f"{outcome.job}.{outcome.status}", asdict(outcome))

    def count(self) -> Counter[str]:
        """Return how many jobs have which status, from the names of their files alone.

        Returns
        -------
        counts : Counter of str
        """
        return Counter(status for _, status in self._list_outcomes())

    def outcomes(self) -> list[Outcome]:
        """Read what became of every job that came to an end.

        Returns
        -------
        outcomes : list of Outcome
            In the order of the jobs.
        """
        read = (self._read(f"{job}.{status}") for job, status in sorted(self._list_outcomes()))
        return [
            Outcome(**entry | {"overrides": tuple(entry["overrides"]), "notices": tuple(entry["notices"])})
            for entry in read
            if entry
        ]

    def unfinished(self, total: int | None = None) -> list[int]:
        """Return the jobs that have no outcome: of all, or of those that were ever taken.

        Parameters
        ----------
        total : int, optional
            How many jobs the sweep has, where that is known.

        Returns
        -------
        jobs : list of int
        """
        every = self.taken() if total is None else set(range(total))
        return sorted(every - {job for job, _ in self._list_outcomes()})

    def taken(self) -> set[int]:
        """Return the jobs that some process has worked on.

        Returns
        -------
        jobs : set of int
        """
        return {int(file.stem) for file in self._jobs.glob("*.taken")}

    def in_hand(self) -> list[int]:
        """Return the jobs that a process is working on now.

        Returns
        -------
        jobs : list of int
        """
        busy = []
        for job in self.unfinished():
            lock = FileLock(self._jobs / f"{job}.lock", timeout=0)
            try:
                with lock:
                    pass
            except Timeout:
                busy.append(job)
        return busy

    def bury(self, job: int, error: str) -> None:
        """Note that a job was killed, in place of its process, which cannot.

        Parameters
        ----------
        job : int
        error : str
            Why, as far as is known.
        """
        overrides = tuple(self._read(f"{job}.taken").get("overrides", ()))
        self.record(Outcome(job, "killed", overrides, error=error, exit_status=1))

    def restrict(self, jobs: Sequence[int]) -> None:
        """Let only these jobs be taken from now on.

        Parameters
        ----------
        jobs : sequence of int
        """
        self._write("wanted", {"jobs": list(jobs)})

    def stop(self) -> None:
        """Let no further job be taken, and those that are worked on end."""
        self._jobs.mkdir(parents=True, exist_ok=True)
        (self._jobs / "stop").touch()

    @property
    def stopping(self) -> bool:
        """Whether the sweep is to end."""
        return (self._jobs / "stop").exists()

    def _wants(self, job: int) -> bool:
        wanted = self._read("wanted")
        return not wanted or job in wanted["jobs"]

    def _has_outcome(self, job: int) -> bool:
        return any(found == job for found, _ in self._list_outcomes())

    def _list_outcomes(self) -> list[tuple[int, str]]:
        ends = (".finished", ".skipped", ".failed", ".killed")
        names = [file.name for file in self._jobs.iterdir()] if self._jobs.is_dir() else []
        return [
            (int(job), status)
            for job, _, status in (name.partition(".") for name in names if name.endswith(ends))
        ]

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a file such that nobody finds half of it."""
        self._jobs.mkdir(parents=True, exist_ok=True)
        part = self._jobs / f".{name}.{uuid.uuid4().hex[:8]}"
        part.write_text(json.dumps(content), encoding="utf-8")
        part.replace(self._jobs / name)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads((self._jobs / name).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}


# What a job imports, and what takes most of its first seconds.
MODULES_OF_A_JOB = (
    *(
        "harness.report.artifacts",
        "harness.report.display",
        "harness.tracking.fingerprint",
        "harness.tracking.run_writer",
    ),
    *("mlflow.store.tracking.sqlalchemy_store", "matplotlib.backends.backend_agg"),
)


@contextmanager
def warm_workers(launcher: Mapping[str, Any], total: int | None) -> Iterator[Callable[[], None]]:
    """Have joblib's processes started, and import what a job needs, while this process prepares the sweep.

    Parameters
    ----------
    launcher : mapping
        Options of the launcher; nothing is done for another one than joblib's.
    total : int or None
        How many jobs there are, if that is known.

    Yields
    ------
    wait : callable
        Waits until they are ready; the launcher then finds them and starts no others.

    Raises
    ------
    UsageError
        If the number of processes makes no sense.
    """
    if not str(launcher["_target_"]).endswith(".JoblibLauncher"):
        yield lambda: None
        return
    from joblib import Parallel, delayed, effective_n_jobs

    # Processes that were started with other options than these would not be used again.
    shared = ("n_jobs", "prefer", "require", "verbose", "temp_folder", "max_nbytes", "mmap_mode")
    options = {name: launcher[name] for name in shared if name in launcher}
    try:
        n_workers = effective_n_jobs(options["n_jobs"])
    except ValueError as error:
        raise UsageError(
            f"hydra.launcher.n_jobs={options['n_jobs']}: expected a number of processes; -1: one per core"
        ) from error
    n_tasks = n_workers if total is None else min(n_workers, total)
    tasks = (delayed(_import_modules)(os.getpid()) for _ in range(n_tasks))
    # A Ctrl-C that met a process as it starts would have it print a traceback; it ends with this one anyway.
    # A mask of signals, which would lose none here meanwhile, is lifted by loky as it starts its own helper.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        warming = Parallel(**options, backend="loky", batch_size=1, return_as="generator")(tasks)
    finally:
        signal.signal(signal.SIGINT, before)

    def wait() -> None:
        with suppress(Exception):  # a process that was killed: the launcher starts another one
            list(warming)

    try:
        yield wait
    finally:
        with warnings.catch_warnings():  # joblib's advice on what is stopped half-way
            warnings.simplefilter("ignore")
            warming.close()


def _import_modules(front_door: int) -> None:
    end_with_front_door(front_door)
    for name in MODULES_OF_A_JOB:
        import_module(name)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.freeze()  # these objects stay to the end, which then comes sooner


def end_with_front_door(front_door: int) -> None:
    """End this process, a worker, soon after the process of the front door is gone, however it was killed.

    The sweep is stopped first, so that a job that is worked on ends as after Ctrl-C: its run is KILLED, and
    the next sweep that includes it computes it. A job that does not end within `STOP_SECONDS` is cut off.

    Parameters
    ----------
    front_door : int
        Its process id; on Windows, where a process does not notice its parent's end, nothing is done.
    """
    if sys.platform == "win32" or any(thread.name == WATCH_THREAD for thread in threading.enumerate()):
        return
    threading.Thread(target=_watch_front_door, args=(front_door,), name=WATCH_THREAD, daemon=True).start()


def _watch_front_door(front_door: int) -> None:
    is_child = os.getppid() == front_door
    # Another parent means that the front door is gone, or that there is a process in between.
    while os.getppid() == front_door or (not is_child and _is_process(front_door)):
        time.sleep(POLL_SECONDS)
    try:
        sweep = current_sweep()
        if sweep.unfinished():
            sweep.stop()
            _wait(sweep, STOP_SECONDS)
    finally:
        os._exit(1)


def _is_process(number: int) -> bool:
    try:
        os.kill(number, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


# See `launch_jobs`.
Check = Callable[[BaseException, Sequence[int]], Iterable[Outcome]]


def current_sweep() -> Sweep:
    """Return the sweep that this process takes part in.

    Returns
    -------
    Sweep
    """
    return Sweep(Path(os.environ[VARIABLE]))


def launch_jobs(
    sweep: Sweep, total: int | None, launch: Callable[[], None], check: Check | None = None
) -> None:
    """Launch the jobs of a sweep, and launch again what was lost with a killed process.

    A launcher that loses a worker gives up: jobs that it had not begun are launched anew; those that were
    in the hands of a process that died are tried once more, one at a time, so that the one that kills its
    process (by taking all memory, say) takes no other with it.

    Parameters
    ----------
    sweep : Sweep
    total : int or None
        How many jobs there are; None where nobody knows beforehand.
    launch : callable
        Has all jobs of the sweep done that may be taken, and returns when they are.
    check : callable, optional
        From what a launcher raised, and the jobs that were not begun, to the outcomes of those that are to
        blame, and that cannot be done.

    Raises
    ------
    Exception
        What `launch` raises, if it does not get any job to begin.
    """
    retried: set[int] = set()
    fruitless = 0
    while True:
        taken, broken = sweep.taken(), None
        try:
            with _noticing_loss(sweep, total):
                launch()
        except Exception as error:
            broken = error
        if sweep.stopping:
            return
        _wait(sweep)
        for job in retried.intersection(sweep.unfinished()):
            sweep.bury(job, _describe_loss(broken))
        fresh = sorted(set(sweep.unfinished(total)) - sweep.taken())
        # Before any job was begun, the request as a whole is to blame.
        doubtful = fresh if sweep.taken() else []
        to_blame = list(check(broken, doubtful)) if check is not None and broken is not None else []
        for outcome in to_blame:
            sweep.record(outcome)
        left = sweep.unfinished(total)
        fresh = [job for job in left if job not in sweep.taken()]
        stuck = bool(fresh) and not to_blame and sweep.taken() == taken
        fruitless = fruitless + 1 if stuck else 0
        if stuck and isinstance(broken, BrokenProcessPool) and fruitless < FRUITLESS_LAUNCHES:
            continue  # a worker that was killed before it took a job
        # Of a sweep whose length is not known, nobody can say whether a broken launcher left jobs undone.
        if broken is not None and (stuck or (total is None and not left and not retried)):
            raise broken
        if stuck or not left:
            return
        # What no process ever began comes first, all of it at once; then what died with its process.
        retried.update(left[:1] if not fresh else [])
        sweep.restrict(fresh or left[:1])
        why = f"{len(to_blame)} cannot be run" if to_blame else "a process died"
        print(f"{why}; launching again what is left ({len(left)})", file=sys.stderr)


def interrupt(number: signal.Signals) -> None:
    """Have the main thread take a signal, also where it sleeps.

    Parameters
    ----------
    number : signal.Signals
    """
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(int(threading.main_thread().ident or 0), number)
    else:
        _thread.interrupt_main(number)


class LostJobsError(RuntimeError):
    """All that is left of a sweep are jobs whose processes died, of which the launcher knows nothing."""


@contextmanager
def _noticing_loss(sweep: Sweep, total: int | None) -> Iterator[None]:
    """Interrupt a launcher that waits for the dead: without accounting, SLURM does not tell submitit."""
    done = threading.Event()

    def raise_in_main_thread(number: int, frame: object) -> None:
        raise LostJobsError("their processes died, and the launcher did not notice")

    def watch() -> None:
        looks = 0
        while looks < LOOKS_AT_LOSS:
            if done.wait(SECONDS_BETWEEN_LOOKS):
                return
            left = sweep.unfinished(total)
            lost = bool(left) and sweep.taken().issuperset(left) and not sweep.in_hand()
            looks = looks + 1 if lost else 0
        interrupt(signal.SIGUSR1)

    if not hasattr(signal, "SIGUSR1"):  # Windows, where there is no SLURM
        yield
        return
    before = signal.signal(signal.SIGUSR1, raise_in_main_thread)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()
        signal.signal(signal.SIGUSR1, before)


def _wait(sweep: Sweep, seconds: float | None = None) -> None:
    """Wait for jobs that other processes are still working on."""
    end = None if seconds is None else time.monotonic() + seconds
    while sweep.in_hand() and (end is None or time.monotonic() < end):
        time.sleep(POLL_SECONDS)


def end_sweep(sweep: Sweep) -> None:
    """Stop a sweep before its end, and note which jobs this killed that could not say so themselves.

    Parameters
    ----------
    sweep : Sweep
    """
    sweep.stop()
    _wait(sweep, STOP_SECONDS)
    for job in sweep.unfinished():
        sweep.bury(job, "stopped with its sweep")


def _describe_loss(error: BaseException | None) -> str:
    reason = "" if error is None else f": {first_line(error)}"
    return f"its process was killed, twice; perhaps it needs more memory than there is{reason}"
