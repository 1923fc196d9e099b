"""Strata: the units whose labels may be exchanged, and the distinct arrangements of those labels."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import factorial, prod

import numpy as np
from numpy.typing import NDArray

from harness.samples.block_table import BlockTable

Codes = NDArray[np.intp]

SIMILAR = 0.2
"""Blocks whose numbers of volumes differ by at most this share, or by one volume, may share a stratum."""

SYSTEMATIC = 0.1
"""Share of its mean length by which no class may be longer where blocks of several lengths share strata."""


@dataclass(frozen=True, eq=False)
class Arrangements:
    """All arrangements of labels over units, exchanged within strata.

    Two arrangements that differ by a renaming of labels which keeps the counts of every stratum are not
    distinct: estimators that treat classes alike score them alike. A renaming moves at least one label, so
    all orbits have the same size.

    Attributes
    ----------
    codes : ndarray of shape (n_units,), int
        True label of every unit.
    strata : sequence of ndarray of int
        Units of every stratum; every unit is in one.
    renames : bool
        Whether arrangements that differ by a renaming count once.
    """

    codes: Codes
    strata: Sequence[Codes]
    renames: bool = True

    @cached_property
    def groups(self) -> list[list[int]]:
        """Codes that occur equally often in every stratum, each group in the order of first appearance."""
        if not self.renames:
            return []
        groups: dict[tuple[int, ...], list[int]] = {}
        for units in self.strata:
            for code in dict.fromkeys(self.codes[units].tolist()):
                counts = tuple(int((self.codes[those] == code).sum()) for those in self.strata)
                members = groups.setdefault(counts, [])
                if code not in members:
                    members.append(code)
        return [members for members in groups.values() if len(members) > 1]

    @property
    def n_total(self) -> int:
        """Number of arrangements."""
        return prod(count_orders(self.codes[units].tolist()) for units in self.strata)

    @property
    def n_distinct(self) -> int:
        """Number of orbits under renamings."""
        return self.n_total // prod(factorial(len(members)) for members in self.groups)

    def enumerate(self) -> Codes:
        """Return one arrangement of every orbit, (n_distinct, n_units), the true one first."""
        rows = self.codes[np.newaxis]
        bound: set[int] = set()
        for units in self.strata:
            true = tuple(self.codes[units].tolist())
            # The first stratum that has a group fixes its names.
            pivoted = [group for group in self.groups if group[0] in true and group[0] not in bound]
            bound |= {code for group in pivoted for code in group}
            before = {code: earlier for group in pivoted for earlier, code in pairwise(group)}
            found = [true, *(other for other in order_labels(Counter(true), before) if other != true)]
            rows = np.repeat(rows, len(found), axis=0)
            rows[:, units] = np.tile(np.array(found), (len(rows) // len(found), 1))
        return rows

    def draw(self, random: np.random.Generator) -> Codes:
        """Return an arrangement, (n_units,), drawn uniformly from the distinct ones."""
        drawn = self.codes.copy()
        for units in self.strata:
            drawn[units] = random.permutation(drawn[units])
        names = np.arange(self.codes.max() + 1)
        for group in self.groups:
            units = next(units for units in self.strata if group[0] in self.codes[units])
            shown = [code for code in dict.fromkeys(drawn[units].tolist()) if code in group]
            names[shown] = group
        return names[drawn]


@dataclass(frozen=True, eq=False)
class OrderArrangements:
    """All exchanges of the orders of classes between scanner runs.

    Attributes
    ----------
    codes : ndarray of shape (n_runs,), int
        Order of every scanner run.
    mirror : ndarray of shape (n_orders,), int
        The order that renaming the two classes makes of each one; -1 where no scanner run has it.
    renames : bool
        As in `Arrangements`.
    """

    codes: Codes
    mirror: Codes
    renames: bool = True

    @cached_property
    def _all(self) -> Arrangements:
        return Arrangements(self.codes, [np.arange(len(self.codes))], renames=False)

    @property
    def is_mirrored(self) -> bool:
        """Whether renaming the classes keeps the number of scanner runs of every order."""
        if not self.renames or (self.mirror < 0).any():
            return False
        counts = np.bincount(self.codes, minlength=len(self.mirror))
        return bool((counts == counts[self.mirror]).all())

    @property
    def n_total(self) -> int:
        """Number of arrangements."""
        return self._all.n_total

    @property
    def n_distinct(self) -> int:
        """Number of orbits under renamings."""
        return self.n_total // 2 if self.is_mirrored else self.n_total

    def _first_choices(self) -> list[int]:
        """Return the orders of the first scanner run that stand for themselves and for their mirror."""
        true = int(self.codes[0])
        return [true, *(code for code in range(len(self.mirror)) if true != code < self.mirror[code] != true)]

    def enumerate(self) -> Codes:
        """Return one arrangement of every orbit, (n_distinct, n_runs), the true one first."""
        rows = self._all.enumerate()
        return rows[np.isin(rows[:, 0], self._first_choices())] if self.is_mirrored else rows

    def draw(self, random: np.random.Generator) -> Codes:
        """Return an arrangement, (n_runs,), drawn uniformly from the distinct ones."""
        drawn = self._all.draw(random)
        if self.is_mirrored and drawn[0] not in self._first_choices():
            return self.mirror[drawn]
        return drawn


def count_orders(labels: Sequence[object]) -> int:
    """Return the number of different orders of labels, a multinomial coefficient."""
    return factorial(len(labels)) // prod(factorial(count) for count in Counter(labels).values())


def order_labels(counts: Counter[int], before: dict[int, int]) -> Iterator[tuple[int, ...]]:
    """Yield the different orders of labels, in lexicographic order.

    Parameters
    ----------
    counts : Counter
        How often every label occurs.
    before : dict of int to int
        Labels that must not appear before another one has.
    """
    labels = sorted(counts)
    left = Counter(counts)
    length, order = counts.total(), list[int]()

    def extend() -> Iterator[tuple[int, ...]]:
        if len(order) == length:
            yield tuple(order)
            return
        for label in labels:
            if left[label] == 0 or (label in before and before[label] not in order):
                continue
            left[label] -= 1
            order.append(label)
            yield from extend()
            order.pop()
            left[label] += 1

    return extend()


@dataclass(frozen=True, eq=False)
class BlockStrata:
    """The strata of blocks.

    Attributes
    ----------
    blocks : list of ndarray of int
        Blocks of every stratum; every block is in one.
    mixes_lengths : bool
        Whether blocks of different numbers of volumes share a stratum.
    """

    blocks: list[Codes]
    mixes_lengths: bool


def find_strata(table: BlockTable) -> BlockStrata:
    """Return the blocks whose classes may be exchanged: those of one scanner run with equally many volumes.

    Where this leaves blocks of a scanner run without a partner of another class, blocks of similar lengths
    (`SIMILAR`) share a stratum, unless one class has systematically longer blocks (`SYSTEMATIC`).
    """
    exact: list[Codes] = []
    similar: list[Codes] = []
    for run in dict.fromkeys(table.runs.tolist()):
        blocks = np.flatnonzero(table.runs == run)
        parts = _split(blocks, table.n_volumes, tolerant=False)
        exact += parts
        lonely = any(len(set(table.classes[part].tolist())) == 1 for part in parts)
        similar += _split(blocks, table.n_volumes, tolerant=True) if lonely else parts
    mixed = [part for part in similar if len(set(table.n_volumes[part].tolist())) > 1]
    if not mixed or _differ_by_class(table, np.concatenate(mixed)):
        return BlockStrata(exact, mixes_lengths=False)
    return BlockStrata(similar, mixes_lengths=True)


def _split(blocks: Codes, n_volumes: Codes, tolerant: bool) -> list[Codes]:
    """Split the blocks of a scanner run by their length; similar lengths go together if `tolerant`."""
    parts: list[list[int]] = []
    for length in np.unique(n_volumes[blocks]).tolist():
        shortest = parts and int(n_volumes[parts[-1][0]])
        those = blocks[n_volumes[blocks] == length].tolist()
        if tolerant and shortest and length - shortest <= max(1, SIMILAR * length):
            parts[-1] += those
        else:
            parts.append(those)
    return [np.array(sorted(part)) for part in parts]


def _differ_by_class(table: BlockTable, blocks: Codes) -> bool:
    """Return whether the blocks of one class are systematically longer than those of another."""
    lengths = [
        table.n_volumes[blocks[table.classes[blocks] == name]].mean()
        for name in np.unique(table.classes[blocks])
    ]
    return bool(max(lengths) - min(lengths) >= SYSTEMATIC * np.mean(lengths))
