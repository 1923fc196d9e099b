"""What a design check concludes, and the order of the classes that it rests on."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from harness.checks.design_check import DesignCheck, describe_balance
from harness.samples.class_order import OrderBalance, describe_positions, list_balances


def table_of(runs):
    """Return the blocks of scanner runs, a letter each."""
    letters = [letter for run in runs for letter in run]
    return SimpleNamespace(
        runs=np.repeat(np.arange(len(runs)), [len(run) for run in runs]),
        classes=np.array(letters),
        onsets=np.arange(len(letters)) * 10,
    )


def check(balances=(), n_classes=2, **rows):
    """Return a check of variables with the given (accuracy, mean, corrected p)."""
    table = pd.DataFrame(
        [
            {"variable": name.replace("_", " "), "accuracy": accuracy, "roc_auc": accuracy, "null_mean": mean}
            | {"null_low": 0.2, "null_high": 0.8, "p": p, "p_corrected": p, "description": "a variable"}
            for name, (accuracy, mean, p) in rows.items()
        ]
    )
    positions = pd.DataFrame({"class": list("ABC")[:n_classes], "mean_position": 1.5})
    return DesignCheck("title", table, list(balances), positions, 100, True)


@pytest.mark.parametrize(
    ("k", "n_runs", "unbalanced", "fixed"),
    [
        (9, 12, True, False),
        (8, 12, False, False),
        (12, 12, True, True),
        (11, 12, True, False),
        (1, 1, False, False),
    ],
)
def test_nine_of_twelve_is_unbalanced_and_eight_is_not(k, n_runs, unbalanced, fixed):
    balance = OrderBalance("A", "B", k, n_runs, 0.1)
    assert (balance.is_unbalanced, balance.is_fixed) == (unbalanced, fixed)


@pytest.mark.parametrize(
    "runs", [["AB", "BA", "BA", "BA", "BA"], ["AAB", "ABA", "BAB"], ["AB", "A", "BA", "AB"]]
)
def test_the_probability_of_an_imbalance_is_that_of_all_orders(runs):
    (balance,) = list_balances(table_of(runs), ["A", "B"])
    shared = [run for run in runs if len(set(run)) == 2]
    k = sum(run[0] == "A" for run in shared)
    assert {balance.k, balance.n_runs - balance.k} == {k, len(shared) - k}
    assert balance.imbalance == pytest.approx(abs(2 * k / len(shared) - 1))
    # The first block of a random order is each of the blocks with the same probability.
    firsts = [sum(block == "A" for block in order) for order in product(*shared)]
    expected = np.mean([abs(2 * n - len(shared)) >= abs(2 * k - len(shared)) for n in firsts])
    assert balance.probability == pytest.approx(expected, abs=1e-12)


def test_haxby_is_as_unbalanced_as_598_of_4096_random_orders():
    (balance,) = list_balances(table_of(["AB"] * 9 + ["BA"] * 3), ["B", "A"])
    assert (balance.first, balance.second, balance.k, balance.n_runs) == ("A", "B", 9, 12)
    assert balance.probability == pytest.approx(598 / 4096, abs=1e-12)
    assert "14.6 %" in describe_balance(balance)


def test_classes_without_a_common_scanner_run_have_no_order():
    assert list_balances(table_of(["AA", "BB"]), ["A", "B"]) == []


def test_positions_are_counted_within_scanner_runs():
    positions = describe_positions(table_of(["ABAC", "BA"]), ["A", "B", "C"])
    assert positions["blocks"].tolist() == [3, 2, 1]
    assert positions["mean_position"].tolist() == [2, 1.5, 4]
    assert positions["first"].tolist() == [1, 1, 0]


def test_a_balanced_design_without_a_predictor_has_no_finding():
    clean = check([OrderBalance("A", "B", 7, 12, 0.77)], order=(0.58, 0.5, 0.9), onset=(0.7, 0.5, 0.051))
    assert clean.findings == []
    assert clean.conclusion.startswith("None of the 2 design variables")


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [(0.9, "predicts the class with"), (0.1, "predicts the opposite of the class with")],
)
def test_a_variable_that_predicts_is_a_finding_in_both_directions(accuracy, words):
    (finding,) = check(onset=(accuracy, 0.5, 0.05), motion=(0.6, 0.5, 0.5)).findings
    assert finding.startswith("onset alone") and words in finding


def test_the_imbalance_counts_whatever_its_p_value():
    (finding,) = check([OrderBalance("A", "B", 9, 12, 0.146)], order=(0.75, 0.5, 0.29)).findings
    assert "9 of 12" in finding and "order_preserving" in finding
    (finding,) = check([OrderBalance("A", "B", 2, 2, 0.5)], order=(1.0, 0.5, 0.5)).findings
    assert "cannot be distinguished" in finding


def test_of_more_than_two_classes_the_probability_counts_as_well():
    pairs = [OrderBalance("A", "B", 12, 12, 0.0005, 3), OrderBalance("A", "C", 10, 12, 0.04, 3)]
    (finding,) = check(pairs, n_classes=3, order=(0.5, 0.33, 0.4)).findings
    assert "'A' comes before 'B' in 12 of 12" in finding


def test_an_order_that_predicts_the_opposite_is_a_finding():
    (finding,) = check(order=(0.0, 0.5, 0.37)).findings
    assert "opposite" in finding and "0.000" in finding
    assert check(order=(0.26, 0.5, 0.37)).findings == []
    assert check(n_classes=3, order=(0.0, 0.33, 0.37)).findings == []


def test_a_constant_variable_is_none_in_the_record():
    record = check(block_length=(np.nan, np.nan, np.nan), order=(0.5, 0.5, 1.0)).to_dict()
    assert record["variables"][0]["accuracy"] is None
    assert record["variables"][1]["accuracy"] == 0.5
    assert record["findings"] == []
