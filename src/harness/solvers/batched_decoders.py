"""Support vector machines and logistic decoders of all folds and label vectors of few voxels, found together.

Meant for searchlights, which train thousands of decoders with some 40 unknowns each. The optima are those of
`harness.solvers.squared_hinge` and `harness.solvers.logistic`, to the same accuracy.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from harness.solvers.batched_newton import (
    BatchedLosses,
    SharedSystems,
    Systems,
    UpdatedSystems,
    minimise_batch,
)
from harness.solvers.cholesky import Array
from harness.solvers.logistic import solve_logistic, solve_logistic_cv
from harness.solvers.losses import LogisticLoss, SquaredHingeLosses
from harness.solvers.spaces import append_ones
from harness.solvers.squared_hinge import solve_squared_hinge
from harness.solvers.threads import one_blas_thread
from harness.solvers.training import MAX_ITER, TOL
from harness.solvers.training_units import TrainingUnits

Index = NDArray[np.intp]
Flags = NDArray[np.bool_]

LOSSES: dict[str, Callable[[Array], BatchedLosses]] = {
    "squared_hinge": SquaredHingeLosses,
    "logistic": LogisticLoss,
}
SOLVERS = {"squared_hinge": solve_squared_hinge, "logistic": solve_logistic}

SHARED_FROM = 48
"""Support vector machines from which the outer products of the samples are computed, once for all of them."""

SHARED_UP_TO = 64
"""Weights up to which outer products pay: those of more samples and weights do not fit into the cache."""

WARM_START_FROM = 4
"""Folds from which the decoder of all samples is found first, for all of them to start from."""

CHUNK_SIZE = 256
"""Decoders that advance together, about."""


@dataclass(frozen=True)
class DecoderNumbers:
    """Which decoders are trained: one per entry.

    Attributes
    ----------
    folds : ndarray of shape (n_decoders,), int
        Training sets.
    labels : ndarray of shape (n_decoders,), int
        Label vectors.
    """

    folds: Index
    labels: Index

    def __len__(self) -> int:
        return len(self.folds)

    def take(self, rows: Index) -> "DecoderNumbers":
        """Return some of them."""
        return DecoderNumbers(self.folds[rows], self.labels[rows])


def group_by_labels(
    numbers: DecoderNumbers, Y: Array, train: Flags
) -> Iterator[tuple[Index, Array, list[Index]]]:
    """Yield folds with the same label vectors: one call of a solver for them shares the Gram matrix.

    Yields
    ------
    at : ndarray of shape (n_sets, n_vectors), int
        Places in `numbers`.
    labels : ndarray of shape (n_samples, n_vectors)
    sets : list of ndarray of int
        The training sets of the folds.
    """
    groups: dict[bytes, list[Index]] = {}
    for fold in np.unique(numbers.folds):
        at = np.flatnonzero(numbers.folds == fold)
        at = at[np.argsort(numbers.labels[at], kind="stable")]
        groups.setdefault(numbers.labels[at].tobytes(), []).append(at)
    for places in groups.values():
        at = np.array(places)
        sets = [np.flatnonzero(train[fold]) for fold in numbers.folds[at[:, 0]]]
        yield at, Y[numbers.labels[at[0]]].T, sets


class FoldClassifier(Protocol):
    """Trains decoders of several training sets and label vectors on the voxels of one sphere."""

    def fit(self, X: Array, Y: Array, train: Flags, numbers: DecoderNumbers) -> tuple[Array, int]:
        """Return weights, and how many decoders did not converge; see `BatchedClassifier.fit`."""
        ...


class LogisticCVClassifier:
    """Logistic decoders whose C is chosen inside every training set; see `solve_logistic_cv`.

    The inner decoders of all folds advance together there already, and from one C to the next: about 60 ms
    per label vector for 43 voxels, 12 folds of 216 samples, five inner folds and eight values of C.
    """

    def __init__(self, Cs: Array, *, n_folds: int, tol: float = TOL, max_iter: int = MAX_ITER) -> None:
        self.Cs, self.n_folds, self.tol, self.max_iter = Cs, n_folds, tol, max_iter

    def fit(self, X: Array, Y: Array, train: Flags, numbers: DecoderNumbers) -> tuple[Array, int]:
        """Train decoders on parts of the same samples; see `BatchedClassifier.fit`.

        Raises
        ------
        ValueError
            If the training part of an inner fold holds a single class.
        """
        W = np.empty((len(numbers), X.shape[1] + 1))
        unconverged = 0
        for at, labels, sets in group_by_labels(numbers, Y, train):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # they are counted
                solved = solve_logistic_cv(
                    X, labels, sets, self.Cs, n_folds=self.n_folds, tol=self.tol, max_iter=self.max_iter
                ).decoders
            W[at, :-1], W[at, -1] = solved.coef(X)[:, 0], solved.intercepts[:, 0]
            unconverged += int((~solved.converged).sum())
        return W, unconverged


class BatchedClassifier:
    """Trains one kind of decoder on the voxels of one sphere after the other.

    Parameters
    ----------
    loss : {"squared_hinge", "logistic"}
    C : float
        Weight of the loss against the penalty.
    tol : float
        Length of Newton's step, relative to the coefficients, at which to stop.
    max_iter : int
        Newton steps after which a decoder counts as not converged.
    """

    def __init__(
        self,
        loss: Literal["squared_hinge", "logistic"],
        C: float,
        *,
        tol: float = TOL,
        max_iter: int = MAX_ITER,
    ) -> None:
        self.loss, self.C, self.tol, self.max_iter = loss, C, tol, max_iter

    def fit(
        self,
        X: Array,
        Y: Array,
        train: Flags,
        numbers: DecoderNumbers,
        units: TrainingUnits | None = None,
    ) -> tuple[Array, int]:
        """Train decoders on parts of the same samples.

        min_w,b  1/2 ||w||^2 + 1/2 b^2 + C sum_i loss(y_i (w^T x_i + b))

        Measured per sphere of 43 voxels and 12 folds of 216 samples, against `solve_squared_hinge`: 2 to 4 ms
        for one label vector against 5 to 10, and 1.5 ms per label vector for 40 of them; logistic 3.6 and
        1.8 ms against 4 to 5. With more voxels than training samples, and for logistic decoders of more than
        63 voxels, these solvers are the faster ones and are called.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_voxels)
        Y : ndarray of shape (n_labels, n_samples)
            Label vectors of -1 and +1; on the training sets of its decoders each holds both.
        train : ndarray of shape (n_folds, n_samples), bool
            The samples of every training set.
        units : TrainingUnits, optional
            In which the samples of every training set are taken, a row per fold.

        Returns
        -------
        W : ndarray of shape (n_decoders, n_voxels + 1)
            Weights, the intercept last; in these units.
        unconverged : int
            Decoders that may be more than 1e-8 (relative) from their optimum.
        """
        X_tilde = append_ones(X)
        n_weights = X_tilde.shape[1]
        W = np.empty((len(numbers), n_weights))
        again = np.arange(len(numbers))
        largest = SHARED_UP_TO if self.loss == "logistic" else train.sum(axis=1).mean()
        if n_weights <= largest:
            with one_blas_thread():
                again = np.flatnonzero(~self._fit_batched(X_tilde, Y, train, numbers, units, W))
        if units is None:
            return W, self._solve_singly(X, Y, train, numbers.take(again), W, again)
        unconverged = 0
        for fold in np.unique(numbers.folds[again]):
            rows = again[numbers.folds[again] == fold]
            X_fold = units.standardise(X, fold)
            unconverged += self._solve_singly(X_fold, Y, train, numbers.take(rows), W, rows)
        return W, unconverged

    def _fit_batched(
        self,
        X: Array,
        Y: Array,
        train: Flags,
        numbers: DecoderNumbers,
        units: TrainingUnits | None,
        W: Array,
    ) -> NDArray[np.bool_]:
        """Store w~ of every decoder in W; return whether it converged."""
        converged = np.empty(len(numbers), dtype=bool)
        n_weights = X.shape[1]
        shares = self.loss == "logistic" or (len(numbers) >= SHARED_FROM and n_weights <= SHARED_UP_TO)
        shared = SharedSystems(X) if shares else None
        # A label vector's decoders stay together, to start from the same point.
        order = np.argsort(numbers.labels, kind="stable")
        ordered = numbers.labels[order]
        start = 0
        while start < len(order):
            end = min(start + CHUNK_SIZE, len(order))
            end = int(np.searchsorted(ordered, ordered[end - 1], side="right"))
            rows = order[start:end]
            some = numbers.take(rows)
            own = None if units is None else units.take(some.folds)
            W[rows], converged[rows] = self._fit_chunk(X, Y, train, some, own, shared)
            start = end
        return converged

    def _fit_chunk(
        self,
        X: Array,
        Y: Array,
        train: Flags,
        numbers: DecoderNumbers,
        units: TrainingUnits | None,
        shared: SharedSystems | None,
    ) -> tuple[Array, NDArray[np.bool_]]:
        make_losses = LOSSES[self.loss]
        labels, place = np.unique(numbers.labels, return_inverse=True)
        systems: Systems = shared or UpdatedSystems.of_all_samples(X, len(labels))
        W = np.zeros((len(labels), X.shape[1]))
        if len(train) >= WARM_START_FROM:
            C = np.where(train.any(axis=0), self.C, 0.0)
            losses = make_losses(np.tile(C, (len(labels), 1)))
            # Only a start: the accuracy of the optimum is that of the folds.
            W = minimise_batch(X, losses, Y[labels], W, systems, tol=self.tol, max_iter=self.max_iter).W
        if isinstance(systems, UpdatedSystems):
            systems = systems.take(place, units)
        losses = make_losses(np.where(train[numbers.folds], self.C, 0.0))
        result = minimise_batch(
            X, losses, Y[numbers.labels], W[place], systems, tol=self.tol, max_iter=self.max_iter, units=units
        )
        return result.W, result.converged

    def _solve_singly(
        self, X: Array, Y: Array, train: Flags, numbers: DecoderNumbers, W: Array, rows: Index
    ) -> int:
        """Store w~ of decoders whose problem is large or badly conditioned; return how many fail."""
        unconverged = 0
        for at, labels, sets in group_by_labels(numbers, Y, train):
            # An inversion per fold pays for three label vectors and more.
            shares = {"shares_inverse": labels.shape[1] > 2} if self.loss == "squared_hinge" else {}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # they are counted
                solved = SOLVERS[self.loss](
                    X, labels, sets, [self.C], tol=self.tol, max_iter=self.max_iter, **shares
                )
            W[rows[at], :-1] = solved.coef(X)[:, 0]
            W[rows[at], -1] = solved.intercepts[:, 0]
            unconverged += int((~solved.converged).sum())
        return unconverged
