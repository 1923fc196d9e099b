"""Scores of many decoders under many labellings at once; each equals that of `harness.decoding.scores`."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from harness.decoding.choices import Scorer

Array = NDArray[np.float64]


def roc_auc_arrays(positive: NDArray[np.bool_], decisions: Array) -> Array:
    """Return areas under ROC curves; half-integer counts of pairs, so that equal orders of samples tie.

    Parameters
    ----------
    positive : ndarray of shape (..., n_samples), bool
    decisions : ndarray of shape (..., n_samples)

    Returns
    -------
    areas : ndarray of shape (...,)
        NaN where all samples are positive, or none.
    """
    n_positive = positive.sum(axis=-1)
    n_pairs = n_positive * (positive.shape[-1] - n_positive)
    # The sum of the ranks of n samples alone is n (n + 1) / 2; what exceeds it are pairs that are won.
    ranks = np.where(positive, rankdata(decisions, axis=-1), 0.0).sum(axis=-1)
    wins = ranks - n_positive * (n_positive + 1) / 2
    return np.where(n_pairs > 0, wins / np.maximum(n_pairs, 1), np.nan)


def accuracy_arrays(right: NDArray[np.bool_]) -> Array:
    """Return the share of samples that are right, over the last axis."""
    return right.mean(axis=-1)


def balanced_accuracy_arrays(right: NDArray[np.bool_], codes: NDArray[np.intp], n_classes: int) -> Array:
    """Return the mean over classes of the share of samples that are right.

    Parameters
    ----------
    right : ndarray of shape (..., n_samples), bool
    codes : ndarray of shape (..., n_samples), int
        Class of every sample; classes without samples do not count.
    """
    total = np.zeros(np.broadcast_shapes(right.shape, codes.shape)[:-1])
    n_present = np.zeros(total.shape)
    for code in range(n_classes):
        members = codes == code
        n_members = members.sum(axis=-1)
        total = total + (right & members).sum(axis=-1) / np.maximum(n_members, 1)
        n_present = n_present + (n_members > 0)
    return total / n_present


def score_decision_arrays(scorer: str, positive: NDArray[np.bool_], decisions: Array) -> Array:
    """Return scores of decision values of one problem; see `harness.decoding.scores.score_decisions`.

    Parameters
    ----------
    scorer : {"accuracy", "balanced_accuracy", "roc_auc"}
    positive : ndarray of shape (..., n_samples), bool
    decisions : ndarray of shape (..., n_samples)
        Above zero means positive.
    """
    positive = np.broadcast_to(positive, decisions.shape)
    if scorer == Scorer.roc_auc:
        return roc_auc_arrays(positive, decisions)
    right = (decisions > 0) == positive
    if scorer == Scorer.accuracy:
        return accuracy_arrays(right)
    return balanced_accuracy_arrays(right, positive.astype(np.intp), 2)


def score_class_arrays(scorer: str, codes: NDArray[np.intp], decisions: Array, n_classes: int) -> Array:
    """Return scores of predicted samples; see `harness.decoding.scores.score_predictions`.

    Parameters
    ----------
    scorer : {"accuracy", "balanced_accuracy", "roc_auc"}
    codes : ndarray of shape (n_labellings, n_samples), int
        Class of every sample.
    decisions : ndarray of shape (n_labellings, n_problems, n_samples)
        One problem for two classes, above zero for the second; else one per class.
    """
    if n_classes == 2:
        return score_decision_arrays(scorer, codes == 1, decisions[:, 0])
    if scorer != Scorer.roc_auc:
        right = decisions.argmax(axis=1) == codes
        if scorer == Scorer.accuracy:
            return accuracy_arrays(right)
        return balanced_accuracy_arrays(right, codes, n_classes)
    members = codes[:, np.newaxis] == np.arange(n_classes)[:, np.newaxis]
    areas = roc_auc_arrays(members, decisions)
    present = members.any(axis=-1)
    return np.where(present, areas, 0.0).sum(axis=1) / present.sum(axis=1)


def find_last_best(scores: Array) -> NDArray[np.intp]:
    """Return the index along the first axis of the largest score; of ties the last."""
    best = np.zeros(scores.shape[1:], dtype=np.intp)
    highest = scores[0]
    for place in range(1, len(scores)):
        reached = scores[place] >= highest
        best = np.where(reached, place, best)
        highest = np.where(reached, scores[place], highest)
    return best
