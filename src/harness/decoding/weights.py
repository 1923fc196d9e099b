"""Decoder coefficients as brain images, with the sign kept right.

nilearn's `coef_img_` has the wrong sign in every two-class Decoder from 0.10.4 to 0.14.1: there positive
voxels are evidence for the other class. Here positive always means evidence for the class that the image is
named after: the contrast's first class, or, for more than two classes, the class against the rest.
"""

from dataclasses import dataclass

import nibabel as nib
import numpy as np

from harness.decoding.decoder import FittedDecoder
from harness.samples.contrasts import Contrast, file_word
from harness.samples.samples import VoxelGrid


@dataclass(frozen=True, eq=False)
class WeightMap:
    """Weights of one decoding problem, in the space of the mask.

    Attributes
    ----------
    name : str
        ``face_vs_cat``, or ``8_classes_face`` for one class against the rest.
    positive, negative : str
        Positive weights are evidence for the first of these, negative ones for the second.
    mean : Nifti1Image of shape (x, y, z)
        Mean coefficients over folds, 0 outside the mask, per standard deviation of the voxel.
    sd : Nifti1Image of shape (x, y, z)
        Standard deviation of the coefficients over folds, with ddof=0 as in nilearn; scores have ddof=1.
    """

    name: str
    positive: str
    negative: str
    mean: nib.Nifti1Image
    sd: nib.Nifti1Image


def map_weights(decoder: FittedDecoder, contrast: Contrast, grid: VoxelGrid) -> list[WeightMap]:
    """Turn a decoder's coefficients into images.

    Returns
    -------
    maps : list of WeightMap
        One for two classes, one per class for more; empty for a dummy, which has no weights.
    """
    if decoder.coef is None or decoder.coef_sd is None:
        return []
    return [
        WeightMap(
            name=problem.name,
            positive=problem.positive,
            negative=problem.negative,
            mean=unmask(
                problem.sign * decoder.coef[problem.row], grid, f"weights, positive = {problem.positive}"
            ),
            sd=unmask(decoder.coef_sd[problem.row], grid, "SD of weights over folds"),
        )
        for problem in list_problems(decoder.classes, contrast)
    ]


@dataclass(frozen=True)
class Problem:
    """One decoding problem: the first class against the second, or a class against the rest.

    Attributes
    ----------
    name : str
        ``face_vs_cat``, or ``8_classes_face`` for one class against the rest.
    positive, negative : str
        The classes that a map's positive and negative values stand for.
    row : int
        Row of the decoder's coefficients.
    sign : {1.0, -1.0}
        By which they are multiplied to be positive for `positive`.
    """

    name: str
    positive: str
    negative: str
    row: int
    sign: float


def list_problems(classes: np.ndarray, contrast: Contrast) -> list[Problem]:
    """Return the problems of a decoder in the contrast's order: one for two classes, one per class for more.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,), str
        `FittedDecoder.classes`.
    """
    if len(contrast.classes) == 2:
        first, second = contrast.classes
        return [Problem(contrast.name, first, second, 0, 1.0 if first == classes[1] else -1.0)]
    row_of = {name: row for row, name in enumerate(classes)}
    return [
        Problem(f"{contrast.name}_{file_word(name)}", name, "the rest", row_of[name], 1.0)
        for name in contrast.classes
    ]


def unmask(
    values: np.ndarray,
    grid: VoxelGrid,
    description: str = "",
    dtype: np.dtype | type[np.floating] = np.float32,
) -> nib.Nifti1Image:
    """Put one value per voxel, or several, back into the mask's space.

    Parameters
    ----------
    values : ndarray of shape (n_voxels,) or (n_volumes, n_voxels)
    description : str
        Written into the header; NIfTI keeps 79 characters.
    dtype : dtype, default=numpy.float32

    Returns
    -------
    image : Nifti1Image of shape (x, y, z) or (x, y, z, n_volumes), 0 outside the mask
    """
    volume = np.zeros((*grid.mask.shape, *values.shape[:-1]), dtype=dtype)
    volume[grid.mask] = values.T
    image = nib.Nifti1Image(volume, grid.affine)
    image.header["descrip"] = description[:79].encode()
    image.header.set_xyzt_units("mm")
    return image
