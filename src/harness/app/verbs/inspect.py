"""``inspect``: a page on a subject's images and design, written before decoding."""

import argparse
import hashlib
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.app.verbs.arguments import add_override_arguments
from harness.errors import UsageError, escape_controls

if TYPE_CHECKING:
    from harness.app.run_spec import RunSpec
    from harness.datasets.recording import Recording

SHOWN = ("dataset", "subject", "contrast", "roi", "signal")  # what the page depends on
EPILOG = (
    "volumes=0,17,face chooses the single volumes of the page: indices, counted from 0, and conditions, each "
    "with one volume of its first four blocks (default: six volumes from the first to the last)"
)
MAX_NAME = 120  # characters of a directory's name; file systems take 255 bytes


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

    overrides, shown = split_volumes(options.overrides)
    spec = compose_request(overrides, options.config_dir)

    from harness.checks.inspection import inspect_recording
    from harness.checks.shown_volumes import find_shown_volumes
    from harness.report.inspection_page import write_page
    from harness.samples.cache import SampleCache

    question, recording = spec.question, spec.dataset.load(spec.subject)
    cache = SampleCache(enabled=None if spec.config["cache"] else False)
    volumes = find_shown_volumes(shown, recording, question.contrast, question.signal)
    directory = options.out or Path("mlruns") / "inspect" / name_page(
        spec, recording, volumes=volumes if shown else ()
    )
    inspection = inspect_recording(
        recording, question.contrast, question.roi, question.signal, cache, volumes
    )
    flags = [] if options.config_dir is None else ["--config-dir", str(options.config_dir)]
    command = shlex.join(["python", "-m", "harness", *flags, *overrides])
    try:
        page, *others = write_page(inspection, directory.absolute(), command)
    except OSError as error:
        raise UsageError(
            f"{directory} cannot be written: {error}; choose another directory with --out"
        ) from error
    for notice in inspection.notices:
        print(escape_controls(notice))
    for file in others:
        print(f"file     {file}")
    print(f"page     {page}")
    return 0


def split_volumes(words: Sequence[str]) -> tuple[list[str], tuple[int | str, ...]]:
    """Return the overrides of a run, and what ``volumes=`` lists; nothing if it is not among the words."""
    from harness.checks.shown_volumes import KEY, parse_volumes

    overrides = [word for word in words if not word.startswith(KEY)]
    lists = [word for word in words if word.startswith(KEY)]
    if len(lists) > 1:
        raise UsageError(f"{' '.join(lists)!r}: volumes is given {len(lists)} times; give one list")
    return overrides, parse_volumes(lists[0]) if lists else ()


def name_page(
    spec: "RunSpec", recording: "Recording", groups: Sequence[str] = SHOWN, volumes: Sequence[int] = ()
) -> str:
    """Name the directory of a page by what the page shows: two configurations never share one."""
    from harness.app.normalisation import normalise
    from harness.datasets.images import list_files
    from harness.samples.contrasts import file_word

    shown = {group: spec.config[group] for group in groups}
    if volumes:
        shown["volumes"] = list(volumes)
    files = [str(file.resolve()) for file in list_files(recording.bold)]
    page = json.dumps(normalise([shown, files]), sort_keys=True, default=str)
    digest = hashlib.sha256(page.encode(errors="backslashreplace")).hexdigest()
    words = f"{recording.dataset}_sub-{recording.subject}_{spec.question.contrast.name}"
    words += f"_{spec.question.roi.name}"
    return f"{file_word(words)[:MAX_NAME]}-{digest[:8]}"
