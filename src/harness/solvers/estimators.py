"""scikit-learn classifiers around the exact solvers: they validate, call a function and store its result."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from harness.solvers.cholesky import Array
from harness.solvers.decoders import CandidateDecoders, InnerScores, SolvedDecoders
from harness.solvers.discriminant import fit_discriminant, solve_discriminant
from harness.solvers.logistic import solve_logistic_cv
from harness.solvers.ridge import cross_validate_ridge, fit_ridge
from harness.solvers.squared_hinge import solve_squared_hinge
from harness.solvers.training import MAX_ITER, TOL
from harness.solvers.validation import check_penalties

DECADES = tuple(float(f"1e{exponent}") for exponent in range(-3, 5))
"""nilearn's values of C for "logistic" and of alpha for "ridge_classifier": 1e-3, 1e-2, ..., 1e4."""


class LinearClassifier(ClassifierMixin, BaseEstimator):
    """What all linear classifiers share: classes, decision values and predictions.

    With two classes, positive decision values are evidence for ``classes_[1]``. With more, there is one
    decoder per class.
    """

    classes_: NDArray[Any]
    coef_: Array
    intercept_: Array

    def check_arguments(self, grid: Mapping[str, Any] | None = None) -> None:
        """Raise ValueError unless every argument, and every value of a grid, can be used."""
        tried = [(name, value) for name, values in (grid or {}).items() for value in values]
        for name, value in [*self.get_params(deep=False).items(), *tried]:
            if name in ("max_iter", "cv"):
                least = 2 if name == "cv" else 1
                if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
                    raise ValueError(
                        f"{name}={value!r} cannot be used; expected a whole number, from {least}"
                    )
            elif name == "tol":
                if not _is_finite(value) or value < 0:
                    raise ValueError(f"{name}={value!r} cannot be used; expected a number, from 0")
            else:
                values = value if isinstance(value, Sequence | np.ndarray) else [value]
                if len(values) == 0 or not all(_is_finite(each) and each > 0 for each in values):
                    raise ValueError(f"{name}={value!r} cannot be used; expected numbers above 0")

    def _validate(self, X: ArrayLike, y: ArrayLike) -> tuple[Array, NDArray[np.intp]]:
        """Return X in float64 and the code of each sample's class; store the classes."""
        self.check_arguments()
        samples, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"Two classes are needed, but y holds only one class: {self.classes_[0]!r}.")
        return samples, codes

    def _one_against_rest(self, codes: NDArray[np.intp]) -> Array:
        """Return label vectors of -1 and +1, (n_samples, 1) for two classes, else (n_samples, n_classes)."""
        positives = np.arange(len(self.classes_))[-1 if len(self.classes_) == 2 else 0 :]
        return np.where(codes[:, None] == positives, 1.0, -1.0)

    def _store_solution(self, decoders: SolvedDecoders, X: Array) -> None:
        self.coef_ = decoders.coef(X)[0, 0]
        self.intercept_ = decoders.intercepts[0, 0]
        self.n_iter_ = int(decoders.n_iter.max())
        self.gradient_ = float(decoders.gradients.max())

    def takes_grid(self, grid: Mapping[str, Any]) -> bool:
        """Whether `solve_folds` can try a grid; estimators that choose their own penalty cannot."""
        return not grid

    def solve_folds(
        self, X: ArrayLike, Y: ArrayLike, train_sets: Sequence[ArrayLike], grid: Mapping[str, Sequence[float]]
    ) -> CandidateDecoders:
        """Train on several training sets at once, for every value of a grid and several label vectors.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_voxels)
            Standardised samples, those of all training sets and those to be predicted.
        Y : ndarray of shape (n_samples, n_labels)
            Label vectors of -1 and +1.
        train_sets : sequence of ndarray of int
            Indices of the samples to train on, one per fold.
        grid : mapping of str to sequence of float
            Values to try, if `takes_grid` says that it can.
        """
        raise NotImplementedError

    def decision_function(self, X: ArrayLike) -> Array:
        """Compute decision values.

        f = X w + b

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_voxels)

        Returns
        -------
        f : ndarray of shape (n_samples,) for two classes, else (n_samples, n_classes)
        """
        check_is_fitted(self)
        samples: Array = validate_data(self, X, dtype=np.float64, reset=False)
        f = samples @ self.coef_.T + self.intercept_
        return f[:, 0] if f.shape[1] == 1 else f

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predict the class of each sample.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_voxels)

        Returns
        -------
        y : ndarray of shape (n_samples,)
        """
        f = self.decision_function(X)
        codes = (f > 0).astype(np.intp) if f.ndim == 1 else np.argmax(f, axis=1)
        return self.classes_[codes]


class ExactLinearSVC(LinearClassifier):
    """Linear support vector machine, solved to its optimum.

    min_w,b  1/2 ||w||^2 + 1/2 b^2 + C sum_i max(0, 1 - y_i (w^T x_i + b))^2

    The same decoder as ``LinearSVC(C=C)``, whose solver stops earlier. Several classes are taken one against
    the rest.

    Parameters
    ----------
    C : float
        Weight of the loss against the penalty.
    tol : float
        Length of Newton's step, relative to the coefficients, at which to stop.
    max_iter : int
        Newton steps after which to give up, with a ConvergenceWarning. The warning also says where rounding
        may leave more than 1e-8 of the coefficients.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (1, n_voxels) for two classes, else (n_classes, n_voxels)
    intercept_ : ndarray of shape (1,) or (n_classes,)
    n_iter_ : int
        Newton steps, the most of any decoder.
    gradient_ : float
        Relative norm of the gradient at the solution, the largest of any decoder.
    """

    def __init__(self, C: float = 1.0, *, tol: float = TOL, max_iter: int = MAX_ITER) -> None:
        self.C = C
        self.tol = tol
        self.max_iter = max_iter

    def takes_grid(self, grid: Mapping[str, Any]) -> bool:
        """Whether nothing but C varies."""
        return set(grid) <= {"C"}

    def solve_folds(
        self, X: ArrayLike, Y: ArrayLike, train_sets: Sequence[ArrayLike], grid: Mapping[str, Sequence[float]]
    ) -> CandidateDecoders:
        """Train with every C on every training set; see `LinearClassifier.solve_folds`."""
        Cs = check_penalties(grid.get("C", [self.C]), "C")
        decoders = self._solve(X, np.asarray(Y), train_sets, Cs)
        values = np.broadcast_to(Cs[:, None], decoders.intercepts.shape)
        return CandidateDecoders(decoders, "C", values)

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train on X of shape (n_samples, n_voxels) and labels y of shape (n_samples,)."""
        samples, codes = self._validate(X, y)
        Y, everything = self._one_against_rest(codes), np.arange(len(samples))
        self._store_solution(self._solve(samples, Y, [everything], [self.C]), samples)
        return self

    def _solve(
        self, X: ArrayLike, Y: Array, train_sets: Sequence[ArrayLike], Cs: ArrayLike
    ) -> SolvedDecoders:
        # One or two label vectors do not make up for an inversion.
        shares_inverse = Y.shape[1] > 2
        return solve_squared_hinge(
            X, Y, train_sets, Cs, tol=self.tol, max_iter=self.max_iter, shares_inverse=shares_inverse
        )


