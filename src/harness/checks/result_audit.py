"""The audit of results: what only the scores, the chosen parameters and the warnings of a run show.

======================  ================================================================================
rule                    caution
======================  ================================================================================
``grid_edge``           in half of the folds, the smallest or the largest value of the grid is the best
``grid_tie``            in half of the folds, several values of the grid are equally good
``below_chance``        a score in the lower 2.5 % of its null distribution
``accuracy_below_auc``  accuracy more than .15 below the area under the ROC curve, for two classes
``convergence``         a solver that did not converge
======================  ================================================================================
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from harness.checks.findings import Finding, Judgement, Rule, Verdict, apply_rules
from harness.checks.split_audit import VAROQUAUX_2017, audit_split
from harness.decoding.decode import NOT_CONVERGED, Decoding
from harness.decoding.grid_scores import TriedValues
from harness.errors import count

FAWCETT = "Fawcett 2006, Pattern Recognition Letters 27:861-874, doi:10.1016/j.patrec.2005.10.010"
JAMALABADI = "Jamalabadi et al. 2016, Human Brain Mapping 37:1842-1855, doi:10.1002/hbm.23140"

AUC_EXCESS = 0.15  # of the area under the curve over the accuracy
LOWER_TAIL = 0.025
MANY = 0.5  # of the choices
MIN_VALUES = 3  # of a grid that has an inner value
TIE = 1e-10  # scores that differ by less differ by rounding


@dataclass(frozen=True, eq=False)
class AuditedResult:
    """A decoding, and what a permutation test adds to it.

    Attributes
    ----------
    lower_shares : mapping of str to float
        By score, the share of the null distribution that is at most the score; empty without a test.
    """

    decoding: Decoding
    lower_shares: Mapping[str, float]


def judge_grid_edge(result: AuditedResult) -> Judgement:
    """Count the choices of the smallest or the largest value of a grid, where no other value is as good."""
    choices = _list_choices(result.decoding)
    if not choices:
        return Judgement(Verdict.ok, f"no choice among {MIN_VALUES} or more numbers is known")
    at_edge = [choice for choice in choices if choice.is_at_edge]
    fact = f"best {choices[0].tried.parameter} at an edge of its grid in {_count_choices(at_edge, choices)}"
    if len(at_edge) < MANY * len(choices):
        return Judgement(Verdict.ok, fact)
    return Judgement(
        Verdict.caution,
        fact,
        f"The grid is {_format_grid(choices[0].tried)}, and a better value may lie outside: try more values.",
    )


def judge_grid_tie(result: AuditedResult) -> Judgement:
    """Count the choices in which several values of a grid are equally good."""
    choices = _list_choices(result.decoding)
    if not choices:
        return Judgement(Verdict.ok, f"no choice among {MIN_VALUES} or more numbers is known")
    tied = [choice for choice in choices if len(choice.best) > 1]
    fact = (
        f"several values of {choices[0].tried.parameter} tie for the best in {_count_choices(tied, choices)}"
    )
    if len(tied) < MANY * len(choices):
        return Judgement(Verdict.ok, fact)
    return Judgement(
        Verdict.caution,
        fact,
        f"The grid is {_format_grid(choices[0].tried)}, and of ties the last value is taken, as in nilearn. "
        "The selected score is the same whichever is taken, the weights are not.",
    )


@dataclass(frozen=True, eq=False)
class _Choice:
    """The choice of a number on one fold and problem."""

    fold: int
    tried: TriedValues

    @property
    def best(self) -> list[float]:
        """The values that score as the best one, up to rounding."""
        scores = np.asarray(self.tried.scores, dtype=float)
        values = np.asarray(self.tried.values, dtype=float)
        return values[scores >= scores[self.tried.chosen] - TIE].tolist()

    @property
    def is_at_edge(self) -> bool:
        """Whether only the smallest or the largest value is the best."""
        low, high = min(self.tried.values), max(self.tried.values)
        return bool(self.best) and all(value in (low, high) for value in self.best)


def _list_choices(decoding: Decoding) -> list[_Choice]:
    """Return the choices among three or more numbers; none are known with ``engine=nilearn``."""
    folds = decoding.folds["fold"].tolist()
    return [
        _Choice(fold, tried)
        for fold, problems in zip(folds, decoding.decoder.tried, strict=False)
        for tried in problems
        if tried is not None and len(tried.values) >= MIN_VALUES and all(map(_is_number, tried.values))
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _count_choices(some: Sequence[_Choice], every: Sequence[_Choice]) -> str:
    """Write in how many folds something holds, or, where a fold has several problems, in how many of them."""
    unit = "folds" if len({choice.fold for choice in every}) == len(every) else "problems of all folds"
    return f"{len(some)} of {len(every)} {unit}"


def _format_grid(tried: TriedValues) -> str:
    low, high = min(tried.values), max(tried.values)
    return f"{len(tried.values)} values from {low:.3g} to {high:.3g}"


def judge_below_chance(result: AuditedResult) -> Judgement:
    """Find scores in the lower tail of their null distribution."""
    shares = {name: share for name, share in result.lower_shares.items() if math.isfinite(share)}
    if not shares:
        return Judgement(
            Verdict.ok, "not judged: the null distribution is known with inference=permutation only"
        )
    name = min(shares, key=shares.__getitem__)
    fact = f"{shares[name]:.3f} of the null distribution is at or below {name}"
    if shares[name] > LOWER_TAIL:
        return Judgement(Verdict.ok, fact)
    return Judgement(
        Verdict.caution,
        fact,
        "The score is far below chance, which is no evidence of information: look for classes out of "
        "balance, an order of the classes that is balanced over scanner runs, and labels that are shifted or "
        "exchanged.",
    )


def judge_accuracy_below_auc(result: AuditedResult) -> Judgement:
    """Compare the accuracy with the area under the ROC curve, which does not depend on the intercept."""
    means = result.decoding.summarise()["mean"]
    if len(result.decoding.question.contrast.classes) > 2:
        return Judgement(
            Verdict.ok, "not judged: with more than two classes the two have different chance levels"
        )
    if not {"test_accuracy", "test_roc_auc"} <= set(means.index):
        return Judgement(Verdict.ok, "not judged: test_accuracy and test_roc_auc are not both reported")
    accuracy, area = float(means["test_accuracy"]), float(means["test_roc_auc"])
    fact = f"test_accuracy is {accuracy:.3f}, test_roc_auc {area:.3f}"
    if not area - accuracy > AUC_EXCESS:
        return Judgement(Verdict.ok, fact)
    return Judgement(
        Verdict.caution,
        fact,
        "The decoder orders the volumes of a held-out set better than it classifies them: decision values "
        "are offset between scanner runs. Read test_roc_auc, or standardise with signal=per_run.",
    )


def judge_convergence(result: AuditedResult) -> Judgement:
    """Find warnings of solvers that did not converge."""
    found = [text for text in result.decoding.warnings if text.startswith(NOT_CONVERGED)]
    if not found:
        return Judgement(Verdict.ok, "no solver warned that it did not converge")
    return Judgement(
        Verdict.caution,
        f"a solver did not converge ({count(len(found), 'warning')})",
        "Scores and weights are not those of the optimum: standardise the voxels, choose a smaller C, or "
        f"raise max_iter. {found[0].removeprefix(NOT_CONVERGED)}",
    )


RESULT_RULES = (
    Rule("grid_edge", VAROQUAUX_2017, judge_grid_edge),
    Rule("grid_tie", "harness.decoding.grid_scores.find_last_best", judge_grid_tie),
    Rule("below_chance", JAMALABADI, judge_below_chance),
    Rule("accuracy_below_auc", FAWCETT, judge_accuracy_below_auc),
    Rule("convergence", "scikit-learn: sklearn.exceptions.ConvergenceWarning", judge_convergence),
)


def audit_result(decoding: Decoding, *, lower_shares: Mapping[str, float] | None = None) -> list[Finding]:
    """Audit the results of a run.

    Parameters
    ----------
    lower_shares : mapping of str to float, optional
        By score, the share of its null distribution that is at most the score.

    Returns
    -------
    findings : list of Finding
        One per rule of `RESULT_RULES`.
    """
    return apply_rules(RESULT_RULES, AuditedResult(decoding, lower_shares or {}))


def audit(decoding: Decoding) -> list[Finding]:
    """Apply all rules of the audit to a decoding.

    Returns
    -------
    findings : list of Finding
        One per rule, those on samples and folds first.

    Examples
    --------
    >>> from harness import audit, decode
    >>> findings = audit(decode(recording, question))  # doctest: +SKIP
    >>> [finding.rule for finding in findings if finding.verdict != "ok"]  # doctest: +SKIP
    ['class_order', 'standardisation', 'selection']
    """
    return [*audit_split(decoding.samples, decoding.question), *audit_result(decoding)]
