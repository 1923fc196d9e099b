"""The two spaces in which the same linear decoder can be solved, and its Newton systems in each.

A decoder w~ = (w, b) with a penalised intercept is linear in the rows x~ = (x, 1). It minimises

    J(w~) = 1/2 ||w~||^2 + sum_i loss(y_i f_i),    f = X~ w~

With s_i = -d loss / d f_i and curvatures h_i = d^2 loss / d f_i^2, the gradient is w~ - X~^T s, and Newton's
step d solves (I + X~^T diag(h) X~) d = -(w~ - X~^T s).

`PrimalSpace` works on w~ itself: p + 1 unknowns. `DualSpace` works on v with w~ = X~^T v: n unknowns, and
only the Gram matrix K~ = X X^T + 1 is needed. Both give the same w~; the one with fewer unknowns is faster.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, eigh, eigvalsh
from scipy.linalg.lapack import dpocon

from harness.solvers.cholesky import (
    EPS,
    Array,
    factorise_cholesky,
    factorise_system,
    is_precise_enough,
    solve_cholesky,
)
from harness.solvers.threads import one_blas_thread

SINGLE_PRECISION_RANGE = 1e30
"""Largest trace of a Newton system that single precision can represent with a margin."""

SINGLE_PRECISION_SUFFICES = 1e5
"""Largest eigenvalue over smallest squared pivot up to which single precision (6e-8) gives useful steps."""

SMALLEST_CURVATURE = 1e-30
"""Lower bound of curvatures, whose inverse single precision can represent."""

ERROR_FACTOR = 8
"""Error that is assumed for a sum of products, in machine epsilons of the lengths of its two factors."""

ACCURACY = 1e-8
"""Largest relative error of the coefficients that rounding may leave where an iteration converged."""

WORST_CONDITION = 1e-7
"""Reciprocal condition of K~ below which dual coefficients lose too many digits."""


def compute_gram(X: Array) -> Array:
    """Compute the Gram matrix of the samples, in float64.

    K = X X^T

    The intercept is not in it; the solvers add it.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)
        Training samples and samples to predict; each part may have been standardised by itself.
    """
    X = np.asarray(X, dtype=np.float64)
    with one_blas_thread():
        return X @ X.T


def append_ones(X: Array) -> Array:
    """Return X~, of shape (n_samples, n_voxels + 1): the samples with a column of ones appended."""
    return np.column_stack([X, np.ones(len(X))])


class NewtonSystems(Protocol):
    """The Newton systems of one training set, for any smooth curvatures."""

    rows: NDArray[np.intp]

    def factorise(self, h: Array) -> NDArray[Any]:
        """Return the Cholesky factor of the Newton system for the curvatures h."""


class Space(Protocol):
    """What a Newton iteration needs of a space; v are the unknowns, f = X~ w~ the decision values.

    Several problems have one row each: v has the shape (n_weights,) or (n_problems, n_weights), f and s have
    (n_samples,) or (n_problems, n_samples), and a number becomes (n_problems,).
    """

    n_weights: int
    row_lengths: Array
    squared_lengths: Array
    longest: float
    """The largest of the row lengths."""
    eps: float
    """Machine epsilon of decision values and gradients."""

    def decide(self, v: Array) -> Array:
        """Return f = X~ w~."""

    def measure(self, v: Array, f: Array) -> Any:
        """Return ||w~||."""

    def multiply(self, v: Array, u: Array, f_u: Array) -> Any:
        """Return the inner product of the decoders v and u, where f_u are the decision values of u."""

    def gradient(self, v: Array, s: Array) -> tuple[Array, Array, Any]:
        """Return the gradient w~ - X~^T s, its decision values where they are needed, and its norm."""

    def rounding(self, v: Array, s: Array, h: Array, size: Any) -> Any:
        """Return a bound of the error of w~ that rounding leaves; size is ||w~||.

        Decision values that are off by e move the optimum by (I + X~^T H X~)^-1 X~^T H e, whose length is at
        most ||H^1/2 e|| / 2.
        """

    def restrict(self, rows: NDArray[np.intp]) -> NewtonSystems:
        """Return the Newton systems of a problem that is trained on these samples alone."""

    def solve(self, systems: Sequence[Any], factors: Sequence[NDArray[Any]], G: Array, F_G: Array) -> Array:
        """Return Newton's step for the gradient of every problem, of shape (n_problems, n_weights)."""


