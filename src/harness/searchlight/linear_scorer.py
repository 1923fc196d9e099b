"""Scores of spheres whose decoders are in closed form, under all labellings at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harness.decoding.choices import Scorer
from harness.searchlight.fold_samples import FoldSamples
from harness.searchlight.fold_scores import FoldScorer
from harness.searchlight.label_basis import find_label_basis
from harness.searchlight.sphere_batches import batch_spheres
from harness.searchlight.sphere_scores import SphereScores
from harness.searchlight.spheres import Spheres
from harness.solvers.batched_discriminant import BlockLabels, find_blocks_of_labels, fit_discriminants
from harness.solvers.batched_ridge import RidgeOperators, SharedRidge
from harness.solvers.threads import one_blas_thread

Array = NDArray[np.float64]
Index = NDArray[np.intp]


STACK = 16
"""Spheres whose systems are solved together: what they need fits into the cache of a core."""

MAX_GRAM = 4_000_000
"""Entries of the Gram matrices of a stack; large spheres are solved in smaller stacks."""

MAX_PRODUCTS = 200_000
"""Products of label vectors' coefficients that are stored per fold."""

COLUMNS = 2048
"""Decision values of a held-out sample, of all spheres and labellings, that are scored together."""


class BatchDecoder(Protocol):
    """Decodes spheres of equal size, fold by fold."""

    def decide(self, columns: Index) -> Iterator[tuple[int, slice, Array]]:
        """Yield decision values of some of the spheres in a fold.

        Parameters
        ----------
        columns : ndarray of shape (n_spheres, n_voxels), int

        Yields
        ------
        fold : int
            Its place in `FoldSamples.folds`; ascending for every sphere.
        spheres : slice
        decisions : ndarray of shape (n_test, n_spheres, n_distinct)
            One column per `harness.searchlight.fold_scores.FoldScorer.training`.
        """
        ...


@dataclass(frozen=True, eq=False)
class BatchedScorer:
    """Scores spheres with a decoder of batches; see `harness.searchlight.sphere_scores.SphereScorer`.

    Attributes
    ----------
    folds : sequence of FoldScorer
        One per fold of the samples that `decoder` decodes.
    true : sequence of FoldScorer
        The same of the first labelling alone, whose decision values are the first columns.
    statistic : str
        See `harness.searchlight.settings.Searchlight`.
    """

    spheres: Spheres
    decoder: BatchDecoder
    folds: Sequence[FoldScorer]
    true: Sequence[FoldScorer]
    statistic: str

    def score(self, numbers: Index) -> SphereScores:
        """Return the scores of the spheres of these numbers; no sphere's depend on the others'."""
        n_labellings = len(self.folds[0].codes)
        scores = np.zeros((len(Scorer), len(numbers)))
        statistics = np.zeros((len(numbers), n_labellings))
        with one_blas_thread():
            for places, columns in batch_spheres(self.spheres, numbers):
                first = [np.empty((fold.n_test, len(places), fold.training.shape[1])) for fold in self.true]
                for fold, part, decisions in self.decoder.decide(columns):
                    first[fold][:, part] = decisions[:, :, : first[fold].shape[2]]
                    if n_labellings > 1:
                        statistics[places[part]] += self.folds[fold].score(self.statistic, decisions)
                for true, decisions in zip(self.true, first, strict=True):
                    found = {str(scorer): true.score(scorer, decisions)[:, 0] for scorer in Scorer}
                    scores[:, places] += list(found.values())
                    if n_labellings == 1:
                        one = found.get(self.statistic)
                        statistics[places, 0] += (
                            true.score(self.statistic, decisions)[:, 0] if one is None else one
                        )
        n_folds = len(self.folds)
        return SphereScores(scores / n_folds, statistics.T / n_folds)


@dataclass(frozen=True, eq=False)
class RidgePart:
    """What a fold needs of the labels.

    Attributes
    ----------
    left_out : slice or ndarray of int
        Samples that are not in the training set.
    used : ndarray of shape (n_used,), int
        Basis vectors that are not 0 on the training set.
    Z : ndarray of shape (n_used, n_distinct)
        Coefficients of the columns of `harness.searchlight.fold_scores.FoldScorer.training`.
    """

    left_out: Index | slice
    used: Index
    Z: Array

    @cached_property
    def products(self) -> Array | None:
        """Products z_i z_j of i <= j, (n_pairs, n_distinct), by which quadratic forms are linear.

        None where they are many: forms are computed from Z then.
        """
        rows, columns = np.triu_indices(len(self.Z))
        if len(rows) * self.Z.shape[1] > MAX_PRODUCTS:
            return None
        return self.Z[rows] * self.Z[columns]

    def quadratic_forms(self, Q: Array) -> Array:
        """Return z^T Q z for symmetric matrices, (n_matrices, n_used, n_used): (n_matrices, n_distinct)."""
        if self.products is None:
            return np.asarray(((Q @ self.Z) * self.Z).sum(axis=1))
        rows, columns = np.triu_indices(len(self.Z))
        # What is off the diagonal counts twice.
        return (Q[:, rows, columns] * np.where(rows == columns, 1.0, 2.0)) @ self.products


