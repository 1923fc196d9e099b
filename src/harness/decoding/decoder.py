"""The algorithm of nilearn's `Decoder`, on samples that are already in memory.

For every fold the estimator is fitted once per value of its grid, the value that scores best on the held-out
volumes is kept, and the coefficients of the folds are averaged into one model.

References
----------
nilearn 0.14.1, `nilearn.decoding.Decoder`: https://nilearn.github.io/stable/modules/decoding.html
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from sklearn.base import ClassifierMixin, clone
from sklearn.feature_selection import SelectPercentile, f_classif
from sklearn.metrics import get_scorer
from sklearn.model_selection import ParameterGrid
from sklearn.svm import l1_min_c
from sklearn.utils import check_random_state

from harness.decoding.estimator import L1_LOSSES, REFUSALS, Estimator
from harness.decoding.grid_scores import TriedValues, find_last_best, read_inner_scores, record_grid
from harness.decoding.scores import score_decisions
from harness.errors import UsageError, first_line
from harness.samples.samples import FoldPreprocessing
from harness.samples.signal import find_moments, zscore
from harness.solvers.decoders import CandidateDecoders

Folds = Sequence[tuple[np.ndarray, np.ndarray]]

MIN_VOXELS_FOR_SCREENING = 100  # nilearn screens only above this


class FittedDecoder(Protocol):
    """A fitted decoder: the mean over folds of the best model of every fold.

    K = 2 classes make one problem, K > 2 classes make K one-vs-rest problems.
    """

    @property
    def classes(self) -> np.ndarray:
        """Classes in alphabetical order; for two, positive decision values mean the second."""

    @property
    def scores(self) -> np.ndarray:
        """Score of the best model, (n_folds, n_problems), on the same fold on which it was chosen."""

    @property
    def params(self) -> tuple[tuple[Mapping[str, Any], ...], ...]:
        """Parameters of the best models, n_folds by n_problems."""

    @property
    def tried(self) -> tuple[tuple[TriedValues | None, ...], ...]:
        """Scores of every value of the grid, n_folds by n_problems; empty where the engine keeps none."""

    @property
    def coef(self) -> np.ndarray | None:
        """Mean coefficients over folds, (n_problems, n_voxels); None for a dummy."""

    @property
    def coef_sd(self) -> np.ndarray | None:
        """Standard deviation over folds, with ddof=0 as nilearn's ``std_coef_``; None for a dummy."""

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return decision values, (n_samples,) for two classes, else (n_samples, n_classes)."""

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the class of every sample of X, (n_samples, n_voxels), not standardised."""

    def classify(self, decision: np.ndarray) -> np.ndarray:
        """Return the class that `predict` would return for decision values."""


@dataclass(frozen=True, eq=False)
class SelectedModels(ABC):
    """The outcome of choosing models, which all decoders share; see `FittedDecoder`."""

    classes: np.ndarray
    scores: np.ndarray
    params: tuple[tuple[Mapping[str, Any], ...], ...]
    tried: tuple[tuple[TriedValues | None, ...], ...] = field(default=(), kw_only=True)

    @abstractmethod
    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return decision values; see `FittedDecoder.decision_function`."""

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the class of every sample; see `FittedDecoder.predict`."""
        return self.classify(self.decision_function(X))

    def classify(self, decision: np.ndarray) -> np.ndarray:
        """Return the class of decision values; see `FittedDecoder.classify`."""
        if decision.ndim == 1:
            return self.classes[(decision > 0).astype(int)]
        return self.classes[decision.argmax(axis=1)]


@dataclass(frozen=True, eq=False)
class LinearDecoder(SelectedModels):
    """A decoder with weights.

    Attributes
    ----------
    coef, coef_sd : ndarray of shape (n_problems, n_voxels)
        Mean and standard deviation (ddof=0, as nilearn's ``std_coef_``) of the coefficients over folds.
    intercept : ndarray of shape (n_problems,)
        Mean intercepts over folds.
    standardise : callable
        Standardises volumes before they are predicted.
    """

    coef: np.ndarray
    coef_sd: np.ndarray
    intercept: np.ndarray
    standardise: Callable[[np.ndarray], np.ndarray]

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return decision values; see `FittedDecoder.decision_function`."""
        decision = self.standardise(X) @ self.coef.T + self.intercept
        return decision[:, 0] if decision.shape[1] == 1 else decision


@dataclass(frozen=True, eq=False)
class DummyDecoder(SelectedModels):
    """A decoder that uses the labels alone.

    Attributes
    ----------
    prior : ndarray of shape (n_problems, 2)
        Share of the rest and of the class among the training volumes.
    guesses : bool
        Whether it draws classes by their shares, rather than always naming the most frequent one.
    """

    prior: np.ndarray
    guesses: bool

    @property
    def coef(self) -> None:
        """None: a dummy has no weights."""

    @property
    def coef_sd(self) -> None:
        """None: a dummy has no weights."""

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return guesses as decision values; see `FittedDecoder.decision_function`."""
        shares = self.prior[0] if len(self.prior) == 1 else self.prior[:, 1]
        if self.guesses:
            # nilearn re-seeds for every prediction, so that a dummy's guesses are the same in every fold.
            named = np.random.default_rng(0).multinomial(1, shares, size=len(X))
        else:
            named = np.tile(np.eye(len(shares), dtype=int)[shares.argmax()], (len(X), 1))
        return named[:, 1] - named[:, 0] if len(self.prior) == 1 else named


