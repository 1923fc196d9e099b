"""What corrections of a searchlight's map are called, and what their results mean, in words."""

from harness.searchlight.choices import Correction

MEANINGS = {
    Correction.maximum: "A significant centre means that there is information somewhere within the radius, "
    "not necessarily in that voxel.",
    Correction.tfce: "A significant centre means that there is information near it, possibly farther away "
    "than the radius: TFCE adds support from neighbours.",
    Correction.cluster_size: "A significant cluster means that there is information somewhere in it or "
    "within the radius of it: no single voxel is significant by itself.",
}
CORRECTIONS = {
    Correction.maximum: "maximum statistic",
    Correction.tfce: "TFCE",
    Correction.cluster_size: "cluster size",
}


def name_correction(name: str) -> str:
    """Return the name of a correction in words."""
    return CORRECTIONS[Correction(name)]


def name_relabellings(are_enumerated: bool) -> str:
    """Return in a word or two which relabellings a test computes."""
    return "all distinct" if are_enumerated else "random"


def describe_within(correction: str | None = None) -> str:
    """Return in a sentence what a significant centre, or cluster, means; by default of the maximum."""
    return MEANINGS[Correction(correction or Correction.maximum)]


def describe_correction(n_corrected: int, n_spheres: int, correction: str) -> str:
    """Return how many centres are significant, in words."""
    share = f"{n_corrected} of {n_spheres} {'centre' if n_spheres == 1 else 'centres'}"
    return f"{share} with p <= .05, corrected over voxels ({name_correction(correction)})"
