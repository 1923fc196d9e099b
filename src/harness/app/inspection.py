"""The inspection of a run's recording: the name of its page, and the page itself."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.app.normalisation import normalise
from harness.errors import DataError, UsageError, escape_controls

if TYPE_CHECKING:
    from harness.app.run_spec import RunSpec
    from harness.datasets.recording import Recording
    from harness.report.inspection_index import PagePart

SHOWN = ("dataset", "subject", "contrast", "roi", "signal")  # what the page depends on
MAX_NAME = 120  # characters of a directory's name; file systems take 255 bytes


def name_page(
    spec: "RunSpec",
    recording: "Recording",
    groups: Sequence[str] = SHOWN,
    others: Mapping[str, object] | None = None,
) -> str:
    """Name the directory of a page by what the page shows: two configurations never share one.

    Parameters
    ----------
    groups : sequence of str
        Keys of the configuration on which the page depends.
    others : mapping of str to object, optional
        What else it depends on, fit for JSON.
    """
    from harness.datasets.images import list_files
    from harness.samples.contrasts import file_word

    shown = {group: spec.config[group] for group in groups} | dict(others or {})
    files = [str(file.resolve()) for file in list_files(recording.bold)]
    page = json.dumps(normalise([shown, files]), sort_keys=True, default=str)
    digest = hashlib.sha256(page.encode(errors="backslashreplace")).hexdigest()
    words = f"{recording.dataset}_sub-{recording.subject}_{spec.question.contrast.name}"
    words += f"_{spec.question.roi.name}"
    return f"{file_word(words)[:MAX_NAME]}-{digest[:8]}"


def write_inspection(
    spec: "RunSpec",
    recording: "Recording",
    shown: Sequence[int | str],
    directory: Path,
    command: str,
    *,
    decoding_follows: bool = False,
) -> "Sequence[PagePart]":
    """Inspect a recording, write the page, and print the notices and the files.

    Parameters
    ----------
    shown : sequence of int or str
        Single volumes and conditions; see `harness.checks.shown_volumes.find_shown_volumes`.
    command : str
        Command line that decodes this recording.
    decoding_follows : bool
        Raise if a run would fail, and leave out the files, since the page is a part of another.

    Returns
    -------
    parts : sequence of PagePart
        Of the page.

    Raises
    ------
    UsageError
        If `shown` names a volume or condition that does not exist, or the directory cannot be written.
    DataError
        If a run of this configuration would fail and `decoding_follows`.
    """
    from harness.checks.inspection import WOULD_FAIL_PREFIX, inspect_recording
    from harness.report.inspection_page import write_page
    from harness.samples.cache import SampleCache

    question = spec.question
    cache = SampleCache(enabled=None if spec.config["cache"] else False)
    inspection = inspect_recording(recording, question.contrast, question.roi, question.signal, cache, shown)
    for notice in inspection.notices if decoding_follows else ():
        if notice.startswith(WOULD_FAIL_PREFIX):
            raise DataError(notice.removeprefix(WOULD_FAIL_PREFIX))
    try:
        written = write_page(inspection, directory.absolute(), command)
    except OSError as error:
        raise UsageError(
            f"{directory} cannot be written: {error}; choose another directory with --out"
        ) from error
    page, *others = written.files
    for notice in inspection.notices:
        print(escape_controls(notice))
    if not decoding_follows:
        for file in others:
            print(f"file     {file}")
        print(f"page     {page}")
    return written.parts
