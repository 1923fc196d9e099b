"""The run store: whether it can be opened and written, its schema, its place, and its unfinished runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.app.doctor.file_system import find_existing, find_write_problem, format_usage, suggest_directory
from harness.app.doctor.installation import find_requirement, format_command, format_install, quote
from harness.app.doctor.selection import Selection
from harness.checks.diagnosis import Diagnosis, Status
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.tracking.choices import StoreState
    from harness.tracking.store_health import RunningRuns


def check_store(selection: Selection) -> Iterator[Diagnosis]:
    """Check the local store or the server, without changing it."""
    if selection.tracking == "off":
        yield Diagnosis("store", "tracking", Status.ok, "tracking=off: no runs are stored")
    elif selection.uri is not None:
        yield from _check_server(selection.uri, selection.store_directory)
    else:
        yield from _check_directory(selection.store_directory)


def _check_directory(path: Path) -> Iterator[Diagnosis]:
    directory = _check_writable(path)
    yield directory
    if directory.status == Status.ok:
        yield from _find_closed_parts(path.resolve())
    from harness.tracking.choices import DATABASE, StoreState

    file = path.resolve() / DATABASE
    option = "" if path.resolve() == Path("mlruns").resolve() else f" --folder {quote(path)}"
    if not os.path.lexists(file):
        if directory.status == Status.ok:
            yield _describe_database(StoreState.absent, "", None, file, option)
        return
    if file.is_dir():
        yield _describe_database(StoreState.foreign, "it is a directory", None, file, option)
        return
    with file.open("rb"):  # raises the reason why it cannot be read
        pass
    from harness.tracking.store_health import examine_store

    health = examine_store(path)
    yield _describe_database(health.state, health.reason, health.revision, file, option)
    if health.state != StoreState.current:
        return
    if health.moved:
        places = ", ".join(map(str, health.moved))
        text = f"was moved or copied from {places}, where the files of its runs are looked for"
        repair = format_command("harness", "relocate") + option
        moved = list(map(str, health.moved))
        yield Diagnosis("store", "place", Status.fault, text, repair, {"moved_from": moved})
    else:
        yield Diagnosis("store", "place", Status.ok, f"{path.resolve()}", None, {"moved_from": []})
    yield _check_running(health.running, option)


def _check_writable(path: Path) -> Diagnosis:
    problem, place = find_write_problem(path)
    facts = {"directory": str(path.absolute()), "exists": path.is_dir(), "writable": problem is None}
    if problem is None:
        return Diagnosis("store", "directory", Status.ok, f"{place} can be written", None, facts)
    text = f"{place} cannot be written: {problem}; runs need another directory"
    target = suggest_directory("mlruns")
    command = format_usage(find_existing(place))
    if target is not None:
        command = f"{format_command('harness')} tracking.folder={target}"
    return Diagnosis("store", "directory", Status.fault, text, command, facts)


def _find_closed_parts(path: Path) -> Iterator[Diagnosis]:
    """Find what is in the store and cannot be written by a run."""
    from harness.tracking.choices import DATABASE, STORE_LOCK

    for name in (DATABASE, STORE_LOCK):
        file = path / name
        if file.is_file() and not os.access(file, os.W_OK):
            yield _describe_closed(file, "permission denied", f"chmod u+rw {quote(file)}")
    for name in ("artifacts", "running"):
        part = path / name
        if not os.path.lexists(part):
            continue
        problem, _ = find_write_problem(part)
        if problem is not None and part.is_dir():
            yield _describe_closed(part, problem, f"chmod u+rwx {quote(part)}")
        elif problem is not None:
            yield _describe_closed(part, problem, f"mv {quote(part)} {quote(f'{part}.damaged')}")


def _describe_closed(part: Path, problem: str, command: str) -> Diagnosis:
    text = f"{part} cannot be written: {problem}; every run fails"
    return Diagnosis("store", f"write {part.name}", Status.fault, text, command, {"path": str(part)})


def _describe_database(
    state: StoreState, reason: str, revision: str | None, file: Path, option: str
) -> Diagnosis:
    """Describe what was found of a database; `option` chooses its store in the command that repairs it."""
    from harness.tracking.choices import StoreState

    detail = f": {reason}" if reason else ""
    aside = f"mv {quote(file)} {quote(file.with_name(file.name + '.damaged'))}"
    migrate = format_command("harness", "runs") + option
    described: dict[StoreState, tuple[Status, str, str | None]] = {
        StoreState.current: (Status.ok, "opens; its schema is current", None),
        StoreState.absent: (Status.ok, f"none yet in {file.parent}; the first run creates it", None),
        StoreState.older: (
            Status.caution,
            "is of an older MLflow; the next use migrates it, and keeps a backup next to it",
            migrate,
        ),
        StoreState.newer: (
            Status.fault,
            "was written by a newer MLflow than the installed one",
            format_install(find_requirement("mlflow"), upgrade=True),
        ),
        StoreState.incomplete: (
            Status.caution,
            f"is incomplete{detail}; the next use creates it again",
            migrate,
        ),
        StoreState.interrupted: (
            Status.caution,
            f"was interrupted{detail}; the next use repairs it",
            migrate,
        ),
        StoreState.foreign: (
            Status.fault,
            f"is not a run store{detail}; move it away, or choose another directory",
            aside,
        ),
        StoreState.locked: (Status.caution, f"is locked {reason}; wait until that process has ended", None),
        StoreState.damaged: (
            Status.fault,
            f"is damaged{detail}; restore a backup of it, recover what is left with sqlite3 {quote(file)} "
            ".recover, or move it away",
            aside,
        ),
    }
    status, text, command = described[state]
    n_bytes = file.stat().st_size if file.is_file() else None
    text += "" if n_bytes is None else f"; {n_bytes / 1e6:.1f} MB"
    facts = {"state": state, "revision": revision, "bytes": n_bytes, "file": str(file)}
    return Diagnosis("store", "database", status, text, command, facts)


def _check_running(running: RunningRuns, option: str) -> Diagnosis:
    alive, killed, unknown = running.alive, running.killed, running.unknown
    facts = {"alive": list(alive), "killed": list(killed), "unknown": list(unknown)}
    parts = []
    if killed:
        parts.append(
            f"{len(killed)} left RUNNING by processes that were killed; the next use marks them KILLED"
        )
    if unknown:
        parts.append(f"{len(unknown)} RUNNING without a lock here: on another machine, or of another program")
    if alive:
        parts.append(f"{len(alive)} in progress")
    command = format_command("harness", "runs", "--status", "RUNNING") + option
    if killed:
        command = format_command("harness", "runs", "--failed") + option
    status = Status.caution if killed or unknown else Status.ok
    text = "; ".join(parts) or "none is RUNNING"
    return Diagnosis("store", "running", status, text, command if status != Status.ok else None, facts)


def _check_server(uri: str, path: Path) -> Iterator[Diagnosis]:
    from harness.tracking.store_health import examine_server

    try:
        running = examine_server(uri, path)
    except HarnessError as error:
        command = f"mlflow server --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1  # for {uri}"
        yield Diagnosis("store", "server", Status.fault, str(error), command, {"uri": uri, "answers": False})
        return
    yield Diagnosis("store", "server", Status.ok, f"{uri} answers", None, {"uri": uri, "answers": True})
    yield _check_running(running, f" --uri {quote(uri)}")
