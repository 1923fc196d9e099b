"""Newton's iteration for many small decoders that share their samples: label vectors, folds, values of C.

A searchlight trains thousands of decoders with some 40 unknowns on the same 200 samples. Their Newton systems

    I + sum_i h_i x~_i x~_i^T

are sums of the same outer products, weighted by curvatures that are 0 for samples a decoder is not trained
on. So the systems of all decoders are one matrix product, of curvatures and outer products, at the full speed
of BLAS; what is left per decoder is one Cholesky factorisation.
"""

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv

from harness.solvers.cholesky import EPS, Array
from harness.solvers.newton import ARMIJO, ROUNDING, SHORTEST
from harness.solvers.spaces import ACCURACY, ERROR_FACTOR
from harness.solvers.training_units import TrainingUnits

GRADIENT_TOL = 1e-10
"""Norm of the gradient, relative to the coefficients, at which a decoder ends."""

SYSTEM_BYTES = 2**20
"""Newton systems that are computed at a time: they should stay in the cache until they are solved."""


class BatchedLosses(Protocol):
    """The losses of several decoders, as `harness.solvers.losses` has them, with a row per decoder."""

    C: Array

    def take(self, problems: NDArray[np.intp]) -> Self:
        """Return the losses of some of the decoders."""

    def slopes(self, y: Array, f: Array) -> tuple[Array, Array]:
        """Return s = -d loss / d f and the curvatures, both of the shape of f."""

    def value(self, y: Array, f: Array) -> Any:
        """Return the loss of every decoder, summed over samples."""


@dataclass(frozen=True)
class BatchedResult:
    """The ends of the iterations.

    Attributes
    ----------
    W : ndarray of shape (n_problems, n_weights)
        w~ of every decoder.
    converged : ndarray of bool of shape (n_problems,)
        Whether w~ is within `ACCURACY` of the optimum, rounding included. If not, the problem is badly
        conditioned and should be solved with `harness.solvers.refinement`, as `solve_squared_hinge` does.
    """

    W: Array
    converged: NDArray[np.bool_]


class Systems(Protocol):
    """The Newton systems of decoders that share their samples.

    (I + X~^T diag(h) X~) d = -g
    """

    def solve(self, numbers: NDArray[np.intp], H: Array, G: Array, units: TrainingUnits | None) -> Array:
        """Return Newton's steps; the step of a system that rounding has made singular is 0.

        Parameters
        ----------
        numbers : ndarray of shape (n_problems,)
            Numbers of the decoders.
        H : ndarray of shape (n_problems, n_samples)
            Curvatures.
        G : ndarray of shape (n_problems, n_weights)
            Gradients.
        units : TrainingUnits or None
            Of these decoders.
        """


