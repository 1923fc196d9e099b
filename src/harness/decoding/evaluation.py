"""How well the classes are told apart: one row per fold, one row per predicted volume.

Two kinds of score are kept apart by name. *Selected* scores are nilearn's ``cv_scores_``: the parameters were
chosen on the fold that is scored. *Test* scores come from volumes that took part in no choice.
"""

import hashlib
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Protocol

import numpy as np
import pandas as pd
from sklearn.model_selection import BaseCrossValidator

from harness.decoding.choices import Scorer
from harness.decoding.decoder import Estimator, FittedDecoder, Folds, fit_decoder, score_decisions
from harness.errors import DesignError, UsageError
from harness.samples.contrasts import file_word
from harness.samples.samples import Preparation, Samples
from harness.solvers.folds import stratify

# The scorers that mean the same for two classes and for more.
MAX_SKIPPED_SHOWN = 3  # folds of which the warning says why they are skipped
MAX_FOLDS = 10_000  # leaving 5 of 200 volumes out would make 2.5e9

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, the steps done and the steps in all."""


@dataclass(frozen=True)
class Scoring:
    """What is scored.

    Attributes
    ----------
    select : str
        Scorer that chooses the estimator's parameters.
    report : tuple of str
        Scorers that are reported for the held-out volumes.
    inner_folds : int
        Folds of the stratified cross-validation that chooses parameters inside a training set.
    """

    select: str = "roc_auc"
    report: tuple[str, ...] = tuple(Scorer)
    inner_folds: int = 10

    def __post_init__(self) -> None:
        for key, names in (("select", [self.select]), ("report", self.report)):
            unknown = [name for name in names if name not in list(Scorer)]
            if unknown:
                raise UsageError(
                    f"scoring.{key}={unknown[0]!r} is unknown; expected among {', '.join(Scorer)}"
                )
        if not self.report:
            raise UsageError("scoring.report is empty; name at least one scorer, such as [accuracy]")
        if len(set(self.report)) < len(self.report):
            raise UsageError(f"scoring.report=[{','.join(self.report)}] names a score twice; name each once")
        if self.inner_folds < 2:
            raise UsageError(f"scoring.inner_folds={self.inner_folds} is too few; expected 2 or more")


class Incomplete(StrEnum):
    """What is done with a fold that cannot be fitted or scored, because it lacks a class."""

    REFUSE = "refuse"
    SKIP = "skip"


@dataclass(frozen=True)
class Scheme:
    """A named cross-validation scheme.

    Attributes
    ----------
    name : str
        What the user types after ``cv=``.
    splitter : BaseCrossValidator
        Splits by samples, classes and runs.
    incomplete : {"refuse", "skip"}
        What is done with folds whose training set lacks a class, or whose held-out set has only one.
    """

    name: str
    splitter: BaseCrossValidator
    incomplete: str = Incomplete.REFUSE.value

    def __post_init__(self) -> None:
        if self.incomplete not in list(Incomplete):
            raise UsageError(
                f"cv.incomplete={self.incomplete!r} is unknown; expected one of {', '.join(Incomplete)}"
            )


@dataclass(frozen=True, eq=False)
class Split:
    """The folds of a scheme.

    Attributes
    ----------
    folds : dict of int to (train, test) index arrays
        The folds that can be fitted and scored, by their number in the scheme, from 1.
    skipped : DataFrame, one row per fold that is left out
        ``scheme, fold, runs_held_out, n_train, n_test``, and the reason as ``skipped``.
    """

    folds: dict[int, tuple[np.ndarray, np.ndarray]]
    skipped: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The scores of one run.

    Attributes
    ----------
    selected : FittedDecoder
        Fitted with the scheme's own folds; its weights are the run's weights.
    folds : DataFrame, one row per fold that was scored
        ``scheme, fold, runs_held_out, n_train, n_test``, the selected scores, the test scores, and the best
        parameters as ``best_<parameter>``.
    predictions : DataFrame, one row per held-out volume and fold
        ``volume, run, fold, condition, class, predicted`` and the decision values: above zero is evidence for
        the contrast's first class; for more than two classes one column per class.
    train_accuracy : float
        Accuracy on the volumes that the decoder was fitted on. It says nothing about generalisation.
    skipped : DataFrame, one row per fold that was left out
        See `Split`. No score counts them.
    """

    selected: FittedDecoder
    folds: pd.DataFrame
    predictions: pd.DataFrame
    train_accuracy: float
    skipped: pd.DataFrame


