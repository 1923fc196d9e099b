"""The analysis that a run is by default."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RegionDecoding:
    """One decoder of all voxels of the region; see `harness.decoding.decode.decode`."""
