"""Relabellings against brute-force enumeration, and the list of them."""

from dataclasses import replace
from itertools import permutations, product
from math import comb, factorial

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.errors import DesignError, UsageError
from harness.inference.relabelling import exchange_blocks, plan_relabellings
from harness.inference.settings import PermutationSettings
from harness.samples.block_table import tabulate_blocks

FORCED = PermutationSettings(force=True)
BALANCED = ["AB", "BA", "AB", "BA", "AB", "BA"]


def labellings_of(runs):
    """Return all labellings of the blocks, as tuples of letters, by permuting every scanner run."""
    orders = [sorted(set(permutations(run))) for run in runs]
    return [tuple("".join("".join(part) for part in parts)) for parts in product(*orders)]


def orbit_of(labelling, runs):
    """Return the labellings that equal one up to a renaming which keeps the counts of every scanner run."""
    names = sorted(set("".join(runs)))
    orbit = set()
    for renamed in permutations(names):
        rename = dict(zip(names, renamed, strict=True))
        keeps = all(sorted(run) == sorted("".join(rename[letter] for letter in run)) for run in runs)
        if keeps:
            orbit.add(tuple(rename[letter] for letter in labelling))
    return frozenset(orbit)


def blocks_of(samples, labels):
    """Return the label of every block, after checking that its samples have the same one."""
    _, first, of_sample = np.unique(samples.blocks, return_index=True, return_inverse=True)
    assert (labels == labels[first][of_sample]).all()
    return tuple(labels[first].tolist())


def test_reference_counts_are_reproduced(statistics, make_design):
    cases = statistics["count_relabellings"]["cases"]
    assert len(cases) > 5
    for case in cases:
        exchange, _ = exchange_blocks(tabulate_blocks(make_design(case["runs"])))
        expected = case["expected"]
        assert exchange.n_total == expected["n_relabellings"], case["runs"]
        assert exchange.n_distinct == expected["n_distinct"], case["runs"]
        assert exchange.n_total == expected["orbit_sizes"][0] * exchange.n_distinct


@pytest.mark.parametrize(
    "runs",
    [
        ["AB", "BA", "AB", "BA", "BA"],
        ["AABB", "ABAB", "BABA"],
        ["AB", "BA", "AAB", "BAA"],
        ["ABC", "CBA", "BCA"],
        ["AABBCC", "CAB"],
        ["ABCC", "CCBA", "CABC"],
        ["AB", "A", "B", "BA", "AB", "BA", "BA"],
        ["ABCD", "DCBA"],
        ["AB", "CD", "BA", "DC", "DC"],
    ],
)
def test_every_distinct_relabelling_is_listed_once(make_design, runs):
    samples = make_design(runs)
    relabellings = plan_relabellings(samples, FORCED)
    orbits = {orbit_of(labelling, runs) for labelling in labellings_of(runs)}
    listed = [blocks_of(samples, relabellings.labels(i)) for i in range(len(relabellings))]
    assert relabellings.enumerated
    assert relabellings.n_total == len(labellings_of(runs))
    assert len(relabellings) == relabellings.n_distinct == len(orbits)
    assert {orbit_of(labelling, runs) for labelling in listed} == orbits
    np.testing.assert_array_equal(relabellings.labels(0), samples.y)


@given(runs=st.lists(st.text("ABC", min_size=1, max_size=4), min_size=1, max_size=3))
def test_counts_of_any_design_equal_brute_force(make_design, runs):
    assume(len(set("".join(runs))) > 1)
    exchange, _ = exchange_blocks(tabulate_blocks(make_design(runs)))
    labellings = labellings_of(runs)
    rows = {tuple(row) for row in exchange.enumerate().tolist()}
    names = sorted(set("".join(runs)))
    listed = [tuple(names[code] for code in row) for row in rows]
    orbits = {orbit_of(labelling, runs) for labelling in labellings}
    assert exchange.n_total == len(labellings)
    assert exchange.n_distinct == len(listed) == len(orbits)
    assert {orbit_of(labelling, runs) for labelling in listed} == orbits


def test_estimators_that_treat_classes_differently_get_all_relabellings(make_design):
    samples = make_design(BALANCED)
    relabellings = plan_relabellings(samples, FORCED, symmetric=False)
    listed = {blocks_of(samples, relabellings.labels(i)) for i in range(len(relabellings))}
    assert relabellings.n_distinct == relabellings.n_total == 64
    assert listed == set(labellings_of(BALANCED))


def test_labels_move_between_blocks_of_the_same_length_only(make_design):
    runs = ["ABAB", "BABA", "ABBA", "BAAB"]
    samples = make_design(runs, lengths=[[5, 5, 9, 9]] * 4)
    relabellings = plan_relabellings(samples, FORCED)
    # Two blocks of 5 and two of 9 volumes in each scanner run: 4 arrangements, and the mirror image ties.
    assert relabellings.n_total == 4**4
    assert relabellings.n_distinct == 4**4 // 2
    for i in range(len(relabellings)):
        blocks = np.reshape(blocks_of(samples, relabellings.labels(i)), (4, 4))
        assert (blocks[:, 0] != blocks[:, 1]).all()
        assert (blocks[:, 2] != blocks[:, 3]).all()


