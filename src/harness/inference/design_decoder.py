"""The design decoder: accuracies of a design variable under many relabellings of the blocks."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.decoding.decoder import Folds, TrainingMoments, fit_decoder
from harness.decoding.estimator import Estimator
from harness.decoding.question import Question
from harness.decoding.scores import roc_auc
from harness.decoding.splitters import split_samples
from harness.samples.choices import ZScore
from harness.samples.samples import FoldPreprocessing, Samples
from harness.samples.signal import zscore
from harness.solvers.estimators import ExactLogisticRegressionCV

BATCH = 256  # relabellings that are solved together
N_TRIED = 5  # relabellings that show whether the folds of a scheme depend on the classes
DECIMALS = 10  # of decision values: rounding errors are neither evidence nor an order

Progress = Callable[[int], None]
"""Called with the number of relabellings done."""


@dataclass(frozen=True, eq=False)
class DesignDecoder:
    """Decodes variables in place of the voxels of samples.

    A decoder is fitted once per fold. Nothing is chosen inside the training sets: of a grid, the last value
    is taken, because values that predict alike tie, and the last of them wins in the analysis, too.

    Attributes
    ----------
    estimator : Estimator
        With one value per parameter.
    zscore : {"own", "run", "train", "none"}
        As in `harness.samples.signal.Signal`. Variables have arbitrary units, so that they are standardised
        by the training samples where the voxels are not standardised.
    folds : sequence of (train, test) index arrays
        Those of the true classes.
    """

    samples: Samples
    question: Question
    estimator: Estimator
    zscore: str
    folds: Folds

    @classmethod
    def of(cls, samples: Samples, question: Question) -> "DesignDecoder":
        """Make the decoder of an analysis; a scheme that does not fit the samples raises a DesignError."""
        estimator = replace(
            question.estimator,
            grid={key: _keep_last(tried) for key, tried in question.estimator.grid.items()},
        )
        folds = list(split_samples(samples, question.scheme).folds.values())
        return cls(samples, question, estimator, question.signal.zscore, folds)

    @property
    def is_batched(self) -> bool:
        """Whether many relabellings are solved in little more time than one.

        A model that chooses C by folds of its own is not among them, because those depend on the classes.
        """
        return self.estimator.is_solved_together and not isinstance(
            self.estimator.model, ExactLogisticRegressionCV
        )

    def depends_on_classes(self, codes: np.ndarray) -> bool:
        """Whether the folds of the scheme depend on the classes, as those of stratified schemes do.

        Parameters
        ----------
        codes : ndarray of shape (n_relabellings, n_samples), int
        """
        tried = codes[np.linspace(0, len(codes) - 1, N_TRIED).astype(int)]
        return any(not _are_equal(self.folds, self._split(row)) for row in tried)

    def score(
        self, values: np.ndarray, codes: np.ndarray, report: Progress = lambda done: None
    ) -> tuple[np.ndarray, float]:
        """Return the mean accuracy over folds under every relabelling, and the area under the ROC curve.

        Parameters
        ----------
        values : ndarray of shape (n_samples, n_columns)
            The variable.
        codes : ndarray of shape (n_relabellings, n_samples), int
            Index of the class among the sorted names of the classes; the true classes first.

        Returns
        -------
        accuracies : ndarray of shape (n_relabellings,)
        area : float
            Under the true classes, mean over folds; of several classes also over classes, each against the
            rest.
        """
        values = np.asarray(values, dtype=np.float64)
        if self.zscore == ZScore.run:
            values = _standardise_runs(values, self.samples.runs)
        n_classes = int(codes.max()) + 1
        accuracies = np.empty(len(codes))
        area = np.nan
        for rows, folds in self._batches(codes):
            decisions = self._decide(values, codes[rows], n_classes, folds)
            right = [
                (_classify(decision) == codes[rows][:, test]).mean(axis=1)
                for decision, (_, test) in zip(decisions, folds, strict=True)
            ]
            accuracies[rows] = np.mean(right, axis=0)
            if rows[0] == 0:
                tested = zip(decisions, folds, strict=True)
                area = float(np.mean([_area(codes[0][test], decision[0]) for decision, (_, test) in tested]))
            report(int(rows[-1]) + 1)
        return accuracies, area

    def _batches(self, codes: np.ndarray) -> Iterator[tuple[np.ndarray, Folds]]:
        """Yield the relabellings that are solved together, as indices, with their folds."""
        everything = np.arange(len(codes))
        if self.depends_on_classes(codes):
            for row in everything:
                yield everything[row : row + 1], self.folds if row == 0 else self._split(codes[row])
            return
        for start in range(0, len(codes), BATCH):
            yield everything[start : start + BATCH], self.folds

    def _split(self, codes: np.ndarray) -> Folds:
        """Return the folds of relabelled samples; one that cannot be fitted is left out."""
        y = np.unique(self.samples.y)[codes]
        n_classes = len(self.samples.contrast.classes)
        found = self.question.scheme.splitter.split(self.samples.X, y, groups=self.samples.runs)
        return [fold for fold in found if len(set(y[fold[0]].tolist())) == n_classes]

    def _decide(
        self, values: np.ndarray, codes: np.ndarray, n_classes: int, folds: Folds
    ) -> list[np.ndarray]:
        """Return the decision values of the held-out samples of every fold.

        Returns
        -------
        decisions : list of ndarray of shape (n_relabellings, n_problems, n_held_out)
        """
        if not self.is_batched:
            return [np.stack([self._decide_one(values, row, fold) for row in codes]) for fold in folds]
        problems = np.arange(n_classes)[1 if n_classes == 2 else 0 :]
        Y = np.where(codes[:, np.newaxis] == problems[:, np.newaxis], 1.0, -1.0).reshape(-1, codes.shape[1]).T
        decisions = []
        for train, test in folds:
            fitted, held_out = self._standardise(values, train, test)
            Z, targets = np.vstack([fitted, held_out]), np.vstack([Y[train], Y[test]])
            solved = self.estimator.model.solve_folds(
                Z, targets, [np.arange(len(train))], self.estimator.grid
            )
            decision = solved.decoders.decisions[0, 0][:, len(train) :]
            decisions.append(decision.reshape(len(codes), len(problems), len(test)).round(DECIMALS))
        return decisions

    def _decide_one(
        self, values: np.ndarray, codes: np.ndarray, fold: tuple[np.ndarray, np.ndarray]
    ) -> np.ndarray:
        """Return decision values of one fold and relabelling, of any estimator."""
        y = np.unique(self.samples.y)[codes]
        kind = "own" if self.zscore == ZScore.own else None if self.zscore == ZScore.run else "train"
        decoder = fit_decoder(values, y, [fold], self.estimator, "accuracy", FoldPreprocessing(kind))
        decision = decoder.decision_function(values[fold[1]]).round(DECIMALS)
        return decision[np.newaxis] if decision.ndim == 1 else decision.T

    def _standardise(
        self, values: np.ndarray, train: np.ndarray, test: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the training and the held-out rows, standardised as the voxels are."""
        if self.zscore == ZScore.own:
            return zscore(values)[train], zscore(values[test])
        if self.zscore == ZScore.run:
            return values[train], values[test]
        moments = TrainingMoments.of(values[train])
        return moments(values[train]), moments(values[test])