class DualSpace:
    """Unknowns v of shape (n_samples,), w~ = X~^T v.

    Parameters
    ----------
    K : ndarray of shape (n_samples, n_samples)
        K~ = X X^T + 1.
    """

    eps = EPS

    def __init__(self, K: Array) -> None:
        self.K = K
        self.n_weights = len(K)
        self.squared_lengths = np.diag(K)
        self.row_lengths = np.sqrt(self.squared_lengths)
        self.longest = float(self.row_lengths.max())

    @cached_property
    def K_single(self) -> NDArray[np.float32]:  # noqa: N802
        """K~ in single precision."""
        return self.K.astype(np.float32)

    def decide(self, v: Array) -> Array:
        """Return f = K~ v."""
        return v @ self.K.T

    def measure(self, v: Array, f: Array) -> Any:
        """Return ||w~|| = sqrt(v^T K~ v)."""
        # Negative values are rounding.
        return np.sqrt(abs(np.vecdot(v, f)))

    def multiply(self, v: Array, u: Array, f_u: Array) -> Any:
        """Return v^T K~ u."""
        return np.vecdot(v, f_u)

    def gradient(self, v: Array, s: Array) -> tuple[Array, Array, Any]:
        """Return r = v - s, which stands for the gradient X~^T r; K~ r; and the norm sqrt(r^T K~ r)."""
        r = v - s
        K_r = self.decide(r)
        return r, K_r, self.measure(r, K_r)

    def rounding(self, v: Array, s: Array, h: Array, size: Any) -> Any:
        """Return a bound of the error of w~ that rounding leaves; see `Space.rounding`.

        With e = ERROR_FACTOR eps: an entry of K~ is off by e ||x~_i|| ||x~_j||, independently of the others,
        and so the sum w~ = X~^T v is off by e (sum_i v_i^2 ||x~_i||^2)^1/2, and f_i by ||x~_i|| times that.
        """
        squares = self.squared_lengths
        return ERROR_FACTOR * self.eps * np.sqrt(v**2 @ squares) * (1.0 + np.sqrt(h @ squares) / 2)

    def duals(self, v: Array, s: Array) -> Array:
        """Return v."""
        return v

    def restrict(self, rows: NDArray[np.intp]) -> "DualSystems":
        """Return the Newton systems of a problem that is trained on these samples alone."""
        return DualSystems(self, rows)

    def solve(
        self, systems: Sequence["DualSystems"], factors: Sequence[NDArray[Any]], R: Array, K_R: Array
    ) -> Array:
        """Return Newton's step for the gradient of every problem; see `DualSystems`."""
        D = np.zeros_like(R)
        for d, K_r, system, L in zip(D, K_R, systems, factors, strict=True):
            d[system.rows] = solve_cholesky(L, K_r[system.rows])
        return D - R


