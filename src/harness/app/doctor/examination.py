"""The whole examination: every check by itself, so that one that fails does not end the others."""

from __future__ import annotations

import io
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.app.doctor import cache, data, environment, file_system, machine, packages, programs, store
from harness.app.doctor.installation import format_command, format_reinstall, quote
from harness.app.doctor.selection import Selection, describe_composition, select
from harness.checks.diagnosis import Diagnosis, Status
from harness.errors import HarnessError, first_line

Check = Callable[[Selection], Iterable[Diagnosis]]
# Group, name and function. Packages come first: they explain why later checks fail.
EARLY_CHECKS: tuple[tuple[str, str, Check], ...] = (
    ("python", "version", packages.check_python),
    ("packages", "harness", packages.check_harness),
    ("packages", "requirements", packages.check_requirements),
    ("packages", "imports", packages.check_imports),
    ("packages", "extras", packages.check_extras),
)
LATE_CHECKS: tuple[tuple[str, str, Check], ...] = (
    ("environment", "digest", environment.check_digest),
    ("environment", "system", environment.check_system),
    ("environment", "directory", environment.check_directory),
    ("store", "database", store.check_store),
    ("data", "haxby", data.check_haxby),
    ("data", "simulated", data.check_simulated),
    ("data", "selected", data.check_selected),
    ("cache", "samples", cache.check_cache),
    ("launchers", "launchers", programs.check_launchers),
    ("browser", "pages", programs.check_browser),
    ("machine", "processors", machine.check_processors),
    ("machine", "BLAS", machine.check_blas),
    ("machine", "speed", machine.check_speed),
    ("machine", "memory", machine.check_memory),
    ("disk", "disks", file_system.check_disks),
)


@dataclass(frozen=True)
class Examination:
    """The diagnoses in the order of their groups, and the seconds that they took."""

    diagnoses: tuple[Diagnosis, ...]
    seconds: float


def examine(overrides: list[str], config_dir: Path | None, verify: bool) -> Examination:
    """Carry out all checks.

    Raises
    ------
    UsageError
        If the overrides are wrong.
    """
    start = time.perf_counter()
    found: list[Diagnosis] = []
    # Standard output is the report's alone, and standard error that of usage errors.
    with ExitStack() as stack:
        for context in (
            _without_output(),
            redirect_stdout(io.StringIO()),
            warnings.catch_warnings(),
            _without_logs(),
            _matplotlib_elsewhere(),
        ):
            stack.enter_context(context)
        # Before the imports, which may create directories in it.
        home = _carry_out("environment", "home", environment.check_home, found)
        warnings.simplefilter("ignore")
        selection, error = select(overrides, config_dir, verify)
        for group, name, check in EARLY_CHECKS:
            found += _carry_out(group, name, partial(check, selection), found)
        found.append(describe_composition(selection, error, has_package_fault(found)))
        found += home
        for group, name, check in LATE_CHECKS:
            found += _carry_out(group, name, partial(check, selection), found)
    return Examination(tuple(found), time.perf_counter() - start)


@contextmanager
def _without_output() -> Iterator[None]:
    """Discard what compiled code and other processes write to standard output within this context."""
    try:
        kept = os.dup(1)
    except OSError:  # closed
        yield
        return
    _flush_output()
    discarded = os.open(os.devnull, os.O_WRONLY)
    os.dup2(discarded, 1)
    os.close(discarded)
    try:
        yield
    finally:
        _flush_output()
        os.dup2(kept, 1)
        os.close(kept)


def _flush_output() -> None:
    """Write what Python and the C library hold back."""
    for stream in (sys.stdout, sys.__stdout__):
        if stream is not None:
            stream.flush()
    with suppress(Exception):  # Windows has several C libraries
        import ctypes

        ctypes.CDLL(None).fflush(None)


@contextmanager
def _matplotlib_elsewhere() -> Iterator[None]:
    """Keep matplotlib from creating its directories in the home directory within this context."""
    if "MPLCONFIGDIR" in os.environ:
        yield
        return
    with ExitStack() as stack:
        with suppress(OSError):  # no temporary directory; the check of disks reports it
            os.environ["MPLCONFIGDIR"] = stack.enter_context(tempfile.TemporaryDirectory(prefix="harness-"))
        try:
            yield
        finally:
            os.environ.pop("MPLCONFIGDIR", None)


@contextmanager
def _without_logs() -> Iterator[None]:
    """Silence the logs of other packages within this context."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _carry_out(
    group: str, name: str, check: Callable[[], Iterable[Diagnosis]], before: list[Diagnosis]
) -> list[Diagnosis]:
    """Carry out one check; an exception is a diagnosis, after those that were made before it."""
    found: list[Diagnosis] = []
    try:
        for diagnosis in check():
            found.append(diagnosis)
    except (Exception, SystemExit) as error:
        found.append(_describe_failure(group, name, error, before))
    return found


def _describe_failure(group: str, name: str, error: BaseException, before: list[Diagnosis]) -> Diagnosis:
    """Describe a check that could not be carried out; a caution if an earlier fault explains it."""
    reason = f"{type(error).__name__}: {first_line(error)}"
    facts = {"error": reason}
    if isinstance(error, HarnessError):
        return Diagnosis(
            group, name, Status.fault, str(error), format_command("harness", "doctor", "--help"), facts
        )
    if isinstance(error, OSError):
        return Diagnosis(
            group, name, Status.fault, f"could not be checked: {reason}", _list_command(error), facts
        )
    if has_package_fault(before):
        text = f"not checked, see the faults of the packages: {reason}"
        return Diagnosis(group, name, Status.caution, text, None, facts)
    return Diagnosis(group, name, Status.fault, f"could not be checked: {reason}", format_reinstall(), facts)


def has_package_fault(diagnoses: list[Diagnosis]) -> bool:
    """Return whether Python or a package has a fault, which explains why other checks fail."""
    return any(item.status == Status.fault and item.group in ("python", "packages") for item in diagnoses)


def _list_command(error: OSError) -> str:
    """Return a command that permits to use the file of an error, or shows its owner and permissions."""
    try:
        mine = error.filename is not None and Path(error.filename).stat().st_uid == os.getuid()
    except (OSError, AttributeError):  # not visible, or Windows
        mine = False
    if isinstance(error, PermissionError) and mine:
        mode = "u+rwx" if Path(error.filename).is_dir() else "u+rw"
        return f"chmod {mode} {quote(error.filename)}"
    return f"ls -ld {quote(error.filename or '.')}"
