"""Every rule on samples and folds: what triggers it, and the nearest design that does not."""

from types import SimpleNamespace

import numpy as np
import pytest
from block_designs import LOGO, SVC, find, make_design, make_question
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    PredefinedSplit,
    RepeatedStratifiedKFold,
    StratifiedKFold,
)
from sklearn.svm import LinearSVC

from harness.checks.audited_split import AuditedSplit
from harness.checks.findings import Verdict, worst_verdict
from harness.checks.method_rules import ASSUMPTIONS
from harness.checks.split_audit import SPLIT_RULES, audit_split
from harness.decoding.decoder import MIN_VOXELS_FOR_SCREENING
from harness.decoding.estimator import Estimator
from harness.decoding.splitters import HoldOutLast, Scheme
from harness.errors import DesignError
from harness.samples.choices import ZScore
from harness.samples.contrasts import make_contrast
from harness.samples.samples import RecordedSamples, Samples
from harness.samples.signal import Signal

AB, BA = "AAAA....BBBB", "BBBB....AAAA"
BALANCED = (AB, BA) * 4
GUESSING = Estimator("dummy", DummyClassifier(strategy="stratified"))
CONSTANT = Estimator("dummy", DummyClassifier(strategy="most_frequent"))


def judge(rule, samples, **question):
    return find(audit_split(samples, make_question(samples, **question)), rule)


def by_fold(*numbers):
    return Scheme("mine", PredefinedSplit(np.array(numbers)))


# Folds ------------------------------------------------------------------------------------------------------


def test_block_on_both_sides_is_a_leak():
    samples = make_design(AB, BA)  # 16 volumes: A 0-3, B 4-7, B 8-11, A 12-15
    moved = by_fold(*[0] * 7, *[1] * 9)  # the last volume of the second block is in the other fold
    found = judge("blocks_split", samples, scheme=moved)
    assert found.verdict == Verdict.leak
    assert found.fact == "1 of 4 blocks on both sides of a split (2 of 2 folds)"
    # Held out: in fold 1 the three volumes of that block that stay, in fold 2 the one that moved.
    assert "In folds 1 and 2, 4 of 16 held-out volumes" in found.evidence
    assert judge("blocks_split", samples, scheme=by_fold(*[0] * 8, *[1] * 8)).verdict == Verdict.ok


def test_scanner_run_on_both_sides_is_a_caution():
    samples = make_design(AB, BA, AB)
    shared = by_fold(*[0] * 8, *[0] * 4, *[1] * 4, *[1] * 8)  # whole blocks of the second run in both folds
    found = judge("runs_split", samples, scheme=shared)
    assert (found.verdict, found.fact) == (
        Verdict.caution,
        "1 of 3 scanner runs on both sides of a split (2 of 2 folds)",
    )
    assert judge("blocks_split", samples, scheme=shared).verdict == Verdict.ok
    assert judge("runs_split", samples).verdict == Verdict.ok


@pytest.mark.parametrize(
    ("rest", "t_r", "verdict"),
    [
        (2, None, "caution"),  # 3 volumes apart
        (3, None, "ok"),
        (2, 2.5, "caution"),  # 7.5 s
        (3, 2.5, "ok"),  # 10 s
        (7, 1.0, "caution"),  # 8 s
        (8, 1.0, "ok"),
    ],
)
def test_neighbours_are_counted_within_eight_seconds(rest, t_r, verdict):
    samples = make_design("AAAABBBB" + "." * rest + "AAAABBBB")
    if t_r is not None:
        sources = SimpleNamespace(recording=SimpleNamespace(t_r=t_r))
        samples = RecordedSamples(**vars(samples), grid=None, sources=sources, image_digest="")
    found = judge("neighbours", samples, scheme=by_fold(*[0] * 8, *[1] * 8))
    assert found.verdict == verdict
    if verdict == "caution":
        assert f"the nearest {rest + 1} volumes apart" in found.evidence


