"""The support vector machine of `LinearSVC`: L2 penalty, squared hinge loss, penalised intercept."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.solvers.cholesky import (
    Array,
    factorise_cholesky,
    factorise_system,
    invert_cholesky,
    solve_cholesky,
)
from harness.solvers.decoders import SolvedDecoders
from harness.solvers.losses import SquaredHingeLoss
from harness.solvers.newton import NewtonResult, Step, minimise
from harness.solvers.spaces import DualSpace, PrimalSpace
from harness.solvers.threads import one_blas_thread
from harness.solvers.training import MAX_ITER, TOL, TrainingSets
from harness.solvers.validation import check_penalties


class DualActiveSets:
    """Newton systems of the squared hinge in dual space, for any active set A of one training set.

    G_AA d_A = -r_A / (2 C) + K~_AR r_R,    d_R = -r_R,    G = K~ + I / (2 C)

    With R the samples that are not active and P = G^-1, a system G_AA x_A = q_A also has the solution x = P q
    - P_:R (P_RR)^-1 (P q)_R. The smaller one of G_AA and P_RR is factorised: never more than half of the
    samples, at most an eighth of the operations of a full factorisation. P is computed once and serves all
    label vectors of the training set; for a single one, it costs more than it saves.

    Parameters
    ----------
    shares_inverse : bool
        Whether to compute P, which pays for several label vectors; the results differ by rounding.
    """

    def __init__(self, space: DualSpace, C: float, shares_inverse: bool) -> None:
        self.K, self.ridge, self.shares_inverse = space.K, 1 / (2 * C), shares_inverse
        self.G = space.K.copy()
        self.G.flat[:: len(self.G) + 1] += self.ridge

    @cached_property
    def inverse(self) -> Array:
        """P = G^-1, of shape (n_samples, n_samples)."""
        return invert_cholesky(factorise_cholesky(self.G.copy()))

    def factorise(self, h: Array) -> Step:
        """Return the map from a gradient r to Newton's step d, for curvatures h, 0 off the active set."""
        rest = np.flatnonzero(h == 0)
        solve = self._restrict(np.flatnonzero(h), rest)

        def step(r: Array, _: Array) -> Array:
            q = -self.ridge * r
            r_R = r[rest]
            if r_R.any():  # only after a shortened step: a full one leaves no weight on R
                q += self.K[:, rest] @ r_R
            d = solve(q)
            d[rest] = -r_R
            return d

        return step

    def _restrict(self, active: NDArray[np.intp], rest: NDArray[np.intp]) -> Callable[[Array], Array]:
        """Return the map from q to x, G_AA x_A = q_A; what x and q hold off A has no meaning."""
        if len(active) == 0:
            return np.zeros_like

        if len(active) <= len(rest) or not self.shares_inverse:
            L = factorise_cholesky(self.G[active].take(active, axis=1))

            def solve_active(q: Array) -> Array:
                x = np.zeros_like(q)
                x[active] = solve_cholesky(L, q[active])
                return x

            return solve_active

        P = self.inverse
        if len(rest) == 0:
            return lambda q: P @ q

        P_R = P[rest]
        L = factorise_cholesky(P_R.take(rest, axis=1))

        def solve_complement(q: Array) -> Array:
            x = P @ q
            return x - solve_cholesky(L, x[rest]) @ P_R

        return solve_complement


class PrimalActiveSets:
    """Newton systems of the squared hinge in primal space, for one active set A after the other.

    (I + 2 C X~_A^T X~_A) d = -g

    From one active set to the next few samples enter and leave: their rows are added to and taken from the
    product X~_A^T X~_A, instead of all being multiplied again.
    """

    def __init__(self, space: PrimalSpace) -> None:
        self.X = space.X
        self.whole = self.X.T @ self.X
        self.trace = float(self.whole.trace())
        self.restart()

    def restart(self) -> None:
        """Go back to all samples, so that no result depends on what was solved before."""
        self.product, self.active = self.whole, np.ones(len(self.X), dtype=bool)

    def factorise(self, h: Array) -> Step:
        """Return the map from a gradient to Newton's step, for curvatures h, 0 off the active set."""
        active = h > 0
        entering, leaving = self.X[active & ~self.active], self.X[self.active & ~active]
        two_C = float(h.max())
        # Rounding of the sum so far, against the 1 on the diagonal.
        exact_enough = two_C * np.finfo(float).eps * self.trace < 1e-4
        if exact_enough and len(entering) + len(leaving) < active.sum():
            self.product = self.product + entering.T @ entering - leaving.T @ leaving
        else:
            self.product = self.X[active].T @ self.X[active]
        self.active = active
        L = factorise_system(two_C * self.product, two_C * self.trace, self.X, h)

        def step(g: Array, _: Array) -> Array:
            return -solve_cholesky(L, g)

        return step


