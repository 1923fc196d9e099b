"""Allowed values of the options of samples.

The schema reads them at start-up, so this module imports nothing else.
"""

from enum import StrEnum


class ZScore(StrEnum):
    """Whose mean and standard deviation standardise a voxel; see `harness.samples.signal.Signal`."""

    own = "own"
    run = "run"
    train = "train"
    none = "none"
