"""Launch the jobs of a sweep, and relaunch jobs whose process was killed."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from harness.app.interrupts import interrupt_main_thread
from harness.errors import format_error
from harness.tracking.ledger import Outcome, Sweep

POLL_SECONDS = 0.2
# A job that looks lost this often in a row is lost; its process may be about to claim it, or to end it.
CHECKS_OF_LOSS, SECONDS_BETWEEN_CHECKS = 3, 5.0
# How long a stopped sweep waits for jobs that other processes still work on.
STOP_SECONDS = 8.0
MAX_LAUNCHES_WITHOUT_JOB = 3  # in a row, after which a pool whose workers die is given up

# From what a launcher raised, and the jobs that no process claimed, to the outcomes of those that caused it.
BlameJobs = Callable[[BaseException, Sequence[int]], Iterable[Outcome]]


def launch_jobs(sweep: Sweep, total: int, launch: Callable[[], None], blame: BlameJobs) -> None:
    """Launch the jobs of a sweep, and launch again what was lost with a killed process.

    A launcher that loses a worker gives up. Jobs that no process had claimed are launched anew; those whose
    process died are tried once more, one at a time, so that a job that kills its process (by taking all
    memory, say) affects no other.

    `launch` runs all of the `total` jobs that can be claimed, and returns when they have ended. What it
    raises is raised if no job was claimed meanwhile.
    """
    retried: set[int] = set()
    launches_without_progress = 0
    while True:
        claimed, broken = sweep.ever_claimed(), None
        try:
            with _interrupt_when_workers_vanish(sweep, total):
                launch()
        except Exception as error:
            broken = error
        if sweep.stopping:
            return
        wait_for_claimed(sweep)
        for job in retried.intersection(sweep.unfinished()):
            sweep.mark_killed(job, _describe_loss(broken))
        # If no job was claimed, the error concerns the whole sweep.
        doubtful = sorted(set(sweep.unfinished(total)) - sweep.ever_claimed()) if sweep.ever_claimed() else []
        blamed = list(blame(broken, doubtful)) if broken is not None else []
        for outcome in blamed:
            sweep.record(outcome)
        left = sweep.unfinished(total)
        unclaimed = [job for job in left if job not in sweep.ever_claimed()]
        stuck = bool(unclaimed) and not blamed and sweep.ever_claimed() == claimed
        launches_without_progress = launches_without_progress + 1 if stuck else 0
        if (
            stuck
            and isinstance(broken, BrokenProcessPool)
            and launches_without_progress < MAX_LAUNCHES_WITHOUT_JOB
        ):
            continue  # a worker that was killed before it claimed a job
        if broken is not None and stuck:
            raise broken
        if stuck or not left:
            return
        # Unclaimed jobs come first, all at once; then those that died with their process, one by one.
        retried.update(left[:1] if not unclaimed else [])
        sweep.limit_to(unclaimed or left[:1])
        why = f"{len(blamed)} cannot be composed" if blamed else "a process died"
        print(f"{why}; launching the remaining {len(left)} again", file=sys.stderr)


class LostJobsError(RuntimeError):
    """The processes of all remaining jobs died, and the launcher did not notice."""


@contextmanager
def _interrupt_when_workers_vanish(sweep: Sweep, total: int) -> Iterator[None]:
    """Interrupt a launcher that waits for dead processes: without accounting, SLURM does not report them."""
    done = threading.Event()

    def raise_in_main_thread(number: int, frame: object) -> None:
        raise LostJobsError("their processes died, and the launcher did not notice")

    def watch() -> None:
        n_checks = 0
        while n_checks < CHECKS_OF_LOSS:
            if done.wait(SECONDS_BETWEEN_CHECKS):
                return
            left = sweep.unfinished(total)
            lost = bool(left) and sweep.ever_claimed().issuperset(left) and not sweep.claimed_now()
            n_checks = n_checks + 1 if lost else 0
        interrupt_main_thread(signal.SIGUSR1)

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


def end_sweep(sweep: Sweep) -> None:
    """Stop a sweep before its end, and mark the jobs as killed whose processes could not do so."""
    sweep.stop()
    wait_for_claimed(sweep, STOP_SECONDS)
    for job in sweep.unfinished():
        sweep.mark_killed(job, "stopped with its sweep")


def wait_for_claimed(sweep: Sweep, seconds: float | None = None) -> None:
    """Wait for jobs that other processes are still working on."""
    end = None if seconds is None else time.monotonic() + seconds
    while sweep.claimed_now() and (end is None or time.monotonic() < end):
        time.sleep(POLL_SECONDS)


def _describe_loss(error: BaseException | None) -> str:
    reason = "" if error is None else f": {format_error(error)}"
    return f"its process was killed, twice; perhaps it needs more memory than there is{reason}"
