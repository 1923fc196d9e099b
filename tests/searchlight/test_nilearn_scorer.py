"""Spheres that nilearn's `SearchLight` scores."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.metrics import roc_auc_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC, l1_min_c

from harness.decoding.estimator import Estimator
from harness.decoding.splitters import split_samples
from harness.errors import UsageError
from harness.samples.samples import FoldPreprocessing, RecordedSamples, VoxelGrid
from harness.searchlight.nilearn_scorer import FirstMultiple
from harness.searchlight.scorers import make_scorer
from harness.searchlight.settings import Searchlight
from harness.searchlight.spheres import find_spheres
from harness.solvers.estimators import (
    ExactLDA,
    ExactLinearSVC,
    ExactLogisticRegressionCV,
    ExactRidgeClassifierCV,
)

AFFINE = np.array([[-3.5, 0, 0, 68.25], [0, 3.75, 0, -118.1], [0, 0, 3.75, -118.1], [0, 0, 0, 1]])
RADIUS = 6.0


class MajorityOfVoxels(ClassifierMixin, BaseEstimator):
    """Predicts by the mean over voxels; it has neither decision values nor probabilities."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        means = [X[y == name].mean() for name in self.classes_]
        self.middle_, self.upper_ = np.mean(means), int(np.argmax(means))
        return self

    def predict(self, X):
        above = X.mean(axis=1) > self.middle_
        return self.classes_[np.where(above, self.upper_, 1 - self.upper_)]


class RefusesAtTimes(MajorityOfVoxels):
    """Fails in some folds; `cross_val_score` warns of that, and scores them NaN."""

    def fit(self, X, y):
        if X[0, 0] > X[1, 0]:
            raise ValueError("these voxels are refused")
        return super().fit(X, y)


class VoxelNames(MajorityOfVoxels):
    """Keeps the voxels of every sphere, whose values are their columns."""

    seen: ClassVar[list] = []  # shared by the clones that scikit-learn makes

    def fit(self, X, y):
        self.seen.append(X[0].astype(int).tolist())
        return super().fit(X, y)


@pytest.fixture(scope="module")
def question(compose):
    return compose("dataset=simulated").question


@pytest.fixture
def record(make_samples, rng):
    """Return a function to samples in a small volume with holes."""

    def build(classes=("cat", "face"), zscore=None, n_runs=4, block=4):
        mask = rng.random((5, 4, 3)) < 0.8
        order = np.array([rng.permutation(classes) for _ in range(n_runs)])
        y = np.repeat(order, block, axis=1).ravel()
        runs = np.repeat(np.arange(n_runs), block * len(classes))
        X = 3 + rng.standard_normal((len(y), mask.sum()))
        X[y == classes[0], ::3] += 1
        samples = make_samples(X, y, runs, preparation=FoldPreprocessing(zscore=zscore))
        fields = {name: getattr(samples, name) for name in samples.__dataclass_fields__}
        grid = VoxelGrid(mask, AFFINE, np.zeros(mask.shape, dtype=np.float32))
        return RecordedSamples(**fields, grid=grid, sources=None, image_digest="")

    return build


def ask(question, samples, model, grid=None, engine="harness"):
    estimator = Estimator("model", model, grid or {})
    return replace(question, estimator=estimator, contrast=samples.contrast, engine=engine)


def find(samples, radius=RADIUS):
    return find_spheres(samples.grid.mask, samples.grid.affine, samples.grid.mask, radius, 3)


def score(question, samples, statistic="decision_value", labels=None, numbers=None):
    spheres = find(samples)
    labels = samples.y[np.newaxis] if labels is None else labels
    settings = Searchlight(radius=RADIUS, statistic=statistic)
    scorer = make_scorer(samples, question, settings, spheres, labels)
    return scorer.score(np.array([3, 17, 28]) if numbers is None else numbers), spheres


