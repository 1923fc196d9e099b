"""Cross-validated scores: one row per fold and one per held-out volume.

Two kinds of score have different names. *Selected* scores are nilearn's ``cv_scores_``: the parameters were
chosen on the fold that is scored. *Test* scores come from volumes that took part in no choice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from harness.decoding.choices import InnerFolds, Scorer
from harness.decoding.decoder import FittedDecoder, Folds, fit_decoder
from harness.decoding.estimator import Estimator
from harness.decoding.scores import score_predictions
from harness.decoding.splitters import Scheme, describe_fold, split_samples
from harness.errors import DesignError, UsageError
from harness.samples.contrasts import file_word
from harness.samples.samples import FoldPreprocessing, Samples
from harness.solvers.folds import stratified_fold_ids

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, the steps done and the steps in all."""

INNER_FOLDS = 10  # nilearn's number


@dataclass(frozen=True)
class Scoring:
    """What is scored.

    Attributes
    ----------
    select : str
        Scorer that chooses the estimator's parameters.
    report : tuple of str
        Scorers that are reported for the held-out volumes.
    inner : {"stratified", "runs"}
        Folds that choose parameters inside a training set; see `split_inner`.
    inner_folds : int
        Number of stratified inner folds.
    """

    select: str = "roc_auc"
    report: tuple[str, ...] = tuple(Scorer)
    inner: str = InnerFolds.stratified.value
    inner_folds: int = INNER_FOLDS

    def __post_init__(self) -> None:
        for key, names in (("select", [self.select]), ("report", self.report)):
            unknown = [name for name in names if name not in list(Scorer)]
            if unknown:
                raise UsageError(
                    f"scoring.{key}={unknown[0]!r} is unknown; expected among {', '.join(Scorer)}"
                )
        if not self.report:
            raise UsageError("scoring.report is empty; name at least one scorer, for example, [accuracy]")
        if len(set(self.report)) < len(self.report):
            raise UsageError(f"scoring.report=[{','.join(self.report)}] names a score twice; name each once")
        if self.inner_folds < 2:
            raise UsageError(f"scoring.inner_folds={self.inner_folds} is too few; expected 2 or more")
        if self.inner not in list(InnerFolds):
            raise UsageError(
                f"scoring.inner={self.inner!r} is unknown; expected one of {', '.join(InnerFolds)}"
            )
        if self.inner == InnerFolds.runs and self.inner_folds != INNER_FOLDS:
            raise UsageError(
                f"scoring.inner_folds={self.inner_folds} has no effect with scoring.inner=runs, which makes "
                "one inner fold per scanner run; leave it out, or use scoring.inner=stratified"
            )


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores, predictions and the fitted decoder of one run.

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
        Accuracy of `selected` on the volumes that it was fitted on; no measure of generalisation.
    skipped : DataFrame, one row per fold that was left out
        See `harness.decoding.splitters.Split`; no score counts them.
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
        preparation: FoldPreprocessing,
    ) -> FittedDecoder:
        """Fit the best model of every fold and average them; see `harness.decoding.decoder.fit_decoder`."""
        ...


def evaluate(
    samples: Samples,
    estimator: Estimator,
    scheme: Scheme,
    scoring: Scoring,
    fit: FitDecoder = fit_decoder,
    progress: Progress | None = None,
) -> Evaluation:
    """Compute selected, test and train scores.

    Raises
    ------
    DesignError
        If the scheme does not fit the samples.
    """
    report = progress or (lambda stage, done, total: None)
    split = split_samples(samples, scheme)
    folds = list(split.folds.values())
    report("selected", 0, len(folds) + 1)
    selected = fit(samples.X, samples.y, folds, estimator, scoring.select, samples.preparation)
    rows, predictions = [], []
    for place, (number, (train, test)) in enumerate(split.folds.items()):
        report("test", place + 1, len(folds) + 1)
        decoder = _fit_inner(samples, train, estimator, scoring, fit, f"fold {number} of cv={scheme.name}")
        predicted = predict_volumes(samples, test, decoder, number)
        predictions.append(predicted)
        classes = samples.contrast.classes
        rows.append(
            describe_fold(samples, scheme, number, train, test)
            | _selected_columns(selected, place, samples, scoring.select)
            | {f"test_{name}": score_predictions(predicted, classes, name) for name in scoring.report}
            | _best_columns(selected, place)
        )
    fitted = np.unique(np.concatenate([train for train, _ in folds]))
    right = selected.predict(samples.X) == samples.y
    report("test", len(folds) + 1, len(folds) + 1)
    # One frame of everything: frames of single folds would take longer to make than their decoders.
    columns = {
        name: np.concatenate([predicted[name] for predicted in predictions]) for name in predictions[0]
    }
    return Evaluation(
        selected=selected,
        folds=pd.DataFrame(rows),
        predictions=pd.DataFrame(columns),
        train_accuracy=float(right[fitted].mean()),
        skipped=split.skipped,
    )


