"""Relabellings: the labellings of the samples that were as likely as the true one if labels mean nothing.

References
----------
.. [1] Winkler, Webster, Vidaurre, Nichols, Smith (2015), NeuroImage 123:253-268,
   doi:10.1016/j.neuroimage.2015.05.092: exchangeability blocks.
.. [2] Good (2005), Permutation, Parametric and Bootstrap Tests of Hypotheses, 3rd edition.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harness.errors import DesignError, UsageError
from harness.inference.choices import NullHypothesis, Relabel
from harness.inference.design_rules import (
    caution_averages,
    caution_conditions,
    caution_few,
    caution_lengths,
    caution_order,
    caution_sequence,
    check_count,
    check_order,
    check_sequence,
)
from harness.inference.settings import PermutationSettings
from harness.inference.strata import Arrangements, Codes, OrderArrangements, find_strata
from harness.samples.block_table import BlockTable, tabulate_blocks
from harness.samples.samples import Samples

EXCHANGEABLE_RUNS = (
    "inference.relabel=order_preserving assumes that each scanner run could have had the order of another "
    "one: no trend over the scanner runs that differs by order"
)


class Exchange(Protocol):
    """The exchanges of labels over units; see `harness.inference.strata.Arrangements`."""

    @property
    def codes(self) -> Codes:
        """True label of every unit."""

    @property
    def n_total(self) -> int:
        """Number of arrangements."""

    @property
    def n_distinct(self) -> int:
        """Number of arrangements that no renaming of classes turns into another one."""

    def enumerate(self) -> Codes:
        """Return the distinct arrangements, (n_distinct, n_units), the true one first."""

    def draw(self, random: np.random.Generator) -> Codes:
        """Return a random one of the distinct arrangements, (n_units,)."""


@dataclass(frozen=True, eq=False)
class Units:
    """The units that labels belong to, and the classes that a label gives to the samples of its unit.

    Attributes
    ----------
    of_sample : ndarray of shape (n_samples,), int
        Unit of every sample.
    places : ndarray of shape (n_samples,), int
        Place of every sample's block within its unit.
    classes : ndarray of shape (n_codes, n_places), str
        Class that a label gives to every place.
    """

    of_sample: Codes
    places: Codes
    classes: NDArray[np.str_]

    def spread(self, codes: Codes) -> NDArray[np.str_]:
        """Return the class of every sample, (n_samples,), for the labels of the units."""
        return self.classes[codes[self.of_sample], self.places]


@dataclass(frozen=True, eq=False)
class Relabellings:
    """The relabellings that a test computes; row 0 is the true labelling.

    Attributes
    ----------
    exchange : Exchange
    units : Units
    enumerated : bool
        Whether the rows are all distinct relabellings. If not, every row after the first is drawn from them.
    seed : int
        Row i depends on it and on i alone.
    n_rows : int
    cautions : tuple of str
        What limits the conclusions, one sentence each.
    digest : str
        SHA-256 of the blocks, of the set of relabellings and of the seed: equal digests, equal rows.
    """

    exchange: Exchange
    units: Units
    enumerated: bool
    seed: int
    n_rows: int
    cautions: tuple[str, ...]
    digest: str
    _rows: Codes | None = None

    def __len__(self) -> int:
        return self.n_rows

    @property
    def n_total(self) -> int:
        """Number of relabellings, those that differ by a renaming of classes included."""
        return self.exchange.n_total

    @property
    def n_distinct(self) -> int:
        """Number of distinct relabellings, the true labelling included."""
        return self.exchange.n_distinct

    def labels(self, row: int) -> NDArray[np.str_]:
        """Return the class of every sample, (n_samples,), under one relabelling.

        Raises
        ------
        IndexError
            If there is no such row.
        """
        if not 0 <= row < self.n_rows:
            raise IndexError(f"relabelling {row} of {self.n_rows}")
        if row == 0:
            codes = self.exchange.codes
        elif self._rows is not None:
            codes = self._rows[row]
        else:
            codes = self.exchange.draw(np.random.default_rng(np.random.SeedSequence([self.seed, row])))
        return self.units.spread(codes)


def plan_relabellings(
    samples: Samples, settings: PermutationSettings, *, symmetric: bool = True
) -> Relabellings:
    """Return the relabellings of a test.

    The units are stimulation blocks, and labels are exchanged between blocks of one scanner run with equally
    many volumes (`harness.inference.strata.find_strata`); for ``relabel="order_preserving"`` the units are
    scanner runs, for ``null="partition"`` conditions. Up to twice `settings.limit` distinct relabellings are
    enumerated.

    Parameters
    ----------
    symmetric : bool
        Whether the estimator treats all classes alike, so that relabellings which differ by a renaming of the
        classes score alike, and count once.

    Raises
    ------
    UsageError
        If the settings have no meaning for this contrast.
    DesignError
        If the design does not allow the test: it has too few relabellings, or its classes were not shown in a
        random order.
    """
    table = tabulate_blocks(samples)
    _check_settings(samples, settings)
    check_sequence(table, samples)
    check_order(table, samples.contrast.classes)
    cautions = [
        *caution_order(table, samples.contrast.classes, settings),
        *caution_conditions(samples, settings),
        *caution_sequence(table, samples),
        *caution_averages(table, samples),
    ]
    exchange: Exchange
    if settings.null == NullHypothesis.partition:
        exchange, units = _exchange_conditions(samples, symmetric)
    elif settings.relabel == Relabel.order_preserving:
        exchange, units = _exchange_orders(table, symmetric)
        cautions += caution_lengths(table)
        cautions.append(EXCHANGEABLE_RUNS)
    else:
        exchange, units = exchange_blocks(table, symmetric)
        cautions += caution_lengths(table)
    n_distinct = exchange.n_distinct
    check_count(n_distinct, table, settings)
    cautions += caution_few(n_distinct)
    enumerated = n_distinct <= 2 * settings.limit
    return Relabellings(
        exchange=exchange,
        units=units,
        enumerated=enumerated,
        seed=settings.seed,
        n_rows=n_distinct if enumerated else 1 + settings.n,
        cautions=tuple(cautions),
        digest=_digest(table, settings, symmetric, None if enumerated else settings.seed),
        _rows=exchange.enumerate() if enumerated else None,
    )


def exchange_blocks(table: BlockTable, symmetric: bool = True) -> tuple[Arrangements, Units]:
    """Return the exchanges of classes between the blocks of every stratum."""
    names, codes = np.unique(table.classes, return_inverse=True)
    places = np.zeros(len(table.of_sample), dtype=np.intp)
    exchange = Arrangements(codes, find_strata(table).blocks, symmetric)
    return exchange, Units(table.of_sample, places, names[:, np.newaxis])


def _exchange_conditions(samples: Samples, symmetric: bool) -> tuple[Arrangements, Units]:
    """Return the exchanges of conditions between classes, the same ones in all scanner runs."""
    conditions, of_sample = np.unique(samples.conditions, return_inverse=True)
    class_of = {
        condition: name for name, members in samples.contrast.members.items() for condition in members
    }
    names, codes = np.unique([class_of[name] for name in conditions.tolist()], return_inverse=True)
    exchange = Arrangements(codes, [np.arange(len(conditions))], symmetric)
    return exchange, Units(of_sample, np.zeros(len(of_sample), dtype=np.intp), names[:, np.newaxis])


def _exchange_orders(table: BlockTable, symmetric: bool) -> tuple[OrderArrangements, Units]:
    """Return the exchanges of the orders of two classes between scanner runs."""
    names = np.unique(table.classes).tolist()
    runs, of_block = np.unique(table.runs, return_inverse=True)
    orders = [tuple(table.classes[of_block == run].tolist()) for run in range(len(runs))]
    strata = find_strata(table).blocks
    # The same blocks of each class in every scanner run, so that only their order differs.
    if len({tuple(sorted(order)) for order in orders}) > 1 or len(strata) > len(runs):
        raise DesignError(
            "inference.relabel=order_preserving exchanges the orders of the classes between scanner runs, "
            "which needs equally many blocks of each class, of equal length, in every one; this contrast has "
            f"{_describe_blocks(table)}. Use inference.relabel=blocks"
        )
    kinds = sorted(set(orders))
    renamed = {names[0]: names[1], names[1]: names[0]}
    swapped = [tuple(renamed[name] for name in kind) for kind in kinds]
    mirror = np.array([kinds.index(other) if other in kinds else -1 for other in swapped])
    exchange = OrderArrangements(np.array([kinds.index(order) for order in orders]), mirror, symmetric)
    place_of_block = np.concatenate([np.arange(len(order)) for order in orders])
    order_of_blocks = np.concatenate([np.flatnonzero(of_block == run) for run in range(len(runs))])
    places = np.empty(len(of_block), dtype=np.intp)
    places[order_of_blocks] = place_of_block
    return exchange, Units(of_block[table.of_sample], places[table.of_sample], np.array(kinds))


def _describe_blocks(table: BlockTable) -> str:
    parts = []
    for run in dict.fromkeys(table.runs.tolist()):
        lengths = table.n_volumes[table.runs == run]
        parts.append(f"{len(lengths)} of {'/'.join(str(n) for n in np.unique(lengths))} volumes")
    kinds = list(dict.fromkeys(parts))
    return ", ".join(kinds[:3]) + (" and others" if len(kinds) > 3 else "") + " per scanner run"


def _check_settings(samples: Samples, settings: PermutationSettings) -> None:
    """Refuse settings that contradict each other or the contrast."""
    partition = settings.null == NullHypothesis.partition
    preserving = settings.relabel == Relabel.order_preserving
    n_classes = len(samples.contrast.classes)
    if partition and preserving:
        raise UsageError(
            "inference.null=partition reassigns whole conditions in all scanner runs alike, which keeps "
            "their order: inference.relabel=order_preserving has no meaning with it; leave one of the two out"
        )
    if partition and all(len(members) == 1 for members in samples.contrast.members.values()):
        raise UsageError(
            "inference.null=partition tests how conditions are assigned to classes, but every class of "
            f"{samples.contrast.name} is one condition; use inference.null=conditions_alike"
        )
    if preserving and n_classes > 2:
        raise DesignError(
            f"inference.relabel=order_preserving needs two classes, but {samples.contrast.name} has "
            f"{n_classes}; use inference.relabel=blocks, or decode two of them"
        )


def _digest(table: BlockTable, settings: PermutationSettings, symmetric: bool, seed: int | None) -> str:
    """Return what identifies the rows: those of equal digest are equal."""
    content = {
        "of_sample": table.of_sample.tolist(),
        "runs": table.runs.tolist(),
        "conditions": table.conditions.tolist(),
        "classes": table.classes.tolist(),
        "relabel": str(settings.relabel),
        "null": str(settings.null),
        "symmetric": symmetric,
        "seed": seed,
        "n": None if seed is None else settings.n,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
