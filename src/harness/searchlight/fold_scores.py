"""Scores of one fold under many labellings, from decision values under the distinct labels for training.

A labelling and its mirror image train the same decoder but for the sign of its decision values, and test
labels that are mirrored turn wins into losses. So a fold needs fewer decision values, and fewer counts of
pairs, than there are labellings; `FoldScorer` holds where each labelling finds its own.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from harness.searchlight.choices import Statistic
from harness.searchlight.label_basis import merge_opposite_columns

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Flags = NDArray[np.bool_]

MAX_PAIRS = 2048
"""Pairs of held-out samples up to which every pair is compared; more are ranked."""

FEW_COLUMNS = 8
"""Decision values that must share test labels, on average, for pairs to be compared rather than ranked."""


@dataclass(frozen=True, eq=False)
class HeldOutLabels:
    """Columns of decision values that are scored with the same test labels, which may be mirrored.

    Attributes
    ----------
    positive, negative : ndarray of int
        Held-out samples of either label.
    columns : slice or ndarray of int
        Columns of the decision values.
    """

    positive: Index
    negative: Index
    columns: slice | Index


@dataclass(frozen=True, eq=False)
class FoldScorer:
    """Scores decision values of one fold.

    A problem of a labelling is one vector of labels: labellings of two classes have one, of K > 2 classes K,
    one against the rest.

    Attributes
    ----------
    training : ndarray of shape (n_train, n_distinct), bool
        Which training samples are positive, for every column of decision values.
    place : ndarray of shape (n_problems,), int
        Column of the decision values of every problem of every labelling.
    opposite : ndarray of shape (n_problems,), bool
        Whether their sign has to be changed.
    codes : ndarray of shape (n_labellings, n_test), int
        Class of the held-out samples.
    positive : ndarray of shape (n_test, n_problems), bool
    n_classes : int
    groups : tuple of HeldOutLabels
        Empty where labels are too many for pairs to be compared: samples are ranked then.
    pair : ndarray of shape (n_problems,), int
        Where in the concatenated columns of `groups` a problem is.
    mirrored : ndarray of shape (n_problems,), bool
        Whether its test labels are those of the group with the sign changed.
    """

    training: Flags
    place: Index
    opposite: Flags
    codes: Index
    positive: Flags
    n_classes: int
    groups: tuple[HeldOutLabels, ...]
    pair: Index
    mirrored: Flags

    @property
    def n_test(self) -> int:
        """Number of held-out samples."""
        return len(self.positive)

    @cached_property
    def n_positive(self) -> Index:
        """Number of positive held-out samples of every problem."""
        return self.positive.sum(axis=0)

    @cached_property
    def n_halves(self) -> Array:
        """Twice the number of pairs of a positive and another held-out sample, of every problem."""
        return (2 * self.n_positive * (self.n_test - self.n_positive)).astype(np.float64)

    @cached_property
    def reverses(self) -> tuple[Array, Array]:
        """Offset and factor that give the half wins of every problem: 0 and 1, or `n_halves` and -1."""
        reverse = self.opposite != self.mirrored if self.groups else self.opposite
        return np.where(reverse, self.n_halves, 0.0), np.where(reverse, -1.0, 1.0)

    def score(self, statistic: str, decisions: Array) -> Array:
        """Return a score under every labelling.

        Parameters
        ----------
        statistic : str
            One of `harness.searchlight.choices.Statistic`.
        decisions : ndarray of shape (n_test, n_spheres, n_distinct)

        Returns
        -------
        scores : ndarray of shape (n_spheres, n_labellings)
        """
        match statistic:
            case Statistic.roc_auc:
                return self._mean_problems(self._areas(decisions))
            case Statistic.decision_value:
                return self._mean_problems(self._differences(decisions))
        right = self._right(decisions)
        if statistic == Statistic.accuracy:
            return right.mean(axis=0)
        total, n_present = np.zeros(right.shape[1:]), np.zeros(len(self.codes))
        for code in range(self.n_classes):
            members = (self.codes == code).T
            n_members = members.sum(axis=0)
            total += (right & members[:, np.newaxis]).sum(axis=0) / np.maximum(n_members, 1)
            n_present += n_members > 0
        return total / n_present

    def _mean_problems(self, values: Array) -> Array:
        """Return the mean over the problems of a labelling whose held-out samples hold both labels."""
        if self.n_classes == 2:
            return values
        defined = (self.n_halves > 0).reshape(len(self.codes), -1)
        values = np.where(defined, values.reshape(len(values), *defined.shape), 0.0)
        return values.sum(axis=-1) / defined.sum(axis=-1)

    def _right(self, decisions: Array) -> Flags:
        """Return which held-out samples are classified correctly, (n_test, n_spheres, n_labellings)."""
        values = decisions[:, :, self.place]
        values = np.where(self.opposite, -values, values)
        if self.n_classes == 2:
            predicted = (values > 0).astype(np.intp)
        else:
            predicted = values.reshape(*values.shape[:2], len(self.codes), -1).argmax(axis=-1)
        return predicted == self.codes.T[:, np.newaxis]

    def _differences(self, decisions: Array) -> Array:
        """Return half the difference of the labels' mean decision values, (n_spheres, n_problems)."""
        if self.groups:
            halves = [
                (
                    _sum_rows(held[group.positive]) / len(group.positive)
                    - _sum_rows(held[group.negative]) / len(group.negative)
                )
                / 2
                for group in self.groups
                for held in [decisions[:, :, group.columns]]
            ]
            values = np.concatenate(halves, axis=-1)[:, self.pair]
            return np.where(self.opposite == self.mirrored, values, -values)
        values, positive = decisions[:, :, self.place], self.positive[:, np.newaxis]
        n_positive = self.n_positive
        above = _sum_rows(np.where(positive, values, 0.0)) / np.maximum(n_positive, 1)
        below = _sum_rows(np.where(positive, 0.0, values)) / np.maximum(len(positive) - n_positive, 1)
        return np.where(self.opposite, -1.0, 1.0) * ((above - below) / 2)

    def _areas(self, decisions: Array) -> Array:
        """Return areas under ROC curves, from counts of pairs, a tie as half a pair.

        Returns
        -------
        areas : ndarray of shape (n_spheres, n_problems)
        """
        if self.groups:
            halves = np.concatenate([_count_half_wins(group, decisions) for group in self.groups], axis=-1)
            halves = halves.take(self.pair, axis=-1).astype(np.float64)
        else:
            ranks = 2 * rankdata(decisions, axis=0) - 1
            halves = np.where(self.positive[:, np.newaxis], ranks[:, :, self.place], 0.0).sum(axis=0)
            halves -= self.n_positive**2
        offset, factor = self.reverses
        halves *= factor
        halves += offset
        return halves / np.maximum(self.n_halves, 1)


