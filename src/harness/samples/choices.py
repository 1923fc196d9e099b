"""Allowed values of the options of samples; without other imports, because every start reads them."""

from enum import StrEnum


class ZScore(StrEnum):
    """The volumes whose mean and SD standardise a voxel; see `harness.samples.signal.Signal`."""

    own = "own"
    run = "run"
    train = "train"
    none = "none"
