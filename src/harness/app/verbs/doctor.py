"""``doctor``: check Python, packages, store, data and machine, and print what repairs each fault."""

from __future__ import annotations

import argparse

from harness.app.verbs.arguments import add_override_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_override_arguments(parser, "dataset=haxby subject=1,2 tracking.folder=/data/mlruns")
    parser.add_argument(
        "--verify", action="store_true", help="read images to their end and compare published digests"
    )
    parser.add_argument(
        "--json", action="store_true", help="write JSON, and nothing else, to standard output"
    )


def run(options: argparse.Namespace) -> int:
    """Print the diagnoses; return 1 if one of them is a fault."""
    from harness.app.doctor.examination import examine
    from harness.checks.diagnosis import Status, find_worst
    from harness.report.diagnosis_table import format_json, print_diagnoses

    examination = examine(options.overrides, options.config_dir, options.verify)
    if options.json:
        print(format_json(examination.diagnoses, examination.seconds))
    else:
        print_diagnoses(examination.diagnoses, examination.seconds)
    return int(find_worst(examination.diagnoses) == Status.fault)
