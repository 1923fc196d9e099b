"""``cache``: the masked volumes that are kept on disk."""

import argparse
import math

from harness.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("action", nargs="?", default="list", choices=["list", "check", "trim", "clear"])
    parser.add_argument("--to", type=float, default=5.0, metavar="GB", help="trim to this size (default: 5)")


def run(options: argparse.Namespace) -> int:
    """List, check, trim or clear the cache; return 1 if entries were damaged."""
    from harness.report.cache_table import print_cache
    from harness.samples.cache import SampleCache

    if not 0 <= options.to < math.inf:
        raise UsageError(f"--to {options.to} is not a size; expected GB, 0 or more, such as --to 5")
    cache = SampleCache(enabled=True)
    if options.action == "list":
        print_cache(cache)
    elif options.action == "check":
        damaged = cache.check()
        for name, reason in damaged.items():
            print(f"removed {name}: {reason}")
        print(f"{len(cache.entries())} entries are intact; {len(damaged)} were damaged and were removed")
        return 1 if damaged else 0
    elif options.action == "trim":
        print(f"removed {len(cache.trim(int(options.to * 1e9)))} entries, the least recently used")
    else:
        cache.clear()
        print(f"cleared {cache.directory}")
    return 0
