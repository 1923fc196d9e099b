"""Ridge classifiers of many small sets of voxels, spheres, as linear functions of the labels.

    min_w,b  ||y - X w - b||^2 + alpha ||w||^2

For label vectors y = C z the decision values of samples T are (T_c M + 1 c^T) z, where T_c are the samples
less the mean of the training samples, M = (X_c^T X_c + alpha I)^-1 X_c^T C, and c are the means of C. One
operator so serves any number of label vectors; the squared errors of leaving each training sample out are
quadratic forms in z.

Systems of one unknown per voxel are solved, from the Gram matrix of the voxels. Where rounding of that matrix
may leave an error above `ACCURACY`, because voxels nearly depend on others or are more than the samples and
alpha is small, a singular value decomposition of the samples replaces it, which is slower. Spheres of a stack
have equally many voxels; the numbers of a sphere do not depend on the others, to the last bit.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotrs

from harness.solvers.cholesky import EPS, Array
from harness.solvers.ridge import RidgeDecomposition, decompose_ridge
from harness.solvers.spaces import ACCURACY, ERROR_FACTOR

Index = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class RidgeOperators:
    """Decision values and left-out errors of one training set, for several alphas.

    Attributes
    ----------
    decisions : ndarray of shape (n_spheres, n_alphas, n_test, n_basis)
        Decision values of the samples to predict are these times z.
    errors : ndarray of shape (n_spheres, n_alphas, n_basis, n_basis), or None for a single alpha
        Q of the sum of squared left-out errors z^T Q z.
    """

    decisions: Array
    errors: Array | None


def solve_ridge_stack(X: Array, T: Array, C: Array, alphas: Array) -> RidgeOperators:
    """Solve one training set for a stack of spheres.

    Parameters
    ----------
    X : ndarray of shape (n_spheres, n_voxels, n_train)
        Training samples, one per column.
    T : ndarray of shape (n_spheres, n_voxels, n_test)
        Samples to predict.
    C : ndarray of shape (n_train, n_basis)
        Label vectors, or basis vectors of them.
    alphas : ndarray of shape (n_alphas,)
    """
    means = X.mean(axis=2, keepdims=True)
    X_c, mean_C = X - means, C.mean(axis=0)
    G = X_c @ X_c.swapaxes(1, 2)
    system = _System(G, X_c @ C, _diagonal(G).sum(axis=1), X_c, None)
    return _solve(system, T - means, C - mean_C, mean_C, alphas)


@dataclass(frozen=True, eq=False)
class SharedRidge:
    """A stack of spheres whose training sets are parts of the same samples.

    The Gram matrix of a training set is that of all samples less that of the samples left out.

    Attributes
    ----------
    X : ndarray of shape (n_spheres, n_voxels, n_samples)
        Samples, each voxel less its mean over all of them.
    C : ndarray of shape (n_samples, n_basis)
        Basis vectors of the labels.
    gram : ndarray of shape (n_spheres, n_voxels, n_voxels)
    sums : ndarray of shape (n_spheres, n_voxels, n_basis + 1)
        Products of X with C and with ones.
    """

    X: Array
    C: Array
    gram: Array
    sums: Array

    @classmethod
    def of(cls, X: Array, C: Array) -> "SharedRidge":
        """Compute what the training sets share."""
        return cls(X, C, X @ X.swapaxes(1, 2), X @ np.column_stack([C, np.ones(len(C))]))

    def solve(self, left_out: Index | slice, used: Index, T: Array, alphas: Array) -> RidgeOperators:
        """Solve the training set without some samples.

        Parameters
        ----------
        left_out : slice or ndarray of int
        used : ndarray of shape (n_used,), int
            The columns of `C` that are not 0 on the training set, `n_basis` of the result.
        T : ndarray of shape (n_spheres, n_voxels, n_test)
            Samples to predict, less the same means as `X`.
        """
        out, C = self.X[:, :, left_out], self.C[:, used]
        C_out = C[left_out]
        n_train = len(C) - len(C_out)
        sums = self.sums - out @ np.column_stack([self.C[left_out], np.ones(len(C_out))])
        means, mean_C = sums[:, :, -1:] / n_train, (C.sum(axis=0) - C_out.sum(axis=0)) / n_train
        removed = np.concatenate([out, means * np.sqrt(n_train)], axis=2)
        G = removed @ removed.swapaxes(1, 2)
        np.subtract(self.gram, G, out=G)
        B = sums[:, :, used] - sums[:, :, -1:] * mean_C
        X_c = self.X if len(alphas) == 1 else self.X - means
        system = _System(G, B, _diagonal(self.gram).sum(axis=1), X_c, left_out)
        return _solve(system, T - means, C - mean_C, mean_C, alphas)


@dataclass(frozen=True, eq=False)
class _System:
    """The normal equations of a stack of spheres.

    Attributes
    ----------
    G : ndarray of shape (n_spheres, n_voxels, n_voxels)
        X_c^T X_c.
    B : ndarray of shape (n_spheres, n_voxels, n_basis)
        X_c^T C.
    traces : ndarray of shape (n_spheres,)
        Of the largest matrix that G was computed from: rounding is relative to it.
    X : ndarray of shape (n_spheres, n_voxels, n_samples)
        Less the training means, if there are several alphas.
    left_out : slice, ndarray of int or None
        Samples that are not in the training set.
    """

    G: Array
    B: Array
    traces: Array
    X: Array
    left_out: Index | slice | None


def _solve(system: _System, T: Array, C: Array, mean_C: Array, alphas: Array) -> RidgeOperators:
    """Solve normal equations.

    Parameters
    ----------
    T : ndarray of shape (n_spheres, n_voxels, n_test)
        Less the training means.
    C : ndarray of shape (n_samples, n_basis)
        Less the training means, `mean_C`.
    """
    if len(alphas) == 1:
        decisions, lost = _solve_one(system, T, float(alphas[0]))
        errors = None
    else:
        decisions, errors, lost = _solve_several(system, T, C, alphas)
    decisions += mean_C
    for s in np.flatnonzero(lost):
        X, labels = system.X[s].T, C + mean_C
        if system.left_out is not None:
            X, labels = np.delete(X, system.left_out, axis=0), np.delete(labels, system.left_out, axis=0)
        decisions[s], exact = _solve_exactly(X, T[s].T, labels, alphas)
        if errors is not None:
            errors[s] = exact
    return RidgeOperators(decisions, errors)


def _solve_one(system: _System, T: Array, alpha: float) -> tuple[Array, NDArray[np.bool_]]:
    """Return the decision values of one alpha, and which spheres have lost too many digits."""
    G, B = system.G, system.B
    _diagonal(G)[...] += alpha
    M, failed = np.empty_like(B), np.zeros(len(G), dtype=bool)
    for s in range(len(G)):
        L, info = dpotrf(G[s].T, lower=1, overwrite_a=1, clean=0)
        failed[s] = info != 0
        M[s] = 0.0 if failed[s] else dpotrs(L, B[s], lower=1)[0]
    # The factors have taken the place of G.
    pivots = _diagonal(G).min(axis=1)
    lost = failed | (ERROR_FACTOR * EPS * system.traces > ACCURACY * pivots**2)
    return (T.swapaxes(1, 2) @ M)[:, np.newaxis], lost


def _solve_several(
    system: _System, T: Array, C: Array, alphas: Array
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return decision values and left-out errors, and which spheres have lost too many digits."""
    n_spheres, p, k = system.B.shape
    n = system.X.shape[2]
    n_train = n if system.left_out is None else n - len(np.arange(n)[system.left_out])
    eigenvalues, V = np.linalg.eigh(system.G)
    V_T = np.ascontiguousarray(V.swapaxes(1, 2))
    shifted = np.maximum(eigenvalues, 0.0)[:, np.newaxis] + alphas[:, np.newaxis]
    lost = ERROR_FACTOR * EPS * system.traces > ACCURACY * shifted.min(axis=(1, 2))
    F, projected = V_T @ system.X, V_T @ system.B
    # Coefficients of every alpha in the basis of the eigenvectors.
    coef = projected[:, np.newaxis] / shifted[..., np.newaxis]
    decisions = (T.swapaxes(1, 2) @ V)[:, np.newaxis] @ coef
    rows = np.ascontiguousarray(coef.swapaxes(2, 3)).reshape(n_spheres, -1, p)
    residuals = C.T - (rows @ F).reshape(n_spheres, len(alphas), k, n)
    scales = (1 - 1 / n_train) - (1 / shifted) @ (F * F)
    if system.left_out is not None:
        residuals[..., system.left_out] = 0.0
        scales[..., system.left_out] = 1.0
    residuals /= scales[:, :, np.newaxis]
    return decisions, residuals @ residuals.swapaxes(2, 3), lost


