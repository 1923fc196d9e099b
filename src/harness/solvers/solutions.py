"""What the solvers hand back, and the checks of what they are given."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning

from harness.solvers.lockstep import Minima
from harness.solvers.newton import Loss, Minimum
from harness.solvers.refinement import Refined, Refiner
from harness.solvers.spaces import ACCURACY, Array
from harness.solvers.threads import one_blas_thread

TOL = 1e-11
"""Length of Newton's step, relative to the coefficients, at which the iterations stop."""

MAX_ITER = 200


@dataclass(frozen=True)
class Decoders:
    """Linear decoders f = X w + b: one per training set, value of C (or alpha) and label vector.

    Attributes
    ----------
    space : {"samples", "voxels"}
        What `weights` belong to.
    weights : ndarray of shape (n_sets, n_Cs, n_labels, n_samples) or (n_sets, n_Cs, n_labels, n_voxels)
        In sample space the dual coefficients, zero outside of the training set: w = X^T weights and
        f = K weights + b. In voxel space w itself.
    intercepts : ndarray of shape (n_sets, n_Cs, n_labels)
        b.
    decisions : ndarray of shape (n_sets, n_Cs, n_labels, n_samples)
        f for ALL samples, inside and outside of the training set.
    """

    space: Literal["samples", "voxels"]
    weights: Array
    intercepts: Array
    decisions: Array

    def coef(self, X: ArrayLike) -> Array:
        """Return w.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_voxels)
            The samples that were solved for.

        Returns
        -------
        coef : ndarray of shape (n_sets, n_Cs, n_labels, n_voxels)
        """
        if self.space == "voxels":
            return self.weights
        with one_blas_thread():
            return self.weights @ np.asarray(X, dtype=np.float64)


@dataclass(frozen=True)
class Solutions(Decoders):
    """Decoders that an iteration ended at, with a bound of their error.

    Attributes
    ----------
    gradients : ndarray of shape (n_sets, n_Cs, n_labels)
        Norm of the gradient, relative to its bound at w = 0 (`Minimum.gradient`).
    steps : ndarray of shape (n_sets, n_Cs, n_labels)
        Bound of the relative error of (w, b), what rounding makes of them included (`Minimum.step`).
    n_iter : ndarray of int of shape (n_sets, n_Cs, n_labels)
        Newton steps.
    converged : ndarray of bool of shape (n_sets, n_Cs, n_labels)
        False is never silent: the solver warns, too.
    """

    gradients: Array
    steps: Array
    n_iter: NDArray[np.intp]
    converged: NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """The decoders that a classifier tries on several training sets, and with which value each was trained.

    Attributes
    ----------
    decoders : Decoders
        One per training set, value and label vector.
    parameter : str or None
        What the values are of: "C", "alpha", or None for a classifier without any.
    values : ndarray of shape (n_sets, n_values, n_labels), or None
    """

    decoders: Decoders
    parameter: str | None = None
    values: Array | None = None


def choose_space(
    space: Literal["auto", "samples", "voxels"], n_voxels: int, train_sets: Sequence[ArrayLike]
) -> Literal["samples", "voxels"]:
    """Return the space to solve in; "auto": voxels where n_voxels + 1 is below the mean training set."""
    if space == "auto":
        masks = [np.asarray(train) for train in train_sets]
        n_train = sum(int(mask.sum()) if mask.dtype == bool else len(mask) for mask in masks)
        return "voxels" if (n_voxels + 1) * len(masks) < n_train else "samples"
    if space not in ("samples", "voxels"):
        raise ValueError(f"space must be 'auto', 'samples' or 'voxels', got {space!r}.")
    return space


def export_duals(K_tilde: Array, rows: NDArray[np.intp], duals: Array) -> tuple[Array, Array, Array]:
    """Return weights, intercepts and decision values of decoders in sample space, as `Decoders` has them.

    Parameters
    ----------
    K_tilde : ndarray of shape (n_samples, n_samples)
        X X^T + 1.
    rows : ndarray of int of shape (n_rows,)
        The samples that the dual coefficients belong to.
    duals : ndarray of shape (..., n_rows)
    """
    weights = np.zeros((*duals.shape[:-1], len(K_tilde)))
    weights[..., rows] = duals
    return weights, duals.sum(axis=-1), weights @ K_tilde.T


def export_voxels(X_tilde: Array, V: Array) -> tuple[Array, Array, Array]:
    """Return weights, intercepts and decision values of decoders in voxel space, as `Decoders` has them.

    Parameters
    ----------
    X_tilde : ndarray of shape (n_samples, n_voxels + 1)
        The samples with a column of ones appended.
    V : ndarray of shape (..., n_voxels + 1)
    """
    return V[..., :-1], V[..., -1], V @ X_tilde.T


