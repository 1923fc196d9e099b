"""Standard output and standard error whose failures do not stop a run: lost text is reported at the end."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class LossyFile(io.FileIO):
    """A file descriptor that discards everything after the first failed write.

    A full device or a closed pipe then loses the text, but neither the run that printed it nor its results.

    Attributes
    ----------
    error : OSError or None
        The first failure.
    """

    error: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write or discard bytes; return their number."""
        if self.error is None:
            try:
                return super().write(data)
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes


def protect_streams() -> list[LossyFile]:
    """Replace standard output and standard error by streams on which writing raises nothing.

    Characters that the terminal's encoding lacks are written as escape sequences. A stream that is captured,
    a console of Windows, or a closed standard error is left as it is.

    Returns
    -------
    files : list of LossyFile
        The files that the streams write to, for `flush_streams`.
    """
    if sys.stdout is None:  # closed before the program began: writing to this file fails, too
        closed = LossyFile(os.open(os.devnull, os.O_RDONLY), "w", closefd=False)
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(closed), encoding="utf-8", errors="backslashreplace")
        return [closed, *_protect(("stderr",))]
    return _protect(("stdout", "stderr"))


def _protect(names: Sequence[str]) -> list[LossyFile]:
    files = []
    for name in names:
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        stream.reconfigure(errors="backslashreplace")
        if not isinstance(getattr(stream.buffer, "raw", stream.buffer), io.FileIO):
            continue
        stream.flush()
        files.append(LossyFile(stream.fileno(), "w", closefd=False))
        by_line = stream.line_buffering or stream.write_through
        protected = io.TextIOWrapper(
            io.BufferedWriter(files[-1]),
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=by_line,
        )
        setattr(sys, name, protected)
    return files


def flush_streams(files: Sequence[LossyFile]) -> list[OSError]:
    """Write what is still buffered; return the errors by which text was lost (see `protect_streams`)."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    return [file.error for file in files if file.error is not None]