def _solve_exactly(X: Array, T: Array, C: Array, alphas: Array) -> tuple[Array, Array]:
    """Solve one sphere by a singular value decomposition, which is right whatever its rank.

    Parameters
    ----------
    X : ndarray of shape (n_train, n_voxels)
    T : ndarray of shape (n_test, n_voxels)
        Less the means of the training samples.
    C : ndarray of shape (n_train, n_basis)

    Returns
    -------
    decisions : ndarray of shape (n_alphas, n_test, n_basis)
    errors : ndarray of shape (n_alphas, n_basis, n_basis)
    """
    factor = decompose_ridge(X)
    decisions = np.empty((len(alphas), len(T), C.shape[1]))
    errors = np.empty((len(alphas), C.shape[1], C.shape[1]))
    for a, alpha in enumerate(alphas.tolist()):
        decisions[a] = T @ _map_labels(factor, alpha, C) + C.mean(axis=0)
        residuals = factor.residual_maker(alpha) @ C
        residuals /= factor.leave_one_out_scales(alpha)[:, np.newaxis]
        errors[a] = residuals.T @ residuals
    return decisions, errors


def _map_labels(factor: RidgeDecomposition, alpha: float, C: Array) -> Array:
    """Return the coefficients of every basis vector, (n_voxels, n_basis)."""
    shrunk = np.sqrt(factor.eigenvalues) / (factor.eigenvalues + alpha)
    return np.asarray(factor.V_T.T @ (shrunk[:, np.newaxis] * (factor.U.T @ C)))


def _diagonal(G: Array) -> Array:
    """Return the diagonals of a contiguous stack of matrices, (n_spheres, n_voxels), a view."""
    return np.einsum("sii->si", G)
