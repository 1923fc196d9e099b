"""Locks of a local run store: its lock file, and those that SQLite puts on its database."""

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from harness.errors import TrackingError

LOCK_SECONDS = 120.0  # to wait for a lock file
LOCKED_SECONDS = 60.0  # to wait for a database that another process has locked
NOTICE_SECONDS = 5.0  # after which a message names the process that is waited for
COMMAND_LENGTH = 100  # characters of a process's command line in a message

T = TypeVar("T")


@contextmanager
def lock_file(file: Path) -> Iterator[None]:
    """Hold the lock of a file; raise TrackingError if another process holds it for `LOCK_SECONDS`."""
    lock = FileLock(file)
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout as error:
        raise TrackingError(format_lock_error(file.resolve(), LOCK_SECONDS)) from error
    try:
        yield
    finally:
        lock.release()


def driver_error(error: BaseException) -> BaseException:
    """Return the database driver's exception behind those of SQLAlchemy and MLflow."""
    found: BaseException = error
    cause: BaseException | None = error
    while cause is not None:
        found, cause = getattr(cause, "orig", None) or found, cause.__cause__ or cause.__context__
    return found


def is_locked(error: BaseException) -> bool:
    """Return whether an operation failed because another process has locked the SQLite database."""
    code = getattr(driver_error(error), "sqlite_errorcode", 0) & 0xFF  # the primary result code
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def retry_while_locked(operation: Callable[[], T]) -> T:
    """Return the result of an MLflow operation, repeated for up to a minute while the database is locked.

    The operation has to be repeatable. MLflow itself waits for 20 seconds and rolls back what fails.
    """
    end = time.monotonic() + LOCKED_SECONDS
    while True:
        try:
            return operation()
        except Exception as error:
            if not is_locked(error) or time.monotonic() >= end:
                raise


def connect(database: Path, write: bool = False) -> sqlite3.Connection:
    """Connect to an existing database, in autocommit mode, once no other process has locked it.

    Parameters
    ----------
    write : bool
        Whether to begin a transaction that keeps other processes from writing.

    Raises
    ------
    sqlite3.Error
        If the database is damaged, cannot be written, or is locked for more than a minute.
    """
    connection = sqlite3.connect(database, timeout=NOTICE_SECONDS, isolation_level=None)
    statement = "BEGIN IMMEDIATE" if write else "SELECT count(*) FROM sqlite_master"
    try:
        try:
            connection.execute(statement).fetchall()
        except sqlite3.OperationalError as error:
            if not is_locked(error):
                raise
            print(
                f"{database} is locked by {describe_lock_holders(database)}; "
                f"waiting for it for up to {LOCKED_SECONDS:.0f} s",
                file=sys.stderr,
            )
            connection.execute(f"PRAGMA busy_timeout = {int(LOCKED_SECONDS * 1000)}")
            connection.execute(statement).fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def format_lock_error(file: Path, seconds: float | None = None) -> str:
    """Return the message for a file that is locked, or has been for some seconds."""
    state = "is locked" if seconds is None else f"has been locked for {seconds:.0f} s"
    return (
        f"{file} {state} by {describe_lock_holders(file)}. Wait until it has ended, or end it; or choose "
        "another run store with tracking.folder=..."
    )


def describe_lock_holders(file: Path) -> str:
    """Return the processes that hold a lock on a file, with their command lines where they can be read."""
    holders = find_lock_holders(file)
    if not holders:
        return f"another process, which could not be identified (`lsof {file}` lists those that have it open)"
    return " and ".join(f"process {number}{_read_command(number)}" for number in holders)


def find_lock_holders(file: Path) -> list[int]:
    """Return the ids of the processes that hold a lock on a file; none where Linux's /proc is missing."""
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
        status = file.stat()
    except OSError:
        return []
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    # For example "1: POSIX  ADVISORY  WRITE 4711 fe:00:2351713 0 EOF"; a waiting process has "->" before it.
    fields = [line.split() for line in lines]
    numbers = {int(row[-4]) for row in fields if len(row) == 8 and row[-3] == place}
    return sorted(number for number in numbers if number > 0)


def _read_command(number: int) -> str:
    try:
        command = Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # it has ended, or belongs to another user
        return ""
    printable = "".join(letter if letter.isprintable() else "?" for letter in command.strip())
    return f" ({printable[:COMMAND_LENGTH]})" if printable else ""