def test_blocks_of_similar_length_are_exchanged_with_a_caution(make_design):
    lengths = [[9, 8], [8, 9], [9, 9], [9, 8], [8, 8], [8, 9]]
    relabellings = plan_relabellings(make_design(BALANCED, lengths), FORCED)
    assert relabellings.n_distinct == 32
    assert any("similar, not equal, length" in text for text in relabellings.cautions)


def test_one_class_with_longer_blocks_is_refused(make_design):
    for longer in (14, 9):  # 14 is not similar to 6; 9 would be to 8, but every block of A is longer
        samples = make_design(BALANCED, {"A": longer, "B": 6 if longer == 14 else 8})
        with pytest.raises(DesignError, match="differ in length"):
            plan_relabellings(samples, FORCED)


def test_a_block_without_partner_keeps_its_label(make_design):
    runs = [*BALANCED, "AB"]
    samples = make_design(runs, [*[[9, 9]] * 6, [9, 4]])
    relabellings = plan_relabellings(samples, FORCED)
    # The last scanner run fixes the names, so that the mirror image is not among the relabellings.
    assert relabellings.n_distinct == 64
    assert any("2 of 14 blocks keep their label" in text for text in relabellings.cautions)
    last = {blocks_of(samples, relabellings.labels(i))[-2:] for i in range(len(relabellings))}
    assert last == {("A", "B")}


def test_orders_are_exchanged_between_scanner_runs(make_design):
    runs = ["AB"] * 3 + ["BA"] * 4
    samples = make_design(runs)
    relabellings = plan_relabellings(samples, PermutationSettings(relabel="order_preserving"))
    listed = {blocks_of(samples, relabellings.labels(i)) for i in range(len(relabellings))}
    expected = {
        labelling
        for labelling in labellings_of(runs)
        if sum(labelling[i] == "A" for i in range(0, 14, 2)) == 3
    }
    assert relabellings.n_distinct == comb(7, 3)
    assert listed == expected
    np.testing.assert_array_equal(relabellings.labels(0), samples.y)


def test_mirror_images_of_balanced_orders_count_once(make_design):
    runs = ["AB", "BA", "BA", "AB", "BA", "AB"]
    samples = make_design(runs)
    settings = PermutationSettings(relabel="order_preserving", force=True)
    relabellings = plan_relabellings(samples, settings)
    listed = {blocks_of(samples, relabellings.labels(i)) for i in range(len(relabellings))}
    assert relabellings.n_total == comb(6, 3)
    assert relabellings.n_distinct == len(listed) == comb(6, 3) // 2
    mirrored = {tuple("B" if name == "A" else "A" for name in blocks) for blocks in listed}
    assert not listed & mirrored
    every = plan_relabellings(samples, settings, symmetric=False)
    assert {blocks_of(samples, every.labels(i)) for i in range(len(every))} == listed | mirrored


def test_orders_of_several_blocks_are_exchanged_whole(make_design):
    runs = ["ABBA", "BAAB", "ABAB", "ABBA", "BABA", "ABBA"]
    samples = make_design(runs)
    relabellings = plan_relabellings(samples, PermutationSettings(relabel="order_preserving"))
    listed = {blocks_of(samples, relabellings.labels(i)) for i in range(len(relabellings))}
    assert listed == {tuple("".join(order)) for order in permutations(runs)}
    assert relabellings.n_distinct == factorial(6) // factorial(3)


def test_conditions_are_assigned_to_classes_alike_in_all_scanner_runs(make_design):
    runs = ["ABCDEFGH", "HGFEDCBA", "CAEGBDHF"]
    members = {"one": tuple("ABCD"), "two": tuple("EFGH")}
    samples = make_design(runs, members=members)
    relabellings = plan_relabellings(samples, PermutationSettings(null="partition"))
    assert (relabellings.n_total, relabellings.n_distinct) == (70, 35)
    partitions = set()
    for i in range(35):
        labels = relabellings.labels(i)
        named = {frozenset(samples.conditions[labels == name].tolist()) for name in ("one", "two")}
        assert sorted(len(group) for group in named) == [4, 4]
        partitions.add(frozenset(named))
    assert len(partitions) == 35
    np.testing.assert_array_equal(relabellings.labels(0), samples.y)


def test_up_to_twice_the_limit_is_enumerated(make_design):
    samples = make_design([*BALANCED, "AB", "BA"])  # 128 distinct relabellings
    enumerated = plan_relabellings(samples, PermutationSettings(limit=64, n=50))
    drawn = plan_relabellings(samples, PermutationSettings(limit=63, n=50))
    assert (enumerated.enumerated, len(enumerated)) == (True, 128)
    assert (drawn.enumerated, len(drawn), drawn.n_distinct) == (False, 51, 128)


