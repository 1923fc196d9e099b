"""Logistic regression as liblinear poses it: L2 penalty, penalised intercept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_expit

from harness.solvers.folds import stratify
from harness.solvers.lockstep import Minima, minimise_together
from harness.solvers.refinement import Refiner
from harness.solvers.solutions import (
    MAX_ITER,
    TOL,
    Assembly,
    Solutions,
    check_gram,
    check_labels,
    check_matrix,
    check_strengths,
    check_train_sets,
    choose_space,
    export_duals,
    export_voxels,
)
from harness.solvers.spaces import (
    Array,
    FactorSpace,
    SampleSpace,
    Space,
    Systems,
    VoxelSpace,
    append_ones,
    compute_gram,
    is_well_conditioned,
)
from harness.solvers.threads import one_blas_thread

INNER_TOL = 1e-5
"""Relative length of the last step that the inner decoders take; see `solve_logistic_cv`."""

EPS = float(np.finfo(float).eps)

LONGEST_STRIDE = float(np.log(20.0))
"""The largest step in log C over which a solution is extrapolated."""

CHUNK_BYTES = 2**27
"""Bound for the Newton systems that are kept at a time, 128 MiB (those of one problem are the least)."""


class Logistic:
    """The losses C log(1 + exp(-y f)) of several problems.

    Parameters
    ----------
    C : ndarray of shape (n_problems, n_samples)
        Weight of every sample's loss against the penalty; 0 where a problem is not trained on a sample.
    """

    def __init__(self, C: Array) -> None:
        self.C = C
        self.slope_at_zero = C / 2

    def take(self, problems: NDArray[np.intp] | int) -> Self:
        """Return the losses of some of the problems."""
        return type(self)(self.C[problems])

    def scale(self, share: float) -> Self:
        """Return the losses for C times a share."""
        return type(self)(self.C * share)

    def slopes(self, y: Array, f: Array) -> tuple[Array, Array]:
        """Return s = C y q and the curvatures h = C q (1 - q), q = 1 / (1 + exp(y f)), of the shape of f."""
        q = expit(-y * f)
        C_q = self.C * q
        return y * C_q, C_q * (1.0 - q)

    def value(self, y: Array, f: Array) -> Array:
        """Return C sum_i log(1 + exp(-y_i f_i)) of every problem."""
        return -np.vecdot(self.C, log_expit(y * f))


@dataclass(frozen=True)
class Point:
    """Weights and decision values for one C, as `Minima` has them, and their derivatives by log C."""

    V: Array
    F: Array
    V_slope: Array
    F_slope: Array


class Problems:
    """Training sets whose decoders are found together.

    Parameters
    ----------
    space : SampleSpace or VoxelSpace
        Of all samples that any of them is trained on.
    train_sets : sequence of ndarray of int
        Rows of the space.
    """

    def __init__(self, space: Space, train_sets: Sequence[NDArray[np.intp]]) -> None:
        self.space = space
        self.systems: list[Systems] = [space.restrict(train) for train in train_sets]
        self.trained_on = np.zeros((len(train_sets), len(space.row_lengths)))
        for weights, train in zip(self.trained_on, train_sets, strict=True):
            weights[train] = 1.0

    def minimise(self, C: ArrayLike, y: Array, V: Array, F: Array, tol: float, max_iter: int) -> Minima:
        """Return the minima for one C per problem, or one for all; see `minimise_together`."""
        losses = Logistic(np.reshape(C, (-1, 1)) * self.trained_on)
        return minimise_together(self.space, losses, self.systems, y, V, F, tol=tol, max_iter=max_iter)

    def follow(self, Cs: Array, y: Array, tol: float, max_iter: int) -> Iterator[tuple[int, Minima]]:
        """Yield the place of every C and its minima, in ascending order of C.

        Each is started from where the ones before it lead. The solution is a smooth function of log C. The
        cubic with the values and slopes of the last two solutions ends about 1e-3 (relative) from the next
        one where C grows tenfold.

        Parameters
        ----------
        Cs : ndarray of shape (n_Cs,)
            In any order.
        y : ndarray of shape (n_samples,)
        tol, max_iter
            As in `minimise_together`.
        """
        order = np.argsort(Cs, kind="stable")
        n_problems, n_samples = self.trained_on.shape
        V, F = np.zeros((n_problems, self.space.n_weights)), np.zeros((n_problems, n_samples))
        before: Point | None = None
        behind = np.inf
        for place, following in zip(order, [*order[1:], None], strict=True):
            minima = self.minimise(Cs[place], y, V, F, tol, max_iter)
            yield int(place), minima
            if following is None:
                return
            V, F = minima.V, minima.F
            ahead = np.log(Cs[following] / Cs[place])
            # A polynomial leads astray far outside of its points.
            if ahead > LONGEST_STRIDE:
                before = None
                continue
            point = self._differentiate(Cs[place], y, minima, before, behind)
            if before is None or ahead >= 2 * behind:
                V, F = V + ahead * point.V_slope, F + ahead * point.F_slope
            else:
                a, b, c, d = hermite_weights(1.0 + ahead / behind)
                V = a * before.V + b * V + behind * (c * before.V_slope + d * point.V_slope)
                F = a * before.F + b * F + behind * (c * before.F_slope + d * point.F_slope)
            before, behind = point, ahead

    def _differentiate(
        self, C: float, y: Array, minima: Minima, before: Point | None, behind: float
    ) -> Point:
        """Return the minima and their tangents.

        w~ = X~^T s(C, f)  and  ds / dlog C = s - H df / dlog C,  hence  dw~ = X~^T (s - H df)

        One Newton step on this linear equation, from the slope of the parabola through this point and the one
        before it. The step makes its error at least about ten times smaller; not zero, because the factor may
        be that of a point nearby.
        """
        V, F = minima.V, minima.F
        dV, dF = np.zeros_like(V), np.zeros_like(F)
        if before is not None and behind > 0:
            dV = 2 / behind * (V - before.V) - before.V_slope
            dF = 2 / behind * (F - before.F) - before.F_slope
        s, h = Logistic(C * self.trained_on).slopes(y, F)
        G, F_G, _ = self.space.gradient(dV, s - h * dF)
        D = self.space.solve(self.systems, minima.factors, G, F_G)
        return Point(V, F, dV + D, dF + self.space.decide(D))


def chunk_problems(space: Space, train_sets: Sequence[NDArray[np.intp]]) -> Iterator[tuple[slice, Problems]]:
    """Split problems into chunks whose Newton systems stay within `CHUNK_BYTES`.

    Parameters
    ----------
    space : SampleSpace or VoxelSpace
    train_sets : sequence of ndarray of int
        Rows of the space.

    Yields
    ------
    chunk : slice
    problems : Problems
    """
    # In double and in single precision: what is factorised, and one factor.
    largest = 24 * max(len(train) for train in train_sets) * space.n_weights
    size = max(1, CHUNK_BYTES // largest)
    for start in range(0, len(train_sets), size):
        chunk = slice(start, min(start + size, len(train_sets)))
        yield chunk, Problems(space, train_sets[chunk])


def hermite_weights(t: float) -> tuple[float, float, float, float]:
    """Return the weights of value(0), value(1), slope(0), slope(1) in their cubic, evaluated at t."""
    return (
        2 * t**3 - 3 * t**2 + 1,
        -2 * t**3 + 3 * t**2,
        t**3 - 2 * t**2 + t,
        t**3 - t**2,
    )


def mean_log_likelihoods(y: Array, F: Array, held_out: NDArray[np.bool_]) -> Array:
    """Return the mean log-likelihood of labels, given the decision values of logistic decoders.

    1/n sum_i log p_i,    p_i = q_i if y_i = 1 else 1 - q_i,    q_i = 1 / (1 + exp(-f_i))

    scikit-learn's "neg_log_loss", with the bounds of `sklearn.metrics.log_loss`: one sample that is wrong
    without any doubt counts 36, not infinity.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Labels, -1 or +1.
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
        Where to solve; "auto" takes the space with fewer unknowns, and returns voxels if rounding made it
        necessary to solve a decoder again from the samples (`refinement`). The solution is the same.
    tol : float
        Length of Newton's step, relative to the coefficients, at which to stop.
    max_iter : int
        Newton steps after which to give up, with a ConvergenceWarning. The warning also says where rounding
        may leave more than 1e-8 of the coefficients.

    Returns
    -------
    solutions : Solutions
    """
    X, Cs = np.asarray(X, dtype=np.float64), check_strengths(Cs, "C")
    if choose_space(space, X.shape[1], train_sets) == "samples":
        job = Job("samples", compute_gram(X), Y, train_sets, len(Cs), Refiner(X, max_iter), space != "auto")
    else:
        job = Job("voxels", X, Y, train_sets, len(Cs), Refiner(X, max_iter))
    return _solve(job, Cs, tol, max_iter)


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

    What K has lost of the samples cannot be found again: where that may be more than 1e-8 of the
    coefficients, decoders count as not converged.

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
    return _solve(Job("samples", K, Y, train_sets, len(Cs)), Cs, tol, max_iter)


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
    a quarter of the coefficients: its decoders for large C are shrunk by being unfinished.

    The final decoders are solved to `tol`. The inner ones end with the first Newton step that is shorter than
    1e-5 of the coefficients (`INNER_TOL`). That step is still taken, and leaves at most about a tenth of it:
    the scores are right to about 1e-6 (1.5e-6 was the largest error of any fold in seven data sets, real ones
    among them).

    The problems advance together: the inner folds of all training sets for one C and one label vector after
    the other, in chunks whose Newton systems take up to 128 MiB (`CHUNK_BYTES`). Beside those, the weights of
    all inner decoders of a label vector are kept.

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
        job = Job("samples", compute_gram(X), Y, train_sets, 1, Refiner(X, max_iter), space != "auto")
    else:
        job = Job("voxels", X, Y, train_sets, 1, Refiner(X, max_iter))
    return _choose(job, check_strengths(Cs, "C"), n_folds, tol, max_iter)


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
    """Train the decoders of `solve_logistic_cv` from the Gram matrix alone; see `solve_logistic_gram`.

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
    return _choose(Job("samples", K, Y, train_sets, 1), check_strengths(Cs, "C"), n_folds, tol, max_iter)