class DualSystems:
    """Newton systems in dual space.

    (I + H K~) d = -r,  hence  d = -r + (H^-1 + K~)^-1 K~ r

    With the units of its rows chosen well, the matrix in brackets is I + H^1/2 K~ H^1/2, which has no
    eigenvalue below 1 (Rasmussen & Williams 2006, Gaussian Processes for Machine Learning, section 3.4.3).
    Those units make no difference to the accuracy of a Cholesky factor (Higham 2002, Accuracy and Stability
    of Numerical Algorithms, section 10.1), so that vanishing curvatures and repeated samples do no harm.

    Parameters
    ----------
    rows : ndarray of int of shape (n_rows,)
        The samples that are trained on.
    """

    def __init__(self, whole: DualSpace, rows: NDArray[np.intp]) -> None:
        self.whole, self.rows = whole, rows
        self.squared_lengths = whole.row_lengths[rows] ** 2

    @cached_property
    def K(self) -> Array:  # noqa: N802
        """K~ of the samples that are trained on."""
        return self.whole.K[self.rows].take(self.rows, axis=1)

    @cached_property
    def K_single(self) -> NDArray[np.float32]:  # noqa: N802
        """The same in single precision."""
        return self.whole.K_single[self.rows].take(self.rows, axis=1)

    def factorise(self, h: Array) -> NDArray[Any]:
        """Return the Cholesky factor of H^-1 + K~.

        Where its condition allows, it is factorised in single precision, in half the time. The step is then
        good to two digits or more. Gradient, weights and the end of the iteration are in double precision:
        the optimum is the same.

        Curvatures h have the shape (n_samples,), 0 outside `rows`.
        """
        h = h[self.rows]
        # All eigenvalues of I + H^1/2 K~ H^1/2 lie between 1 and its trace.
        single = h @ self.squared_lengths < SINGLE_PRECISION_SUFFICES
        A: NDArray[Any] = (self.K_single if single else self.K).copy()
        A.reshape(-1)[:: len(A) + 1] += 1.0 / np.maximum(h, SMALLEST_CURVATURE)
        return factorise_cholesky(A)


class PrimalSpace:
    """Unknowns w~ of shape (n_voxels + 1,), the intercept last.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels + 1)
        X~, the samples with a column of ones appended.
    """

    eps = EPS

    def __init__(self, X: Array) -> None:
        self.X = X
        self.n_weights = X.shape[1]
        self.squared_lengths = np.einsum("ij,ij->i", X, X)
        self.row_lengths = np.sqrt(self.squared_lengths)
        self.longest = float(self.row_lengths.max())

    def decide(self, v: Array) -> Array:
        """Return f = X~ w~."""
        return v @ self.X.T

    def measure(self, v: Array, f: Array) -> Any:
        """Return ||w~||."""
        return np.sqrt(np.vecdot(v, v))

    def multiply(self, v: Array, u: Array, f_u: Array) -> Any:
        """Return v^T u."""
        return np.vecdot(v, u)

    def gradient(self, v: Array, s: Array) -> tuple[Array, Array, Any]:
        """Return the gradient w~ - X~^T s twice (its decision values are not needed here), and its norm."""
        g = v - s @ self.X
        return g, g, self.measure(g, g)

    def rounding(self, v: Array, s: Array, h: Array, size: Any) -> Any:
        """Return a bound of the error of w~ that rounding leaves; see `Space.rounding`.

        With e = ERROR_FACTOR eps: the decision value x~_i^T w~ is off by e ||x~_i|| ||w~||, the sum X~^T s by
        e (sum_i s_i^2 ||x~_i||^2)^1/2.
        """
        squares = self.squared_lengths
        return ERROR_FACTOR * self.eps * (np.sqrt(s**2 @ squares) + np.sqrt(h @ squares) / 2 * size)

    def restrict(self, rows: NDArray[np.intp]) -> "PrimalSystems":
        """Return the Newton systems of a problem that is trained on these samples alone."""
        return PrimalSystems(self.X[rows], rows)

    def solve(
        self, systems: Sequence["PrimalSystems"], factors: Sequence[NDArray[Any]], G: Array, F_G: Array
    ) -> Array:
        """Return Newton's step for the gradient of every problem; see `PrimalSystems`."""
        # In double precision: what is added up from steps must have the decision values that are added up.
        D = np.empty_like(G)
        for d, g, L in zip(D, G, factors, strict=True):
            d[:] = solve_cholesky(L, g)
        return -D


