"""Newton's iteration for many smooth problems at once, in either space.

The linear systems of logistic regression are so small that calling NumPy for each of them takes longer than
solving them. Here the problems advance together: decision values, gradients and slopes of all are one matrix
each, with a row per problem; only the factors belong to single problems.

The squared hinge is solved one by one (`newton.minimise`). Its systems are shared by the label vectors of a
training set and updated from step to step: the problems of several training sets could advance together only
if the systems of all were kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from harness.solvers.cholesky import Array
from harness.solvers.newton import ROUNDING, SHORTEST, Loss, measure_beyond, settle, shorten
from harness.solvers.spaces import NewtonSystems, Space

KEEP_BELOW = 0.1
"""A factor computed elsewhere is kept while a step shrinks the gradient below this share."""


class Losses(Loss, Protocol):
    """The losses of several problems; arguments and results of a `Loss` have a row per problem."""

    slope_at_zero: Array
    """|s_i| where f_i = 0, of shape (n_problems, n_samples)."""

    def take(self, problems: NDArray[np.intp] | int) -> Self:
        """Return the losses of some of the problems."""


@dataclass(frozen=True)
class NewtonResults:
    """The ends of the iterations, and how far from the optima they may be.

    Attributes
    ----------
    V : ndarray of shape (n_problems, n_weights)
        Weights, in the space that the problems were solved in.
    F : ndarray of shape (n_problems, n_samples)
        Decision values of all samples.
    S : ndarray of shape (n_problems, n_samples)
        -d loss / d f_i, at the point that the last step was computed at.
    gradient, step : ndarray of shape (n_problems,)
        As in `newton.NewtonResult`, for that point. Where a problem converged the last step is still taken:
        V and F are nearer to the optimum than `step`.
    n_iter : ndarray of int of shape (n_problems,)
        Steps taken before that one.
    factors : list of ndarray
        The last Newton system of every problem, factorised.
    converged : ndarray of bool of shape (n_problems,)
        As in `newton.NewtonResult`.
    """

    V: Array
    F: Array
    S: Array
    gradient: Array
    step: Array
    n_iter: NDArray[np.intp]
    factors: list[NDArray[Any]]
    converged: NDArray[np.bool_]


class _Iteration:
    """The problems that have not ended; every array has a row per problem, `numbers` are their numbers."""

    ROWS = (
        *("numbers", "V", "F", "S", "H", "G", "F_G", "D", "F_D"),
        *("V_end", "F_end", "norm", "smallest", "n_iter"),
    )

    def __init__(
        self, space: Space, losses: Losses, systems: Sequence[NewtonSystems], y: Array, V: Array, F: Array
    ) -> None:
        n_problems = len(V)
        self.space, self.losses, self.systems, self.y = space, losses, list(systems), y
        self.numbers = np.arange(n_problems)
        self.factors: list[NDArray[Any]] = [np.empty((0, 0))] * n_problems
        self.V, self.F = V, F
        self.S, self.H = losses.slopes(y, F)
        self.G, self.F_G, self.norm = space.gradient(V, self.S)
        # A previous norm of 0 requests a new factor.
        self.norm_before, self.smallest = np.zeros(n_problems), np.full(n_problems, np.inf)
        self.n_iter, self.stuck = np.zeros(n_problems, dtype=np.intp), np.zeros(n_problems, dtype=bool)

    def compute_step(self) -> None:
        """Compute Newton's step and its end, with new factors where the old ones are no longer good."""
        self.fresh = self.norm >= KEEP_BELOW * self.norm_before
        for b in np.flatnonzero(self.fresh).tolist():
            self.factors[b] = self.systems[b].factorise(self.H[b])
        self.D = self.space.solve(self.systems, self.factors, self.G, self.F_G)
        self.F_D = self.space.decide(self.D)
        self.V_end, self.F_end = self.V + self.D, self.F + self.F_D

    def drop_ended(self, results: NewtonResults, longest: Array, tol: float, max_iter: int) -> bool:
        """Store the problems that end here and drop them; return whether any is left."""
        space = self.space
        length, size = space.measure(self.D, self.F_D), space.measure(self.V, self.F)
        invisible = ROUNDING * space.eps * (np.abs(self.S) @ space.row_lengths)
        converged = (length <= tol * size) | (self.norm <= invisible)
        ends = converged | self.stuck | (self.n_iter == max_iter)
        if not ends.any():
            return True
        at = self.numbers[ends]
        V, F, S, H, V_end, F_end = (A[ends] for A in (self.V, self.F, self.S, self.H, self.V_end, self.F_end))
        norm, length, size, converged = self.norm[ends], length[ends], size[ends], converged[ends]
        results.V[at] = np.where(converged[:, None], V_end, V)
        results.F[at] = np.where(converged[:, None], F_end, F)
        results.gradient[at] = norm / longest[at]
        results.S[at], results.n_iter[at] = S, self.n_iter[ends]
        rounding = space.rounding(V, S, H, size)
        losses = self.losses.take(np.flatnonzero(ends))
        rounding = rounding + measure_beyond(space, losses, self.y, V_end, F_end, H, norm, rounding)
        results.step[at], settled = settle(space, length, rounding, size, tol)
        results.converged[at] = (converged | self.stuck[ends]) & settled
        for b in np.flatnonzero(ends).tolist():
            results.factors[self.numbers[b]] = self.factors[b]
        if not ends.all():
            self._keep(np.flatnonzero(~ends))
        return not ends.all()

    def _keep(self, kept: NDArray[np.intp]) -> None:
        self.losses, self.fresh = self.losses.take(kept), self.fresh[kept]
        self.systems = [self.systems[b] for b in kept.tolist()]
        self.factors = [self.factors[b] for b in kept.tolist()]
        for name in self.ROWS:
            setattr(self, name, getattr(self, name)[kept])

    def take_step(self) -> None:
        """Go to the end of the step, or to the part of it that decreases J enough."""
        V, F = self.V_end, self.F_end
        S, H = self.losses.slopes(self.y, F)
        G, F_G, norm = self.space.gradient(V, S)
        self.smallest = np.minimum(self.smallest, self.norm)
        self.norm_before, self.n_iter = self.norm, self.n_iter + 1
        self.stuck = np.zeros(len(V), dtype=bool)
        for b in np.flatnonzero(norm > self.smallest / 2).tolist():
            share = self._shorten(b)
            if share == 1.0:
                continue
            V[b], F[b] = self.V[b] + share * self.D[b], self.F[b] + share * self.F_D[b]
            S[b], H[b] = self.losses.take(b).slopes(self.y, F[b])
            G[b], F_G[b], norm[b] = self.space.gradient(V[b], S[b])
            if share == 0.0:
                # An old factor whose step increases J is renewed; with a fresh one, rounding is the reason.
                self.norm_before[b], self.stuck[b] = 0.0, self.fresh[b]
                self.n_iter[b] -= 1
        self.V, self.F, self.S, self.H, self.G, self.F_G, self.norm = V, F, S, H, G, F_G, norm

    def _shorten(self, b: int) -> float:
        slope = self.space.multiply(self.G[b], self.D[b], self.F_D[b])
        shortest = SHORTEST if self.fresh[b] else 1.0
        loss, v, f, d, f_d = self.losses.take(b), self.V[b], self.F[b], self.D[b], self.F_D[b]
        return shorten(self.space, loss, self.y, v, f, d, f_d, slope, shortest)