def test_neighbours_of_one_block_are_a_leak_and_other_scanner_runs_are_no_neighbours():
    samples = make_design(AB, BA)
    found = judge("neighbours", samples, scheme=by_fold(*[0] * 7, *[1] * 9))
    assert found.verdict == Verdict.leak
    # Of fold 1, the volumes 4 to 6 of its 16 are within 3 of number 7; of fold 2, number 7.
    assert found.fact == "4 of 16 held-out volumes are near training volumes"
    touching = make_design("AAAABBBB", "BBBBAAAA")  # the second run begins right after the first
    assert judge("neighbours", touching).verdict == Verdict.ok


def test_averaged_blocks_are_neighbours_without_rest_between_them():
    signal = Signal(average_blocks=True)
    halves = by_fold(0, 1, 0, 1)
    touching = make_design("AAAABBBB", "BBBBAAAA", signal=signal)
    assert judge("neighbours", touching, scheme=halves, signal=signal).verdict == Verdict.caution
    apart = make_design(AB, BA, signal=signal)
    assert judge("neighbours", apart, scheme=halves, signal=signal).verdict == Verdict.ok


def test_classes_out_of_balance_are_a_caution_where_a_share_differs_by_more_than_a_fifth():
    # In a held-out set of 5 volumes 3 are a share of .6, which is a fifth more than .5; in one of 8 volumes
    # 5 are .625.
    assert judge("class_balance", make_design("AAA.BB", "AA.BBB")).verdict == Verdict.ok
    found = judge("class_balance", make_design("AAAAA.BBB", "AAA.BBBBB"))
    assert found.verdict == Verdict.caution
    assert found.fact == "3 of 8 training volumes are 'face' in fold 1"
    assert "in folds 1 and 2" in found.evidence


def test_held_out_set_of_three_classes_that_lacks_one_is_out_of_balance():
    samples = make_design("AA.BB.CC", "AA.BB.CC", "AA.BB")
    assert judge("class_balance", samples).verdict == Verdict.caution
    assert judge("class_balance", make_design(*["AA.BB.CC"] * 3)).verdict == Verdict.ok


