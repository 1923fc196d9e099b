"""``fetch``: download subjects, or make simulated ones, and check them."""

import argparse
import sys
from typing import TYPE_CHECKING

from harness.app.verbs.arguments import add_override_arguments
from harness.errors import HarnessError, escape_controls

if TYPE_CHECKING:
    from harness.datasets.recording import Recording


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_override_arguments(parser, "dataset=haxby subject=1,2")


def run(options: argparse.Namespace) -> int:
    """Fetch every subject; return 1 if any of them failed, after the others were fetched."""
    from harness.app.composition import compose_requests

    failed = False
    for request in compose_requests(options.overrides, options.config_dir):
        print(f"{request.params['dataset']} subject {request.subject}", flush=True)
        try:
            # Only some data sets have something to download.
            recording = getattr(request.dataset, "fetch", request.dataset.load)(request.subject)
            _print_files(recording)
            verify = getattr(request.dataset, "verify", None)
            print(f"  {'complete' if verify is None else verify(recording)}", flush=True)
        except HarnessError as error:
            failed = True
            print(f"error: {error}", file=sys.stderr, flush=True)
    return int(failed)


def _print_files(recording: "Recording") -> None:
    from harness.datasets.images import list_files

    files = [*list_files(recording.bold), *list_files(recording.labels_file), *recording.masks.values()]
    files += [recording.anat] if recording.anat is not None else []
    for file in files:
        print(f"  {file.stat().st_size / 1e6:10.3f} MB  {file}")
    if recording.notice is not None:
        print(f"  {escape_controls(recording.notice)}")
