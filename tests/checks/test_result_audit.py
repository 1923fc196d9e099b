"""Every rule on results: what triggers it, and the nearest result that does not."""

import math
import warnings
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from block_designs import find, make_design, make_question
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import SVC, LinearSVC

from harness.checks.findings import Finding, Verdict, count_verdicts, sort_findings, worst_verdict
from harness.checks.result_audit import RESULT_RULES, audit_result
from harness.decoding.decode import Decoding, collect_warnings, count_messages
from harness.decoding.grid_scores import record_grid


def make_decoding(folds=None, tried=(), warned=(), classes="AB"):
    """Return a decoding that holds what the rules read, and nothing else."""
    samples = make_design("AA.BB.CC"[: 3 * len(classes)], "CC.BB.AA"[-3 * len(classes) + 1 :])
    table = {"fold": range(1, len(tried) + 1)} if folds is None else folds
    known = {
        "question": make_question(samples),
        "samples": samples,
        "folds": pd.DataFrame(table),
        "decoder": SimpleNamespace(tried=tried, classes=np.unique(samples.y)),
        "warnings": warned,
    }
    return Decoding(**{field.name: known.get(field.name) for field in fields(Decoding)})


def judge(rule, decoding, **known):
    return find(audit_result(decoding, **known), rule)


def tried(*scores, values=(1.0, 10.0, 100.0)):
    return [record_grid([{"C": value} for value in values], "roc_auc", scores)]


LOW, INNER, HIGH = tried(0.9, 0.8, 0.7), tried(0.8, 0.9, 0.7), tried(0.7, 0.8, 0.9)
TIED, TIED_AT_EDGES = tried(0.7, 0.9, 0.9), tried(0.9, 0.8, 0.9)


@pytest.mark.parametrize(
    ("folds", "n_at_edge", "verdict"),
    [
        ([LOW, INNER, INNER, HIGH], 2, "caution"),
        ([LOW, INNER, INNER, INNER], 1, "ok"),
        ([INNER] * 4, 0, "ok"),
        ([TIED] * 4, 0, "ok"),  # 10 is as good as 100
        ([TIED_AT_EDGES] * 4, 4, "caution"),
        ([tried(0.1, 0.2, values=(1.0, 10.0))] * 4, None, "ok"),  # every value is an edge
        ([[None]] * 4, None, "ok"),
        ([], None, "ok"),
    ],
)
def test_best_value_at_an_edge_of_its_grid_in_half_of_the_folds_is_a_caution(folds, n_at_edge, verdict):
    found = judge("grid_edge", make_decoding(tried=folds))
    assert found.verdict == verdict
    if n_at_edge is not None:
        assert found.fact == f"best C at an edge of its grid in {n_at_edge} of 4 folds"


@pytest.mark.parametrize(
    ("folds", "n_tied", "verdict"),
    [
        ([TIED, TIED, INNER, HIGH], 2, "caution"),
        ([TIED, LOW, INNER, HIGH], 1, "ok"),
        ([tried(0.7, 0.9, 0.9 - 1e-12)] * 4, 4, "caution"),  # a difference of rounding
        ([tried(0.7, 0.9, 0.9 - 1e-6)] * 4, 0, "ok"),
        ([tried(np.nan, np.nan, np.nan)] * 4, 0, "ok"),
    ],
)
def test_values_that_score_equally_well_in_half_of_the_folds_are_a_caution(folds, n_tied, verdict):
    found = judge("grid_tie", make_decoding(tried=folds))
    assert (found.verdict, f"in {n_tied} of 4 folds" in found.fact) == (verdict, True)


def test_values_of_several_problems_are_counted_together():
    found = judge("grid_edge", make_decoding(tried=[HIGH * 3, INNER * 3], classes="ABC"))
    assert (found.verdict, "3 of 6 problems" in found.fact) == (Verdict.caution, True)


def test_names_and_several_parameters_have_no_edge():
    names = [record_grid([{"loss": name} for name in ("a", "b", "c")], "roc_auc", [1, 2, 3])]
    pairs = [record_grid([{"C": c, "tol": 1e-3} for c in (1, 2, 3)], "roc_auc", [1, 2, 3])]
    for rule in ("grid_edge", "grid_tie"):
        assert judge(rule, make_decoding(tried=[names, pairs])).verdict == Verdict.ok


