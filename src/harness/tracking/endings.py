"""The end of a run: noted near its store if that cannot be written, and entered for a process that died."""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock, Timeout
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from harness.tracking.tags import ERROR_TAG

Status = Literal["FAILED", "KILLED"]
NOTE_BYTES = 4096  # one block of most file systems
MAX_REASON = 600  # characters; in JSON and UTF-8 one takes at most 6 bytes, those of a control character
SECONDS_TO_LOCK = 2.0  # between creating a lock's file and holding the lock, at most


@dataclass(frozen=True)
class Ending:
    """The status of a run that did not finish, and why."""

    status: Status
    reason: str


class EndingNote:
    """A file whose space is reserved when the run begins, so that a full disk cannot lose the end of the run.

    File systems that write every change to a new block (btrfs, ZFS) give no such guarantee.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def reserve(self) -> None:
        """Reserve the space; raise OSError if the disk is full."""
        self.file.write_bytes(b" " * NOTE_BYTES)

    def write(self, ending: Ending) -> None:
        """Write the end; raise OSError if that is impossible, or no space was reserved."""
        short = asdict(ending) | {"reason": ending.reason[:MAX_REASON]}
        content = json.dumps(short, ensure_ascii=False).encode(errors="replace").ljust(NOTE_BYTES)
        with self.file.open("r+b") as opened:
            opened.write(content)

    def read(self) -> Ending | None:
        """Return the end; None if there is none (the process was killed) or it is damaged (a power cut)."""
        try:
            content = json.loads(self.file.read_bytes())
        except (FileNotFoundError, ValueError, RecursionError):  # a JSONDecodeError is a ValueError
            return None
        if not isinstance(content, dict) or content.get("status") not in get_args(Status):
            return None
        return Ending(content["status"], content["reason"]) if "reason" in content else None

    def remove(self) -> None:
        """Remove the file of a run whose end is in the store."""
        self.file.unlink(missing_ok=True)


def end_abandoned_runs(client: MlflowClient, running: Path) -> None:
    """End the runs whose process is gone: the system releases a lock when its owner dies."""
    for file in running.glob("*.lock"):
        lock = FileLock(file, timeout=0)
        # A run whose lock is held is alive; one that cannot be read now is ended by a later opening.
        with suppress(Timeout, MlflowException, OSError):
            # A file dated in the far future is not a new one: a clock was wrong.
            if abs(time.time() - file.stat().st_mtime) < SECONDS_TO_LOCK:
                continue
            with lock:
                reason = "its process was ended from outside: killed, or out of memory"
                end_dead_run(client, running, file.stem, reason)


def is_alive(running: Path, run_id: str) -> bool:
    """Return whether a process holds the lock of a run."""
    try:
        with FileLock(running / f"{run_id}.lock", timeout=0):
            return False
    except Timeout:
        return True


def end_dead_run(client: MlflowClient, running: Path, run_id: str, reason: str) -> None:
    """End a run on behalf of its process, unless that has done so, and remove the run's lock.

    It is KILLED for the reason given, unless its process left a note of how it ended.
    """
    note = EndingNote(running / f"{run_id}.end")
    try:
        status = client.get_run(run_id).info.status
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        status = "deleted"
    if status == "RUNNING":
        ending = note.read() or Ending("KILLED", reason)
        client.set_tag(run_id, ERROR_TAG, ending.reason)
        client.set_terminated(run_id, ending.status)
    note.remove()
    (running / f"{run_id}.lock").unlink(missing_ok=True)