class SharedSystems:
    """Newton systems as weighted sums of the outer products of the samples, for many decoders.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_weights)
        X~.
    """

    def __init__(self, X: Array) -> None:
        n_samples, n_weights = X.shape
        # One row per entry of the lower triangle; rows of contiguous samples are the fastest to compute.
        self.products = np.empty((n_weights * (n_weights + 1) // 2, n_samples))
        columns = np.ascontiguousarray(X.T)
        # LAPACK reads one triangle; the other one repeats an entry.
        self.places = np.zeros((n_weights, n_weights), dtype=np.intp)
        start = 0
        for i in range(n_weights):
            part = slice(start, start + i + 1)
            np.multiply(columns[: i + 1], columns[i], out=self.products[part])
            self.places[i, : i + 1] = np.arange(part.start, part.stop)
            start = part.stop
        self.diagonal = self.places.diagonal().copy()
        self.size = max(1, SYSTEM_BYTES // (8 * n_weights**2))

    def solve(self, numbers: NDArray[np.intp], H: Array, G: Array, units: TrainingUnits | None) -> Array:
        """Return Newton's steps; see `Systems`."""
        D = np.zeros_like(G)
        for start in range(0, len(H), self.size):
            part = slice(start, start + self.size)
            packed = H[part] @ self.products.T
            if units is None:
                packed[:, self.diagonal] += 1.0
                matrices = packed.take(self.places, axis=1)
            else:
                rows = np.arange(*part.indices(len(H)))
                matrices = units.take(rows).convert_products(packed.take(self.places, axis=1))
                np.einsum("bii->bi", matrices)[...] += 1.0
            for d, A, g in zip(D[part], matrices, G[part], strict=True):
                _solve_into(d, A, g)
        return D


class UpdatedSystems:
    """Newton systems of squared hinges, each updated from the one before, for few decoders.

    From one active set to the next few samples enter and leave: their rows are added to and taken from the
    product X~_A^T X~_A.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_weights)
        X~.
    products : ndarray of shape (n_problems, n_weights, n_weights)
        X~_A^T X~_A for the active sets of the start, in the units of the decoders.
    active : ndarray of shape (n_problems, n_samples), bool
    """

    def __init__(self, X: Array, products: Array, active: NDArray[np.bool_]) -> None:
        self.X, self.products, self.active = X, products, active

    @classmethod
    def of_all_samples(cls, X: Array, n_problems: int) -> Self:
        """Return the systems of decoders whose active sets are all samples."""
        products = np.repeat((X.T @ X)[np.newaxis], n_problems, axis=0)
        return cls(X, products, np.ones((n_problems, len(X)), dtype=bool))

    def take(self, places: NDArray[np.intp], units: TrainingUnits | None) -> "UpdatedSystems":
        """Return copies of the systems at these places, which may repeat, in other units."""
        products = self.products[places]
        if units is not None:
            products = units.convert_products(products)
        return UpdatedSystems(self.X, products, self.active[places])

    def solve(self, numbers: NDArray[np.intp], H: Array, G: Array, units: TrainingUnits | None) -> Array:
        """Return Newton's steps; see `Systems`."""
        D = np.zeros_like(G)
        new = H > 0
        changed = new != self.active[numbers]
        few = changed.sum(axis=1) < new.sum(axis=1)
        two_C = H.max(axis=1)
        for row, number in enumerate(numbers.tolist()):
            rows = np.flatnonzero(changed[row] if few[row] else new[row])
            X_rows = self.X[rows] if units is None else units.standardise(self.X[rows], row)
            if few[row]:
                signed = X_rows * np.where(new[row, rows], 1.0, -1.0)[:, np.newaxis]
                self.products[number] += signed.T @ X_rows
            else:
                self.products[number] = X_rows.T @ X_rows
            A = two_C[row] * self.products[number]
            A.flat[:: len(A) + 1] += 1.0
            _solve_into(D[row], A, G[row])
        self.active[numbers] = new
        return D


def _solve_into(d: Array, A: Array, g: Array) -> None:
    # The lower triangle of A, in the order that LAPACK wants: no copy.
    _, x, info = dposv(A.T, g, lower=0, overwrite_a=1)
    if info == 0:
        np.negative(x, out=d)


def minimise_batch(
    X: Array,
    losses: BatchedLosses,
    Y: Array,
    W: Array,
    systems: Systems,
    *,
    tol: float,
    max_iter: int,
    units: TrainingUnits | None = None,
) -> BatchedResult:
    """Minimise the penalised losses of decoders that share their samples.

    J_b(w~) = 1/2 ||w~||^2 + sum_i loss_b(y_bi f_i),    f = X~ w~

    Newton's method, every step halved until it decreases J_b enough or halves the gradient, as in
    `harness.solvers.newton.minimise`. Decoders advance together and leave as they end. J_b is strongly convex
    with modulus 1: the distance to the optimum is at most the norm of the gradient, which is what ends most
    of them. No decoder is affected by the others but for the rounding of BLAS.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_weights)
        X~, the samples with a column of ones appended.
    losses : BatchedLosses
        Their C, (n_problems, n_samples), is 0 for samples that a decoder is not trained on.
    Y : ndarray of shape (n_problems, n_samples)
        Labels of -1 and +1.
    W : ndarray of shape (n_problems, n_weights)
        Start of the iterations.
    systems : Systems
        Of X.
    tol : float
        A decoder ends, too, when Newton's step is shorter than tol ||w~||.
    max_iter : int
        Steps after which a decoder ends without having converged.
    units : TrainingUnits, optional
        With them X~ in the above is X~' of every decoder, and so are `W` and the result.
    """
    iteration = _Iteration(X, losses, Y, W, systems, tol, units)
    while iteration.drop_ended(max_iter):
        iteration.step()
    return iteration.result


class _Iteration:
    """The decoders that have not ended; every array has a row per decoder, `numbers` are their numbers."""

    ROWS = ("numbers", "Y", "W", "F", "S", "H", "G", "norm", "smallest", "ended", "is_short")

    def __init__(
        self,
        X: Array,
        losses: BatchedLosses,
        Y: Array,
        W: Array,
        systems: Systems,
        tol: float,
        units: TrainingUnits | None,
    ) -> None:
        self.X, self.losses, self.systems, self.tol, self.units = X, losses, systems, tol, units
        self.squares = np.einsum("ij,ij->i", X, X)[np.newaxis] if units is None else units.square_lengths(X)
        n_problems = len(Y)
        self.result = BatchedResult(np.empty_like(W), np.zeros(n_problems, dtype=bool))
        self.numbers, self.Y, self.W = np.arange(n_problems), Y, W
        self.F, self.S, self.H, self.G, self.norm = self._evaluate(losses, Y, W, units)
        self.smallest = np.full(n_problems, np.inf)
        # Ended: rounding hides every decrease. Short: the last step was within the tolerance.
        self.ended, self.is_short = np.zeros(n_problems, dtype=bool), np.zeros(n_problems, dtype=bool)
        self.n_steps = 0

    def _evaluate(
        self, losses: BatchedLosses, Y: Array, W: Array, units: TrainingUnits | None
    ) -> tuple[Array, Array, Array, Array, Array]:
        """Return decision values, slopes, curvatures, gradients and their norms."""
        F = (W if units is None else units.weigh_samples(W)) @ self.X.T
        S, H = losses.slopes(Y, F)
        sums = S @ self.X
        G = W - (sums if units is None else units.convert_sums(sums))
        return F, S, H, G, np.sqrt(np.vecdot(G, G))

    def drop_ended(self, max_iter: int) -> bool:
        """Store the decoders that end here and drop them; return whether any is left."""
        scale = np.maximum(np.sqrt(np.vecdot(self.W, self.W)), 1.0 / np.sqrt(self.squares.max(axis=1)))
        ends = self.ended | self.is_short | (self.norm <= GRADIENT_TOL * scale)
        if self.n_steps >= max_iter:
            ends[:] = True
        if not ends.any():
            return True
        at = self.numbers[ends]
        self.result.W[at] = self.W[ends]
        self.result.converged[at] = self._are_accurate(ends, scale[ends])
        kept = np.flatnonzero(~ends)
        self.losses = self.losses.take(kept)
        if self.units is not None:
            self.units, self.squares = self.units.take(kept), self.squares[kept]
        for name in self.ROWS:
            setattr(self, name, getattr(self, name)[kept])
        return len(kept) > 0

    def _are_accurate(self, ends: NDArray[np.bool_], scale: Array) -> NDArray[np.bool_]:
        """Return whether rounding, and what is left to the optimum, are small; see `PrimalSpace.rounding`."""
        squares = self.squares if self.units is None else self.squares[ends]
        sums = np.sqrt(np.vecdot(self.S[ends] ** 2, squares))
        decisions = np.sqrt(np.vecdot(self.H[ends], squares)) / 2 * scale
        rounding = ERROR_FACTOR * EPS * (sums + decisions)
        left = np.where(self.is_short[ends], 0.0, self.norm[ends])
        return (rounding <= ACCURACY * scale) & (left <= ACCURACY * scale)

    def step(self) -> None:
        """Take Newton's step, or the part of it that decreases J enough, with every decoder."""
        D = self.systems.solve(self.numbers, self.H, self.G, self.units)
        length, size = np.sqrt(np.vecdot(D, D)), np.sqrt(np.vecdot(self.W, self.W))
        W = self.W + D
        F, S, H, G, norm = self._evaluate(self.losses, self.Y, W, self.units)
        self.smallest = np.minimum(self.smallest, self.norm)
        self.is_short = (length <= self.tol * size) & (length > 0)
        self.ended = np.zeros(len(W), dtype=bool)
        doubtful = np.flatnonzero((norm > self.smallest / 2) & ~self.is_short)
        if len(doubtful):
            share = self._shorten(doubtful, D[doubtful], F[doubtful])
            changed = doubtful[share < 1.0]
            self.ended[doubtful[share == 0.0]] = True
            W[changed] = self.W[changed] + share[share < 1.0, np.newaxis] * D[changed]
            units = None if self.units is None else self.units.take(changed)
            again = self._evaluate(self.losses.take(changed), self.Y[changed], W[changed], units)
            F[changed], S[changed], H[changed], G[changed], norm[changed] = again
        self.W, self.F, self.S, self.H, self.G, self.norm = W, F, S, H, G, norm
        self.n_steps += 1

    def _shorten(self, at: NDArray[np.intp], D: Array, F_end: Array) -> Array:
        """Return the largest share 1, 1/2, 1/4 ... of each step that decreases J enough, 0 if none does."""
        losses, Y, W, F = self.losses.take(at), self.Y[at], self.W[at], self.F[at]
        F_D = F_end - F
        w_w, w_d, d_d = np.vecdot(W, W), np.vecdot(W, D), np.vecdot(D, D)
        J, slope = w_w / 2 + losses.value(Y, F), np.vecdot(self.G[at], D)
        chosen, share = np.zeros(len(at)), 1.0
        while share >= SHORTEST and not chosen.all():
            J_new = (w_w + 2 * share * w_d + share**2 * d_d) / 2 + losses.value(Y, F + share * F_D)
            enough = J_new <= J + ARMIJO * share * slope + ROUNDING * EPS * J
            chosen[(chosen == 0) & enough & (slope < 0)] = share
            share /= 2
        return chosen
