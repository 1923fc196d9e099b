"""Logistic regression as liblinear poses it: L2 penalty, penalised intercept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, log_expit
from sklearn.model_selection import StratifiedKFold

from harness.solvers.newton import Minimum, minimise
from harness.solvers.solutions import (
    MAX_ITER,
    TOL,
    Solutions,
    check_strengths,
    choose_space,
    solve_in_sample_space,
    solve_in_voxel_space,
)
from harness.solvers.spaces import Array, Space, compute_gram

INNER_TOL = 1e-6
"""Relative error at which the inner decoders stop: enough to compare log losses."""

EPS = float(np.finfo(float).eps)

LONGEST_STRIDE = float(np.log(20.0))
"""The largest step in log C over which a solution is extrapolated."""


class Logistic:
    """The loss C log(1 + exp(-y f)).

    Parameters
    ----------
    C : float
        Weight of the loss against the penalty.
    """

    # The curvature changes little by little, so that old factors go on being useful (Shamanskii 1967).
    keep_below = 0.1

    def __init__(self, C: float) -> None:
        self.C = C
        self.slope_at_zero = C / 2

    def slopes(self, y: Array, f: Array) -> tuple[Array, Array]:
        """Return s = C y q and the curvatures h = C q (1 - q), q = 1 / (1 + exp(y f)), both (n_samples,)."""
        q = expit(-y * f)
        C_q = self.C * q
        return y * C_q, C_q * (1.0 - q)

    def value(self, y: Array, f: Array) -> float:
        """Return C sum_i log(1 + exp(-y_i f_i))."""
        return -self.C * float(log_expit(y * f).sum())


class LogisticPaths:
    """All values of C on one training set, for one label vector after the other.

    Parameters
    ----------
    space : SampleSpace or VoxelSpace
    Cs : ndarray of shape (n_Cs,)
        In any order.
    tol : float
    max_iter : int
    """

    def __init__(self, space: Space, Cs: Array, tol: float, max_iter: int) -> None:
        self.space, self.tol, self.max_iter = space, tol, max_iter
        self.order = np.argsort(Cs, kind="stable")
        self.Cs = np.asarray(Cs)[self.order]

    def solve(self, y: Array) -> list[Minimum]:
        """Return one minimum per C, each started from where the ones before it lead; y is (n_samples,)."""
        minima: list[Minimum] = []
        tangents: list[tuple[Array, Array]] = []
        for k, C in enumerate(self.Cs):
            if k > 0:
                tangents.append(self._tangent(self.Cs[k - 1], y, minima[-1]))
            v, f = self._start(y, minima, tangents, k)
            minima.append(
                minimise(
                    self.space,
                    Logistic(C),
                    self.space.factorise,
                    y,
                    v,
                    f,
                    tol=self.tol,
                    max_iter=self.max_iter,
                )
            )
        return [minima[k] for k in np.argsort(self.order)]

    def _start(
        self, y: Array, minima: list[Minimum], tangents: list[tuple[Array, Array]], k: int
    ) -> tuple[Array, Array]:
        """Return weights and decision values to start the k-th C from.

        The solution is a smooth function of log C. The cubic with the values and slopes of the last two
        solutions ends about 1e-3 (relative) from the next one where C grows tenfold.
        """
        if k == 0:
            return np.zeros(self.space.n_weights), np.zeros(len(y))
        last, (dv, df) = minima[-1], tangents[-1]
        ahead = np.log(self.Cs[k] / self.Cs[k - 1])
        behind = np.log(self.Cs[k - 1] / self.Cs[k - 2]) if k > 1 else 0.0
        # A polynomial leads astray far outside of its points.
        if ahead > LONGEST_STRIDE:
            return last.v, last.f
        if ahead > 2 * behind:
            return last.v + ahead * dv, last.f + ahead * df
        a, b, c, d = hermite_weights(1.0 + ahead / behind)
        before, (dv_before, df_before) = minima[-2], tangents[-2]
        v = a * before.v + b * last.v + behind * (c * dv_before + d * dv)
        f = a * before.f + b * last.f + behind * (c * df_before + d * df)
        return v, f

    def _tangent(self, C: float, y: Array, minimum: Minimum) -> tuple[Array, Array]:
        """Return dv / dlog C and df / dlog C at a minimum.

        w~ = X~^T s(C, f)  and  ds / dlog C = s - H df / dlog C,  hence  dw~ = X~^T (s - H df)

        Two Newton steps on this linear equation, because the factorised Hessian may be that of a point
        nearby.
        """
        s, h = Logistic(C).slopes(y, minimum.f)
        dv = -minimum.newton(minimum.v, minimum.f)  # from dv = 0, where the gradient is -w~
        df = self.space.decide(dv)
        g, f_g, _ = self.space.gradient(dv, s - h * df)
        d = minimum.newton(g, f_g)
        return dv + d, df + self.space.decide(d)


def hermite_weights(t: float) -> tuple[float, float, float, float]:
    """Return the weights of value(0), value(1), slope(0), slope(1) in their cubic, evaluated at t."""
    return (
        2 * t**3 - 3 * t**2 + 1,
        -2 * t**3 + 3 * t**2,
        t**3 - 2 * t**2 + t,
        t**3 - t**2,
    )


class LogisticCVPaths:
    """The C with the best cross-validated log loss inside one training set, and the decoder for it.

    Parameters
    ----------
    space : SampleSpace or VoxelSpace
    Cs : ndarray of shape (n_Cs,)
        In the order in which ties are decided: the first one wins.
    n_folds : int
    tol : float
    max_iter : int

    Attributes
    ----------
    scores : list of ndarray of shape (n_folds, n_Cs)
        Mean log-likelihood of the held-out samples (the negative log loss), one array per label vector solved
        for.
    best : list of int
        Index of the chosen C, one per label vector solved for.
    """

    def __init__(self, space: Space, Cs: Array, n_folds: int, tol: float, max_iter: int) -> None:
        self.space, self.Cs, self.n_folds, self.tol, self.max_iter = space, Cs, n_folds, tol, max_iter
        self.scores: list[Array] = []
        self.best: list[int] = []

    def solve(self, y: Array) -> list[Minimum]:
        """Return the minimum for the best C. y has shape (n_samples,)."""
        folds = list(StratifiedKFold(self.n_folds).split(np.zeros(len(y)), y))
        scores = np.empty((len(folds), len(self.Cs)))
        inner: list[list[Minimum]] = []
        for i, (train, test) in enumerate(folds):
            if abs(y[train].sum()) == len(train):
                raise ValueError(f"Inner fold {i} trains on only one class; both classes are needed.")
            paths = LogisticPaths(self.space.restrict(train), self.Cs, INNER_TOL, self.max_iter)
            inner.append(paths.solve(y[train]))
            V = np.column_stack([minimum.v for minimum in inner[-1]])
            scores[i] = mean_log_likelihood(y[test], self.space.decide_elsewhere(V, train, test))
        best = int(np.argmax(scores.sum(axis=0)))
        self.scores.append(scores)
        self.best.append(best)

        # The average of the inner decoders is near the one that is trained on all samples.
        embedded = [
            self.space.embed(minima[best].v, train) for minima, (train, _) in zip(inner, folds, strict=True)
        ]
        v = np.mean(embedded, axis=0)
        minimum = minimise(
            self.space,
            Logistic(self.Cs[best]),
            self.space.factorise,
            y,
            v,
            self.space.decide(v),
            tol=self.tol,
            max_iter=self.max_iter,
        )
        all_converged = all(m.converged for minima in inner for m in minima)
        return [replace(minimum, converged=minimum.converged and all_converged)]


def mean_log_likelihood(y: Array, F: Array) -> Array:
    """Return the mean log-likelihood of labels, given the decision values of logistic decoders.

    1/n sum_i log p_i,    p_i = q_i if y_i = 1 else 1 - q_i,    q_i = 1 / (1 + exp(-f_i))

    scikit-learn's "neg_log_loss", with the bounds of `sklearn.metrics.log_loss`: one sample that is wrong
    without any doubt counts 36, not infinity.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Labels, -1 or +1.
    F : ndarray of shape (n_samples, n_decoders)
        Decision values.

    Returns
    -------
    log_likelihoods : ndarray of shape (n_decoders,)
    """
    q = expit(F)
    # 1 - q is rounded where q is near 1; expit(-f) would be better, but then C could be chosen differently.
    p = np.where(y[:, None] > 0, q, 1 - q)
    return np.log(np.clip(p, EPS, 1 - EPS)).mean(axis=0)


@dataclass(frozen=True)
class Chosen:
    """Logistic decoders whose C was chosen inside of their training set.

    Attributes
    ----------
    solutions : Solutions
        The decoders, refitted on the whole training set; the axis of C has length 1.
    Cs : ndarray of shape (n_sets, n_labels)
        The chosen C.
    scores : ndarray of shape (n_sets, n_labels, n_folds, n_Cs)
        Mean log-likelihood of the held-out samples of every inner fold.
    """

    solutions: Solutions
    Cs: Array
    scores: Array


def solve_logistic(
    X: ArrayLike,
    Y: ArrayLike,
    train_sets: Sequence[ArrayLike],
    Cs: ArrayLike,
    *,
    space: Literal["auto", "samples", "voxels"] = "auto",
    tol: float = TOL,
    max_iter: int = MAX_ITER,
) -> Solutions:
    """Train logistic decoders on several training sets, for several C and label vectors.

    min_w,b  1/2 ||w||^2 + 1/2 b^2 + C sum_i log(1 + exp(-y_i (w^T x_i + b)))

    The objective of ``LogisticRegression(solver="liblinear")``, solved to its optimum.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)
        Standardised samples; rows outside of all training sets get decision values, too.
    Y : ndarray of shape (n_samples,) or (n_samples, n_labels)
        Label vectors of -1 and +1. In a training set each must hold both.
    train_sets : sequence of ndarray of int or bool
        Indices (or a mask) of the samples to train on, one per fold.
    Cs : ndarray of shape (n_Cs,)
        Values of C, in any order.
    space : {"auto", "samples", "voxels"}
        Where to solve; "auto" takes the space with fewer unknowns. The solution is the same.
    tol : float
        Relative error of the coefficients at which to stop.
    max_iter : int
        Newton steps after which to give up, with a ConvergenceWarning.

    Returns
    -------
    solutions : Solutions
    """
    X, Cs = np.asarray(X, dtype=np.float64), check_strengths(Cs, "C")
    if choose_space(space, X.shape[1], train_sets) == "samples":
        return solve_logistic_gram(compute_gram(X), Y, train_sets, Cs, tol=tol, max_iter=max_iter)

    def make_paths(space: Space) -> LogisticPaths:
        return LogisticPaths(space, Cs, tol, max_iter)

    return solve_in_voxel_space(make_paths, len(Cs), X, Y, train_sets)


def solve_logistic_gram(
    K: ArrayLike,
    Y: ArrayLike,
    train_sets: Sequence[ArrayLike],
    Cs: ArrayLike,
    *,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
) -> Solutions:
    """Train the decoders of `solve_logistic` from the Gram matrix alone.

    w = X^T a,  f = K a + b,  b = sum_i a_i,    a_i = C y_i / (1 + exp(y_i f_i))

    Parameters
    ----------
    K : ndarray of shape (n_samples, n_samples)
        X X^T (`compute_gram`).
    Y, train_sets, Cs, tol, max_iter
        As in `solve_logistic`.

    Returns
    -------
    solutions : Solutions
    """
    Cs = check_strengths(Cs, "C")

    def make_paths(space: Space) -> LogisticPaths:
        return LogisticPaths(space, Cs, tol, max_iter)

    return solve_in_sample_space(make_paths, len(Cs), K, Y, train_sets)


def solve_logistic_cv(
    X: ArrayLike,
    Y: ArrayLike,
    train_sets: Sequence[ArrayLike],
    Cs: ArrayLike,
    *,
    n_folds: int = 5,
    space: Literal["auto", "samples", "voxels"] = "auto",
    tol: float = TOL,
    max_iter: int = MAX_ITER,
) -> Chosen:
    """Train logistic decoders, choosing C by the log loss of a cross-validation inside each training set.

    C = argmax_C sum_folds mean_i log p_i

    The choice of ``LogisticRegressionCV(cv=5, scoring="neg_log_loss", solver="liblinear", refit=True)``,
    which is nilearn's "logistic": stratified folds, in order and without regard to runs; every fold counts
    the same; of equal sums the first in Cs wins; then one fit on the whole training set. The choice can
    differ from liblinear's, which at its default tolerance stops short of the optimum, at C=1e4 by as much as
    a quarter of the coefficients: its decoders for large C are shrunk by being unfinished. The inner decoders
    here are solved to a relative error of 1e-6 (`INNER_TOL`), the final ones to `tol`.

    Parameters
    ----------
    X, Y, train_sets, Cs, space, tol, max_iter
        As in `solve_logistic`.
    n_folds : int
        Inner folds; each class needs as many samples in every training set.

    Returns
    -------
    chosen : Chosen
    """
    X = np.asarray(X, dtype=np.float64)
    if choose_space(space, X.shape[1], train_sets) == "samples":
        return solve_logistic_cv_gram(
            compute_gram(X), Y, train_sets, Cs, n_folds=n_folds, tol=tol, max_iter=max_iter
        )
    return _choose(solve_in_voxel_space, X, Y, train_sets, Cs, n_folds, tol, max_iter)


def solve_logistic_cv_gram(
    K: ArrayLike,
    Y: ArrayLike,
    train_sets: Sequence[ArrayLike],
    Cs: ArrayLike,
    *,
    n_folds: int = 5,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
) -> Chosen:
    """Train the decoders of `solve_logistic_cv` from the Gram matrix alone.

    Parameters
    ----------
    K : ndarray of shape (n_samples, n_samples)
        X X^T (`compute_gram`).
    Y, train_sets, Cs, n_folds, tol, max_iter
        As in `solve_logistic_cv`.

    Returns
    -------
    chosen : Chosen
    """
    return _choose(solve_in_sample_space, K, Y, train_sets, Cs, n_folds, tol, max_iter)


def _choose(
    solve: Callable[..., Solutions],
    A: ArrayLike,
    Y: ArrayLike,
    train_sets: Sequence[ArrayLike],
    Cs: ArrayLike,
    n_folds: int,
    tol: float,
    max_iter: int,
) -> Chosen:
    Cs = check_strengths(Cs, "C")
    made: list[LogisticCVPaths] = []

    def make_paths(space: Space) -> LogisticCVPaths:
        made.append(LogisticCVPaths(space, Cs, n_folds, tol, max_iter))
        return made[-1]

    solutions = solve(make_paths, 1, A, Y, train_sets)
    return Chosen(
        solutions,
        Cs=Cs[np.array([paths.best for paths in made])],
        scores=np.array([paths.scores for paths in made]),
    )
