"""``relocate``: repair the artifact locations of a store that was moved."""

import argparse

from harness.app.verbs.arguments import add_folder_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_folder_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Repair the store, and print which runs were changed and which experiments were not."""
    from harness.tracking.relocation import relocate_store

    relocation = relocate_store(options.folder)
    store = options.folder.resolve()
    for old, n_runs in relocation.repaired.items():
        print(f"repaired {n_runs} runs: {old} is now {(store / 'artifacts').as_uri()}")
    for directory, experiments in relocation.elsewhere.items():
        print(f"left     {', '.join(experiments)}: the files are in {directory}, outside of this store")
    if not relocation.repaired:
        print(f"nothing to repair in {store}")
    return 0
