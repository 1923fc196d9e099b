"""Linear discriminant analysis with Ledoit-Wolf shrinkage, in dual space where that is smaller."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import lstsq, svd

from harness.solvers.cholesky import Array, factorise_cholesky, solve_cholesky
from harness.solvers.decoders import LinearDecoders
from harness.solvers.threads import one_blas_thread
from harness.solvers.validation import check_labels, check_matrix, check_train_sets

WELL_CONDITIONED = 1e-10
"""The shrinkage's share of a voxel's variance below which a pseudo-inverse replaces the Cholesky factor."""


def solve_discriminant(X: ArrayLike, Y: ArrayLike, train_sets: Sequence[ArrayLike]) -> LinearDecoders:
    """Train shrinkage LDA on several training sets and for several label vectors.

    w = S^-1 (m_+ - m_-),    b = -(m_+ + m_-)^T w / 2 + log(n_+ / n_-)

    S is the prior-weighted mean of the two classes' Ledoit-Wolf covariances (`fit_discriminant`). Its
    shrinkage is not a linear function of the labels, so that no matrix computed once could serve all label
    vectors, unlike ridge: each costs about 2 n^2 n_voxels operations.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)
    Y : ndarray of shape (n_samples,) or (n_samples, n_labels)
        Label vectors of -1 and +1. In a training set each must hold both.
    train_sets : sequence of ndarray of int or bool
        Indices (or a mask) of the samples to train on, one per fold.

    Returns
    -------
    decoders : LinearDecoders
        In primal space; their axis of C has length 1.
    """
    X = check_matrix(X, "X")
    Y = check_labels(Y, len(X))
    sets = check_train_sets(train_sets, Y)
    shape = (len(sets), 1, Y.shape[1])
    weights, intercepts, decisions = (
        np.empty((*shape, X.shape[1])),
        np.empty(shape),
        np.empty((*shape, len(X))),
    )
    with one_blas_thread():
        for i, train in enumerate(sets):
            X_train = X[train]
            for j, y in enumerate(np.ascontiguousarray(Y[train].T)):
                coef, intercept = fit_discriminant(X_train, (y > 0).astype(np.intp))
                weights[i, 0, j], intercepts[i, 0, j] = coef[1] - coef[0], intercept[1] - intercept[0]
                decisions[i, 0, j] = X @ weights[i, 0, j] + intercepts[i, 0, j]
    return LinearDecoders("primal", weights, intercepts, decisions)


def fit_discriminant(X: Array, codes: NDArray[np.intp]) -> tuple[Array, Array]:
    """Fit shrinkage LDA for two or more classes.

    w_c = S^-1 m_c,    b_c = -m_c^T w_c / 2 + log(pi_c),    S = sum_c pi_c S_c

    S_c is class c's covariance, shrunk by Ledoit-Wolf after each voxel was scaled to unit variance, and
    scaled back: S_c = (1 - s_c) X_c^T X_c / n_c + s_c mu_c diag(variances). The sum over classes is therefore

        S = F^T F + diag(D)

    with one row of F per sample, and S^-1 follows from an n_samples x n_samples system (Woodbury). The result
    is that of ``LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")``.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)
    codes : ndarray of int of shape (n_samples,)
        Class of each sample: 0, 1, ..., n_classes - 1, all of them present.

    Returns
    -------
    coef : ndarray of shape (n_classes, n_voxels)
    intercept : ndarray of shape (n_classes,)
    """
    counts = np.bincount(codes)
    priors = counts / len(X)
    means = np.empty((len(counts), X.shape[1]))
    F, D = np.empty_like(X), np.zeros(X.shape[1])
    for c, prior in enumerate(priors):
        members = np.flatnonzero(codes == c)
        means[c] = X[members].mean(axis=0)
        X_c = X[members] - means[c]
        scales = voxel_scales(X_c, means[c])
        shrinkage, mu = ledoit_wolf_shrinkage(X_c / scales)
        F[members] = X_c * np.sqrt(prior * (1 - shrinkage) / len(members))
        D += prior * shrinkage * mu * scales**2
    with one_blas_thread():
        coef = solve_diagonal_plus_low_rank(D, F, means.T).T
    intercept = np.log(priors) - np.einsum("cp,cp->c", means, coef) / 2
    return coef, intercept


def voxel_scales(X_c: Array, mean: Array) -> Array:
    """Compute each voxel's standard deviation; 1 where it is constant but for rounding.

    Parameters
    ----------
    X_c : ndarray of shape (n_samples, n_voxels)
        Centred samples.
    mean : ndarray of shape (n_voxels,)
        The mean that was subtracted; rounding is relative to it.

    Returns
    -------
    scales : ndarray of shape (n_voxels,)
    """
    n, eps = len(X_c), np.finfo(float).eps
    variances = np.einsum("ij,ij->j", X_c, X_c) / n
    constant = variances <= n * eps * variances + (n * mean * eps) ** 2
    return np.where(constant, 1.0, np.sqrt(variances))


def ledoit_wolf_shrinkage(Z: Array) -> tuple[float, float]:
    """Compute the Ledoit-Wolf shrinkage of a covariance towards mu I.

    s = min(beta, delta) / delta,    delta = ||S - mu I||^2 / p,    beta = 1/(n^2 p) sum_i ||z_i z_i^T - S||^2

    with S = Z^T Z / n. Both norms are computed from Z Z^T where n < p.

    Parameters
    ----------
    Z : ndarray of shape (n_samples, n_voxels)
        Centred and scaled samples.

    Returns
    -------
    shrinkage : float
        s, between 0 and 1.
    mu : float
        Mean variance.

    References
    ----------
    Ledoit & Wolf (2004), A well-conditioned estimator for large-dimensional covariance matrices, Journal of
    Multivariate Analysis 88(2).
    """
    n, p = Z.shape
    lengths = np.einsum("ij,ij->i", Z, Z)
    mu = float(lengths.sum() / (n * p))
    if p == 1:
        return 0.0, mu
    product = Z @ Z.T if n < p else Z.T @ Z
    norm_S = float(np.einsum("ij,ij->", product, product)) / n**2
    beta = (float(lengths @ lengths) / n - norm_S) / (n * p)
    delta = (norm_S - p * mu**2) / p
    beta = min(beta, delta)
    return (beta / delta if beta > 0 else 0.0), mu


def solve_diagonal_plus_low_rank(D: Array, F: Array, B: Array) -> Array:
    """Solve (F^T F + diag(D)) A = B.

    A = D^-1 B - D^-1 F^T (I + F D^-1 F^T)^-1 F D^-1 B

    where F has fewer rows than columns; otherwise the matrix itself is formed. Where the diagonal vanishes,
    the solution of least norm.

    Parameters
    ----------
    D : ndarray of shape (n_voxels,)
        Not negative.
    F : ndarray of shape (n_samples, n_voxels)
    B : ndarray of shape (n_voxels, n_targets)

    Returns
    -------
    A : ndarray of shape (n_voxels, n_targets)
    """
    n, p = F.shape
    # Each voxel by itself: its unit makes no difference to the accuracy of what follows.
    regular = bool((D > WELL_CONDITIONED * (np.einsum("ij,ij->j", F, F) + D)).all())
    if n < p and regular:
        scaled = F / D
        M = scaled @ F.T
        M.flat[:: n + 1] += 1.0
        B_scaled = B / D[:, None]
        return B_scaled - scaled.T @ solve_cholesky(factorise_cholesky(M), F @ B_scaled)
    if n < p and not D.any():
        _, singular, V_T = svd(F, full_matrices=False)
        kept = singular**2 > np.finfo(float).eps * singular[0] ** 2
        return V_T[kept].T @ ((V_T[kept] @ B) / singular[kept, None] ** 2)
    S = F.T @ F
    S.flat[:: p + 1] += D
    if regular:
        return solve_cholesky(factorise_cholesky(S), B)
    return lstsq(S, B)[0]