def predict_volumes(
    samples: Samples, rows: np.ndarray, decoder: FittedDecoder, fold: int
) -> dict[str, np.ndarray]:
    """Predict some of the samples, together, as nilearn's `Decoder.predict` does.

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


def split_inner(y: np.ndarray, runs: np.ndarray, scoring: Scoring, where: str) -> Folds:
    """Return the folds inside a training set by which parameters are chosen.

    With ``scoring.inner="stratified"`` they are nilearn's: as many volumes of every class in each, without
    regard to scanner runs. With ``"runs"`` each holds one scanner run out. A scanner run that lacks a class,
    such as the remainder of one that the outer scheme has split, is only trained on: its score would be
    undefined.

    Parameters
    ----------
    y : ndarray of shape (n_samples,), str
        Classes of the training set.
    runs : ndarray of shape (n_samples,), int
        Scanner runs of the training set.
    where : str
        The training set in messages, for example ``fold 1 of cv=logo``.

    Returns
    -------
    folds : list of (train, test) index arrays

    Raises
    ------
    DesignError
        If the training set has too few volumes of a class or too few scanner runs, or the training part of an
        inner fold lacks a class.
    """
    if scoring.inner == InnerFolds.runs:
        return _leave_runs_out(y, runs, where)
    names, counts = np.unique(y, return_counts=True)
    if counts.min() < scoring.inner_folds:
        raise DesignError(
            f"{where}: {str(names[counts.argmin()])!r} has {counts.min()} training volumes, fewer than the "
            f"{scoring.inner_folds} inner folds that choose parameters; "
            f"set scoring.inner_folds={max(2, counts.min())} or choose another cv"
        )
    dealt = stratified_fold_ids(y, scoring.inner_folds)
    return [(np.flatnonzero(dealt != i), np.flatnonzero(dealt == i)) for i in range(scoring.inner_folds)]


def _leave_runs_out(y: np.ndarray, runs: np.ndarray, where: str) -> Folds:
    """Return one fold per scanner run that holds every class; see `split_inner`."""
    remedy = "use scoring.inner=stratified or choose another cv"
    classes, codes = np.unique(y, return_inverse=True)
    numbers, places = np.unique(runs, return_inverse=True)
    if len(numbers) < 2:
        raise DesignError(
            f"{where}: scoring.inner=runs needs training volumes of 2 scanner runs or more, but all "
            f"{len(y)} are of run {numbers[0]}; {remedy}"
        )
    counts = np.zeros((len(numbers), len(classes)), dtype=int)
    np.add.at(counts, (places, codes), 1)
    complete = np.flatnonzero((counts > 0).all(axis=1))
    if len(complete) == 0:
        raise DesignError(
            f"{where}: scoring.inner=runs holds one scanner run out at a time, but none of the "
            f"{len(numbers)} in the training set has volumes of all {len(classes)} classes; {remedy}"
        )
    others = counts.sum(axis=0) - counts[complete]
    if not others.all():
        place, lacking = np.argwhere(others == 0)[0]
        raise DesignError(
            f"{where}: scoring.inner=runs: without run {numbers[complete[place]]} the training set has no "
            f"{str(classes[lacking])!r}; {remedy}"
        )
    return [(np.flatnonzero(places != run), np.flatnonzero(places == run)) for run in complete]


def _fit_inner(
    samples: Samples, rows: np.ndarray, estimator: Estimator, scoring: Scoring, fit: FitDecoder, where: str
) -> FittedDecoder:
    """Fit a Decoder on some of the samples, its parameters chosen by folds inside them."""
    y = samples.y[rows]
    inner = split_inner(y, samples.runs[rows], scoring, where)
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