class Assembly:
    """The `Solutions` of a solver, while it fills them in.

    Parameters
    ----------
    space : {"samples", "voxels"}
    shape : tuple of int
        (n_sets, n_Cs, n_labels).
    n_weights : int
        Samples, or voxels without the intercept.
    n_samples : int
    refiner : Refiner, optional
        Solves decoders again that rounding keeps from their optimum. It needs the samples.
    keeps_space : bool
        Whether the solutions must be in this space. If not, all of them are returned in voxel space when one
        was solved again: there it keeps its digits.
    """

    def __init__(
        self,
        space: Literal["samples", "voxels"],
        shape: tuple[int, ...],
        n_weights: int,
        n_samples: int,
        refiner: Refiner | None = None,
        keeps_space: bool = True,
    ) -> None:
        self.refiner, self.keeps_space = refiner, keeps_space
        self.refined: dict[tuple[int, int, int], tuple[Refined, NDArray[np.intp]]] = {}
        self.solutions = Solutions(
            space,
            weights=np.empty((*shape, n_weights)),
            intercepts=np.empty(shape),
            decisions=np.empty((*shape, n_samples)),
            gradients=np.empty(shape),
            steps=np.empty(shape),
            n_iter=np.empty(shape, dtype=np.intp),
            converged=np.empty(shape, dtype=bool),
        )

    def put(self, where: Any, decoders: tuple[Array, Array, Array], minimum: Minimum | Minima) -> None:
        """Enter decoders, from `export_duals` or `export_voxels`, at an index (set, C, label vector)."""
        into = self.solutions
        into.weights[where], into.intercepts[where], into.decisions[where] = decoders
        into.gradients[where], into.steps[where] = minimum.gradient, minimum.step
        into.n_iter[where], into.converged[where] = minimum.n_iter, minimum.converged

    def refine(
        self, where: tuple[int, int, int], loss: Loss, y: Array, train: NDArray[np.intp], tol: float
    ) -> None:
        """Solve the decoder at an index again; y has shape (n_train,)."""
        assert self.refiner is not None
        into = self.solutions
        start = np.append(into.weights[where], into.intercepts[where])
        if into.space == "samples":
            start = into.weights[where] @ self.refiner.X_tilde
        refined = self.refiner.refine(loss, y, train, start, tol)
        self.refined[where] = refined, train
        minimum = refined.minimum
        into.decisions[where], into.intercepts[where] = refined.decisions, refined.w[-1]
        into.gradients[where], into.steps[where] = minimum.gradient, minimum.step
        into.n_iter[where] += minimum.n_iter
        into.converged[where] = minimum.converged

    def finish(self) -> Solutions:
        """Return the solutions, with a warning if some did not converge."""
        if self.refined:
            self._store_refined()
        if not self.solutions.converged.all():
            warn_unconverged(self.solutions.steps, self.solutions.converged)
        return self.solutions

    def _store_refined(self) -> None:
        assert self.refiner is not None
        if self.solutions.space == "samples" and self.keeps_space:
            for where, (refined, train) in self.refined.items():
                duals, error = self.refiner.duals(refined, train)
                size = float(np.linalg.norm(refined.w))
                scale = max(size, 1.0 / float(np.linalg.norm(self.refiner.X_tilde[train], axis=1).max()))
                self.solutions.weights[where][train] = duals
                self.solutions.steps[where] += error / size if size else 0.0
                self.solutions.converged[where] &= error <= ACCURACY * scale
            return
        voxels = self.solutions.coef(self.refiner.X)
        for where, (refined, _) in self.refined.items():
            voxels[where] = refined.w[:-1]
        self.solutions = replace(self.solutions, space="voxels", weights=voxels)


def warn_unconverged(steps: Array, converged: NDArray[np.bool_]) -> None:
    """Issue a ConvergenceWarning that says how many decoders fell short, and by how much.

    Parameters
    ----------
    steps : ndarray of shape (n_sets, n_Cs, n_labels)
        Relative error of the coefficients that is left.
    converged : ndarray of bool of shape (n_sets, n_Cs, n_labels)
    """
    i, k, j = np.unravel_index(np.argmax(np.where(converged, -np.inf, steps)), steps.shape)
    error = f"may be {steps[i, k, j]:.1e} (relative) from the optimum"
    if not steps[i, k, j] < 1:
        error = "are not known to a single digit"
    warnings.warn(
        f"{(~converged).sum()} of {converged.size} decoders did not converge; in the worst one (training set "
        f"{i}, value of C number {k}, label vector {j}) the coefficients {error}. Standardise the voxels, "
        "choose a smaller C, or raise max_iter if it is below its default.",
        ConvergenceWarning,
        stacklevel=5,
    )


