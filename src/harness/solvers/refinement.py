"""Decoders whose rounding error exceeds the tolerance, solved again in the primal with exact gradients.

A Gram matrix in double precision has lost the small scales of its samples: where a few voxels, or the mean,
are 10^4 times larger than the rest, decoders from it can be wrong in every digit although their equations
are solved. `Space.rounding` bounds that error. Where the bound is too large, the gradient
w~ - X~^T s(X~ w~) is computed from the samples themselves, in `numpy.longdouble`; Newton's step from there is
the error that is left.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lstsq, qr

from harness.solvers.lockstep import NewtonResults
from harness.solvers.newton import Loss, NewtonResult, Step, minimise
from harness.solvers.spaces import (
    ACCURACY,
    EPS,
    Array,
    PrimalSpace,
    PrimalSystems,
    append_ones,
    solve_cholesky,
)

LONG: Any = np.longdouble
"""The extended precision of the platform."""

VOXELS_AT_A_TIME = 4096
"""Voxels that are converted to extended precision at a time."""

SHARES = tuple(10.0**exponent for exponent in range(-12, 1, 2))
"""Fractions of C for a continuation path, used if Newton's iteration does not converge at C."""


class ExtendedSpace(PrimalSpace):
    """Primal space with decision values and gradients in `numpy.longdouble`.

    That is 64 bits of mantissa on x86 processors, more on some, and on some platforms no more than float64
    has; `eps` is that of the platform.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels + 1)
        X~.
    """

    def __init__(self, X: Array) -> None:
        super().__init__(X)
        # Sums are taken term by term, not in the order of BLAS.
        self.eps = float(np.finfo(LONG).eps) * np.sqrt(self.n_weights)

    def decide(self, v: NDArray[Any]) -> NDArray[Any]:
        """Return f = X~ w~."""
        return sum(
            (v[part] @ self.X[:, part].T.astype(LONG) for part in self._parts()),
            start=np.zeros(len(self.X), dtype=LONG),
        )

    def gradient(self, v: NDArray[Any], s: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], Any]:
        """Return the gradient w~ - X~^T s twice, and its norm."""
        g = v.astype(LONG)
        for part in self._parts():
            g[part] -= s @ self.X[:, part].astype(LONG)
        return g, g, np.sqrt(g @ g)

    def _parts(self) -> list[slice]:
        starts = range(0, self.n_weights, VOXELS_AT_A_TIME)
        return [slice(start, start + VOXELS_AT_A_TIME) for start in starts]


class ExtendedSystems:
    """Newton systems in extended precision, in plain NumPy: feasible for some hundred voxels.

    (I + X~^T H X~) d = -g

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels + 1)
        X~.
    """

    def __init__(self, X: Array) -> None:
        self.X = X.astype(LONG)

    def factorise(self, h: NDArray[Any]) -> Step:
        """Return the map from a gradient to Newton's step, by Householder reflections of (H^1/2 X~, I)."""
        p = self.X.shape[1]
        R = np.vstack([self.X * np.sqrt(h)[:, None], np.eye(p, dtype=LONG)])
        for j in range(p):
            reflector = R[j:, j].copy()
            reflector[0] += np.copysign(np.sqrt(reflector @ reflector), reflector[0])
            reflector /= np.sqrt(reflector @ reflector)
            R[j:, j:] -= 2 * np.outer(reflector, reflector @ R[j:, j:])

        def step(g: NDArray[Any], _: NDArray[Any]) -> NDArray[Any]:
            d = -g
            for j in range(p):
                d[j] = (d[j] - R[:j, j] @ d[:j]) / R[j, j]
            for j in reversed(range(p)):
                d[j] = (d[j] - R[j, j + 1 : p] @ d[j + 1 :]) / R[j, j]
            return d

        return step


@dataclass(frozen=True)
class RefinedDecoder:
    """A decoder that was solved again.

    Attributes
    ----------
    w : ndarray of shape (n_voxels + 1,)
        Coefficients and intercept.
    decisions : ndarray of shape (n_samples,)
        Decision values of all samples.
    result : NewtonResult
        The proof.
    """

    w: Array
    decisions: Array
    result: NewtonResult


