"""Scores of spheres whose decoders are in closed form, under all labellings at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from harness.solvers.batched_ridge import solve_ridge_exactly
from harness.solvers.discriminant import fit_discriminant
from harness.solvers.threads import one_blas_thread

Array = NDArray[np.float64]
Index = NDArray[np.intp]


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
class ClosedFormScorer:
    """Scores spheres with a decoder in closed form; see `harness.searchlight.sphere_scores.SphereScorer`.

    Attributes
    ----------
    folds : sequence of FoldScorer
        One per fold of the samples that `decoder` decodes.
    true : sequence of FoldScorer
        The same of the first labelling alone, whose decision values are the first columns.
    statistic : str
        See `harness.searchlight.settings.Searchlight`.
    batch_size : int
        Spheres that are computed together.
    """

    spheres: Spheres
    decoder: BatchDecoder
    folds: Sequence[FoldScorer]
    true: Sequence[FoldScorer]
    statistic: str
    batch_size: int

    def score(self, numbers: Index) -> SphereScores:
        """Return the scores of the spheres of these numbers; no sphere's depend on the others'."""
        n_labellings = len(self.folds[0].codes)
        scores = np.zeros((len(Scorer), len(numbers)))
        statistics = np.zeros((len(numbers), n_labellings))
        with one_blas_thread():
            for places, columns in batch_spheres(self.spheres, numbers, self.batch_size):
                for fold, part, decisions in self.decoder.decide(columns):
                    rows = places[part]
                    statistics[rows] += self.folds[fold].score(self.statistic, decisions)
                    true = self.true[fold]
                    first = np.ascontiguousarray(decisions[:, :, : true.training.shape[1]])
                    for row, scorer in enumerate(Scorer):
                        scores[row, rows] += true.score(scorer, first)[:, 0]
        n_folds = len(self.folds)
        return SphereScores(scores / n_folds, statistics.T / n_folds)


@dataclass(frozen=True, eq=False)
class RidgeDecoder:
    """Ridge classifiers; see `BatchDecoder`.

    Attributes
    ----------
    alphas : ndarray of shape (n_alphas,)
        One is chosen for every labelling inside its training set, by leave-one-out; of equal errors the first.
    n_problems : int
        Decoders per labelling, which share their alpha.
    """

    samples: FoldSamples
    folds: Sequence[FoldScorer]
    alphas: Array
    n_problems: int

    def decide(self, columns: Index) -> Iterator[tuple[int, slice, Array]]:
        """Yield decision values; see `BatchDecoder.decide`."""
        for number, fold in enumerate(self.folds):
            basis = find_label_basis(fold.training)
            operators = solve_ridge_exactly(
                self.samples.training(number, columns),
                self.samples.held_out(number, columns),
                basis.C,
                self.alphas,
            )
            for s in range(len(columns)):
                if operators.errors is None:
                    decisions = operators.decisions[s, 0] @ basis.Z
                else:
                    errors = np.stack([((Q @ basis.Z) * basis.Z).sum(axis=0) for Q in operators.errors[s]])
                    shared = errors.reshape(len(errors), -1, self.n_problems).sum(axis=2)
                    chosen = np.repeat(shared.argmin(axis=0), self.n_problems)
                    decisions = np.empty((operators.decisions.shape[2], basis.Z.shape[1]))
                    for a in np.unique(chosen):
                        which = chosen == a
                        decisions[:, which] = operators.decisions[s, a] @ basis.Z[:, which]
                yield number, slice(s, s + 1), decisions[:, np.newaxis]


@dataclass(frozen=True, eq=False)
class DiscriminantDecoder:
    """Shrinkage discriminant analysis; see `BatchDecoder`."""

    samples: FoldSamples
    folds: Sequence[FoldScorer]
    n_classes: int

    def decide(self, columns: Index) -> Iterator[tuple[int, slice, Array]]:
        """Yield decision values; see `BatchDecoder.decide`."""
        for number, fold in enumerate(self.folds):
            training = self.samples.training(number, columns)
            held_out = self.samples.held_out(number, columns)
            for s in range(len(columns)):
                found = []
                for codes in _list_codes(fold.training, self.n_classes).T:
                    coef, intercept = fit_discriminant(training[s], codes)
                    if self.n_classes == 2:
                        coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
                    found.append(held_out[s] @ coef.T + intercept)
                yield number, slice(s, s + 1), np.concatenate(found, axis=1)[:, np.newaxis]


def _list_codes(training: NDArray[np.bool_], n_classes: int) -> Index:
    """Return the class of every training sample, (n_train, n_labellings), from its labels in the problems."""
    if n_classes == 2:
        return training.astype(np.intp)
    return training.reshape(len(training), -1, n_classes).argmax(axis=2)
