"""The training sets of a solver, in the space that they are solved in, and the decoders found so far."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning

from harness.solvers.cholesky import Array
from harness.solvers.decoders import SolvedDecoders, choose_space
from harness.solvers.lockstep import NewtonResults
from harness.solvers.newton import Loss, NewtonResult
from harness.solvers.refinement import RefinedDecoder, Refiner
from harness.solvers.spaces import (
    ACCURACY,
    DualSpace,
    PrimalSpace,
    ReducedDualSpace,
    append_ones,
    compute_gram,
    is_well_conditioned,
)
from harness.solvers.validation import check_gram, check_labels, check_matrix, check_train_sets

TOL = 1e-11
"""Length of Newton's step, relative to the coefficients, at which the iterations stop."""

MAX_ITER = 200


@dataclass(frozen=True)
class TrainingSetGroup:
    """Training sets that share a space.

    Attributes
    ----------
    samples : ndarray of int
        The samples that are the space's rows.
    sets : ndarray of int
        Numbers of the training sets.
    rows : list of ndarray of int
        The rows of the space that each of them is trained on.
    """

    space: DualSpace | ReducedDualSpace | PrimalSpace
    samples: NDArray[np.intp]
    sets: NDArray[np.intp]
    rows: list[NDArray[np.intp]]


