"""Rules on the analysis: standardisation, screening, the choice of parameters, and dummies."""

import math
from collections.abc import Mapping
from typing import Any

from harness.checks.audited_split import AuditedSplit, list_folds
from harness.checks.findings import Judgement, Verdict
from harness.samples.choices import ZScore

ASSUMPTIONS: Mapping[str, str] = {
    ZScore.own: "Every held-out set is standardised by its own mean and SD: the classes must have the same "
    "shares in it as in the training set, and no volume can be predicted before the whole set is measured.",
    ZScore.run: "Every scanner run is standardised by the mean and SD of all its volumes, without labels: no "
    "volume can be predicted before its scanner run is complete.",
    ZScore.train: "Held-out volumes are standardised by the mean and SD of the training volumes: voxels must "
    "keep their mean and SD in new scanner runs.",
    ZScore.none: "Voxels are not standardised: they must keep their mean in new scanner runs, and those with "
    "a larger variance have more influence.",
}
"""What each value of `signal.zscore` assumes, in one sentence."""

NO_ESTIMATE = (
    "It does not estimate chance: for that, run the estimator itself with inference=permutation, whose null "
    "distribution has the same scheme and the same choices."
)


def judge_standardisation(split: AuditedSplit) -> Judgement:
    """Find statistics of held-out volumes in the standardisation; none of them uses labels."""
    signal = split.question.signal
    assumption = ASSUMPTIONS[signal.zscore]
    if split.question.estimator.is_dummy:
        return Judgement(Verdict.ok, "a dummy does not use the voxels")
    if signal.zscore == ZScore.own:
        return _judge_own(split, assumption)
    if signal.cleans_runs and split.split_runs:
        return Judgement(
            Verdict.caution,
            "scanner runs were cleaned as a whole and then split",
            f"In {list_folds(split.split_runs)}, training volumes were changed by statistics of held-out "
            f"volumes of their scanner run, without labels. {assumption} Use cv=logo or signal=train_only.",
        )
    fact = "no statistic of held-out volumes is used"
    if signal.zscore == ZScore.run:
        fact = "statistics of whole scanner runs are used, without labels, and no run is on both sides"
    return Judgement(Verdict.ok, fact, assumption)


def _judge_own(split: AuditedSplit, assumption: str) -> Judgement:
    pairs = {number: test for number, (_, test) in split.folds.items() if len(test) == 2}
    if not pairs:
        return Judgement(
            Verdict.caution,
            "prediction uses the statistics of the whole held-out set",
            f"{assumption} Labels are not used, but the score depends on it: compare with signal=train_only.",
        )
    return Judgement(
        Verdict.leak,
        f"{len(pairs)} of {len(split.folds)} held-out sets are two samples, turned into exact opposites",
        "Standardised by their own mean and SD, two samples differ in sign alone, so that, but for the "
        "intercept, both are right or both are wrong: each such fold is one forced choice, whose accuracy is "
        "usually higher than that of predicting single samples and cannot be compared with it. Use "
        "signal=train_only or signal=per_run.",
    )


def judge_screening(split: AuditedSplit) -> Judgement:
    """Find labels of held-out blocks in the choice of voxels."""
    if split.question.estimator.is_dummy or not split.screens:
        return Judgement(
            Verdict.ok,
            "all voxels of the mask are used",
            "The audit does not know whether the mask itself was made with these data.",
        )
    percentile = split.samples.preparation.screening_percentile
    if not split.split_blocks:
        return Judgement(
            Verdict.ok,
            f"every training set chooses {percentile} % of the voxels, without the labels of held-out "
            "volumes",
        )
    return Judgement(
        Verdict.leak,
        f"{percentile} % of the voxels are chosen with labels of held-out blocks",
        f"In {list_folds(split.split_blocks)}, the training set has volumes of held-out blocks, and voxels "
        "whose noise fits these blocks are kept. Use cv=logo.",
    )


def judge_selection(split: AuditedSplit) -> Judgement:
    """Find scores whose parameters were chosen on the fold that is scored."""
    estimator, select = split.question.estimator, split.question.scoring.select
    n_values = math.prod(map(_count_values, estimator.grid.values()))
    if n_values < 2:
        return Judgement(Verdict.ok, "no parameter is chosen on the fold that is scored")
    return Judgement(
        Verdict.caution,
        f"selected_{select}: best of {n_values} values of {', '.join(estimator.grid)} on the scored fold",
        "Selected scores are too high by construction, above chance also without any effect: report "
        f"test_{select} or another test score, whose volumes took part in no choice.",
    )


def _count_values(values: Any) -> int:
    return len(next(iter(values.values()))) if isinstance(values, Mapping) else len(values)


def judge_dummy(split: AuditedSplit) -> Judgement:
    """Find dummies that guess: their scores are no estimate of chance."""
    estimator = split.question.estimator
    if not estimator.is_dummy:
        return Judgement(Verdict.ok, "the estimator is no dummy")
    if estimator.model.strategy != "stratified":
        return Judgement(Verdict.ok, "the dummy always names the most frequent class")
    sizes = [len(test) for _, test in split.folds.values()]
    chance = 1 / len(split.samples.contrast.classes)
    error = math.sqrt(chance * (1 - chance) / min(sizes))
    if len(sizes) == 1:
        return Judgement(
            Verdict.caution,
            f"the score is one random draw of {sizes[0]} guesses (SD {error:.3f})",
            NO_ESTIMATE,
        )
    return Judgement(
        Verdict.caution,
        "the dummy repeats the same guesses in every fold, as nilearn's does",
        f"Its score depends on the order of the classes in the held-out sets. {NO_ESTIMATE}",
    )
