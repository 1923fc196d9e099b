"""Ridge and discriminant analysis of spheres score as scikit-learn does, one sphere and labelling each."""

import json

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV
from sklearn.model_selection import KFold, LeaveOneGroupOut, StratifiedKFold, cross_val_score

from harness.decoding.estimator import Estimator
from harness.decoding.question import Question
from harness.decoding.splitters import Scheme
from harness.errors import DesignError
from harness.samples.contrasts import make_contrast
from harness.samples.samples import FoldPreprocessing, Samples
from harness.searchlight.scorers import make_scorer
from harness.searchlight.settings import Searchlight
from harness.searchlight.spheres import Spheres, find_spheres
from harness.solvers.estimators import DECADES, ExactLDA, ExactRidgeClassifierCV
from services import require_data

ESTIMATORS = {
    "one alpha": (ExactRidgeClassifierCV([2.0]), RidgeClassifier(2.0)),
    "several alphas": (ExactRidgeClassifierCV(), RidgeClassifierCV(DECADES)),
    "lda": (ExactLDA(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")),
}
SCORERS = ["accuracy", "balanced_accuracy", "roc_auc"]
SHAPE = (4, 4, 3)
MASK = np.ones(SHAPE, dtype=bool)
UNEQUAL = (5, 4, 6, 3)  # volumes of a block, by scanner run


def make_samples(rng, classes, zscore=None, lengths=UNEQUAL, n_voxels=MASK.size):
    """Return samples with a block of every class per scanner run, and offsets of runs."""
    y = np.concatenate([np.repeat(rng.permutation(classes), length) for length in lengths])
    runs = np.repeat(np.arange(len(lengths)), np.array(lengths) * len(classes))
    X = rng.normal(size=(len(y), n_voxels)) + rng.normal(size=(len(lengths), n_voxels))[runs]
    X[:, ::3] += 0.6 * (y == classes[0])[:, np.newaxis]
    blocks = np.cumsum(np.r_[0, (y[1:] != y[:-1]) | (runs[1:] != runs[:-1])])
    every = np.arange(len(y))
    return Samples(X, y, runs, y, every, blocks, make_contrast(list(classes)), FoldPreprocessing(zscore))


def relabel(rng, samples, n_labellings):
    """Return the true labelling and others, which exchange the blocks of scanner runs."""
    rows = [samples.y]
    for _ in range(n_labellings - 1):
        y = samples.y.copy()
        for run in np.unique(samples.runs):
            inside = np.flatnonzero(samples.runs == run)
            y[inside] = np.repeat(rng.permutation(np.unique(samples.y)), len(inside) // len(set(samples.y)))
        rows.append(y)
    return np.array(rows)


def score(samples, model, labels, spheres, statistic="roc_auc", splitter=None, numbers=None):
    question = Question(
        samples.contrast, Estimator("any", model), Scheme("any", splitter or LeaveOneGroupOut())
    )
    scorer = make_scorer(samples, question, Searchlight(statistic=statistic), spheres, labels)
    return scorer.score(np.arange(len(spheres)) if numbers is None else numbers)


def scale(values, like):
    return (values - like.mean(axis=0)) / like.std(axis=0, ddof=1)


def count_pairs(positive, decisions):
    above, below = decisions[positive][:, np.newaxis], decisions[~positive]
    return np.mean((above > below) + (above == below) / 2)


def fit_by_hand(reference, samples, y, columns, folds):
    """Return the four statistics: means over folds of a plain loop with scikit-learn."""
    X, how, rows = samples.X[:, columns], samples.preparation.zscore, []
    for train, test in folds:
        training, held_out = X[train], X[test]
        if how == "own":
            training, held_out = scale(training, training), scale(held_out, held_out)
        elif how == "train":
            training, held_out = scale(training, training), scale(held_out, training)
        model = clone(reference).fit(training, y[train])
        predicted, decisions = model.predict(held_out), model.decision_function(held_out)
        if decisions.ndim == 1:
            positive = y[test] == model.classes_[1]
            areas = [count_pairs(positive, decisions)]
            differences = [decisions[positive].mean() - decisions[~positive].mean()]
        else:
            members = [
                (y[test] == name, column) for name, column in zip(model.classes_, decisions.T, strict=True)
            ]
            areas = [count_pairs(inside, column) for inside, column in members]
            differences = [column[inside].mean() - column[~inside].mean() for inside, column in members]
        rows.append(
            [
                np.mean(predicted == y[test]),
                np.mean([np.mean(predicted[y[test] == name] == name) for name in model.classes_]),
                np.mean(areas),
                np.mean(differences) / 2,
            ]
        )
    return np.mean(rows, axis=0)


@pytest.fixture(scope="module")
def spheres():
    """Spheres of 4 to 7 voxels and, by hand, some of a single voxel and one of all 48."""
    found = find_spheres(MASK, np.diag([3.5, 3.75, 3.75, 1.0]), MASK, 4.0)
    members = [found.columns_of(number) for number in range(0, len(found), 16)]
    members += [np.array([5]), np.arange(48)]
    starts = np.cumsum([0, *map(len, members)])
    return Spheres(np.arange(len(members)), np.concatenate(members), starts)


@pytest.mark.parametrize(
    ("classes", "zscore"),
    [
        (("cat", "face"), "own"),
        pytest.param(("cat", "face"), "train", marks=pytest.mark.slow),
        (("cat", "face"), None),
        pytest.param(("cat", "face", "house"), "own", marks=pytest.mark.slow),
        (("cat", "face", "house"), "train"),
        pytest.param(("cat", "face", "house"), None, marks=pytest.mark.slow),
    ],
    ids=["2-own", "2-train", "2-none", "3-own", "3-train", "3-none"],
)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_scores_are_those_of_scikit_learn(rng, spheres, estimator, zscore, classes):
    exact, reference = ESTIMATORS[estimator]
    samples = make_samples(rng, classes, zscore)
    labels = relabel(rng, samples, 2)
    folds = list(LeaveOneGroupOut().split(samples.X, groups=samples.runs))
    found = {name: score(samples, exact, labels, spheres, name) for name in (*SCORERS, "decision_value")}
    for labelling, number in np.ndindex(2, len(spheres)):
        expected = fit_by_hand(reference, samples, labels[labelling], spheres.columns_of(number), folds)
        for name, value in zip(found, expected, strict=True):
            assert found[name].statistics[labelling, number] == pytest.approx(value, rel=0, abs=1e-10)
        if labelling == 0:
            np.testing.assert_allclose(found["roc_auc"].scores[:, number], expected[:3], rtol=0, atol=1e-10)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("splitter", [KFold(3), StratifiedKFold(3)], ids=["kfold", "stratified"])
def test_scores_are_those_of_cross_val_score(rng, spheres, estimator, splitter):
    """Folds of stratified schemes are made anew for every labelling."""
    exact, reference = ESTIMATORS[estimator]
    samples = make_samples(rng, ("cat", "face"))
    labels = relabel(rng, samples, 2)
    found = score(samples, exact, labels, spheres, "accuracy", splitter).statistics
    for labelling, number in np.ndindex(2, len(spheres)):
        X = samples.X[:, spheres.columns_of(number)]
        expected = cross_val_score(reference, X, labels[labelling], cv=splitter).mean()
        assert found[labelling, number] == pytest.approx(expected, rel=0, abs=1e-12)


@pytest.mark.parametrize("zscore", ["own", "train", None])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("statistic", ["roc_auc", "decision_value"])
@pytest.mark.parametrize("n_labellings", [1, 12])
def test_numbers_of_a_sphere_do_not_depend_on_the_others(
    rng, spheres, estimator, zscore, statistic, n_labellings
):
    samples = make_samples(rng, ("cat", "face"), zscore)
    labels = relabel(rng, samples, n_labellings)
    exact, _ = ESTIMATORS[estimator]
    together = score(samples, exact, labels, spheres, statistic)
    order = rng.permutation(len(spheres))
    for numbers in (order, order[:1], order[1:4]):
        some = score(samples, exact, labels, spheres, statistic, numbers=numbers)
        assert np.array_equal(some.statistics, together.statistics[:, numbers])
        assert np.array_equal(some.scores, together.scores[:, numbers])


def test_a_class_missing_from_the_folds_of_a_relabelling_is_a_design_error(rng, spheres):
    samples = make_samples(rng, ("cat", "face"))
    labels = relabel(rng, samples, 2)
    labels[1][samples.runs == 2] = "cat"
    with pytest.raises(DesignError, match="under relabelling 1 of the labels"):
        score(samples, ExactLDA(), labels, spheres)


def test_folds_that_a_relabelling_makes_incomplete_can_be_skipped(rng, spheres):
    samples = make_samples(rng, ("cat", "face"))
    labels = relabel(rng, samples, 3)
    labels[1][samples.runs == 2] = "cat"
    exact, reference = ESTIMATORS["one alpha"]
    question = Question(
        samples.contrast, Estimator("ridge", exact), Scheme("logo", LeaveOneGroupOut(), incomplete="skip")
    )
    found = make_scorer(samples, question, Searchlight(), spheres, labels).score(np.arange(len(spheres)))
    folds = list(LeaveOneGroupOut().split(samples.X, groups=samples.runs))
    for labelling, kept in enumerate((folds, [folds[0], folds[1], folds[3]], folds)):
        for number in range(len(spheres)):
            expected = fit_by_hand(reference, samples, labels[labelling], spheres.columns_of(number), kept)
            assert found.statistics[labelling, number] == pytest.approx(expected[2], rel=0, abs=1e-10)


def test_all_relabellings_of_a_toy_recording(shared_data):
    """Scores of 16 relabellings that two independent programs agree on."""
    file = shared_data.parent / "golden" / "statistics.json"
    require_data(file)
    toy = json.loads(file.read_text())["enumerated_test"]
    y, runs = np.array(toy["y"]), np.array(toy["runs"])
    swapped = np.where(y == "face", "cat", "face")
    labels = np.array(
        [np.where(np.array(row["factors"])[runs] > 0, y, swapped) for row in toy["relabellings"]]
    )
    every = np.arange(len(y))
    samples = Samples(
        np.array(toy["X"], dtype=np.float32),
        y,
        runs,
        y,
        every,
        np.array(toy["blocks"]),
        make_contrast(["face", "cat"]),
        FoldPreprocessing(),
    )
    spheres = Spheres(np.array([0]), np.arange(4), np.array([0, 4]))
    for name in ("accuracy", "roc_auc"):
        found = score(samples, ExactRidgeClassifierCV([10.0]), labels, spheres, name).statistics[:, 0]
        np.testing.assert_allclose(found, [row[name] for row in toy["relabellings"]], rtol=0, atol=1e-12)
