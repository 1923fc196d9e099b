"""What corrections of a searchlight's map are called, and what their results mean, in words."""

from harness.searchlight.choices import Correction

MEANING = (
    "A significant centre means that there is information somewhere within the radius, not necessarily in "
    "that voxel"
)
ADDED_BY_CORRECTION = {
    Correction.maximum: "",
    Correction.tfce: "TFCE adds support from neighbours and blurs the map further",
    Correction.cluster_size: "cluster size tests whole clusters: no single voxel of a significant "
    "cluster is significant by itself",
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
    """Return in a sentence what a significant centre means, and what the correction adds to it."""
    blur = ADDED_BY_CORRECTION[Correction(correction)] if correction else ""
    return f"{MEANING}; {blur}." if blur else f"{MEANING}."


def describe_correction(n_corrected: int, n_spheres: int, correction: str) -> str:
    """Return how many centres are significant, in words."""
    share = f"{n_corrected} of {n_spheres} {'centre' if n_spheres == 1 else 'centres'}"
    return f"{share} with p <= .05, corrected over voxels ({name_correction(correction)})"
