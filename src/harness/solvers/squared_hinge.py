"""The support vector machine of `LinearSVC`: L2 penalty, squared hinge loss, penalised intercept."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.solvers.newton import Minimum, Step, minimise
from harness.solvers.refinement import Refiner
from harness.solvers.solutions import (
    MAX_ITER,
    TOL,
    Assembly,
    Solutions,
    check_gram,
    check_labels,
    check_matrix,
    check_strengths,
    check_train_sets,
    choose_space,
    export_duals,
    export_voxels,
)
from harness.solvers.spaces import (
    Array,
    SampleSpace,
    VoxelSpace,
    append_ones,
    compute_gram,
    factorise_cholesky,
    factorise_system,
    invert_cholesky,
    is_well_conditioned,
    make_sample_space,
    solve_cholesky,
)
from harness.solvers.threads import one_blas_thread


class SquaredHinge:
    """The loss C max(0, 1 - y f)^2.

    Parameters
    ----------
    C : float
        Weight of the loss against the penalty.
    """

    def __init__(self, C: float) -> None:
        self.C = C
        self.slope_at_zero = 2 * C

    def scale(self, share: float) -> "SquaredHinge":
        """Return the loss for C times a share."""
        return SquaredHinge(self.C * share)

    def slopes(self, y: Array, f: Array) -> tuple[Array, Array]:
        """Return s = 2 C y max(0, 1 - y f) and the curvatures h, 2 C where that is above 0."""
        excess = 1.0 - y * f
        h = np.where(excess > 0, 2 * self.C, 0.0)
        return h * y * excess, h

    def value(self, y: Array, f: Array) -> float:
        """Return C sum_i max(0, 1 - y_i f_i)^2."""
        excess = np.maximum(0.0, 1.0 - y * f)
        return self.C * float(excess @ excess)


class ActiveSets:
    """Newton systems of the squared hinge in sample space, for any active set A of one training set.

    G_AA d_A = -r_A / (2 C) + K~_AR r_R,    d_R = -r_R,    G = K~ + I / (2 C)

    With R the samples that are not active and P = G^-1, a system G_AA x_A = q_A also has the solution x = P q
    - P_:R (P_RR)^-1 (P q)_R. The smaller one of G_AA and P_RR is factorised: never more than half of the
    samples, at most an eighth of the operations of a full factorisation. P is computed once and serves all
    label vectors of the training set; for a single one, it costs more than it saves.

    Parameters
    ----------
    space : SampleSpace
    C : float
    inverts : bool
        Whether to compute P, which pays for several label vectors; the results differ by rounding.
    """

    def __init__(self, space: SampleSpace, C: float, inverts: bool = True) -> None:
        self.K, self.ridge, self.inverts = space.K, 1 / (2 * C), inverts
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

        if len(active) <= len(rest) or not self.inverts:
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


class ActiveVoxels:
    """Newton systems of the squared hinge in voxel space, for one active set A after the other.

    (I + 2 C X~_A^T X~_A) d = -g

    From one active set to the next few samples enter and leave: their rows are added to and taken from the
    product X~_A^T X~_A, instead of all being multiplied again.

    Parameters
    ----------
    space : VoxelSpace
    """

    def __init__(self, space: VoxelSpace) -> None:
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
    space : SampleSpace or VoxelSpace
    Cs : ndarray of shape (n_Cs,)
        In any order.
    tol : float
    max_iter : int
    inverts : bool
        See `ActiveSets`.
    """

    def __init__(
        self, space: SampleSpace | VoxelSpace, Cs: Array, tol: float, max_iter: int, inverts: bool = True
    ) -> None:
        self.space, self.tol, self.max_iter = space, tol, max_iter
        self.order = np.argsort(Cs, kind="stable")
        self.losses = [SquaredHinge(C) for C in Cs]
        self.voxels: ActiveVoxels | None = None
        if isinstance(space, VoxelSpace):
            self.voxels = ActiveVoxels(space)
            self.factorisers = [self.voxels.factorise for _ in Cs]
        else:
            self.factorisers = [ActiveSets(space, C, inverts).factorise for C in Cs]

    def solve(self, y: Array) -> list[Minimum]:
        """Return one minimum per C. y has shape (n_samples,).

        Solved from the strongest penalty to the weakest, each from where the one before ended: mostly the
        active set is the same, and one step suffices.
        """
        minima: dict[int, Minimum] = {}
        if self.voxels is not None:
            self.voxels.restart()
        v, f = np.zeros(self.space.n_weights), np.zeros(len(y))
        for k in self.order:
            minima[k] = minimise(
                self.space, self.losses[k], self.factorisers[k], y, v, f, tol=self.tol, max_iter=self.max_iter
            )
            v, f = minima[k].v, minima[k].f
        return [minima[k] for k in range(len(minima))]


