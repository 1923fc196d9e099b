"""Scores of many labellings equal those of decoding, one labelling after the other."""

import numpy as np
import pytest

from harness.decoding.scores import score_predictions
from harness.searchlight import fold_scores
from harness.searchlight.fold_scores import plan_fold

TRAIN, TEST = np.arange(12, 36), np.arange(12)
SCORERS = ["accuracy", "balanced_accuracy", "roc_auc"]


def draw_codes(rng, n_classes, n_labellings, *, blocks):
    """Return labellings that exchange blocks of 4 volumes, or single volumes, within thirds."""
    length = 4 if blocks else 1
    rows = []
    for _ in range(n_labellings):
        parts = [rng.permutation(np.arange(12 // length) % n_classes).repeat(length) for _ in range(3)]
        rows.append(np.concatenate(parts))
    return np.array(rows)


def draw_decisions(rng, fold, n_spheres=3):
    """Return decision values with ties between samples, and values of 0."""
    return rng.integers(-3, 4, size=(len(TEST), n_spheres, fold.training.shape[1])) / 2.0


def decisions_of(fold, decisions, labelling, n_classes):
    """Return the decision values of one labelling, (n_test, n_spheres, n_problems)."""
    n_problems = 1 if n_classes == 2 else n_classes
    which = np.arange(labelling * n_problems, (labelling + 1) * n_problems)
    signs = np.where(fold.opposite[which], -1.0, 1.0)
    return decisions[:, :, fold.place[which]] * signs


def score_one(scorer, true, values):
    """Return the score of one sphere under one labelling as decoding computes it."""
    n_classes = max(values.shape[1], 2)
    names = np.array([f"class{code}" for code in range(n_classes)])
    if n_classes == 2:
        predicted = names[(values[:, 0] > 0).astype(int)]
        # The first class of a contrast is the positive one; decision values point to the second in our order.
        table = {"class": names[true], "predicted": predicted, "decision_value": values[:, 0]}
        return score_predictions(table, ["class1", "class0"], scorer)
    table = {"class": names[true], "predicted": names[values.argmax(axis=1)]}
    table |= {f"decision_value_{name}": column for name, column in zip(names, values.T, strict=True)}
    return score_predictions(table, names.tolist(), scorer)


def mean_difference(true, values):
    """Return half the difference of the labels' mean decision values, the mean over problems."""
    codes = [1] if values.shape[1] == 1 else range(values.shape[1])
    differences = []
    for code, column in zip(codes, values.T, strict=True):
        if 0 < (true == code).sum() < len(true):
            differences.append((column[true == code].mean() - column[true != code].mean()) / 2)
    return np.mean(differences)


@pytest.mark.parametrize("compares", [True, False], ids=["pairs are compared", "samples are ranked"])
@pytest.mark.parametrize("blocks", [True, False], ids=["blocks", "volumes"])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("statistic", [*SCORERS, "decision_value"])
def test_scores_are_those_of_single_labellings(rng, monkeypatch, statistic, n_classes, blocks, compares):
    monkeypatch.setattr(fold_scores, "FEW_COLUMNS", 1e-3 if compares else 1e6)
    codes = draw_codes(rng, n_classes, 40, blocks=blocks)
    fold = plan_fold(codes, n_classes, TRAIN, TEST)
    assert bool(fold.groups) == compares
    decisions = draw_decisions(rng, fold)
    found = fold.score(statistic, decisions)
    for labelling, true in enumerate(codes[:, TEST]):
        values = decisions_of(fold, decisions, labelling, n_classes)
        for sphere in range(3):
            one = values[:, sphere]
            expected = (
                mean_difference(true, one)
                if statistic == "decision_value"
                else score_one(statistic, true, one)
            )
            assert found[sphere, labelling] == pytest.approx(expected, rel=0, abs=1e-15)


def test_classes_that_are_not_held_out_do_not_count(rng):
    codes = np.tile(np.r_[np.repeat([0, 1], 6), np.arange(24) % 3], (5, 1))
    fold = plan_fold(codes, 3, TRAIN, TEST)
    decisions = rng.normal(size=(12, 2, 15))
    for statistic in SCORERS:
        found = fold.score(statistic, decisions)
        for sphere, labelling in np.ndindex(2, 5):
            values = decisions_of(fold, decisions, labelling, 3)[:, sphere]
            expected = score_one(statistic, codes[labelling, TEST], values)
            assert found[sphere, labelling] == pytest.approx(expected, rel=0, abs=1e-15)


def test_many_held_out_samples_are_scored_alike(rng, monkeypatch):
    """More pairs than are compared are ranked, with the same areas."""
    codes = draw_codes(rng, 2, 60, blocks=True)
    monkeypatch.setattr(fold_scores, "FEW_COLUMNS", 1e-3)
    fold = plan_fold(codes, 2, TRAIN, TEST)
    decisions = draw_decisions(rng, fold)
    monkeypatch.setattr(fold_scores, "MAX_PAIRS", 3)
    ranked = plan_fold(codes, 2, TRAIN, TEST)
    assert fold.groups
    assert not ranked.groups
    assert np.array_equal(fold.score("roc_auc", decisions), ranked.score("roc_auc", decisions))


def test_mirrored_labellings_tie_exactly(rng):
    """Mirrored training labels change the sign of every decision value, mirrored test labels the outcome."""
    codes = draw_codes(rng, 2, 50, blocks=True)
    fold = plan_fold(np.concatenate([codes, 1 - codes]), 2, TRAIN, TEST)
    decisions = rng.normal(size=(12, 4, fold.training.shape[1]))
    for statistic in (*SCORERS, "decision_value"):
        found = fold.score(statistic, decisions)
        assert np.array_equal(found[:, :50], found[:, 50:])


@pytest.mark.parametrize("statistic", [*SCORERS, "decision_value"])
def test_scores_of_a_sphere_do_not_depend_on_the_others(rng, statistic):
    codes = draw_codes(rng, 2, 1, blocks=True)
    fold = plan_fold(codes, 2, TRAIN, TEST)
    decisions = rng.normal(size=(12, 7, 1))
    together = fold.score(statistic, decisions)
    for sphere in range(7):
        alone = fold.score(statistic, np.ascontiguousarray(decisions[:, sphere : sphere + 1]))
        assert np.array_equal(alone[0], together[sphere])
