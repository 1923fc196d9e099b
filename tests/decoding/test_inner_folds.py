"""The folds inside a training set, against scikit-learn's splitters, and what is refused."""

import numpy as np
import pytest
from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold
from sklearn.svm import LinearSVC

from harness.decoding.decoder import fit_decoder
from harness.decoding.estimator import Estimator
from harness.decoding.evaluation import Scoring, evaluate, split_inner
from harness.decoding.splitters import Scheme
from harness.errors import DesignError, UsageError
from harness.samples.contrasts import make_contrast

RUNS = Scoring(inner="runs")
TWO = ["face", "cat"]


def as_lists(folds):
    return [(train.tolist(), test.tolist()) for train, test in folds]


def test_inner_folds_by_run_are_scikit_learns_leave_one_group_out(rng):
    runs = rng.permutation(np.repeat([3, 5, 11, 2], 10))
    y = np.tile(["a", "b", "c", "a", "b"], 8)[np.argsort(np.argsort(runs, kind="stable"))]
    expected = LeaveOneGroupOut().split(y, y, runs)
    assert as_lists(split_inner(y, runs, RUNS, "here")) == as_lists(expected)


def test_stratified_inner_folds_are_scikit_learns(rng):
    y = rng.permutation(np.repeat(TWO, [20, 31]))
    expected = StratifiedKFold(7).split(y, y)
    folds = split_inner(y, np.zeros(51, dtype=int), Scoring(inner_folds=7), "here")
    assert as_lists(folds) == as_lists(expected)


def test_run_without_every_class_is_trained_on_and_never_held_out():
    # The outer fold has taken the faces of run 2, as kfold5 does where it splits a scanner run.
    runs, y = np.repeat([0, 1, 2], [4, 4, 2]), np.array([*TWO, *TWO, *TWO, *TWO, "cat", "cat"])
    folds = split_inner(y, runs, RUNS, "here")
    assert [set(runs[test]) for _, test in folds] == [{0}, {1}]
    assert [set(runs[train]) for train, _ in folds] == [{1, 2}, {0, 2}]


@pytest.mark.parametrize(
    ("y", "runs", "words"),
    [
        (TWO * 4, [7] * 8, ["needs training volumes of 2 scanner runs or more", "all 8 are of run 7"]),
        (["face"] * 4 + ["cat"] * 4, [0] * 4 + [1] * 4, ["none of the 2", "all 2 classes"]),
        (TWO * 2 + ["cat"] * 4, [0] * 4 + [1] * 4, ["without run 0", "has no 'face'"]),
    ],
)
def test_training_set_that_runs_cannot_divide_is_refused(y, runs, words):
    with pytest.raises(DesignError) as raised:
        split_inner(np.array(y), np.array(runs), RUNS, "fold 3 of cv=logo")
    for word in ["fold 3 of cv=logo", *words, "use scoring.inner=stratified"]:
        assert word in str(raised.value), word


def test_values_of_c_are_chosen_by_the_scanner_runs_inside_the_training_set(make_samples, rng):
    """The chosen C and the test predictions, with scikit-learn in plain loops."""
    y = np.tile(np.repeat(TWO, 3), 4)
    X = rng.normal(size=(24, 6)) + np.where(y == "face", 0.4, -0.4)[:, np.newaxis]
    samples = make_samples(X, y, np.repeat(range(4), 6), make_contrast(TWO))
    estimator = Estimator("svc", LinearSVC(random_state=0, max_iter=100_000), {"C": [0.001, 0.1, 10.0]})
    decoders = []

    def spy(*arguments):
        decoders.append(fit_decoder(*arguments))
        return decoders[-1]

    scoring = Scoring(select="accuracy", report=("accuracy",), inner="runs")
    evaluation = evaluate(samples, estimator, Scheme("logo", LeaveOneGroupOut()), scoring, spy)
    X = samples.X.astype(float)
    for held_out in range(4):
        outer = samples.runs != held_out
        models = []
        for inner in sorted(set(range(4)) - {held_out}):
            train, test = outer & (samples.runs != inner), samples.runs == inner
            tried = [
                LinearSVC(C=C, random_state=0, max_iter=100_000).fit(X[train], y[train] == "face")
                for C in (0.001, 0.1, 10.0)
            ]
            scores = [model.score(X[test], y[test] == "face") for model in tried]
            models.append(tried[max(place for place in range(3) if scores[place] == max(scores))])
        decision = X[~outer] @ np.mean([model.coef_[0] for model in models], axis=0)
        decision += np.mean([model.intercept_[0] for model in models])
        assert [fold[0]["C"] for fold in decoders[held_out + 1].params] == [model.C for model in models]
        predicted = evaluation.predictions.query(f"fold == {held_out + 1}")["decision_value"]
        np.testing.assert_allclose(predicted, decision, rtol=1e-12, atol=1e-13)


def test_number_of_inner_folds_has_no_effect_on_folds_by_run():
    with pytest.raises(UsageError, match=r"scoring\.inner_folds=5 has no effect with scoring\.inner=runs"):
        Scoring(inner="runs", inner_folds=5)
    with pytest.raises(UsageError, match=r"scoring\.inner='run' is unknown; expected.* stratified, runs"):
        Scoring(inner="run")
