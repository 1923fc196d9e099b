"""``inspect``: a page on a subject's images and design, written before decoding."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from harness.app.overrides import format_command
from harness.app.verbs.arguments import add_override_arguments
from harness.errors import UsageError, suggest

EPILOG = (
    "volumes=0,17,face chooses the single volumes of the page: indices, counted from 0, and conditions, each "
    "with one volume of its first four blocks (default: six volumes from the first to the last)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_override_arguments(parser, "dataset=haxby subject=2 roi=face")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="directory of the page (default: one per configuration in mlruns/inspect)",
    )
    parser.epilog = EPILOG


def run(options: argparse.Namespace) -> int:
    """Inspect the subject of a run, write the page, and print the notices and the files."""
    from harness.app.composition import compose_request
    from harness.app.inspection import name_page, write_inspection
    from harness.report.inspection_index import INDEX
    from harness.report.page_directory import check_page_directory

    if options.out is not None:
        check_page_directory(options.out, INDEX, "what")
    overrides, shown = split_volumes(options.overrides)
    spec = compose_request(overrides, options.config_dir)
    recording = spec.dataset.load(spec.subject)
    others = {"volumes": list(shown)} if shown else {}
    directory = options.out or Path("mlruns") / "inspect" / name_page(spec, recording, others=others)
    write_inspection(spec, recording, shown, directory, format_command(overrides, options.config_dir))
    return 0


def split_volumes(words: Sequence[str]) -> tuple[list[str], tuple[int | str, ...]]:
    """Return the overrides of a run, and what ``volumes=`` lists; nothing if it is not among the words."""
    from harness.checks.shown_volumes import EXPECTED, KEY, parse_volumes

    for key in (word.partition("=")[0] for word in words):
        hint = suggest(key, [KEY.removesuffix("=")])
        if hint and f"{key}=" != KEY:
            raise UsageError(f"unknown key {key!r}.{hint} With volumes, {EXPECTED}")
    overrides = [word for word in words if not word.startswith(KEY)]
    lists = [word for word in words if word.startswith(KEY)]
    if len(lists) > 1:
        raise UsageError(f"{' '.join(lists)!r}: volumes is given {len(lists)} times; give one list")
    return overrides, parse_volumes(lists[0]) if lists else ()
