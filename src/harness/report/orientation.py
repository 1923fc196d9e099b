"""The orientation of an image in words: axis codes, and where left and right are."""

from collections.abc import Sequence

import nibabel as nib
import numpy as np

from harness.checks.inspection import Inspection
from harness.datasets.headers import read_nifti_header

TOWARDS = {"R": "right", "L": "left", "A": "front", "P": "back", "S": "top", "I": "bottom"}


def describe_orientation(inspection: Inspection) -> dict[str, str]:
    """Return axis codes and what they mean, of the image and of the anatomy, by the names of a table."""
    affine = inspection.volumes.affine
    facts = {"axis codes": name_axes(affine), "pictures": _describe_pictures(affine)}
    if not inspection.is_oriented:
        facts["header"] = "declares no orientation: left and right are NIfTI's default and may be swapped"
    if inspection.recording.anat is not None:
        facts["anatomy"] = name_axes(read_nifti_header(inspection.recording.anat).affine)
    return facts


def name_axes(affine: np.ndarray) -> str:
    """Return axis codes in words: ``LAS: i increases towards the left, j the front, k the top``.

    Parameters
    ----------
    affine : ndarray of shape (4, 4)
        Voxel indices to mm.
    """
    codes = nib.aff2axcodes(affine)
    if None in codes:
        return "not defined: the affine is singular"
    i, j, k = (TOWARDS[code] for code in codes)
    oblique = np.count_nonzero(np.abs(affine[:3, :3]) > 1e-3 * np.abs(affine[:3, :3]).max()) > 3
    nearest = "; the axes are oblique, these are the nearest directions" if oblique else ""
    return f"{''.join(codes)}: i increases towards the {i}, j towards the {j}, k towards the {k}{nearest}"


def _describe_pictures(affine: np.ndarray) -> str:
    codes = nib.aff2axcodes(affine)
    words = "drawn by the affine: L, the left of the picture, is the subject's left (neurological convention)"
    if "L" in codes:
        axis = "ijk"[codes.index("L")]
        words += (
            f"; an array that is plotted as stored, with {axis} towards the right of the picture, has the "
            "subject's left at the right (radiological convention)"
        )
    return words


def name_cuts(centre: Sequence[float]) -> str:
    """Return a position in mm: ``x = -43.8, y = -51.0, z = -12.0 mm``."""
    return ", ".join(f"{axis} = {mm:.1f}" for axis, mm in zip("xyz", centre, strict=True)) + " mm"
