"""``explain``: why two stored runs differ."""

import argparse

from harness.app.verbs.arguments import (
    add_run_argument,
    add_store_arguments,
    print_json,
    read_store,
)

EPILOG = (
    "Every difference is printed with whether it can move the score: figures, tracking, the cache and data "
    "at another place cannot. Exit status: 0, also if runs differ; 1 after an error; 2 after a usage error."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_run_argument(parser, "first", "RUN_A")
    add_run_argument(parser, "second", "RUN_B")
    parser.add_argument(
        "--volumes", type=_parse_count, default=10, metavar="N", help="volumes that differ most (default: 10)"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    add_store_arguments(parser)
    parser.epilog = EPILOG


def run(options: argparse.Namespace) -> int:
    """Explain why two runs differ."""
    from harness.app.stored_spec import prepare_settings
    from harness.comparison.explanation import explain_runs
    from harness.report.explanation_tables import explanation_to_dict, print_explanation
    from harness.tracking.queries import find_stored_run

    uri = read_store(options)
    first, second = (find_stored_run(word, uri) for word in (options.first, options.second))
    explanation = explain_runs(first, second, prepare_settings, options.volumes)
    if options.json:
        print_json(explanation_to_dict(explanation))
    else:
        print_explanation(explanation)
    return 0


def _parse_count(text: str) -> int:
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of volumes; expected a whole number from 0")
