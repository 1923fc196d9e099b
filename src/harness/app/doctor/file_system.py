"""File systems: whether a directory can be written, the space on its disk, and the speed of the disk."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.app.doctor.installation import format_command, quote
from harness.app.doctor.selection import Selection
from harness.checks.diagnosis import Diagnosis, Status

FEW_BYTES, TOO_FEW_BYTES = 2_000_000_000, 50_000_000  # free
PIECE = 1 << 20  # bytes
N_PIECES = 16
MAX_SECONDS = 0.4  # of writing
PREFIX = ".harness-doctor-"  # of temporary files, which are removed


@dataclass(frozen=True)
class DiskSpeed:
    """MB/s of writing, flushed to the disk, and of reading."""

    write: float
    read: float


def find_existing(path: Path) -> Path:
    """Return the directory itself, or the closest one above it that exists."""
    path = path.absolute()
    return next((directory for directory in (path, *path.parents) if directory.is_dir()), path)


def find_write_problem(directory: Path) -> tuple[str | None, Path]:
    """Return why a directory, or the one that it would be created in, cannot be written; and which it is.

    A temporary file is created, because permissions alone do not show it: a disk can be full or read-only.
    """
    directory = directory.absolute()
    place = next(path for path in (directory, *directory.parents) if os.path.lexists(path))
    if not place.is_dir():
        return "it is not a directory", place
    try:
        with tempfile.TemporaryFile(prefix=PREFIX, dir=place) as file:
            file.write(b"0" * 4096)
            file.flush()
    except OSError as error:
        return error.strerror or str(error), place
    return None, place


def suggest_directory(name: str, n_bytes: int = TOO_FEW_BYTES) -> str | None:
    """Return a directory that can be written and has space, as a word for a shell; None if none was found."""
    for find in (Path.cwd, Path.home, lambda: Path(tempfile.gettempdir())):
        try:
            directory = find() / name
            problem, place = find_write_problem(directory)
            if problem is None and shutil.disk_usage(place).free >= n_bytes:
                return quote(directory)
        except (OSError, RuntimeError):  # deleted, or no home directory
            continue
    return None


def format_usage(directory: Path) -> str:
    """Return the command that lists the largest directories of a disk, where no other disk has space."""
    return f"du -xh -d 1 {quote(directory)} | sort -h | tail  # what to delete"


def check_disks(selection: Selection) -> Iterator[Diagnosis]:
    """Check space and speed of the disks of store and cache, and the temporary directory."""
    speeds: dict[int, DiskSpeed | str] = {}
    yield _check_temporary()
    if selection.tracking != "off":
        yield _check_disk("store", selection.store_directory, speeds, required=selection.uri is None)
    from harness.datasets.locations import cache_directory

    yield _check_disk("cache", cache_directory(), speeds, required=False)


def _check_disk(name: str, directory: Path, speeds: dict[int, DiskSpeed | str], required: bool) -> Diagnosis:
    place = find_existing(directory)
    usage, device = shutil.disk_usage(place), place.stat().st_dev
    if device not in speeds and usage.free <= 10 * N_PIECES * PIECE:
        speeds[device] = "too little space"
    elif device not in speeds:
        try:
            speeds[device] = measure_speed(place)
        except OSError as error:
            speeds[device] = error.strerror or str(error)
    speed = speeds[device]
    facts: dict[str, object] = {"directory": str(place), "free_bytes": usage.free, "total_bytes": usage.total}
    text = f"{usage.free / 1e9:.1f} of {usage.total / 1e9:.1f} GB free"
    if isinstance(speed, DiskSpeed):
        facts |= {"write_mb_per_s": speed.write, "read_mb_per_s": speed.read}
        text += f"; writes {speed.write:.0f} MB/s, reads {speed.read:.0f} MB/s"
    else:
        facts |= {"write_mb_per_s": None, "read_mb_per_s": None}
        text += f"; its speed was not measured: {speed}"
    text += f" ({place})"
    if usage.free < TOO_FEW_BYTES:
        status = Status.fault if required else Status.caution
    else:
        status = Status.caution if usage.free < FEW_BYTES else Status.ok
    repair = None
    if name == "cache":
        repair = format_command("harness", "cache", "clear")
    elif status != Status.ok:
        target = suggest_directory("mlruns", FEW_BYTES)
        repair = format_usage(place)
        if target is not None:
            repair = f"{format_command('harness')} tracking.folder={target}"
    return Diagnosis("disk", name, status, text, repair if status != Status.ok else None, facts)


def measure_speed(directory: Path) -> DiskSpeed:
    """Write a file of at most 16 MB, flush it to the disk, and read it again, not from memory if possible."""
    content = os.urandom(PIECE)
    with tempfile.TemporaryFile(prefix=PREFIX, dir=directory, buffering=0) as file:
        start, n_pieces = time.perf_counter(), 0
        while n_pieces < N_PIECES and time.perf_counter() - start < MAX_SECONDS:
            file.write(content)
            n_pieces += 1
        os.fsync(file.fileno())
        written = time.perf_counter() - start
        if hasattr(os, "posix_fadvise"):  # Linux keeps the file in memory otherwise
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        start = time.perf_counter()
        while file.read(PIECE):
            pass
        read = time.perf_counter() - start
    megabytes = n_pieces * PIECE / 1e6
    return DiskSpeed(megabytes / max(written, 1e-6), megabytes / max(read, 1e-6))


def _check_temporary() -> Diagnosis:
    try:
        directory = tempfile.gettempdir()
    except OSError as error:
        text = f"no temporary directory can be written: {error.strerror or error}"
        repair = _format_temporary(find_existing(Path.cwd()))
        return Diagnosis("disk", "temporary files", Status.fault, text, repair)
    free = shutil.disk_usage(directory).free
    facts = {"directory": directory, "free_bytes": free}
    status = Status.caution if free < TOO_FEW_BYTES else Status.ok
    command = None if status == Status.ok else _format_temporary(Path(directory))
    return Diagnosis(
        "disk", "temporary files", status, f"{free / 1e9:.1f} GB free ({directory})", command, facts
    )


def _format_temporary(directory: Path) -> str:
    """Return the command that chooses another directory of temporary files, or that shows what to delete."""
    target = suggest_directory("harness-tmp")
    return format_usage(directory) if target is None else f"mkdir -p {target} && export TMPDIR={target}"
