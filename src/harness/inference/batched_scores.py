"""Scores under many relabellings at once, for solvers that take many label vectors.

Training sets that do not depend on the labels are factorised once for a whole batch of relabellings. Every
score equals that of `harness.decoding.evaluation.evaluate` up to rounding of the decision values.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import (
    BaseCrossValidator,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    LeaveOneOut,
    LeavePGroupsOut,
    LeavePOut,
    PredefinedSplit,
)

from harness.decoding.choices import Engine, InnerFolds
from harness.decoding.decoder import MIN_VOXELS_FOR_SCREENING, Folds, TrainingMoments
from harness.decoding.evaluation import split_inner
from harness.decoding.question import Question
from harness.decoding.splitters import HoldOutLast, split_samples
from harness.errors import UsageError
from harness.inference.score_arrays import find_last_best, score_class_arrays, score_decision_arrays
from harness.samples.samples import Samples
from harness.samples.signal import zscore
from harness.solvers.threads import one_blas_thread

BLIND_SPLITTERS = (
    *(HoldOutLast, LeaveOneGroupOut, LeavePGroupsOut, LeaveOneOut, LeavePOut),
    *(PredefinedSplit, KFold, GroupKFold),
)
"""Splitters whose folds do not depend on the labels; subclasses may."""

MEMORY = 2**27
"""Bytes that the decoders of one call of a solver may take."""

Array = NDArray[np.float64]


def is_blind(splitter: BaseCrossValidator) -> bool:
    """Return whether the folds of a splitter are the same whatever the labels, and at every call."""
    seeded = not getattr(splitter, "shuffle", False) or isinstance(splitter.random_state, int)
    return type(splitter) in BLIND_SPLITTERS and seeded


def can_batch(samples: Samples, question: Question) -> bool:
    """Return whether the scores of many relabellings can be solved together.

    With ``scoring.inner=stratified`` they cannot: the inner folds depend on the labels.
    """
    screens = samples.preparation.screening_percentile < 100 and samples.n_voxels > MIN_VOXELS_FOR_SCREENING
    return (
        question.estimator.is_solved_together
        and question.engine == Engine.harness
        and is_blind(question.scheme.splitter)
        and not screens
        and question.scoring.inner == InnerFolds.runs
    )


@dataclass(frozen=True)
class Use:
    """A training set, the samples that its decoders are scored on, and the decoder that they are part of.

    Attributes
    ----------
    train, test : ndarray of int
        Rows of `Task.Z`.
    owner : int
        Index of the outer fold whose decoder is the mean of several; 0 for the selected decoder.
    place : int
        Index of the fold.
    """

    train: NDArray[np.intp]
    test: NDArray[np.intp]
    owner: int
    place: int


@dataclass(frozen=True, eq=False)
class Task:
    """Training sets in the same units, which one call of a solver can train on.

    Attributes
    ----------
    Z : ndarray of shape (n_rows, n_voxels), float64
    rows : ndarray of shape (n_rows,), int
        The samples that the rows are.
    uses : list of Use
    """

    Z: Array
    rows: NDArray[np.intp]
    uses: list[Use]


@dataclass(frozen=True, eq=False)
class BatchedScores:
    """Computes scores under many relabellings at once; see `can_batch`."""

    samples: Samples
    question: Question

    @cached_property
    def classes(self) -> NDArray[np.str_]:
        """Classes in alphabetical order."""
        return np.unique(self.samples.y)

    @cached_property
    def folds(self) -> Folds:
        """The folds of the scheme."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the run itself has warned of folds that are skipped
            return list(split_samples(self.samples, self.question.scheme).folds.values())

    @cached_property
    def inner(self) -> list[Folds]:
        """The inner folds of every fold; indices into its training set."""
        samples, scoring = self.samples, self.question.scoring
        return [split_inner(samples.y[train], samples.runs[train], scoring, "") for train, _ in self.folds]

    @property
    def columns(self) -> list[str]:
        """Names of the scores."""
        scoring = self.question.scoring
        return [f"selected_{scoring.select}", *(f"test_{name}" for name in scoring.report)]

    @cached_property
    def _double(self) -> Array:
        return self.samples.X.astype(np.float64)

    def applies(self, codes: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return which labellings have the folds of the true one: the same classes in all parts of them.

        Parameters
        ----------
        codes : ndarray of shape (n_labellings, n_samples), int
            Index of the class of every sample, alphabetically.
        """
        true = np.searchsorted(self.classes, self.samples.y)
        same = np.ones(len(codes), dtype=bool)
        parts = [part for fold in self.folds for part in fold]
        runs = self.samples.runs
        parts += [train[runs[train] == run] for train, _ in self.folds for run in np.unique(runs[train])]
        for part in parts:
            for code in range(len(self.classes)):
                same &= (codes[:, part] == code).any(axis=1) == (true[part] == code).any()
        return same

    def score(self, codes: NDArray[np.intp]) -> tuple[Array, Array]:
        """Return the scores of labellings.

        Parameters
        ----------
        codes : ndarray of shape (n_labellings, n_samples), int
            See `applies`, which has to hold.

        Returns
        -------
        scores : ndarray of shape (n_labellings, n_columns)
            Means over folds, by `columns`.
        decisions : ndarray of shape (n_labellings, n_problems, n_samples)
            Decision values of the selected decoder, in the units and with the sign of
            `harness.decoding.decoder.FittedDecoder.decision_function`.
        """
        n_classes = len(self.classes)
        problems = np.arange(n_classes) if n_classes > 2 else np.array([1])
        # One column per labelling and problem.
        shape = (len(codes), len(problems))
        Y = np.where(codes[:, np.newaxis] == problems[:, np.newaxis], 1.0, -1.0)
        Y = np.ascontiguousarray(Y.reshape(-1, codes.shape[1]).T)
        with one_blas_thread():
            selected, decisions = self._solve(self._list_selected(), [self._selected_target()], Y)
            per_fold = selected.reshape(len(self.folds), *shape)
            scores = [_mean_defined(_mean_defined(per_fold, axis=2), axis=0)]
            targets = [self._nested_target(*fold) for fold in self.folds]
            _, tested = self._solve(self._list_nested(), targets, Y)
            scores += self._score_tested(codes, [values.reshape(*shape, -1) for values in tested])
        return np.stack(scores, axis=1), decisions[0].reshape(*shape, -1)

    def _score_tested(self, codes: NDArray[np.intp], tested: Sequence[Array]) -> list[Array]:
        """Return the mean over folds of every test score."""
        n_classes = len(self.classes)
        return [
            _mean_defined(
                np.stack(
                    [
                        score_class_arrays(scorer, codes[:, test], decisions, n_classes)
                        for (_, test), decisions in zip(self.folds, tested, strict=True)
                    ]
                ),
                axis=0,
            )
            for scorer in self.question.scoring.report
        ]

    def _solve(self, tasks: Iterator[Task], targets: Sequence[Array], Y: Array) -> tuple[Array, list[Array]]:
        """Choose decoders, and apply the mean of those of every owner to its target.

        Parameters
        ----------
        targets : sequence of ndarray of shape (n_rows, n_voxels)
            Samples to predict, by owner.
        Y : ndarray of shape (n_samples, n_columns)
            Labels of -1 and +1.

        Returns
        -------
        scores : ndarray of shape (n_uses, n_columns)
            Of the chosen decoders, on the samples that they were chosen on, by `Use.place`.
        decisions : list of ndarray of shape (n_columns, n_rows)
            By owner.
        """
        found: dict[int, Array] = {}
        sums = [np.zeros((Y.shape[1], len(target))) for target in targets]
        counts = np.zeros(len(targets))
        for task in tasks:
            owners = dict.fromkeys(use.owner for use in task.uses)
            products = {owner: task.Z @ targets[owner].T for owner in owners}
            for use in task.uses:
                counts[use.owner] += 1
                found[use.place] = np.empty(Y.shape[1])
            for columns in self._divide(task, Y.shape[1]):
                self._solve_task(task, Y, columns, targets, products, found, sums)
        scores = np.stack([found[place] for place in sorted(found)])
        return scores, [total / count for total, count in zip(sums, counts, strict=True)]

    def _divide(self, task: Task, n_columns: int) -> list[slice]:
        """Return the columns of every call, so that its decoders fit into `MEMORY`."""
        n_values = max((len(values) for values in self.question.estimator.grid.values()), default=1)
        n_sets = len({use.train.tobytes() for use in task.uses})
        bytes_per_column = 16 * n_sets * n_values * (len(task.rows) + min(task.Z.shape))
        size = max(1, MEMORY // bytes_per_column)
        return [slice(start, start + size) for start in range(0, n_columns, size)]

    def _solve_task(
        self,
        task: Task,
        Y: Array,
        columns: slice,
        targets: Sequence[Array],
        products: dict[int, Array],
        found: dict[int, Array],
        sums: list[Array],
    ) -> None:
        """Solve some columns of a task, and add them to the scores and the sums of decision values."""
        estimator, scorer = self.question.estimator, self.question.scoring.select
        labels = Y[task.rows, columns]
        sets = {use.train.tobytes(): use.train for use in task.uses}
        numbers = {key: number for number, key in enumerate(sets)}
        try:
            tried = estimator.model.solve_folds(task.Z, labels, list(sets.values()), estimator.grid).decoders
        except ValueError as error:
            raise UsageError(f"estimator={estimator.name} cannot be fitted: {error}") from error
        each = np.arange(labels.shape[1])
        for use in task.uses:
            number = numbers[use.train.tobytes()]
            positive = labels[use.test].T > 0
            scores = score_decision_arrays(scorer, positive, tried.decisions[number][:, :, use.test])
            best = find_last_best(scores)
            found[use.place][columns] = scores[best, each]
            weights = tried.weights[number, best, each]
            new = products[use.owner] if tried.space == "dual" else targets[use.owner].T
            sums[use.owner][columns] += weights @ new + tried.intercepts[number, best, each][:, np.newaxis]

    # In which units -----------------------------------------------------------------------------------------

    def _selected_target(self) -> Array:
        """Return all samples, as the selected decoder standardises them."""
        match self.samples.preparation.zscore:
            case "own":
                return _zscore(self.samples.X)
            case "train":
                return TrainingMoments.of(self.samples.X)(self.samples.X)
        return self._double

    def _nested_target(self, train: NDArray[np.intp], test: NDArray[np.intp]) -> Array:
        """Return the held-out samples of a fold, as its decoder standardises them."""
        X = self.samples.X
        match self.samples.preparation.zscore:
            case "own":
                return _zscore(X[test])
            case "train":
                return TrainingMoments.of(X[train])(X[test])
        return self._double[test]

    def _list_selected(self) -> Iterator[Task]:
        """Yield what the selected decoder needs."""
        uses = [Use(train, test, 0, place) for place, (train, test) in enumerate(self.folds)]
        if self.samples.preparation.zscore == "own":
            yield Task(_zscore(self.samples.X), np.arange(len(self._double)), uses)
        else:
            yield from self._list_shared(uses)

    def _list_nested(self) -> Iterator[Task]:
        """Yield what the decoders of the outer folds need."""
        places = iter(range(sum(len(folds) for folds in self.inner)))
        if self.samples.preparation.zscore == "own":
            # Every outer training set is standardised by itself.
            for owner, ((rows, _), inner) in enumerate(zip(self.folds, self.inner, strict=True)):
                uses = [Use(train, test, owner, next(places)) for train, test in inner]
                yield Task(_zscore(self.samples.X[rows]), rows, uses)
            return
        yield from self._list_shared(
            [
                Use(rows[train], rows[test], owner, next(places))
                for owner, ((rows, _), inner) in enumerate(zip(self.folds, self.inner, strict=True))
                for train, test in inner
            ]
        )

    def _list_shared(self, uses: list[Use]) -> Iterator[Task]:
        """Yield tasks of all samples: one, or where training sets standardise, one per training set.

        The training set without scanner runs i and j serves the outer fold of i and that of j.
        """
        everything = np.arange(len(self._double))
        if self.samples.preparation.zscore != "train":
            yield Task(self._double, everything, uses)
            return
        same: dict[bytes, list[Use]] = {}
        for use in uses:
            same.setdefault(use.train.tobytes(), []).append(use)
        for members in same.values():
            yield Task(TrainingMoments.of(self._double[members[0].train])(self._double), everything, members)


def _zscore(X: NDArray[np.floating]) -> Array:
    return zscore(X).astype(np.float64)


def _mean_defined(scores: Array, axis: int) -> Array:
    """Return means over what is not NaN; NaN where nothing is left."""
    defined = np.isfinite(scores)
    count = defined.sum(axis=axis)
    total = np.where(defined, scores, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