def _keep_last(tried: Any) -> Any:
    """Return the last of the values of a parameter, in the form that it has in a grid."""
    if isinstance(tried, Mapping):
        return {key: list(values)[-1:] for key, values in tried.items()}
    return list(tried)[-1:]


def _standardise_runs(values: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Standardise every column by the samples of each scanner run."""
    standardised = np.zeros_like(values)
    for run in np.unique(runs):
        rows = runs == run
        if rows.sum() > 1:  # of a single sample nothing is left
            standardised[rows] = zscore(values[rows])
    return standardised


def _are_equal(one: Folds, other: Folds) -> bool:
    """Whether two lists of folds have the same samples on both sides."""
    return len(one) == len(other) and all(
        np.array_equal(first, second)
        for fold, counterpart in zip(one, other, strict=True)
        for first, second in zip(fold, counterpart, strict=True)
    )


def _classify(decisions: np.ndarray) -> np.ndarray:
    """Return the predicted classes, (n_relabellings, n_held_out)."""
    if decisions.shape[1] == 1:
        return (decisions[:, 0] > 0).astype(int)
    return decisions.argmax(axis=1)


def _area(codes: np.ndarray, decisions: np.ndarray) -> float:
    """Return the area under the ROC curve of one fold; of several classes, the mean of each against the rest.

    Parameters
    ----------
    decisions : ndarray of shape (n_problems, n_held_out)
    """
    if len(decisions) == 1:
        return roc_auc(codes == 1, decisions[0])
    present = np.unique(codes)
    return float(np.mean([roc_auc(codes == code, decisions[code]) for code in present]))
