"""Cholesky factors of symmetric positive definite matrices, straight from BLAS and LAPACK."""

from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError
from scipy.linalg.blas import dtrsv, strsv
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs, spotrf

Array = NDArray[np.float64]

EPS = float(np.finfo(float).eps)

DOUBLE_PRECISION_SUFFICES = 1e13
"""Largest trace over smallest squared pivot up to which the factor of a product gives useful Newton steps."""


def factorise_cholesky(A: NDArray[Any]) -> NDArray[Any]:
    """Factorise a symmetric positive definite matrix.

    A = L L^T

    Parameters
    ----------
    A : ndarray of shape (m, m)
        C-contiguous, in double or single precision; it is overwritten.

    Returns
    -------
    L : ndarray of shape (m, m)
        Lower factor in Fortran order; the strict upper triangle is undefined.

    Raises
    ------
    scipy.linalg.LinAlgError
        If A is not positive definite.
    """
    # The transpose of a symmetric C-ordered matrix is the same matrix in the order LAPACK wants: no copy.
    potrf = spotrf if A.dtype == np.float32 else dpotrf
    L, info = potrf(A.T, lower=1, overwrite_a=1, clean=0)
    if info != 0:
        raise LinAlgError(f"The matrix of shape {A.shape} is not positive definite (potrf: {info}).")
    return L


def solve_cholesky(L: NDArray[Any], b: Array) -> Array:
    """Solve a linear system from its Cholesky factor.

    L L^T x = b

    Parameters
    ----------
    L : ndarray of shape (m, m)
        Lower factor.
    b : ndarray of shape (m,) or (m, n_targets)
    """
    if b.ndim == 1:
        # For one right-hand side the two triangular solves of BLAS 2 take half the time of dpotrs.
        trsv = strsv if L.dtype == np.float32 else dtrsv
        return trsv(L, trsv(L, b, lower=1), lower=1, trans=1, overwrite_x=1)
    x, _ = dpotrs(L, b, lower=1)
    return x


def invert_cholesky(L: Array) -> Array:
    """Return (L L^T)^-1, both triangles; the lower factor L of shape (m, m) is overwritten."""
    lower, _ = dpotri(L, lower=1, overwrite_c=1)
    P = np.tril(lower)
    return P + np.tril(P, -1).T


def factorise_system(product: Array, trace: float, X: Array, h: Array) -> Array:
    """Factorise a Newton system in double precision.

    I + X^T H X = L L^T

    The Cholesky factor of the product where its condition allows. Otherwise an orthogonal factorisation of
    (H^1/2 X, I), whose condition is the square root of the product's, in about twice the operations.

    Parameters
    ----------
    product : ndarray of shape (m, m)
        X^T H X; it is overwritten.
    trace : float
        An upper bound of its trace.
    X : ndarray of shape (n_rows, m)
    h : ndarray of shape (n_rows,)
        Curvatures, the diagonal of H.

    Returns
    -------
    L : ndarray of shape (m, m)
        Lower factor in Fortran order; the strict upper triangle is undefined, the diagonal may be negative.
    """
    product.flat[:: len(product) + 1] += 1.0
    # No pivot of the exact factor is below 1.
    if trace <= DOUBLE_PRECISION_SUFFICES:
        return factorise_cholesky(product)
    with suppress(LinAlgError):
        L = factorise_cholesky(product)
        if is_precise_enough(L, trace, DOUBLE_PRECISION_SUFFICES):
            return L
    R = np.asarray(np.linalg.qr(np.vstack([X * np.sqrt(h)[:, None], np.eye(X.shape[1])]), mode="r"))
    return R.T


def is_precise_enough(L: NDArray[Any], trace: float, largest_ratio: float) -> bool:
    """Return whether the smallest pivot of a factor of I + A is well above the rounding of A.

    Parameters
    ----------
    L : ndarray of shape (m, m)
    trace : float
        Trace of A.
    largest_ratio : float
        Of the trace to the smallest squared pivot.
    """
    return trace <= largest_ratio * float(L.diagonal().min()) ** 2
