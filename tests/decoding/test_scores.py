"""Scores against scikit-learn's."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from harness.decoding.choices import Scorer
from harness.decoding.scores import score_decisions, score_predictions

THREE = ["face", "cat", "house"]


def test_scores_of_two_classes_are_scikit_learns(rng):
    true = np.array(["face"] * 12 + ["cat"] * 8)
    decision = rng.normal(size=20) + (true == "face")
    predicted = np.where(decision > 0.2, "face", "cat")
    table = pd.DataFrame({"class": true, "predicted": predicted, "decision_value": decision})
    expected = {
        "accuracy": accuracy_score(true, predicted),
        "balanced_accuracy": balanced_accuracy_score(true, predicted),
        "roc_auc": roc_auc_score((true == "face").astype(int), decision),
    }
    assert {name: score_predictions(table, ("face", "cat"), name) for name in Scorer} == expected
    assert 0.5 < expected["roc_auc"] < 1
    assert expected["accuracy"] != expected["balanced_accuracy"]


def test_scores_of_three_classes_are_scikit_learns(rng):
    true = np.repeat(THREE, [6, 9, 12])
    decision = rng.random((27, 3)) + (true[:, np.newaxis] == np.array(THREE)) * 0.5
    shares = decision / decision.sum(axis=1, keepdims=True)  # scikit-learn wants rows that sum to one
    predicted = np.array(THREE)[shares.argmax(axis=1)]
    columns = {f"decision_value_{name}": shares[:, column] for column, name in enumerate(THREE)}
    table = pd.DataFrame({"class": true, "predicted": predicted} | columns)
    order = np.argsort(THREE)
    expected = {
        "accuracy": accuracy_score(true, predicted),
        "balanced_accuracy": balanced_accuracy_score(true, predicted),
        "roc_auc": roc_auc_score(
            true, shares[:, order], labels=sorted(THREE), multi_class="ovr", average="macro"
        ),
    }
    for name in Scorer:
        assert score_predictions(table, THREE, name) == pytest.approx(expected[name], rel=1e-12)
    assert 0.5 < expected["roc_auc"] < 1


def test_scores_of_decisions_are_scikit_learns(rng):
    y = rng.permutation(np.repeat([-1, 1], [13, 8]))
    decisions = rng.normal(size=(20, 21)).round(1)  # with ties
    decisions[0] = 0.0
    expected = {
        "roc_auc": [roc_auc_score(y, row) for row in decisions],
        "accuracy": [np.mean(np.where(row > 0, 1, -1) == y) for row in decisions],
        "balanced_accuracy": [balanced_accuracy_score(y, np.where(row > 0, 1, -1)) for row in decisions],
    }
    for scorer, scores in expected.items():
        np.testing.assert_allclose(score_decisions(scorer, y, decisions), scores, atol=1e-14)
    assert np.isnan(score_decisions("roc_auc", np.ones(21), decisions)).all()
