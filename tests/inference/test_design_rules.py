"""Designs that do not allow a permutation test, cautions about others, and near misses of both."""

import numpy as np
import pytest

from harness.errors import DesignError
from harness.inference.relabelling import plan_relabellings
from harness.inference.settings import PermutationSettings
from harness.samples.samples import FoldPreprocessing

FORCED = PermutationSettings(force=True)


def plan(samples, **settings):
    return plan_relabellings(samples, PermutationSettings(force=True, **settings))


def cautions_of(samples, **settings):
    return " | ".join(plan(samples, **settings).cautions)


def alternate(first, n_runs):
    """Return scanner runs of which `first` show A first."""
    return ["AB"] * first + ["BA"] * (n_runs - first)


def test_one_class_per_scanner_run_is_refused(make_design):
    with pytest.raises(DesignError, match="every scanner run shows one class only"):
        plan(make_design(["AA", "B", "A", "BB"]))
    assert len(plan(make_design(["AA", "B", "AB", "BA", "BA"]))) == 8


def test_a_single_distinct_relabelling_is_refused(make_design):
    with pytest.raises(DesignError, match="only renames the classes"):
        plan(make_design(["AB"]))
    assert len(plan(make_design(["ABBA"]))) == 3


def test_fewer_than_twenty_relabellings_need_force(make_design):
    samples = make_design(alternate(3, 5))  # 16 distinct relabellings
    with pytest.raises(DesignError, match=r"16 distinct relabellings.*inference\.force=true"):
        plan_relabellings(samples, PermutationSettings())
    assert len(plan(samples)) == 16
    assert len(plan_relabellings(make_design(alternate(3, 6)), PermutationSettings())) == 32


@pytest.mark.parametrize("relabel", ["blocks", "order_preserving"])
@pytest.mark.parametrize("first", [0, 8])
def test_a_class_that_always_comes_first_is_refused(make_design, first, relabel):
    with pytest.raises(DesignError, match="in all 8 scanner runs"):
        plan(make_design(alternate(first, 8)), relabel=relabel)
    near = abs(first - 1)
    assert plan(make_design(alternate(near, 8)), relabel=relabel).n_distinct in (8, 128)


def test_the_first_of_several_blocks_decides(make_design):
    with pytest.raises(DesignError, match="'A' comes before 'B' in all 6 scanner runs"):
        plan(make_design(["ABBA", "ABAB"] * 3))
    with pytest.raises(DesignError, match="'A' comes before 'B' in all 2 scanner runs"):
        plan(make_design(["AABB", "ABAB"]))
    assert plan(make_design(["AABB", "BABA"])).n_distinct == 18


def test_a_class_that_comes_first_in_many_scanner_runs_is_refused_among_several(make_design):
    fixed = ["CAB", "CBA", "CAB", "CBA", "CAB", "CBA"]
    with pytest.raises(DesignError, match="'C' comes before"):
        plan(make_design(fixed))
    assert plan(make_design(fixed[:4])).n_distinct == 6**3  # of several pairs one is so by chance


def test_unbalanced_orders_are_a_caution(make_design):
    text = cautions_of(make_design(alternate(9, 12)))
    assert "'A' comes before 'B' in 9 of 12 scanner runs" in text
    assert "inference.relabel=order_preserving" in text
    assert "'B' comes before 'A' in 9 of 12" in cautions_of(make_design(alternate(3, 12)))
    assert "comes before" not in cautions_of(make_design(alternate(8, 12)))
    assert "comes before" not in cautions_of(make_design(alternate(9, 12)), relabel="order_preserving")


def test_improbable_orders_of_several_classes_are_a_caution(make_design):
    """A before B in 11 of 12 scanner runs has a probability of 26 of 4096."""
    runs = [*["ABC", "ACB", "CAB"] * 3, "ABC", "CAB", "BAC"]
    text = cautions_of(make_design(runs), limit=1, n=19)
    assert "'A' comes before 'B' in 11 of 12 scanner runs" in text
    assert "comes before" not in cautions_of(make_design(["ABC", "ACB", "CAB", "BAC"] * 2), limit=1, n=19)


def test_few_relabellings_are_a_caution(make_design):
    assert "64 distinct relabellings: the smallest possible p-value is 0.016" in cautions_of(
        make_design(alternate(3, 7))
    )
    assert "distinct relabellings" not in cautions_of(make_design(alternate(4, 8)))


def test_classes_of_several_conditions_are_a_caution(make_design):
    runs = ["ABCD", "DCBA", "CADB", "BDAC"]
    grouped = {"one": ("A", "C"), "two": ("B", "D")}
    assert "all conditions are alike" in cautions_of(make_design(runs, members=grouped))
    assert "alike" not in cautions_of(make_design(runs, members=grouped), null="partition")
    assert "alike" not in cautions_of(make_design(runs), limit=1, n=19)


def test_partitions_of_unequal_conditions_are_a_caution(make_design):
    members = {"one": ("A", "C"), "two": ("B", "D")}
    unequal = make_design(["ABCD", "DCBA", "CADBB"], members=members)
    assert "classes of other partitions are of other sizes" in cautions_of(unequal, null="partition")
    equal = make_design(["ABCD", "DCBA", "CADB"], members=members)
    assert "other sizes" not in cautions_of(equal, null="partition")


def test_partitions_need_more_than_one_way_to_divide_the_conditions(make_design):
    samples = make_design(["ABCDEF", "FEDCBA"], members={"one": tuple("ABC"), "two": tuple("DEF")})
    assert plan(samples, null="partition").n_distinct == 10
    with pytest.raises(DesignError, match="10 distinct relabellings"):
        plan_relabellings(samples, PermutationSettings(null="partition"))


def random_sequence(seed, n=40):
    """Return a random sequence of as many A as B."""
    return "".join(np.random.default_rng(seed).permutation(list("AB" * (n // 2))))


def test_clustered_events_are_refused(make_design):
    clustered = ["AAAAABBBBB" * 2, "BBBBBAAAAA" * 2] * 2
    with pytest.raises(DesignError, match="more often than in nearly all random sequences"):
        plan(make_design(clustered, lengths=1, rest=1), limit=1, n=19)
    assert plan(make_design(clustered, lengths=1, rest=5), limit=1, n=19)  # ten seconds apart
    assert plan(make_design(clustered, lengths=2, rest=1), limit=1, n=19)


@pytest.mark.parametrize("sequence", [random_sequence(1), random_sequence(2), "AB" * 20])
def test_events_in_random_or_alternating_order_are_a_caution(make_design, sequence):
    samples = make_design([sequence, sequence[::-1]], lengths=1, rest=1)
    assert "event-related timing" in cautions_of(samples, limit=1, n=19)
    apart = make_design([sequence, sequence[::-1]], lengths=1, rest=5)
    assert "event-related" not in cautions_of(apart, limit=1, n=19)


def test_block_means_standardised_among_themselves_are_a_caution(make_design):
    own, train = (FoldPreprocessing(zscore=zscore) for zscore in ("own", "train"))
    runs = alternate(4, 8)
    assert "exact opposites" in cautions_of(make_design(runs, lengths=1, preparation=own))
    assert "opposites" not in cautions_of(make_design(runs, lengths=1, preparation=train))
    assert "opposites" not in cautions_of(make_design(runs, lengths=2, preparation=own))