@dataclass(frozen=True)
class Group:
    """Training sets that share a space.

    Attributes
    ----------
    space : SampleSpace, FactorSpace or VoxelSpace
    samples : ndarray of int
        The samples that are the space's rows.
    sets : ndarray of int
        Numbers of the training sets.
    rows : list of ndarray of int
        The rows of the space that each of them is trained on.
    """

    space: SampleSpace | FactorSpace | VoxelSpace
    samples: NDArray[np.intp]
    sets: NDArray[np.intp]
    rows: list[NDArray[np.intp]]


class Job:
    """What is to be solved: all training sets, in groups, and the solutions so far.

    Parameters
    ----------
    name : {"samples", "voxels"}
        The space to solve in.
    A : ndarray of shape (n_samples, n_samples) or (n_samples, n_voxels)
        Gram matrix, or samples.
    Y, train_sets
        As in `solve_logistic`.
    n_Cs : int
        Decoders per training set and label vector.
    refiner : Refiner, optional
    keeps_space : bool
        As in `Assembly`.
    """

    def __init__(
        self,
        name: Literal["samples", "voxels"],
        A: ArrayLike,
        Y: ArrayLike,
        train_sets: Sequence[ArrayLike],
        n_Cs: int,
        refiner: Refiner | None = None,
        keeps_space: bool = True,
    ) -> None:
        self.name, self.refiner = name, refiner
        if name == "samples":
            # The column of ones in X~ adds 1 to every inner product.
            self.A_tilde = check_gram(A) + 1.0
        else:
            A = check_matrix(A, "X")
            self.A_tilde = append_ones(A)
        n_samples = len(self.A_tilde)
        self.Y = check_labels(Y, n_samples)
        self.sets = check_train_sets(train_sets, self.Y)
        n_weights = self.A_tilde.shape[1] - (name == "voxels")
        shape = (len(self.sets), n_Cs, self.Y.shape[1])
        self.assembly = Assembly(name, shape, n_weights, n_samples, refiner, keeps_space)

    def group(self) -> Iterator[Group]:
        """Yield the training sets, those together that can share a space.

        Sample space serves all of them but those whose own Gram matrix is nearly singular.
        """
        everything, numbers = np.arange(len(self.A_tilde)), np.arange(len(self.sets))
        if self.name == "voxels":
            yield Group(VoxelSpace(self.A_tilde), everything, numbers, self.sets)
            return
        # No part of a well-conditioned Gram matrix is worse conditioned than the whole.
        sound = np.full(len(numbers), is_well_conditioned(self.A_tilde))
        if not sound.any():
            sound[:] = [is_well_conditioned(self._gram(train)) for train in self.sets]
        if sound.any():
            rows = [self.sets[i] for i in numbers[sound]]
            yield Group(SampleSpace(self.A_tilde), everything, numbers[sound], rows)
        for i in numbers[~sound]:
            train = self.sets[i]
            yield Group(FactorSpace(self._gram(train)), train, numbers[[i]], [np.arange(len(train))])

    def _gram(self, train: NDArray[np.intp]) -> Array:
        return self.A_tilde[train].take(train, axis=1)

    def put(
        self, group: Group, part: slice, k: int, j: int, minima: Minima, Cs: ArrayLike, tol: float
    ) -> None:
        """Enter the minima of some training sets of a group, for the k-th C and the j-th label vector.

        Those that lost too many digits are solved again. Cs has one value of C per minimum, or one for all.
        """
        self.assembly.put((group.sets[part], k, j), self.export(group, minima.V, minima.S), minima)
        if self.refiner is None:
            return
        sets, Cs = group.sets[part], np.broadcast_to(Cs, len(minima.V))
        for b in np.flatnonzero(self.refiner.needs(minima)).tolist():
            train = self.sets[sets[b]]
            loss = Logistic(np.full(len(train), Cs[b]))
            self.assembly.refine((int(sets[b]), k, j), loss, self.Y[train, j], train, tol)

    def export(self, group: Group, V: Array, S: Array) -> tuple[Array, Array, Array]:
        """Return weights, intercepts and decision values, as `Decoders` has them."""
        if isinstance(group.space, SampleSpace | FactorSpace):
            return export_duals(self.A_tilde, group.samples, group.space.duals(V, S))
        return export_voxels(self.A_tilde, V)

    def refine_inner(
        self, group: Group, y: Array, train_sets: Sequence[NDArray[np.intp]], C: float, minima: Minima
    ) -> tuple[Array, NDArray[np.bool_]]:
        """Return the decision values of inner decoders, and whether they converged.

        Those that lost too many digits are solved again.

        Parameters
        ----------
        group : Group
        y : ndarray of shape (n_rows,)
            Labels of the rows of the group's space.
        train_sets : sequence of ndarray of int
            Rows that the decoders are trained on.
        C : float
        minima : Minima
        """
        F, converged = minima.F, minima.converged
        if self.refiner is None or not self.refiner.needs(minima).any():
            return F, converged
        F, converged = F.copy(), converged.copy()
        for b in np.flatnonzero(self.refiner.needs(minima)).tolist():
            rows = train_sets[b]
            weights, intercept, _ = self.export(group, minima.V[b], minima.S[b])
            start = np.append(weights, intercept)
            if self.name == "samples":
                start = weights @ self.refiner.X_tilde
            loss = Logistic(np.full(len(rows), C))
            refined = self.refiner.refine(loss, y[rows], group.samples[rows], start, INNER_TOL)
            F[b], converged[b] = refined.decisions[group.samples], refined.minimum.converged
        return F, converged


