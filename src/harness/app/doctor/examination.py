"""The whole examination: every check by itself, so that one that fails does not end the others."""

from __future__ import annotations

import io
import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
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
    ("environment", "home", environment.check_home),
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
    with redirect_stdout(io.StringIO()), warnings.catch_warnings(), _without_logs():
        warnings.simplefilter("ignore")
        selection, error = select(overrides, config_dir, verify)
        for check in EARLY_CHECKS:
            found += _carry_out(*check, selection, found)
        found.append(describe_composition(selection, error, has_package_fault(found)))
        for check in LATE_CHECKS:
            found += _carry_out(*check, selection, found)
    return Examination(tuple(found), time.perf_counter() - start)


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
    group: str, name: str, check: Check, selection: Selection, before: list[Diagnosis]
) -> list[Diagnosis]:
    """Carry out one check; an exception is a diagnosis, after those that were made before it."""
    found: list[Diagnosis] = []
    try:
        for diagnosis in check(selection):
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
    """Return a command that shows owner and permissions of the file of an error."""
    return f"ls -ld {quote(error.filename or '.')}"
