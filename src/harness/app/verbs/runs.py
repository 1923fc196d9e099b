"""``runs``: the runs, or the sweeps, of a store, the newest first."""

import argparse

from harness.app.verbs.arguments import (
    add_run_arguments,
    print_json,
    print_seen_values,
    read_selection,
    read_store,
    write_table,
)
from harness.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_run_arguments(parser, limit=50, with_sweeps=True)


def run(options: argparse.Namespace) -> int:
    """Print the selected runs, or the sweeps."""
    if options.sweeps:
        return _list_sweeps(options)
    from harness.report.run_listing import print_runs
    from harness.tracking.run_tables import list_runs

    selection, uri = read_selection(options), read_store(options)
    listed = list_runs(uri, selection, options.most)
    if options.json:
        print_json({"sweep": listed.sweep, "has_more": listed.has_more, "runs": listed.runs})
    else:
        print_runs(listed, reasons=options.failed)
    if listed.runs.empty:
        print_seen_values(uri, selection, options.json)
    write_table(options.csv, listed.runs, options.json)
    return 0


def _list_sweeps(options: argparse.Namespace) -> int:
    from harness.report.run_listing import print_sweeps
    from harness.tracking.run_tables import tabulate_sweeps
    from harness.tracking.sweep_notes import list_sweeps

    if options.conditions or options.sweep:
        what = options.conditions[0] if options.conditions else f"--sweep {options.sweep}"
        raise UsageError(f"--sweeps lists whole sweeps, which {what} cannot select; leave one of them out")
    sweeps = list_sweeps(read_store(options), options.experiment)
    table = tabulate_sweeps(sweeps)
    if options.json:
        print_json({"has_more": len(sweeps) > options.most, "sweeps": table[: options.most]})
    else:
        print_sweeps(sweeps[: options.most], len(sweeps))
    write_table(options.csv, table, options.json)
    return 0
