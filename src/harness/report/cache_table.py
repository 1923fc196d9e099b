"""The table of the cache of masked volumes."""

from datetime import datetime
from typing import TYPE_CHECKING

from rich.table import Table

from harness.report.console import PlainConsole
from harness.samples.cache import SampleCache

if TYPE_CHECKING:
    pass


def print_cache(cache: SampleCache) -> None:
    """Print the entries of the cache, the most recently used first."""
    console = PlainConsole()
    entries = cache.entries()
    console.print(
        f"{cache.directory}: {len(entries)} set(s) of samples, {sum(e.n_bytes for e in entries) / 1e6:.1f} MB"
    )
    if not entries:
        return
    table = Table("image", "volumes", "voxels", "MB", "last used", "preprocessing")
    for entry in entries:
        image = entry.images[0] + (f" and {len(entry.images) - 1} more" if len(entry.images) > 1 else "")
        used = datetime.fromtimestamp(entry.last_used).isoformat(sep=" ", timespec="minutes")
        steps = ", ".join(f"{name}={value}" for name, value in entry.preprocessing.items())
        table.add_row(image, *map(str, entry.shape), f"{entry.n_bytes / 1e6:.1f}", used, steps)
    console.print(table)
