"""The two spaces in which the same linear decoder can be solved, and its Newton systems in each.

A decoder w~ = (w, b) with a penalised intercept is linear in the rows x~ = (x, 1). It minimises

    J(w~) = 1/2 ||w~||^2 + sum_i loss(y_i f_i),    f = X~ w~

With s_i = -d loss / d f_i and curvatures h_i = d^2 loss / d f_i^2, the gradient is w~ - X~^T s, and Newton's
step d solves (I + X~^T diag(h) X~) d = -(w~ - X~^T s).

`VoxelSpace` works on w~ itself: p + 1 unknowns. `SampleSpace` works on v with w~ = X~^T v: n unknowns, and
only the Gram matrix K~ = X X^T + 1 is needed. Both give the same w~; the one with fewer unknowns is cheaper.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, eigh
from scipy.linalg.blas import dtrsv, strsv
from scipy.linalg.lapack import dpocon, dpotrf, dpotri, dpotrs, spotrf

from harness.solvers.threads import one_blas_thread

Array = NDArray[np.float64]

SINGLE_PRECISION_RANGE = 1e30
"""Largest trace of a Newton system that single precision can hold with room to spare."""

SINGLE_PRECISION_SUFFICES = 1e5
"""Largest eigenvalue over smallest squared pivot up to which single precision (6e-8) steers well enough."""

WORST_CONDITION = 1e-7
"""Reciprocal condition of K~ below which dual coefficients lose too many digits."""

Step = Callable[[Array, Array], Array]
"""Maps a gradient, as `Space.gradient` returns it, to the Newton step away from it."""


def compute_gram(X: Array) -> Array:
    """Compute the Gram matrix of the samples.

    K = X X^T

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)
        One row per volume. Rows that are to be predicted may be stacked below those to train on, and each
        part may have been standardised on its own.

    Returns
    -------
    K : ndarray of shape (n_samples, n_samples)
        In float64. The intercept is not in it; the solvers add it.
    """
    X = np.asarray(X, dtype=np.float64)
    with one_blas_thread():
        return X @ X.T


def factorise_cholesky(A: NDArray[Any]) -> NDArray[Any]:
    """Factorise a symmetric positive definite matrix, A = L L^T.

    Parameters
    ----------
    A : ndarray of shape (m, m)
        C-contiguous, in double or single precision; it is overwritten.

    Returns
    -------
    L : ndarray of shape (m, m)
        Lower factor in Fortran order; above the diagonal there is rubbish.

    Raises
    ------
    scipy.linalg.LinAlgError
        A is not positive definite.
    """
    # The transpose of a symmetric C-ordered matrix is the same matrix in the order LAPACK wants: no copy.
    potrf = spotrf if A.dtype == np.float32 else dpotrf
    L, info = potrf(A.T, lower=1, overwrite_a=1, clean=0)
    if info != 0:
        raise LinAlgError(f"The matrix of shape {A.shape} is not positive definite (potrf: {info}).")
    return L


def solve_cholesky(L: NDArray[Any], b: Array) -> Array:
    """Solve L L^T x = b.

    Parameters
    ----------
    L : ndarray of shape (m, m)
        Lower factor, from `factorise_cholesky`.
    b : ndarray of shape (m,) or (m, n_targets)
        Right-hand sides.

    Returns
    -------
    x : ndarray of the shape of b
    """
    if b.ndim == 1:
        # For one right-hand side the two triangular solves of BLAS 2 take half the time of dpotrs.
        trsv = strsv if L.dtype == np.float32 else dtrsv
        return trsv(L, trsv(L, b, lower=1), lower=1, trans=1, overwrite_x=1)
    x, _ = dpotrs(L, b, lower=1)
    return x


def invert_cholesky(L: Array) -> Array:
    """Compute (L L^T)^-1.

    Parameters
    ----------
    L : ndarray of shape (m, m)
        Lower factor, from `factorise_cholesky`; it is overwritten.

    Returns
    -------
    P : ndarray of shape (m, m)
        Both triangles are filled.
    """
    lower, _ = dpotri(L, lower=1, overwrite_c=1)
    P = np.tril(lower)
    return P + np.tril(P, -1).T


class Space(Protocol):
    """What the Newton iteration asks of a space; v are the unknowns, f = X~ w~ the decision values."""

    n_weights: int
    row_lengths: Array

    def restrict(self, rows: NDArray[np.intp]) -> "Space":
        """Return the space of these samples alone."""

    def decide(self, v: Array) -> Array:
        """Return f = X~ w~."""

    def decide_elsewhere(self, V: Array, rows: NDArray[np.intp], test: NDArray[np.intp]) -> Array:
        """Return decision values of the samples `test`; V's columns are decoders of `restrict(rows)`."""

    def embed(self, v: Array, rows: NDArray[np.intp]) -> Array:
        """Return, in this space, the weights of a decoder v of `restrict(rows)`."""

    def measure(self, v: Array, f: Array) -> float:
        """Return ||w~||."""

    def multiply(self, v: Array, u: Array, f_u: Array) -> float:
        """Return the inner product of the decoders v and u, where f_u are the decision values of u."""

    def gradient(self, v: Array, s: Array) -> tuple[Array, Array, float]:
        """Return the gradient w~ - X~^T s, its decision values where they are needed, and its norm."""

    def factorise(self, h: Array) -> Step:
        """Return the function that maps a gradient to Newton's step, for the curvatures h."""


