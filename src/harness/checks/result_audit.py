"""The audit of results: what only the scores, the chosen parameters and the warnings of a run show."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from harness.checks.audited_split import count, list_folds
from harness.checks.findings import Finding, Judgement, Rule, Verdict, apply_rules
from harness.checks.split_audit import VAROQUAUX_2017, audit_split
from harness.decoding.decode import NOT_CONVERGED, Decoding

FAWCETT = "Fawcett 2006, Pattern Recognition Letters 27:861-874, doi:10.1016/j.patrec.2005.10.010"
JAMALABADI = "Jamalabadi et al. 2016, Human Brain Mapping 37:1842-1855, doi:10.1002/hbm.23140"

AUC_EXCESS = 0.15  # of the area under the curve over the accuracy
LOWER_TAIL = 0.025
EDGE_SHARE = 0.5  # of the folds
MIN_VALUES = 3  # of a grid that has an inner value


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
    """Count the folds whose best parameter is the smallest or the largest that was tried."""
    folds = result.decoding.folds
    grids = {
        name: values for name, values in _list_grids(result.decoding).items() if len(values) >= MIN_VALUES
    }
    worst: tuple[float, str, dict[int, object]] = (0.0, "", {})
    for column in folds.columns:
        name = _grid_of_column(column, list(grids))
        if name is None:
            continue
        best = folds[column].to_numpy(dtype=float)
        at_edge = np.isclose(best, min(grids[name]), atol=0) | np.isclose(best, max(grids[name]), atol=0)
        numbers = dict.fromkeys(folds["fold"][at_edge].tolist())
        worst = max(worst, (float(at_edge.mean()), name, numbers), key=lambda item: item[0])
    share, name, numbers = worst
    if not grids:
        return Judgement(Verdict.ok, f"no parameter was chosen from {MIN_VALUES} or more known numbers")
    if not share:
        return Judgement(Verdict.ok, "the best parameters are inside their grids in every fold")
    low, high = min(grids[name]), max(grids[name])
    edges = f"the edge of its grid ({low:g} to {high:g})"
    fact = f"best {name} at {edges} in {len(numbers)} of {len(folds)} folds"
    if share < EDGE_SHARE:
        return Judgement(Verdict.ok, fact, f"These are {list_folds(numbers)}.")
    return Judgement(
        Verdict.caution,
        fact,
        f"A better {name} may lie outside the grid: try more values. Of values that score equally well the "
        "last one counts as the best.",
    )


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


def _list_grids(decoding: Decoding) -> dict[str, Sequence[float]]:
    """Return the numbers that were tried for each parameter, by the grid or inside the estimator."""
    estimator = decoding.question.estimator
    inside = {"C": getattr(estimator.model, "Cs", None), "alpha": getattr(estimator.model, "alphas", None)}
    found: dict[str, Sequence[float]] = {}
    # Multiples of the smallest C are other numbers in every fold.
    for name, values in {**inside, **estimator.grid}.items():
        numbers = list(values) if isinstance(values, Sequence | np.ndarray) else []
        if numbers and all(isinstance(value, Real) and not isinstance(value, bool) for value in numbers):
            found[name] = [float(value) for value in numbers]
    return found


def _grid_of_column(column: str, names: Sequence[str]) -> str | None:
    """Return the parameter of a column such as ``best_C`` or ``best_C_face``."""
    return next(
        (name for name in names if column == f"best_{name}" or column.startswith(f"best_{name}_")), None
    )


RESULT_RULES = (
    Rule("grid_edge", VAROQUAUX_2017, judge_grid_edge),
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
