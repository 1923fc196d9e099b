"""Shrinkage discriminant analysis of one training set under many labellings.

Samples that have the same class under every labelling, such as those of a block, enter through sums and
scatter matrices that are computed once; the moments of a class are sums of them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotrs

from harness.solvers.cholesky import Array
from harness.solvers.discriminant import WELL_CONDITIONED, fit_discriminant

Index = NDArray[np.intp]

CHUNK = 32
"""Labellings that are computed together: their matrices fit into the cache of a core."""

SMALLEST_VARIANCE = 1e-4
"""Share of a voxel's mean square that is its variance in a class, below which the difference loses digits."""


@dataclass(frozen=True, eq=False)
class BlockLabels:
    """Labellings of samples, and the samples that have the same class under each of them.

    Attributes
    ----------
    codes : ndarray of shape (n_labellings, n_samples), int
        Class of every sample: 0, 1, ..., n_classes - 1, all of them present.
    of_blocks : ndarray of shape (n_labellings, n_blocks), int
        Class of every block.
    members : ndarray of shape (n_blocks, n_samples)
        1 where a sample belongs to a block, else 0.
    """

    codes: Index
    n_classes: int
    of_blocks: Index
    members: Array


def find_blocks_of_labels(codes: Index, n_classes: int) -> BlockLabels:
    """Return the samples that have the same class under every labelling; see `BlockLabels`."""
    of_blocks, block_of = np.unique(codes, axis=1, return_inverse=True)
    members = np.zeros((of_blocks.shape[1], codes.shape[1]))
    members[block_of.ravel(), np.arange(codes.shape[1])] = 1.0
    return BlockLabels(codes, n_classes, of_blocks, members)


def fit_discriminants(X: Array, labels: BlockLabels) -> tuple[Array, Array]:
    """Fit shrinkage LDA under many labellings; see `harness.solvers.discriminant.fit_discriminant`.

    The squared distance of a sample from the mean of its class, and the covariance of a class, are
    differences of moments about the mean of all samples. Labellings for which these, or the solution, may
    lose digits (a voxel that is nearly constant in a class, a covariance without shrinkage) are fitted one by
    one.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)

    Returns
    -------
    coef : ndarray of shape (n_labellings, n_classes, n_voxels)
        Of two classes the difference alone has a meaning; so with the intercepts.
    intercept : ndarray of shape (n_labellings, n_classes)
    """
    p = X.shape[1]
    codes, columns, members, n_classes = labels.codes, labels.of_blocks, labels.members, labels.n_classes
    center = X.mean(axis=0)
    X_c = X - center
    # What the classes share does not matter for two of them, and costs digits.
    shift = np.zeros(p) if n_classes == 2 else center
    scatter = np.stack([X_c[row > 0].T @ X_c[row > 0] for row in members]).reshape(len(members), p * p)
    sums, counts = members @ X_c, members.sum(axis=1)
    coef = np.empty((len(codes), n_classes, p))
    intercept = np.empty((len(codes), n_classes))
    lost = np.zeros(len(codes), dtype=bool)
    for start in range(0, len(codes), CHUNK):
        part = slice(start, start + CHUNK)
        blocks = np.stack([columns[part] == code for code in range(n_classes)], axis=1).astype(np.float64)
        inside = np.stack([codes[part] == code for code in range(n_classes)], axis=1)
        pooled, means, priors, lost[part] = _pool(
            X_c, inside, blocks @ counts, blocks @ sums, _combine(blocks, scatter)
        )
        coef[part], intercept[part] = _solve(pooled, means + shift, priors, lost[part])
    if n_classes == 2:
        intercept -= coef @ center
    for row in np.flatnonzero(lost):
        coef[row], intercept[row] = fit_discriminant(X, codes[row])
    return coef, intercept


def _combine(blocks: Array, scatter: Array) -> Array:
    """Return the scatter matrix of every labelling and class, (n_labellings, n_classes, p, p)."""
    p = int(np.sqrt(scatter.shape[1]))
    flat = blocks.reshape(-1, blocks.shape[2]) @ scatter
    return flat.reshape(*blocks.shape[:2], p, p)


def _pool(
    X: Array, inside: NDArray[np.bool_], counts: Array, sums: Array, scatter: Array
) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
    """Return pooled covariances, means and shares of the classes, and which labellings lose digits.

    Parameters
    ----------
    inside : ndarray of shape (n_labellings, n_classes, n_samples), bool
    counts : ndarray of shape (n_labellings, n_classes)
    sums : ndarray of shape (n_labellings, n_classes, p)
    scatter : ndarray of shape (n_labellings, n_classes, p, p)
        Overwritten.
    """
    n, p = X.shape
    means, priors = sums / counts[..., np.newaxis], counts / n
    scatter /= counts[..., np.newaxis, np.newaxis]
    squares = np.einsum("lcjj->lcj", scatter).copy()
    scatter -= means[..., np.newaxis] * means[..., np.newaxis, :]
    diagonal = np.einsum("lcjj->lcj", scatter)
    lost = (diagonal <= SMALLEST_VARIANCE * squares).any(axis=(1, 2)) | (counts < 2).any(axis=1)
    variances = np.where(diagonal > 0, diagonal, 1.0)
    # Squared lengths of the scaled samples of a class: (x - m)^2 / v, summed over voxels.
    lengths = (1 / variances) @ (X * X).T - (2 * means / variances) @ X.T
    lengths += (means**2 / variances).sum(axis=-1)[..., np.newaxis]
    fourth = np.where(inside, lengths, 0.0)
    fourth = (fourth * fourth).sum(axis=-1) / counts
    weights = 1 / variances
    norms = (np.matmul(scatter * scatter, weights[..., np.newaxis])[..., 0] * weights).sum(axis=-1)
    # Scaled voxels have the variance 1, and so their mean.
    delta = (norms - p) / p
    beta = np.minimum((fourth - norms) / (counts * p), delta)
    shrinkage = np.where(beta > 0, beta / np.where(beta > 0, delta, 1.0), 0.0)
    if p == 1:
        shrinkage = np.zeros_like(shrinkage)
    pooled = np.zeros((len(means), p, p))
    for c in range(means.shape[1]):
        pooled += (priors[:, c] * (1 - shrinkage[:, c]))[:, np.newaxis, np.newaxis] * scatter[:, c]
    added = ((priors * shrinkage)[..., np.newaxis] * variances).sum(axis=1)
    total = np.einsum("ljj->lj", pooled)
    total += added
    lost |= (added <= WELL_CONDITIONED * total).any(axis=1) & (p > 1)
    return pooled, means, priors, lost


def _solve(pooled: Array, means: Array, priors: Array, lost: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return coefficients and intercepts of every class; mark labellings that cannot be solved as lost."""
    coef = np.zeros_like(means)
    for row in np.flatnonzero(~lost):
        L, info = dpotrf(pooled[row].T, lower=1, overwrite_a=1, clean=0)
        if info != 0:
            lost[row] = True
            continue
        coef[row] = dpotrs(L, means[row].T, lower=1)[0].T
    intercept = np.log(priors) - np.einsum("lcp,lcp->lc", means, coef) / 2
    return coef, intercept
