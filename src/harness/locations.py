"""Where the harness keeps what it makes itself."""

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Return the folder for what can be made again: ``HARNESS_CACHE``, else the user's cache folder."""
    chosen = os.environ.get("HARNESS_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("harness", appauthor=False)
