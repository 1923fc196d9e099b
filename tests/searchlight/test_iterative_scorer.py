"""Scores of svc and logistic spheres, against single decoders of every fold and labelling."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import clone

from harness.decoding.estimator import Estimator
from harness.decoding.scores import roc_auc
from harness.decoding.splitters import split_samples
from harness.errors import DesignError
from harness.samples.samples import FoldPreprocessing
from harness.searchlight.iterative_scorer import TOGETHER_UP_TO
from harness.searchlight.scorers import make_scorer
from harness.searchlight.settings import Searchlight
from harness.searchlight.spheres import Spheres
from harness.solvers.estimators import ExactLinearSVC, ExactLogisticRegressionCV

MODELS = {
    "svc": ExactLinearSVC(C=0.5),
    "logistic": ExactLogisticRegressionCV([0.5]),
    "logistic that chooses C": ExactLogisticRegressionCV([1e-3, 1e-1, 10.0], cv=3),
}


@pytest.fixture(scope="module")
def question(compose):
    return compose("dataset=simulated").question


def make_design(make_samples, rng, classes, zscore, n_runs=4, block=4):
    """Samples of 20 voxels, and three labellings with blocks exchanged inside runs."""
    order = np.array([rng.permutation(classes) for _ in range(n_runs)])
    y = np.repeat(order, block, axis=1).ravel()
    runs = np.repeat(np.arange(n_runs), block * len(classes))
    X = 5 + rng.standard_normal((len(y), 20)) @ rng.standard_normal((20, 20))
    X[y == classes[0], :6] += 3
    samples = make_samples(X, y, runs, preparation=FoldPreprocessing(zscore=zscore))
    others = [np.repeat([rng.permutation(row) for row in order], block, axis=1).ravel() for _ in range(2)]
    return samples, np.array([y, *others])


def make_spheres():
    """Five spheres, of 6, 6, 4, 20 and 6 of the 20 voxels."""
    members = [np.arange(6), np.arange(7, 13), np.arange(3, 7), np.arange(20), np.arange(14, 20)]
    starts = np.concatenate([[0], np.cumsum([len(each) for each in members])])
    return Spheres(np.array([each[0] for each in members]), np.concatenate(members), starts)


def standardise(X, reference):
    scale = reference.std(axis=0, ddof=1)
    return (X - reference.mean(axis=0)) / np.where(np.ptp(reference, axis=0) == 0, 1.0, scale)


def score_singly(samples, model, folds, columns, y):
    """Return accuracy, balanced accuracy, area and decision value; every fold is fitted by itself."""
    X, zscore = samples.X.astype(float)[:, columns], samples.preparation.zscore
    scores = []
    for train, test in folds:
        inner, held = X[train], X[test]
        if zscore is not None:
            held = standardise(X[test], X[test] if zscore == "own" else X[train])
            inner = standardise(X[train], X[train])
        fitted = clone(model).fit(inner, y[train])
        f, predicted = fitted.decision_function(held), fitted.predict(held)
        f = f[:, np.newaxis] if f.ndim == 1 else f
        names = fitted.classes_[1:] if f.shape[1] == 1 else fitted.classes_
        members = [(f[:, k], y[test] == name) for k, name in enumerate(names)]
        scores.append(
            (
                np.mean(predicted == y[test]),
                np.mean([np.mean(predicted[y[test] == c] == c) for c in fitted.classes_]),
                np.mean([roc_auc(of, values) for values, of in members]),
                np.mean([(values[of].mean() - values[~of].mean()) / 2 for values, of in members]),
            )
        )
    return np.mean(scores, axis=0)


TWO, THREE = ["cat", "face"], ["cat", "face", "house"]
CASES = [
    (name, classes, zscore)
    for name in MODELS
    for classes in (TWO, THREE)
    for zscore in ("own", "train", None)
]
FAST = [("svc", TWO, "own"), ("svc", TWO, "train"), ("svc", THREE, None), ("logistic", TWO, "own")]


@pytest.mark.parametrize(
    ("name", "classes", "zscore"),
    [pytest.param(*case, marks=() if case in FAST else pytest.mark.slow) for case in CASES],
)
def test_scores_equal_those_of_single_decoders(make_samples, question, rng, name, classes, zscore):
    samples, labels = make_design(make_samples, rng, classes, zscore)
    question = replace(question, estimator=Estimator(name, MODELS[name]), contrast=samples.contrast)
    spheres, numbers = make_spheres(), np.array([4, 0])
    folds = list(split_samples(samples, question.scheme).folds.values())
    expected = np.array(
        [
            [score_singly(samples, MODELS[name], folds, spheres.columns_of(n), y) for n in numbers]
            for y in labels
        ]
    )
    for statistic, column, tolerance in (("roc_auc", 2, 1e-10), ("decision_value", 3, 1e-8)):
        settings = Searchlight(statistic=statistic)
        found = make_scorer(samples, question, settings, spheres, labels).score(numbers)
        np.testing.assert_allclose(found.statistics, expected[..., column], rtol=0, atol=tolerance)
        np.testing.assert_allclose(found.scores, expected[0, :, :3].T, rtol=0, atol=1e-10)
        assert found.unconverged == 0


@pytest.mark.parametrize("zscore", ["own", "train"])
@pytest.mark.parametrize("name", MODELS)
def test_a_sphere_has_the_same_bits_whatever_is_scored_with_it(make_samples, question, rng, name, zscore):
    samples, labels = make_design(make_samples, rng, ["cat", "face"], zscore)
    question = replace(question, estimator=Estimator(name, MODELS[name]), contrast=samples.contrast)
    scorer = make_scorer(samples, question, Searchlight(), make_spheres(), labels)
    whole = scorer.score(np.arange(5))
    for number in range(5):
        alone = scorer.score(np.array([number]))
        np.testing.assert_array_equal(alone.statistics[:, 0], whole.statistics[:, number])
        np.testing.assert_array_equal(alone.scores[:, 0], whole.scores[:, number])


@pytest.mark.parametrize("zscore", ["own", "train"])
@pytest.mark.parametrize("name", ["svc", "logistic"])
@pytest.mark.parametrize("scale", [0.0, 1e-3], ids=["constant", "nearly constant"])
def test_voxels_that_do_not_vary_in_a_training_set(make_samples, question, rng, name, zscore, scale):
    samples, labels = make_design(make_samples, rng, ["cat", "face"], zscore)
    samples.X[samples.runs != 2, 1] *= scale
    question = replace(question, estimator=Estimator(name, MODELS[name]), contrast=samples.contrast)
    folds = list(split_samples(samples, question.scheme).folds.values())
    scorer = make_scorer(samples, question, Searchlight(statistic="decision_value"), make_spheres(), labels)
    expected = [score_singly(samples, MODELS[name], folds, np.arange(6), y)[3] for y in labels]
    np.testing.assert_allclose(scorer.score(np.array([0])).statistics[:, 0], expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("zscore", ["own", "train"])
@pytest.mark.parametrize("name", ["svc", "logistic"])
def test_many_labellings_score_as_a_few_do(make_samples, question, rng, name, zscore):
    samples, labels = make_design(make_samples, rng, ["cat", "face"], zscore, n_runs=6)
    question = replace(question, estimator=Estimator(name, MODELS[name]), contrast=samples.contrast)
    mirrored = np.where(samples.y == "cat", "face", "cat")
    exchanged = rng.random((2 * TOGETHER_UP_TO, 6)) < 0.5
    many = np.array([labels[0], *np.where(exchanged[:, samples.runs], samples.y, mirrored)])
    settings, numbers = Searchlight(statistic="decision_value"), np.arange(5)
    all_at_once = make_scorer(samples, question, settings, make_spheres(), many).score(numbers)
    for row in (0, 5, 20):
        alone = make_scorer(samples, question, settings, make_spheres(), many[row : row + 1]).score(numbers)
        np.testing.assert_allclose(all_at_once.statistics[row], alone.statistics[0], rtol=0, atol=1e-8)


def test_decoders_that_do_not_converge_are_counted_once_per_sphere_and_fold(make_samples, question, rng):
    samples, labels = make_design(make_samples, rng, ["cat", "face"], "train")
    estimator = Estimator("logistic", ExactLogisticRegressionCV([1e3], max_iter=1))
    question = replace(question, estimator=estimator, contrast=samples.contrast)
    scorer = make_scorer(samples, question, Searchlight(), make_spheres(), labels[:1])
    assert [scorer.score(np.array([1, 4])).unconverged for _ in range(2)] == [8, 8]


def test_fewer_samples_of_a_class_than_inner_folds_are_refused(make_samples, question, rng):
    samples, labels = make_design(make_samples, rng, ["cat", "face"], None, block=1)
    question = replace(
        question, estimator=Estimator("logistic", ExactLogisticRegressionCV(cv=5)), contrast=samples.contrast
    )
    with pytest.raises(DesignError, match=r"3 training volumes in fold 1, fewer than the 5 inner folds"):
        make_scorer(samples, question, Searchlight(), make_spheres(), labels)
