"""The decoder of a stored run."""

from harness.decoding.stored_decoder import (
    ARRAYS_FILE,
    SETTINGS_FILE,
    PredictionError,
    StoredDecoder,
    unpack_decoder,
)
from harness.errors import TrackingError
from harness.tracking.stored_run import StoredRun


def read_decoder(run: StoredRun) -> StoredDecoder:
    """Return the decoder of a finished run, its files verified.

    Raises
    ------
    TrackingError
        If the run has not finished, is a searchlight, has no decoder, or its files were edited.
    """
    if run.is_searchlight:
        raise TrackingError(
            f"run {run.title} is a searchlight, which has a decoder in every sphere and none of its own; "
            "expected a run with analysis=decoding, for example one of the region that the map shows"
        )
    run.require_finished()
    if not run.has_file(SETTINGS_FILE):
        raise TrackingError(
            f"run {run.title} has no decoder ({SETTINGS_FILE}): it was written by an earlier version of the "
            "harness; repeat the run with resume=false"
        )
    try:
        return unpack_decoder(run.read_file(SETTINGS_FILE), run.read_file(ARRAYS_FILE))
    except PredictionError as error:
        raise TrackingError(f"run {run.title}: {error}; repeat the run with resume=false") from error