def make_ridge(
    samples: FoldSamples,
    folds: Sequence[FoldScorer],
    labels: NDArray[np.bool_],
    alphas: Array,
    n_problems: int,
) -> "RidgeDecoder":
    """Return the ridge decoder of label vectors.

    Parameters
    ----------
    labels : ndarray of shape (n_samples, n_labels), bool
        The label vectors whose training parts `folds` hold.
    """
    C = find_label_basis(labels)
    parts = []
    for (train, _), fold in zip(samples.folds, folds, strict=True):
        used, first = np.unique(np.abs(C[train]).argmax(axis=1), return_index=True)
        signs = C[train[first], used]
        Z = np.where(fold.training[first], signs[:, np.newaxis], -signs[:, np.newaxis])
        parts.append(RidgePart(_as_slice(np.setdiff1d(np.arange(len(C)), train)), used, Z))
    return RidgeDecoder(samples, alphas, n_problems, C, parts, samples.X.mean(axis=0))


def _as_slice(indices: Index) -> Index | slice:
    """Return consecutive indices as a slice, which needs no copy."""
    if len(indices) and indices[-1] - indices[0] == len(indices) - 1:
        return slice(int(indices[0]), int(indices[-1]) + 1)
    return indices


@dataclass(frozen=True, eq=False)
class RidgeDecoder:
    """Ridge classifiers; see `BatchDecoder`.

    Attributes
    ----------
    alphas : ndarray of shape (n_alphas,)
        One is chosen for every labelling inside its training set, by leave-one-out; of equal errors the
        first.
    n_problems : int
        Decoders per labelling, which share their alpha.
    C : ndarray of shape (n_samples, n_basis)
        Basis of the label vectors; see `harness.searchlight.label_basis.find_label_basis`.
    parts : sequence of RidgePart
        One per fold.
    means : ndarray of shape (n_voxels,)
        Of all samples.
    """

    samples: FoldSamples
    alphas: Array
    n_problems: int
    C: Array
    parts: Sequence[RidgePart]
    means: Array

    def decide(self, columns: Index) -> Iterator[tuple[int, slice, Array]]:
        """Yield decision values; see `BatchDecoder.decide`."""
        n_columns = self.parts[0].Z.shape[1]
        step = max(1, min(STACK, COLUMNS // n_columns))
        size = max(1, min(STACK, MAX_GRAM // columns.shape[1] ** 2))
        for start in range(0, len(columns), size):
            stack = columns[start : start + size]
            for fold, operators in enumerate(self._solve(stack)):
                for first in range(0, len(stack), step):
                    some = slice(first, min(first + step, len(stack)))
                    decisions = self._apply(fold, operators, some)
                    yield fold, slice(start + some.start, start + some.stop), decisions

    def _solve(self, columns: Index) -> Iterator[RidgeOperators]:
        """Yield the operators of every fold."""
        samples = self.samples
        shared = SharedRidge.of(samples.take(columns) - self.means[columns][..., np.newaxis], self.C)
        for fold, part in enumerate(self.parts):
            training = shared.leave_out(part.left_out, standardised=samples.zscore is not None)
            if samples.zscore == "own":
                T = samples.held_out_of(fold, shared.X)
            else:
                _, test = samples.folds[fold]
                T = training.transform(np.take(shared.X, test, axis=-1))
            yield training.solve(part.used, T, self.alphas)

    def _apply(self, fold: int, operators: RidgeOperators, spheres: slice) -> Array:
        """Return the decision values under all labels, (n_test, n_spheres, n_distinct)."""
        Z, M = self.parts[fold].Z, operators.decisions[spheres]
        if operators.errors is None:
            return np.ascontiguousarray((M[:, 0] @ Z).swapaxes(0, 1))
        decisions = np.empty((M.shape[2], len(M), Z.shape[1]))
        for s, Q in enumerate(operators.errors[spheres]):
            errors = self.parts[fold].quadratic_forms(Q)
            if self.n_problems > 1:
                errors = errors.reshape(len(Q), -1, self.n_problems).sum(axis=2)
            chosen = np.repeat(errors.argmin(axis=0), self.n_problems)
            for a in np.unique(chosen):
                which = np.flatnonzero(chosen == a)
                decisions[:, s, which] = M[s, a] @ Z[:, which]
        return decisions


@dataclass(frozen=True, eq=False)
class DiscriminantDecoder:
    """Shrinkage discriminant analysis; see `BatchDecoder`.

    Attributes
    ----------
    labels : sequence of BlockLabels
        Labellings of the training samples of every fold.
    """

    samples: FoldSamples
    labels: Sequence[BlockLabels]
    n_classes: int

    def decide(self, columns: Index) -> Iterator[tuple[int, slice, Array]]:
        """Yield decision values; see `BatchDecoder.decide`."""
        for number, labels in enumerate(self.labels):
            for s, of_sphere in enumerate(columns):
                training = self.samples.training(number, of_sphere)
                held_out = self.samples.held_out(number, of_sphere)
                coef, intercept = fit_discriminants(training, labels)
                if self.n_classes == 2:
                    coef, intercept = coef[:, 1] - coef[:, 0], intercept[:, 1] - intercept[:, 0]
                decisions = held_out @ coef.reshape(-1, coef.shape[-1]).T + intercept.ravel()
                yield number, slice(s, s + 1), decisions[:, np.newaxis]


def make_discriminant(
    samples: FoldSamples, folds: Sequence[FoldScorer], n_classes: int
) -> DiscriminantDecoder:
    """Return the discriminant decoder of the labellings that `folds` hold."""
    labels = [find_blocks_of_labels(_list_codes(fold.training, n_classes), n_classes) for fold in folds]
    return DiscriminantDecoder(samples, labels, n_classes)


def _list_codes(training: NDArray[np.bool_], n_classes: int) -> Index:
    """Return the class of every training sample, (n_labellings, n_train), from its labels in the problems."""
    if n_classes == 2:
        return training.T.astype(np.intp)
    return training.reshape(len(training), -1, n_classes).argmax(axis=2).T