class FitDecoder(Protocol):
    """What an engine provides: the Decoder algorithm on masked volumes."""

    def __call__(
        self,
        X: np.ndarray,
        y: np.ndarray,
        folds: Folds,
        estimator: Estimator,
        scorer: str,
        preparation: Preparation,
    ) -> FittedDecoder:
        """Fit the best model of every fold and average them; see `harness.decoding.decoder.fit_decoder`."""
        ...


def split_samples(samples: Samples, scheme: Scheme) -> Split:
    """Split the samples, and find the folds on which nothing can be learnt or scored.

    A held-out set of one class has no area under the curve and no balanced accuracy; on a training set that
    lacks a class, the decoder cannot be fitted.

    Parameters
    ----------
    samples : Samples
    scheme : Scheme

    Returns
    -------
    Split

    Raises
    ------
    DesignError
        If the scheme does not fit the samples, no fold is complete, or a fold is incomplete and the scheme
        does not skip such folds.
    """
    try:
        with warnings.catch_warnings():
            # Schemes that do not look at runs say so at every call; which ones do is the user's choice.
            warnings.filterwarnings("ignore", message="The groups parameter is ignored")
            found = scheme.splitter.split(samples.X, samples.y, groups=samples.runs)
            every = dict(enumerate(islice(found, MAX_FOLDS + 1), start=1))
    except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError) as error:
        raise DesignError(
            f"cv={scheme.name} cannot split {len(samples.y)} volumes of {len(set(samples.runs))} run(s): "
            f"{error}"
        ) from error
    if len(every) > MAX_FOLDS:
        raise DesignError(f"cv={scheme.name} makes more than {MAX_FOLDS} folds; choose a scheme with fewer")
    lacking = {
        number: reason for number, fold in every.items() if (reason := _find_lack(samples, *fold)) is not None
    }
    complete = {number: fold for number, fold in every.items() if number not in lacking}
    if lacking and (scheme.incomplete == Incomplete.REFUSE or not complete):
        number, reason = next(iter(lacking.items()))
        remedy = "set cv.incomplete=skip to leave such folds out, or " if complete else ""
        raise DesignError(f"cv={scheme.name}: fold {number}: {reason}: {remedy}choose another cv or contrast")
    if lacking:
        _warn_of_skipped(scheme, lacking, len(every))
    rows = [_describe_fold(samples, scheme, n, *every[n]) | {"skipped": lacking[n]} for n in lacking]
    columns = ["scheme", "fold", "runs_held_out", "n_train", "n_test", "skipped"]
    return Split(complete, pd.DataFrame(rows, columns=columns))