def _sum_rows(values: Array) -> Array:
    """Return sums over the first axis, in an order that does not depend on the lengths of the others."""
    total = np.zeros(values.shape[1:])
    for row in values:
        total += row
    return total


def _count_half_wins(group: HeldOutLabels, decisions: Array) -> NDArray[np.uint16]:
    """Return twice the pairs that the positive sample wins, (n_spheres, n_columns); a tie counts 1."""
    held = decisions[:, :, group.columns]
    above, below = held[group.positive][:, np.newaxis], held[group.negative]
    n_pairs = len(group.positive) * len(group.negative)
    # Sums of bytes are several times as fast, and hold up to 255.
    counter = np.uint8 if n_pairs < 256 else np.uint16
    won = np.empty((len(group.positive), len(group.negative), *held.shape[1:]), dtype=bool)
    halves = np.zeros(held.shape[1:], dtype=np.uint16)
    for compare in (np.greater, np.greater_equal):
        compare(above, below, out=won)
        halves += np.add.reduce(won.view(np.uint8).reshape(n_pairs, *held.shape[1:]), axis=0, dtype=counter)
    return halves


def list_problems(codes: Index, n_classes: int) -> Flags:
    """Return which samples are positive in every problem of every labelling.

    Parameters
    ----------
    codes : ndarray of shape (n_labellings, n_samples), int
        Class of every sample.

    Returns
    -------
    labels : ndarray of shape (n_samples, n_problems), bool
        For two classes one problem per labelling, whose positive class is the second; else one per class.
    """
    positive = np.arange(n_classes) if n_classes > 2 else np.array([1])
    return (codes[:, np.newaxis] == positive[:, np.newaxis]).reshape(-1, codes.shape[1]).T


def plan_fold(codes: Index, n_classes: int, train: Index, test: Index) -> FoldScorer:
    """Return how one fold is scored.

    Parameters
    ----------
    codes : ndarray of shape (n_labellings, n_samples), int
        Class of every sample. The training samples of a labelling hold all classes, the held-out ones at
        least two.
    """
    labels = list_problems(codes, n_classes)
    trained, tested = labels[train], labels[test]
    if n_classes == 2:
        training, place, opposite = merge_opposite_columns(trained)
    else:
        # Decoders of several classes may share a penalty, and so belong to their labelling.
        training, place = trained, np.arange(trained.shape[1])
        opposite = np.zeros(trained.shape[1], dtype=bool)
    distinct, group_of, mirrored = merge_opposite_columns(tested)
    groups: list[HeldOutLabels] = []
    pair = np.zeros(len(place), dtype=np.intp)
    counts = distinct.sum(axis=0)
    n_pairs = counts * (len(test) - counts)
    if (
        n_pairs.max() <= MAX_PAIRS
        and n_pairs.min() > 0
        and distinct.shape[1] * FEW_COLUMNS <= max(training.shape[1], FEW_COLUMNS)
    ):
        start = 0
        for number, labelled in enumerate(distinct.T):
            members = np.flatnonzero(group_of == number)
            columns, within = np.unique(place[members], return_inverse=True)
            pair[members] = start + within
            start += len(columns)
            whole = len(columns) == training.shape[1]
            groups.append(
                HeldOutLabels(
                    np.flatnonzero(labelled), np.flatnonzero(~labelled), slice(None) if whole else columns
                )
            )
    return FoldScorer(
        training=training,
        place=place,
        opposite=opposite,
        codes=codes[:, test],
        positive=tested,
        n_classes=n_classes,
        groups=tuple(groups),
        pair=pair,
        mirrored=mirrored,
    )
