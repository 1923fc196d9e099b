"""Allowed values of the options of tracking.

The schema reads them at start-up, so this module imports nothing else.
"""

from enum import StrEnum


class TrackingKind(StrEnum):
    """Where runs are stored."""

    local = "local"
    server = "server"
    off = "off"
