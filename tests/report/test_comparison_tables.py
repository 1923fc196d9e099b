"""Printed comparisons at usual widths of a terminal."""

import re

import pandas as pd
import pytest

from harness.comparison.chance import ChanceComparison
from harness.comparison.paired import COLUMNS, PairedComparison
from harness.report.comparison_tables import print_chance, print_pairs, print_pivot, tabulate_pairs
from harness.tracking.run_tables import PivotTable

NAN = float("nan")
FIXED = {"dataset": "haxby", "cv": "logo"}


@pytest.fixture
def printed(monkeypatch, capsys):
    """Return a function that prints on a terminal of some columns, and returns the text."""

    def show(columns, function, *arguments):
        for name, value in {"FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "xterm"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("COLUMNS", str(columns))
        function(*arguments)
        return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)

    return show


def tabulated(text):
    return [line for line in text.splitlines() if line.startswith(("│", "┃"))]


@pytest.fixture
def comparison():
    rows = [
        ("logistic_l1", "svc_l1", 12, 0.75, 0.5, 0.25, 0.125, 0.375, 2.5, NAN, 0.0125, 0.025, ""),
        ("logistic_l1", "ridge", 12, 0.75, 0.75, -1e-17, NAN, NAN, NAN, NAN, NAN, NAN, "no test: why"),
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return PairedComparison("estimator", "test_accuracy", "fold", FIXED, "a test", table, table, ("a note",))


@pytest.mark.parametrize("columns", [200, 120, 80])
def test_pairs_fit_and_state_n_test_baseline_and_correction(printed, comparison, columns):
    text = printed(columns, print_pairs, [comparison])
    assert max(map(len, tabulated(text))) <= columns
    assert text.startswith("dataset=haxby  cv=logo")
    for words in ("+0.250 [+0.125, +0.375]", "0.013", "0.025", "+2.50", "12"):
        assert any(words in line for line in tabulated(text)), words
    assert "-0.000" not in text
    assert "a test; n: folds; baseline: no difference; correction: Holm over the 2 pairs" in text
    assert "- logistic_l1 - ridge: no test: why" in text
    assert "- a note" in text


def test_a_refused_comparison_has_its_reason_and_no_p(printed, comparison):
    refused = PairedComparison(
        "estimator", "test_accuracy", "fold", FIXED, "none", comparison.table, comparison.units, (), "a leak"
    )
    text = printed(120, print_pairs, [refused])
    assert "a leak" in text
    assert " p " not in tabulated(text)[0]
    empty = PairedComparison(
        "estimator", "test_accuracy", "fold", FIXED, "none", comparison.table[:0], comparison.units, (), "why"
    )
    assert "refused: why" in printed(120, print_pairs, [empty])


def test_exported_pairs_have_all_that_is_fixed(comparison):
    table = tabulate_pairs([comparison, comparison])
    assert len(table) == 4
    assert table[["by", "score", "dataset", "cv"]].to_numpy()[0].tolist() == [
        *("estimator", "test_accuracy", "haxby", "logo")
    ]


@pytest.mark.parametrize("columns", [200, 120, 80])
def test_chance_fits_with_a_row_per_run_and_per_group(printed, columns):
    runs = pd.DataFrame(
        {"subject": ["1", "2"], "contrast": ["scissors_vs_scrambledpix"] * 2, "run_id": ["0123456789"] * 2}
    ).assign(
        score=0.75, n=216, baseline=[0.5, NAN], p=[0.0125, NAN], p_holm=[0.025, NAN], note=["", "untested"]
    )
    names = (
        "mean",
        "sd",
        "baseline",
        "p_means",
        "p_holm",
        "p_majority",
        "gamma0",
        "largest_gamma0",
        "p_half",
    )
    groups = pd.DataFrame({"contrast": ["scissors_vs_scrambledpix"], "n": [6]})
    groups = groups.assign(**dict.fromkeys(names, 0.25), note="first\nsecond")
    comparison = ChanceComparison("test_roc_auc", FIXED, runs, groups, (), "p means: what it is.")
    text = printed(columns, print_chance, [comparison])
    assert max(map(len, tabulated(text))) <= columns
    assert any("01234567" in line for line in tabulated(text))
    for words in ("- untested (1 of 2 rows)", "- first (1 of 1 rows)", "p means: what it is."):
        assert words in text


@pytest.mark.parametrize("columns", [120, 40])
def test_a_pivot_table_says_what_it_averages_and_where_scales_differ(printed, columns):
    means = pd.DataFrame(
        {"kfold5": [0.75, 0.5], "logo": [0.25, NAN], "stratified5": [0.5, 0.125]},
        index=pd.Index(["svc", "lda"], name="estimator"),
    )
    counts = means.notna().astype(int) * 2
    averaged = {"subject": ["1", "2"]}
    pivot = PivotTable("test_accuracy", "estimator", "cv", means, counts, FIXED, averaged, ["cv"], 3, 1)
    text = printed(columns, print_pivot, pivot)
    assert max(map(len, tabulated(text))) <= columns
    assert any("0.750 (2)" in line for line in tabulated(text))
    flat = " ".join(text.split())
    for words in ("Averaged over: subject (1, 2).", "within each cv only", "3 older runs", "1 runs without"):
        assert words in flat


def test_cells_of_a_pivot_table_that_mix_schemes_are_named(printed):
    means = pd.DataFrame({"svc": [0.75]}, index=pd.Index(["1"], name="subject"))
    averaged = {"cv": ["holdout30", "logo"]}
    pivot = PivotTable("test_accuracy", "subject", "estimator", means, means * 0 + 2, FIXED, averaged, ["cv"])
    flat = " ".join(printed(120, print_pivot, pivot).split())
    assert "Cells mix cv (holdout30, logo), whose scores have no common scale" in flat
    assert "cv=logo" in flat
    assert "Compare scores within" not in flat
