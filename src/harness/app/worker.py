"""What Hydra calls for one job, in the process that the launcher chose."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from harness.app.interrupts import exit_on_termination_signals, interrupt_main_thread
from harness.app.job import run_job
from harness.app.launching import POLL_SECONDS, STOP_SECONDS, wait_for_claimed
from harness.errors import HarnessError, format_error
from harness.tracking.ledger import FRONT_DOOR_VARIABLE, Outcome, Sweep, current_sweep

WATCH_THREAD = "watch for the end of the sweep's main process"


def run_single_job(config: DictConfig) -> int:
    """Run the only job of a command, print its result or its error, and return the exit status."""
    try:
        run_job(config)
    except Exception as error:
        from harness.report.sweep_summary import print_error

        print_error(error)
        return int(getattr(error, "exit_status", 1))
    return 0


def run_sweep_job(config: DictConfig) -> None:
    """Run one job of a sweep and record its outcome; an error does not end the other jobs."""
    job, sweep = HydraConfig.get().job, current_sweep()
    overrides = tuple(word.removeprefix("++") for word in HydraConfig.get().overrides.task)
    with exit_on_termination_signals(), sweep.claim(job.num, overrides) as claimed:
        if not claimed:
            return
        failed = Outcome(job.num, "failed", overrides, exit_status=1)
        try:
            with _stop_with_sweep(sweep):
                outcome = run_job(config, sweep)
            sweep.record(outcome)
        except Exception as error:
            # Text alone: an exception would keep the job's arrays alive, and cannot always be pickled.
            lines = [] if isinstance(error, HarnessError) else traceback.format_exception(error)
            status = getattr(error, "exit_status", 1)
            sweep.record(
                replace(failed, error=format_error(error), traceback="".join(lines), exit_status=status)
            )
        except (KeyboardInterrupt, SystemExit):
            sweep.record(replace(failed, status="killed", error="stopped while it ran"))
            if _is_main_process():
                raise


def _is_main_process() -> bool:
    """Whether this process started the sweep; a job in a worker must not end the worker with it."""
    return os.environ[FRONT_DOOR_VARIABLE] == str(os.getpid())


@contextmanager
def _stop_with_sweep(sweep: Sweep) -> Iterator[None]:
    """Interrupt the job of this worker when any process stops the sweep."""
    if _is_main_process():
        yield
        return
    # The jobs of other launchers, for example SLURM's, finish without the sweep's main process.
    if str(HydraConfig.get().launcher._target_).endswith(".JoblibLauncher"):
        end_with_process(int(os.environ[FRONT_DOOR_VARIABLE]))
    done = threading.Event()

    def watch() -> None:
        while not done.wait(1.0):
            if sweep.stopping:
                interrupt_main_thread(signal.SIGTERM)
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def end_with_process(number: int) -> None:
    """End this worker soon after the sweep's main process is gone, however it was killed.

    The sweep is stopped first, so that a running job ends as after Ctrl-C: its run is KILLED, and the next
    sweep that includes it computes it. A job that does not end within `STOP_SECONDS` is cut off. On Windows,
    where a process does not notice the end of its parent, nothing is done.
    """
    if sys.platform == "win32" or any(thread.name == WATCH_THREAD for thread in threading.enumerate()):
        return
    threading.Thread(target=_watch_process, args=(number,), name=WATCH_THREAD, daemon=True).start()


def _watch_process(number: int) -> None:
    is_child = os.getppid() == number
    # Another parent means that the main process is gone, or that there is a process in between.
    while os.getppid() == number or (not is_child and _is_process(number)):
        time.sleep(POLL_SECONDS)
    try:
        sweep = current_sweep()
        if sweep.unfinished():
            sweep.stop()
            wait_for_claimed(sweep, STOP_SECONDS)
    finally:
        os._exit(1)


def _is_process(number: int) -> bool:
    try:
        os.kill(number, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True
