"""The algorithm of nilearn's `Decoder`, on samples that are already in memory.

For every fold the estimator is fitted once per value of its grid, the value that scores best on the held-out
volumes is kept, and the coefficients of the folds are averaged into one model.

References
----------
nilearn 0.14.1, `nilearn.decoding.Decoder`: https://nilearn.github.io/stable/modules/decoding.html
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, clone, is_classifier
from sklearn.dummy import DummyClassifier
from sklearn.feature_selection import SelectPercentile, f_classif
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import get_scorer
from sklearn.model_selection import ParameterGrid
from sklearn.svm import LinearSVC, l1_min_c
from sklearn.utils import check_random_state

from harness.errors import UsageError, first_line
from harness.samples.samples import Preparation
from harness.samples.signal import zscore
from harness.solvers.estimators import LinearClassifier

Folds = Sequence[tuple[np.ndarray, np.ndarray]]

DUMMY_STRATEGIES = ("most_frequent", "prior", "stratified")
L1_LOSSES = {LinearSVC: "squared_hinge", LogisticRegression: "log", LogisticRegressionCV: "log"}
# What classifiers raise at arguments that they do not take, or that do not fit the samples.
REFUSALS = (TypeError, ValueError, ArithmeticError, AttributeError, LookupError)
MIN_VOXELS_FOR_SCREENING = 100  # nilearn screens only above this


@dataclass(frozen=True)
class Estimator:
    """A scikit-learn classifier and the values of its parameters that are tried.

    Attributes
    ----------
    name : str
        What the user types after ``estimator=``.
    model : ClassifierMixin
        Unfitted classifier; cloned for every fit.
    grid : mapping of str to list
        Values to try for each parameter. ``{"C": {"times_l1_min_c": [2, 20]}}`` means multiples of the
        smallest C for which an L1-penalised model is not empty, found for every training set.
    """

    name: str
    model: ClassifierMixin
    grid: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not is_classifier(self.model):
            raise UsageError(
                f"estimator={self.name}: {type(self.model).__name__} is no classifier; name one, such as "
                "sklearn.svm.LinearSVC"
            )
        for name, values in self.grid.items():
            if isinstance(values, Mapping) and (
                set(values) != {"times_l1_min_c"} or not isinstance(self.model, tuple(L1_LOSSES))
            ):
                raise UsageError(
                    f"estimator.grid.{name}={dict(values)}: expected a list of values, or, for a LinearSVC "
                    "or LogisticRegression, {times_l1_min_c: [2, 20, 200]}"
                )
            if isinstance(values, Mapping):
                _check_multiples(name, values["times_l1_min_c"])
        self._check_arguments()
        if self.is_dummy and self.model.strategy not in DUMMY_STRATEGIES:
            raise UsageError(
                f"estimator={self.name}: a DummyClassifier with strategy={self.model.strategy!r} is none "
                f"that nilearn's Decoder knows; expected one of {', '.join(DUMMY_STRATEGIES)}"
            )

    def _check_arguments(self) -> None:
        """Refuse arguments and values of the grid that the classifier refuses, before any data are read."""
        values = {key: tried for key, tried in self.grid.items() if not isinstance(tried, Mapping)}
        try:
            if isinstance(self.model, LinearClassifier):
                self.model.check_arguments(values)
                return
            if not type(self.model).__module__.startswith("sklearn."):
                return  # what another class does without samples is not known
            _check_by_fitting(self.model)
            for key, tried in values.items():
                for value in tried:
                    _check_by_fitting(clone(self.model).set_params(**{key: value}))
        except (TypeError, ValueError) as error:
            raise UsageError(f"estimator={self.name}: {error}") from error

    @property
    def is_dummy(self) -> bool:
        """Whether it looks at the labels alone, and so has no weights."""
        return isinstance(self.model, DummyClassifier)

    @property
    def is_solved_together(self) -> bool:
        """Whether all folds, values of the grid and problems can be solved at once."""
        return isinstance(self.model, LinearClassifier) and self.model.takes_grid(self.grid)


def _check_multiples(name: str, multiples: Any) -> None:
    if not isinstance(multiples, list | tuple) or not all(
        isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
        for value in multiples
    ):
        raise UsageError(
            f"estimator.grid.{name}.times_l1_min_c={multiples!r} cannot be used; expected numbers above 0, "
            "such as [2,20,200]"
        )


def _check_by_fitting(model: ClassifierMixin) -> None:
    """Raise what scikit-learn raises at arguments of a wrong type, and nothing else.

    It checks arguments when it fits, and before it looks at the samples: there are none here, which ends
    every other fit. Its error for arguments is both a ValueError and a TypeError; that for samples is not.
    """
    try:
        clone(model).fit(np.empty((0, 1)), np.empty(0))
    except REFUSALS as error:
        if isinstance(error, TypeError) and isinstance(error, ValueError):
            raise


@dataclass(frozen=True, eq=False)
class FittedDecoder:
    """A decoder that was fitted: the mean over folds of the best model of every fold.

    K = 2 classes make one problem, K > 2 classes make K one-vs-rest problems.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,), str
        In alphabetical order. For two classes, positive decision values mean the second.
    scores : ndarray of shape (n_folds, n_problems)
        Score of the best model of every fold, on the very fold on which it was chosen.
    params : tuple of tuple of dict, n_folds by n_problems
        The parameters of the best models.
    coef : ndarray of shape (n_problems, n_voxels), or None without weights
        Mean coefficients over folds.
    coef_sd : ndarray of shape (n_problems, n_voxels), or None without weights
        Standard deviation (ddof=0) of the coefficients over folds.
    intercept : ndarray of shape (n_problems,), or None without weights
        Mean intercepts over folds.
    prior : ndarray of shape (n_problems, 2), or None with weights
        Share of the rest and of the class among the training volumes, for a dummy.
    guesses : bool
        Whether a dummy draws classes by their shares, rather than always naming the most frequent one.
    zscore : {"own", "train"} or None
        How volumes are standardised before they are predicted.
    location, scale : ndarray of shape (n_voxels,), or None
        Mean and standard deviation of all volumes that it was given, where `zscore` is "train"; the folds'
        coefficients are in units of their own training volumes, which hardly differ.
    """

    classes: np.ndarray
    scores: np.ndarray
    params: tuple[tuple[Mapping[str, Any], ...], ...]
    coef: np.ndarray | None
    coef_sd: np.ndarray | None
    intercept: np.ndarray | None
    prior: np.ndarray | None
    guesses: bool = False
    zscore: str | None = None
    location: np.ndarray | None = None
    scale: np.ndarray | None = None

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return one decision value per sample and problem.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_voxels)
            Masked volumes, standardised here as `zscore` says.

        Returns
        -------
        decision : ndarray of shape (n_samples,) for two classes, else (n_samples, n_classes)
        """
        if self.coef is None or self.intercept is None:
            return self._guess(len(X))
        decision = self._standardise(X) @ self.coef.T + self.intercept
        return decision[:, 0] if decision.shape[1] == 1 else decision

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the class of every sample.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_voxels)

        Returns
        -------
        y : ndarray of shape (n_samples,), str
        """
        return self.classify(self.decision_function(X))

    def classify(self, decision: np.ndarray) -> np.ndarray:
        """Return the class that decision values speak for.

        Parameters
        ----------
        decision : ndarray of shape (n_samples,) for two classes, else (n_samples, n_classes)

        Returns
        -------
        y : ndarray of shape (n_samples,), str
        """
        if decision.ndim == 1:
            return self.classes[(decision > 0).astype(int)]
        return self.classes[decision.argmax(axis=1)]

    def _standardise(self, X: np.ndarray) -> np.ndarray:
        if self.zscore == "own":
            return zscore(X).astype(np.float64)
        if self.zscore == "train":
            return (X - self.location) / self.scale
        return X.astype(np.float64)

    def _guess(self, n_samples: int) -> np.ndarray:
        assert self.prior is not None
        shares = self.prior[0] if len(self.prior) == 1 else self.prior[:, 1]
        if self.guesses:
            # nilearn re-seeds for every prediction, so that a dummy's guesses are the same in every fold.
            named = np.random.default_rng(0).multinomial(1, shares, size=n_samples)
        else:
            named = np.tile(np.eye(len(shares), dtype=int)[shares.argmax()], (n_samples, 1))
        return named[:, 1] - named[:, 0] if len(self.prior) == 1 else named


def training_moments(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation (ddof=1) of every voxel, with 1 in place of a zero SD.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)

    Returns
    -------
    location, scale : ndarray of shape (n_voxels,), float64
    """
    scale = X.std(axis=0, ddof=1, dtype=np.float64)
    scale[scale < np.finfo(np.float64).eps] = 1.0
    return X.mean(axis=0, dtype=np.float64), scale


