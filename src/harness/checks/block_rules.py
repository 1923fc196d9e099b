"""Rules on the design: whether the order, the lengths or the timing of the blocks differ between classes."""

from itertools import combinations

import numpy as np

from harness.checks.audited_split import AuditedSplit
from harness.checks.findings import Judgement, Verdict
from harness.errors import count
from harness.samples.class_order import list_balances

LENGTH_RATIO = 1.25  # between the mean lengths of the blocks of two classes


def judge_class_order(split: AuditedSplit) -> Judgement:
    """Find a class that comes before another in most scanner runs; see `OrderBalance`."""
    classes = split.samples.contrast.classes
    balances = list_balances(split.blocks, classes)
    together = {frozenset((balance.first, balance.second)) for balance in balances}
    for pair in combinations(classes, 2):
        if frozenset(pair) not in together:
            return Judgement(
                Verdict.leak,
                f"no scanner run has blocks of both {pair[0]!r} and {pair[1]!r}",
                "Differences between scanner runs and between classes cannot be distinguished; inference is "
                "refused.",
            )
    worst = balances[0]
    shown = f"{worst.first!r} before {worst.second!r} in {worst.k} of {count(worst.n_runs, 'scanner run')}"
    by_order = shown
    if len(split.blocks.runs) == len(classes) * len(np.unique(split.blocks.runs)):  # one block of each
        by_order += f": accuracy {worst.k / worst.n_runs:.3f} by order alone"
    if any(balance.is_fixed for balance in balances):
        return Judgement(
            Verdict.leak,
            by_order,
            "Effects of order and of class cannot be distinguished in these data; inference is refused.",
        )
    if any(balance.is_unbalanced for balance in balances):
        remedy = ""
        if len(classes) == 2:
            remedy = " Test it with inference=permutation inference.relabel=order_preserving."
        return Judgement(
            Verdict.caution,
            by_order,
            f"An effect of the order can raise the score: see python -m harness check.{remedy}",
        )
    if worst.n_runs * worst.imbalance <= 1:
        return Judgement(
            Verdict.ok,
            shown,
            "The order is balanced: it cannot raise the score, but where the data follow the order, "
            "leave-one-run-out gives an accuracy below chance.",
        )
    return Judgement(Verdict.ok, by_order)


def judge_block_lengths(split: AuditedSplit) -> Judgement:
    """Find classes whose blocks are longer than those of another class."""
    if split.question.signal.average_blocks:
        return Judgement(Verdict.ok, "every block is one sample, the mean of its volumes")
    classes = split.samples.contrast.classes
    lengths = {name: split.blocks.n_volumes[split.blocks.classes == name] for name in classes}
    found = {}
    for short, long in combinations(sorted(classes, key=lambda name: lengths[name].mean()), 2):
        differ = bool(lengths[long].mean() >= LENGTH_RATIO * lengths[short].mean())
        disjoint = not np.intersect1d(lengths[short], lengths[long]).size
        found[short, long] = differ, disjoint
    ratios = {(short, long): lengths[long].mean() / lengths[short].mean() for short, long in found}
    short, long = max(found, key=lambda pair: (sum(found[pair]), ratios[pair]))
    differ, disjoint = found[short, long]
    fact = (
        f"blocks of {short!r} have {lengths[short].mean():.3g} volumes on average, of {long!r} "
        f"{lengths[long].mean():.3g}"
    )
    if not differ and not disjoint:
        return Judgement(Verdict.ok, fact)
    advice = "Cut the blocks to equal lengths with signal.trim_first or signal.trim_last."
    if disjoint:
        advice = (
            f"No length occurs in both classes: the length of a block alone determines its class. {advice}"
        )
    return Judgement(Verdict.leak if differ and disjoint else Verdict.caution, fact, advice)


def judge_merged_blocks(split: AuditedSplit) -> Judgement:
    """Find blocks that may be two of the same condition without rest between them."""
    signal, blocks = split.question.signal, split.blocks
    if signal.average_blocks:
        return Judgement(Verdict.ok, "not judged: the volumes of every block were averaged to one sample")
    lengths = blocks.n_volumes + signal.trim_first + signal.trim_last
    merged = np.zeros(len(lengths), dtype=bool)
    usual = np.zeros_like(lengths)
    for condition in np.unique(blocks.conditions):
        rows = blocks.conditions == condition
        usual[rows] = np.bincount(lengths[rows]).argmax()
        merged |= rows & (lengths >= 2 * usual) & (lengths % np.maximum(usual, 1) == 0)
    if not merged.any():
        return Judgement(
            Verdict.ok, f"none of {count(len(lengths), 'block')} is several times as long as usual"
        )
    place = int(np.flatnonzero(merged)[0])
    return Judgement(
        Verdict.caution,
        f"{merged.sum()} of {len(lengths)} blocks may be several blocks without rest between them",
        f"For example, a block of {str(blocks.conditions[place])!r} in scanner run {blocks.runs[place]} has "
        f"{lengths[place]} volumes, where {usual[place]} are usual. Consecutive blocks of one condition "
        "count as one block here; they are kept on one side of a split together, and are relabelled "
        "together.",
    )


def judge_event_timing(split: AuditedSplit) -> Judgement:
    """Find event-related designs: blocks of one volume in quick succession."""
    blocks, reach = split.blocks, split.near_volumes
    if split.question.signal.average_blocks:
        return Judgement(Verdict.ok, "every sample is the mean of a block")
    single = np.count_nonzero(blocks.n_volumes == 1)
    gaps = np.diff(blocks.onsets)[blocks.runs[1:] == blocks.runs[:-1]]
    shortest = int(gaps.min()) if gaps.size else 0
    fact = f"{single} of {len(blocks.runs)} blocks have one volume"
    if 2 * single < len(blocks.runs) or not gaps.size or shortest > reach:
        return Judgement(Verdict.ok, fact)
    return Judgement(
        Verdict.caution,
        f"{fact}, with onsets {count(shortest, 'volume')} apart",
        "The responses to such events overlap: each volume holds part of the response to the events before "
        "it, so that their sequence can be decoded. Hold out whole scanner runs, and use a random sequence.",
    )


def judge_grouped_classes(split: AuditedSplit) -> Judgement:
    """Find classes of several conditions."""
    members = split.samples.contrast.members
    grouped = {name: conditions for name, conditions in members.items() if len(conditions) > 1}
    if not grouped:
        return Judgement(Verdict.ok, "every class is one condition")
    name, conditions = next(iter(grouped.items()))
    return Judgement(
        Verdict.caution,
        f"{len(grouped)} of {len(members)} classes have several conditions",
        f"For example, {name!r} has {len(conditions)}. If the conditions can be decoded, any grouping of "
        "them scores above chance, also an arbitrary one: the score is no evidence for what the group has in "
        "common. Test this grouping against others with inference=permutation inference.null=partition.",
    )
