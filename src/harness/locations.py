"""Where the harness keeps what it makes itself."""

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Return the folder for what can be made again: ``HARNESS_CACHE``, else the user's cache folder.

    ``HARNESS_CACHE=off`` switches the cache of samples off, and moves nothing.
    """
    chosen = os.environ.get("HARNESS_CACHE", "").strip()
    if chosen and chosen.lower() != "off":
        return Path(chosen).expanduser()
    return user_cache_path("harness", appauthor=False)
