"""The verdict of every rule for every scheme of conf/cv, on real data."""

from pathlib import Path

import harness.conf
import pytest
from block_designs import find

from harness import audit
from harness.app.run_spec import decode_request
from harness.checks.findings import Verdict, worst_verdict
from harness.checks.result_audit import RESULT_RULES
from harness.checks.split_audit import SPLIT_RULES

SCHEMES = sorted(file.stem for file in (Path(harness.conf.__path__[0]) / "cv").glob("*.yaml"))
RULES = [rule.name for rule in (*SPLIT_RULES, *RESULT_RULES)]

# Face against cat of subject 1, as in nilearn's introduction to decoding: 12 scanner runs with a block of 9
# volumes of each, 216 volumes in all. The rules on the grid of C follow from its scores. Always:
ALWAYS = {
    "class_order": "caution",  # face is first in 9 of 12 scanner runs
    "standardisation": "caution",  # the default, signal=tutorial: held-out sets by their own mean and SD
    "selection": "caution",  # three values of C, the best on the scored fold
}
SPLIT = {"blocks_split": "leak", "runs_split": "caution", "neighbours": "leak"}
VERDICTS = {
    # Whole scanner runs, so nothing but what always holds.
    "logo": ALWAYS,
    # Segments of 44, 43, 43, 43 and 43 volumes. None of the borders 44, 87, 130, 173 is a multiple of 9. In
    # the second one 27 of 43 volumes, .628, are of one class: more than a fifth above 1/2.
    "kfold5": ALWAYS | SPLIT | {"class_balance": "caution"},
    # 22, 22, 22, 21 and 21 volumes of each class: none of the borders 22, 44, 66, 87 is a multiple of 9.
    "stratified5": ALWAYS | SPLIT,
    # 30 volumes are three blocks and three volumes, 18 and 12 of each class: a share of .6, still ok. Four
    # blocks are too few to distinguish any accuracy from chance.
    "holdout30": ALWAYS | SPLIT | {"small_holdout": "caution"},
}
WORST = {"logo": "caution", "kfold5": "leak", "stratified5": "leak", "holdout30": "leak"}


@pytest.fixture(scope="module")
def decode_real(compose, shared_data):
    """Return a function that decodes face against cat of the real subject 1."""

    def decode_real(*overrides, data="haxby2001-slice"):
        home = f"dataset.data_dir={shared_data / data}"
        return decode_request(compose("dataset=haxby", home, "subject=1", *overrides))

    return decode_real


def list_verdicts(findings):
    return {finding.rule: finding.verdict for finding in findings if finding.verdict != Verdict.ok}


def judge_grid(table):
    """Return what the scores of every C imply: whether 1 or 100 alone, or several values, are the best."""
    best = table[table["score"] >= table.groupby("fold")["score"].transform("max") - 1e-10]
    values = best.groupby("fold")["value"].agg(set)
    at_edge, tied = (
        (values.map(rule)).mean() for rule in (lambda of: 10.0 not in of, lambda of: len(of) > 1)
    )
    verdicts = {"grid_edge": at_edge, "grid_tie": tied}
    return {rule: "caution" for rule, share in verdicts.items() if share >= 0.5}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_verdict_of_every_rule_for_every_scheme(decode_real, scheme):
    decoding = decode_real(f"cv={scheme}")
    findings = audit(decoding)
    assert [finding.rule for finding in findings] == RULES
    assert list_verdicts(findings) == VERDICTS[scheme] | judge_grid(decoding.grid_scores)
    assert worst_verdict(findings) == WORST[scheme]


def test_blocks_on_both_sides_are_counted_on_real_data(decode_real):
    """The 4 borders of kfold5 split a block each, those of stratified5 one of each class."""
    for scheme, n_blocks, n_runs in (("kfold5", 4, 4), ("stratified5", 8, 4), ("holdout30", 1, 1)):
        findings = audit(decode_real(f"cv={scheme}", "estimator=dummy"))
        assert find(findings, "blocks_split").fact.startswith(f"{n_blocks} of 24 blocks")
        assert find(findings, "runs_split").fact.startswith(f"{n_runs} of 12 scanner runs")


def test_forced_choice_of_averaged_blocks_is_named(decode_real):
    decoding = decode_real("signal.average_blocks=true", "scoring.inner_folds=5")
    assert decoding.folds["test_accuracy"].tolist() == [1.0] * 12
    found = find(audit(decoding), "standardisation")
    assert (found.verdict, "forced choice" in found.evidence) == (Verdict.leak, True)
    for signal in ("train_only", "per_run"):
        options = [f"signal={signal}", "signal.average_blocks=true", "scoring.inner_folds=5"]
        assert find(audit(decode_real(*options)), "standardisation").verdict == Verdict.ok


@pytest.mark.slow
def test_offsets_of_scanner_runs_are_found_where_the_accuracy_depends_on_them(decode_real):
    """Of ../shared/design/facts.md: accuracy and AUC .773 and .962, .852 and .934, .903 and .945."""
    for signal, verdict in (("train_only", "caution"), ("per_run", "ok"), ("tutorial", "ok")):
        findings = audit(decode_real(f"signal={signal}", data="haxby2001-vt"))
        assert find(findings, "accuracy_below_auc").verdict == verdict


def test_dummy_under_one_fold_is_one_random_draw(decode_real):
    found = find(audit(decode_real("cv=holdout30", "estimator=dummy")), "dummy")
    assert (found.verdict, "one random draw of 30 guesses" in found.fact) == (Verdict.caution, True)


def test_classes_of_several_conditions_and_unbalanced_classes_are_cautions(decode_real):
    found = list_verdicts(audit(decode_real("contrast=animate_vs_inanimate", "estimator=dummy")))
    assert {found["grouped_classes"], found["class_balance"]} == {Verdict.caution}
