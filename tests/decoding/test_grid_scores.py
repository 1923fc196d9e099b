"""Scores of every value of a grid against scikit-learn's own models, and optimism."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegressionCV, RidgeClassifierCV
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.svm import LinearSVC, l1_min_c

from harness.datasets.haxby import Haxby
from harness.decoding.decode import decode
from harness.decoding.decoder import fit_decoder
from harness.decoding.estimator import Estimator
from harness.decoding.evaluation import Scoring
from harness.decoding.grid_scores import tabulate_grid
from harness.decoding.question import Question
from harness.decoding.splitters import Scheme
from harness.samples.contrasts import make_contrast
from harness.samples.samples import FoldPreprocessing
from harness.solvers.estimators import (
    ExactLDA,
    ExactLinearSVC,
    ExactLogisticRegressionCV,
    ExactRidgeClassifierCV,
)

RUNS = np.repeat(range(3), 10)
CS = [0.01, 0.1, 1.0]
ALPHAS = [0.1, 10.0, 1000.0]
SVC = Estimator("svc", LinearSVC(random_state=0, max_iter=100_000, tol=1e-8), {"C": CS})
EXACT_SVC = Estimator("svc", ExactLinearSVC(), {"C": CS})
LDA = Estimator("lda", ExactLDA())
DUMMY = Estimator("dummy", DummyClassifier(strategy="stratified", random_state=0))
LOGO = Scheme("logo", LeaveOneGroupOut())


@pytest.fixture
def noise(rng):
    return rng.normal(size=(30, 6)).astype(np.float32), np.tile(np.repeat(["a", "b"], 5), 3)


def tabulate(estimator, X, y, scorer="roc_auc"):
    folds = list(LeaveOneGroupOut().split(X, y, RUNS))
    decoder = fit_decoder(X, y, folds, estimator, scorer, FoldPreprocessing())
    return tabulate_grid(decoder.tried, [1, 2, 3], list(decoder.classes)), decoder


def iterate_folds(X, y):
    for train, test in LeaveOneGroupOut().split(X, y, RUNS):
        yield X[train].astype(float), y[train] == "b", X[test].astype(float), y[test] == "b"


@pytest.mark.parametrize("estimator", [SVC, EXACT_SVC], ids=["liblinear", "exact"])
@pytest.mark.parametrize("scorer", ["roc_auc", "accuracy"])
def test_scores_of_every_c_are_those_of_scikit_learn_on_the_held_out_fold(noise, estimator, scorer):
    table, decoder = tabulate(estimator, *noise, scorer)
    expected = []
    for X_train, y_train, X_test, y_test in iterate_folds(*noise):
        for C in CS:
            decision = LinearSVC(C=C, tol=1e-8, max_iter=100_000).fit(X_train, y_train)
            decision = decision.decision_function(X_test)
            expected.append(
                roc_auc_score(y_test, decision)
                if scorer == "roc_auc"
                else accuracy_score(y_test, decision > 0)
            )
    assert table.columns.tolist() == ["fold", "parameter", "value", "scorer", "score", "chosen"]
    assert table["fold"].tolist() == np.repeat([1, 2, 3], 3).tolist()
    assert table["value"].tolist() == CS * 3
    assert set(table["parameter"]) == {"C"}
    assert set(table["scorer"]) == {scorer}
    np.testing.assert_allclose(table["score"], expected, rtol=0, atol=1e-15)
    chosen = table[table["chosen"]]
    assert chosen["value"].tolist() == [problems[0]["C"] for problems in decoder.params]
    assert chosen["score"].tolist() == decoder.scores[:, 0].tolist()


def test_of_tied_values_the_last_is_chosen_and_the_tie_is_in_the_table(noise):
    X, y = noise
    table, _ = tabulate(EXACT_SVC, X + np.where(y == "a", 9, 0)[:, np.newaxis], y)
    assert table["score"].tolist() == [1.0] * 9
    assert table["chosen"].tolist() == [False, False, True] * 3


def test_logistic_regression_keeps_the_log_likelihood_of_its_inner_folds(noise):
    search = LogisticRegressionCV(
        Cs=CS,
        cv=5,
        l1_ratios=(0,),
        solver="liblinear",
        scoring="neg_log_loss",
        tol=1e-8,
        use_legacy_attributes=False,
        random_state=0,
    )
    expected = [clone(search).fit(X, y) for X, y, *_ in iterate_folds(*noise)]
    for model in (ExactLogisticRegressionCV(CS, cv=5), search):
        table, _ = tabulate(Estimator("logistic", model), *noise)
        assert set(table["scorer"]) == {"inner_neg_log_loss"}
        scores = table["score"].to_numpy().reshape(3, 3)
        np.testing.assert_allclose(scores, [e.scores_.mean(axis=0)[0] for e in expected], rtol=0, atol=2e-6)
        assert table[table["chosen"]]["value"].tolist() == [e.C_ for e in expected]


def test_ridge_keeps_its_leave_one_out_errors(noise):
    table, _ = tabulate(Estimator("ridge", ExactRidgeClassifierCV(ALPHAS)), *noise)
    expected = [
        RidgeClassifierCV(alphas=ALPHAS, store_cv_results=True).fit(X, y)
        for X, y, *_ in iterate_folds(*noise)
    ]
    assert set(table["parameter"]) == {"alpha"}
    assert set(table["scorer"]) == {"left_out_neg_mean_squared_error"}
    errors = [model.cv_results_.mean(axis=0).ravel() for model in expected]
    np.testing.assert_allclose(-table["score"].to_numpy().reshape(3, 3), errors, rtol=1e-10)
    assert table[table["chosen"]]["value"].tolist() == [model.alpha_ for model in expected]


def test_multiples_of_the_smallest_c_are_kept_as_values_of_c(noise):
    model = LinearSVC(penalty="l1", dual=False, random_state=0, max_iter=10_000)
    table, _ = tabulate(Estimator("svc_l1", model, {"C": {"times_l1_min_c": [2, 20]}}), *noise)
    smallest = [l1_min_c(X, y, loss="squared_hinge") for X, y, *_ in iterate_folds(*noise)]
    np.testing.assert_allclose(table["value"], np.outer(smallest, [2, 20]).ravel(), rtol=1e-12)


@pytest.mark.parametrize("estimator", [SVC, EXACT_SVC], ids=["liblinear", "exact"])
def test_three_classes_have_rows_of_every_class_against_the_rest(noise, estimator):
    X, y = noise[0], np.tile(["b", "c", "a", "c", "b"], 6)
    table, decoder = tabulate(estimator, X, y)
    assert len(table) == 3 * 3 * len(CS)
    assert table["class"].tolist() == np.tile(np.repeat(["a", "b", "c"], 3), 3).tolist()
    best = table[table["chosen"]]["score"].to_numpy().reshape(3, 3)
    np.testing.assert_array_equal(best, decoder.scores)
    train, test = next(LeaveOneGroupOut().split(X, y, RUNS))
    model = LinearSVC(C=0.1, tol=1e-8, max_iter=100_000).fit(X[train].astype(float), y[train] == "c")
    expected = roc_auc_score(y[test] == "c", model.decision_function(X[test].astype(float)))
    (row,) = table.query("fold == 1 and `class` == 'c' and value == 0.1").to_dict("records")
    assert row["score"] == pytest.approx(expected, abs=1e-15)


def test_grid_of_several_parameters_is_named_in_full(noise):
    model = LinearSVC(random_state=0, max_iter=100_000)
    table, _ = tabulate(Estimator("svc", model, {"C": [0.1], "class_weight": [None, "balanced"]}), *noise)
    assert table["parameter"].unique().tolist() == ["C, class_weight"]
    assert table["value"].tolist() == ["C=0.1, class_weight=None", "C=0.1, class_weight=balanced"] * 3


@pytest.mark.parametrize("estimator", [LDA, DUMMY], ids=["lda", "dummy"])
def test_estimators_that_try_nothing_have_an_empty_table(noise, estimator):
    table, _ = tabulate(estimator, *noise)
    assert table.empty
    assert "score" in table


def test_screened_folds_keep_their_scores(rng):
    X, y = rng.normal(size=(30, 120)).astype(np.float32), np.tile(["a", "b"], 15)
    folds = list(LeaveOneGroupOut().split(X, y, RUNS))
    decoder = fit_decoder(X, y, folds, EXACT_SVC, "roc_auc", FoldPreprocessing("train", 10))
    table = tabulate_grid(decoder.tried, [1, 2, 3], ["a", "b"])
    assert table[table["chosen"]]["score"].tolist() == decoder.scores[:, 0].tolist()


# In a run ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recording(tiny_subject):
    return Haxby(tiny_subject()).load(1)


def decode_recording(recording, estimator, conditions=("face", "cat"), scoring=None, engine="harness"):
    scoring = scoring or Scoring(inner_folds=2)
    question = Question(make_contrast(list(conditions)), estimator, LOGO, scoring=scoring, engine=engine)
    return decode(recording, question)


def test_a_run_has_the_scores_of_its_folds(recording):
    decoding = decode_recording(recording, EXACT_SVC)
    chosen = decoding.grid_scores.query("chosen")
    pd.testing.assert_series_equal(
        chosen["score"].reset_index(drop=True), decoding.folds["selected_roc_auc"], check_names=False
    )
    assert chosen["fold"].tolist() == decoding.folds["fold"].tolist()


def test_nilearns_engine_keeps_only_the_best_score(recording):
    assert decode_recording(recording, SVC, engine="nilearn").grid_scores.empty


def test_optimism_is_the_difference_of_the_means_of_the_scorer_that_selects(recording):
    decoding = decode_recording(recording, EXACT_SVC, scoring=Scoring(select="accuracy", inner_folds=2))
    expected = decoding.folds["selected_accuracy"].mean() - decoding.folds["test_accuracy"].mean()
    assert decoding.optimism == {"optimism_accuracy": pytest.approx(expected, abs=1e-15)}
    (line,) = decoding.describe_optimism()
    assert line.startswith(
        f"optimism_accuracy {expected:+.3f} (selected minus test; above 0, the score gains"
    )
    (line,) = decode_recording(recording, LDA).describe_optimism()
    assert line.endswith("(selected minus test; nothing was chosen on the scored fold)")


def test_scores_that_do_not_compare_have_no_optimism(recording):
    """A selected accuracy of one class against the rest has another chance level than a test accuracy."""
    three = ("face", "cat", "house")
    by_accuracy = Scoring(select="accuracy", inner_folds=2)
    assert decode_recording(recording, LDA, three, by_accuracy).optimism == {}
    assert (
        decode_recording(recording, LDA, scoring=Scoring(report=("accuracy",), inner_folds=2)).optimism == {}
    )
    assert list(decode_recording(recording, LDA, three).optimism) == ["optimism_roc_auc"]