class SampleSpace:
    """Unknowns v of shape (n_samples,), w~ = X~^T v.

    Parameters
    ----------
    K : ndarray of shape (n_samples, n_samples)
        K~ = X X^T + 1.
    """

    def __init__(self, K: Array) -> None:
        self.K = K
        self.n_weights = len(K)
        self.row_lengths = np.sqrt(np.diag(K))

    @cached_property
    def K_single(self) -> NDArray[np.float32]:  # noqa: N802
        """K~ in single precision."""
        return self.K.astype(np.float32)

    def restrict(self, rows: NDArray[np.intp]) -> "SampleSpace":
        """Return the space of these samples alone."""
        return SampleSpace(self.K[rows].take(rows, axis=1))

    def decide(self, v: Array) -> Array:
        """Return f = K~ v."""
        return self.K @ v

    def decide_elsewhere(self, V: Array, rows: NDArray[np.intp], test: NDArray[np.intp]) -> Array:
        """Return decision values of the samples `test`; V's columns are decoders of `restrict(rows)`."""
        return self.K[test].take(rows, axis=1) @ V

    def embed(self, v: Array, rows: NDArray[np.intp]) -> Array:
        """Return, in this space, the weights of a decoder v of `restrict(rows)`."""
        embedded = np.zeros(self.n_weights)
        embedded[rows] = v
        return embedded

    def duals(self, v: Array) -> Array:
        """Return v, of shape (n_samples,)."""
        return v

    def measure(self, v: Array, f: Array) -> float:
        """Return ||w~|| = sqrt(v^T K~ v)."""
        return math.sqrt(max(float(v @ f), 0.0))

    def multiply(self, v: Array, u: Array, f_u: Array) -> float:
        """Return v^T K~ u."""
        return float(v @ f_u)

    def gradient(self, v: Array, s: Array) -> tuple[Array, Array, float]:
        """Return r = v - s, which stands for the gradient X~^T r; K~ r; and the norm sqrt(r^T K~ r)."""
        r = v - s
        K_r = self.K @ r
        return r, K_r, math.sqrt(max(float(r @ K_r), 0.0))

    def factorise(self, h: Array) -> Step:
        """Return the map from a gradient to Newton's step.

        (I + H K~) d = -r,  hence  d = -r + H^1/2 (I + H^1/2 K~ H^1/2)^-1 H^1/2 K~ r

        The matrix in brackets has no eigenvalue below 1, so that vanishing curvatures and repeated samples do
        no harm (Rasmussen & Williams 2006, Gaussian Processes for Machine Learning, section 3.4.3).

        Where its condition allows, it is factorised in single precision, in half the time. The step is then
        good to two digits or more. Gradient, weights and the end of the iteration are in double precision:
        the optimum is the same.

        Parameters
        ----------
        h : ndarray of shape (n_samples,)
            Curvatures, the diagonal of H.
        """
        root = np.sqrt(h)
        # All eigenvalues of B lie between 1 and its trace.
        single = h @ self.row_lengths**2 < SINGLE_PRECISION_SUFFICES
        K: NDArray[Any] = self.K_single if single else self.K
        root_K = root.astype(K.dtype)
        B = K * root_K[:, None]
        B *= root_K
        B.flat[:: self.n_weights + 1] += 1.0
        L = factorise_cholesky(B)

        def step(r: Array, K_r: Array) -> Array:
            return root * solve_cholesky(L, root * K_r) - r

        return step