def fit_decoder(
    X: np.ndarray,
    y: np.ndarray,
    folds: Folds,
    estimator: Estimator,
    scorer: str,
    preparation: Preparation,
) -> FittedDecoder:
    """Fit the best model of every fold and average them.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels), float32
        Masked volumes.
    y : ndarray of shape (n_samples,), str
        Class of every sample.
    folds : sequence of (train, test) index arrays
    estimator : Estimator
    scorer : str
        Name of the scikit-learn scorer that chooses among the grid. Ties go to the last value of the list.
    preparation : Preparation
        Standardisation, over all given samples or over the training volumes of each fold, and screening.

    Returns
    -------
    FittedDecoder
    """
    classes = np.unique(y)
    problems = classes if len(classes) > 2 else classes[1:]
    Y = np.where(y[:, np.newaxis] == problems, 1, -1)
    Z = zscore(X).astype(np.float64) if preparation.zscore == "own" else X.astype(np.float64)
    fit = _fit_one_by_one
    if estimator.is_solved_together:
        fit = _fit_together
    elif estimator.is_dummy and not estimator.grid:
        fit = _fit_dummy
    screens = preparation.screening_percentile < 100 and X.shape[1] > MIN_VOXELS_FOR_SCREENING
    if screens or preparation.zscore == "train":
        # Every fold has voxels of its own, in units of its own.
        best = [_fit_prepared(Z, Y, fold, estimator, scorer, preparation, screens, fit) for fold in folds]
    else:
        best = fit(Z, Y, folds, estimator, scorer)
    moments = training_moments(X) if preparation.zscore == "train" else (None, None)
    has_weights = best[0][0].coef is not None
    coefs = np.array([[fit.coef for fit in fold] for fold in best]) if has_weights else None
    return FittedDecoder(
        classes=classes,
        scores=np.array([[fit.score for fit in fold] for fold in best]),
        params=tuple(tuple(fit.params for fit in fold) for fold in best),
        coef=None if coefs is None else coefs.mean(axis=0),
        coef_sd=None if coefs is None else coefs.std(axis=0),
        intercept=np.array([[fit.intercept for fit in fold] for fold in best]).mean(axis=0)
        if has_weights
        else None,
        prior=None if has_weights else np.array([[fit.prior for fit in fold] for fold in best]).mean(axis=0),
        guesses=estimator.is_dummy and estimator.model.strategy == "stratified",
        zscore=preparation.zscore,
        location=moments[0],
        scale=moments[1],
    )