@pytest.mark.parametrize("radius", [7.5, np.hypot(3.5, 3.75)])
def test_nilearn_finds_our_spheres_those_that_end_at_a_voxel_included(question, record, radius):
    """Distances of 7.5 and 5.13 mm occur exactly; rounding decides without a margin."""
    samples = record()
    X = np.tile(np.arange(samples.n_voxels, dtype=np.float32), (len(samples.y), 1))
    samples = replace(samples, X=X)
    spheres = find(samples, radius)
    scorer = make_scorer(
        samples,
        ask(question, samples, VoxelNames()),
        Searchlight(radius=radius),
        spheres,
        samples.y[np.newaxis],
    )
    VoxelNames.seen.clear()
    scorer.score(np.arange(len(spheres)))
    seen = VoxelNames.seen[:: len(scorer.folds)]
    assert seen == [spheres.columns_of(number).tolist() for number in range(len(spheres))]
    VoxelNames.seen.clear()


@pytest.mark.parametrize("zscore", [None, "own", "train"])
def test_other_estimators_are_scored_in_every_fold_and_labelling(question, record, rng, zscore):
    samples = record(zscore=zscore)
    labels = np.array([samples.y, np.where(samples.runs % 2, samples.y, samples.y[::-1])])
    question = ask(question, samples, GaussianNB())
    numbers = np.array([7, 2, 11])
    found, spheres = score(question, samples, "roc_auc", labels, numbers)
    folds = split_samples(samples, question.scheme).folds.values()
    X = samples.X.astype(float)
    for place, number in enumerate(numbers):
        columns = spheres.columns_of(number)
        for row, y in enumerate(labels):
            areas, right = [], []
            for train, test in folds:
                inner, held = X[train][:, columns], X[test][:, columns]
                reference = {None: None, "own": held, "train": inner}[zscore]
                if zscore is not None:
                    held = (held - reference.mean(0)) / reference.std(0, ddof=1)
                    inner = (inner - inner.mean(0)) / inner.std(0, ddof=1)
                model = GaussianNB().fit(inner, y[train])
                areas.append(roc_auc_score(y[test] == "face", model.predict_proba(held)[:, 1]))
                right.append(np.mean(model.predict(held) == y[test]))
            assert found.statistics[row, place] == pytest.approx(np.mean(areas), abs=1e-10)
            if row == 0:
                assert found.scores[0, place] == pytest.approx(np.mean(right), abs=1e-10)