class TrainingSets:
    """All training sets and label vectors of one call, and their decoders.

    Parameters
    ----------
    space : {"dual", "primal"}
    A : ndarray of shape (n_samples, n_samples) or (n_samples, n_voxels)
        Gram matrix, or samples.
    Y : ndarray of shape (n_samples,) or (n_samples, n_labels)
    train_sets : sequence of ndarray of int or bool
    n_Cs : int
        Decoders per training set and label vector.
    loss : callable
        (C, n_samples) -> the loss of one training set.
    refiner : Refiner, optional
        Solves decoders again that rounding keeps from their optimum. It needs the samples.
    keeps_space : bool
        Whether the decoders must be returned in this space. If not, all of them are returned in primal space
        when one was solved again: its digits are kept there.
    """

    def __init__(
        self,
        space: Literal["dual", "primal"],
        A: ArrayLike,
        Y: ArrayLike,
        train_sets: Sequence[ArrayLike],
        n_Cs: int,
        loss: Callable[[float, int], Loss],
        refiner: Refiner | None = None,
        keeps_space: bool = True,
    ) -> None:
        self.loss, self.refiner, self.keeps_space = loss, refiner, keeps_space
        # The column of ones in X~ adds 1 to every inner product.
        self.A_tilde = check_gram(A) + 1.0 if space == "dual" else append_ones(check_matrix(A, "X"))
        n_samples = len(self.A_tilde)
        self.Y = check_labels(Y, n_samples)
        self.sets = check_train_sets(train_sets, self.Y)
        n_weights = self.A_tilde.shape[1] - (space == "primal")
        shape = (len(self.sets), n_Cs, self.Y.shape[1])
        self.refined: dict[tuple[int, int, int], tuple[RefinedDecoder, NDArray[np.intp]]] = {}
        self.decoders = SolvedDecoders(
            space,
            weights=np.empty((*shape, n_weights)),
            intercepts=np.empty(shape),
            decisions=np.empty((*shape, n_samples)),
            gradients=np.empty(shape),
            steps=np.empty(shape),
            n_iter=np.empty(shape, dtype=np.intp),
            converged=np.empty(shape, dtype=bool),
        )

    @classmethod
    def of_samples(
        cls,
        X: ArrayLike,
        Y: ArrayLike,
        train_sets: Sequence[ArrayLike],
        n_Cs: int,
        loss: Callable[[float, int], Loss],
        space: Literal["auto", "dual", "primal"],
        max_iter: int,
    ) -> Self:
        """Return the training sets in the space that `choose_space` returns."""
        X = np.asarray(X, dtype=np.float64)
        chosen = choose_space(space, X.shape[1], train_sets)
        A = compute_gram(X) if chosen == "dual" else X
        return cls(chosen, A, Y, train_sets, n_Cs, loss, Refiner(X, max_iter), space != "auto")

    def group(self) -> Iterator[TrainingSetGroup]:
        """Yield the training sets, those together that can share a space.

        `DualSpace` serves all of them but those whose own Gram matrix is nearly singular.
        """
        numbers = np.arange(len(self.sets))
        sound = self._have_good_condition()
        if sound.any():
            space = (DualSpace if self.decoders.space == "dual" else PrimalSpace)(self.A_tilde)
            rows = [self.sets[i] for i in numbers[sound]]
            yield TrainingSetGroup(space, np.arange(len(self.A_tilde)), numbers[sound], rows)
        for i in numbers[~sound]:
            yield self._group_one(i, ReducedDualSpace(self._gram(self.sets[i])))

    def separate(self) -> Iterator[TrainingSetGroup]:
        """Yield every training set in a space of its own."""
        for i, sound in enumerate(self._have_good_condition()):
            if self.decoders.space == "primal":
                yield self._group_one(i, PrimalSpace(self.A_tilde[self.sets[i]]))
            else:
                yield self._group_one(i, (DualSpace if sound else ReducedDualSpace)(self._gram(self.sets[i])))

    def _have_good_condition(self) -> NDArray[np.bool_]:
        """Return whether primal space, or a `DualSpace`, is accurate enough for each training set."""
        # No part of a well-conditioned Gram matrix has a worse condition than the whole.
        if self.decoders.space == "primal" or is_well_conditioned(self.A_tilde):
            return np.ones(len(self.sets), dtype=bool)
        return np.array([is_well_conditioned(self._gram(train)) for train in self.sets], dtype=bool)

    def _group_one(self, i: int, space: DualSpace | PrimalSpace) -> TrainingSetGroup:
        train = self.sets[i]
        return TrainingSetGroup(space, train, np.array([i]), [np.arange(len(train))])

    def _gram(self, train: NDArray[np.intp]) -> Array:
        return self.A_tilde[train].take(train, axis=1)

    def store(
        self,
        group: TrainingSetGroup,
        index: tuple[int | NDArray[np.intp], int, int],
        weights: tuple[Array, Array],
        result: NewtonResult | NewtonResults,
        C: ArrayLike,
        tol: float,
    ) -> None:
        """Store decoders, and refine those whose rounding error exceeds the tolerance.

        Parameters
        ----------
        index : tuple of int
            Number of the training set (or several), of C, and of the label vector.
        weights : tuple of ndarray
            Weights and negative slopes of the loss (`NewtonResult.v`, `NewtonResult.s`).
        C : float or ndarray of shape (n_problems,)
        """
        decoders = self.decoders
        exported = self.export(group, *weights)
        decoders.weights[index], decoders.intercepts[index], decoders.decisions[index] = exported
        decoders.gradients[index], decoders.steps[index] = result.gradient, result.step
        decoders.n_iter[index], decoders.converged[index] = result.n_iter, result.converged
        if self.refiner is None:
            return
        i, k, j = index
        sets = np.atleast_1d(i)
        Cs = np.broadcast_to(C, len(sets))
        for b in np.flatnonzero(self.refiner.needs(result)).tolist():
            self._refine((int(sets[b]), k, j), float(Cs[b]), tol)

    def export(self, group: TrainingSetGroup, v: Array, s: Array) -> tuple[Array, Array, Array]:
        """Return weights, intercepts and decision values, as `LinearDecoders` has them."""
        if isinstance(group.space, DualSpace | ReducedDualSpace):
            duals = group.space.duals(v, s)
            weights = np.zeros((*duals.shape[:-1], len(self.A_tilde)))
            weights[..., group.samples] = duals
            return weights, duals.sum(axis=-1), weights @ self.A_tilde.T
        return v[..., :-1], v[..., -1], v @ self.A_tilde.T

    def start_refinement(self, weights: Array, intercept: Array) -> Array:
        """Return w~ of one decoder, from its weights in either space."""
        assert self.refiner is not None
        if self.decoders.space == "dual":
            return weights @ self.refiner.X_tilde
        return np.append(weights, intercept)

    def _refine(self, index: tuple[int, int, int], C: float, tol: float) -> None:
        assert self.refiner is not None
        decoders, train = self.decoders, self.sets[index[0]]
        start = self.start_refinement(decoders.weights[index], decoders.intercepts[index])
        loss = self.loss(C, len(train))
        refined = self.refiner.refine(loss, self.Y[train, index[2]], train, start, tol)
        self.refined[index] = refined, train
        result = refined.result
        decoders.decisions[index], decoders.intercepts[index] = refined.decisions, refined.w[-1]
        decoders.gradients[index], decoders.steps[index] = result.gradient, result.step
        decoders.n_iter[index] += result.n_iter
        decoders.converged[index] = result.converged

    def finish(self) -> SolvedDecoders:
        """Return the decoders, with a ConvergenceWarning if some did not converge."""
        if self.refined:
            self._store_refined()
        if not self.decoders.converged.all():
            warn_unconverged(self.decoders.steps, self.decoders.converged)
        return self.decoders

    def _store_refined(self) -> None:
        assert self.refiner is not None
        if self.decoders.space == "dual" and self.keeps_space:
            for index, (refined, train) in self.refined.items():
                duals, error = self.refiner.duals(refined, train)
                size = float(np.linalg.norm(refined.w))
                scale = max(size, 1.0 / float(np.linalg.norm(self.refiner.X_tilde[train], axis=1).max()))
                self.decoders.weights[index][train] = duals
                self.decoders.steps[index] += error / size if size else 0.0
                self.decoders.converged[index] &= error <= ACCURACY * scale
            return
        weights = self.decoders.coef(self.refiner.X)
        for index, (refined, _) in self.refined.items():
            weights[index] = refined.w[:-1]
        self.decoders = replace(self.decoders, space="primal", weights=weights)


def warn_unconverged(steps: Array, converged: NDArray[np.bool_]) -> None:
    """Issue a ConvergenceWarning with the number of decoders, and the worst of them.

    Parameters
    ----------
    steps : ndarray of shape (n_sets, n_Cs, n_labels)
        Bound of the relative error of the coefficients.
    converged : ndarray of bool of shape (n_sets, n_Cs, n_labels)
    """
    i, k, j = np.unravel_index(np.argmax(np.where(converged, -np.inf, steps)), steps.shape)
    error = f"may be {steps[i, k, j]:.1e} (relative) from the optimum"
    if not steps[i, k, j] < 1:
        error = "are not known to a single digit"
    warnings.warn(
        f"{(~converged).sum()} of {converged.size} decoders did not converge; in the worst one (training set "
        f"{i}, value of C number {k}, label vector {j}) the coefficients {error}. Standardise the voxels, "
        "choose a smaller C, or raise max_iter if it is below its default.",
        ConvergenceWarning,
        stacklevel=5,
    )
