"""Decode a loaded recording: read its samples, evaluate the decoder and map its weights."""

import math
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import confusion_matrix

from harness.datasets.recording import Recording
from harness.decoding.choices import Engine, Scorer
from harness.decoding.decoder import FittedDecoder, fit_decoder
from harness.decoding.evaluation import FitDecoder, Progress, evaluate
from harness.decoding.grid_scores import tabulate_grid
from harness.decoding.nilearn_decoder import NilearnEngine
from harness.decoding.patterns import PatternMap, map_patterns
from harness.decoding.question import Question
from harness.decoding.weights import WeightMap, map_weights
from harness.errors import escape_controls
from harness.samples.cache import SampleCache
from harness.samples.samples import RecordedSamples, Sources, open_sources, read_samples

NOT_CONVERGED = "not converged: "  # begins the message of every ConvergenceWarning in `Decoding.warnings`


@dataclass(frozen=True, eq=False)
class Decoding:
    """The results of one run.

    Attributes
    ----------
    decoder : FittedDecoder
        Fitted with the scheme's folds on all samples.
    folds : DataFrame, one row per fold
        See `harness.decoding.evaluation.Evaluation`.
    skipped : DataFrame, one row per fold that was left out because it lacks a class
        See `harness.decoding.evaluation.Split`.
    train_accuracy : float
        Accuracy on the volumes that the decoder was fitted on; it says nothing about generalisation.
    confusion : ndarray of shape (n_classes, n_classes), int
        Held-out volumes by true class (rows) and predicted class (columns), in the contrast's order.
    weights : list of WeightMap
        Empty for a dummy, and so are the patterns.
    patterns : list of PatternMap
    seconds : mapping of str to float
        Wall time of every stage.
    warnings : tuple of str
        Messages of warnings, each once, with a count where it was repeated.
    """

    recording: Recording
    question: Question
    samples: RecordedSamples
    decoder: FittedDecoder
    folds: pd.DataFrame
    skipped: pd.DataFrame
    predictions: pd.DataFrame
    train_accuracy: float
    confusion: np.ndarray
    weights: list[WeightMap]
    patterns: list[PatternMap]
    seconds: Mapping[str, float]
    warnings: tuple[str, ...]

    @property
    def notices(self) -> list[str]:
        """The notice of the data set, if it has one, and all warnings."""
        first = [] if self.recording.notice is None else [self.recording.notice]
        return first + [f"warning: {text}" for text in self.warnings]

    @property
    def score_columns(self) -> list[str]:
        """Columns of `folds` that are scores, the selected ones first."""
        return [name for name in self.folds.columns if name.startswith(("selected_", "test_"))]

    @cached_property
    def grid_scores(self) -> pd.DataFrame:
        """Score of every value of the grid in every fold; see `harness.decoding.grid_scores.tabulate_grid`.

        Empty for estimators that try nothing (lda, dummy) and for ``engine=nilearn``, which keeps the best
        score only.
        """
        decoder = self.decoder
        return tabulate_grid(decoder.tried, self.folds["fold"].tolist(), list(decoder.classes))

    @property
    def optimism(self) -> dict[str, float]:
        """Mean selected minus mean test score, as ``optimism_<scorer>``, where both exist.

        How much a score gains where parameters are chosen on the fold that is scored. For more than two
        classes, ROC AUC only: other selected scores are of one class against the rest, with another chance
        level than the test scores.
        """
        select = self.question.scoring.select
        columns = [f"selected_{select}", f"test_{select}"]
        if not set(columns) <= set(self.folds.columns):
            return {}
        if len(self.samples.contrast.classes) > 2 and select != Scorer.roc_auc:
            return {}
        selected, test = self.folds[columns].mean()
        return {f"optimism_{select}": float(selected - test)}

    def describe_optimism(self) -> list[str]:
        """Return one line per `optimism` that says what it is."""
        reason = "nothing was chosen on the scored fold"
        if self.question.estimator.chooses_on_scored_fold:
            reason = "above 0, the score gains from choosing parameters on the scored fold"
        return [
            f"{name} {value:+.3f} (selected minus test; {reason})"
            for name, value in self.optimism.items()
            if math.isfinite(value)
        ]

    def summarise(self) -> pd.DataFrame:
        """Return mean and standard deviation (ddof=1) over folds of every score.

        Returns
        -------
        summary : DataFrame with columns ``mean`` and ``sd``, one row per score
            The standard deviation is NaN where there is one fold.
        """
        scores = self.folds[self.score_columns]
        return pd.DataFrame({"mean": scores.mean(), "sd": scores.std(ddof=1)})

    def mean_scores(self) -> dict[str, float]:
        """Return the mean over folds of every score, by its column in `folds`."""
        return {str(score): float(mean) for score, mean in self.folds[self.score_columns].mean().items()}

    def flat_scores(self) -> dict[str, float]:
        """Return the summary on one level, by the names that runs are compared by.

        Returns
        -------
        scores : dict of str to float
            ``test_accuracy_mean``, ``test_accuracy_std`` and so on; undefined ones are left out.
        """
        return {
            f"{score}_{name}": float(row[column])
            for score, row in self.summarise().iterrows()
            for name, column in (("mean", "mean"), ("std", "sd"))
            if math.isfinite(row[column])
        }


