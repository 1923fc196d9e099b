"""Which voxels covary with the output of a decoder more than under relabellings.

The statistic of a voxel is the covariance of its activation pattern [1]_, with the decoder's output scaled to
SD 1, since the scale of the output differs between relabellings. Every voxel is standardised by its own null
distribution; the largest absolute value over voxels corrects for their number [2]_.

A significant voxel covaries with the output of a decoder that uses many voxels: the test does not show that
this voxel alone distinguishes the classes.

References
----------
.. [1] Haufe et al. (2014), NeuroImage 87:96-110, doi:10.1016/j.neuroimage.2013.10.067.
.. [2] Nichols, Holmes (2002), Human Brain Mapping 15:1-25, doi:10.1002/hbm.1058.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from harness.decoding.patterns import standardise_samples
from harness.decoding.weights import list_problems, unmask
from harness.samples.samples import RecordedSamples, VoxelGrid

Array = NDArray[np.float64]

TOLERANCE = 1e-10
"""Standardised values that differ by no more are equal."""

CHUNK_BYTES = 32 * 2**20
"""Size of the statistics of one chunk of voxels under all relabellings; three such arrays are needed."""


@dataclass(frozen=True, eq=False)
class PatternTest:
    """Patterns of the true labelling against those of relabellings.

    Attributes
    ----------
    z : ndarray of shape (n_problems, n_voxels)
        Covariance with the decoder's output minus its mean, divided by its SD (ddof=0), over relabellings;
        0 where it does not vary.
    p : ndarray of shape (n_problems, n_voxels)
        Two-sided, not corrected; 1 where the statistic does not vary.
    p_fwe : ndarray of shape (n_problems, n_voxels)
        Two-sided, corrected for the voxels of one problem by the maximum of absolute values.
    """

    z: Array
    p: Array
    p_fwe: Array


@dataclass(frozen=True, eq=False)
class PatternPMap:
    """The test of the pattern of one decoding problem, in the space of the mask.

    Attributes
    ----------
    name : str
        As that of the weights, for example ``face_vs_cat``.
    positive, negative : str
        In positive voxels activity is higher when the decoder's output favours the first of these.
    z : Nifti1Image of shape (x, y, z)
        0 outside the mask.
    p, p_fwe : Nifti1Image of shape (x, y, z)
        1 outside the mask.
    """

    name: str
    positive: str
    negative: str
    z: nib.Nifti1Image
    p: nib.Nifti1Image
    p_fwe: nib.Nifti1Image


def map_pattern_p(
    samples: RecordedSamples, decisions: NDArray[np.floating], *, renamings_merged: bool
) -> list[PatternPMap]:
    """Test the activation patterns of a run, and return images.

    Parameters
    ----------
    decisions, renamings_merged
        As in `compare_patterns`.

    Returns
    -------
    maps : list of PatternPMap
        One for two classes, one per class, in the contrast's order, for more.
    """
    X = standardise_samples(samples.X, samples.preparation)
    test = compare_patterns(X, decisions, renamings_merged=renamings_merged)
    return [
        PatternPMap(
            name=problem.name,
            positive=problem.positive,
            negative=problem.negative,
            z=unmask(
                problem.sign * test.z[problem.row],
                samples.grid,
                f"z, covaries with the output for {problem.positive}",
            ),
            p=_unmask_p(test.p[problem.row], samples.grid, "p, two-sided, not corrected"),
            p_fwe=_unmask_p(test.p_fwe[problem.row], samples.grid, "p, two-sided, corrected over voxels"),
        )
        for problem in list_problems(np.unique(samples.y), samples.contrast)
    ]


def compare_patterns(
    X: NDArray[np.floating], decisions: NDArray[np.floating], *, renamings_merged: bool
) -> PatternTest:
    """Compare the pattern of the true labelling with those of relabellings, voxel by voxel.

    p = share of relabellings, the true labelling included, whose absolute value is at least that of the true
    one. Where labellings that differ by a renaming of the classes count as one, their patterns, which are
    those of other problems or have another sign, are part of the null distribution all the same: which of
    them was computed must not matter. For two classes its mean is then 0.

    The statistics are computed for chunks of voxels (`CHUNK_BYTES`).

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)
        In the units of the decoder; see `harness.decoding.patterns.standardise_samples`.
    decisions : ndarray of shape (n_relabellings, n_problems, n_samples)
        Decision values of the selected decoder on all samples. Row 0 is the true labelling.
    renamings_merged : bool
        Whether labellings that differ by a renaming of the classes count as one: there are fewer distinct
        relabellings than relabellings.

    Raises
    ------
    ValueError
        If the shapes do not fit each other.
    """
    decisions = np.asarray(decisions, dtype=np.float64)
    if decisions.ndim != 3 or decisions.shape[2] != len(X):
        raise ValueError(
            f"decisions must have the shape (n_relabellings, n_problems, {len(X)}), got {decisions.shape}"
        )
    outputs = _scale_outputs(decisions)
    n_rows, n_problems = decisions.shape[:2]
    z, p, p_fwe = (np.empty((n_problems, X.shape[1])) for _ in range(3))
    # The problems of all relabellings have one null distribution where renamings are merged.
    pooled = renamings_merged and n_problems > 1
    maxima = np.zeros((n_rows, n_problems))
    for chunk in _chunk_voxels(X.shape[1], n_rows * n_problems):
        values = np.asarray(X[:, chunk], dtype=np.float64)
        scale = np.linalg.norm(values - values.mean(axis=0), axis=0)
        T = (outputs.reshape(-1, len(X)) @ values).reshape(n_rows, n_problems, -1)
        _standardise(T, scale, (0, 1) if pooled else 0, centre=pooled or not renamings_merged)
        z[:, chunk] = T[0]
        np.abs(T, out=T)
        maxima = np.maximum(maxima, T.max(axis=2, initial=0.0))
        p[:, chunk] = _share_reaching(T, pooled)
    for k in range(n_problems):
        null = np.sort(maxima, axis=None) if pooled else np.sort(maxima[:, k])
        p_fwe[k] = 1 - null.searchsorted(np.abs(z[k]) - TOLERANCE) / len(null)
    p_fwe[z == 0] = 1.0
    return PatternTest(z, p, p_fwe)


def _scale_outputs(decisions: NDArray[np.floating]) -> Array:
    """Return decision values with mean 0 and the norm 1 over samples; constant ones become 0."""
    centred = decisions - decisions.mean(axis=2, keepdims=True)
    norms = np.linalg.norm(centred, axis=2, keepdims=True)
    largest = np.abs(decisions).max(axis=2, keepdims=True, initial=0.0)
    return np.divide(centred, norms, out=np.zeros_like(centred), where=norms > TOLERANCE * largest)


def _chunk_voxels(n_voxels: int, n_statistics: int) -> Iterator[slice]:
    size = max(CHUNK_BYTES // (8 * n_statistics), 1)
    for start in range(0, n_voxels, size):
        yield slice(start, start + size)


def _standardise(T: Array, scale: Array, axes: int | tuple[int, int], centre: bool) -> None:
    """Divide statistics by their null SD, in place; those that vary by rounding alone become 0.

    Parameters
    ----------
    T : ndarray of shape (n_relabellings, n_problems, n_voxels)
    scale : ndarray of shape (n_voxels,)
        The largest value that a statistic could have.
    centre : bool
        Whether to subtract the mean first. If not, it is 0: the mirror image of every relabelling counts.
    """
    if centre:
        T -= T.mean(axis=axes, keepdims=True)
    sd = np.sqrt(np.mean(T**2, axis=axes, keepdims=True))
    varies = sd > TOLERANCE * scale
    T /= np.where(varies, sd, 1.0)
    T *= varies


def _share_reaching(T: Array, pooled: bool) -> Array:
    """Return the share of relabellings with at least the absolute value of row 0, (n_problems, n_voxels)."""
    observed = T[0] - TOLERANCE
    if not pooled:
        return (T >= observed).mean(axis=0)
    return np.stack([(T >= row).mean(axis=(0, 1)) for row in observed])


def _unmask_p(values: Array, grid: VoxelGrid, description: str) -> nib.Nifti1Image:
    """Put p-values into the mask's space; outside it they are 1, so that none looks significant."""
    image = unmask(values, grid, description)
    volume = np.where(grid.mask, np.asarray(image.dataobj), np.float32(1))
    return nib.Nifti1Image(volume, image.affine, image.header)