@dataclass(frozen=True)
class _Fit:
    """The best model of one fold and problem."""

    score: float
    params: Mapping[str, Any]
    coef: np.ndarray | None
    intercept: float | None
    prior: np.ndarray | None


FitFolds = Callable[[np.ndarray, np.ndarray, Folds, Estimator, str], list[list[_Fit]]]
"""Returns the best model of every fold and problem, from standardised voxels and labels of -1 and +1."""


def _fit_prepared(
    Z: np.ndarray,
    Y: np.ndarray,
    fold: tuple[np.ndarray, np.ndarray],
    estimator: Estimator,
    scorer: str,
    preparation: Preparation,
    screens: bool,
    fit: FitFolds,
) -> list[_Fit]:
    """Standardise and screen the voxels by the training volumes of a fold, and fit its problems."""
    train, _ = fold
    if preparation.zscore == "train":
        location, scale = training_moments(Z[train])
        Z = (Z - location) / scale
    if not screens:
        return fit(Z, Y, [fold], estimator, scorer)[0]
    fits = []
    for y in Y.T:
        screen = SelectPercentile(f_classif, percentile=preparation.screening_percentile)
        screen.fit(Z[train], y[train])
        ((best,),) = fit(screen.transform(Z), y[:, np.newaxis], [fold], estimator, scorer)
        # The voxels that were screened out have the weight 0.
        coef = None if best.coef is None else screen.inverse_transform(best.coef[np.newaxis])[0]
        fits.append(replace(best, coef=coef))
    return fits


