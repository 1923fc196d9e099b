"""Two decodings of one subject compared over their folds, without a store."""

import pandas as pd

from harness.checks.findings import Verdict
from harness.checks.result_audit import audit
from harness.decoding.decode import Decoding
from harness.errors import DesignError, UsageError, format_unknown
from harness.inference.paired_tests import CorrectedT, corrected_t

PAIRED_BY = ["volume", "run", "fold", "class"]


def compare_decodings(first: Decoding, second: Decoding, score: str = "test_accuracy") -> CorrectedT:
    """Test whether two decodings of the same volumes and folds have different scores.

    The corrected resampled t-test over folds, as ``python -m harness compare by=KEY`` for stored runs. It
    concerns other volumes of this subject and session, not other people.

    Parameters
    ----------
    score : str
        Column of `Decoding.folds` with a test score.

    Returns
    -------
    test : CorrectedT
        `difference` is first minus second.

    Raises
    ------
    UsageError
        For a score that is not a test score of both decodings.
    DesignError
        For other images, volumes or folds, for a scheme with a leak, and for fewer than three folds.

    References
    ----------
    .. [1] Nadeau, Bengio (2003), Inference for the generalization error, Machine Learning 52:239-281,
       doi:10.1023/A:1024068626366.

    Examples
    --------
    >>> from harness import compare_decodings, decode
    >>> test = compare_decodings(decode(recording, svc), decode(recording, lda))  # doctest: +SKIP
    >>> test.p  # doctest: +SKIP
    """
    shared = [name for name in first.score_columns if name in second.score_columns]
    scores = [name for name in shared if name.startswith("test_")]
    if score not in scores:
        raise UsageError(
            f"{format_unknown(score, score, scores, 'score')} Selected scores are not compared: their "
            "parameters were chosen on the fold that is scored."
        )
    _check_pairs(first, second)
    for decoding in (first, second):
        for finding in audit(decoding):
            if finding.verdict == Verdict.leak:
                raise DesignError(
                    f"the audit found a leak, so that the difference has no p-value: {finding.rule} of "
                    f"{decoding.question.estimator.name}: {finding.evidence}"
                )
    folds = first.folds
    return corrected_t(folds[score], second.folds[score], folds["n_train"], folds["n_test"])


def _check_pairs(first: Decoding, second: Decoding) -> None:
    """Raise unless fold i of both decodings holds out the same volumes of the same images."""
    if first.recording.bold != second.recording.bold:
        raise DesignError(
            f"the decodings are of other images, {first.recording.bold} and {second.recording.bold}; "
            "compare decodings of one recording"
        )
    pairs: list[pd.DataFrame] = [
        decoding.predictions[PAIRED_BY].sort_values(PAIRED_BY, ignore_index=True)
        for decoding in (first, second)
    ]
    same_sizes = first.folds["n_train"].tolist() == second.folds["n_train"].tolist()
    if not pairs[0].equals(pairs[1]) or not same_sizes:
        raise DesignError(
            f"fold i of {first.question.scheme.name} and of {second.question.scheme.name} are not the same "
            "volumes with the same classes; compare decodings of one contrast and one scheme"
        )