@pytest.mark.parametrize(("n_runs", "verdict"), [(7, "caution"), (8, "ok")])
def test_few_held_out_blocks_are_a_caution(n_runs, verdict):
    """At chance of 1/2 the half-width of the interval, 1.96 sqrt(1/4 / n), is above 1/4 for n < 15.4."""
    found = judge("small_holdout", make_design(*[AB, BA] * (n_runs // 2), *[AB] * (n_runs % 2)))
    n_blocks = 2 * n_runs
    assert found.verdict == verdict
    assert found.fact.endswith(f"{(0.25 / n_blocks) ** 0.5:.3f}")
    # The quantiles of the number of right blocks, from the distribution function itself.
    counts = np.arange(n_blocks + 1)
    below = np.cumsum(binom.pmf(counts, n_blocks, 0.5))
    low, high = (counts[below >= tail][0] / n_blocks for tail in (0.025, 0.975))
    assert f"from {low:.3f} to {high:.3f}" in found.evidence


def test_blocks_that_are_held_out_repeatedly_count_once():
    samples = make_design(*BALANCED)
    last = Scheme("last", HoldOutLast(10))  # two blocks and two volumes
    assert judge("small_holdout", samples, scheme=last).fact.startswith("3 blocks held out in all")
    repeated = Scheme("repeated", RepeatedStratifiedKFold(n_splits=2, n_repeats=3, random_state=0))
    assert judge("small_holdout", samples, scheme=repeated).fact.startswith("16 blocks")


# Design -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "n_runs", "verdict"),
    [(9, 12, "caution"), (8, 12, "ok"), (3, 12, "caution"), (4, 12, "ok"), (12, 12, "leak"), (0, 12, "leak")],
)
def test_class_order_is_judged_by_the_scanner_runs_that_show_a_class_first(k, n_runs, verdict):
    """9 of 12 is Haxby's face against cat: |2k/R - 1| = .5."""
    found = judge("class_order", make_design(*[AB] * k, *[BA] * (n_runs - k)))
    assert found.verdict == verdict
    first, second = ("face", "cat") if k >= n_runs / 2 else ("cat", "face")
    more = max(k, n_runs - k)
    assert found.fact.startswith(f"{first!r} before {second!r} in {more} of 12 scanner runs")
    assert f"accuracy {more / n_runs:.3f} by order alone" in found.fact
    assert ("inference is refused" in found.evidence) == (verdict == "leak")
    assert ("order_preserving" in found.evidence) == (verdict == "caution")


def test_balanced_order_is_ok_and_its_effect_under_leave_one_run_out_is_stated():
    found = judge("class_order", make_design(*BALANCED))
    assert found.verdict == Verdict.ok
    assert "below chance" in found.evidence


def test_order_of_several_blocks_is_that_of_the_first_blocks():
    found = judge("class_order", make_design(*["A.B.B.A"] * 3, "B.A.A.B"))
    assert (found.verdict, "accuracy" in found.fact) == (Verdict.caution, False)
    assert judge("class_order", make_design(*["A.B.B.A"] * 2, *["B.A.A.B"] * 2)).verdict == Verdict.ok
    assert judge("class_order", make_design(*["A.B.B.A"] * 4)).verdict == Verdict.leak


def test_classes_in_different_scanner_runs_are_a_leak():
    samples = make_design("AA.AA", "BB.BB", "AA.AA", "BB.BB")
    found = judge("class_order", samples, scheme=Scheme("halves", PredefinedSplit([0] * 8 + [1] * 8)))
    assert (found.verdict, found.fact) == (
        Verdict.leak,
        "no scanner run has blocks of both 'face' and 'cat'",
    )


def test_of_more_than_two_classes_an_improbable_order_is_a_caution():
    """A before B in 3 of 4 scanner runs has a probability of 10 of 16, in 11 of 12 one of 26 of 4096."""
    runs = ["A.B.C", "A.C.B", "B.A.C", "C.A.B"]
    found = judge("class_order", make_design(*runs))
    assert found.verdict == Verdict.ok
    assert found.fact.startswith("'face' before 'cat' in 3 of 4")
    eleven = [*["A.B.C", "A.C.B", "C.A.B"] * 3, "A.B.C", "C.A.B", "B.A.C"]
    assert judge("class_order", make_design(*eleven)).verdict == Verdict.caution
    assert judge("class_order", make_design(*eleven[:11], "A.B.C")).verdict == Verdict.leak


@pytest.mark.parametrize(
    ("runs", "verdict"),
    [
        (["AAAAA.BBBB", "BBBB.AAAAA"], "leak"),  # 5 against 4: a quarter longer, and no common length
        (["AAAAAA.BBBBB", "BBBBB.AAAAAA"], "caution"),  # a fifth longer, no common length
        (["AAAA.BBB", "BBBB.AAAAAA"], "caution"),  # 5 against 3.5 on average, both 4 once
        (["AAAA.BBB", "BBBB.AAAA"], "ok"),  # 4 against 3.5
        (["AAAA.BBBB", "BBBB.AAAA"], "ok"),
    ],
)
def test_lengths_of_blocks_are_compared_between_classes(runs, verdict):
    assert judge("block_lengths", make_design(*runs)).verdict == verdict


def test_equal_means_do_not_hide_that_the_length_determines_the_class():
    found = judge("block_lengths", make_design("AA.BBB.AAAA", "AAAA.BBB.AA"))
    assert found.verdict == Verdict.caution
    assert "No length occurs in both classes" in found.evidence


@pytest.mark.parametrize(("long", "verdict"), [(8, "caution"), (7, "ok"), (9, "ok"), (12, "caution")])
def test_block_of_a_multiple_of_the_usual_length_may_be_several(long, verdict):
    samples = make_design(AB, BA, "A" * long + "....BBBB")
    found = judge("merged_blocks", samples)
    assert found.verdict == verdict
    if verdict == "caution":
        assert found.fact.startswith("1 of 6 blocks")
        assert f"'face' in scanner run 2 has {long} volumes, where 4 are usual" in found.evidence


def test_trimmed_volumes_count_in_the_lengths_of_merged_blocks():
    samples = make_design(
        "AA....BB", "BB....AA", "AAAAAA....BB"
    )  # 4, 4 and 8 before one was cut at each edge
    assert judge("merged_blocks", samples, signal=Signal(trim_first=1, trim_last=1)).verdict == "caution"
    assert judge("merged_blocks", make_design("AA....BB", "BB....AA", "AAAAA....BB")).verdict == "ok"


@pytest.mark.parametrize(
    ("run", "verdict"),
    [("A..B..A..B", "caution"), ("A...B...A...B", "ok"), ("AA.BB.AA.BB", "ok"), ("AA.B.A.B", "caution")],
)
def test_single_volumes_in_quick_succession_are_an_event_related_design(run, verdict):
    assert judge("event_timing", make_design(run, run[::-1])).verdict == verdict


def test_class_of_several_conditions_is_a_caution():
    runs = ["AA.BB.CC", "CC.BB.AA"]
    grouped = make_contrast([{"animate": ["face", "cat"]}, "house"])
    found = judge("grouped_classes", make_design(*runs, contrast=grouped))
    assert (found.verdict, found.fact) == (Verdict.caution, "1 of 2 classes have several conditions")
    renamed = make_contrast([{"animate": ["face"]}, "house"])
    assert judge("grouped_classes", make_design(*runs, contrast=renamed)).verdict == Verdict.ok


# Analysis ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zscore", "whole", "verdict"),
    [
        ("own", True, "caution"),
        ("own", False, "caution"),
        ("run", True, "ok"),
        ("run", False, "caution"),
        ("train", True, "ok"),
        ("train", False, "ok"),
        ("none", True, "ok"),
        ("none", False, "ok"),
    ],
)
def test_standardisation_by_held_out_volumes_is_a_caution(zscore, whole, verdict):
    scheme = LOGO if whole else Scheme("kfold", KFold(2))
    found = judge("standardisation", make_design(AB, BA, AB), scheme=scheme, signal=Signal(zscore=zscore))
    assert found.verdict == verdict
    assert ASSUMPTIONS[zscore] in found.evidence


def test_detrended_scanner_runs_that_are_split_are_a_caution():
    samples, split = make_design(AB, BA, AB), Scheme("kfold", KFold(2))
    train, detrended = Signal(zscore="train"), Signal(zscore="train", detrend=True)
    assert judge("standardisation", samples, scheme=split, signal=detrended).verdict == Verdict.caution
    assert judge("standardisation", samples, scheme=split, signal=train).verdict == Verdict.ok
    assert judge("standardisation", samples, signal=detrended).verdict == Verdict.ok


def test_two_held_out_samples_standardised_by_themselves_are_a_forced_choice():
    signal = Signal(average_blocks=True)
    found = judge("standardisation", make_design(*BALANCED, signal=signal), signal=signal)
    assert found.verdict == Verdict.leak
    assert found.fact == "8 of 8 held-out sets are two samples, turned into exact opposites"
    assert "forced choice" in found.evidence
    three = ["AA.BB.A", "B.AA.BB"]
    assert judge("standardisation", make_design(*three, signal=signal), signal=signal).verdict == "caution"
    by_train = Signal(average_blocks=True, zscore="train")
    assert judge("standardisation", make_design(*BALANCED, signal=by_train), signal=by_train).verdict == "ok"


def test_every_signal_option_has_an_assumption():
    assert set(ASSUMPTIONS) == set(ZScore)


def test_screening_by_blocks_that_are_held_out_is_a_leak():
    voxels = MIN_VOXELS_FOR_SCREENING + 1
    samples = make_design(AB, BA, n_voxels=voxels, screening=20)
    split = by_fold(*[0] * 7, *[1] * 9)
    assert judge("screening", samples, scheme=split).verdict == Verdict.leak
    assert judge("screening", samples).verdict == Verdict.ok
    few = make_design(AB, BA, n_voxels=voxels - 1, screening=20)  # which are not screened
    assert judge("screening", few, scheme=split).verdict == Verdict.ok
    assert judge("screening", make_design(AB, BA, n_voxels=voxels), scheme=split).verdict == Verdict.ok


@pytest.mark.parametrize(
    ("grid", "n_values"),
    [
        ({"C": [1.0, 10.0]}, 2),
        ({"C": [1.0, 10.0, 100.0], "tol": [1e-3, 1e-4]}, 6),
        ({"C": {"times_l1_min_c": [2, 20, 200]}}, 3),
        ({"C": [1.0]}, None),
        ({}, None),
    ],
)
def test_values_chosen_on_the_scored_fold_are_a_caution(grid, n_values):
    found = judge("selection", make_design(AB, BA), estimator=Estimator("svc", LinearSVC(), grid))
    assert found.verdict == (Verdict.ok if n_values is None else Verdict.caution)
    if n_values is not None:
        assert found.fact.startswith(f"selected_roc_auc: best of {n_values} values of C")


def test_guessing_dummy_is_a_caution_and_under_a_single_fold_one_random_draw():
    samples = make_design(*BALANCED)
    found = judge("dummy", samples, estimator=GUESSING)
    assert (found.verdict, "same guesses" in found.fact) == (Verdict.caution, True)
    found = judge("dummy", samples, estimator=GUESSING, scheme=Scheme("last", HoldOutLast(25)))
    assert found.fact == "the score is one random draw of 25 guesses (SD 0.100)"
    assert judge("dummy", samples, estimator=CONSTANT).verdict == Verdict.ok
    assert judge("dummy", samples).verdict == Verdict.ok
    assert judge("standardisation", samples, estimator=GUESSING).verdict == Verdict.ok


# All rules --------------------------------------------------------------------------------------------------


def test_a_scheme_that_does_not_fit_is_the_error_of_decoding():
    samples = make_design(AB)
    with pytest.raises(DesignError, match="cv=logo"):
        audit_split(samples, make_question(samples))


@st.composite
def designs(draw):
    """Draw samples of one to four scanner runs, some without a class, and a question about them."""
    letters = draw(st.sampled_from(["AB.", "ABC."]))
    runs = draw(st.lists(st.text(letters, min_size=1, max_size=14), min_size=1, max_size=4))
    shown = set("".join(runs)) - {"."}
    assume(len(shown) >= 2)
    grouped = {"A", "B", "C"} <= shown and draw(st.booleans())
    contrast = make_contrast([{"animate": ["face", "cat"]}, "house"]) if grouped else None
    signal = Signal(
        zscore=draw(st.sampled_from(list(ZScore))).value,
        average_blocks=draw(st.booleans()),
        trim_first=draw(st.integers(0, 2)),
        detrend=draw(st.booleans()),
    )
    n_voxels = draw(st.sampled_from([1, MIN_VOXELS_FOR_SCREENING + 1]))
    samples = make_design(*runs, contrast=contrast, n_voxels=n_voxels, screening=50, signal=signal)
    splitters = [
        LeaveOneGroupOut(),
        KFold(2),
        KFold(3, shuffle=True, random_state=0),
        StratifiedKFold(2),
        GroupKFold(2),
        HoldOutLast(2),
        RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0),
    ]
    scheme = Scheme("drawn", draw(st.sampled_from(splitters)), incomplete="skip")
    estimator = draw(st.sampled_from([SVC, GUESSING, CONSTANT]))
    question = make_question(samples, scheme=scheme, estimator=estimator, signal=signal)
    try:
        split = AuditedSplit.of(samples, question)
    except DesignError:
        assume(False)
    return samples, question, split