def _solve(job: Job, Cs: Array, tol: float, max_iter: int) -> Solutions:
    with one_blas_thread():
        for group in job.group():
            for part, problems in chunk_problems(group.space, group.rows):
                # One label vector at a time: how many there are must not change the shape of a product, which
                # decides on its last bits.
                for j, y in enumerate(np.ascontiguousarray(job.Y[group.samples].T)):
                    for k, minima in problems.follow(Cs, y, tol, max_iter):
                        job.put(group, part, k, j, minima, Cs[k], tol)
    return job.assembly.finish()


@dataclass(frozen=True)
class Inner:
    """The cross-validations inside the training sets of a group, for one label vector.

    Attributes
    ----------
    scores : ndarray of shape (n_sets, n_folds, n_Cs)
        Mean log-likelihood of the held-out samples.
    V : ndarray of shape (n_sets, n_Cs, n_folds, n_weights)
        The decoders.
    converged : ndarray of bool of shape (n_sets,)
        Whether all of them did.
    """

    scores: Array
    V: Array
    converged: NDArray[np.bool_]


def _cross_validate(job: Job, group: Group, y: Array, Cs: Array, n_folds: int, max_iter: int) -> Inner:
    """Cross-validate every C inside every training set; y has shape (n_samples,)."""
    train_sets: list[NDArray[np.intp]] = []
    held_out = np.zeros((len(group.rows) * n_folds, len(y)), dtype=bool)
    for rows in group.rows:
        folds = stratify(y[rows], n_folds)
        for i in range(n_folds):
            train = rows[folds != i]
            if abs(y[train].sum()) == len(train):
                raise ValueError(f"Inner fold {i} trains on only one class; both classes are needed.")
            held_out[len(train_sets), rows[folds == i]] = True
            train_sets.append(train)
    scores = np.empty((len(train_sets), len(Cs)))
    V = np.empty((len(Cs), len(train_sets), group.space.n_weights))
    converged = np.empty((len(train_sets), len(Cs)), dtype=bool)
    for chunk, problems in chunk_problems(group.space, train_sets):
        for k, minima in problems.follow(Cs, y, INNER_TOL, max_iter):
            F, converged[chunk, k] = job.refine_inner(group, y, train_sets[chunk], Cs[k], minima)
            V[k, chunk], scores[chunk, k] = minima.V, mean_log_likelihoods(y, F, held_out[chunk])
    n_sets = len(group.rows)
    return Inner(
        scores.reshape(n_sets, n_folds, len(Cs)),
        V.reshape(len(Cs), n_sets, n_folds, -1).swapaxes(0, 1),
        np.all(converged.reshape(n_sets, -1), axis=1),
    )


