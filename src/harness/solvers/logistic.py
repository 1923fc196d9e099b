"""Logistic regression as liblinear poses it: L2 penalty, penalised intercept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from harness.solvers.c_path import chunk_paths
from harness.solvers.cholesky import EPS, Array
from harness.solvers.decoders import SolvedDecoders
from harness.solvers.folds import stratified_fold_ids
from harness.solvers.lockstep import NewtonResults
from harness.solvers.losses import LogisticLoss
from harness.solvers.threads import one_blas_thread
from harness.solvers.training import MAX_ITER, TOL, TrainingSetGroup, TrainingSets
from harness.solvers.validation import check_penalties

INNER_TOL = 1e-5
"""Relative length of the last step that the inner decoders take; see `solve_logistic_cv`."""


def mean_log_likelihoods(y: Array, F: Array, held_out: NDArray[np.bool_]) -> Array:
    """Return the mean log-likelihood of labels, given the decision values of logistic decoders.

    1/n sum_i log p_i,    p_i = q_i if y_i = 1 else 1 - q_i,    q_i = 1 / (1 + exp(-f_i))

    scikit-learn's "neg_log_loss", with the bounds of `sklearn.metrics.log_loss`: a sample that is wrong
    with certainty counts 36, not infinity.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
    F : ndarray of shape (n_decoders, n_samples)
        Decision values.
    held_out : ndarray of bool of shape (n_decoders, n_samples)
        The samples that count for each decoder.

    Returns
    -------
    log_likelihoods : ndarray of shape (n_decoders,)
    """
    q = expit(F)
    # 1 - q is rounded where q is near 1; expit(-f) would be better, but then C could be chosen differently.
    p = np.where(y > 0, q, 1 - q)
    return np.log(np.clip(p, EPS, 1 - EPS)).mean(axis=1, where=held_out)


@dataclass(frozen=True)
class LogisticCVResult:
    """Logistic decoders whose C was chosen inside their training set.

    Attributes
    ----------
    decoders : SolvedDecoders
        Refitted on the whole training set; the axis of C has length 1.
    Cs : ndarray of shape (n_sets, n_labels)
        The chosen C.
    scores : ndarray of shape (n_sets, n_labels, n_folds, n_Cs)
        Mean log-likelihood of the held-out samples of every inner fold.
    """

    decoders: SolvedDecoders
    Cs: Array
    scores: Array


def solve_logistic(
    X: ArrayLike,
    Y: ArrayLike,
    train_sets: Sequence[ArrayLike],
    Cs: ArrayLike,
    *,
    space: Literal["auto", "dual", "primal"] = "auto",
    tol: float = TOL,
    max_iter: int = MAX_ITER,
) -> SolvedDecoders:
    """Train logistic decoders on several training sets, for several C and label vectors.

    min_w,b  1/2 ||w||^2 + 1/2 b^2 + C sum_i log(1 + exp(-y_i (w^T x_i + b)))

    The objective of ``LogisticRegression(solver="liblinear")``, solved to its optimum. In dual space

    w = X^T a,  f = K a + b,  b = sum_i a_i,    a_i = C y_i / (1 + exp(y_i f_i))

    Parameters
    ----------
    X, Y, train_sets, Cs, space, tol, max_iter
        As in `harness.solvers.squared_hinge.solve_squared_hinge`.
    """
    Cs = check_penalties(Cs, "C")
    problem = TrainingSets.of_samples(X, Y, train_sets, len(Cs), LogisticLoss.uniform, space, max_iter)
    return _solve(problem, Cs, tol, max_iter)


def solve_logistic_gram(
    K: ArrayLike,
    Y: ArrayLike,
    train_sets: Sequence[ArrayLike],
    Cs: ArrayLike,
    *,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
) -> SolvedDecoders:
    """Train the decoders of `solve_logistic` from the Gram matrix; see `solve_squared_hinge_gram`."""
    Cs = check_penalties(Cs, "C")
    problem = TrainingSets("dual", K, Y, train_sets, len(Cs), LogisticLoss.uniform)
    return _solve(problem, Cs, tol, max_iter)


def solve_logistic_cv(
    X: ArrayLike,
    Y: ArrayLike,
    train_sets: Sequence[ArrayLike],
    Cs: ArrayLike,
    *,
    n_folds: int = 5,
    space: Literal["auto", "dual", "primal"] = "auto",
    tol: float = TOL,
    max_iter: int = MAX_ITER,
) -> LogisticCVResult:
    """Train logistic decoders, choosing C by the log loss of a cross-validation inside each training set.

    C = argmax_C sum_folds mean_i log p_i

    The choice of ``LogisticRegressionCV(cv=5, scoring="neg_log_loss", solver="liblinear", refit=True)``,
    which is nilearn's "logistic": stratified folds, in order and without regard to scanner runs; all folds
    have the same weight; of equal sums the first in Cs is chosen; then one fit on the whole training set. The
    choice can differ from liblinear's, which at its default tolerance stops before the optimum, at C=1e4 by
    as much as a quarter of the coefficients: its decoders for large C are shrunk because they are unfinished.

    The final decoders are solved to `tol`. The inner ones end with the first Newton step that is shorter than
    1e-5 of the coefficients (`INNER_TOL`). That step is still taken, and leaves at most about a tenth of it:
    the scores are right to about 1e-6 (1.5e-6 was the largest error of any fold in seven data sets, real ones
    among them).

    The problems advance together: the inner folds of all training sets for one C and one label vector after
    the other, in chunks whose Newton systems take up to 128 MiB (`c_path.CHUNK_BYTES`). The weights of all
    inner decoders of a label vector are kept in addition.

    Parameters
    ----------
    X, Y, train_sets, Cs, space, tol, max_iter
        As in `solve_logistic`.
    n_folds : int
        Inner folds; each class needs as many samples in every training set.

    Raises
    ------
    ValueError
        If the training part of an inner fold holds a single class.
    """
    problem = TrainingSets.of_samples(X, Y, train_sets, 1, LogisticLoss.uniform, space, max_iter)
    return _solve_cv(problem, check_penalties(Cs, "C"), n_folds, tol, max_iter)


def solve_logistic_cv_gram(
    K: ArrayLike,
    Y: ArrayLike,
    train_sets: Sequence[ArrayLike],
    Cs: ArrayLike,
    *,
    n_folds: int = 5,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
) -> LogisticCVResult:
    """Train the decoders of `solve_logistic_cv` from the Gram matrix; see `solve_squared_hinge_gram`."""
    problem = TrainingSets("dual", K, Y, train_sets, 1, LogisticLoss.uniform)
    return _solve_cv(problem, check_penalties(Cs, "C"), n_folds, tol, max_iter)


def _solve(problem: TrainingSets, Cs: Array, tol: float, max_iter: int) -> SolvedDecoders:
    with one_blas_thread():
        for group in problem.group():
            for chunk, paths in chunk_paths(group.space, group.rows):
                # One label vector at a time: their number must not change the shape of a product, on which
                # its last bits depend.
                for j, y in enumerate(np.ascontiguousarray(problem.Y[group.samples].T)):
                    for k, results in paths.follow(Cs, y, tol, max_iter):
                        index = (group.sets[chunk], k, j)
                        problem.store(group, index, (results.V, results.S), results, Cs[k], tol)
    return problem.finish()


def _solve_cv(problem: TrainingSets, Cs: Array, n_folds: int, tol: float, max_iter: int) -> LogisticCVResult:
    n_labels = problem.Y.shape[1]
    scores = np.empty((len(problem.sets), n_labels, n_folds, len(Cs)))
    best = np.empty((len(problem.sets), n_labels), dtype=np.intp)
    with one_blas_thread():
        for group in problem.group():
            for j, y in enumerate(np.ascontiguousarray(problem.Y[group.samples].T)):
                inner = _cross_validate(problem, group, y, Cs, n_folds, max_iter)
                scores[group.sets, j] = inner.scores
                # The first of equal sums.
                best[group.sets, j] = chosen = inner.scores.sum(axis=1).argmax(axis=1)
                # The mean of the inner decoders is near the one that is trained on all samples.
                V = inner.V[np.arange(len(chosen)), chosen].mean(axis=1)
                for chunk, paths in chunk_paths(group.space, group.rows):
                    C, start = Cs[chosen[chunk]], V[chunk]
                    results = paths.minimise(C, y, start, group.space.decide(start), tol, max_iter)
                    index = (group.sets[chunk], 0, j)
                    problem.store(group, index, (results.V, results.S), results, C, tol)
                problem.decoders.converged[group.sets, 0, j] &= inner.converged
    return LogisticCVResult(problem.finish(), Cs=Cs[best], scores=scores)


@dataclass(frozen=True)
class InnerCrossValidation:
    """The cross-validations inside the training sets of a group, for one label vector.

    Attributes
    ----------
    scores : ndarray of shape (n_sets, n_folds, n_Cs)
        Mean log-likelihood of the held-out samples.
    V : ndarray of shape (n_sets, n_Cs, n_folds, n_weights)
        The decoders.
    converged : ndarray of bool of shape (n_sets,)
        Whether all decoders of a training set converged.
    """

    scores: Array
    V: Array
    converged: NDArray[np.bool_]


def _cross_validate(
    problem: TrainingSets, group: TrainingSetGroup, y: Array, Cs: Array, n_folds: int, max_iter: int
) -> InnerCrossValidation:
    """Cross-validate every C inside every training set; y has shape (n_samples,)."""
    train_sets: list[NDArray[np.intp]] = []
    held_out = np.zeros((len(group.rows) * n_folds, len(y)), dtype=bool)
    for rows in group.rows:
        folds = stratified_fold_ids(y[rows], n_folds)
        for i in range(n_folds):
            train = rows[folds != i]
            if abs(y[train].sum()) == len(train):
                raise ValueError(f"Inner fold {i} trains on only one class; both classes are needed.")
            held_out[len(train_sets), rows[folds == i]] = True
            train_sets.append(train)
    scores = np.empty((len(train_sets), len(Cs)))
    V = np.empty((len(Cs), len(train_sets), group.space.n_weights))
    converged = np.empty((len(train_sets), len(Cs)), dtype=bool)
    for chunk, paths in chunk_paths(group.space, train_sets):
        for k, results in paths.follow(Cs, y, INNER_TOL, max_iter):
            F, converged[chunk, k] = _refine_inner(problem, group, y, train_sets[chunk], Cs[k], results)
            V[k, chunk], scores[chunk, k] = results.V, mean_log_likelihoods(y, F, held_out[chunk])
    n_sets = len(group.rows)
    return InnerCrossValidation(
        scores.reshape(n_sets, n_folds, len(Cs)),
        V.reshape(len(Cs), n_sets, n_folds, -1).swapaxes(0, 1),
        np.all(converged.reshape(n_sets, -1), axis=1),
    )


def _refine_inner(
    problem: TrainingSets,
    group: TrainingSetGroup,
    y: Array,
    train_sets: Sequence[NDArray[np.intp]],
    C: float,
    results: NewtonResults,
) -> tuple[Array, NDArray[np.bool_]]:
    """Return the decision values of inner decoders, and whether they converged.

    Those that lost too many digits are solved again. y and train_sets refer to the rows of the group's space.
    """
    F, converged, refiner = results.F, results.converged, problem.refiner
    if refiner is None or not refiner.needs(results).any():
        return F, converged
    F, converged = F.copy(), converged.copy()
    for b in np.flatnonzero(refiner.needs(results)).tolist():
        rows = train_sets[b]
        weights, intercept, _ = problem.export(group, results.V[b], results.S[b])
        start = problem.start_refinement(weights, intercept)
        loss = LogisticLoss.uniform(C, len(rows))
        refined = refiner.refine(loss, y[rows], group.samples[rows], start, INNER_TOL)
        F[b], converged[b] = refined.decisions[group.samples], refined.result.converged
    return F, converged