def _fit_together(
    Z: np.ndarray, Y: np.ndarray, folds: Folds, estimator: Estimator, scorer: str
) -> list[list[_Fit]]:
    """Solve all folds, values of the grid and problems at once, with a solver that can."""
    try:
        tried = estimator.model.solve_folds(Z, Y, [train for train, _ in folds], estimator.grid)
    except ValueError as error:
        raise UsageError(f"estimator={estimator.name} cannot be fitted: {error}") from error
    decoders = tried.decoders
    chosen = np.empty((len(folds), Y.shape[1]), dtype=int)
    scores = np.empty(chosen.shape)
    for index in np.ndindex(*chosen.shape):
        fold, problem = index
        test = folds[fold][1]
        each = score_decisions(scorer, Y[test, problem], decoders.decisions[fold, :, problem][:, test])
        chosen[index] = _last_best(each)
        scores[index] = each[chosen[index]]
    fold, problem = np.indices(chosen.shape)
    best = replace(
        decoders,
        weights=decoders.weights[fold, chosen, problem][:, np.newaxis],
        intercepts=decoders.intercepts[fold, chosen, problem][:, np.newaxis],
    )
    coefs, intercepts = best.coef(Z)[:, 0], best.intercepts[:, 0]
    values = None if tried.values is None else tried.values[fold, chosen, problem]
    return [
        [
            _Fit(
                score=float(scores[i, j]),
                params={} if values is None else {str(tried.parameter): float(values[i, j])},
                coef=coefs[i, j],
                intercept=float(intercepts[i, j]),
                prior=None,
            )
            for j in range(Y.shape[1])
        ]
        for i in range(len(folds))
    ]