class ExactLogisticRegressionCV(LinearClassifier):
    """Logistic regression that chooses C by the log loss of an inner cross-validation.

    The choice of ``LogisticRegressionCV(Cs, cv=cv, scoring="neg_log_loss", solver="liblinear")``, which is
    nilearn's "logistic": stratified unshuffled folds without regard to runs, the first of equal values of C,
    one refit (`harness.solvers.logistic.solve_logistic_cv`). Several classes are taken one against the rest,
    each with a C of its own.

    Parameters
    ----------
    Cs : sequence of float
        The values of C to choose from.
    cv : int
        Number of inner folds.
    tol : float
        Length of Newton's step, relative to the coefficients, at which to stop.
    max_iter : int
        Newton steps after which to give up, with a ConvergenceWarning. The warning also says where rounding
        may leave more than 1e-8 of the coefficients.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (1, n_voxels) for two classes, else (n_classes, n_voxels)
    intercept_ : ndarray of shape (1,) or (n_classes,)
    C_ : float for two classes, else ndarray of shape (n_classes,)
        The chosen C.
    scores_ : ndarray of shape (cv, n_Cs) for two classes, else (n_classes, cv, n_Cs)
        Mean log-likelihood of each inner fold.
    n_iter_ : int
        Newton steps of the refit, the most of any decoder.
    gradient_ : float
        Relative norm of the gradient at the solution, the largest of any decoder.
    """

    def __init__(
        self, Cs: Sequence[float] = DECADES, *, cv: int = 5, tol: float = TOL, max_iter: int = MAX_ITER
    ) -> None:
        self.Cs = Cs
        self.cv = cv
        self.tol = tol
        self.max_iter = max_iter

    def solve_folds(
        self, X: ArrayLike, Y: ArrayLike, train_sets: Sequence[ArrayLike], grid: Mapping[str, Sequence[float]]
    ) -> CandidateDecoders:
        """Train with the C chosen inside every training set; see `LinearClassifier.solve_folds`."""
        chosen = solve_logistic_cv(
            X, Y, train_sets, self.Cs, n_folds=self.cv, tol=self.tol, max_iter=self.max_iter
        )
        inner = InnerScores("inner_neg_log_loss", check_penalties(self.Cs, "C"), chosen.scores.mean(axis=2))
        return CandidateDecoders(chosen.decoders, "C", chosen.Cs[:, None], inner)

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train on X of shape (n_samples, n_voxels) and labels y of shape (n_samples,)."""
        samples, codes = self._validate(X, y)
        chosen = solve_logistic_cv(
            samples,
            self._one_against_rest(codes),
            [np.arange(len(samples))],
            self.Cs,
            n_folds=self.cv,
            tol=self.tol,
            max_iter=self.max_iter,
        )
        self._store_solution(chosen.decoders, samples)
        binary = len(self.classes_) == 2
        self.C_ = float(chosen.Cs[0, 0]) if binary else chosen.Cs[0]
        self.scores_ = chosen.scores[0, 0] if binary else chosen.scores[0]
        return self

    def predict_proba(self, X: ArrayLike) -> Array:
        """Compute the probability of each class.

        p = 1 / (1 + exp(-f)), of several classes normalised to the sum 1

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_voxels)

        Returns
        -------
        p : ndarray of shape (n_samples, n_classes)
        """
        f = self.decision_function(X)
        if f.ndim == 1:
            return np.column_stack([expit(-f), expit(f)])
        p = expit(f)
        return p / p.sum(axis=1, keepdims=True)

    def predict_log_proba(self, X: ArrayLike) -> Array:
        """Compute the logarithm of `predict_proba`."""
        return np.log(self.predict_proba(X))


class ExactRidgeClassifierCV(LinearClassifier):
    """Ridge classifier that chooses alpha by leave-one-out.

    min_w,b  ||y - X w - b||^2 + alpha ||w||^2

    The choice and the decoder of ``RidgeClassifierCV(alphas)``, nilearn's "ridge_classifier". With a single
    alpha, those of ``RidgeClassifier(alpha)``. Several classes are taken one against the rest, with one alpha
    for all.

    Parameters
    ----------
    alphas : sequence of float
        The values to choose from; of equal errors the first wins.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (1, n_voxels) for two classes, else (n_classes, n_voxels)
    intercept_ : ndarray of shape (1,) or (n_classes,)
    alpha_ : float
        The chosen alpha.
    """

    def __init__(self, alphas: Sequence[float] = DECADES) -> None:
        self.alphas = alphas

    def solve_folds(
        self, X: ArrayLike, Y: ArrayLike, train_sets: Sequence[ArrayLike], grid: Mapping[str, Sequence[float]]
    ) -> CandidateDecoders:
        """Train with the alpha chosen inside every training set; see `LinearClassifier.solve_folds`."""
        solved = cross_validate_ridge(X, Y, train_sets, self.alphas)
        alphas = check_penalties(self.alphas, "alpha")
        inner = InnerScores("left_out_neg_mean_squared_error", alphas, -solved.errors)
        return CandidateDecoders(solved.decoders, "alpha", solved.alphas[:, None], inner)

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train on X of shape (n_samples, n_voxels) and labels y of shape (n_samples,)."""
        samples, codes = self._validate(X, y)
        self.coef_, self.intercept_, self.alpha_ = fit_ridge(
            samples, self._one_against_rest(codes), self.alphas
        )
        return self


