"""Parity of searchlights with nilearn's `SearchLight` and scikit-learn's estimators, sphere by sphere."""

import warnings
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from nilearn.decoding import SearchLight
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifier, RidgeClassifierCV
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from harness.decoding.estimator import Estimator
from harness.decoding.splitters import split_samples
from harness.samples.samples import Roi, load_samples
from harness.searchlight.scorers import make_scorer
from harness.searchlight.settings import Searchlight
from harness.searchlight.spheres import find_spheres
from harness.solvers.estimators import (
    ExactLDA,
    ExactLinearSVC,
    ExactLogisticRegressionCV,
    ExactRidgeClassifierCV,
)


class Polished(ClassifierMixin, BaseEstimator):
    """A fitted liblinear, taken to its optimum by plain Newton steps on its objective with C=1.

    liblinear ends when a step decreases the objective by less than 1e-12 of it, whatever its tolerance: its
    coefficients are then right to six or seven digits.
    """

    def __init__(self, model):
        self.model = model

    def fit(self, X, y):
        fitted = self.model.fit(X, y)
        self.classes_ = fitted.classes_
        rows, signs = np.column_stack([X, np.ones(len(X))]), np.where(y == self.classes_[1], 1.0, -1.0)
        w = np.append(fitted.coef_[0], fitted.intercept_)
        for _ in range(4):
            margins = signs * (rows @ w)
            if isinstance(fitted, LinearSVC):
                slopes, curvatures = 2 * np.maximum(0, 1 - margins), 2.0 * (margins < 1)
            else:
                slopes = 1 / (1 + np.exp(margins))
                curvatures = slopes * (1 - slopes)
            hessian = np.eye(len(w)) + (rows.T * curvatures) @ rows
            w = w - np.linalg.solve(hessian, w - rows.T @ (signs * slopes))
        assert np.linalg.norm(w - np.append(fitted.coef_[0], fitted.intercept_)) < 1e-5 * np.linalg.norm(w)
        self.w_ = w
        return self

    def decision_function(self, X):
        return X @ self.w_[:-1] + self.w_[-1]

    def predict(self, X):
        return self.classes_[(self.decision_function(X) > 0).astype(int)]


LIBLINEAR_SVC = LinearSVC(C=1.0, dual=False, tol=1e-12, max_iter=100_000)
LIBLINEAR_LOGISTIC = LogisticRegression(C=1.0, solver="liblinear", tol=1e-12, max_iter=100_000)