def score_decisions(scorer: str, y: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """Score decision values as scikit-learn's scorers score a linear classifier.

    Parameters
    ----------
    scorer : {"accuracy", "balanced_accuracy", "roc_auc"}
    y : ndarray of shape (n_samples,)
        Labels of -1 and +1.
    decisions : ndarray of shape (n_decoders, n_samples)
        Above zero means +1.

    Returns
    -------
    scores : ndarray of shape (n_decoders,)
        Areas are NaN where `y` holds one label; they are counted, so that two decoders that order the samples
        alike have the same area to the last digit, and tie.
    """
    positive = y > 0
    if scorer == "roc_auc":
        n_positive, n_negative = int(positive.sum()), int((~positive).sum())
        if n_positive == 0 or n_negative == 0:
            return np.full(len(decisions), np.nan)
        wins = [_count_wins(f[positive], np.sort(f[~positive])) for f in decisions]
        return np.array(wins) / (n_positive * n_negative)
    right = (decisions > 0) == positive
    if scorer == "accuracy":
        return right.mean(axis=1)
    shown = [label for label in (positive, ~positive) if label.any()]
    return np.mean([right[:, label].mean(axis=1) for label in shown], axis=0)


def _count_wins(positives: np.ndarray, negatives: np.ndarray) -> float:
    """Return how often a positive lies above one of the sorted negatives; a tie is half of it."""
    return (
        float((negatives.searchsorted(positives, "left") + negatives.searchsorted(positives, "right")).sum())
        / 2
    )


def _last_best(scores: np.ndarray) -> int:
    """Return the place of the largest score; of equal ones the last, as nilearn's Decoder does."""
    best = 0
    for place, score in enumerate(scores):
        if score >= scores[best]:
            best = place
    return best


def _fit_one_by_one(
    Z: np.ndarray, Y: np.ndarray, folds: Folds, estimator: Estimator, scorer: str
) -> list[list[_Fit]]:
    """Fit any scikit-learn classifier, one fold, value of the grid and problem after the other."""
    return [
        [_fit_best(Z[train], y[train], Z[test], y[test], estimator, scorer) for y in Y.T]
        for train, test in folds
    ]


def _fit_dummy(
    Z: np.ndarray, Y: np.ndarray, folds: Folds, estimator: Estimator, scorer: str
) -> list[list[_Fit]]:
    """Fit a DummyClassifier to every fold: it looks at the labels alone, and counting them takes no time."""
    fits: list[list[_Fit]] = []
    for train, test in folds:
        fits.append([])
        for y in Y.T:
            prior = np.bincount(y[train] > 0, minlength=2) / len(train)
            if estimator.model.strategy == "stratified":
                try:
                    # A clone of the model starts from the same state at every fit.
                    random = check_random_state(deepcopy(estimator.model.random_state))
                except ValueError as error:
                    raise UsageError(f"estimator={estimator.name} cannot be fitted: {error}") from error
                named = random.multinomial(1, prior, size=len(test))
            else:
                named = np.tile(prior, (len(test), 1))
            decisions = (named[:, 1] - named[:, 0])[np.newaxis]
            score = float(score_decisions(scorer, y[test], decisions)[0])
            fits[-1].append(_Fit(score=score, params={}, coef=None, intercept=None, prior=prior))
    return fits


def _fit_best(
    X_train: np.ndarray,
    y_train: np.ndarray,
    X_test: np.ndarray,
    y_test: np.ndarray,
    estimator: Estimator,
    scorer: str,
) -> _Fit:
    """Fit every value of the grid and keep the one that scores best on the held-out volumes."""
    score_model = get_scorer(scorer)
    best: _Fit | None = None
    for params in _grid_values(estimator, X_train, y_train):
        try:
            model = clone(estimator.model).set_params(**params).fit(X_train, y_train)
            score = float(score_model(model, X_test, y_test))
        except REFUSALS as error:  # scikit-learn checks arguments when it fits
            is_own = not type(estimator.model).__module__.startswith("sklearn.")
            if is_own and not isinstance(error, TypeError | ValueError):
                raise  # a defect in a class of the user's own: its traceback is what helps
            reason = first_line(error)
            raise UsageError(
                f"estimator={estimator.name} cannot be fitted with {params}: {reason}"
            ) from error
        if best is None or score >= best.score:
            has_weights = hasattr(model, "coef_")
            if not has_weights and not hasattr(model, "class_prior_"):
                raise UsageError(
                    f"estimator={estimator.name}: {type(model).__name__} has no coef_ after fitting; the "
                    "Decoder averages linear weights over folds, so a linear classifier is needed"
                )
            best = _Fit(
                score=score,
                params=params | _chosen_inside(model),
                coef=np.ravel(model.coef_) if has_weights else None,
                intercept=float(np.ravel(model.intercept_)[0]) if has_weights else None,
                prior=None if has_weights else model.class_prior_,
            )
    assert best is not None
    return best


def _grid_values(estimator: Estimator, X: np.ndarray, y: np.ndarray) -> Iterator[dict[str, Any]]:
    grid = {}
    for name, values in estimator.grid.items():
        if isinstance(values, Mapping):
            smallest = l1_min_c(X, y, loss=_l1_loss(estimator.model))
            values = smallest * np.asarray(values["times_l1_min_c"], dtype=float)
        grid[name] = values
    yield from ParameterGrid(grid)


def _l1_loss(model: ClassifierMixin) -> str:
    return next(loss for kind, loss in L1_LOSSES.items() if isinstance(model, kind))


def _chosen_inside(model: ClassifierMixin) -> dict[str, float]:
    """Return the value that a model with a search of its own chose inside the training volumes."""
    if hasattr(model, "Cs") and hasattr(model, "C_"):
        return {"C": float(np.ravel(model.C_)[0])}
    if hasattr(model, "alphas") and hasattr(model, "alpha_"):
        return {"alpha": float(model.alpha_)}
    return {}
