"""Newton's iteration for one penalised linear decoder, in either space."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np

from harness.solvers.cholesky import EPS, Array
from harness.solvers.spaces import ACCURACY, ERROR_FACTOR, Space

Step = Callable[[Array, Array], Array]
"""Maps a gradient, as `Space.gradient` returns it, to the Newton step away from it."""

ARMIJO = 1e-4
"""Share of the decrease that the slope promises which a step must deliver."""

SHORTEST = 2.0**-40
"""The smallest share of a step that is tried."""

SHORTEST_DECODER = 1e-200
"""Errors are relative to this length where w~ is shorter."""

ROUNDING = 2
"""Relative error of a sum, in machine epsilons, that does not count as a gradient or an increase."""


class Loss(Protocol):
    """A convex loss of y_i f_i, with its factor C."""

    slope_at_zero: Any
    """|s_i| where f_i = 0, the same for all samples of one problem."""

    def scale(self, share: float) -> Self:
        """Return the loss for C times a share."""

    def slopes(self, y: Array, f: Array) -> tuple[Array, Array]:
        """Return s = -d loss / d f and the curvatures h = d^2 loss / d f^2, both of shape (n_samples,)."""

    def value(self, y: Array, f: Array) -> Any:
        """Return sum_i loss(y_i f_i)."""


@dataclass(frozen=True)
class NewtonResult:
    """The end of the iteration, and how far from the optimum it may be.

    Attributes
    ----------
    v : ndarray of shape (n_weights,)
        Weights, in the space that the problem was solved in.
    f : ndarray of shape (n_samples,)
        Decision values of the training samples.
    s : ndarray of shape (n_samples,)
        -d loss / d f_i.
    gradient : float
        ||w~ - X~^T s|| / (|s(0)| sum_i ||x~_i||): norm of the gradient, relative to the longest that the
        gradient at w~ = 0 can be for any label vector. It is computed from K~ or from X~, whichever the space
        has, and does not show their rounding.
    step : float
        Bound of the relative error of w~ = (w, b): the length of Newton's step from here to the optimum of
        the local quadratic model, plus `Space.rounding` and `measure_beyond`, relative to ||w~||.
    n_iter : int
        Steps taken.
    converged : bool
        Whether the iteration ended by its tolerance, or could not go on, and `step` is small (`settle`).
    """

    v: Array
    f: Array
    s: Array
    gradient: float
    step: float
    n_iter: int
    converged: bool


def minimise(
    space: Space,
    loss: Loss,
    factorise: Callable[[Array], Step],
    y: Array,
    v: Array,
    f: Array,
    *,
    tol: float,
    max_iter: int,
) -> NewtonResult:
    """Minimise a penalised convex loss.

    J(w~) = 1/2 ||w~||^2 + sum_i loss(y_i f_i),    f = X~ w~

    Newton's method. A full step is taken when it halves the smallest gradient seen so far or decreases J
    enough (Armijo); otherwise the step is halved until J decreases. The first can happen without end only on
    the way to a zero gradient, the second is the globally convergent finite Newton method, so the iteration
    cannot cycle.

    A factorised Hessian is used again while its curvatures are the same: such a step costs n^2 operations and
    not n^3 / 3. For smooth losses, whose old factors are useful for longer, see `minimise_together`.

    Parameters
    ----------
    factorise : callable
        Curvatures of shape (n_samples,) -> function from a gradient to Newton's step.
    y : ndarray of shape (n_samples,)
        Labels, -1 or +1.
    v : ndarray of shape (n_weights,)
        Start of the iteration.
    f : ndarray of shape (n_samples,)
        Decision values of v.
    tol : float
        The iteration ends when Newton's step is shorter than tol ||w~||.
    max_iter : int
        Steps after which it ends without having converged.

    References
    ----------
    Keerthi & DeCoste (2005), A modified finite Newton method for fast solution of large scale linear SVMs,
    JMLR 6.
    Mangasarian (2002), A finite Newton method for classification, Optimization Methods and Software 17.
    """
    s, h = loss.slopes(y, f)
    g, f_g, norm = space.gradient(v, s)
    step: Step | None = None
    h_factorised = h
    smallest = np.inf
    n_iter = 0
    stuck = False
    while True:
        fresh = step is None or not np.array_equal(h, h_factorised)
        if step is None or fresh:
            step, h_factorised = factorise(h), h
        d = step(g, f_g)
        f_d = space.decide(d)
        length, size = space.measure(d, f_d), space.measure(v, f)
        invisible = ROUNDING * space.eps * float(np.abs(s) @ space.row_lengths)
        converged = length <= tol * size or norm <= invisible
        if converged or n_iter == max_iter:
            break

        smallest = min(smallest, norm)
        share = 1.0
        s_new, h_new = loss.slopes(y, f + f_d)
        g_new, f_g_new, norm_new = space.gradient(v + d, s_new)
        if norm_new > smallest / 2:
            slope = space.multiply(g, d, f_d)
            share = shorten(space, loss, y, v, f, d, f_d, slope, SHORTEST if fresh else 1.0)
            if share == 0.0 and fresh:
                stuck = True
                break
            if share == 0.0:
                step = None  # the step of an old factor increases J: renew it
                continue
            if share < 1.0:
                s_new, h_new = loss.slopes(y, f + share * f_d)
                g_new, f_g_new, norm_new = space.gradient(v + share * d, s_new)
        v, f = v + share * d, f + share * f_d
        s, h, g, f_g, norm = s_new, h_new, g_new, f_g_new, norm_new
        n_iter += 1
    rounding = space.rounding(v, s, h, size)
    beyond = measure_beyond(space, loss, y, v + d, f + f_d, h, norm, rounding)
    error, settled = settle(space, length, rounding + beyond, size, tol)
    gradient = norm / (loss.slope_at_zero * float(space.row_lengths.sum()))
    return NewtonResult(v, f, s, gradient, float(error), n_iter, bool((converged or stuck) and settled))


def measure_beyond(
    space: Space, loss: Loss, y: Array, v: Array, f: Array, h: Array, norm: Any, rounding: Any
) -> Any:
    """Return how far the optimum may be from the end of Newton's step; 0 where its length is enough.

    It is where the loss is quadratic along the step, up to a factor of 2 in its curvatures, and where the
    step halves the gradient, if that is more than rounding. If not, the bound is the length of the gradient
    at the end of the step, because J(w~) - ||w~||^2 / 2 is convex. The last digits of the step are added.

    Parameters
    ----------
    v : ndarray of shape (n_weights,) or (n_problems, n_weights)
        The end of the step.
    f : ndarray of shape (n_samples,) or (n_problems, n_samples)
        Its decision values.
    h : ndarray of the shape of f
        Curvatures at the start of the step.
    norm : float or ndarray of shape (n_problems,)
        Of the gradient at the start of the step.
    rounding : float or ndarray of shape (n_problems,)
        From `Space.rounding`.

    Returns
    -------
    distance : float or ndarray of shape (n_problems,)
    """
    s_end, h_end = loss.slopes(y, f)
    last_digits = ERROR_FACTOR * EPS * norm
    visible = norm > rounding * (1.0 + 2.0 * np.sqrt(h @ space.squared_lengths))
    quadratic = np.array_equal(h, h_end) or ((h_end <= 2 * h) & (h <= 2 * h_end)).all(axis=-1)
    if np.all(quadratic & ~visible):
        return last_digits
    norm_end = space.gradient(v, s_end)[2]
    return last_digits + np.where(quadratic & (~visible | (norm_end <= norm / 2)), 0.0, norm_end)


def settle(space: Space, length: Any, rounding: Any, size: Any, tol: float) -> tuple[Any, Any]:
    """Return the bound of the relative error of w~, and whether it is small enough.

    Each of its two parts may be `ACCURACY`. If the tolerance is larger, Newton's step may be as long as that,
    and rounding a tenth of it. A w~ so short that no decision value reaches the margin, 1, is measured
    against the one that would.

    Parameters
    ----------
    length : float or ndarray of shape (n_problems,)
        Of Newton's step.
    rounding : float or ndarray of shape (n_problems,)
        From `Space.rounding` and `measure_beyond`.
    size : float or ndarray of shape (n_problems,)
        ||w~||.

    Returns
    -------
    error : float or ndarray of shape (n_problems,)
        (length + rounding) / size.
    settled : bool or ndarray of bool of shape (n_problems,)
    """
    scale = np.maximum(size, 1.0 / space.longest)
    share = max(ACCURACY, tol / 10)
    settled = (rounding <= share * scale) & (length <= max(share, tol) * scale)
    return (length + rounding) / np.maximum(size, SHORTEST_DECODER), settled


def shorten(
    space: Space,
    loss: Loss,
    y: Array,
    v: Array,
    f: Array,
    d: Array,
    f_d: Array,
    slope: float,
    shortest: float,
) -> float:
    """Return the largest share 1, 1/2, 1/4 ... of a Newton step that decreases J enough, 0 if none does.

    J(w~ + t d) <= J(w~) + ARMIJO t <gradient, d>

    Parameters
    ----------
    v, d : ndarray of shape (n_weights,)
        Weights and step.
    f, f_d : ndarray of shape (n_samples,)
        Their decision values.
    slope : float
        <gradient, d>.
    shortest : float
        The smallest share to try.
    """
    v_v, v_d, d_d = space.multiply(v, v, f), space.multiply(v, d, f_d), space.multiply(d, d, f_d)
    J = v_v / 2 + loss.value(y, f)
    share = 1.0
    while share >= shortest:
        J_new = (v_v + 2 * share * v_d + share**2 * d_d) / 2 + loss.value(y, f + share * f_d)
        if J_new <= J + ARMIJO * share * slope + ROUNDING * space.eps * J:
            return share
        share /= 2
    return 0.0
