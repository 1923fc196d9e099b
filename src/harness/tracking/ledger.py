"""A sweep's ledger: one small file per job, which says who claimed it and how it ended.

Jobs may run in other processes and on other machines than the command that started the sweep, and any of
these may be killed; the files are all that they share.
"""

import json
import os
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

# Every launcher hands its environment on to its workers.
SWEEP_DIRECTORY_VARIABLE = "HARNESS_SWEEP"
FRONT_DOOR_VARIABLE = "HARNESS_FRONT_DOOR"  # id of the process that started the sweep

Status = Literal["finished", "skipped", "failed", "killed"]


@dataclass(frozen=True)
class Outcome:
    """How one job ended.

    Attributes
    ----------
    job : int
        Number of the job in its sweep, from 0.
    status : {"finished", "skipped", "failed", "killed"}
        Skipped: a run with the same fingerprint had finished before.
    name : str
        Name of the run; empty if the job failed before it had one.
    run_id : str or None
        The run in the store, if there is one.
    words : mapping of str to str
        The chosen option of every group.
    scores : mapping of str to float
        Means and standard deviations: ``test_accuracy_mean``, ``test_accuracy_std`` and so on.
    error : str
        Why it failed, in one line.
    traceback : str
        Empty if `error` suffices.
    exit_status : int
        1 for a run that failed, 2 for a usage error.
    notices : tuple of str
        Shown with the result: warnings, and that the data are simulated.
    audit : str
        The worst verdict of the audit; empty if there was none.
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
    audit: str = ""


class Sweep:
    """The directory of a sweep, shared by all of its processes.

    Parameters
    ----------
    directory : Path
        Its name is the sweep's id. Created when the first job is claimed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._jobs = directory / "jobs"

    @classmethod
    def begin(cls, parent: Path) -> "Sweep":
        """Name a new sweep in the directory of all sweeps; names sort by time."""
        return cls(parent.absolute() / f"{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:8]}")

    @property
    def id(self) -> str:
        """Name of the sweep, for example ``20261121-023015-ab12cd34``."""
        return self.directory.name

    @contextmanager
    def claim(self, job: int, overrides: Sequence[str]) -> Iterator[bool]:
        """Claim a job for this process; yield False if it has ended, is claimed, or is not to be run now.

        The operating system releases the claim when the process dies.
        """
        self._jobs.mkdir(parents=True, exist_ok=True)
        if self.stopping or not self._is_allowed(job):
            yield False
            return
        # With a timeout, because `claimed_now` holds the lock for a moment, to see whether it is free.
        lock = FileLock(self._jobs / f"{job}.lock", timeout=1)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            if any(ended == job for ended, _ in self._list_outcomes()):
                yield False
                return
            self._write(f"{job}.taken", self._read(f"{job}.taken") | {"overrides": list(overrides)})
            yield True
        finally:
            lock.release()

    def note_run(self, job: int, name: str, run_id: str | None) -> None:
        """Record which run a job works on, so that another process can end the run if this one dies."""
        known = self._read(f"{job}.taken")
        run_ids = [*known.get("run_ids", []), *([] if run_id is None else [run_id])]
        self._write(f"{job}.taken", known | {"name": name, "run_ids": run_ids})

    def record(self, outcome: Outcome) -> None:
        """Record how a job ended; a missing name or run is taken from `note_run`."""
        known = self._read(f"{outcome.job}.taken")
        if outcome.run_id is None:
            run_id = next(reversed(known.get("run_ids", [])), None)
            outcome = replace(outcome, run_id=run_id, name=outcome.name or known.get("name", ""))
        self._write(f"{outcome.job}.{outcome.status}", asdict(outcome))

    def mark_killed(self, job: int, error: str) -> None:
        """Record a job as killed on behalf of its dead process."""
        overrides = tuple(self._read(f"{job}.taken").get("overrides", ()))
        self.record(Outcome(job, "killed", overrides, error=error, exit_status=1))

    def count(self) -> Counter[str]:
        """Return how many jobs have which status, from the names of their files alone."""
        return Counter(status for _, status in self._list_outcomes())

    def outcomes(self) -> list[Outcome]:
        """Return the outcome of every job that has ended, in the order of the jobs."""
        read = (self._read(f"{job}.{status}") for job, status in sorted(self._list_outcomes()))
        return [
            Outcome(**entry | {"overrides": tuple(entry["overrides"]), "notices": tuple(entry["notices"])})
            for entry in read
            if entry
        ]

    def unfinished(self, total: int | None = None) -> list[int]:
        """Return the jobs without an outcome: of `total` jobs, or of those that were ever claimed."""
        every = self.ever_claimed() if total is None else set(range(total))
        return sorted(every - {job for job, _ in self._list_outcomes()})

    def ever_claimed(self) -> set[int]:
        """Return the jobs that some process has worked on."""
        return {int(file.stem) for file in self._jobs.glob("*.taken")}

    def claimed_now(self) -> list[int]:
        """Return the jobs that a process is working on."""
        claimed = []
        for job in self.unfinished():
            try:
                with FileLock(self._jobs / f"{job}.lock", timeout=0):
                    pass
            except Timeout:
                claimed.append(job)
        return claimed

    def limit_to(self, jobs: Sequence[int]) -> None:
        """Let only these jobs be claimed from now on."""
        self._write("wanted", {"jobs": list(jobs)})

    def stop(self) -> None:
        """Let no further job be claimed, and interrupt those that run."""
        self._jobs.mkdir(parents=True, exist_ok=True)
        (self._jobs / "stop").touch()

    @property
    def stopping(self) -> bool:
        """Whether the sweep was stopped."""
        return (self._jobs / "stop").exists()

    def _is_allowed(self, job: int) -> bool:
        allowed = self._read("wanted")
        return not allowed or job in allowed["jobs"]

    def _list_outcomes(self) -> list[tuple[int, str]]:
        ends = (".finished", ".skipped", ".failed", ".killed")
        names = [file.name for file in self._jobs.iterdir()] if self._jobs.is_dir() else []
        return [
            (int(job), status)
            for job, _, status in (name.partition(".") for name in names if name.endswith(ends))
        ]

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a file so that no process reads half of it."""
        self._jobs.mkdir(parents=True, exist_ok=True)
        part = self._jobs / f".{name}.{uuid.uuid4().hex[:8]}"
        part.write_text(json.dumps(content), encoding="utf-8")
        part.replace(self._jobs / name)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads((self._jobs / name).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}


def current_sweep() -> Sweep:
    """Return the sweep that this process belongs to."""
    return Sweep(Path(os.environ[SWEEP_DIRECTORY_VARIABLE]))
