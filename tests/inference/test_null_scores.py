"""Relabellings solved together, against the repeated analysis."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import KFold, LeaveOneGroupOut, StratifiedKFold

from harness.decoding.estimator import Estimator
from harness.decoding.evaluation import Scoring
from harness.decoding.question import Question
from harness.decoding.splitters import HoldOutLast, Scheme
from harness.errors import DesignError
from harness.inference import batched_scores
from harness.inference.null_scores import RelabelledAnalysis
from harness.inference.relabelling import plan_relabellings
from harness.inference.settings import PermutationSettings
from harness.samples.samples import FoldPreprocessing
from harness.solvers.estimators import (
    ExactLDA,
    ExactLinearSVC,
    ExactLogisticRegressionCV,
    ExactRidgeClassifierCV,
)

SVC = Estimator("svc", ExactLinearSVC(), {"C": [0.1, 1, 10]})
ESTIMATORS = [
    SVC,
    Estimator("ridge", ExactRidgeClassifierCV()),
    Estimator("lda", ExactLDA()),
    pytest.param(
        Estimator("logistic", ExactLogisticRegressionCV(Cs=(0.1, 10), cv=3)), marks=pytest.mark.slow
    ),
]
LOGO = Scheme("logo", LeaveOneGroupOut())
TWO = ["AB", "BA", "AB", "BA", "AB", "BA"]
THREE = ["ABC", "BCA", "CAB", "ACB", "BAC"]
INNER_RUNS = Scoring(inner="runs")


def ask(samples, estimator=SVC, scheme=LOGO, scoring=INNER_RUNS):
    return Question(samples.contrast, estimator, scheme, scoring=scoring)


def compare(samples, question, rows=range(6)):
    """Return the scores of both ways, after checking that the first one is batched."""
    settings = PermutationSettings(force=True, limit=60, n=20)
    relabellings = plan_relabellings(samples, settings)
    together = RelabelledAnalysis(samples, question)
    assert together.is_batched
    found = together.compute(relabellings, rows)
    expected = RelabelledAnalysis(samples, question, batched=False).compute(relabellings, rows)
    assert found.scores.shape == (len(rows), len(together.columns))
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.decisions, expected.decisions, rtol=0, atol=1e-9)
    return found


@pytest.mark.parametrize("zscore", ["own", "train", None])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=["svc", "ridge", "lda", "logistic"])
def test_relabellings_solved_together_score_as_one_by_one(make_design, estimator, zscore):
    samples = make_design(TWO, 4, n_voxels=12, preparation=FoldPreprocessing(zscore=zscore))
    compare(samples, ask(samples, estimator), range(3))


@pytest.mark.parametrize("zscore", [pytest.param("own", marks=pytest.mark.slow), "train"])
def test_several_classes_solved_together_score_as_one_by_one(make_design, zscore):
    samples = make_design(THREE, 4, n_voxels=12, preparation=FoldPreprocessing(zscore=zscore))
    found = compare(samples, ask(samples), range(3))
    assert found.decisions.shape[1] == 3


@pytest.mark.parametrize(
    "scheme",
    [
        Scheme("kfold", KFold(3)),
        Scheme("holdout", HoldOutLast(10)),
        Scheme("mixed", KFold(3, shuffle=True, random_state=1)),
    ],
    ids=lambda scheme: scheme.name,
)
def test_other_schemes_solved_together_score_as_one_by_one(make_design, scheme):
    samples = make_design(TWO, 4, n_voxels=12, preparation=FoldPreprocessing(zscore="own"))
    compare(samples, ask(samples, scheme=scheme), range(4))


@pytest.mark.parametrize("select", ["accuracy", pytest.param("balanced_accuracy", marks=pytest.mark.slow)])
def test_other_scorers_choose_the_same_parameters(make_design, select):
    samples = make_design(TWO, 5, n_voxels=12)
    compare(
        samples, ask(samples, scoring=Scoring(select=select, inner="runs", report=("accuracy",))), range(3)
    )


def test_fewer_voxels_than_samples_are_solved_together(make_design):
    samples = make_design(TWO, 8, n_voxels=3)
    compare(samples, ask(samples), range(3))


def test_little_memory_gives_the_same_scores(make_design, monkeypatch):
    samples = make_design(TWO, 4, n_voxels=12)
    expected = compare(samples, ask(samples), range(4))
    monkeypatch.setattr(batched_scores, "MEMORY", 40_000)
    found = RelabelledAnalysis(samples, ask(samples)).compute(
        plan_relabellings(samples, PermutationSettings(force=True)), range(4)
    )
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-12)


def test_relabellings_that_change_the_folds_are_computed_by_themselves(make_design):
    # The last two blocks are held out, which are of one class in some relabellings.
    samples = make_design(["AABB", "BBAA", "BAAB"], 2, n_voxels=9)
    scheme = Scheme("holdout", HoldOutLast(4))
    relabellings = plan_relabellings(samples, PermutationSettings(force=True))
    ends = [len(set(relabellings.labels(i)[-4:].tolist())) for i in range(len(relabellings))]
    assert ends[0] == 2
    incomplete = ends.index(1)
    analysis = RelabelledAnalysis(samples, ask(samples, scheme=scheme))
    with pytest.raises(DesignError, match=rf"relabelling {incomplete} .*cv\.incomplete=skip"):
        analysis.compute(relabellings, range(len(relabellings)))
    complete = [i for i, n_classes in enumerate(ends) if n_classes == 2]
    compare(samples, ask(samples, scheme=scheme), complete[:5])


def test_folds_that_some_relabellings_lack_are_left_out_of_their_mean(make_design):
    samples = make_design(["AABB", "BBAA", "BAAB"], 2, n_voxels=9)
    question = ask(samples, scheme=Scheme("kfold", KFold(5), incomplete="skip"))
    relabellings = plan_relabellings(samples, PermutationSettings(force=True))
    alone = [i for i in range(len(relabellings)) if len(set(relabellings.labels(i)[-4:].tolist())) == 1]
    found = compare(samples, question, [0, alone[0], 1])
    assert np.isfinite(found.scores).all()


@pytest.mark.parametrize(
    ("change", "batched"),
    [
        ({}, True),
        ({"scoring": Scoring(inner_folds=2)}, False),
        ({"scheme": Scheme("stratified", StratifiedKFold(3))}, False),
        ({"scheme": Scheme("random", KFold(3, shuffle=True))}, False),
        ({"estimator": Estimator("sklearn", RidgeClassifier())}, False),
    ],
)
def test_what_depends_on_labels_is_repeated(make_design, change, batched):
    samples = make_design(TWO, 4, n_voxels=12)
    assert RelabelledAnalysis(samples, ask(samples, **change)).is_batched is batched


def test_screening_is_repeated(make_design):
    samples = make_design(TWO, 4, n_voxels=120, preparation=FoldPreprocessing(screening_percentile=50))
    assert not RelabelledAnalysis(samples, ask(samples)).is_batched
    few = make_design(TWO, 4, n_voxels=100, preparation=FoldPreprocessing(screening_percentile=50))
    assert RelabelledAnalysis(few, ask(few)).is_batched


class FirstClassRidge(RidgeClassifier):
    """A ridge classifier whose intercept favours the first class."""

    def fit(self, X, y):
        super().fit(X, y)
        self.intercept_ = self.intercept_ - 0.4
        return self


@pytest.mark.parametrize(("model", "alike"), [(RidgeClassifier(), True), (FirstClassRidge(), False)])
def test_estimators_that_favour_a_class_are_found(make_design, model, alike):
    samples = make_design(TWO, 4, n_voxels=12)
    question = ask(samples, Estimator("own", model), scoring=Scoring(inner_folds=2))
    relabellings = plan_relabellings(samples, PermutationSettings(force=True))
    assert RelabelledAnalysis(samples, question).treats_classes_alike(relabellings) is alike


@pytest.mark.slow
@pytest.mark.parametrize("zscore", ["own", "run", "train"])
@pytest.mark.parametrize("estimator", ["svc", "ridge", "lda"])
def test_real_relabellings_solved_together_score_as_one_by_one(load_real, estimator, zscore):
    samples, question = load_real(estimator, zscore)
    relabellings = plan_relabellings(samples, PermutationSettings())
    rows = [0, 1, 1000, 2047]
    found = RelabelledAnalysis(samples, question).compute(relabellings, rows)
    expected = RelabelledAnalysis(samples, question, batched=False).compute(relabellings, rows)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.decisions, expected.decisions, rtol=0, atol=1e-9)
