"""Ridge classifiers of many small sets of voxels, spheres, as linear functions of the labels.

    min_w,b  ||y - X w - b||^2 + alpha ||w||^2

For label vectors y = C z the decision values of samples T are (T_c M + 1 c^T) z, where T_c are the samples
less the mean of the training samples, M = (X_c^T X_c + alpha I)^-1 X_c^T C, and c are the means of C. One
operator so serves any number of label vectors; the squared errors of leaving each training sample out are
quadratic forms in z. Where voxels are standardised, the same holds with every column of X_c divided by its
standard deviation, and so rows and columns of the Gram matrix X_c^T X_c.

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

CANCELLED = 1e-3
"""Share of a voxel's sum of squares below which that of a training set is computed from its samples."""


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


@dataclass(frozen=True, eq=False)
class SharedRidge:
    """A stack of spheres whose training sets are parts of the same samples.

    The Gram matrix of a training set is that of all samples less that of the samples left out.

    Attributes
    ----------
    X : ndarray of shape (n_spheres, n_voxels, n_samples)
        Samples, each voxel less its mean over all of them: means of a thousand would cost digits.
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

    def leave_out(self, left_out: Index | slice, *, standardised: bool) -> "TrainingSet":
        """Return the training set without some samples.

        Parameters
        ----------
        left_out : slice or ndarray of int
        standardised : bool
            Whether every voxel is divided by its standard deviation over the training set.
        """
        out, C_out = self.X[:, :, left_out], self.C[left_out]
        n_train = len(self.C) - len(C_out)
        sums = self.sums - out @ np.column_stack([C_out, np.ones(len(C_out))])
        means = sums[:, :, -1:] / n_train
        removed = np.concatenate([out, means * np.sqrt(n_train)], axis=2)
        factors = self._invert_deviations(left_out, removed, n_train) if standardised else None
        return TrainingSet(self, left_out, n_train, sums, means, factors, removed)

    def _invert_deviations(self, left_out: Index | slice, removed: Array, n_train: int) -> Array:
        total = np.einsum("svv->sv", self.gram)
        squares = total - (removed * removed).sum(axis=2)
        doubtful = squares <= CANCELLED * total
        squares[doubtful] = 1.0
        factors = np.sqrt((n_train - 1) / squares)
        for s, v in np.argwhere(doubtful):
            values = np.delete(self.X[s, v], left_out)
            deviation = values.std(ddof=1)
            is_constant = deviation < 10 * EPS * max(1.0, abs(values.mean()))
            factors[s, v] = 0.0 if is_constant else 1.0 / deviation
        return np.asarray(factors[..., np.newaxis])


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """A training set of a stack of spheres; see `SharedRidge.leave_out`.

    Attributes
    ----------
    n_train : int
    sums : ndarray of shape (n_spheres, n_voxels, n_basis + 1)
        Products of the training samples with the basis vectors and with ones.
    means : ndarray of shape (n_spheres, n_voxels, 1)
        Of the training samples.
    factors : ndarray of shape (n_spheres, n_voxels, 1) or None
        1 / SD (ddof=1) of the training samples; 0 of constant voxels, which have no weight so. None where
        voxels are not standardised.
    removed : ndarray of shape (n_spheres, n_voxels, n_out + 1)
        Its product with its transpose is what the Gram matrix of all samples has more than X_c^T X_c.
    """

    shared: SharedRidge
    left_out: Index | slice
    n_train: int
    sums: Array
    means: Array
    factors: Array | None
    removed: Array

    def transform(self, X: Array) -> Array:
        """Return samples, (n_spheres, n_voxels, n), less the training means and divided by the SD."""
        X = X - self.means
        if self.factors is not None:
            X *= self.factors
        return X

    def solve(self, used: Index, T: Array, alphas: Array) -> RidgeOperators:
        """Return the operators of several alphas.

        Parameters
        ----------
        used : ndarray of shape (n_used,), int
            The columns of `SharedRidge.C` that are not 0 on the training set, `n_basis` of the result.
        T : ndarray of shape (n_spheres, n_voxels, n_test)
            Samples to predict, of `transform` or standardised otherwise.
        alphas : ndarray of shape (n_alphas,)
        """
        shared, C = self.shared, self.shared.C[:, used]
        mean_C = (C.sum(axis=0) - C[self.left_out].sum(axis=0)) / self.n_train
        G = self.removed @ self.removed.swapaxes(1, 2)
        np.subtract(shared.gram, G, out=G)
        B = self.sums[:, :, used] - self.sums[:, :, -1:] * mean_C
        total = _diagonal(shared.gram)
        if self.factors is not None:
            G *= self.factors
            G *= self.factors.swapaxes(1, 2)
            B *= self.factors
            total = total * self.factors[:, :, 0] ** 2
        system = _System(G, B, total.sum(axis=1))
        errors = None
        if len(alphas) == 1:
            decisions, lost = _solve_one(system, T, float(alphas[0]))
        else:
            X_c = self.transform(shared.X)
            decisions, errors, lost = _solve_several(system, T, X_c, C - mean_C, self.left_out, alphas)
        decisions += mean_C
        for s in np.flatnonzero(lost).tolist():
            X, labels = self._standardise(s), np.delete(C, self.left_out, axis=0)
            decisions[s], exact = _solve_exactly(X, T[s].T, labels, alphas)
            if errors is not None:
                errors[s] = exact
        return RidgeOperators(decisions, errors)

    def _standardise(self, s: int) -> Array:
        """Return the training samples of one sphere, (n_train, n_voxels)."""
        X = np.delete(self.shared.X[s], self.left_out, axis=1)
        # Not by the means of `transform`, which are differences of sums.
        X -= X.mean(axis=1, keepdims=True)
        return (X if self.factors is None else X * self.factors[s]).T


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
    """

    G: Array
    B: Array
    traces: Array


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
    system: _System, T: Array, X_c: Array, C_c: Array, left_out: Index | slice, alphas: Array
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return decision values and left-out errors, and which spheres have lost too many digits.

    Parameters
    ----------
    X_c : ndarray of shape (n_spheres, n_voxels, n_samples)
        All samples, standardised as the training samples are.
    C_c : ndarray of shape (n_samples, n_basis)
        Less the means over the training samples.
    """
    n_spheres, p, k = system.B.shape
    n = X_c.shape[2]
    n_train = n - len(np.arange(n)[left_out])
    eigenvalues, V = np.linalg.eigh(system.G)
    V_T = np.ascontiguousarray(V.swapaxes(1, 2))
    shifted = np.maximum(eigenvalues, 0.0)[:, np.newaxis] + alphas[:, np.newaxis]
    lost = ERROR_FACTOR * EPS * system.traces > ACCURACY * shifted.min(axis=(1, 2))
    F, projected = V_T @ X_c, V_T @ system.B
    # Coefficients of every alpha in the basis of the eigenvectors.
    coef = projected[:, np.newaxis] / shifted[..., np.newaxis]
    decisions = (T.swapaxes(1, 2) @ V)[:, np.newaxis] @ coef
    rows = np.ascontiguousarray(coef.swapaxes(2, 3)).reshape(n_spheres, -1, p)
    residuals = C_c.T - (rows @ F).reshape(n_spheres, len(alphas), k, n)
    scales = (1 - 1 / n_train) - (1 / shifted) @ (F * F)
    residuals[..., left_out] = 0.0
    scales[..., left_out] = 1.0
    residuals /= scales[:, :, np.newaxis]
    return decisions, residuals @ residuals.swapaxes(2, 3), lost


def _solve_exactly(X: Array, T: Array, C: Array, alphas: Array) -> tuple[Array, Array]:
    """Solve one sphere by a singular value decomposition, which is right whatever its rank.

    Parameters
    ----------
    X : ndarray of shape (n_train, n_voxels)
    T : ndarray of shape (n_test, n_voxels)
        Samples to predict, whose decision value at 0 is the mean label.
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
