"""Scores of many labellings at once, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from harness.inference.score_arrays import find_last_best, score_class_arrays, score_decision_arrays

SCORES = {
    "accuracy": accuracy_score,
    "balanced_accuracy": balanced_accuracy_score,
}


@pytest.mark.parametrize("scorer", ["accuracy", "balanced_accuracy", "roc_auc"])
def test_decision_values_score_as_in_scikit_learn(rng, scorer):
    positive = rng.random((5, 12)) < 0.4
    positive[:, 0], positive[:, 1] = True, False
    decisions = rng.integers(-3, 4, (2, 5, 12)).astype(float)  # with ties
    found = score_decision_arrays(scorer, positive, decisions)
    for i, j in np.ndindex(2, 5):
        if scorer == "roc_auc":
            expected = roc_auc_score(positive[j], decisions[i, j])
        else:
            expected = SCORES[scorer](positive[j], decisions[i, j] > 0)
        assert found[i, j] == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("scorer", ["accuracy", "balanced_accuracy", "roc_auc"])
def test_several_classes_score_as_in_scikit_learn(rng, scorer):
    codes = np.array([rng.permutation([0, 0, 1, 1, 1, 2, 2, 3]) for _ in range(6)])
    decisions = rng.normal(size=(6, 4, 8))
    found = score_class_arrays(scorer, codes, decisions, 4)
    for row in range(6):
        if scorer == "roc_auc":
            expected = np.mean([roc_auc_score(codes[row] == k, decisions[row, k]) for k in range(4)])
        else:
            expected = SCORES[scorer](codes[row], decisions[row].argmax(axis=0))
        assert found[row] == pytest.approx(expected, abs=1e-15)


def test_an_area_without_both_classes_is_undefined():
    found = score_decision_arrays("roc_auc", np.array([[True, True], [True, False]]), np.ones((2, 2)))
    assert np.isnan(found[0])
    assert found[1] == 0.5


def test_classes_without_samples_do_not_count(rng):
    codes, decisions = np.array([[0, 2, 0, 2]]), rng.normal(size=(1, 3, 4))
    expected = np.mean([roc_auc_score(codes[0] == k, decisions[0, k]) for k in (0, 2)])
    assert score_class_arrays("roc_auc", codes, decisions, 3)[0] == pytest.approx(expected)


def test_of_equal_scores_the_last_is_best():
    scores = np.array([[0.5, 0.9, 0.7, np.nan], [0.8, 0.9, 0.6, np.nan], [0.8, 0.1, 0.7, np.nan]])
    assert find_last_best(scores).tolist() == [2, 1, 2, 0]
