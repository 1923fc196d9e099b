"""The table of published against obtained values, and the page that shows it."""

import base64

import pytest

from harness.comparison.published_cells import Cell, CellVerdict
from harness.report.inspection_index import PagePart
from harness.report.published_table import count_verdicts, list_cells, print_cells, tabulate_cells
from harness.report.tutorial_page import LookingSection, TutorialSection, write_tutorial_page

SIMULATED = "simulated data: nothing is published"


@pytest.fixture
def cells():
    return [
        Cell("holdout30", "test_accuracy", None, (0.767,), (23 / 30,), CellVerdict.equal, -3e-4, "", 3),
        Cell("dummy", "selected_roc_auc", 1, (0.5,), (0.75,), CellVerdict.differs, 0.25),
        Cell("dummy", "selected_roc_auc", 2, (), (float("nan"),), CellVerdict.not_applicable, None, "why"),
        Cell(
            "coefficients", "coef", None, (0.0,) * 464, (1.0,) * 464, CellVerdict.differs, 1.0, "all of them"
        ),
        Cell("coefficients", "coef_shape", None, (1, 464), (), CellVerdict.missing, None, "disk full"),
    ]


def test_cells_are_written_in_words(cells):
    table = tabulate_cells(cells)
    assert table["published"].tolist() == ["0.767", "0.5", "-", "464 values", "1 464"]
    assert table["obtained"].tolist() == ["0.766667", "0.75", "not defined", "464 values", "-"]
    assert table["comparison"].tolist() == [
        "equal",
        "differs by +0.25",
        "not applicable: why",
        "differs by +1 (all of them)",
        "no run: disk full",
    ]
    assert table["quantity"].tolist()[1] == "selected ROC AUC"


def test_verdicts_are_counted(cells):
    assert count_verdicts(cells) == "1 equal, 2 differ, 1 not applicable, 1 without a run"


def test_a_table_for_files_has_numbers(cells):
    table = list_cells(cells)
    assert float(table["obtained"][0]) == 23 / 30
    assert table["fold"].tolist()[1:3] == [1, 2]
    assert len(table["published"][3].split()) == 464


def test_a_reason_that_all_cells_share_is_printed_once(capsys):
    shared = [
        Cell("dummy", "selected_roc_auc", fold, (0.5,), (0.5,), CellVerdict.not_applicable, None, SIMULATED)
        for fold in (1, 2, 3)
    ]
    print_cells(shared, "a course")
    printed = capsys.readouterr().out
    assert printed.count(SIMULATED) == 1
    assert f"3 not applicable: {SIMULATED}" in printed
    # Published values of other data are not shown next to those obtained, which are one row.
    assert "published" not in printed.splitlines()[2]
    assert "0.5 0.5 0.5" in printed


def test_sections_without_an_applicable_cell_are_printed_apart(cells, capsys):
    other = Cell("kfold5", "test_accuracy", 1, (0.125,), (0.5,), CellVerdict.not_applicable, None, "other cv")
    absent = Cell("dummy", "best_C", None, (1.0,), (), CellVerdict.absent, None, "no best_C")
    print_cells([*cells, other, absent], "a course")
    compared, apart = capsys.readouterr().out.split("Obtained values, without comparison")
    assert "holdout30" in compared
    assert "no value: no best_C" in compared
    assert "kfold5" not in compared
    assert "kfold5: not applicable: other cv" in apart
    assert "0.125" not in apart
    assert "1 without a run, 1 without a value" in apart


def test_the_page_has_every_section_also_without_runs(cells, tmp_path):
    parts = [
        PagePart("roi", "roi.png", "the mask"),
        PagePart("labels", "index.html", "the labels", "x.nii.gz"),
    ]
    looking = LookingSection("Look", "What?", "So.", "look now", "inspection", parts)
    figure = tmp_path / "page" / "inspection" / "roi.png"
    figure.parent.mkdir(parents=True)
    figure.write_bytes(b"the mask")
    sections = [
        TutorialSection(
            name, f"Title {name}", "Why?", "Thus.", f"run <{name}>", "disk full", chosen, f"of {name}."
        )
        for name in ("holdout30", "dummy", "coefficients")
        if (chosen := [cell for cell in cells if cell.section == name])
    ]
    page, *others = write_tutorial_page("T", "S", "a course", looking, sections, tmp_path / "page")
    text = page.read_text()
    assert others == []
    for name in ("holdout30", "dummy", "coefficients"):
        assert f'<section id="{name}"' in text
        assert f"run &lt;{name}&gt;" in text
    assert text.count("This section has no run: disk full") == 3
    assert 'href="inspection/index.html#roi"' in text
    assert 'href="inspection/roi.png"' in text
    assert 'href="inspection/x.nii.gz"' in text
    assert "1 equal, 2 differ, 1 not applicable, 1 without a run" in text
    assert "Source: a course" in text
    assert f'src="data:image/png;base64,{base64.b64encode(b"the mask").decode()}"' in text
    assert text.count("In the published values, of ") == 3


def test_the_page_of_other_data_has_no_published_values(cells, tmp_path):
    looking = LookingSection("Look", "What?", "So.", "look now", "inspection", ())
    cell = Cell("dummy", "n_voxels", None, (464,), (551,), CellVerdict.not_applicable, None, SIMULATED)
    section = TutorialSection("dummy", "T", "Why?", "Thus.", "run", "disk full", [cell], "464.")
    page, *_ = write_tutorial_page("T", "S", "a course", looking, [section], tmp_path)
    text = page.read_text()
    assert "464" not in text
    assert "551" in text
    assert f"Published values are not applicable: {SIMULATED}." in text