def solve_squared_hinge(
    X: ArrayLike,
    Y: ArrayLike,
    train_sets: Sequence[ArrayLike],
    Cs: ArrayLike,
    *,
    space: Literal["auto", "samples", "voxels"] = "auto",
    tol: float = TOL,
    max_iter: int = MAX_ITER,
    inverts: bool = True,
) -> Solutions:
    """Train support vector machines on several training sets, for several C and label vectors.

    min_w,b  1/2 ||w||^2 + 1/2 b^2 + C sum_i max(0, 1 - y_i (w^T x_i + b))^2

    The objective of ``LinearSVC(penalty="l2", loss="squared_hinge")``, solved to its optimum.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)
        Standardised samples; rows outside of all training sets get decision values, too.
    Y : ndarray of shape (n_samples,) or (n_samples, n_labels)
        Label vectors of -1 and +1. In a training set each must hold both.
    train_sets : sequence of ndarray of int or bool
        Indices (or a mask) of the samples to train on, one per fold.
    Cs : ndarray of shape (n_Cs,)
        Values of C, in any order.
    space : {"auto", "samples", "voxels"}
        Where to solve; "auto" takes the space with fewer unknowns, and returns voxels if rounding made it
        necessary to solve a decoder again from the samples (`refinement`). The solution is the same.
    tol : float
        Length of Newton's step, relative to the coefficients, at which to stop.
    max_iter : int
        Newton steps after which to give up, with a ConvergenceWarning. The warning also says where rounding
        may leave more than 1e-8 of the coefficients.
    inverts : bool
        In sample space, whether label vectors share an inversion per training set and C. It pays for three or
        more of them; the results differ by rounding.

    Returns
    -------
    solutions : Solutions
    """
    X, Cs = np.asarray(X, dtype=np.float64), check_strengths(Cs, "C")
    chosen = choose_space(space, X.shape[1], train_sets)
    K_tilde = None
    if chosen == "samples":
        # The column of ones in X~ adds 1 to every inner product.
        K_tilde = check_gram(compute_gram(X)) + 1.0
    else:
        X = check_matrix(X, "X")
    Y = check_labels(Y, len(X))
    sets = check_train_sets(train_sets, Y)
    shape, n_weights = (len(sets), len(Cs), Y.shape[1]), len(X) if chosen == "samples" else X.shape[1]
    assembly = Assembly(chosen, shape, n_weights, len(X), Refiner(X, max_iter), keeps_space=space != "auto")
    if K_tilde is not None:
        _solve_samples(assembly, K_tilde, Y, sets, Cs, tol, max_iter, inverts)
    else:
        _solve_voxels(assembly, append_ones(X), Y, sets, Cs, tol, max_iter)
    return assembly.finish()


def solve_squared_hinge_gram(
    K: ArrayLike,
    Y: ArrayLike,
    train_sets: Sequence[ArrayLike],
    Cs: ArrayLike,
    *,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
    inverts: bool = True,
) -> Solutions:
    """Train the support vector machines of `solve_squared_hinge` from the Gram matrix alone.

    What K has lost of the samples cannot be found again: where that may be more than 1e-8 of the
    coefficients, decoders count as not converged.

    w = X^T a,  f = K a + b,  b = sum_i a_i,    a_i = 2 C y_i max(0, 1 - y_i f_i)

    Each training set costs one inversion per C, n^3 operations, shared by all label vectors; each Newton step
    factorises at most n / 2 samples (`ActiveSets`), or, without inversions, those that are active. Memory:
    see `solve_in_batches`.

    Parameters
    ----------
    K : ndarray of shape (n_samples, n_samples)
        X X^T (`compute_gram`).
    Y, train_sets, Cs, tol, max_iter, inverts
        As in `solve_squared_hinge`.

    Returns
    -------
    solutions : Solutions
    """
    Cs = check_strengths(Cs, "C")
    # The column of ones in X~ adds 1 to every inner product.
    K_tilde = check_gram(K) + 1.0
    Y = check_labels(Y, len(K_tilde))
    sets = check_train_sets(train_sets, Y)
    assembly = Assembly("samples", (len(sets), len(Cs), Y.shape[1]), len(K_tilde), len(K_tilde))
    _solve_samples(assembly, K_tilde, Y, sets, Cs, tol, max_iter, inverts)
    return assembly.finish()


def _solve_voxels(
    assembly: Assembly,
    X_tilde: Array,
    Y: Array,
    sets: Sequence[NDArray[np.intp]],
    Cs: Array,
    tol: float,
    max_iter: int,
) -> None:
    with one_blas_thread():
        for i, train in enumerate(sets):
            paths = SquaredHingePaths(VoxelSpace(X_tilde[train]), Cs, tol, max_iter)
            for j, y in enumerate(np.ascontiguousarray(Y[train].T)):
                minima = paths.solve(y)
                for k, minimum in enumerate(minima):
                    assembly.put((i, k, j), export_voxels(X_tilde, minimum.v), minimum)
                _refine(assembly, i, j, minima, Cs, y, train, tol)


def _solve_samples(
    assembly: Assembly,
    K_tilde: Array,
    Y: Array,
    sets: Sequence[NDArray[np.intp]],
    Cs: Array,
    tol: float,
    max_iter: int,
    inverts: bool,
) -> None:
    with one_blas_thread():
        # No part of a well-conditioned Gram matrix is worse conditioned than the whole.
        make_space = SampleSpace if is_well_conditioned(K_tilde) else make_sample_space
        for i, train in enumerate(sets):
            space = make_space(K_tilde[train].take(train, axis=1))
            paths = SquaredHingePaths(space, Cs, tol, max_iter, inverts)
            for j, y in enumerate(np.ascontiguousarray(Y[train].T)):
                minima = paths.solve(y)
                for k, minimum in enumerate(minima):
                    decoders = export_duals(K_tilde, train, space.duals(minimum.v, minimum.s))
                    assembly.put((i, k, j), decoders, minimum)
                _refine(assembly, i, j, minima, Cs, y, train, tol)


def _refine(
    assembly: Assembly,
    i: int,
    j: int,
    minima: list[Minimum],
    Cs: Array,
    y: Array,
    train: NDArray[np.intp],
    tol: float,
) -> None:
    """Solve those values of C again whose decoders lost too many digits."""
    if assembly.refiner is None:
        return
    for k, minimum in enumerate(minima):
        if assembly.refiner.needs(minimum):
            assembly.refine((i, k, j), SquaredHinge(Cs[k]), y, train, tol)