@given(designs())
def test_every_rule_judges_every_design(design):
    samples, question, _ = design
    findings = audit_split(samples, question)
    assert [finding.rule for finding in findings] == [rule.name for rule in SPLIT_RULES]
    for finding in findings:
        assert finding.evidence.endswith(".") and "nan" not in finding.evidence.lower(), finding
        assert finding.reference
    assert worst_verdict(findings) in Verdict


@given(designs())
def test_what_both_sides_share_is_what_comparing_all_pairs_finds(design):
    samples, _, split = design
    assert isinstance(samples, Samples)
    for number, (train, test) in split.folds.items():
        for groups, found in ((samples.blocks, split.split_blocks), (samples.runs, split.split_runs)):
            shared = set(groups[train].tolist()) & set(groups[test].tolist())
            if groups is samples.blocks:
                order = sorted(set(samples.blocks.tolist()))
                shared = {order.index(block) for block in shared}
            assert set(found.get(number, np.empty(0)).tolist()) == shared
        places = samples.blocks if split.question.signal.average_blocks else samples.volumes
        for row, distance in zip(test, split.nearest_training(train, test).tolist(), strict=True):
            same = [abs(int(places[row] - places[i])) for i in train if samples.runs[i] == samples.runs[row]]
            assert distance == min(same, default=np.iinfo(np.int64).max)