def decode(
    recording: Recording,
    question: Question,
    *,
    progress: Progress | None = None,
    cache: SampleCache | None = None,
) -> Decoding:
    """Decode one subject.

    Parameters
    ----------
    progress : callable, optional
        Called with the stage's name, the steps done and the steps in all.
    cache : SampleCache, optional
        Where masked volumes are kept from one run to the next; by default nothing is kept.

    Raises
    ------
    HarnessError
        If the files cannot be read, or the question does not fit the recording.

    Examples
    --------
    >>> from sklearn.model_selection import LeaveOneGroupOut
    >>> from harness import Estimator, ExactLinearSVC, Question, Scheme, Simulated, make_contrast
    >>> question = Question(
    ...     make_contrast(["face", "cat"]),
    ...     Estimator("svc", ExactLinearSVC(), {"C": [1, 10, 100]}),
    ...     Scheme("logo", LeaveOneGroupOut()),
    ... )
    >>> decoding = decode(Simulated().load(2), question)  # doctest: +SKIP
    """
    seconds: dict[str, float] = {}
    with collect_warnings() as caught, timed(seconds, "data"):
        sources = open_sources(recording, question.roi, question.signal)
        samples = read_question_samples(sources, question, cache)
    decoding = decode_samples(samples, question, progress=progress)
    return replace(
        decoding,
        seconds={**seconds, **decoding.seconds},
        warnings=(*count_messages(caught), *decoding.warnings),
    )


def read_question_samples(
    sources: Sources, question: Question, cache: SampleCache | None = None
) -> RecordedSamples:
    """Read the samples that a question is about; see `harness.samples.samples.read_samples`."""
    single = question.engine != Engine.nilearn
    contrast, roi, signal = question.contrast, question.roi, question.signal
    return read_samples(sources, contrast, roi, signal, cache, single_precision=single)


def decode_samples(
    samples: RecordedSamples, question: Question, *, progress: Progress | None = None
) -> Decoding:
    """Decode samples that `read_question_samples` returned for the same question."""
    seconds: dict[str, float] = {}
    with collect_warnings() as caught:
        with timed(seconds, "decoding"):
            fit = choose_engine(samples, question)
            evaluation = evaluate(
                samples, question.estimator, question.scheme, question.scoring, fit, progress
            )
        weights = map_weights(evaluation.selected, question.contrast, samples.grid)
        patterns = map_patterns(evaluation.selected, samples)
    table = evaluation.predictions
    return Decoding(
        recording=samples.sources.recording,
        question=question,
        samples=samples,
        decoder=evaluation.selected,
        folds=evaluation.folds,
        skipped=evaluation.skipped,
        predictions=table,
        train_accuracy=evaluation.train_accuracy,
        confusion=confusion_matrix(table["class"], table["predicted"], labels=question.contrast.classes),
        weights=weights,
        patterns=patterns,
        seconds=seconds,
        warnings=count_messages(caught),
    )


def choose_engine(samples: RecordedSamples, question: Question) -> FitDecoder:
    """Return the function that fits decoders, ours or nilearn's."""
    if question.engine == Engine.nilearn:
        return NilearnEngine(samples.grid, question.roi)
    return fit_decoder


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the wall time of a block to that of its stage."""
    start = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start


@contextmanager
def collect_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Record every warning of a block, and note them on an exception that ends it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield caught
        except Exception as error:
            for text in count_messages(caught):
                error.add_note(f"warned before: {text}")
            raise


def count_messages(caught: Sequence[warnings.WarningMessage]) -> tuple[str, ...]:
    """Return every message once, with its count: a solver may warn hundreds of times."""
    # Deprecations are for the authors of packages, not for readers of results.
    silent = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning)
    messages = Counter(
        _describe_warning(warning) for warning in caught if not issubclass(warning.category, silent)
    )
    counted = (text if count == 1 else f"{text} [{count} times]" for text, count in messages.items())
    return tuple(escape_controls(text) for text in counted)


def _describe_warning(warning: warnings.WarningMessage) -> str:
    """Return the message, with its source where that is another package."""
    prefix = NOT_CONVERGED if issubclass(warning.category, ConvergenceWarning) else ""
    source = "" if _is_ours(warning) else f" ({Path(warning.filename).stem})"
    return f"{prefix}{warning.message}{source}"


def _is_ours(warning: warnings.WarningMessage) -> bool:
    return Path(__file__).parents[1] in Path(warning.filename).parents
