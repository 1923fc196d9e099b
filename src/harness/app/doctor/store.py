"""The run store: whether it can be opened and written, its schema, its place, and its unfinished runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from harness.app.doctor.file_system import find_write_problem
from harness.app.doctor.installation import format_command, format_install, quote
from harness.app.doctor.selection import Selection
from harness.checks.diagnosis import CAUTION, FAULT, OK, Diagnosis
from harness.errors import HarnessError, count


def check_store(selection: Selection) -> Iterator[Diagnosis]:
    """Check the local store or the server, without changing it."""
    if selection.tracking == "off":
        yield Diagnosis("store", "tracking", OK, "tracking=off: no runs are stored")
    elif selection.uri is not None:
        yield from _check_server(selection.uri, selection.folder)
    else:
        yield from _check_directory(selection.folder)


def _check_directory(folder: Path) -> Iterator[Diagnosis]:
    directory = _check_writable(folder)
    yield directory
    from harness.tracking.choices import DATABASE

    file = folder.resolve() / DATABASE
    if not os.path.lexists(file):
        if directory.status == OK:
            text = f"none yet in {folder.resolve()}; the first run creates it"
            yield Diagnosis("store", "database", OK, text, None, {"state": "absent", "runs": 0})
        return
    if file.is_dir():
        text = f"{file} is a directory; expected a database"
        aside = f"mv {quote(file)} {quote(file.with_name(file.name + '.damaged'))}"
        yield Diagnosis("store", "database", FAULT, text, aside, {"state": "foreign", "runs": None})
        return
    with file.open("rb"):  # raises the reason why it cannot be read
        pass
    from harness.tracking.store_health import examine_store

    health = examine_store(folder)
    option = "" if folder.resolve() == Path("mlruns").resolve() else f" --folder {quote(folder)}"
    size = file.stat().st_size
    facts = {
        "state": health.state,
        "runs": health.n_runs,
        "revision": health.revision,
        "bytes": size,
        "file": str(file),
    }
    status, text, command = _describe_state(health.state, health.reason, file, option)
    counted = "" if health.n_runs is None else f"; {count(health.n_runs, 'run')}, {size / 1e6:.1f} MB"
    yield Diagnosis("store", "database", status, f"{text}{counted}", command, facts)
    if health.state != "current":
        return
    if health.moved:
        places = ", ".join(map(str, health.moved))
        text = f"was moved or copied from {places}, where the files of its runs are looked for"
        repair = format_command("harness", "relocate") + option
        yield Diagnosis("store", "place", FAULT, text, repair, {"moved_from": list(map(str, health.moved))})
    else:
        yield Diagnosis("store", "place", OK, f"{folder.resolve()}", None, {"moved_from": []})
    yield _check_running(health.running, option)


def _check_writable(folder: Path) -> Diagnosis:
    problem, place = find_write_problem(folder)
    facts = {"directory": str(folder.absolute()), "exists": folder.is_dir(), "writable": problem is None}
    if problem is None:
        return Diagnosis("store", "directory", OK, f"{place} can be written", None, facts)
    text = f"{place} cannot be written: {problem}; runs need another directory"
    command = format_command("harness", "tracking.folder=PATH")
    return Diagnosis("store", "directory", FAULT, text, command.replace("PATH", _suggest_folder()), facts)


def _suggest_folder() -> str:
    """Return a directory that can be written, if there is one."""
    import tempfile

    for candidate in ("~/mlruns", os.path.join(tempfile.gettempdir(), "mlruns")):  # noqa: PTH118
        try:
            problem, _ = find_write_problem(Path(candidate).expanduser())
        except RuntimeError:  # no home directory
            continue
        if problem is None:
            return candidate
    return "DIRECTORY"


def _describe_state(state: str, reason: str, file: Path, option: str) -> tuple[str, str, str | None]:
    """Return status, text and repair command of a database."""
    detail = f": {reason}" if reason else ""
    aside = f"mv {quote(file)} {quote(file.with_name(file.name + '.damaged'))}"
    migrate = format_command("harness", "runs") + option
    described: dict[str, tuple[str, str, str | None]] = {
        "current": (OK, "opens; its schema is current", None),
        "absent": (OK, "none yet; the first run creates it", None),
        "older": (
            CAUTION,
            "is of an older MLflow; the next use migrates it, and keeps a backup next to it",
            migrate,
        ),
        "newer": (
            FAULT,
            "was written by a newer MLflow than the installed one",
            format_install("mlflow", upgrade=True),
        ),
        "incomplete": (CAUTION, f"is incomplete{detail}; the next use creates it again", migrate),
        "interrupted": (CAUTION, f"was interrupted{detail}; the next use repairs it", migrate),
        "foreign": (FAULT, f"is not a run store{detail}; move it away, or choose another directory", aside),
        "locked": (CAUTION, f"is locked {reason}; wait until that process has ended", None),
        "damaged": (
            FAULT,
            f"is damaged{detail}; restore a backup of it, recover what is left with sqlite3 {quote(file)} "
            ".recover, or move it away",
            aside,
        ),
    }
    return described[state]


def _check_running(running: object, option: str) -> Diagnosis:
    alive, killed, unknown = (getattr(running, name) for name in ("alive", "killed", "unknown"))
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
    status = CAUTION if killed or unknown else OK
    text = "; ".join(parts) or "none is RUNNING"
    return Diagnosis("store", "running", status, text, command if status != OK else None, facts)


def _check_server(uri: str, folder: Path) -> Iterator[Diagnosis]:
    from harness.tracking.store_health import examine_server

    try:
        running = examine_server(uri, folder)
    except HarnessError as error:
        command = f"mlflow server --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1  # for {uri}"
        yield Diagnosis("store", "server", FAULT, str(error), command, {"uri": uri, "answers": False})
        return
    yield Diagnosis("store", "server", OK, f"{uri} answers", None, {"uri": uri, "answers": True})
    yield _check_running(running, f" --uri {quote(uri)}")