class Refiner:
    """Solves decoders again, where rounding was too large the first time.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)
    max_iter : int
        Newton steps after which to end without having converged.
    """

    def __init__(self, X: Array, max_iter: int) -> None:
        self.X, self.max_iter = X, max_iter

    @cached_property
    def X_tilde(self) -> Array:  # noqa: N802
        """X~, of shape (n_samples, n_voxels + 1)."""
        return append_ones(self.X)

    @cached_property
    def _basis(self) -> tuple[Array | None, Array]:
        """An orthonormal basis Q of the samples, one vector per column, and X~ Q; without Q, X~ itself.

        A basis pays where there are many more voxels than samples. It mixes the scales of the voxels.
        """
        if self.X.shape[1] < 2 * len(self.X):
            return None, self.X_tilde
        Q, R = qr(self.X_tilde.T, mode="economic")
        return Q, np.ascontiguousarray(R.T)

    def needs(self, result: NewtonResult | NewtonResults) -> Any:
        """Return whether a problem, or each of several, ended for another reason than its number of steps."""
        return ~np.asarray(result.converged) & (np.asarray(result.n_iter) < self.max_iter)

    def refine(self, loss: Loss, y: Array, train: NDArray[np.intp], w: Array, tol: float) -> RefinedDecoder:
        """Solve one decoder again.

        Parameters
        ----------
        loss : Loss
            Of the training samples.
        y : ndarray of shape (n_train,)
            Their labels.
        train : ndarray of int of shape (n_train,)
            The samples to train on.
        w : ndarray of shape (n_voxels + 1,)
            Start of the iteration.
        tol : float
            The iteration ends when Newton's step is shorter than tol ||w~||.
        """
        space = ExtendedSpace(self.X_tilde[train])

        def minimise_from(v: NDArray[Any], share: float, factorise: Callable[[Array], Step]) -> NewtonResult:
            f, weaker = space.decide(v), loss.scale(share)
            size = space.measure(v, f)
            # A step cannot become shorter than its rounding.
            noise = space.rounding(v, *weaker.slopes(y, f), size) / size if size else 0.0
            reachable = max(tol, min(noise, ACCURACY))
            return minimise(space, weaker, factorise, y, v, f, tol=reachable, max_iter=self.max_iter)

        nowhere = np.zeros(len(w), dtype=LONG)
        start = w.astype(LONG) if np.isfinite(w).all() else nowhere
        factorise = self._factoriser(train)
        result = minimise_from(start, 1.0, factorise)
        if not result.converged:
            # Samples that rounding puts on the margin can stop the iteration; weaker losses lead there.
            if self._basis[0] is None:
                factorise = ExtendedSystems(self.X_tilde[train]).factorise
            v: NDArray[Any] = nowhere
            for share in SHARES:
                result = minimise_from(v, share, factorise)
                v = result.v
        decisions = ExtendedSpace(self.X_tilde).decide(result.v)
        # The coefficients are rounded once more when they are stored.
        gradient = float(np.max(result.gradient))
        result = replace(result, step=result.step + EPS, gradient=gradient)
        return RefinedDecoder(result.v.astype(np.float64), decisions.astype(np.float64), result)

    def duals(self, refined: RefinedDecoder, train: NDArray[np.intp]) -> tuple[Array, float]:
        """Return a with X~^T a = w~, and the length of the error of w~ when it is computed from a.

        Parameters
        ----------
        train : ndarray of int of shape (n_train,)

        Returns
        -------
        a : ndarray of shape (n_train,)
        """
        Q, coordinates = self._basis
        a = lstsq(coordinates[train].T, refined.w if Q is None else refined.w @ Q)[0]
        return a, float(np.linalg.norm(a @ self.X_tilde[train] - refined.w))

    def _factoriser(self, train: NDArray[np.intp]) -> Callable[[Array], Step]:
        """Return the map from curvatures to Newton's step, I + X~^T H X~ = I + Q (Q^T X~^T H X~ Q) Q^T."""
        Q, coordinates = self._basis
        systems = PrimalSystems(coordinates[train], np.arange(len(train)))

        def factorise(h: NDArray[Any]) -> Step:
            L = systems.factorise(h.astype(np.float64))

            def step(g: NDArray[Any], _: NDArray[Any]) -> Array:
                g = g.astype(np.float64)
                if Q is None:
                    return -solve_cholesky(L, g)
                inside = g @ Q
                return Q @ (inside - solve_cholesky(L, inside)) - g

            return step

        return factorise
