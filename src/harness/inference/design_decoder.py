"""The design decoder: accuracies of a design variable under many relabellings of the blocks."""

import warnings
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
from harness.solvers.estimators import ExactLDA, ExactLogisticRegressionCV, ExactRidgeClassifierCV

BATCH = 256  # relabellings that are solved together
N_TRIED = 5  # relabellings that show whether the folds of a scheme depend on the classes
DECIMALS = 6  # of decision values, which are about 1: rounding errors are neither evidence nor an order

Progress = Callable[[int], None]
"""Called with the number of relabellings done."""


@dataclass(frozen=True, eq=False)
class DesignDecoder:
    """Decodes variables in place of the voxels of samples.

    A decoder is fitted once per fold. Nothing is chosen inside the training sets: of a grid, the last value
    is taken, because values that predict alike tie, and the last of them wins in the analysis, too. Samples
    between classes, whose decision values tie, count as right by the share of a guess: design variables often
    cannot decide, and any other rule would prefer a class by its name.

    Attributes
    ----------
    estimator : Estimator
        With one value per parameter. A ridge classifier in place of linear discriminant analysis, which has
        the same direction for two classes, but is undefined where a variable does not vary inside classes:
        where it predicts them perfectly.
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
        estimator = question.estimator
        if isinstance(estimator.model, ExactLDA):
            estimator = Estimator(estimator.name, ExactRidgeClassifierCV())
        grid = {key: _keep_last(tried) for key, tried in estimator.grid.items()}
        estimator = replace(estimator, grid=grid)
        folds = list(split_samples(samples, question.scheme).folds.values())
        return cls(samples, question, estimator, question.signal.zscore, folds)

    @property
    def notices(self) -> tuple[str, ...]:
        """How the decoder differs from that of the analysis, where it does."""
        if type(self.estimator.model) is type(self.question.estimator.model):
            return ()
        return (
            f"estimator={self.estimator.name}: design variables are decoded with a ridge classifier, because "
            "discriminant analysis is undefined where a variable does not vary inside classes",
        )

    @property
    def is_batched(self) -> bool:
        """Whether many relabellings are solved in one call."""
        return self.estimator.is_solved_together

    @property
    def is_fast(self) -> bool:
        """Whether a call takes little more time for many relabellings than for one.

        A model that chooses C by folds of its own takes more, because those depend on the classes.
        """
        return self.is_batched and not isinstance(self.estimator.model, ExactLogisticRegressionCV)

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
                _count_right(decision, codes[rows][:, test]).mean(axis=1)
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
        """Return the folds of relabelled samples."""
        y = np.unique(self.samples.y)[codes]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The groups parameter is ignored")
            return list(self.question.scheme.splitter.split(self.samples.X, y, groups=self.samples.runs))

    def _decide(
        self, values: np.ndarray, codes: np.ndarray, n_classes: int, folds: Folds
    ) -> list[np.ndarray]:
        """Return the decision values of the held-out samples of every fold.

        They are 0 where the training samples lack a class.

        Returns
        -------
        decisions : list of ndarray of shape (n_relabellings, n_problems, n_held_out)
        """
        problems = np.arange(n_classes)[1 if n_classes == 2 else 0 :]
        decisions = []
        for train, test in folds:
            counts = (codes[:, train, np.newaxis] == np.arange(n_classes)).sum(axis=1)
            complete = counts.all(axis=1)
            decision = np.zeros((len(codes), len(problems), len(test)))
            if complete.any():
                decide = self._decide_batch if self.is_batched else self._decide_each
                decision[complete] = decide(values, codes[complete], problems, (train, test))
            decisions.append(decision.round(DECIMALS))
        return decisions

    def _decide_batch(
        self, values: np.ndarray, codes: np.ndarray, problems: np.ndarray, fold: tuple[np.ndarray, np.ndarray]
    ) -> np.ndarray:
        """Return decision values of one fold, all relabellings and problems solved together."""
        train, test = fold
        Y = np.where(codes[:, np.newaxis] == problems[:, np.newaxis], 1.0, -1.0).reshape(-1, codes.shape[1]).T
        Z = np.vstack(self._standardise(values, train, test))
        targets = np.vstack([Y[train], Y[test]])  # those of the held-out samples are not used
        solved = self.estimator.model.solve_folds(Z, targets, [np.arange(len(train))], self.estimator.grid)
        decision: np.ndarray = solved.decoders.decisions[0, 0][:, len(train) :]
        return decision.reshape(len(codes), len(problems), len(test))

    def _decide_each(
        self, values: np.ndarray, codes: np.ndarray, problems: np.ndarray, fold: tuple[np.ndarray, np.ndarray]
    ) -> np.ndarray:
        """Return decision values of one fold, of any estimator, one relabelling after the other."""
        train, test = fold
        Z = np.vstack(self._standardise(values, train, test))
        fitted, held_out = np.split(np.arange(len(Z)), [len(train)])
        names = np.unique(self.samples.y)
        decisions = np.zeros((len(codes), len(problems), len(test)))
        for row, relabelled in enumerate(codes):
            y = names[relabelled[np.concatenate(fold)]]
            try:
                decoder = fit_decoder(
                    Z, y, [(fitted, held_out)], self.estimator, "accuracy", FoldPreprocessing()
                )
            except ValueError:
                if not any(isinstance(tried, Mapping) for tried in self.estimator.grid.values()):
                    raise
                continue  # no value of C gives a weight to a variable that is orthogonal to the classes
            decisions[row] = np.atleast_2d(decoder.decision_function(Z[held_out]).T)
        return decisions

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


def _count_right(decisions: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return how much every held-out sample counts as right: 1, 0, or the share of a guess between ties.

    Parameters
    ----------
    decisions : ndarray of shape (n_relabellings, n_problems, n_held_out)
    codes : ndarray of shape (n_relabellings, n_held_out), int
    """
    if decisions.shape[1] == 1:
        decisions = np.concatenate([-decisions, decisions], axis=1)
    best = decisions == decisions.max(axis=1, keepdims=True)
    named = np.take_along_axis(best, codes[:, np.newaxis], axis=1)[:, 0]
    return named / best.sum(axis=1)


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
