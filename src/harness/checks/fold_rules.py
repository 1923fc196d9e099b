"""Rules on the folds: what both sides of a split share, and what the held-out sets consist of."""

import numpy as np
from scipy.stats import binom

from harness.checks.audited_split import AuditedSplit, list_folds
from harness.checks.findings import Judgement, Verdict
from harness.errors import count

MAX_IMBALANCE = 0.2  # of a class's share in a set, relative to equal shares
WIDEST_INTERVAL = 0.25  # half-width, in accuracy, of the 95 % interval of a decoder at chance
CONFIDENCE = 0.95


def judge_blocks_split(split: AuditedSplit) -> Judgement:
    """Find stimulation blocks with volumes on both sides."""
    found = split.split_blocks
    n_blocks = len(split.blocks.runs)
    if not found:
        return Judgement(Verdict.ok, f"every one of the {n_blocks} blocks is on one side of each fold")
    n_split = len(np.unique(np.concatenate(list(found.values()))))
    n_volumes = sum(
        int(np.isin(split.blocks.of_sample[split.folds[number][1]], blocks).sum())
        for number, blocks in found.items()
    )
    n_held_out = sum(len(test) for _, test in split.folds.values())
    return Judgement(
        Verdict.leak,
        f"{n_split} of {n_blocks} blocks on both sides of a split ({len(found)} of {len(split.folds)} folds)",
        f"In {list_folds(found)}, {n_volumes} of {n_held_out} held-out volumes are of blocks that were "
        "trained on, and share their noise: the score does not estimate generalisation to new blocks. Use "
        "cv=logo, or folds of whole blocks.",
    )


def judge_runs_split(split: AuditedSplit) -> Judgement:
    """Find scanner runs with volumes on both sides."""
    found = split.split_runs
    n_runs = len(np.unique(split.samples.runs))
    if not found:
        return Judgement(Verdict.ok, f"every one of the {n_runs} scanner runs is on one side of each fold")
    n_split = len(np.unique(np.concatenate(list(found.values()))))
    advice = (
        f"In {list_folds(found)}, volumes of one scanner run, which share its offset and drift, are trained "
        "on and held out: the score holds for new volumes of the same scanner runs, not for new scanner "
        "runs. "
    )
    return Judgement(
        Verdict.caution,
        f"{n_split} of {count(n_runs, 'scanner run')} on both sides of a split "
        f"({len(found)} of {len(split.folds)} folds)",
        advice + ("Use cv=logo." if n_runs > 1 else "No scheme can avoid this with one scanner run."),
    )


def judge_neighbours(split: AuditedSplit) -> Judgement:
    """Find held-out volumes that are near training volumes of the same scanner run."""
    averaged = split.question.signal.average_blocks
    reach = 1 if averaged else split.near_volumes
    near: dict[int, np.ndarray] = {}
    for number, (train, test) in split.folds.items():
        distances = split.nearest_training(train, test)
        if (distances <= reach).any():
            near[number] = distances[distances <= reach]
    unit = "block" if averaged else "volume"
    within = f"within {count(reach, unit)} of a training volume of its scanner run"
    if not near:
        return Judgement(Verdict.ok, f"no held-out volume is {within}")
    n_near = sum(len(distances) for distances in near.values())
    n_held_out = sum(len(test) for _, test in split.folds.values())
    smallest = min(int(distances.min()) for distances in near.values())
    leaks = bool(split.split_blocks)
    return Judgement(
        Verdict.leak if leaks else Verdict.caution,
        f"{n_near} of {n_held_out} held-out volumes are near training volumes",
        f"In {list_folds(near)}, each is {within}, the nearest {count(smallest, unit)} apart; noise and "
        "responses to the stimuli overlap there"
        + (", and some are of the same block" if leaks else "")
        + ". Use cv=logo, or leave a gap between training and held-out volumes.",
    )


def judge_class_balance(split: AuditedSplit) -> Judgement:
    """Find folds whose training or held-out set has unequal shares of the classes."""
    classes = split.samples.contrast.classes
    equal = 1 / len(classes)
    unbalanced: dict[int, str] = {}
    worst, n_worst = "", 0.0
    for number, fold in split.folds.items():
        for side, rows in zip(("training", "held-out"), fold, strict=True):
            counts = split.count_classes(rows)
            off = np.abs(counts / len(rows) / equal - 1)
            if off.max() > MAX_IMBALANCE + 1e-9:
                unbalanced[number] = side
            if off.max() > n_worst:
                place, n_worst = int(off.argmax()), float(off.max())
                worst = (
                    f"{counts[place]} of {len(rows)} {side} volumes are {classes[place]!r} in fold {number}"
                )
    if not unbalanced:
        return Judgement(
            Verdict.ok,
            f"the share of every class is within {MAX_IMBALANCE:.0%} of 1/{len(classes)} in every fold",
            f"Furthest from it: {worst}." if worst else "",
        )
    return Judgement(
        Verdict.caution,
        worst,
        f"The classes are out of balance in {list_folds(unbalanced)}, so that naming the more frequent class "
        f"has another accuracy than 1/{len(classes)}: read balanced_accuracy or roc_auc.",
    )


def judge_small_holdout(split: AuditedSplit) -> Judgement:
    """Compare the number of held-out blocks with what an accuracy needs to differ from chance."""
    held_out = np.unique(np.concatenate([test for _, test in split.folds.values()]))
    n_blocks = len(np.unique(split.blocks.of_sample[held_out]))
    chance = 1 / len(split.samples.contrast.classes)
    error = float(np.sqrt(chance * (1 - chance) / n_blocks))
    low, high = (float(count) / n_blocks for count in binom.interval(CONFIDENCE, n_blocks, chance))
    fact = f"{count(n_blocks, 'block')} held out in all: SE of an accuracy at chance {error:.3f}"
    interval = (
        f"{len(held_out)} volumes are held out, but those of a block are not independent; if blocks are, "
        f"{CONFIDENCE:.0%} of accuracies at chance are from {low:.3f} to {high:.3f}"
    )
    if 1.96 * error <= WIDEST_INTERVAL:
        return Judgement(Verdict.ok, fact, f"{interval}.")
    return Judgement(
        Verdict.caution,
        fact,
        f"{interval}: a score in that range cannot be distinguished from chance. Use a scheme that holds "
        "every block out once, such as cv=logo, or measure more blocks.",
    )