@dataclass(frozen=True, eq=False)
class TrainingMoments:
    """Standardises volumes by the mean and standard deviation (ddof=1) of the training volumes.

    Attributes
    ----------
    location, scale : ndarray of shape (n_voxels,), float64
        See `harness.samples.signal.find_moments`.
    """

    location: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray) -> "TrainingMoments":
        """Return the moments of volumes."""
        location, scale = find_moments(X)
        return cls(location[0], scale[0])

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Return the standardised volumes."""
        return (X - self.location) / self.scale


def _zscore_double(X: np.ndarray) -> np.ndarray:
    return zscore(X).astype(np.float64)


def _as_double(X: np.ndarray) -> np.ndarray:
    return X.astype(np.float64)


def fit_decoder(
    X: np.ndarray,
    y: np.ndarray,
    folds: Folds,
    estimator: Estimator,
    scorer: str,
    preparation: FoldPreprocessing,
) -> FittedDecoder:
    """Fit the best model of every fold and average them.

    Where volumes are standardised by the training volumes, the folds' coefficients are in units of their own
    training volumes, which hardly differ, and the decoder standardises by all of them.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels), float32
        Masked volumes.
    y : ndarray of shape (n_samples,), str
        Class of every sample.
    scorer : str
        Name of the scikit-learn scorer that chooses among the grid. Ties go to the last value of the list.
    preparation : FoldPreprocessing
        Standardisation, over all given samples or over the training volumes of each fold, and screening.
    """
    classes = np.unique(y)
    problems = classes if len(classes) > 2 else classes[1:]
    Y = np.where(y[:, np.newaxis] == problems, 1, -1)
    standardise: Callable[[np.ndarray], np.ndarray] = _as_double
    if preparation.zscore == "own":
        standardise = _zscore_double
    Z = standardise(X)
    fit_folds: FitFolds = _fit_each
    if estimator.is_solved_together:
        fit_folds = _fit_batched
    elif estimator.is_dummy and not estimator.grid:
        fit_folds = _fit_dummy
    screens = preparation.screening_percentile < 100 and X.shape[1] > MIN_VOXELS_FOR_SCREENING
    if screens or preparation.zscore == "train":
        # Every fold has voxels of its own, in units of its own.
        best = [
            _fit_prepared(Z, Y, fold, estimator, scorer, preparation, screens, fit_folds) for fold in folds
        ]
    else:
        best = fit_folds(Z, Y, folds, estimator, scorer)
    scores = np.array([[fit.score for fit in fold] for fold in best])
    params = tuple(tuple(fit.params for fit in fold) for fold in best)
    tried = tuple(tuple(fit.tried for fit in fold) for fold in best)
    means = np.array([[fit.intercept for fit in fold] for fold in best]).mean(axis=0)
    values = np.array([[fit.values for fit in fold] for fold in best])
    if estimator.is_dummy:
        guesses = estimator.model.strategy == "stratified"
        return DummyDecoder(classes, scores, params, values.mean(axis=0), guesses, tried=tried)
    if preparation.zscore == "train":
        standardise = TrainingMoments.of(X)
    mean, sd = values.mean(axis=0), values.std(axis=0)
    return LinearDecoder(classes, scores, params, mean, sd, means, standardise, tried=tried)


@dataclass(frozen=True)
class _Fit:
    """The best model of one fold and problem.

    Attributes
    ----------
    values : ndarray of shape (n_voxels,), or (2,) for a dummy
        Coefficients; for a dummy the share of the rest and of the class.
    """

    score: float
    params: Mapping[str, Any]
    values: np.ndarray
    intercept: float = 0.0
    tried: TriedValues | None = None


FitFolds = Callable[[np.ndarray, np.ndarray, Folds, Estimator, str], list[list[_Fit]]]
"""Returns the best model of every fold and problem, from standardised voxels and labels of -1 and +1."""


def _fit_prepared(
    Z: np.ndarray,
    Y: np.ndarray,
    fold: tuple[np.ndarray, np.ndarray],
    estimator: Estimator,
    scorer: str,
    preparation: FoldPreprocessing,
    screens: bool,
    fit_folds: FitFolds,
) -> list[_Fit]:
    """Standardise and screen the voxels by the training volumes of a fold, and fit its problems."""
    train, _ = fold
    if preparation.zscore == "train":
        Z = TrainingMoments.of(Z[train])(Z)
    if not screens:
        return fit_folds(Z, Y, [fold], estimator, scorer)[0]
    fits = []
    for y in Y.T:
        screen = SelectPercentile(f_classif, percentile=preparation.screening_percentile)
        screen.fit(Z[train], y[train])
        ((best,),) = fit_folds(screen.transform(Z), y[:, np.newaxis], [fold], estimator, scorer)
        if not estimator.is_dummy:  # the voxels that were screened out have the weight 0
            best = replace(best, values=screen.inverse_transform(best.values[np.newaxis])[0])
        fits.append(best)
    return fits


def _fit_batched(
    Z: np.ndarray, Y: np.ndarray, folds: Folds, estimator: Estimator, scorer: str
) -> list[list[_Fit]]:
    """Solve all folds, values of the grid and problems at once, with a solver that can."""
    try:
        tried = estimator.model.solve_folds(Z, Y, [train for train, _ in folds], estimator.grid)
    except ValueError as error:
        raise UsageError(f"estimator={estimator.name} cannot be fitted: {error}") from error
    decoders = tried.decoders
    chosen = np.empty((len(folds), Y.shape[1]), dtype=int)
    scores = np.empty((*chosen.shape, decoders.intercepts.shape[1]))
    for index in np.ndindex(*chosen.shape):
        fold, problem = index
        test = folds[fold][1]
        scores[index] = score_decisions(
            scorer, Y[test, problem], decoders.decisions[fold, :, problem][:, test]
        )
        chosen[index] = find_last_best(scores[index])
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
                score=float(scores[i, j, chosen[i, j]]),
                params={} if values is None else {str(tried.parameter): float(values[i, j])},
                values=coefs[i, j],
                intercept=float(intercepts[i, j]),
                tried=_read_tried(tried, (i, j), scorer, scores[i, j], int(chosen[i, j])),
            )
            for j in range(Y.shape[1])
        ]
        for i in range(len(folds))
    ]


def _read_tried(
    tried: CandidateDecoders, index: tuple[int, int], scorer: str, scores: np.ndarray, chosen: int
) -> TriedValues | None:
    """Return the values that one fold and problem tried, with the scores by which one was chosen."""
    if tried.values is None:
        return None
    fold, problem = index
    values, name = tried.values[fold, :, problem], str(tried.parameter)
    if tried.inner is None:
        return TriedValues(name, values, scorer, scores, chosen)
    inner = tried.inner
    place = int((inner.penalties == values[0]).argmax())
    return TriedValues(name, inner.penalties, inner.name, inner.scores[fold, problem], place)


def _fit_each(
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
            fits[-1].append(_Fit(score=score, params={}, values=prior))
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
    grid, scores = [], []
    for params in _grid_values(estimator, X_train, y_train):
        try:
            model = clone(estimator.model).set_params(**params).fit(X_train, y_train)
            score = float(score_model(model, X_test, y_test))
        except REFUSALS as error:  # scikit-learn checks arguments when it fits
            is_own = not type(estimator.model).__module__.startswith("sklearn.")
            if is_own and not isinstance(error, TypeError | ValueError):
                raise  # a defect in the user's own class: its traceback is needed
            reason = _explain_refusal(estimator.model, error)
            raise UsageError(
                f"estimator={estimator.name} cannot be fitted with {params}: {reason}"
            ) from error
        grid.append(params)
        scores.append(score)
        if best is None or score >= best.score:
            has_weights = hasattr(model, "coef_")
            if not has_weights and not estimator.is_dummy:
                raise UsageError(
                    f"estimator={estimator.name}: {type(model).__name__} has no coef_ after fitting; the "
                    "Decoder averages linear weights over folds, so a linear classifier is needed"
                )
            best = _Fit(
                score=score,
                params=params | _chosen_inside(model),
                values=np.ravel(model.coef_) if has_weights else model.class_prior_,
                intercept=float(np.ravel(model.intercept_)[0]) if has_weights else 0.0,
                tried=None if params else read_inner_scores(model),
            )
    assert best is not None
    return replace(best, tried=record_grid(grid, scorer, scores)) if grid[0] else best


def _explain_refusal(model: ClassifierMixin, error: Exception) -> str:
    """Return why a classifier cannot be fitted.

    Only a ValueError has words for users: the others are what Python says of an argument of a wrong type.
    """
    if isinstance(error, ValueError):
        return first_line(error)
    given = {name: value for name, value in model.get_params(deep=False).items() if value is not None}
    listed = ", ".join(f"{name}={value!r}" for name, value in given.items()) or "its arguments"
    return f"{type(model).__name__} does not work with {listed}"


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
