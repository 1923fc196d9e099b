"""Accuracy, balanced accuracy and area under the ROC curve.

For decision values of one problem, by which parameters are chosen, and for predicted volumes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from harness.decoding.choices import Scorer
from harness.samples.contrasts import file_word


def balanced_accuracy(right: np.ndarray, members: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean over classes of the share of samples that are right.

    Parameters
    ----------
    right : ndarray of shape (..., n_samples), bool
    members : sequence of ndarray of shape (n_samples,), bool
        The samples of every class; none is empty.

    Returns
    -------
    scores : ndarray of shape (...,)
    """
    return np.mean([right[..., rows].mean(axis=-1) for rows in members], axis=0)


def roc_auc(positive: np.ndarray, decision: np.ndarray) -> float:
    """Return the area under the ROC curve.

    Pairs are counted, a tie as half a pair, so that two decoders that order the samples alike have the same
    area to the last digit, and tie.

    Parameters
    ----------
    positive : ndarray of shape (n_samples,), bool
    decision : ndarray of shape (n_samples,)

    Returns
    -------
    area : float
        NaN if all samples are positive, or none.
    """
    above, below = decision[positive], np.sort(decision[~positive])
    if len(above) == 0 or len(below) == 0:
        return float("nan")
    wins = float((below.searchsorted(above, "left") + below.searchsorted(above, "right")).sum()) / 2
    return wins / (len(above) * len(below))


def score_decisions(scorer: str, y: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """Score decision values as scikit-learn's scorers score a linear classifier.

    Parameters
    ----------
    scorer : {"accuracy", "balanced_accuracy", "roc_auc"}
    y : ndarray of shape (n_samples,)
        Labels of -1 and +1.
    decisions : ndarray of shape (n_decoders, n_samples)
        Above zero means +1.

    Returns
    -------
    scores : ndarray of shape (n_decoders,)
        Areas are NaN where `y` holds one label.
    """
    positive = y > 0
    if scorer == "roc_auc":
        return np.array([roc_auc(positive, decision) for decision in decisions])
    if scorer not in list(Scorer):
        raise ValueError(f"unknown scorer {scorer!r}; expected one of {', '.join(Scorer)}")
    right = (decisions > 0) == positive
    if scorer == "accuracy":
        return right.mean(axis=1)
    return balanced_accuracy(right, [rows for rows in (positive, ~positive) if rows.any()])


def score_predictions(
    predictions: Mapping[str, np.ndarray] | pd.DataFrame, classes: Sequence[str], scorer: str
) -> float:
    """Return the score of predicted volumes.

    Parameters
    ----------
    predictions : mapping of str to ndarray, or DataFrame
        The columns of `Evaluation.predictions`.
    classes : sequence of str
        The contrast's classes, the positive one first.
    scorer : {"accuracy", "balanced_accuracy", "roc_auc"}
        For more than two classes, ``roc_auc`` is the mean of the one-vs-rest areas of the classes that are
        among the predicted volumes.
    """
    # scikit-learn's scorers would spend milliseconds on checking their arguments, in every fold.
    true = np.asarray(predictions["class"], dtype=str)
    present = [name for name in classes if name in true]
    if scorer in ("accuracy", "balanced_accuracy"):
        right = np.asarray(predictions["predicted"], dtype=str) == true
        members = [true == name for name in present]
        return float(right.mean() if scorer == "accuracy" else balanced_accuracy(right, members))
    if scorer != "roc_auc":
        raise ValueError(f"unknown scorer {scorer!r}; expected one of {', '.join(Scorer)}")
    columns = {name: f"decision_value_{file_word(name)}" for name in present}
    if len(classes) == 2:
        columns = {classes[0]: "decision_value"}
    return float(
        np.mean([roc_auc(true == name, np.asarray(predictions[column])) for name, column in columns.items()])
    )


def nominal_chance(score: str, n_classes: int) -> float:
    """Return what is scored without information if all classes have equally many volumes.

    Parameters
    ----------
    score : str
        A score as runs name it, such as ``test_accuracy``: .5 for ROC AUC, also that of
        one class against the rest, else 1 / `n_classes`.
    """
    return 0.5 if "roc_auc" in score else 1 / max(n_classes, 2)