@pytest.mark.parametrize(
    ("model", "zscore"),
    [
        (ExactLinearSVC(), "own"),
        (ExactRidgeClassifierCV([1.0, 10.0]), "train"),
        (ExactLDA(), "own"),
        pytest.param(ExactLinearSVC(), "train", marks=pytest.mark.slow),
        pytest.param(ExactLogisticRegressionCV([1e-2, 1.0], cv=3), "own", marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_engine_nilearn_checks_the_exact_solvers(question, record, model, zscore):
    samples = record(zscore=zscore)
    ours, _ = score(ask(question, samples, model), samples)
    nilearns, _ = score(ask(question, samples, model, engine="nilearn"), samples)
    # nilearn's liblinear ends at a tolerance of 1e-4.
    tolerance = 2e-3 if isinstance(model, ExactLinearSVC | ExactLogisticRegressionCV) else 1e-9
    np.testing.assert_allclose(ours.statistics, nilearns.statistics, rtol=0, atol=tolerance)
    np.testing.assert_allclose(ours.scores, nilearns.scores, rtol=0, atol=1e-10)


def test_classifiers_with_neither_decision_values_nor_probabilities_are_scored_by_their_predictions(
    question, record
):
    """The area of predictions is the balanced accuracy, and so is 1/2 + half the mean difference of +-1."""
    samples = record()
    found, _ = score(ask(question, samples, MajorityOfVoxels()), samples)
    np.testing.assert_allclose(found.scores[2], found.scores[1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.statistics[0], 2 * found.scores[1] - 1, rtol=0, atol=1e-12)
    assert found.scores[0].max() > 0.6


def test_probabilities_take_the_place_of_decision_values(question, record):
    samples = record()
    model = KNeighborsClassifier(5)
    question = ask(question, samples, model)
    found, spheres = score(question, samples, numbers=np.array([3]))
    X = samples.X[:, spheres.columns_of(3)].astype(float)
    differences = []
    for train, test in split_samples(samples, question.scheme).folds.values():
        p = clone(model).fit(X[train], samples.y[train]).predict_proba(X[test])[:, 1]
        face = samples.y[test] == "face"
        differences.append((p[face].mean() - p[~face].mean()) / 2)
    assert found.statistics[0, 0] == pytest.approx(np.mean(differences), abs=1e-12)


def test_areas_of_several_classes_are_means_of_one_against_the_rest(question, record):
    samples = record(("cat", "face", "house"))
    model = Perceptron(random_state=0)
    question = ask(question, samples, model)
    found, spheres = score(question, samples, "roc_auc", numbers=np.array([5]))
    X = samples.X[:, spheres.columns_of(5)].astype(float)
    areas = []
    for train, test in split_samples(samples, question.scheme).folds.values():
        f = clone(model).fit(X[train], samples.y[train]).decision_function(X[test])
        names = ("cat", "face", "house")
        areas.append(np.mean([roc_auc_score(samples.y[test] == c, f[:, k]) for k, c in enumerate(names)]))
    assert found.statistics[0, 0] == pytest.approx(np.mean(areas), abs=1e-12)
    assert found.scores[2, 0] == found.statistics[0, 0]


def test_a_dummy_has_the_same_score_everywhere(question, record):
    samples = record()
    question = ask(question, samples, DummyClassifier(strategy="stratified", random_state=0))
    found, _ = score(question, samples, "accuracy")
    assert len(np.unique(found.statistics)) == 1


def test_the_first_multiple_of_the_smallest_c_is_found_in_every_training_set(question, record):
    samples = record(zscore="own")
    model = LinearSVC(penalty="l1", dual=False, tol=1e-10, max_iter=10_000, random_state=0)
    question = ask(question, samples, model, {"C": {"times_l1_min_c": [5.0, 50.0]}})
    found, spheres = score(question, samples, numbers=np.array([4]))
    X = samples.X[:, spheres.columns_of(4)].astype(float)
    differences = []
    for train, test in split_samples(samples, question.scheme).folds.values():
        inner = (X[train] - X[train].mean(0)) / X[train].std(0, ddof=1)
        C = 5 * l1_min_c(inner, samples.y[train], loss="squared_hinge")
        held = (X[test] - X[test].mean(0)) / X[test].std(0, ddof=1)
        f = clone(model).set_params(C=C).fit(inner, samples.y[train]).decision_function(held)
        face = samples.y[test] == "face"
        differences.append((f[face].mean() - f[~face].mean()) / 2)
    assert found.statistics[0, 0] == pytest.approx(np.mean(differences), abs=1e-8)


def test_an_estimator_that_cannot_be_fitted_is_one_message(question, record):
    samples = record()
    with pytest.raises(
        UsageError, match="estimator=model cannot be scored: Expected n_neighbors <= n_samples"
    ):
        score(ask(question, samples, KNeighborsClassifier(500)), samples)
    with pytest.raises(UsageError, match="estimator=model cannot be fitted: these voxels are refused"):
        score(ask(question, samples, RefusesAtTimes()), samples)


def test_no_spheres_have_no_scores(question, record):
    samples = record()
    found, _ = score(ask(question, samples, LogisticRegression()), samples, numbers=np.empty(0, dtype=int))
    assert found.scores.shape == (3, 0)
    assert found.statistics.shape == (1, 0)


def test_first_multiple_can_be_cloned():
    model = clone(FirstMultiple(LinearSVC(penalty="l1"), "C", 2.0, "squared_hinge"))
    assert (model.multiple, model.parameter, model.loss) == (2.0, "C", "squared_hinge")