def solve_in_batches(
    solve: Callable[..., Solutions],
    K: ArrayLike,
    Y: ArrayLike,
    train_sets: Sequence[ArrayLike],
    Cs: ArrayLike,
    *,
    batch_bytes: int = 2**28,
    **options: Any,
) -> Iterator[tuple[slice, Solutions]]:
    """Solve for many label vectors, a batch of them at a time.

    Every label vector is solved by itself: the results do not depend on the batch size, to the last bit.

    Parameters
    ----------
    solve : callable
        `solve_squared_hinge_gram` or `solve_logistic_gram` with K; `solve_squared_hinge` or `solve_logistic`
        with X.
    K : ndarray of shape (n_samples, n_samples) or (n_samples, n_voxels)
        The Gram matrix, or the samples, as `solve` wants them.
    Y : ndarray of shape (n_samples, n_labels)
        Label vectors of -1 and +1.
    train_sets : sequence of ndarray of int or bool
    Cs : ndarray of shape (n_Cs,)
    batch_bytes : int
        Bound for the `Solutions` of one batch (one label vector is the least), 256 MiB by default. The
        solver's own memory comes on top, whatever the number of label vectors: for the squared hinge about
        (4 + 2 n_Cs) n_samples^2 numbers of 8 bytes, for logistic regression `logistic.CHUNK_BYTES`.
    **options
        Passed to `solve`.

    Yields
    ------
    labels : slice
        The columns of Y in this batch.
    solutions : Solutions
    """
    A, Y = np.asarray(K), np.asarray(Y)
    per_label = 8 * len(train_sets) * np.size(Cs) * (len(A) + A.shape[1] + 4)
    size = max(1, int(batch_bytes // per_label))
    for start in range(0, Y.shape[1], size):
        labels = slice(start, min(start + size, Y.shape[1]))
        yield labels, solve(A, Y[:, labels], train_sets, Cs, **options)


def check_labels(Y: ArrayLike, n_samples: int) -> Array:
    """Return Y as (n_samples, n_labels) in float64; raise ValueError unless every entry is -1 or +1."""
    Y = np.asarray(Y, dtype=np.float64)
    Y = Y[:, None] if Y.ndim == 1 else Y
    if Y.ndim != 2 or len(Y) != n_samples:
        raise ValueError(f"Y must have shape ({n_samples},) or ({n_samples}, n_labels), it has {Y.shape}.")
    if not np.isin(Y, (-1.0, 1.0)).all():
        raise ValueError("Y must hold -1 and +1 only.")
    return Y


def check_train_sets(train_sets: Sequence[ArrayLike], Y: Array) -> list[NDArray[np.intp]]:
    """Return the training sets as indices; raise ValueError where one is empty or holds a single class."""
    sets = []
    for i, train in enumerate(train_sets):
        indices = np.arange(len(Y))[np.asarray(train)]
        if len(np.unique(indices)) != len(indices):
            raise ValueError(f"Training set {i} names a sample twice.")
        totals = np.abs(Y[indices].sum(axis=0))
        if (totals == len(indices)).any():
            j = int(np.argmax(totals == len(indices)))
            raise ValueError(
                f"Training set {i} holds only one class of label vector {j}; both classes are needed."
            )
        sets.append(indices)
    return sets


def check_strengths(values: ArrayLike, name: str) -> Array:
    """Return the values of C or alpha as (n_values,) in float64; raise ValueError unless all are above 0."""
    values = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if values.ndim != 1 or not len(values) or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"{name} must be positive and finite, got {values.tolist()}.")
    return values


def check_matrix(A: ArrayLike, name: str) -> Array:
    """Return A in float64; raise ValueError unless it is a matrix of finite numbers."""
    A = np.asarray(A, dtype=np.float64)
    if A.ndim != 2 or not np.isfinite(A).all():
        raise ValueError(f"{name} must be a matrix of finite numbers.")
    return A


def check_gram(K: ArrayLike) -> Array:
    """Return K in float64; raise ValueError unless it is a square matrix of finite numbers."""
    K = check_matrix(K, "K")
    if K.shape[0] != K.shape[1]:
        raise ValueError(f"K must be square, it has shape {K.shape}.")
    return K
