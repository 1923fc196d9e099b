"""Spheres scored by nilearn's own `SearchLight`: any scikit-learn classifier, and an independent check.

nilearn receives an image, finds the spheres, and trains and scores with scikit-learn's `cross_val_score`.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import get_scorer
from sklearn.pipeline import make_pipeline
from sklearn.svm import l1_min_c

from harness.decoding.choices import Scorer
from harness.decoding.estimator import REFUSALS
from harness.decoding.scores import roc_auc
from harness.errors import UsageError, first_line
from harness.samples.samples import VoxelGrid
from harness.samples.signal import find_moments
from harness.searchlight.choices import Statistic
from harness.searchlight.fold_samples import Folds
from harness.searchlight.sphere_scores import SphereScores
from harness.searchlight.spheres import TOLERANCE, Spheres
from harness.solvers.threads import one_blas_thread

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Labels = NDArray[np.str_]


class OwnMoments(TransformerMixin, BaseEstimator):
    """Standardises volumes, of training or held out, by their own mean and SD (ddof=1)."""

    def fit(self, X: Array, y: Any = None) -> Self:
        """Return the transformer; nothing is estimated."""
        return self

    def transform(self, X: Array) -> Array:
        """Return the standardised volumes."""
        return standardise(X, X)

    def __sklearn_is_fitted__(self) -> bool:
        return True


class TrainingSetMoments(TransformerMixin, BaseEstimator):
    """Standardises volumes by the mean and SD (ddof=1) of the training volumes."""

    def fit(self, X: Array, y: Any = None) -> Self:
        """Store the training volumes."""
        self.reference_ = X
        return self

    def transform(self, X: Array) -> Array:
        """Return the standardised volumes."""
        return standardise(X, self.reference_)


class FirstMultiple(ClassifierMixin, BaseEstimator):
    """A classifier whose C is a multiple of the smallest one with a non-zero weight, in every training set.

    Parameters
    ----------
    parameter : str
        What is set; C.
    multiple : float
    loss : {"squared_hinge", "log"}
        Of the model, as `sklearn.svm.l1_min_c` names it.
    """

    def __init__(self, model: ClassifierMixin, parameter: str, multiple: float, loss: str) -> None:
        self.model = model
        self.parameter = parameter
        self.multiple = multiple
        self.loss = loss

    def fit(self, X: Array, y: Labels) -> Self:
        """Train on X of shape (n_samples, n_voxels) and labels y of shape (n_samples,)."""
        smallest = l1_min_c(X, y, loss=self.loss)
        self.model_ = clone(self.model).set_params(**{self.parameter: self.multiple * smallest}).fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X: Array) -> Labels:
        """Return the class of every sample."""
        return self.model_.predict(X)

    def decision_function(self, X: Array) -> Array:
        """Return decision values, (n_samples,) for two classes, else (n_samples, n_classes)."""
        return self.model_.decision_function(X)


def standardise(X: Array, reference: Array) -> Array:
    """Return volumes, standardised by the mean and SD (ddof=1) of others; constant voxels become 0."""
    location, scale = find_moments(reference)
    return np.asarray((X - location) / scale)


@dataclass(frozen=True, eq=False)
class NilearnScorer:
    """Scores spheres with nilearn's `SearchLight`; see `harness.searchlight.sphere_scores.SphereScorer`.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_voxels)
        Not standardised.
    zscore : {"own", "train"} or None
        See `harness.searchlight.fold_samples.FoldSamples`.
    labels : ndarray of shape (n_labellings, n_samples), str
        They are taken one after the other.
    name : str
        Of the estimator, in messages.
    """

    X: Array
    grid: VoxelGrid
    folds: Folds
    zscore: str | None
    labels: Labels
    spheres: Spheres
    radius: float
    model: ClassifierMixin
    statistic: str
    name: str

    def score(self, numbers: Index) -> SphereScores:
        """Return the scores of the spheres of these numbers; no sphere's depend on the others'."""
        scores = np.empty((len(Scorer), len(numbers)))
        statistics = np.empty((len(self.labels), len(numbers)))
        if len(numbers) == 0:
            return SphereScores(scores, statistics)
        image, mask, centres, order = self._cut_out(numbers)
        with one_blas_thread():
            for row, y in enumerate(self.labels):
                found = self._search(image, mask, centres, y, tuple(Scorer) if row == 0 else ())
                statistics[row, order] = found[-1]
                if row == 0:
                    scores[:, order] = found[:-1]
        return SphereScores(scores, statistics)

    def _cut_out(self, numbers: Index) -> tuple[Any, Any, Any, Index]:
        """Return image, mask and centres, cut to the voxels of some spheres, and nilearn's order of spheres.

        nilearn looks every centre up in a list of all voxels of the mask.
        """
        columns = np.unique(np.concatenate([self.spheres.columns_of(number) for number in numbers]))
        at = np.argwhere(self.grid.mask)[columns]
        corner = at.min(axis=0)
        places = tuple((at - corner).T)
        shape = tuple(at.max(axis=0) - corner + 1)
        affine = self.grid.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ corner
        data = np.zeros((*shape, len(self.X)))
        data[places] = self.X[:, columns].T
        mask, centres = np.zeros(shape, dtype=np.int8), np.zeros(shape, dtype=np.int8)
        mask[places] = 1
        own = np.searchsorted(columns, self.spheres.centres[numbers])
        centres[tuple((at[own] - corner).T)] = 1
        images = [nib.Nifti1Image(values, affine) for values in (data, mask, centres)]
        # Columns, and nilearn's centres, are in C order of the grid.
        return images[0], images[1], images[2], np.argsort(own)

    def _search(self, image: Any, mask: Any, centres: Any, y: Labels, report: Sequence[str]) -> Array:
        """Return the scores of the centres under one labelling, the statistic last."""
        from nilearn.decoding import SearchLight

        steps = {"own": [OwnMoments()], "train": [TrainingSetMoments()], None: []}[self.zscore]
        recorder = ScoreRecorder(np.unique(y), report, self.statistic)
        search = SearchLight(
            mask_img=mask,
            process_mask_img=centres,
            radius=self.radius + TOLERANCE,
            estimator=make_pipeline(*steps, clone(self.model)),
            n_jobs=1,
            scoring=recorder,
            cv=list(self.folds),
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Use a custom estimator")
            # scikit-learn scores folds that cannot be fitted NaN.
            warnings.filterwarnings("error", category=FitFailedWarning)
            try:
                search.fit(image, y)
            except (*REFUSALS, FitFailedWarning) as error:
                is_own = not type(self.model).__module__.startswith(("sklearn.", "harness."))
                if is_own and not isinstance(error, TypeError | ValueError | Warning):
                    raise  # a defect in the user's own class: its traceback is needed
                # Ends with the traceback of a fold.
                reason = str(error).strip().splitlines()[-1].split("Error: ", 1)[-1]
                raise UsageError(f"estimator={self.name} cannot be fitted: {reason}") from error
        if recorder.error is not None:
            reason = first_line(recorder.error)
            raise UsageError(f"estimator={self.name} cannot be scored: {reason}") from recorder.error
        folds = np.reshape(recorder.scores, (-1, len(self.folds), len(report) + 1))
        means = folds.mean(axis=1).T
        means[-1] = search.masked_scores_
        return means


@dataclass(eq=False)
class ScoreRecorder:
    """Scores a fitted classifier in several ways, because nilearn's `SearchLight` takes one.

    Accuracy, balanced accuracy and the area of two classes are those of scikit-learn's scorers; the area of
    several classes and ``"decision_value"``, which scikit-learn lacks, those of `harness.decoding.scores` and
    `harness.searchlight.settings`.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        In alphabetical order.
    report : sequence of str
        What is recorded in addition to the statistic.
    scores : list of list of float
        One row per call, the statistic last.
    error : Exception or None
        Of the first call that failed.
    """

    classes: Labels
    report: Sequence[str]
    statistic: str
    scores: list[list[float]] = field(default_factory=list)
    error: Exception | None = None

    def __call__(self, estimator: ClassifierMixin, X: Array, y: Labels) -> float:
        """Return the statistic of held-out samples, and record all scores."""
        row = [np.nan] * (len(self.report) + 1)
        try:
            row = [self._score(name, estimator, X, y) for name in (*self.report, self.statistic)]
        except REFUSALS as error:
            # scikit-learn would make a warning and a NaN of it.
            self.error = self.error or error
        self.scores.append(row)
        return row[-1]

    def _score(self, name: str, estimator: ClassifierMixin, X: Array, y: Labels) -> float:
        has_values = hasattr(estimator, "decision_function") or hasattr(estimator, "predict_proba")
        if name in (Statistic.accuracy, Statistic.balanced_accuracy):
            return float(get_scorer(str(name))(estimator, X, y))
        if name == Statistic.roc_auc and len(self.classes) == 2 and has_values:
            return float(get_scorer(str(name))(estimator, X, y))
        measure: Callable[[NDArray[np.bool_], Array], float] = roc_auc
        if name == Statistic.decision_value:
            measure = halve_difference
        values = self._decide(estimator, X)
        if len(self.classes) == 2:
            return measure(y == self.classes[1], values[:, 1])
        present = [k for k, label in enumerate(self.classes) if 0 < np.sum(y == label) < len(y)]
        return float(np.mean([measure(y == self.classes[k], values[:, k]) for k in present]))

    def _decide(self, estimator: ClassifierMixin, X: Array) -> Array:
        """Return a value per class, (n_samples, n_classes).

        Decision values; if the classifier has none, probabilities; if it has neither, 1 for the predicted
        class and -1 for the others.
        """
        for method in ("decision_function", "predict_proba"):
            if hasattr(estimator, method):
                values = np.asarray(getattr(estimator, method)(X))
                if values.ndim == 1:
                    values = np.column_stack([-values, values])
                if values.shape[1] == len(self.classes):
                    return values
        predicted = np.asarray(estimator.predict(X))
        return np.where(predicted[:, np.newaxis] == self.classes, 1.0, -1.0)


def halve_difference(positive: NDArray[np.bool_], values: Array) -> float:
    """Return half the difference of the mean values of positive and other samples."""
    return float(values[positive].mean() - values[~positive].mean()) / 2
