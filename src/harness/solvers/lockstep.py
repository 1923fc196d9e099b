"""Newton's iteration for many smooth problems at once, in either space.

The linear systems of logistic regression are so small that to call NumPy for one of them after the other
takes longer than to solve them. Here the problems advance together: decision values, gradients and slopes of
all are one matrix each, a row per problem; only a factor belongs to one problem alone.

The squared hinge goes one by one (`newton.minimise`). Its systems are shared by the label vectors of a
training set and updated from step to step: the problems of several training sets could not advance together
without keeping the systems of all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from harness.solvers.newton import ROUNDING, SHORTEST, Loss, measure_beyond, settle, shorten
from harness.solvers.spaces import Array, Space, Systems

KEEP_BELOW = 0.1
"""A factor computed elsewhere is kept while a step shrinks the gradient below this share."""


class Losses(Loss, Protocol):
    """The losses of several problems; what a `Loss` takes and returns has a row per problem."""

    slope_at_zero: Array
    """|s_i| where f_i = 0, of shape (n_problems, n_samples)."""

    def take(self, problems: NDArray[np.intp] | int) -> Self:
        """Return the losses of some of the problems."""


@dataclass(frozen=True)
class Minima:
    """Where the iterations ended, and how far from the optima that may be.

    Attributes
    ----------
    V : ndarray of shape (n_problems, n_weights)
        Weights, in the space that the problems were solved in.
    F : ndarray of shape (n_problems, n_samples)
        Decision values of all samples.
    S : ndarray of shape (n_problems, n_samples)
        -d loss / d f_i, at the point that the last step was computed at.
    gradient, step : ndarray of shape (n_problems,)
        As in `newton.Minimum`, for that point. Where a problem converged the last step is taken, too, because
        it is known anyway: V and F are nearer to the optimum than `step`.
    n_iter : ndarray of int of shape (n_problems,)
        Steps taken before that one.
    factors : list of ndarray
        The last Newton system of every problem, factorised.
    converged : ndarray of bool of shape (n_problems,)
        As in `newton.Minimum`.
    """

    V: Array
    F: Array
    S: Array
    gradient: Array
    step: Array
    n_iter: NDArray[np.intp]
    factors: list[NDArray[Any]]
    converged: NDArray[np.bool_]


def minimise_together(
    space: Space,
    losses: Losses,
    systems: Sequence[Systems],
    y: Array,
    V: Array,
    F: Array,
    *,
    tol: float,
    max_iter: int,
) -> Minima:
    """Minimise several penalised convex losses with one label vector.

    J_b(w~) = 1/2 ||w~||^2 + sum_i loss_b(y_i f_i),    f = X~ w~

    Every problem b takes the steps that `newton.minimise` would take, with one difference: its factor is used
    again where the last step shrank the gradient to less than `KEEP_BELOW` of what it was, because smooth
    curvatures change little by little (Shamanskii 1967). Such a step costs n^2 operations and not n^3 / 3.

    Parameters
    ----------
    space : SampleSpace or VoxelSpace
        Of all samples.
    losses : Losses
        Samples that a problem is not trained on have no loss there.
    systems : sequence of Systems
        The Newton systems of every problem.
    y : ndarray of shape (n_samples,)
        Labels, -1 or +1.
    V : ndarray of shape (n_problems, n_weights)
        Where to start.
    F : ndarray of shape (n_problems, n_samples)
        Decision values of V.
    tol : float
        A problem ends when its Newton step is shorter than tol ||w~||.
    max_iter : int
        Steps after which a problem gives up.

    Returns
    -------
    minima : Minima
    """
    n_problems = len(V)
    ended = Minima(
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
    # What follows has one row per problem that goes on; `problems` says which these are.
    problems, factors = np.arange(n_problems), list(ended.factors)
    S, H = losses.slopes(y, F)
    G, F_G, norm = space.gradient(V, S)
    # A norm of 0 before asks for a new factor.
    norm_before, smallest = np.zeros(n_problems), np.full(n_problems, np.inf)
    n_iter, stuck = np.zeros(n_problems, dtype=np.intp), np.zeros(n_problems, dtype=bool)
    while True:
        fresh = norm >= KEEP_BELOW * norm_before
        for b in np.flatnonzero(fresh).tolist():
            factors[b] = systems[b].factorise(H[b])
        D = space.solve(systems, factors, G, F_G)
        F_D = space.decide(D)
        length, size = space.measure(D, F_D), space.measure(V, F)
        converged = (length <= tol * size) | (norm <= ROUNDING * space.eps * (np.abs(S) @ space.row_lengths))
        V_new, F_new = V + D, F + F_D

        ends = converged | stuck | (n_iter == max_iter)
        if ends.any():
            at = problems[ends]
            ended.V[at] = np.where(converged[ends, None], V_new[ends], V[ends])
            ended.F[at] = np.where(converged[ends, None], F_new[ends], F[ends])
            ended.gradient[at] = norm[ends] / longest[at]
            ended.S[at], ended.n_iter[at] = S[ends], n_iter[ends]
            rounding = space.rounding(V[ends], S[ends], H[ends], size[ends])
            rounding = rounding + measure_beyond(
                space,
                losses.take(np.flatnonzero(ends)),
                y,
                V_new[ends],
                F_new[ends],
                H[ends],
                norm[ends],
                rounding,
            )
            ended.step[at], settled = settle(space, length[ends], rounding, size[ends], tol)
            ended.converged[at] = (converged | stuck)[ends] & settled
            for b in np.flatnonzero(ends).tolist():
                ended.factors[problems[b]] = factors[b]
            if ends.all():
                return ended
            on = np.flatnonzero(~ends)
            problems, losses = problems[on], losses.take(on)
            systems, factors = [systems[b] for b in on.tolist()], [factors[b] for b in on.tolist()]
            V, F, S, H, G, F_G, D, F_D, V_new, F_new = (
                A[on] for A in (V, F, S, H, G, F_G, D, F_D, V_new, F_new)
            )
            norm, smallest, n_iter, fresh = norm[on], smallest[on], n_iter[on], fresh[on]

        S_new, H_new = losses.slopes(y, F_new)
        G_new, F_G_new, norm_new = space.gradient(V_new, S_new)
        smallest = np.minimum(smallest, norm)
        norm_before, n_iter, stuck = norm, n_iter + 1, np.zeros(len(problems), dtype=bool)
        for b in np.flatnonzero(norm_new > smallest / 2).tolist():
            slope = space.multiply(G[b], D[b], F_D[b])
            shortest = SHORTEST if fresh[b] else 1.0
            share = shorten(space, losses.take(b), y, V[b], F[b], D[b], F_D[b], slope, shortest)
            if share == 1.0:
                continue
            V_new[b], F_new[b] = V[b] + share * D[b], F[b] + share * F_D[b]
            S_new[b], H_new[b] = losses.take(b).slopes(y, F_new[b])
            G_new[b], F_G_new[b], norm_new[b] = space.gradient(V_new[b], S_new[b])
            if share == 0.0:
                # An old factor that leads uphill is renewed; where a fresh one does, rounding rules.
                norm_before[b], stuck[b] = 0.0, fresh[b]
                n_iter[b] -= 1
        V, F, S, H, G, F_G, norm = V_new, F_new, S_new, H_new, G_new, F_G_new, norm_new
