"""Scores of the complete analysis under relabellings, by one of two ways with the same result.

Where nothing but the labels changes, many relabellings are solved together (`BatchedScores`); otherwise
`harness.decoding.evaluation.evaluate` is repeated, which works for every estimator, scheme and engine.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from harness.decoding.decoder import fit_decoder
from harness.decoding.evaluation import Evaluation, FitDecoder, evaluate
from harness.decoding.question import Question
from harness.errors import DesignError
from harness.inference.batched_scores import BatchedScores, can_batch, is_blind
from harness.inference.corrections import TOLERANCE
from harness.inference.relabelling import Relabellings
from harness.samples.samples import Samples

BATCH = 128
"""Relabellings that are solved together, and stored together."""

LOOP = 4
"""Relabellings that are stored together where each is computed by itself."""


@dataclass(frozen=True, eq=False)
class NullScores:
    """Scores under some relabellings.

    Attributes
    ----------
    scores : ndarray of shape (n_relabellings, n_columns)
    decisions : ndarray of shape (n_relabellings, n_problems, n_samples)
        Decision values of the selected decoder on all samples.
    unconverged : int
        How many relabellings had a decoder that did not converge; of a batch all.
    """

    scores: NDArray[np.float64]
    decisions: NDArray[np.float64]
    unconverged: int


@dataclass(frozen=True, eq=False)
class RelabelledAnalysis:
    """An analysis whose labels can be exchanged.

    Attributes
    ----------
    samples : Samples
        With the true labels.
    fit : callable
        The engine; relabellings are solved together by ours alone.
    batched : bool
        Whether relabellings are solved together where that is possible.
    """

    samples: Samples
    question: Question
    fit: FitDecoder = fit_decoder
    batched: bool = True

    @cached_property
    def is_batched(self) -> bool:
        """Whether relabellings are solved together."""
        return self.batched and self.fit is fit_decoder and can_batch(self.samples, self.question)

    @property
    def is_symmetric(self) -> bool:
        """Whether all classes are treated alike, as far as that is known without trying.

        The exact solvers do; of other estimators, and of folds that may depend on labels, it is not known.
        """
        question = self.question
        exact = self.fit is fit_decoder and question.estimator.is_solved_together
        return exact and is_blind(question.scheme.splitter)

    @property
    def chunk_size(self) -> int:
        """How many relabellings are computed at a time."""
        return BATCH if self.is_batched else LOOP

    @property
    def columns(self) -> list[str]:
        """Names of the scores; scores of single classes are not among them."""
        scoring = self.question.scoring
        return [f"selected_{scoring.select}", *(f"test_{name}" for name in scoring.report)]

    @cached_property
    def _batch(self) -> BatchedScores:
        return BatchedScores(self.samples, self.question)

    def compute(self, relabellings: Relabellings, rows: Sequence[int]) -> NullScores:
        """Return the scores under some relabellings.

        Raises
        ------
        DesignError
            If the scheme does not fit the relabelled samples.
        """
        labels = np.stack([relabellings.labels(row) for row in rows])
        if not self.is_batched:
            return self._join([self.repeat(y, row) for y, row in zip(labels, rows, strict=True)])
        codes = np.searchsorted(np.unique(self.samples.y), labels)
        together = self._batch.applies(codes)
        single = {
            place: self.repeat(labels[place], rows[place]) for place in np.flatnonzero(~together).tolist()
        }
        if not together.any():
            return self._join(list(single.values()))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found, values = self._batch.score(codes[together])
        scores = np.empty((len(rows), found.shape[1]))
        decisions = np.empty((len(rows), *values.shape[1:]))
        scores[together], decisions[together] = found, values
        for place, one in single.items():
            scores[place], decisions[place] = one.scores[0], one.decisions[0]
        unconverged = int(together.sum()) if _count_unconverged(caught) else 0
        return NullScores(scores, decisions, unconverged + sum(one.unconverged for one in single.values()))

    def repeat(self, y: NDArray[np.str_], row: int = 0) -> NullScores:
        """Return the scores under one labelling, by a whole analysis.

        Parameters
        ----------
        y : ndarray of shape (n_samples,), str
        row : int
            Number of the relabelling, for messages.
        """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                evaluation = self._evaluate(y)
            except DesignError as error:
                remedy = "" if row == 0 else "; cv.incomplete=skip leaves such folds out"
                raise DesignError(f"under relabelling {row} of the labels: {error}{remedy}") from error
        scores = evaluation.folds[self.columns].mean().to_numpy(dtype=np.float64)
        decision = evaluation.selected.decision_function(self.samples.X)
        decisions = decision[np.newaxis] if decision.ndim == 1 else decision.T
        return NullScores(scores[np.newaxis], decisions[np.newaxis], int(_count_unconverged(caught) > 0))

    def _evaluate(self, y: NDArray[np.str_]) -> Evaluation:
        question = self.question
        samples = replace(self.samples, y=y)
        return evaluate(samples, question.estimator, question.scheme, question.scoring, self.fit)

    def treats_classes_alike(self, relabellings: Relabellings, n: int = 3) -> bool:
        """Return whether renaming the classes leaves the scores of some relabellings as they are."""
        return all(
            scores_are_equal(self.repeat(y, row).scores, self.repeat(renamed, row).scores)
            for row, (y, renamed) in enumerate(rename_classes(relabellings, n), start=1)
        )

    @staticmethod
    def _join(parts: Sequence[NullScores]) -> NullScores:
        return NullScores(
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.decisions for part in parts]),
            sum(part.unconverged for part in parts),
        )


def rename_classes(
    relabellings: Relabellings, n: int = 3
) -> Iterator[tuple[NDArray[np.str_], NDArray[np.str_]]]:
    """Yield the labels under the first relabellings, as they are and with the classes exchanged."""
    names = np.unique(relabellings.labels(0))
    for row in range(1, min(1 + n, len(relabellings))):
        y = relabellings.labels(row)
        yield y, np.roll(names, 1)[np.searchsorted(names, y)]


def scores_are_equal(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Return whether scores differ by rounding alone; undefined scores are equal."""
    return np.allclose(one, other, rtol=0, atol=TOLERANCE, equal_nan=True)


def strip_samples(samples: Samples) -> Samples:
    """Return samples without what is known of their recording, which a worker process does not need."""
    return Samples(**{field.name: getattr(samples, field.name) for field in fields(Samples)})


def _count_unconverged(caught: Sequence[warnings.WarningMessage]) -> int:
    return sum(issubclass(warning.category, ConvergenceWarning) for warning in caught)