def minimise_together(
    space: Space,
    losses: Losses,
    systems: Sequence[NewtonSystems],
    y: Array,
    V: Array,
    F: Array,
    *,
    tol: float,
    max_iter: int,
) -> NewtonResults:
    """Minimise several penalised convex losses with one label vector.

    J_b(w~) = 1/2 ||w~||^2 + sum_i loss_b(y_i f_i),    f = X~ w~

    Every problem b takes the steps that `newton.minimise` would take, with one difference: its factor is used
    again where the last step shrank the gradient to less than `KEEP_BELOW` of its length, because smooth
    curvatures change slowly (Shamanskii 1967). Such a step costs n^2 operations and not n^3 / 3.

    Parameters
    ----------
    losses : Losses
        0 for samples that a problem is not trained on.
    y : ndarray of shape (n_samples,)
        Labels, -1 or +1.
    V : ndarray of shape (n_problems, n_weights)
        Start of the iteration.
    F : ndarray of shape (n_problems, n_samples)
        Decision values of V.
    tol : float
        A problem ends when its Newton step is shorter than tol ||w~||.
    max_iter : int
        Steps after which a problem ends without having converged.
    """
    n_problems = len(V)
    results = NewtonResults(
        V=np.empty_like(V),
        F=np.empty_like(F),
        S=np.empty_like(F),
        gradient=np.empty(n_problems),
        step=np.empty(n_problems),
        n_iter=np.empty(n_problems, dtype=np.intp),
        factors=[np.empty((0, 0))] * n_problems,
        converged=np.empty(n_problems, dtype=bool),
    )
    longest = losses.slope_at_zero @ space.row_lengths
    iteration = _Iteration(space, losses, systems, y, V, F)
    iteration.compute_step()
    while iteration.drop_ended(results, longest, tol, max_iter):
        iteration.take_step()
        iteration.compute_step()
    return results
