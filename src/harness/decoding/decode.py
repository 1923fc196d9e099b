"""The whole science of one run, with plain objects: a recording goes in, a `Decoding` comes out."""

import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from harness.datasets.recording import Recording
from harness.decoding.choices import Engine
from harness.decoding.decoder import Estimator, FittedDecoder, fit_decoder
from harness.decoding.evaluation import Progress, Scheme, Scoring, evaluate
from harness.decoding.nilearn_decoder import NilearnEngine, check_nilearn
from harness.decoding.weights import WeightMap, map_weights
from harness.errors import UsageError, escape_controls
from harness.samples.cache import SampleCache
from harness.samples.contrasts import Contrast
from harness.samples.samples import Roi, Samples, load_samples
from harness.samples.signal import Signal


@dataclass(frozen=True, eq=False)
class Decoding:
    """Everything that one run found.

    Attributes
    ----------
    recording : Recording
    samples : Samples
    estimator : Estimator
    scheme : Scheme
    scoring : Scoring
    decoder : FittedDecoder
        Fitted with the scheme's folds on all samples.
    folds : DataFrame, one row per fold
        See `harness.decoding.evaluation.Evaluation`.
    skipped : DataFrame, one row per fold that was left out because it lacks a class
        See `harness.decoding.evaluation.Split`.
    predictions : DataFrame, one row per held-out volume and fold
    train_accuracy : float
        Accuracy on the volumes that the decoder was fitted on; it says nothing about generalisation.
    confusion : ndarray of shape (n_classes, n_classes), int
        Held-out volumes by true class (rows) and predicted class (columns), in the contrast's order.
    weights : list of WeightMap
        Empty for a dummy.
    seconds : mapping of str to float
        Wall time of every stage.
    warnings : tuple of str
        What was warned of, each once, with a count where it came more often.
    """

    recording: Recording
    samples: Samples
    estimator: Estimator
    scheme: Scheme
    scoring: Scoring
    decoder: FittedDecoder
    folds: pd.DataFrame
    skipped: pd.DataFrame
    predictions: pd.DataFrame
    train_accuracy: float
    confusion: np.ndarray
    weights: list[WeightMap]
    seconds: Mapping[str, float]
    warnings: tuple[str, ...]

    @property
    def notices(self) -> list[str]:
        """What must be said of the result: where the data come from, if it matters, and all warnings."""
        first = [] if self.recording.notice is None else [self.recording.notice]
        return first + [f"warning: {text}" for text in self.warnings]

    @property
    def score_columns(self) -> list[str]:
        """Columns of `folds` that are scores, the selected ones first."""
        return [name for name in self.folds.columns if name.startswith(("selected_", "test_"))]

    def summarise(self) -> pd.DataFrame:
        """Return mean and standard deviation (ddof=1) over folds of every score.

        Returns
        -------
        summary : DataFrame with columns ``mean`` and ``sd``, one row per score
            The standard deviation is NaN where there is one fold.
        """
        scores = self.folds[self.score_columns]
        return pd.DataFrame({"mean": scores.mean(), "sd": scores.std(ddof=1)})

    def flat_scores(self) -> dict[str, float]:
        """Return the summary on one level, by the names that runs are compared by.

        Returns
        -------
        scores : dict of str to float
            ``test_accuracy_mean``, ``test_accuracy_std`` and so on; what is not defined is left out.
        """
        return {
            f"{score}_{name}": float(row[column])
            for score, row in self.summarise().iterrows()
            for name, column in (("mean", "mean"), ("std", "sd"))
            if math.isfinite(row[column])
        }


def decode(
    load: Callable[[], Recording],
    contrast: Contrast,
    estimator: Estimator,
    scheme: Scheme,
    roi: Roi | None = None,
    signal: Signal | None = None,
    scoring: Scoring | None = None,
    engine: str = "harness",
    progress: Progress | None = None,
    cache: SampleCache | None = None,
) -> Decoding:
    """Decode one subject.

    Parameters
    ----------
    load : callable returning a Recording
        Called once; its time is counted as the data stage's.
    contrast : Contrast
    estimator : Estimator
    scheme : Scheme
    roi : Roi, optional
        By default ventral temporal cortex.
    signal : Signal, optional
        By default as nilearn's Decoder standardises.
    scoring : Scoring, optional
        By default roc_auc selects, and accuracy, balanced accuracy and roc_auc are reported.
    engine : {"harness", "nilearn"}
        Whose Decoder fits and predicts. nilearn's receives the samples of nilearn's masker, which are
        float64 for some images; see `load_samples`.
    progress : callable, optional
        Called with the stage's name, the steps done and the steps in all.
    cache : SampleCache, optional
        Where masked volumes are kept from one run to the next; by default nothing is kept.

    Returns
    -------
    Decoding

    Raises
    ------
    HarnessError
        If the request, the data or the design make no sense; the message says which and what to do.

    Examples
    --------
    >>> from sklearn.model_selection import LeaveOneGroupOut
    >>> from harness import ExactLinearSVC, Simulated, make_contrast
    >>> decoding = decode(
    ...     lambda: Simulated().load(2),
    ...     make_contrast(["face", "cat"]),
    ...     Estimator("svc", ExactLinearSVC(), {"C": [1, 10, 100]}),
    ...     Scheme("logo", LeaveOneGroupOut()),
    ... )  # doctest: +SKIP
    """
    if engine not in list(Engine):
        raise UsageError(f"engine={engine!r} is unknown; expected one of {', '.join(Engine)}")
    roi, signal, scoring = roi or Roi(), signal or Signal(), scoring or Scoring()
    if engine == "nilearn":
        check_nilearn(estimator, signal.zscore)
    seconds: dict[str, float] = {}
    with _collect_warnings() as caught:
        with _timed(seconds, "data"):
            recording = load()
            samples = load_samples(
                recording, contrast, roi, signal, cache, single_precision=engine != "nilearn"
            )
        with _timed(seconds, "decoding"):
            fit = NilearnEngine(samples, roi) if engine == "nilearn" else fit_decoder
            evaluation = evaluate(samples, estimator, scheme, scoring, fit, progress)
        maps = map_weights(evaluation.selected, samples)
    return Decoding(
        recording=recording,
        samples=samples,
        estimator=estimator,
        scheme=scheme,
        scoring=scoring,
        decoder=evaluation.selected,
        folds=evaluation.folds,
        skipped=evaluation.skipped,
        predictions=evaluation.predictions,
        train_accuracy=evaluation.train_accuracy,
        confusion=confusion_matrix(
            evaluation.predictions["class"], evaluation.predictions["predicted"], labels=contrast.classes
        ),
        weights=maps,
        seconds=seconds,
        warnings=_count_messages(caught),
    )


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start


@contextmanager
def _collect_warnings() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield caught
        except Exception as error:
            for text in _count_messages(caught):
                error.add_note(f"warned before: {text}")
            raise


def _count_messages(caught: Sequence[warnings.WarningMessage]) -> tuple[str, ...]:
    """Say every warning once: a solver that does not converge says so hundreds of times."""
    # Deprecations are for the authors of packages, not for readers of results.
    silent = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning)
    messages = Counter(
        f"{warning.message} ({Path(warning.filename).stem})"
        if not _is_ours(warning)
        else str(warning.message)
        for warning in caught
        if not issubclass(warning.category, silent)
    )
    counted = (text if count == 1 else f"{text} [{count} times]" for text, count in messages.items())
    return tuple(escape_controls(text) for text in counted)


def _is_ours(warning: warnings.WarningMessage) -> bool:
    return Path(__file__).parents[1] in Path(warning.filename).parents
