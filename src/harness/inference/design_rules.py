"""Rules of permutation tests: designs that do not allow one, and what limits the conclusions from others."""

from collections.abc import Sequence

import numpy as np

from harness.errors import DesignError
from harness.inference.choices import NullHypothesis, Relabel
from harness.inference.settings import PermutationSettings
from harness.inference.strata import Arrangements, find_strata
from harness.samples.block_table import NEAR_SECONDS, NEAR_VOLUMES, BlockTable
from harness.samples.class_order import list_balances
from harness.samples.samples import RecordedSamples, Samples

FEWEST = 20
"""Distinct relabellings that a p-value of .05 needs."""

FEW = 100
"""Distinct relabellings below which p-values are coarse."""

CLUSTERED = 0.01
"""Share of random sequences that may repeat labels as often as a sequence that counts as clustered."""

N_SEQUENCES = 999
"""Random sequences that a sequence of events is compared with."""


def check_count(n_distinct: int, table: BlockTable, settings: PermutationSettings) -> None:
    """Refuse designs that have too few distinct relabellings for a p-value.

    Raises
    ------
    DesignError
    """
    if n_distinct == 1:
        raise DesignError(f"no permutation test is possible: {_explain_single(table, settings)}")
    if n_distinct < FEWEST and not settings.force:
        raise DesignError(
            f"the design has {n_distinct} distinct relabellings, so that the smallest possible p-value is "
            f"1/{n_distinct} = {1 / n_distinct:.3f}: no score can be significant at .05. Use more scanner "
            "runs or blocks, or compute it all the same with inference.force=true"
        )


def _explain_single(table: BlockTable, settings: PermutationSettings) -> str:
    """Return why the true labelling is the only one, and what to do."""
    if settings.null == NullHypothesis.partition:
        return (
            "there is one way to divide the conditions into classes of these sizes; use "
            "inference.null=conditions_alike"
        )
    if settings.relabel == Relabel.order_preserving:
        return (
            "all scanner runs show the classes in the same order, so that exchanging the orders changes "
            "nothing; order and class cannot be separated in this design"
        )
    shared = [
        len(set(table.classes[table.runs == run].tolist())) > 1 for run in np.unique(table.runs).tolist()
    ]
    if not any(shared):
        return (
            "labels are exchanged between blocks of one scanner run, and every scanner run shows one class "
            "only; decode classes that share scanner runs"
        )
    if len(find_strata(table).blocks) > len(set(table.runs.tolist())):
        return (
            f"the blocks of the classes differ in length ({describe_lengths(table)}), so that exchanged "
            "labels would be recognised by their length. Blocks of one condition that follow each other "
            "without rest count as one longer block. Give the blocks the same number of volumes "
            "with signal.trim_first, signal.trim_last or signal.lag"
        )
    return (
        "exchanging the labels of its blocks only renames the classes: one scanner run with one block per "
        "class has one distinct relabelling. Use more scanner runs or blocks"
    )


def describe_lengths(table: BlockTable) -> str:
    """Return the numbers of volumes of the blocks of every class, in words."""
    parts = []
    for name in dict.fromkeys(table.classes.tolist()):
        lengths = table.n_volumes[table.classes == name]
        shown = f"{lengths.min()}" if lengths.min() == lengths.max() else f"{lengths.min()}-{lengths.max()}"
        parts.append(f"{name} {shown} volumes")
    return ", ".join(parts)


def check_order(table: BlockTable, classes: Sequence[str]) -> None:
    """Refuse designs in which one class comes first in every scanner run; see `OrderBalance.is_fixed`.

    Raises
    ------
    DesignError
    """
    for balance in list_balances(table, classes):
        if balance.is_fixed:
            raise DesignError(
                f"no permutation test is possible: {balance.first!r} comes before {balance.second!r} in all "
                f"{balance.n_runs} scanner runs, so that drift, adaptation or attention within a scanner run "
                "predict the class as well as the brain's response does, and no relabelling can separate "
                "them. The order of the classes has to vary between scanner runs"
            )


def caution_order(table: BlockTable, classes: Sequence[str], settings: PermutationSettings) -> list[str]:
    """Return a caution if one class comes first in most scanner runs; see `OrderBalance.is_unbalanced`."""
    if settings.relabel == Relabel.order_preserving:
        return []
    found = [balance for balance in list_balances(table, classes) if balance.is_unbalanced]
    if not found:
        return []
    worst = found[0]
    more = f" (and {len(found) - 1} more pairs of classes like it)" if len(found) > 1 else ""
    remedy = ""
    if len(classes) == 2 and settings.null != NullHypothesis.partition:
        remedy = "; compare with inference.relabel=order_preserving"
    return [
        f"{worst.first!r} comes before {worst.second!r} in {worst.k} of {worst.n_runs} scanner runs"
        f"{more}: an effect of order can make p too small{remedy}"
    ]