def _choose(job: Job, Cs: Array, n_folds: int, tol: float, max_iter: int) -> Chosen:
    n_labels = job.Y.shape[1]
    scores = np.empty((len(job.sets), n_labels, n_folds, len(Cs)))
    best = np.empty((len(job.sets), n_labels), dtype=np.intp)
    with one_blas_thread():
        for group in job.group():
            for j, y in enumerate(np.ascontiguousarray(job.Y[group.samples].T)):
                inner = _cross_validate(job, group, y, Cs, n_folds, max_iter)
                scores[group.sets, j] = inner.scores
                # The first of equal sums.
                best[group.sets, j] = chosen = inner.scores.sum(axis=1).argmax(axis=1)
                # The average of the inner decoders is near the one that is trained on all samples.
                V = inner.V[np.arange(len(chosen)), chosen].mean(axis=1)
                for part, problems in chunk_problems(group.space, group.rows):
                    minima = problems.minimise(
                        Cs[chosen[part]], y, V[part], group.space.decide(V[part]), tol, max_iter
                    )
                    job.put(group, part, 0, j, minima, Cs[chosen[part]], tol)
                job.assembly.solutions.converged[group.sets, 0, j] &= inner.converged
    return Chosen(job.assembly.finish(), Cs=Cs[best], scores=scores)