@pytest.mark.parametrize(("share", "verdict"), [(0.025, "caution"), (0.026, "ok"), (float("nan"), "ok")])
def test_score_in_the_lower_tail_of_the_null_distribution_is_a_caution(share, verdict):
    shares = {"test_accuracy": share, "test_roc_auc": 0.5}
    found = judge("below_chance", make_decoding({"fold": [1]}), lower_shares=shares)
    assert (found.verdict, "test_accuracy" in found.fact) == (verdict, not math.isnan(share))


def test_without_a_null_distribution_chance_is_not_judged():
    found = judge("below_chance", make_decoding({"fold": [1], "test_accuracy": [0.0]}))
    assert (found.verdict, "not judged" in found.fact) == (Verdict.ok, True)


@pytest.mark.parametrize(
    ("accuracies", "areas", "verdict"),
    [
        ([0.7, 0.8], [0.9, 0.95], "caution"),  # .175 on average
        ([0.7, 0.8], [0.9, 0.89], "ok"),  # .145
        ([0.9, 0.9], [0.7, 0.7], "ok"),
        ([0.5, 0.5], [np.nan, np.nan], "ok"),
    ],
)
def test_accuracy_far_below_the_area_under_the_curve_is_a_caution(accuracies, areas, verdict):
    folds = {"fold": [1, 2], "test_accuracy": accuracies, "test_roc_auc": areas}
    assert judge("accuracy_below_auc", make_decoding(folds)).verdict == verdict
    # With three classes the chance levels are 1/3 and 1/2.
    assert judge("accuracy_below_auc", make_decoding(folds, classes="ABC")).verdict == Verdict.ok
    del folds["test_roc_auc"]
    assert judge("accuracy_below_auc", make_decoding(folds)).verdict == Verdict.ok


def test_solvers_that_did_not_converge_are_found_whatever_their_message(rng):
    X, y = rng.normal(size=(40, 30)), np.tile([0, 1], 20)
    with collect_warnings() as caught:
        LinearSVC(C=1e6, max_iter=1, dual=True).fit(X, y)
        SVC(kernel="linear", C=1e6, max_iter=1).fit(X, y)  # whose message has no "converge"
    assert {warning.category for warning in caught} == {ConvergenceWarning}
    found = judge("convergence", make_decoding({"fold": [1]}, warned=count_messages(caught)))
    assert (found.verdict, found.fact) == (Verdict.caution, "a solver did not converge (2 warnings)")


def test_other_warnings_are_no_matter_of_convergence():
    with collect_warnings() as caught:
        warnings.warn("this did not converge, says the user", UserWarning, stacklevel=1)
    found = judge("convergence", make_decoding({"fold": [1]}, warned=count_messages(caught)))
    assert found.verdict == Verdict.ok


NUMBERS = st.one_of(st.floats(0, 1), st.just(float("nan")))


@given(
    st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=5),
    st.sampled_from(["AB", "ABC"]),
    st.dictionaries(st.sampled_from(["test_accuracy", "selected_roc_auc"]), NUMBERS),
)
def test_every_rule_judges_every_result(scores, classes, shares):
    n_problems = 1 if len(classes) == 2 else 3
    folds = {
        "fold": range(1, len(scores) + 1),
        "test_accuracy": [score for score, _, _ in scores],
        "test_roc_auc": [score for _, score, _ in scores],
    }
    decoding = make_decoding(folds, [tried(*score) * n_problems for score in scores], classes=classes)
    findings = audit_result(decoding, lower_shares=shares)
    assert [finding.rule for finding in findings] == [rule.name for rule in RESULT_RULES]
    for finding in findings:
        assert finding.evidence.endswith(".") and finding.reference


def test_findings_are_sorted_and_counted_by_their_verdicts():
    verdicts = ["ok", "caution", "leak", "caution", "ok", "ok"]
    findings = [Finding(str(i), Verdict(name), "A. B.", "") for i, name in enumerate(verdicts)]
    assert [finding.rule for finding in sort_findings(findings)] == ["2", "1", "3", "0", "4", "5"]
    assert count_verdicts(findings) == "1 leak, 2 cautions, 3 ok"
    assert count_verdicts(findings[:2]) == "1 caution, 1 ok"
    assert [worst_verdict(findings[:n]) for n in (0, 1, 2, 3)] == ["ok", "ok", "caution", "leak"]
    assert findings[0].fact == "A"
