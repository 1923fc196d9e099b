"""Paths that users type, and the directory of the cache."""

import os
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path

from harness.errors import UsageError


def expand_path(key: str, given: str | Path) -> Path:
    """Return the path that a user typed as the value of a configuration key, with ``~`` expanded.

    Raises
    ------
    UsageError
        If the path is invalid: a name that is too long, a null character, the home of an unknown user.
    """
    try:
        path = Path(given).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            path.lstat()
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{key}={str(given)!r} is not a valid path: {reason}") from error
    return path


def cache_directory() -> Path:
    """Return the directory of files that can be computed again: ``HARNESS_CACHE``, else the user's cache.

    ``HARNESS_CACHE=off`` only switches the cache of samples off.
    """
    chosen = os.environ.get("HARNESS_CACHE", "").strip()
    if chosen and chosen.lower() != "off":
        return Path(chosen).expanduser()
    return user_cache_path("harness", appauthor=False)