class VoxelSpace:
    """Unknowns w~ of shape (n_voxels + 1,), the intercept last.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels + 1)
        X~, the samples with a column of ones appended.
    """

    def __init__(self, X: Array) -> None:
        self.X = X
        self.n_weights = X.shape[1]
        self.row_lengths = np.sqrt(np.einsum("ij,ij->i", X, X))

    @cached_property
    def X_single(self) -> NDArray[np.float32]:  # noqa: N802
        """X~ in single precision."""
        return self.X.astype(np.float32)

    def restrict(self, rows: NDArray[np.intp]) -> "VoxelSpace":
        """Return the space of these samples alone."""
        return VoxelSpace(self.X[rows])

    def decide(self, v: Array) -> Array:
        """Return f = X~ w~."""
        return self.X @ v

    def decide_elsewhere(self, V: Array, rows: NDArray[np.intp], test: NDArray[np.intp]) -> Array:
        """Return decision values of the samples `test`; V's columns are decoders of `restrict(rows)`."""
        return self.X[test] @ V

    def embed(self, v: Array, rows: NDArray[np.intp]) -> Array:
        """Return, in this space, the weights of a decoder v of `restrict(rows)`."""
        return v

    def measure(self, v: Array, f: Array) -> float:
        """Return ||w~||."""
        return math.sqrt(float(v @ v))

    def multiply(self, v: Array, u: Array, f_u: Array) -> float:
        """Return v^T u."""
        return float(v @ u)

    def gradient(self, v: Array, s: Array) -> tuple[Array, Array, float]:
        """Return the gradient w~ - X~^T s twice (its decision values are not needed here), and its norm."""
        g = v - self.X.T @ s
        return g, g, math.sqrt(float(g @ g))

    def factorise(self, h: Array) -> Step:
        """Return the map from a gradient to Newton's step.

        d = -(I + X~^T H X~)^-1 g

        Parameters
        ----------
        h : ndarray of shape (n_samples,)
            Curvatures, the diagonal of H.
        """
        root = np.sqrt(h)
        trace = float(h @ self.row_lengths**2)

        def factorise(X: NDArray[Any]) -> NDArray[Any]:
            root_X = X * root.astype(X.dtype)[:, None]
            A = root_X.T @ root_X
            A.flat[:: self.n_weights + 1] += 1.0
            return factorise_cholesky(A)

        L = None
        if trace < SINGLE_PRECISION_RANGE:
            # As in `SampleSpace`; the smallest pivot stands for the smallest eigenvalue.
            with suppress(LinAlgError):
                L = factorise(self.X_single)
        if L is None or trace > SINGLE_PRECISION_SUFFICES * float(L.diagonal().min()) ** 2:
            L = factorise(self.X)

        def step(g: Array, _: Array) -> Array:
            return -solve_cholesky(L, g)

        return step


class FactorSpace(VoxelSpace):
    """Sample space where samples repeat or nearly determine each other, solved like a voxel space.

    K~ = U diag(l) U^T,    X~ is replaced by U diag(sqrt(l)), eigenvalues that are rounding left out

    With a nearly singular K~ large dual coefficients cancel in f = K~ v. In these coordinates none do.

    Parameters
    ----------
    K : ndarray of shape (n_samples, n_samples)
        K~ = X X^T + 1.
    """

    def __init__(self, K: Array) -> None:
        eigenvalues, U = eigh(K)
        kept = eigenvalues > len(K) * np.finfo(float).eps * eigenvalues[-1]
        lengths = np.sqrt(eigenvalues[kept])
        super().__init__(U[:, kept] * lengths)
        self.to_duals = U[:, kept] / lengths

    def duals(self, v: Array) -> Array:
        """Return the shortest a with X~^T a = w~, of shape (n_samples,)."""
        return self.to_duals @ v


def make_sample_space(K: Array) -> SampleSpace | FactorSpace:
    """Return the sample space of a Gram matrix, in the form that suits its condition.

    Parameters
    ----------
    K : ndarray of shape (n_samples, n_samples)
        K~ = X X^T + 1.
    """
    try:
        reciprocal_condition, _ = dpocon(factorise_cholesky(K.copy()), np.abs(K).sum(axis=0).max(), uplo="L")
    except LinAlgError:
        return FactorSpace(K)
    return SampleSpace(K) if reciprocal_condition > WORST_CONDITION else FactorSpace(K)