class SquaredHingePaths:
    """All values of C on one training set, for one label vector after the other.

    Parameters
    ----------
    Cs : ndarray of shape (n_Cs,)
        In any order.
    shares_inverse : bool
        See `DualActiveSets`.
    """

    def __init__(
        self,
        space: DualSpace | PrimalSpace,
        Cs: Array,
        tol: float,
        max_iter: int,
        shares_inverse: bool = True,
    ) -> None:
        self.space, self.tol, self.max_iter = space, tol, max_iter
        self.order = np.argsort(Cs, kind="stable")
        self.losses = [SquaredHingeLoss(C) for C in Cs]
        self.voxels: PrimalActiveSets | None = None
        if isinstance(space, PrimalSpace):
            self.voxels = PrimalActiveSets(space)
            self.factorisers = [self.voxels.factorise for _ in Cs]
        else:
            self.factorisers = [DualActiveSets(space, C, shares_inverse).factorise for C in Cs]

    def solve(self, y: Array) -> list[NewtonResult]:
        """Return one result per C. y has shape (n_samples,).

        Solved from the strongest penalty to the weakest, each from where the one before ended: mostly the
        active set is the same, and one step suffices.
        """
        results: dict[int, NewtonResult] = {}
        if self.voxels is not None:
            self.voxels.restart()
        v, f = np.zeros(self.space.n_weights), np.zeros(len(y))
        for k in self.order:
            results[k] = minimise(
                self.space, self.losses[k], self.factorisers[k], y, v, f, tol=self.tol, max_iter=self.max_iter
            )
            v, f = results[k].v, results[k].f
        return [results[k] for k in range(len(results))]


def solve_squared_hinge(
    X: ArrayLike,
    Y: ArrayLike,
    train_sets: Sequence[ArrayLike],
    Cs: ArrayLike,
    *,
    space: Literal["auto", "dual", "primal"] = "auto",
    tol: float = TOL,
    max_iter: int = MAX_ITER,
    shares_inverse: bool = True,
) -> SolvedDecoders:
    """Train support vector machines on several training sets, for several C and label vectors.

    min_w,b  1/2 ||w||^2 + 1/2 b^2 + C sum_i max(0, 1 - y_i (w^T x_i + b))^2

    The objective of ``LinearSVC(penalty="l2", loss="squared_hinge")``, solved to its optimum. In dual space

    w = X^T a,  f = K a + b,  b = sum_i a_i,    a_i = 2 C y_i max(0, 1 - y_i f_i)

    Each training set costs one inversion per C, n^3 operations, shared by all label vectors; each Newton step
    factorises at most n / 2 samples (`DualActiveSets`), or, without inversions, those that are active. Memory
    in addition to the decoders: about (4 + 2 n_Cs) n_samples^2 numbers of 8 bytes.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)
        Standardised samples; rows outside all training sets get decision values, too.
    Y : ndarray of shape (n_samples,) or (n_samples, n_labels)
        Label vectors of -1 and +1. In a training set each must hold both. Each is solved by itself: the
        others do not change its decoders, to the last bit.
    train_sets : sequence of ndarray of int or bool
        Indices (or a mask) of the samples to train on, one per fold.
    Cs : ndarray of shape (n_Cs,)
        In any order.
    space : {"auto", "dual", "primal"}
        Where to solve; "auto" takes the space with fewer unknowns, and returns primal weights if rounding
        made it necessary to solve a decoder again from the samples (`refinement`). The solution is the same.
    tol : float
        Length of Newton's step, relative to the coefficients, at which to stop.
    max_iter : int
        Newton steps after which to give up, with a ConvergenceWarning. The same warning is issued where
        rounding may leave an error of more than 1e-8 of the coefficients.
    shares_inverse : bool
        In dual space, whether label vectors share an inversion per training set and C. It pays for three or
        more of them; the results differ by rounding.
    """
    Cs = check_penalties(Cs, "C")
    problem = TrainingSets.of_samples(X, Y, train_sets, len(Cs), SquaredHingeLoss.uniform, space, max_iter)
    return _solve(problem, Cs, tol, max_iter, shares_inverse)


def solve_squared_hinge_gram(
    K: ArrayLike,
    Y: ArrayLike,
    train_sets: Sequence[ArrayLike],
    Cs: ArrayLike,
    *,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
    shares_inverse: bool = True,
) -> SolvedDecoders:
    """Train the support vector machines of `solve_squared_hinge` from the Gram matrix K = X X^T.

    The digits that K has lost cannot be recovered: where their part may be more than 1e-8 of the
    coefficients, decoders count as not converged.
    """
    Cs = check_penalties(Cs, "C")
    problem = TrainingSets("dual", K, Y, train_sets, len(Cs), SquaredHingeLoss.uniform)
    return _solve(problem, Cs, tol, max_iter, shares_inverse)


def _solve(
    problem: TrainingSets, Cs: Array, tol: float, max_iter: int, shares_inverse: bool
) -> SolvedDecoders:
    with one_blas_thread():
        for group in problem.separate():
            paths = SquaredHingePaths(group.space, Cs, tol, max_iter, shares_inverse)
            i = int(group.sets[0])
            for j, y in enumerate(np.ascontiguousarray(problem.Y[group.samples].T)):
                for k, result in enumerate(paths.solve(y)):
                    problem.store(group, (i, k, j), (result.v, result.s), result, Cs[k], tol)
    return problem.finish()
