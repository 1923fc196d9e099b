"""Allowed values of the options of reports.

The schema reads them at start-up, so this module imports nothing else.
"""

from enum import StrEnum


class Figures(StrEnum):
    """How much is drawn: ``auto`` is ``full`` for one run and ``light`` for a run of a sweep."""

    auto = "auto"
    full = "full"
    light = "light"
    off = "off"
