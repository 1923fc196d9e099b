"""Signals that end a run or a sweep: Ctrl-C, and those of schedulers, containers and closed terminals."""

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from harness.tracking.ledger import Sweep


@contextmanager
def exit_on_termination_signals() -> Iterator[None]:
    """Raise SystemExit(128 + number) on SIGTERM and SIGHUP, so that a run ends as it does after Ctrl-C."""

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


@contextmanager
def stop_sweep_on_sigint(sweep: Sweep) -> Iterator[None]:
    """Let Ctrl-C stop the sweep in all of its processes, and interrupt this one."""

    def stop(number: int, frame: object) -> None:
        sweep.stop()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def interrupt_main_thread(number: signal.Signals) -> None:
    """Deliver a signal to the main thread, also while it sleeps in a system call."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(int(threading.main_thread().ident or 0), number)
    else:
        _thread.interrupt_main(number)
