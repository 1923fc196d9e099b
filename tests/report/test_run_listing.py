"""Tables on the terminal."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pandas as pd
import pytest

from harness.report.run_listing import print_comparison, print_runs
from harness.report.sweep_summary import SweepSummary, print_sweep
from harness.tracking.ledger import Outcome, Sweep
from harness.tracking.run_tables import RunTable

OPTIONS = {
    "subject": ["1", "2"],
    "contrast": ["face_vs_house", "scissors_vs_shoe"],
    "roi": ["face_house", "vt"],
    "estimator": ["logistic_l1", "svc_l1"],
    "cv": ["stratified5", "logo"],
}


@pytest.fixture
def comparison():
    scores = {
        f"{score}_{part}": [0.75, 0.5] if part == "mean" else [0.125, 0.25]
        for score in ("test_accuracy", "test_roc_auc", "selected_roc_auc", "selected_accuracy")
        for part in ("mean", "std")
    }
    times = {"started": [datetime.now(UTC)] * 2, "seconds": [83.0, 4.5], "error": ["out of memory", ""]}
    runs = pd.DataFrame({"status": ["FAILED", "FINISHED"], **OPTIONS, **scores, **times})
    return RunTable(runs.assign(run_id=["0123456789ab", "fedcba987654"]), {})


@pytest.fixture
def terminal(monkeypatch):
    """Return a function that makes standard output a terminal of some columns."""

    def narrow_to(columns):
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", str(columns))

    return narrow_to


@pytest.mark.parametrize("columns", [200, 120, 80])
@pytest.mark.parametrize("show", [print_comparison, lambda runs: print_runs(runs, reasons=False)])
def test_tables_break_no_word_on_a_terminal_of_any_usual_width(comparison, terminal, capsys, show, columns):
    terminal(columns)
    show(comparison)
    printed = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    table = [line for line in printed.splitlines() if line.startswith(("│", "┃"))]
    assert max(len(line) for line in table) <= columns
    for words in OPTIONS.values():
        for word in words:
            assert any(word in line for line in table), word
    assert any("0.750 ± 0.125" in line for line in table)


def test_a_narrow_comparison_names_the_scores_it_leaves_out(comparison, terminal, capsys):
    terminal(80)
    print_comparison(comparison)
    assert "Not shown on a terminal this narrow: selected roc auc" in capsys.readouterr().out


def test_scores_are_printed_with_what_their_sd_is_over(comparison, capsys):
    print_comparison(comparison)
    assert "SD over folds (ddof=1)" in capsys.readouterr().out


def test_reasons_of_failed_runs_are_printed(comparison, capsys):
    print_runs(comparison, reasons=True)
    printed = capsys.readouterr().out
    assert "01234567 subject=1 contrast=face_vs_house" in printed
    assert "\n  out of memory\n" in printed


def test_audit_is_a_column_where_it_differs_and_above_the_table_where_it_does_not(
    comparison, terminal, capsys
):
    terminal(300)
    print_comparison(replace(comparison, runs=comparison.runs.assign(audit=["leak", "caution"])))
    printed = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert re.search("┃ *audit *┃", printed)
    print_comparison(replace(comparison, runs=comparison.runs.assign(audit="leak")))
    assert "audit=leak" in capsys.readouterr().out
    for runs in (comparison.runs, comparison.runs.assign(audit="")):  # runs of an earlier version
        print_comparison(replace(comparison, runs=runs))
        assert "audit" not in capsys.readouterr().out


def test_sweep_counts_the_worst_verdicts_of_its_runs(tmp_path, capsys):
    verdicts = ["caution", "leak", "caution", "", "ok"]
    scores = {"test_accuracy_mean": 0.5}
    outcomes = [
        Outcome(job, "finished", name=str(job), run_id=str(job), scores=scores, audit=verdict)
        for job, verdict in enumerate(verdicts)
    ]
    failed = Outcome(5, "failed", error="out of memory")
    print_sweep(SweepSummary(Sweep(tmp_path), [*outcomes, failed]))
    assert "worst verdicts of the runs: 1 leak, 2 caution, 1 ok" in capsys.readouterr().out


@pytest.mark.parametrize("columns", [120, 80])
def test_a_varied_store_is_ranked_within_each_scheme_with_n_p_and_run_ids(terminal, capsys, columns):
    rows = [("kfold5", "svc", 0.75), ("kfold5", "lda", 0.5), ("logo", "svc", 0.875), ("logo", "lda", 0.625)]
    runs = pd.DataFrame(rows, columns=["cv", "estimator", "test_accuracy_mean"]).assign(
        status="FINISHED", dataset="haxby", test_accuracy_std=0.125, folds="12", volumes="216"
    )
    runs = runs.assign(p=[0.0125, 0.5, None, None], p_score="test_accuracy", run_id="")
    terminal(columns)
    print_comparison(RunTable(runs.assign(run_id=[f"{letter * 32}" for letter in "abcd"])))
    printed = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert printed.startswith("dataset=haxby  folds=12  volumes=216\n")
    lines = printed.splitlines()
    place = [next(i for i, line in enumerate(lines) if letter * 8 in line) for letter in "abcd"]
    borders = [i for i, line in enumerate(lines) if line.startswith("├")]
    assert place == sorted(place)
    assert [place[1] < border < place[2] for border in borders] == [True]
    assert "0.013" in printed
    flat = " ".join(printed.split())
    assert "The best first within each cv:" in flat
    assert "p: one-sided, of test accuracy by relabelling blocks" in flat


def test_two_class_contrasts_share_a_scale_and_others_do_not():
    def scales(*contrasts):
        return RunTable(pd.DataFrame({"contrast": contrasts})).ranked_within

    assert scales("face_vs_cat", "face_vs_house[conditions=[a,b]]") == []
    assert scales("face_vs_cat", "all8") == ["contrast"]
    assert scales("face_vs_cat", "face_vs_cat_vs_house") == ["contrast"]
