"""The report of several runs: what they share, their comparisons and matrices, and the runs that failed."""

from dataclasses import replace
from datetime import timedelta
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from report_runs import write_run

from harness.errors import DesignError
from harness.report.methods_references import REFERENCES
from harness.report.report_page import DataTable, Drawing, Text
from harness.report.sweep_record import SweepRecord
from harness.report.sweep_report import describe_runs, write_sweep_report


def sections_of(runs, notes=()):
    return {section.anchor: section.blocks for section in describe_runs(runs, notes)[1]}


def texts(blocks):
    return " ".join(block.text for block in blocks if isinstance(block, Text))


def figures(blocks):
    return [block for block in blocks if isinstance(block, Drawing)]


def table_of(blocks):
    return next(block.table for block in blocks if isinstance(block, DataTable))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Two subjects, the three pairs of three conditions; the accuracy tells which run it is."""
    home = tmp_path_factory.mktemp("sweep")
    runs = []
    for number, (subject, pair) in enumerate(product("12", combinations(("face", "cat", "house"), 2))):
        accuracy = 0.5 + number / 20
        runs.append(
            write_run(
                home / f"run{number}",
                classes=pair,
                accuracies=(accuracy - 0.1, accuracy, accuracy + 0.1),
                subject=subject,
                weights=False,
            )
        )
    return runs


def test_varied_and_shared_settings_are_named(sweep):
    blocks = sections_of(sweep, ["More runs match."])["summary"]
    assert "Varied: subject: 1, 2; contrast: cat_vs_house, face_vs_cat, face_vs_house." in texts(blocks)
    assert "More runs match." in texts(blocks)
    assert table_of(blocks).set_index("setting")["value"]["estimator"] == "svc"


def test_the_matrix_has_the_mean_of_every_subject_and_contrast(sweep):
    (figure,) = figures(sections_of(sweep)["subjects"])
    table = figure.draw.keywords["table"]
    # Runs 0, 1, 2 are face/cat, face/house, cat/house of subject 1, and 3, 4, 5 of subject 2.
    expected = {"cat_vs_house": [0.6, 0.75], "face_vs_cat": [0.5, 0.65], "face_vs_house": [0.55, 0.7]}
    for contrast, means in expected.items():
        assert table[contrast].tolist() == pytest.approx(means)


def test_the_dissimilarity_of_two_conditions_is_the_mean_of_their_decoding(sweep):
    (figure,) = figures(sections_of(sweep)["dissimilarity"])
    matrix = figure.draw.keywords["matrix"]
    assert matrix.loc["face", "cat"] == matrix.loc["cat", "face"] == pytest.approx((0.5 + 0.65) / 2)
    assert matrix.loc["house", "face"] == pytest.approx((0.55 + 0.7) / 2)
    assert np.isnan(np.diag(matrix)).all()


def test_two_conditions_have_no_dissimilarity_matrix(sweep):
    assert not sections_of([sweep[0], sweep[3]])["dissimilarity"]


def test_runs_that_did_not_finish_are_named_and_left_out(sweep, tmp_path):
    failed = write_run(tmp_path / "failed", status="FAILED", tags={"harness.error": "no such mask <b>"})
    subtitle, sections = describe_runs([*sweep, failed])
    assert subtitle == "7 runs: 6 FINISHED, 1 FAILED"
    summary = sections[0].blocks
    assert table_of(summary)["reason"].tolist() == ["no such mask <b>"]
    (figure,) = figures(sections[1].blocks)
    assert len(figure.draw.keywords["rows"]) == 6


def test_only_unfinished_runs_are_refused(tmp_path):
    with pytest.raises(DesignError, match="none is FINISHED"):
        describe_runs([write_run(tmp_path / "run", status="RUNNING")])


def test_an_edited_table_is_named_and_the_other_runs_are_drawn(tmp_path):
    runs = [write_run(tmp_path / name, subject=name, weights=False) for name in "12"]
    with (tmp_path / "1" / "folds.csv").open("a") as file:
        file.write(" ")
    blocks = sections_of(runs)["scores"]
    assert "Not in the figure: folds.csv of run" in texts(blocks)
    assert len(figures(blocks)[0].draw.keywords["rows"]) == 1


def test_estimators_are_compared_over_the_folds_of_a_subject(tmp_path):
    first = write_run(tmp_path / "svc", accuracies=(0.5, 0.75, 1.0), weights=False)
    second = write_run(tmp_path / "lda", accuracies=(0.5, 0.5, 0.75), estimator="lda", weights=False)
    blocks = sections_of([first, second])["pairs"]
    row = table_of(blocks).iloc[0]
    assert {row["first"], row["second"]} == {"svc", "lda"}
    assert row["n"] == 3
    assert abs(row["difference"]) == pytest.approx(np.mean([0, 0.25, 0.25]))
    assert "Nadeau" in next(block.caption for block in blocks if isinstance(block, DataTable))


def test_a_refused_comparison_says_why(tmp_path):
    first = write_run(tmp_path / "one", weights=False)
    second = write_run(tmp_path / "two", accuracies=(0.5, 0.5), estimator="lda", weights=False)
    blocks = sections_of([first, second])["pairs"]
    assert "estimator" in texts(blocks)
    assert not figures(blocks)


def test_subjects_with_null_distributions_have_group_tests(tmp_path):
    runs = []
    for number in range(6):
        null = np.concatenate([[0.9], np.linspace(0.2, 0.8, 99)])
        tags = {"harness.inference": "random", "harness.inference.primary": "test_accuracy"}
        runs.append(
            write_run(
                tmp_path / str(number),
                accuracies=(0.8, 0.9, 1.0),
                null=null,
                subject=str(number),
                weights=False,
                tags=tags | {"harness.relabellings": "same", "harness.digest.bold": str(number) * 64},
            )
        )
    blocks = sections_of(runs)["groups"]
    row = table_of(blocks).iloc[0]
    assert (row["n"], row["mean"]) == ("6", "0.900")
    # Every score is above all of 99 relabellings, so that p of one subject is 1/100 and N = 6.
    root = 1 / 100
    assert row["majority"] == f"{(0.5 * root + 0.5) ** 6:.2g}"
    assert row["more than"] == f"{(0.05 ** (1 / 6) - root) / (1 - root):.2f}"
    (figure,) = figures(sections_of(runs)["scores"])
    assert figure.draw.keywords["bands"][0].limits == pytest.approx((0.2, 0.8), abs=0.02)


def test_references_are_those_of_the_tests_that_were_made(sweep, tmp_path):
    untested = texts(sections_of([sweep[0], sweep[3]])["methods"])  # one contrast
    for name in ("Nadeau", "Stelzer", "Allefeld", "Holm"):
        assert name not in untested
    pair = [write_run(tmp_path / name, estimator=name, weights=False) for name in ("svc", "lda")]
    pair[1] = write_run(tmp_path / "other", accuracies=(0.5, 0.5, 0.75), estimator="lda", weights=False)
    compared = texts(sections_of(pair)["methods"])
    assert REFERENCES["corrected-t"] in compared
    assert "Stelzer" not in compared


def test_p_values_are_in_the_table_although_the_newest_run_was_not_tested(tmp_path):
    null = np.linspace(0.9, 0.1, 100)
    tags = {"harness.inference": "random", "harness.inference.primary": "test_accuracy"}
    config = {"inference": {"kind": "permutation", "n": 99}}
    newest = write_run(tmp_path / "lda", estimator="lda", weights=False)
    tested = write_run(tmp_path / "svc", null=null, tags=tags, weights=False, **config)
    sections = sections_of([newest, tested])
    table = table_of(sections["runs"]).set_index("estimator")
    assert table.loc["svc", "p"] == pytest.approx(0.01)
    assert np.isnan(table.loc["lda", "p"])
    assert "99 random relabellings" in texts(sections["methods"])


def test_many_runs_are_drawn_by_configuration(tmp_path):
    runs = []
    for number in range(44):
        subject, estimator = str(number // 2), ("svc", "lda")[number % 2]
        run = write_run(tmp_path / str(number), subject=subject, estimator=estimator, weights=False)
        run.metrics["test_accuracy_mean"] = 0.5 + number / 100
        runs.append(run)
    (figure,) = figures(sections_of(runs)["scores"])
    rows = figure.draw.keywords["rows"]
    assert rows["label"].tolist() == ["lda", "svc"]
    assert sorted(rows["values"].iloc[1]) == pytest.approx([0.5 + number / 100 for number in range(0, 44, 2)])


def test_figures_and_group_tables_show_the_newest_run_of_a_configuration(tmp_path):
    runs = []
    for number, accuracy in enumerate((0.5, 0.9)):
        for subject, contrast in product("12", combinations(("face", "cat", "house"), 2)):
            run = write_run(
                tmp_path / f"{number}{subject}{'_'.join(contrast)}",
                classes=contrast,
                subject=subject,
                accuracies=(accuracy,) * 2,
                weights=False,
                tags={"harness.digest.bold": subject * 64},
            )
            params = {**run.params, "inference": ("permutation", "none")[number]}
            identifier = f"{len(runs):032x}"
            started = run.started + timedelta(hours=number)
            runs.append(replace(run, run_id=identifier, started=started, params=params))
    for order in (runs, runs[::-1]):
        sections = sections_of(order)
        assert set(table_of(sections["groups"])["mean"]) == {"0.900"}
        (figure,) = figures(sections["subjects"])
        assert figure.draw.keywords["table"].to_numpy().ravel() == pytest.approx(0.9)
        (figure,) = figures(sections["dissimilarity"])
        assert np.nanmax(figure.draw.keywords["matrix"]) == pytest.approx(0.9)
    rows, _ = SweepRecord(tuple(runs), tuple(runs)).rows_by_configuration()
    assert np.concatenate(rows["values"]) == pytest.approx(0.9)


def test_the_page_escapes_names_and_has_every_figure(sweep, tmp_path):
    title = "<script>alert(1)</script>"
    page, *others = write_sweep_report(title, sweep, tmp_path / "report")
    content = page.read_text(encoding="utf-8")
    assert "<script>" not in content
    names = {file.name for file in others}
    assert {"scores.png", "subjects_by_contrasts.svg", "dissimilarity.png"} <= names
    assert pd.Series([file.exists() for file in others]).all()
