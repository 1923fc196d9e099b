"""Standard output and standard error that never end a run: what they cannot take is dropped, and reported."""

import io
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class LossyFile(io.FileIO):
    """A file descriptor that is written until the first failure; what comes later is dropped.

    A full device or a closed pipe costs the text, and neither the run that printed it nor its results.

    Attributes
    ----------
    error : OSError or None
        The first failure.
    """

    error: OSError | None = None

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write bytes, or drop them; return how many were dealt with."""
        if self.error is None:
            try:
                return super().write(data)
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes


def protect_streams() -> list[LossyFile]:
    """Replace standard output and standard error by streams whose writing raises nothing.

    Letters that the encoding of the terminal lacks are written as escape sequences.

    Returns
    -------
    files : list of LossyFile
        What the two write to, for `flush_streams`; a stream that is closed, is captured, or is a console of
        Windows stays as it is.
    """
    files = []
    for name in ("stdout", "stderr"):
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
    """Write what is still buffered, and return why text was lost.

    Parameters
    ----------
    files : sequence of LossyFile
        See `protect_streams`.

    Returns
    -------
    errors : list of OSError
        Empty if everything was written.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    return [file.error for file in files if file.error is not None]
