"""Text that a spreadsheet would run as a formula is quoted in every CSV file; numbers never are."""

import csv

import numpy as np
import pandas as pd
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import LeaveOneGroupOut

from harness.app.verbs import run_verb
from harness.datasets.haxby import read_subject
from harness.decoding.decode import decode
from harness.decoding.estimator import Estimator
from harness.decoding.evaluation import Scoring
from harness.decoding.question import Question
from harness.decoding.splitters import Scheme
from harness.report.artifacts import write_artifacts
from harness.report.spreadsheets import write_csv
from harness.samples.contrasts import make_contrast
from harness.tracking.run_result import RunResult

# What OWASP's page on CSV injection lists as the start of a formula, ASCII and full-width.
FORMULA_STARTS = "=+-@\t\n\uff1d\uff0b\uff0d\uff20"
FORMULA = "=cmd|'/C_calc'!A0"


def read_cells(file):
    with file.open(newline="", encoding="utf-8") as rows:
        return list(csv.reader(rows))


def assert_no_formula(file):
    for row in read_cells(file):
        for cell in row:
            numeric = cell.lstrip("+-").replace(".", "").replace("e-", "").isdigit()
            assert not cell.startswith(tuple(FORMULA_STARTS)) or numeric, cell


@pytest.mark.parametrize("start", FORMULA_STARTS)
def test_text_that_starts_a_formula_gets_an_apostrophe(tmp_path, start):
    write_csv(pd.DataFrame({f"{start}a": [f"{start}b|c", "face"]}), tmp_path / "table.csv")
    assert read_cells(tmp_path / "table.csv") == [[f"'{start}a"], [f"'{start}b|c"], ["face"]]


def test_a_carriage_return_is_written_out(tmp_path):
    """Python's csv would write it unquoted, and what follows it would be a row of its own."""
    write_csv(pd.DataFrame({"text": ["a\r=b|c", "\r=b"]}), tmp_path / "table.csv")
    assert read_cells(tmp_path / "table.csv") == [["text"], [r"a\r=b|c"], [r"\r=b"]]


def test_an_apostrophe_is_quoted_too_so_that_one_can_be_taken_away_again(tmp_path):
    texts = ["'=a", "=a", "'", "a'b", "", "a=b"]
    write_csv(pd.DataFrame({"text": texts}), tmp_path / "table.csv")
    cells = [row[0] if row else "" for row in read_cells(tmp_path / "table.csv")[1:]]
    assert [cell.removeprefix("'") for cell in cells] == texts


def test_numbers_are_written_as_pandas_writes_them(tmp_path, rng):
    table = pd.DataFrame(
        {
            "float": rng.normal(size=6),
            "int": np.arange(-3, 3),
            "missing": [-1.5, np.nan, np.inf, -np.inf, 0.0, -0.0],
            "bool": [True, False] * 3,
            "mixed": [-1, -2.5, None, np.float32(-3), True, "-4"],
            "text": ["-1", "+2.5", "-1e-3", "1 2", "0", "-.5"],
            "when": pd.date_range("2026-01-01", periods=6),
        }
    )
    write_csv(table, tmp_path / "ours.csv")
    table.to_csv(tmp_path / "theirs.csv", index=False)
    assert (tmp_path / "ours.csv").read_bytes() == (tmp_path / "theirs.csv").read_bytes()


@pytest.fixture
def decode_names(tiny_subject):
    def decode_names(*conditions):
        data = tiny_subject(conditions=conditions)
        return decode(
            read_subject(data / "haxby2001", 1, dataset="haxby"),
            Question(
                make_contrast(list(conditions)),
                Estimator("lda", LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")),
                Scheme("=logo()", LeaveOneGroupOut()),
                scoring=Scoring(inner_folds=2),
            ),
        )

    return decode_names


def test_tables_of_a_run_hold_no_formula(decode_names, tmp_path):
    decoding = decode_names(FORMULA, "@face", "-cat")
    write_artifacts(RunResult(decoding), tmp_path, "seed: 0", "off")
    for name in ("folds.csv", "predictions.csv"):
        assert_no_formula(tmp_path / name)
    table = pd.read_csv(tmp_path / "predictions.csv")
    # What is written can be read back by taking one apostrophe away.
    np.testing.assert_array_equal(table["class"].str.removeprefix("'"), decoding.predictions["class"])
    np.testing.assert_array_equal(table["volume"], decoding.predictions["volume"])


@pytest.mark.slow
def test_tables_of_runs_hold_no_formula(make_store, tmp_path, capsys):
    from mlflow.entities import Param

    store = make_store(tmp_path / "mlruns")
    run = store.client.create_run(store.experiment_id, run_name=FORMULA)
    params = {"contrast": "-cmd-calc_vs_face", "estimator": "@SUM(A1)", "subject": "2", "cv": "logo"}
    store.client.log_batch(run.info.run_id, params=[Param(name, value) for name, value in params.items()])
    store.client.set_terminated(run.info.run_id)
    for verb in ("runs", "compare"):
        file = tmp_path / f"{verb}.csv"
        assert run_verb([verb, "--folder", str(tmp_path / "mlruns"), "--csv", str(file)]) == 0
        assert_no_formula(file)
        (row,) = pd.read_csv(file).to_dict("records")
        assert row["estimator"] == "'@SUM(A1)"
        assert row["subject"] == 2
    capsys.readouterr()