def test_a_draw_depends_on_the_seed_and_its_number_alone(make_design):
    samples = make_design([*BALANCED, "AB", "BA"])
    few, many, other = (
        plan_relabellings(samples, PermutationSettings(limit=10, n=n, seed=seed))
        for n, seed in ((20, 3), (60, 3), (20, 4))
    )
    for i in (20, 7, 1, 0):
        np.testing.assert_array_equal(few.labels(i), many.labels(i))
    assert any((few.labels(i) != other.labels(i)).any() for i in range(21))
    np.testing.assert_array_equal(few.labels(0), samples.y)


def test_draws_are_uniform_over_the_distinct_relabellings(make_design):
    samples = make_design(["AB", "BA", "AB", "BA", "ABC", "CAB"])
    settings = PermutationSettings(limit=10, n=5760, force=True)
    drawn = plan_relabellings(samples, settings)
    every = plan_relabellings(samples, replace(settings, limit=10_000))
    assert every.n_distinct == 576 // 2
    place = {blocks_of(samples, every.labels(i)): i for i in range(len(every))}
    counts = np.bincount(
        [place[blocks_of(samples, drawn.labels(i))] for i in range(1, len(drawn))], minlength=len(every)
    )
    # Chi-square with 287 degrees of freedom: the 99.9 % point is 365.
    assert ((counts - 20) ** 2 / 20).sum() < 365


def test_draws_of_orders_are_uniform_over_the_distinct_ones(make_design):
    samples = make_design(BALANCED)
    settings = PermutationSettings(relabel="order_preserving", limit=4, n=1000, force=True)
    drawn = plan_relabellings(samples, settings)
    counts = {}
    for i in range(1, len(drawn)):
        labelling = blocks_of(samples, drawn.labels(i))
        counts[labelling] = counts.get(labelling, 0) + 1
    assert len(counts) == 10
    # Chi-square with 9 degrees of freedom: the 99.9 % point is 27.9.
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 27.9


def test_equal_digests_mean_equal_rows(make_design):
    one, same = (plan_relabellings(make_design(BALANCED, seed=seed), FORCED) for seed in (0, 1))
    assert one.digest == same.digest
    others = [
        plan_relabellings(make_design(["BA", *BALANCED[1:]]), FORCED),
        plan_relabellings(make_design(BALANCED, lengths=3), FORCED),
        plan_relabellings(make_design(BALANCED), FORCED, symmetric=False),
        plan_relabellings(make_design(BALANCED), replace(FORCED, relabel="order_preserving")),
        *(plan_relabellings(make_design(BALANCED), replace(FORCED, limit=9, seed=seed)) for seed in (0, 1)),
        plan_relabellings(make_design(BALANCED), replace(FORCED, limit=9, n=20)),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 1 + len(others)


def test_the_seed_makes_no_difference_to_an_enumeration(make_design):
    digests = {plan_relabellings(make_design(BALANCED), replace(FORCED, seed=seed)).digest for seed in (0, 1)}
    assert len(digests) == 1


def test_rows_outside_the_list_raise(make_design):
    relabellings = plan_relabellings(make_design(BALANCED), FORCED)
    for row in (-1, 32):
        with pytest.raises(IndexError, match="of 32"):
            relabellings.labels(row)


def test_eight_classes_are_counted_without_overflow(make_design):
    orders = ["ABCDEFGH", "HGFEDCBA", "BADCFEHG", "GHEFCDAB"] * 3
    relabellings = plan_relabellings(make_design(orders), PermutationSettings(n=19))
    assert relabellings.n_total == factorial(8) ** 12
    assert relabellings.n_distinct == factorial(8) ** 11
    assert len(relabellings) == 20
    np.testing.assert_array_equal(relabellings.labels(0), make_design(orders).y)


def test_partition_of_single_conditions_is_a_usage_error(make_design):
    with pytest.raises(UsageError, match="every class of A_vs_B is one condition"):
        plan_relabellings(make_design(BALANCED), PermutationSettings(null="partition"))


def test_partition_and_order_preserving_contradict_each_other(make_design):
    samples = make_design(["ABC", "CAB"], members={"one": ("A", "B"), "two": ("C",)})
    with pytest.raises(UsageError, match="leave one of the two out"):
        plan_relabellings(samples, PermutationSettings(null="partition", relabel="order_preserving"))


def test_order_preserving_needs_two_classes(make_design):
    with pytest.raises(DesignError, match="needs two classes, but A_vs_B_vs_C has 3"):
        plan_relabellings(make_design(["ABC", "CBA"]), PermutationSettings(relabel="order_preserving"))


@pytest.mark.parametrize(
    ("runs", "lengths"),
    [
        (["AB", "BA", "AB", "BAB"], 4),
        (["ABA", "BAB", "ABA", "BAB"], 4),
        (["AB", "BA", "AB", "BA"], [[4, 9], *[[4, 4]] * 3]),
    ],
)
def test_order_preserving_needs_the_same_blocks_in_all_scanner_runs(make_design, runs, lengths):
    settings = PermutationSettings(relabel="order_preserving", force=True)
    with pytest.raises(DesignError, match="equally many blocks of each class, of equal length"):
        plan_relabellings(make_design(runs, lengths), settings)
