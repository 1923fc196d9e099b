"""Ridge classifiers in closed form: all alphas and label vectors from one factorisation.

    min_w,b  ||y - X w - b||^2 + alpha ||w||^2

on labels of -1 and +1, with an intercept that is NOT penalised, as in `sklearn.linear_model.RidgeClassifier`.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import LinAlgWarning, eigh, svd

from harness.solvers.cholesky import EPS, Array
from harness.solvers.decoders import LinearDecoders
from harness.solvers.spaces import ACCURACY, ERROR_FACTOR, compute_gram
from harness.solvers.threads import one_blas_thread
from harness.solvers.validation import (
    check_gram,
    check_labels,
    check_matrix,
    check_penalties,
    check_train_sets,
)

COARSE_ACCURACY = 1e-5
"""Relative error of the coefficients up to which left-out errors choose alpha, and a Gram matrix suffices."""


@dataclass(frozen=True)
class RidgeCVResult:
    """Ridge classifiers whose alpha was chosen inside their training set.

    Attributes
    ----------
    decoders : LinearDecoders
        Their axis of C has length 1.
    alphas : ndarray of shape (n_sets, n_labels)
        The chosen ones.
    errors : ndarray of shape (n_sets, n_labels, n_alphas)
        Mean squared errors of leaving out each training sample.
    """

    decoders: LinearDecoders
    alphas: Array
    errors: Array


@dataclass(frozen=True)
class RidgeFactor:
    """Left singular vectors and squared singular values of the centred samples X_c of one training set.

    X_c = U diag(sqrt(l)) V^T,    hat matrix H(alpha) = 1 1^T / n + U diag(l / (l + alpha)) U^T

    Attributes
    ----------
    U : ndarray of shape (n_samples, rank)
    eigenvalues : ndarray of shape (rank,)
        l, all above 0.
    """

    U: Array
    eigenvalues: Array

    def duals(self, alpha: float, projections: Array) -> Array:
        """Return the dual coefficients a, w = X^T a, from U^T y.

        a = U diag(1 / (l + alpha)) U^T y

        Projections U^T y have the shape (rank,). The sum of a is 0, so that X^T a = X_c^T a.
        """
        return self.U @ (projections / (self.eigenvalues + alpha))

    def rounding(self, alpha: float, projections: Array, row_lengths: Array) -> float:
        """Return a bound of the error of w that rounding of the Gram matrix leaves, relative to ||w||.

        A change E of K_c changes w = X_c^T a by X_c^T (K_c + alpha I)^-1 E a, E_ij <= e ||x_i|| ||x_j|| with
        e = ERROR_FACTOR eps. Eigenvalues that count as 0 are taken to be 0: whether they are cannot be seen
        from a Gram matrix (`expected_rank`).

        Parameters
        ----------
        projections : ndarray of shape (rank,)
            U^T y.
        row_lengths : ndarray of shape (n_samples,)
            ||x_i|| of the samples that the Gram matrix was computed from.
        """
        root = np.sqrt(self.eigenvalues)
        size = float(np.linalg.norm(root * projections / (self.eigenvalues + alpha)))
        sums = float(np.linalg.norm(self.duals(alpha, projections) * row_lengths))
        response = float((root / (self.eigenvalues + alpha)).max(initial=0.0))
        error = ERROR_FACTOR * EPS * sums * (1.0 + response * float(np.linalg.norm(row_lengths)))
        return error / size if size else 0.0

    def residual_maker(self, alpha: float) -> Array:
        """Return I - H(alpha), of shape (n_samples, n_samples)."""
        n, rank = self.U.shape
        shrunk = alpha / (self.eigenvalues + alpha)
        R = (self.U * shrunk) @ self.U.T
        if rank < n - 1:
            # The part that neither the intercept nor a voxel can fit. At full rank it is only rounding.
            R += np.eye(n) - 1 / n - self.U @ self.U.T
        return R

    def leave_one_out_scales(self, alpha: float) -> Array:
        """Return diag(I - H(alpha)); a residual divided by it is the left-out residual."""
        n, rank = self.U.shape
        diagonal = (self.U**2) @ (alpha / (self.eigenvalues + alpha))
        if rank < n - 1:
            diagonal += 1 - 1 / n - (self.U**2).sum(axis=1)
        return diagonal


def factorise_ridge_gram(K: ArrayLike) -> RidgeFactor:
    """Factorise the centred samples of one training set from their Gram matrix."""
    K = check_gram(K)
    means = K.mean(axis=0)
    with one_blas_thread():
        eigenvalues, U = eigh(K - means - means[:, None] + means.mean())
    # One eigenvalue is 0 by the centring, others where samples repeat each other.
    kept = eigenvalues > 10 * len(K) * np.finfo(float).eps * max(eigenvalues[-1], K.diagonal().max())
    # Columns with the sum 0, exactly: X^T a must not contain the mean that was subtracted from K.
    return RidgeFactor(np.ascontiguousarray(U[:, kept] - U[:, kept].mean(axis=0)), eigenvalues[kept])


def factorise_ridge(X: ArrayLike) -> RidgeFactor:
    """Factorise the centred samples of one training set, in the smaller of sample and primal space.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)
    """
    X = check_matrix(X, "X")
    X_c = X - X.mean(axis=0)
    with one_blas_thread():
        if X.shape[0] <= X.shape[1]:
            return factorise_ridge_gram(X_c @ X_c.T)
        eigenvalues, V = eigh(X_c.T @ X_c)
        kept = eigenvalues > len(X) * np.finfo(float).eps * eigenvalues[-1]
        return RidgeFactor((X_c @ V[:, kept]) / np.sqrt(eigenvalues[kept]), eigenvalues[kept])


@dataclass(frozen=True)
class RidgeDecomposition(RidgeFactor):
    """Singular value decomposition of the centred samples of one training set.

    Attributes
    ----------
    V_T : ndarray of shape (rank, n_voxels)
        Right singular vectors.
    """

    V_T: Array

    def coef(self, alpha: float, y: Array) -> Array:
        """Return w = V diag(l^1/2 / (l + alpha)) U^T y."""
        return ((self.U.T @ y) * np.sqrt(self.eigenvalues) / (self.eigenvalues + alpha)) @ self.V_T


def decompose_ridge(X: ArrayLike) -> RidgeDecomposition:
    """Decompose the centred samples of one training set themselves, without the rounding of a product."""
    X = check_matrix(X, "X")
    U, lengths, V_T = svd(X - X.mean(axis=0), full_matrices=False)
    kept = lengths > max(X.shape) * EPS * lengths[0]
    return RidgeDecomposition(U[:, kept] - U[:, kept].mean(axis=0), lengths[kept] ** 2, V_T[kept])


def solve_ridge_cv_gram(
    K: ArrayLike, Y: ArrayLike, train_sets: Sequence[ArrayLike], alphas: ArrayLike
) -> tuple[LinearDecoders, Array]:
    """Train ridge classifiers whose alpha is chosen inside their training set, by leave-one-out.

    alpha = argmin_alpha sum_i ((y - H y)_i / (1 - H_ii))^2

    The choice of ``RidgeClassifierCV``, which is nilearn's "ridge_classifier", for every training set and
    label vector by itself; of equal errors the first in alphas is chosen. Decoders whose coefficients may be
    off by more than `COARSE_ACCURACY`, because the Gram matrix has lost too many digits, issue a
    LinAlgWarning. A scale of the data that was lost altogether cannot be detected from K.

    Parameters
    ----------
    K : ndarray of shape (n_samples, n_samples)
        X X^T (`compute_gram`).
    Y : ndarray of shape (n_samples,) or (n_samples, n_labels)
        Label vectors of -1 and +1. In a training set each must hold both.
    train_sets : sequence of ndarray of int or bool
        Indices (or a mask) of the samples to train on, one per fold.
    alphas : ndarray of shape (n_alphas,)
        In any order.

    Returns
    -------
    decoders : LinearDecoders
        Their axis of C has length 1.
    chosen : ndarray of shape (n_sets, n_labels)
        The chosen alphas.
    """
    result, rounding, _ = _choose_from_gram(check_gram(K), Y, train_sets, alphas)
    _warn_doubtful(rounding > COARSE_ACCURACY)
    return result.decoders, result.alphas


def solve_ridge_cv(
    X: ArrayLike, Y: ArrayLike, train_sets: Sequence[ArrayLike], alphas: ArrayLike
) -> tuple[LinearDecoders, Array]:
    """Train the ridge classifiers of `solve_ridge_cv_gram` from the samples.

    They are solved from the Gram matrix. A training set for which that has lost too many digits is solved
    again by a singular value decomposition of its samples; all decoders are then returned in primal space.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)
    Y, train_sets, alphas
        As in `solve_ridge_cv_gram`, and so are the results.
    """
    result = cross_validate_ridge(X, Y, train_sets, alphas)
    return result.decoders, result.alphas


def cross_validate_ridge(
    X: ArrayLike, Y: ArrayLike, train_sets: Sequence[ArrayLike], alphas: ArrayLike
) -> RidgeCVResult:
    """Train the ridge classifiers of `solve_ridge_cv`, and return the errors that chose alpha, too."""
    X = np.asarray(X, dtype=np.float64)
    K = check_gram(compute_gram(X))
    result, rounding, ranks = _choose_from_gram(K, Y, train_sets, alphas)
    decoders, chosen, errors = result.decoders, result.alphas, result.errors
    Y, alphas = check_labels(Y, len(X)), check_penalties(alphas, "alpha")
    sets = check_train_sets(train_sets, Y)
    lost = [
        i
        for i, train in enumerate(sets)
        if (rounding[i] > ACCURACY).any() or ranks[i] < expected_rank(X, train, ranks[i])
    ]
    if not lost:
        return result
    decoders = replace(decoders, space="primal", weights=decoders.coef(X))
    with one_blas_thread():
        for i in lost:
            X_train, Y_train = X[sets[i]], Y[sets[i]]
            factor = decompose_ridge(X_train)
            errors[i] = leave_one_out_errors(factor, Y_train, alphas).T
            chosen[i] = alphas[np.argmin(errors[i], axis=1)]
            coef = np.stack([factor.coef(chosen[i, j], y) for j, y in enumerate(Y_train.T)])
            intercepts = Y_train.mean(axis=0) - coef @ X_train.mean(axis=0)
            decoders.weights[i, 0], decoders.intercepts[i, 0] = coef, intercepts
            decoders.decisions[i, 0] = coef @ X.T + intercepts[:, None]
    return RidgeCVResult(decoders, chosen, errors)


def fit_ridge(X: Array, Y: Array, alphas: ArrayLike) -> tuple[Array, Array, float]:
    """Train one ridge classifier per label vector on all samples, with the same alpha for all.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)
    Y : ndarray of shape (n_samples, n_labels)
        Label vectors of -1 and +1.
    alphas : ndarray of shape (n_alphas,)
        The one with the smallest mean error of leaving each sample out is chosen.

    Returns
    -------
    coef : ndarray of shape (n_labels, n_voxels)
    intercept : ndarray of shape (n_labels,)
    """
    alphas = check_penalties(alphas, "alpha")

    def choose(factor: RidgeFactor) -> float:
        if len(alphas) == 1:
            return float(alphas[0])
        return float(alphas[np.argmin(leave_one_out_errors(factor, Y, alphas).mean(axis=1))])

    with one_blas_thread():
        factor = factorise_ridge(X)
        alpha = choose(factor)
        if _keeps_digits(factor, X, Y, alpha, float(alphas.min())):
            coef = np.stack([factor.duals(alpha, factor.U.T @ y) for y in Y.T]) @ X
        else:
            exact = decompose_ridge(X)
            alpha = choose(exact)
            coef = np.stack([exact.coef(alpha, y) for y in Y.T])
    return coef, Y.mean(axis=0) - coef @ X.mean(axis=0), alpha


def _keeps_digits(factor: RidgeFactor, X: Array, Y: Array, alpha: float, smallest: float) -> bool:
    """Return whether a factor from `factorise_ridge` gives w to `ACCURACY`, and alpha was well chosen."""
    n, p = X.shape
    rank = len(factor.eigenvalues)
    if rank < expected_rank(X, np.arange(n), rank):
        return False
    # With the mean: it cancels in w = X^T a, as far as the sum of a is 0.
    row_lengths = np.linalg.norm(X, axis=1)

    def rounding(penalty: float) -> float:
        if n > p:
            least = penalty + float(factor.eigenvalues.min(initial=np.inf))
            return ERROR_FACTOR * EPS * float(row_lengths @ row_lengths) / least
        return max(factor.rounding(penalty, factor.U.T @ y, row_lengths) for y in Y.T)

    return rounding(alpha) <= ACCURACY and rounding(smallest) <= COARSE_ACCURACY


def expected_rank(X: Array, train: NDArray[np.intp], rank: int) -> int:
    """Return the rank that centred training samples have when none depends on others, given the one found.

    Voxels that are constant do not count.
    """
    full = min(len(train) - 1, X.shape[1])
    return full if rank >= full else min(full, int(np.count_nonzero(np.ptp(X[train], axis=0))))


def _choose_from_gram(
    K: Array, Y: ArrayLike, train_sets: Sequence[ArrayLike], alphas: ArrayLike
) -> tuple[RidgeCVResult, Array, NDArray[np.intp]]:
    """Return decoders, the relative error that rounding may leave, and the rank of each training set.

    An error that is too large for the choice of alpha counts as one that is too large for the decoder.
    """
    alphas = check_penalties(alphas, "alpha")
    Y = check_labels(Y, len(K))
    sets = check_train_sets(train_sets, Y)
    decoders = _empty_decoders(len(sets), 1, Y.shape[1], len(K))
    chosen = np.empty((len(sets), Y.shape[1]))
    errors = np.empty((len(sets), Y.shape[1], len(alphas)))
    rounding, ranks = np.empty_like(chosen), np.empty(len(sets), dtype=np.intp)
    row_lengths = np.sqrt(K.diagonal())
    with one_blas_thread():
        for i, train in enumerate(sets):
            factor = factorise_ridge_gram(K[np.ix_(train, train)])
            K_rows = np.ascontiguousarray(K[:, train])
            ranks[i] = len(factor.eigenvalues)
            errors[i] = leave_one_out_errors(factor, Y[train], alphas).T
            chosen[i] = alphas[np.argmin(errors[i], axis=1)]
            for j, y in enumerate(np.ascontiguousarray(Y[train].T)):
                projections = factor.U.T @ y
                _store(decoders, (i, 0, j), train, K_rows, factor.duals(chosen[i, j], projections), y)
                final, coarse = (
                    factor.rounding(alpha, projections, row_lengths[train])
                    for alpha in (chosen[i, j], alphas.min())
                )
                rounding[i, j] = max(final, coarse * ACCURACY / COARSE_ACCURACY)
    return RidgeCVResult(decoders, chosen, errors), rounding, ranks


def _warn_doubtful(doubtful: NDArray[np.bool_]) -> None:
    if doubtful.any():
        warnings.warn(
            f"{doubtful.sum()} of {doubtful.size} ridge decoders may have lost most of their digits in the "
            "Gram matrix. Standardise the voxels, or solve from the samples (solve_ridge_cv).",
            LinAlgWarning,
            stacklevel=3,
        )


def leave_one_out_errors(factor: RidgeFactor, Y: Array, alphas: Array) -> Array:
    """Compute the mean squared error of leave-one-out predictions.

    1/n sum_i ((y - H y)_i / (1 - H_ii))^2

    Returns
    -------
    errors : ndarray of shape (n_alphas, n_targets)

    References
    ----------
    Rifkin & Lippert (2007), Notes on regularized least squares, MIT-CSAIL-TR-2007-025.
    """
    errors = np.empty((len(alphas), Y.shape[1]))
    columns = np.ascontiguousarray(Y.T)
    for k, alpha in enumerate(alphas):
        R = factor.residual_maker(alpha)
        R /= factor.leave_one_out_scales(alpha)[:, None]
        # One product per label vector, so that the last bit does not depend on its neighbours.
        for j, y in enumerate(columns):
            left_out = R @ y
            errors[k, j] = left_out @ left_out
    return errors / len(Y)


def _empty_decoders(n_sets: int, n_alphas: int, n_labels: int, n_samples: int) -> LinearDecoders:
    shape = (n_sets, n_alphas, n_labels)
    return LinearDecoders(
        "dual", np.zeros((*shape, n_samples)), np.empty(shape), np.empty((*shape, n_samples))
    )


def _store(
    decoders: LinearDecoders,
    at: tuple[int, int, int],
    train: NDArray[np.intp],
    K_rows: Array,
    a: Array,
    y: Array,
) -> None:
    f = K_rows @ a
    b = y.mean() - f[train].mean()
    decoders.weights[at][train] = a
    decoders.intercepts[at] = b
    decoders.decisions[at] = f + b