class ExactLDA(LinearClassifier):
    """Linear discriminant analysis with Ledoit-Wolf shrinkage.

    w_c = S^-1 m_c,    b_c = -m_c^T w_c / 2 + log(pi_c)

    The same decoder as ``LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")``, without a voxel by
    voxel matrix where there are more voxels than samples.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    priors_ : ndarray of shape (n_classes,)
        Share of each class among the samples.
    coef_ : ndarray of shape (1, n_voxels) for two classes, else (n_classes, n_voxels)
    intercept_ : ndarray of shape (1,) or (n_classes,)
    """

    def solve_folds(
        self, X: ArrayLike, Y: ArrayLike, train_sets: Sequence[ArrayLike], grid: Mapping[str, Sequence[float]]
    ) -> CandidateDecoders:
        """Train on every training set; see `LinearClassifier.solve_folds`."""
        return CandidateDecoders(solve_discriminant(X, Y, train_sets))

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train on X of shape (n_samples, n_voxels) and labels y of shape (n_samples,)."""
        samples, codes = self._validate(X, y)
        if len(samples) == len(self.classes_):
            raise ValueError(f"More samples than classes are needed, got {len(samples)} of both.")
        self.priors_ = np.bincount(codes) / len(samples)
        coef, intercept = fit_discriminant(samples, codes)
        if len(self.classes_) == 2:
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
        self.coef_, self.intercept_ = coef, intercept
        return self

    def predict_log_proba(self, X: ArrayLike) -> Array:
        """Compute the logarithm of the probability of each class.

        log p_c = f_c - log sum_k exp(f_k)

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_voxels)

        Returns
        -------
        log_p : ndarray of shape (n_samples, n_classes)
        """
        f = self.decision_function(X)
        if f.ndim == 1:
            f = np.column_stack([np.zeros(len(f)), f])
        return log_softmax(f, axis=1)

    def predict_proba(self, X: ArrayLike) -> Array:
        """Compute the probability of each class, of shape (n_samples, n_classes)."""
        return np.exp(self.predict_log_proba(X))


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
