"""The score of every value of a grid that an estimator tried, in every fold."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin

from harness.decoding.choices import Scorer

COLUMNS = ("fold", "class", "parameter", "value", "scorer", "score", "chosen")

DESCRIPTIONS = {
    "inner_neg_log_loss": "mean log-likelihood of the inner folds",
    "left_out_neg_mean_squared_error": "minus the mean squared error of leaving out each training volume",
} | {name: f"{name.replace('_', ' ')} on the held-out fold" for name in Scorer}
"""What each score of a grid is, by its name."""


@dataclass(frozen=True, eq=False)
class TriedValues:
    """The values of a grid that were tried on one fold and problem.

    Attributes
    ----------
    parameter : str
        For example ``C``; of a grid of several parameters all names, as ``C, tol``.
    values : sequence or ndarray of length n_values
        Numbers, or what else a parameter takes; of several parameters, text.
    scorer : str
        What `scores` are. The name of a scorer: of the held-out fold. ``inner_`` or ``left_out_`` before it:
        of volumes inside the training set, by which estimators with a search of their own choose.
    scores : ndarray of shape (n_values,)
        Larger is better.
    chosen : int
        Place of the chosen value.
    """

    parameter: str
    values: Sequence[Any] | np.ndarray
    scorer: str
    scores: np.ndarray
    chosen: int


def record_grid(params: Sequence[Mapping[str, Any]], scorer: str, scores: Sequence[float]) -> TriedValues:
    """Return the parameters that were tried one after the other; of equal scores, the last is chosen.

    Parameters
    ----------
    params : sequence of mapping, one per value
        All with the same names, one or more.
    """
    names = list(params[0])
    if len(names) == 1:
        values = [tried[names[0]] for tried in params]
    else:
        values = [", ".join(f"{name}={tried[name]}" for name in names) for tried in params]
    return TriedValues(", ".join(names), values, scorer, np.array(scores), find_last_best(scores))


def find_last_best(scores: Sequence[float] | np.ndarray) -> int:
    """Return the index of the largest score; of ties the last, as nilearn's Decoder does."""
    best = 0
    for place, score in enumerate(scores):
        if score >= scores[best]:
            best = place
    return best


def read_inner_scores(model: ClassifierMixin) -> TriedValues | None:
    """Return the values of C that a fitted LogisticRegressionCV tried; None for other models."""
    if not hasattr(model, "Cs_") or not hasattr(model, "scores_"):
        return None
    scores = next(iter(model.scores_.values())) if isinstance(model.scores_, dict) else model.scores_
    means = np.mean(scores, axis=0).ravel()
    values = np.ravel(model.Cs_)
    if len(means) != len(values) or not isinstance(model.scoring, str | None):
        return None  # several ratios of penalties, or a score without a name
    chosen = int(np.flatnonzero(values == np.ravel(model.C_)[0])[0])
    return TriedValues("C", values.tolist(), f"inner_{model.scoring or 'accuracy'}", means, chosen)


def tabulate_grid(
    tried: Sequence[Sequence[TriedValues | None]], folds: Sequence[int], classes: Sequence[str]
) -> pd.DataFrame:
    """Return one row per fold, problem and value.

    Parameters
    ----------
    tried : sequence of n_folds sequences of n_problems
        Empty for an engine that does not keep them.
    folds : sequence of int
        Numbers of the folds.
    classes : sequence of str
        The decoder's classes, in its order.

    Returns
    -------
    table : DataFrame with the columns ``fold, class, parameter, value, scorer, score, chosen``
        ``class`` only for more than two classes: the class against the rest. See `TriedValues`.
    """
    table = pd.DataFrame(_iterate_rows(tried, folds, classes), columns=COLUMNS)
    return table.drop(columns="class") if len(classes) == 2 else table


def _iterate_rows(
    tried: Sequence[Sequence[TriedValues | None]], folds: Sequence[int], classes: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    names = [""] if len(classes) == 2 else [str(name) for name in classes]
    for fold, problems in zip(folds, tried, strict=False):  # an engine that keeps none has no folds here
        for name, grid in zip(names, problems, strict=True):
            if grid is None:
                continue
            values = grid.values.tolist() if isinstance(grid.values, np.ndarray) else grid.values
            for place, (value, score) in enumerate(zip(values, grid.scores.tolist(), strict=True)):
                yield fold, name, grid.parameter, value, grid.scorer, score, place == grid.chosen
