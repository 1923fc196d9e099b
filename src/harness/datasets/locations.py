"""Where files are: paths as users type them, and the directory for what the harness makes itself."""

import os
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path

from harness.errors import UsageError


def expand_path(key: str, given: str | Path) -> Path:
    """Return a path that a user typed, with its ``~`` expanded.

    Parameters
    ----------
    key : str
        The key of the configuration that it comes from.
    given : str or Path

    Returns
    -------
    path : Path

    Raises
    ------
    UsageError
        If no file can have this path: a name that is too long, a null character, the home of an unknown user.
    """
    try:
        path = Path(given).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            path.lstat()
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{key}={str(given)!r} is a path that no file can have: {reason}") from error
    return path


def cache_folder() -> Path:
    """Return the folder for what can be made again: ``HARNESS_CACHE``, else the user's cache folder.

    ``HARNESS_CACHE=off`` switches the cache of samples off, and moves nothing.
    """
    chosen = os.environ.get("HARNESS_CACHE", "").strip()
    if chosen and chosen.lower() != "off":
        return Path(chosen).expanduser()
    return user_cache_path("harness", appauthor=False)