def caution_conditions(samples: Samples, settings: PermutationSettings) -> list[str]:
    """Return a caution if classes are made of several conditions."""
    if all(len(members) == 1 for members in samples.contrast.members.values()):
        return []
    if settings.null == NullHypothesis.partition:
        _, counts = np.unique(samples.conditions, return_counts=True)
        if counts.min() == counts.max():
            return []
        return [
            f"the conditions have {counts.min()} to {counts.max()} volumes: the classes of other "
            "partitions are of other sizes; prefer balanced_accuracy or roc_auc"
        ]
    return [
        "classes of several conditions: the null hypothesis is that all conditions are alike, and it is "
        "rejected for any partition of conditions that can be distinguished; inference.null=partition tests "
        "this partition against the others"
    ]


def caution_lengths(table: BlockTable) -> list[str]:
    """Return cautions about blocks of different lengths that share a stratum, or that keep their label."""
    strata = find_strata(table)
    cautions = []
    if strata.mixes_lengths:
        cautions.append(
            f"labels are exchanged between blocks of similar, not equal, length ({describe_lengths(table)}); "
            "prefer balanced_accuracy or roc_auc"
        )
    alone = [part for part in strata.blocks if len(set(table.classes[part].tolist())) == 1]
    if alone and len(alone) < len(strata.blocks):
        n_blocks = sum(len(part) for part in alone)
        cautions.append(
            f"{n_blocks} of {len(table.runs)} blocks keep their label, because their scanner run has no "
            "block of another class with as many volumes"
        )
    return cautions


def caution_few(n_distinct: int) -> list[str]:
    """Return a caution if there are few distinct relabellings."""
    if n_distinct >= FEW:
        return []
    return [f"{n_distinct} distinct relabellings: the smallest possible p-value is {1 / n_distinct:.3f}"]


def check_sequence(table: BlockTable, samples: Samples) -> None:
    """Refuse sequences of events, one volume each and close to each other, that repeat classes too often.

    Raises
    ------
    DesignError
        If at most `CLUSTERED` of the sequences that the strata allow repeat a class as often.
    """
    if not _is_event_related(table, samples):
        return
    agreement = _count_repeats(table.classes, table)
    if _is_rare(agreement, table):
        raise DesignError(
            "no permutation test is possible: the events are single volumes close to each other, and the "
            f"same class follows itself {agreement} times, more often than in nearly all random sequences: "
            "neighbouring volumes are alike whatever their class, and relabelling would break this up. Make "
            "each series of one class one sample (signal.average_blocks=true), or use events that are at "
            f"least {NEAR_SECONDS:.0f} s apart"
        )


def caution_sequence(table: BlockTable, samples: Samples) -> list[str]:
    """Return a caution if the design is event-related."""
    if not _is_event_related(table, samples):
        return []
    return [
        f"event-related timing (events less than {NEAR_SECONDS:.0f} s apart): p is valid if the sequence of "
        "events was random, and conservative if it alternated"
    ]


def _is_event_related(table: BlockTable, samples: Samples) -> bool:
    """Return whether the units are single volumes that follow each other closely."""
    if (table.n_volumes > 1).any():
        return False
    order = np.lexsort([table.onsets, table.runs])
    same_run = np.diff(table.runs[order]) == 0
    distances = np.diff(table.onsets[order])[same_run]
    if len(distances) == 0:
        return False
    t_r = samples.sources.recording.t_r if isinstance(samples, RecordedSamples) else None
    if t_r is None:
        return bool(np.median(distances) <= NEAR_VOLUMES)
    return bool(np.median(distances) * t_r < NEAR_SECONDS)


def _is_rare(agreement: int, table: BlockTable) -> bool:
    """Return whether at most `CLUSTERED` of the sequences that the strata allow repeat classes as often."""
    names, codes = np.unique(table.classes, return_inverse=True)
    sequences = Arrangements(codes, find_strata(table).blocks, renames=False)
    random = np.random.default_rng(0)
    drawn = [_count_repeats(names[sequences.draw(random)], table) for _ in range(N_SEQUENCES)]
    return (1 + sum(repeats >= agreement for repeats in drawn)) / (1 + N_SEQUENCES) <= CLUSTERED


def _count_repeats(classes: np.ndarray, table: BlockTable) -> int:
    """Return how often a block has the class of the one before it in the same scanner run."""
    order = np.lexsort([table.onsets, table.runs])
    repeats = classes[order][1:] == classes[order][:-1]
    return int((repeats & (np.diff(table.runs[order]) == 0)).sum())


def caution_averages(table: BlockTable, samples: Samples) -> list[str]:
    """Return a caution if held-out block means are standardised among themselves."""
    if (
        (table.n_volumes > 1).any()
        or samples.preparation.zscore != "own"
        or _is_event_related(table, samples)
    ):
        return []
    return [
        "the samples are single block means, and every held-out set is standardised by itself (signal.zscore="
        "own): where it has two samples these are exact opposites, and its accuracy is 0 or 1. Scores and "
        "p-values are coarse"
    ]
