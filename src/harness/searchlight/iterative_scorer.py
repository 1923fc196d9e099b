"""Support vector machines and logistic decoders of spheres, under all labellings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from harness.errors import DesignError
from harness.samples.signal import find_moments
from harness.searchlight.fold_samples import FoldSamples
from harness.searchlight.fold_scores import FoldScorer, list_problems
from harness.searchlight.linear_scorer import BatchedScorer
from harness.searchlight.sphere_scores import SphereScores
from harness.solvers.batched_decoders import (
    BatchedClassifier,
    DecoderNumbers,
    FoldClassifier,
    LogisticCVClassifier,
)
from harness.solvers.estimators import ExactLinearSVC, ExactLogisticRegressionCV
from harness.solvers.training_units import find_training_units
from harness.solvers.validation import check_penalties

Array = NDArray[np.float64]
Index = NDArray[np.intp]

TOGETHER_UP_TO = 16
"""Label vectors up to which folds that are standardised by themselves are faster together than one by one."""


@dataclass(frozen=True, eq=False)
class IterativeScorer:
    """Scores spheres with decoders from an iteration; see `harness.searchlight.sphere_scores.SphereScorer`.

    Attributes
    ----------
    scorer : BatchedScorer
        With an `IterativeDecoder`.
    """

    scorer: BatchedScorer

    def score(self, numbers: Index) -> SphereScores:
        """Return the scores of the spheres of these numbers; no sphere's depend on the others'."""
        assert isinstance(self.scorer.decoder, IterativeDecoder)
        decoder = replace(self.scorer.decoder, failures=[])
        scores = replace(self.scorer, decoder=decoder).score(numbers)
        return replace(scores, unconverged=sum(decoder.failures))


@dataclass(frozen=True, eq=False)
class IterativeDecoder:
    """Decoders from an iteration; see `harness.searchlight.linear_scorer.BatchDecoder`.

    Spheres are decoded one after the other, all their folds and labellings together: a sphere has so many
    decoders that further spheres would make nothing faster. Where folds standardise their training samples,
    each fold is decoded by itself if there are many labellings or a voxel hardly varies in a training set.

    Attributes
    ----------
    plan : TrainingPlan
    failures : list of int
        Decoders that did not converge, of every sphere that was decoded.
    """

    samples: FoldSamples
    folds: Sequence[FoldScorer]
    classifier: FoldClassifier
    plan: "TrainingPlan"
    failures: list[int] = field(default_factory=list)

    def decide(self, columns: Index) -> Iterator[tuple[int, slice, Array]]:
        """Yield decision values; see `harness.searchlight.linear_scorer.BatchDecoder.decide`."""
        for number, one in enumerate(columns):
            for fold, W in enumerate(self._fit(one)):
                held_out = self.samples.held_out(fold, one)
                decisions = held_out @ W[:, :-1].T + W[:, -1]
                yield fold, slice(number, number + 1), decisions[:, np.newaxis]

    def _fit(self, columns: Index) -> Iterator[Array]:
        """Yield the weights of every fold, (n_distinct, n_voxels + 1)."""
        plan = self.plan
        X = np.ascontiguousarray(self.samples.take(columns).T)
        if self.samples.zscore is None:
            W, unconverged = self.classifier.fit(X, plan.Y, plan.train, plan.numbers)
        else:
            is_fast = isinstance(self.classifier, BatchedClassifier) and len(plan.Y) <= TOGETHER_UP_TO
            location, scale = find_moments(X)
            X = (X - location) / scale
            units = find_training_units(X, plan.train) if is_fast else None
            if units is None:
                yield from self._fit_singly(columns)
                return
            assert isinstance(self.classifier, BatchedClassifier)
            W, unconverged = self.classifier.fit(X, plan.Y, plan.train, plan.numbers, units)
        self.failures.append(unconverged)
        for signs, rows in zip(plan.signs, plan.rows, strict=True):
            yield signs[:, np.newaxis] * W[rows]

    def _fit_singly(self, columns: Index) -> Iterator[Array]:
        """Yield the weights of every fold, trained by itself."""
        for number, fold in enumerate(self.folds):
            X = np.ascontiguousarray(self.samples.training(number, columns))
            Y = np.where(fold.training.T, 1.0, -1.0)
            numbers = DecoderNumbers(np.zeros(len(Y), dtype=np.intp), np.arange(len(Y)))
            W, unconverged = self.classifier.fit(X, Y, np.ones((1, len(X)), dtype=bool), numbers)
            self.failures.append(unconverged)
            yield W


@dataclass(frozen=True, eq=False)
class TrainingPlan:
    """The decoders of all folds and labellings, those with equal or mirrored training labels once.

    Attributes
    ----------
    Y : ndarray of shape (n_labels, n_samples)
        Label vectors of -1 and +1.
    train : ndarray of shape (n_folds, n_samples), bool
    numbers : DecoderNumbers
    rows : tuple of slice
        The decoders of every fold, in the order of `FoldScorer.training`.
    signs : tuple of ndarray of shape (n_distinct,)
        -1 where `FoldScorer.training` has the mirrored labels.
    """

    Y: Array
    train: NDArray[np.bool_]
    numbers: DecoderNumbers
    rows: tuple[slice, ...]
    signs: tuple[Array, ...]


def plan_training(
    codes: Index, n_classes: int, samples: FoldSamples, folds: Sequence[FoldScorer]
) -> TrainingPlan:
    """Return the decoders that all folds and labellings need.

    Parameters
    ----------
    codes : ndarray of shape (n_labellings, n_samples), int
        Class of every sample.
    folds : sequence of FoldScorer
        One per fold of the samples, for these labellings.
    """
    labels = list_problems(codes, n_classes).T
    train = np.zeros((len(folds), codes.shape[1]), dtype=bool)
    used: list[Index] = []
    fold_of, rows, signs = [], [], []
    for number, (fold, (rows_of_fold, _)) in enumerate(zip(folds, samples.folds, strict=True)):
        train[number, rows_of_fold] = True
        _, first = np.unique(fold.place, return_index=True)
        start = sum(len(each) for each in used)
        rows.append(slice(start, start + len(first)))
        signs.append(np.where(fold.opposite[first], -1.0, 1.0))
        used.append(first)
        fold_of.append(np.full(len(first), number))
    vectors, place = np.unique(np.concatenate(used), return_inverse=True)
    return TrainingPlan(
        Y=np.where(labels[vectors], 1.0, -1.0),
        train=train,
        numbers=DecoderNumbers(np.concatenate(fold_of), place),
        rows=tuple(rows),
        signs=tuple(signs),
    )


def make_classifier(model: ExactLinearSVC | ExactLogisticRegressionCV) -> FoldClassifier:
    """Return what trains the decoders of a model."""
    if isinstance(model, ExactLinearSVC):
        return BatchedClassifier("squared_hinge", model.C, tol=model.tol, max_iter=model.max_iter)
    Cs = check_penalties(model.Cs, "C")
    if len(Cs) == 1:
        return BatchedClassifier("logistic", float(Cs[0]), tol=model.tol, max_iter=model.max_iter)
    return LogisticCVClassifier(Cs, n_folds=model.cv, tol=model.tol, max_iter=model.max_iter)


def check_inner_folds(folds: Sequence[FoldScorer], classifier: FoldClassifier) -> None:
    """Raise a DesignError if a class has fewer training samples than there are inner folds."""
    if not isinstance(classifier, LogisticCVClassifier):
        return
    for number, fold in enumerate(folds, start=1):
        n_positive = fold.training.sum(axis=0)
        fewest = int(np.minimum(n_positive, len(fold.training) - n_positive).min())
        if fewest < classifier.n_folds:
            raise DesignError(
                f"a class has {fewest} training volumes in fold {number}, fewer than the "
                f"{classifier.n_folds} inner folds that choose C; set estimator.Cs=[1.0], or "
                f"estimator.cv={max(2, fewest)}, or choose another cv"
            )
