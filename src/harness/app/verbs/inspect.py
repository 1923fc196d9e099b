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


def run(options: argparse.Namespace) -> int:
    """Inspect the subject of a run, write the page, and print the notices and the files."""
    from harness.app.composition import compose_request

    spec = compose_request(options.overrides, options.config_dir)

    from harness.checks.inspection import inspect_recording
    from harness.report.inspection_page import write_page
    from harness.samples.cache import SampleCache

    question, recording = spec.question, spec.dataset.load(spec.subject)
    cache = SampleCache(enabled=None if spec.config["cache"] else False)
    inspection = inspect_recording(recording, question.contrast, question.roi, question.signal, cache)
    directory = options.out or Path("mlruns") / "inspect" / name_page(spec, recording)
    flags = [] if options.config_dir is None else ["--config-dir", str(options.config_dir)]
    command = shlex.join(["python", "-m", "harness", *flags, *options.overrides])
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


def name_page(spec: "RunSpec", recording: "Recording", groups: Sequence[str] = SHOWN) -> str:
    """Name the directory of a page by what the page shows: two configurations never share one."""
    from harness.app.normalisation import normalise
    from harness.datasets.images import list_files
    from harness.samples.contrasts import file_word

    shown = {group: spec.config[group] for group in groups}
    files = [str(file.resolve()) for file in list_files(recording.bold)]
    page = json.dumps(normalise([shown, files]), sort_keys=True, default=str)
    digest = hashlib.sha256(page.encode(errors="backslashreplace")).hexdigest()
    words = f"{recording.dataset}_sub-{recording.subject}_{spec.question.contrast.name}"
    words += f"_{spec.question.roi.name}"
    return f"{file_word(words)[:MAX_NAME]}-{digest[:8]}"