class PrimalSystems:
    """Newton systems in primal space.

    (I + X~^T H X~) d = -g

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_voxels + 1)
        X~ of the samples that are trained on.
    rows : ndarray of int of shape (n_rows,)
        Which samples these are.
    """

    def __init__(self, X: Array, rows: NDArray[np.intp]) -> None:
        self.X, self.rows = X, rows
        self.squared_lengths = np.einsum("ij,ij->i", X, X)

    @cached_property
    def X_single(self) -> NDArray[np.float32]:  # noqa: N802
        """X~ in single precision."""
        return self.X.astype(np.float32)

    def factorise(self, h: Array) -> NDArray[Any]:
        """Return the lower factor of I + X~^T H X~, in single precision where that suffices.

        Curvatures h have the shape (n_samples,), 0 outside `rows`.
        """
        h = h[self.rows]
        root = np.sqrt(h)
        trace = float(h @ self.squared_lengths)

        def factorise(X: NDArray[Any]) -> NDArray[Any]:
            root_X = X * root.astype(X.dtype)[:, None]
            A = root_X.T @ root_X
            A.flat[:: len(A) + 1] += 1.0
            return factorise_cholesky(A)

        if trace < SINGLE_PRECISION_RANGE:
            # As in `DualSystems`; the smallest pivot stands for the smallest eigenvalue.
            with suppress(LinAlgError):
                L = factorise(self.X_single)
                if is_precise_enough(L, trace, SINGLE_PRECISION_SUFFICES):
                    return L
        root_X = self.X * root[:, None]
        return factorise_system(root_X.T @ root_X, trace, self.X, h)


class ReducedDualSpace(PrimalSpace):
    """Dual space where samples repeat or nearly determine each other, solved like a primal space.

    K~ = U diag(l) U^T,    X~ is replaced by U diag(sqrt(l)), eigenvalues that are rounding left out

    With a nearly singular K~ large dual coefficients cancel in f = K~ v. In these coordinates none do.

    Parameters
    ----------
    K : ndarray of shape (n_samples, n_samples)
        K~ = X X^T + 1.
    """

    def __init__(self, K: Array) -> None:
        eigenvalues, U = eigh(K)
        kept = eigenvalues > len(K) * EPS * eigenvalues[-1]
        self.cut = float(np.abs(eigenvalues[~kept]).max(initial=0.0))
        lengths = np.sqrt(eigenvalues[kept])
        super().__init__(U[:, kept] * lengths)
        self.U, self.to_duals = U[:, kept], U[:, kept] / lengths

    def rounding(self, v: Array, s: Array, h: Array, size: Any) -> Any:
        """Return a bound of the error of w~: that of `DualSpace`, and the part of K~ that is left out.

        Where it is large, the factor 1/2 of `Space.rounding` is replaced by the norm of
        (I + X~^T H X~)^-1 X~^T H^1/2, which is smaller where the loss determines all of w~.
        """
        squares = self.squared_lengths
        sums = ERROR_FACTOR * self.eps * np.sqrt(s**2 @ squares)
        left_out = self.cut * np.sqrt(h.max(axis=-1)) * np.linalg.norm(self._left_out(s), axis=-1)
        decisions = sums * np.sqrt(h @ squares) + left_out
        shares = np.full(np.shape(size), 0.5)
        for b in np.ndindex(shares.shape):
            if decisions[b] / 2 > ACCURACY * size[b]:
                shares[b] = self._respond(h[b])
        return sums + shares * decisions

    def _respond(self, h: Array) -> float:
        """Return ||(I + X~^T H X~)^-1 X~^T H^1/2||."""
        root_X = self.X * np.sqrt(h)[:, None]
        eigenvalues = eigvalsh(root_X.T @ root_X)
        smallest = float(eigenvalues[0]) - len(h) * EPS * float(eigenvalues[-1])
        return 0.5 if smallest < 1 else np.sqrt(smallest) / (1 + smallest)

    def duals(self, v: Array, s: Array) -> Array:
        """Return a with X~^T a = w~.

        w~ = X~^T s at the optimum. The part of s that belongs to the eigenvalues left out makes next to no
        difference to the decision values of these samples, but to w~ it can.
        """
        return v @ self.to_duals.T + self._left_out(s)

    def _left_out(self, s: Array) -> Array:
        return s - (s @ self.U) @ self.U.T


def is_well_conditioned(K: Array) -> bool:
    """Return whether K~, of shape (n_samples, n_samples), is far enough from singular for `DualSpace`."""
    try:
        reciprocal_condition, _ = dpocon(factorise_cholesky(K.copy()), np.abs(K).sum(axis=0).max(), uplo="L")
    except LinAlgError:
        return False
    return bool(reciprocal_condition > WORST_CONDITION)
