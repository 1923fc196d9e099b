"""The cache of masked volumes: where it is, its size, and whether it can be written."""

from __future__ import annotations

from collections.abc import Iterator

from harness.app.doctor.file_system import (
    FEW_BYTES,
    find_existing,
    find_write_problem,
    format_usage,
    suggest_directory,
)
from harness.app.doctor.installation import format_command
from harness.app.doctor.selection import Selection
from harness.checks.diagnosis import Diagnosis, Status
from harness.errors import count


def format_redirection() -> str:
    """Return the command that moves the cache to another directory, or shows what to delete of its disk."""
    from harness.datasets.locations import cache_directory

    target = suggest_directory("harness-cache", FEW_BYTES)
    if target is None:
        return format_usage(find_existing(cache_directory()))
    return f"export HARNESS_CACHE={target}"


def check_cache(selection: Selection) -> Iterator[Diagnosis]:
    """Check directory, entries and size."""
    from harness.samples.array_directory import ArrayDirectory
    from harness.samples.cache import FORMAT, SampleCache

    enabled, cache = SampleCache().enabled, SampleCache(enabled=True)
    entries = cache.entries()
    n_bytes = sum(entry.n_bytes for entry in entries)
    # Digests of images are entries, too, without metadata.
    others = ArrayDirectory(cache.directory / FORMAT).entries()
    n_damaged = sum(not entry.metadata and not entry.key.startswith("image-") for entry in others)
    problem, place = find_write_problem(cache.directory)
    facts = {
        "directory": str(cache.directory),
        "enabled": enabled,
        "entries": len(entries),
        "bytes": n_bytes,
        "limit_bytes": cache.max_bytes,
        "damaged": n_damaged,
        "writable": problem is None,
    }
    size = f"{count(len(entries), 'entry', 'entries')}, {n_bytes / 1e6:.1f} MB ({cache.directory})"
    if not enabled:
        yield Diagnosis(
            "cache", "samples", Status.ok, f"switched off by HARNESS_CACHE=off; {size}", None, facts
        )
    elif problem is not None:
        text = f"{place} cannot be written: {problem}; images are masked anew in every run; {size}"
        yield Diagnosis("cache", "samples", Status.caution, text, format_redirection(), facts)
    elif n_damaged:
        text = f"damaged: {n_damaged}; {size}"
        yield Diagnosis(
            "cache", "samples", Status.caution, text, format_command("harness", "cache", "check"), facts
        )
    else:
        yield Diagnosis("cache", "samples", Status.ok, size, None, facts)
