"""Peaks of a map, and the header of its image."""

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.affines import apply_affine
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray

from harness.report.canvas import quiet

HIGHEST_PERCENTILE = 95  # scores of a map without a test that are above it make clusters
MARGIN = 1e-9  # below a threshold, so that a value that equals it is above
ALIGNED = 2  # code of an affine in NIfTI-1 for a space that has no code: aligned with a scan


def find_peaks(
    values: NDArray[np.float64],
    mask: NDArray[np.bool_],
    affine: NDArray[np.float64],
    threshold: float,
    radius: float,
) -> pd.DataFrame:
    """Return the peaks of clusters of voxels with values of at least a threshold.

    Voxels of a cluster have common faces; peaks of one cluster are at least two radii apart, so that their
    spheres share no voxel. See `nilearn.reporting.get_clusters_table`, which finds them.

    Parameters
    ----------
    values : ndarray of shape (n_voxels,)
        Finite.
    mask : ndarray of shape (x, y, z), bool
        The voxels of `values`, in C order.
    radius : float
        In mm.

    Returns
    -------
    peaks : DataFrame, one row per peak, the highest of every cluster first
        ``voxel``: index into `values`; ``cluster``: a number, with a letter for further peaks of a cluster;
        ``x_mm``, ``y_mm``, ``z_mm``; ``cluster_mm3``, NaN for further peaks.
    """
    from nilearn.reporting import get_clusters_table

    lift = max(0.0, 1.0 - threshold)  # nilearn takes values above a threshold, and only positive ones
    volume = np.zeros(mask.shape)
    volume[mask] = values + lift
    with quiet():
        found = get_clusters_table(
            nib.Nifti1Image(volume, affine), threshold + lift - MARGIN, min_distance=2 * radius
        )
    millimetres = found[["X", "Y", "Z"]].to_numpy(dtype=np.float64)
    places = apply_affine(affine, np.argwhere(mask))
    nearest = [int(np.square(places - position).sum(axis=1).argmin()) for position in millimetres]
    return pd.DataFrame(
        {
            "voxel": np.array(nearest, dtype=np.intp),
            "cluster": found["Cluster ID"].astype(str).to_numpy(),
            **{f"{axis}_mm": millimetres[:, place].round(3) for place, axis in enumerate("xyz")},
            "cluster_mm3": pd.to_numeric(found["Cluster Size (mm3)"], errors="coerce").to_numpy(float),
        }
    )


def label_image(
    image: Nifti1Image, codes: tuple[int, int], words: str, limits: tuple[float, float]
) -> Nifti1Image:
    """Enter into the header of an image the space, what it shows, and the range that viewers show.

    Parameters
    ----------
    codes : (int, int)
        Of the space (NIfTI-1): sform_code and qform_code; 0 where there is none.
    """
    header, affine, (sform, qform) = image.header, image.affine, codes
    image.set_sform(affine, sform or qform or ALIGNED)
    image.set_qform(affine, qform or sform or ALIGNED)
    if not np.allclose(image.get_qform(), affine, atol=1e-4):  # a qform holds no shears
        image.set_qform(affine, 0)
    header.set_xyzt_units("mm")
    header["descrip"] = words.encode("ascii", "replace")[:79]
    low, high = limits
    header["cal_min"], header["cal_max"] = low, high if high > low else low + 1e-3
    return image
