"""``compare``: the runs of a store side by side."""

import argparse

from harness.app.verbs.arguments import (
    add_run_arguments,
    print_seen_values,
    read_selection,
    read_store,
    write_table,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_run_arguments(parser, limit=100)


def run(options: argparse.Namespace) -> int:
    """Print the selected runs, the best first."""
    from harness.report.run_listing import print_comparison
    from harness.tracking.run_tables import compare_runs

    selection, uri = read_selection(options), read_store(options)
    comparison = compare_runs(uri, selection, options.most)
    print_comparison(comparison)
    if comparison.runs.empty:
        print_seen_values(uri, selection)
    write_table(options.csv, comparison.runs)
    return 0