ALPHAS = [0.1, 1.0, 10.0, 100.0, 1000.0]
MODELS = {
    "ridge, one alpha": (ExactRidgeClassifierCV([10.0]), RidgeClassifier(alpha=10.0)),
    "ridge": (ExactRidgeClassifierCV(ALPHAS), RidgeClassifierCV(alphas=ALPHAS)),
    "lda": (ExactLDA(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")),
    "svc": (ExactLinearSVC(C=1.0), Polished(LIBLINEAR_SVC)),
    "logistic": (ExactLogisticRegressionCV([1.0]), Polished(LIBLINEAR_LOGISTIC)),
    "svc, liblinear": (ExactLinearSVC(C=1.0), LIBLINEAR_SVC),
    "logistic, liblinear": (ExactLogisticRegressionCV([1.0]), LIBLINEAR_LOGISTIC),
}
SIGNALS = {"own": "tutorial", "run": "per_run", "train": "train_only"}

# Two solvers of one problem agree on decision values to about this, relative to the largest; liblinear itself
# ends earlier, see `Polished`.
ROUNDING = 1e-8
LIBLINEAR_ERROR = 1e-6


class Standardiser(TransformerMixin, BaseEstimator):
    """Standardises by the training volumes, or all volumes that it is given by themselves."""

    def __init__(self, zscore):
        self.zscore = zscore

    def fit(self, X, y=None):
        self.training_ = X
        return self

    def transform(self, X):
        moments = X if self.zscore == "own" else self.training_
        return (X - moments.mean(axis=0)) / moments.std(axis=0, ddof=1)


class Recorder:
    """Scores with scikit-learn's functions, and keeps how near decision values are to 0 and to a tie."""

    def __init__(self):
        self.rows = []

    def __call__(self, model, X, y):
        f, positive = model.decision_function(X), y == model.classes_[1]
        predicted = model.predict(X)
        self.rows.append(
            (
                accuracy_score(y, predicted),
                balanced_accuracy_score(y, predicted),
                roc_auc_score(positive, f),
                (f[positive].mean() - f[~positive].mean()) / 2,
                np.abs(f).min(),
                np.abs(f[positive][:, np.newaxis] - f[~positive]).min(),
            )
        )
        return self.rows[-1][0]


def search_with_nilearn(samples, folds, numbers, spheres, radius, model):
    """Scores and distances of `Recorder`, (n_spheres, n_folds, 6), of nilearn's own spheres."""
    X, zscore = samples.X.astype(np.float64), samples.preparation.zscore
    grid = samples.grid
    data = np.zeros((*grid.mask.shape, len(X)))
    data[grid.mask] = X.T
    centres = np.zeros(grid.mask.shape, dtype=np.int8)
    centres[tuple(np.argwhere(grid.mask)[spheres.centres[numbers]].T)] = 1
    recorder = Recorder()
    search = SearchLight(
        nib.Nifti1Image(grid.mask.astype(np.int8), grid.affine),
        nib.Nifti1Image(centres, grid.affine),
        radius=radius,
        estimator=model if zscore is None else make_pipeline(Standardiser(zscore), model),
        scoring=recorder,
        cv=folds,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Use a custom estimator")
        search.fit(nib.Nifti1Image(data, grid.affine), samples.y)
    return np.array(recorder.rows).reshape(len(numbers), len(folds), -1)


def compare(samples, question, every, name, radius=8.0):
    """Assert that the map's scores are nilearn's; return the spheres and folds whose ties differ."""
    exact, sklearns = MODELS[name]
    question = replace(question, estimator=Estimator(name, exact))
    settings = Searchlight(radius=radius, statistic="decision_value")
    spheres = find_spheres(samples.grid.mask, samples.grid.affine, samples.grid.mask, radius, 5)
    numbers = np.arange(0, len(spheres), every)
    scorer = make_scorer(samples, question, settings, spheres, samples.y[np.newaxis])
    ours = scorer.score(numbers)
    folds = list(split_samples(samples, question.scheme).folds.values())
    nilearns = search_with_nilearn(samples, folds, numbers, spheres, radius, sklearns)
    accuracy, balanced, area, difference = nilearns[:, :, :4].mean(axis=1).T
    assert ours.unconverged == 0
    error = LIBLINEAR_ERROR if name.endswith("liblinear") else ROUNDING
    error *= np.abs(difference).max()
    np.testing.assert_allclose(ours.statistics[0], difference, rtol=0, atol=error)
    at_zero, at_tie = nilearns[:, :, 4:].min(axis=1).T < error
    differing = 0
    for row, expected, doubtful in ((0, accuracy, at_zero), (1, balanced, at_zero), (2, area, at_tie)):
        differs = np.abs(ours.scores[row] - expected) > 1e-10
        assert not (differs & ~doubtful).any(), np.flatnonzero(differs & ~doubtful)
        differing += int(differs.sum())
    return differing, len(numbers)


def load_slice(compose, shared_data, signal):
    spec = compose(
        "dataset=haxby",
        f"dataset.data_dir={shared_data / 'haxby2001-slice'}",
        "subject=1",
        "roi=brain",
        "contrast=face_vs_cat",
        f"signal={signal}",
    )
    question = spec.question
    return load_samples(spec.dataset.load(1), question.contrast, question.roi, question.signal), question


@pytest.fixture(scope="module")
def load_box(compose, tmp_path_factory):
    """Return a function to a box of voxels of a simulated subject; half of it lies in its VT mask."""

    def load(signal):
        spec = compose("dataset=simulated", "subject=1", f"signal={signal}")
        recording = spec.dataset.load(1)
        vt = nib.load(recording.masks["vt"])
        corner = np.argwhere(np.asarray(vt.dataobj) > 0).min(axis=0)
        box = np.zeros(vt.shape, dtype=np.uint8)
        box[tuple(slice(max(0, low - 2), low + 4) for low in corner)] = 1
        box &= np.asarray(nib.load(recording.bold).dataobj[..., 0]) > 0
        path = tmp_path_factory.mktemp("box") / "box.nii.gz"
        nib.save(nib.Nifti1Image(box, vt.affine), path)
        question = replace(spec.question, roi=Roi(str(path)))
        return load_samples(recording, question.contrast, question.roi, question.signal), question

    return load


# Scores that differ because rounding breaks a tie one way here and the other way there. None did where all
# 530 spheres of the slice were compared (own standardisation: ridge, lda, svc; by training volumes: ridge,
# lda; by run: ridge of one alpha), and none does in the spheres below: none is allowed.
DIFFERING = 0


@pytest.mark.parametrize("name", ["ridge", "lda", "svc", "logistic"])
def test_scores_on_real_data_equal_nilearns(compose, shared_data, name):
    samples, question = load_slice(compose, shared_data, SIGNALS["own"])
    assert samples.n_voxels == 530
    differing, n_spheres = compare(samples, question, 260, name)
    assert differing <= DIFFERING, f"{differing} scores of {n_spheres} spheres differ at ties"


@pytest.mark.slow
@pytest.mark.parametrize("zscore", SIGNALS)
@pytest.mark.parametrize("name", MODELS)
def test_scores_of_more_spheres_equal_nilearns(compose, shared_data, zscore, name):
    samples, question = load_slice(compose, shared_data, SIGNALS[zscore])
    differing, n_spheres = compare(samples, question, 80, name)
    assert differing <= DIFFERING, f"{differing} scores of {n_spheres} spheres differ at ties"


@pytest.mark.slow
@pytest.mark.parametrize("zscore", SIGNALS)
@pytest.mark.parametrize("name", ["ridge", "lda", "svc", "logistic"])
def test_scores_on_simulated_data_equal_nilearns(load_box, zscore, name):
    samples, question = load_box(SIGNALS[zscore])
    differing, n_spheres = compare(samples, question, 16, name)
    assert differing <= DIFFERING, f"{differing} scores of {n_spheres} spheres differ at ties"
