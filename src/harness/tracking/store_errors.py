"""The errors of a run store, each as one message."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from harness.errors import HarnessError, TrackingError, first_line
from harness.tracking.database import DATABASE
from harness.tracking.locks import driver_error, format_lock_error, is_locked


@contextmanager
def translate_errors(store: str) -> Iterator[None]:
    """Raise any error of a store (directory or tracking URI) as a TrackingError with one message.

    The disk, SQLAlchemy, alembic, MLflow and requests all raise types of their own.
    """
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:
        raise TrackingError(format_store_error(store, error)) from error


def format_store_error(store: str, error: BaseException) -> str:
    """Return one message that a store (directory or tracking URI) cannot be used, why, and what to do."""
    if is_locked(error):
        is_directory = not store.startswith("sqlite:")
        database = Path(store) / DATABASE if is_directory else Path(unquote(store.removeprefix("sqlite:///")))
        return f"the run store cannot be used: {format_lock_error(database)}"
    cause = driver_error(error)
    return (
        f"the run store {store} cannot be used: {first_line(cause)}. Check that the directory can be written "
        "(or the server is running), choose another with tracking.folder=... or tracking.uri=..., or do not "
        "store runs: tracking=off"
    )
