"""Which voxels covary with the output of a decoder more than under relabellings.

The statistic of a voxel is its covariance with the labels that the output predicts by linear regression,

    T = Cov(x, s) Cov(s, y) / Var(s),    s: decision values,  y: labels of -1 and +1 of the same relabelling

which is the activation pattern [1]_ times Cov(s, y), and does not depend on the scale of s. (Without the
scale, the output of a decoder that fits its labels badly would count as much as that of one that fits them;
with that of s itself, which grows with the evidence in lda and logistic regression, all voxels would be
significant together.) Every voxel is standardised by its own null distribution, whose variance is averaged
with the median over voxels, as in the pseudo t of [2]_: with twelve scanner runs the ratio to a voxel's own
SD cannot exceed 3.5, which noise reaches in some voxel of hundreds. The largest absolute value over voxels
corrects for their number.

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

ROUNDING = 1e-12
"""Share of the largest possible variance of a statistic up to which it may be rounding alone."""

CHUNK_BYTES = 32 * 2**20
"""Size of the statistics of one chunk of voxels under all relabellings; three such arrays are needed."""


@dataclass(frozen=True, eq=False)
class PatternTest:
    """Patterns of the true labelling against those of relabellings.

    Attributes
    ----------
    z : ndarray of shape (n_problems, n_voxels)
        The statistic minus its mean over relabellings, divided by the root of the mean of its variance
        (ddof=0) and the median variance of all voxels; 0 where it does not vary.
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
    samples: RecordedSamples,
    decisions: NDArray[np.floating],
    labels: NDArray[np.str_],
    *,
    renamings_merged: bool,
) -> list[PatternPMap]:
    """Test the activation patterns of a run, and return images.

    Parameters
    ----------
    decisions : ndarray of shape (n_relabellings, n_problems, n_samples)
        Decision values of the selected decoder on all samples. Row 0 is the true labelling.
    labels : ndarray of shape (n_relabellings, n_samples), str
        Classes of all samples under each relabelling.
    renamings_merged : bool
        See `compare_patterns`.

    Returns
    -------
    maps : list of PatternPMap
        One for two classes, one per class, in the contrast's order, for more.
    """
    X = standardise_samples(samples.X, samples.preparation)
    classes = np.unique(samples.y)
    problems = classes[1:] if len(classes) == 2 else classes
    signs = np.where(np.asarray(labels)[:, np.newaxis] == problems[:, np.newaxis], 1.0, -1.0)
    test = compare_patterns(X, decisions, signs, renamings_merged=renamings_merged)
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
        for problem in list_problems(classes, samples.contrast)
    ]


def compare_patterns(
    X: NDArray[np.floating],
    decisions: NDArray[np.floating],
    labels: NDArray[np.floating],
    *,
    renamings_merged: bool,
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
    labels : ndarray of shape (n_relabellings, n_problems, n_samples)
        +1 for the class of the problem, -1 for the others, under each relabelling.
    renamings_merged : bool
        Whether labellings that differ by a renaming of the classes count as one: there are fewer distinct
        relabellings than relabellings.

    Raises
    ------
    ValueError
        If the shapes do not fit each other.
    """
    decisions, labels = (np.asarray(values, dtype=np.float64) for values in (decisions, labels))
    if decisions.ndim != 3 or decisions.shape[2] != len(X) or decisions.shape != labels.shape:
        raise ValueError(
            f"decisions and labels must have the shape (n_relabellings, n_problems, {len(X)}), got "
            f"{decisions.shape} and {labels.shape}"
        )
    n_rows, n_problems = decisions.shape[:2]
    # The problems of all relabellings have one null distribution where renamings are merged.
    pooled = renamings_merged and n_problems > 1
    outputs = _predict_labels(decisions, labels)
    if pooled or not renamings_merged:  # else its mean is 0: the mirror image of every relabelling counts
        outputs -= outputs.mean(axis=(0, 1) if pooled else 0)
    scale = _null_scale(X, outputs, pooled)
    z, p, p_fwe = (np.empty((n_problems, X.shape[1])) for _ in range(3))
    maxima = np.zeros((n_rows, n_problems))
    for chunk in _chunk_voxels(X.shape[1], n_rows * n_problems):
        values = np.asarray(X[:, chunk], dtype=np.float64)
        T = (outputs.reshape(-1, len(X)) @ values).reshape(n_rows, n_problems, -1)
        T *= scale[:, chunk]
        z[:, chunk] = T[0]
        np.abs(T, out=T)
        maxima = np.maximum(maxima, T.max(axis=2, initial=0.0))
        p[:, chunk] = _share_reaching(T, pooled)
    for k in range(n_problems):
        null = np.sort(maxima, axis=None) if pooled else np.sort(maxima[:, k])
        p_fwe[k] = 1 - null.searchsorted(np.abs(z[k]) - TOLERANCE) / len(null)
    p_fwe[scale == 0] = 1.0
    return PatternTest(z, p, p_fwe)


def _predict_labels(decisions: Array, labels: Array) -> Array:
    """Return the labels that decision values predict by linear regression, with mean 0; 0 if constant."""
    centred = decisions - decisions.mean(axis=2, keepdims=True)
    squares = (centred**2).sum(axis=2, keepdims=True)
    largest = np.abs(decisions).max(axis=2, keepdims=True, initial=0.0)
    slopes = np.divide(
        (centred * labels).sum(axis=2, keepdims=True),
        squares,
        out=np.zeros_like(squares),
        where=squares > (TOLERANCE * largest) ** 2,
    )
    return centred * slopes


def _null_scale(X: NDArray[np.floating], outputs: Array, pooled: bool) -> Array:
    """Return the factor that standardises every voxel, (n_problems, n_voxels); 0 for those that do not vary.

    The variance over relabellings is a quadratic form, x^T S^T S x / n, for which the statistics themselves
    are not needed.
    """
    n_problems, n_samples = outputs.shape[1:]
    lengths = np.linalg.norm(X, axis=0)
    scale = np.zeros((n_problems, X.shape[1]))
    for k in range(n_problems):
        rows = outputs.reshape(-1, n_samples) if pooled else outputs[:, k]
        moments = rows.T @ rows / len(rows)
        variances = np.einsum("sv,sv->v", X, moments @ X)
        size = np.sqrt(np.trace(moments))  # no statistic has a larger SD than this times the voxel's length
        varies = variances > ROUNDING * (size * lengths) ** 2
        if varies.any():
            typical = np.median(variances[varies])
            scale[k, varies] = 1 / np.sqrt((variances[varies] + typical) / 2)
    return scale


def _chunk_voxels(n_voxels: int, n_statistics: int) -> Iterator[slice]:
    size = max(CHUNK_BYTES // (8 * n_statistics), 1)
    for start in range(0, n_voxels, size):
        yield slice(start, start + size)


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
