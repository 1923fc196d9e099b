"""Logistic decoders along ascending values of C, each started from where the ones before it lead."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.solvers.cholesky import Array
from harness.solvers.lockstep import NewtonResults, minimise_together
from harness.solvers.losses import LogisticLoss
from harness.solvers.spaces import NewtonSystems, Space

LONGEST_STRIDE = float(np.log(20.0))
"""The largest step in log C over which a solution is extrapolated."""

CHUNK_BYTES = 2**27
"""Bound for the Newton systems that are kept at a time, 128 MiB (those of one problem are the least)."""


@dataclass(frozen=True)
class PathPoint:
    """Weights and decision values for one C, as `NewtonResults` has them, and their derivatives by log C."""

    V: Array
    F: Array
    V_slope: Array
    F_slope: Array


class LogisticPaths:
    """Logistic decoders of several training sets, found together.

    Parameters
    ----------
    space : DualSpace or PrimalSpace
        Of all samples that any of them is trained on.
    train_sets : sequence of ndarray of int
        Rows of the space.
    """

    def __init__(self, space: Space, train_sets: Sequence[NDArray[np.intp]]) -> None:
        self.space = space
        self.systems: list[NewtonSystems] = [space.restrict(train) for train in train_sets]
        self.trained_on = np.zeros((len(train_sets), len(space.row_lengths)))
        for weights, train in zip(self.trained_on, train_sets, strict=True):
            weights[train] = 1.0

    def minimise(
        self, C: ArrayLike, y: Array, V: Array, F: Array, tol: float, max_iter: int
    ) -> NewtonResults:
        """Return the results for one C per problem, or one for all; see `minimise_together`."""
        losses = LogisticLoss(np.reshape(C, (-1, 1)) * self.trained_on)
        return minimise_together(self.space, losses, self.systems, y, V, F, tol=tol, max_iter=max_iter)

    def follow(self, Cs: Array, y: Array, tol: float, max_iter: int) -> Iterator[tuple[int, NewtonResults]]:
        """Yield the index of every C and its results, in ascending order of C.

        Each is started from where the ones before it lead. The solution is a smooth function of log C. The
        cubic with the values and slopes of the last two solutions ends about 1e-3 (relative) from the next
        one where C grows tenfold.

        Parameters
        ----------
        Cs : ndarray of shape (n_Cs,)
            In any order.
        y : ndarray of shape (n_samples,)
        tol, max_iter
            As in `minimise_together`.
        """
        order = np.argsort(Cs, kind="stable")
        n_problems, n_samples = self.trained_on.shape
        V, F = np.zeros((n_problems, self.space.n_weights)), np.zeros((n_problems, n_samples))
        before: PathPoint | None = None
        behind = np.inf
        for place, following in zip(order, [*order[1:], None], strict=True):
            results = self.minimise(Cs[place], y, V, F, tol, max_iter)
            yield int(place), results
            if following is None:
                return
            V, F = results.V, results.F
            ahead = np.log(Cs[following] / Cs[place])
            # Extrapolation is inaccurate far outside the points of the polynomial.
            if ahead > LONGEST_STRIDE:
                before = None
                continue
            point = self._differentiate(Cs[place], y, results, before, behind)
            if before is None or ahead >= 2 * behind:
                V, F = V + ahead * point.V_slope, F + ahead * point.F_slope
            else:
                a, b, c, d = hermite_weights(1.0 + ahead / behind)
                V = a * before.V + b * V + behind * (c * before.V_slope + d * point.V_slope)
                F = a * before.F + b * F + behind * (c * before.F_slope + d * point.F_slope)
            before, behind = point, ahead

    def _differentiate(
        self, C: float, y: Array, results: NewtonResults, before: PathPoint | None, behind: float
    ) -> PathPoint:
        """Return the results and their tangents.

        w~ = X~^T s(C, f)  and  ds / dlog C = s - H df / dlog C,  hence  dw~ = X~^T (s - H df)

        One Newton step on this linear equation, from the slope of the parabola through this point and the one
        before it. The step makes its error at least about ten times smaller; not zero, because the factor may
        be that of a point nearby.
        """
        V, F = results.V, results.F
        dV, dF = np.zeros_like(V), np.zeros_like(F)
        if before is not None and behind > 0:
            dV = 2 / behind * (V - before.V) - before.V_slope
            dF = 2 / behind * (F - before.F) - before.F_slope
        s, h = LogisticLoss(C * self.trained_on).slopes(y, F)
        G, F_G, _ = self.space.gradient(dV, s - h * dF)
        D = self.space.solve(self.systems, results.factors, G, F_G)
        return PathPoint(V, F, dV + D, dF + self.space.decide(D))


def chunk_paths(
    space: Space, train_sets: Sequence[NDArray[np.intp]]
) -> Iterator[tuple[slice, LogisticPaths]]:
    """Yield chunks of the training sets whose Newton systems stay within `CHUNK_BYTES`, and their paths."""
    # In double and in single precision: what is factorised, and one factor.
    largest = 24 * max(len(train) for train in train_sets) * space.n_weights
    size = max(1, CHUNK_BYTES // largest)
    for start in range(0, len(train_sets), size):
        chunk = slice(start, min(start + size, len(train_sets)))
        yield chunk, LogisticPaths(space, train_sets[chunk])


def hermite_weights(t: float) -> tuple[float, float, float, float]:
    """Return the weights of value(0), value(1), slope(0), slope(1) in their cubic, evaluated at t."""
    return (
        2 * t**3 - 3 * t**2 + 1,
        -2 * t**3 + 3 * t**2,
        t**3 - 2 * t**2 + t,
        t**3 - t**2,
    )