def make_folds(samples: Samples, scheme: Scheme) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the folds that `evaluate` fits and scores; see `split_samples`."""
    return list(split_samples(samples, scheme).folds.values())


def _find_lack(samples: Samples, train: np.ndarray, test: np.ndarray) -> str | None:
    """Return why a fold cannot be fitted or scored; None if it can."""
    classes = set(samples.contrast.classes)
    for part, rows, needed in (("training", train, len(classes)), ("held-out", test, 2)):
        missing = sorted(classes - set(samples.y[rows].tolist()))
        if len(classes) - len(missing) < needed:
            runs = ", ".join(str(run) for run in np.unique(samples.runs[rows]))
            return (
                f"the {part} volumes ({len(rows)}, of run {runs}) have no {', '.join(map(repr, missing))}; "
                f"at least {needed} classes are needed there"
            )
    return None


def _warn_of_skipped(scheme: Scheme, lacking: Mapping[int, str], n_folds: int) -> None:
    shown = [f"fold {number}: {reason}" for number, reason in list(lacking.items())[:MAX_SKIPPED_SHOWN]]
    more = len(lacking) - len(shown)
    warnings.warn(
        f"cv={scheme.name}: {len(lacking)} of {n_folds} folds are skipped (cv.incomplete=skip), and every "
        f"score is over the other {n_folds - len(lacking)}. {'. '.join(shown)}"
        + (f". {more} more are listed in folds.csv" if more else ""),
        stacklevel=2,
    )


def _describe_fold(
    samples: Samples, scheme: Scheme, number: int, train: np.ndarray, test: np.ndarray
) -> dict[str, object]:
    """Return the columns that say what a fold is."""
    return {
        "scheme": scheme.name,
        "fold": number,
        "runs_held_out": " ".join(str(run) for run in np.unique(samples.runs[test])),
        "n_train": len(train),
        "n_test": len(test),
    }


def evaluate(
    samples: Samples,
    estimator: Estimator,
    scheme: Scheme,
    scoring: Scoring,
    fit: FitDecoder = fit_decoder,
    progress: Progress | None = None,
) -> Evaluation:
    """Compute selected, test and train scores.

    Parameters
    ----------
    samples : Samples
    estimator : Estimator
    scheme : Scheme
    scoring : Scoring
    fit : FitDecoder
        The engine.
    progress : callable, optional

    Returns
    -------
    Evaluation

    Raises
    ------
    DesignError
        If the scheme does not fit the samples.
    """
    report = progress or (lambda stage, done, total: None)
    split = split_samples(samples, scheme)
    folds = list(split.folds.values())
    report("selected", 0, len(folds) + 2)
    selected = fit(samples.X, samples.y, folds, estimator, scoring.select, samples.preparation)
    rows, predictions = [], []
    for place, (number, (train, test)) in enumerate(split.folds.items()):
        report("test", place + 1, len(folds) + 2)
        decoder = _fit_inner(samples, train, estimator, scoring, fit, f"fold {number} of cv={scheme.name}")
        predicted = predict_volumes(samples, test, decoder, number)
        predictions.append(predicted)
        rows.append(
            _describe_fold(samples, scheme, number, train, test)
            | _selected_columns(selected, place, samples, scoring.select)
            | {
                f"test_{scorer}": score_predictions(predicted, samples.contrast.classes, scorer)
                for scorer in scoring.report
            }
            | _best_columns(selected, place)
        )
    report("train", len(folds) + 1, len(folds) + 2)
    train_accuracy = _measure_train_accuracy(samples, estimator, scoring, fit)
    report("train", len(folds) + 2, len(folds) + 2)
    return Evaluation(
        selected=selected,
        folds=pd.DataFrame(rows),
        # One frame of everything: those of single folds would take longer to make than their decoders.
        predictions=pd.DataFrame(
            {name: np.concatenate([predicted[name] for predicted in predictions]) for name in predictions[0]}
        ),
        train_accuracy=train_accuracy,
        skipped=split.skipped,
    )


def predict_volumes(
    samples: Samples, rows: np.ndarray, decoder: FittedDecoder, fold: int
) -> dict[str, np.ndarray]:
    """Predict some of the samples, together, as nilearn's `Decoder.predict` does.

    Parameters
    ----------
    samples : Samples
    rows : ndarray of int
        Samples to predict.
    decoder : FittedDecoder
    fold : int
        Number of the fold that holds them out.

    Returns
    -------
    predictions : dict of str to ndarray of shape (n_rows,)
        The columns of `Evaluation.predictions`.
    """
    classes = samples.contrast.classes
    decision = decoder.decision_function(samples.X[rows])
    if decision.ndim == 1:
        towards_first = 1 if classes[0] == decoder.classes[1] else -1
        decisions = {"decision_value": towards_first * decision}
    else:
        position = {name: index for index, name in enumerate(decoder.classes)}
        decisions = {f"decision_value_{file_word(name)}": decision[:, position[name]] for name in classes}
    return {
        "volume": samples.volumes[rows],
        "run": samples.runs[rows],
        "fold": np.full(len(rows), fold),
        "condition": samples.conditions[rows],
        "class": samples.y[rows],
        "predicted": decoder.classify(decision),
    } | decisions


def score_predictions(
    predictions: Mapping[str, np.ndarray] | pd.DataFrame, classes: Sequence[str], scorer: str
) -> float:
    """Score predicted volumes.

    Parameters
    ----------
    predictions : mapping of str to ndarray, or DataFrame
        The columns of `Evaluation.predictions`.
    classes : sequence of str
        The contrast's classes, the positive one first.
    scorer : {"accuracy", "balanced_accuracy", "roc_auc"}
        For more than two classes, ``roc_auc`` is the mean of the one-vs-rest areas of the classes that are
        among the predicted volumes.

    Returns
    -------
    score : float
    """
    # scikit-learn's own scorers check their arguments for milliseconds, at every fold of every run.
    true = np.asarray(predictions["class"], dtype=str)
    shown = [name for name in classes if name in true]
    if scorer in ("accuracy", "balanced_accuracy"):
        right = np.asarray(predictions["predicted"], dtype=str) == true
        if scorer == "accuracy":
            return float(right.mean())
        return float(np.mean([right[true == name].mean() for name in shown]))
    if scorer != "roc_auc":
        raise ValueError(f"unknown scorer {scorer!r}")
    columns = {name: f"decision_value_{file_word(name)}" for name in shown}
    if len(classes) == 2:
        shown, columns = [classes[0]], {classes[0]: "decision_value"}
    areas = [
        score_decisions(
            "roc_auc", np.where(true == name, 1, -1), np.asarray(predictions[columns[name]])[np.newaxis]
        )[0]
        for name in shown
    ]
    return float(np.mean(areas))


# The accuracies of the last jobs of this process, by the digest of all that they depend on.
_train_accuracies: OrderedDict[bytes, float] = OrderedDict()
_N_REMEMBERED = 256


def _measure_train_accuracy(
    samples: Samples, estimator: Estimator, scoring: Scoring, fit: FitDecoder
) -> float:
    """Return the accuracy on the volumes that a decoder was fitted on.

    The scheme has no part in it, so that the jobs of a sweep over schemes share it: for logistic regression
    and few folds, it is half of the work.
    """

    def measure() -> float:
        everything = np.arange(len(samples.y))
        on_all = _fit_inner(samples, everything, estimator, scoring, fit, "train_accuracy")
        return float(np.mean(on_all.predict(samples.X) == samples.y))

    if fit is not fit_decoder:  # the engine that is a cross-check is asked every time
        return measure()
    asked = (samples.X, samples.y, samples.preparation, estimator, scoring.select, scoring.inner_folds)
    try:
        key = hashlib.sha256(pickle.dumps(asked)).digest()
    except (pickle.PicklingError, AttributeError, TypeError):  # an estimator that holds something unusual
        return measure()
    if key in _train_accuracies:
        _train_accuracies.move_to_end(key)
        return _train_accuracies[key]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        accuracy = measure()
    for warning in caught:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if not caught:  # every job says itself what there is to warn of
        _train_accuracies[key] = accuracy
        while len(_train_accuracies) > _N_REMEMBERED:
            _train_accuracies.popitem(last=False)
    return accuracy


def _fit_inner(
    samples: Samples, rows: np.ndarray, estimator: Estimator, scoring: Scoring, fit: FitDecoder, where: str
) -> FittedDecoder:
    """Fit a Decoder on some of the samples, its parameters chosen by folds inside them."""
    y = samples.y[rows]
    names, counts = np.unique(y, return_counts=True)
    if counts.min() < scoring.inner_folds:
        raise DesignError(
            f"{where}: {str(names[counts.argmin()])!r} has {counts.min()} training volumes, too few for the "
            f"{scoring.inner_folds} inner folds that choose parameters; "
            f"set scoring.inner_folds={max(2, counts.min())} or choose another cv"
        )
    dealt = stratify(y, scoring.inner_folds)
    inner = [(np.flatnonzero(dealt != i), np.flatnonzero(dealt == i)) for i in range(scoring.inner_folds)]
    return fit(samples.X[rows], y, inner, estimator, scoring.select, samples.preparation)


def _selected_columns(selected: FittedDecoder, fold: int, samples: Samples, scorer: str) -> dict[str, float]:
    scores = selected.scores[fold]
    if len(scores) == 1:
        return {f"selected_{scorer}": float(scores[0])}
    per_class = dict(zip(selected.classes, scores, strict=True))
    return {f"selected_{scorer}": float(np.nanmean(scores))} | {
        f"selected_{scorer}_{file_word(name)}": float(per_class[name]) for name in samples.contrast.classes
    }


def _best_columns(selected: FittedDecoder, fold: int) -> dict[str, object]:
    params = selected.params[fold]
    if len(params) == 1:
        return {f"best_{name}": value for name, value in params[0].items()}
    return {
        f"best_{name}_{file_word(label)}": value
        for label, chosen in zip(selected.classes, params, strict=True)
        for name, value in chosen.items()
    }
