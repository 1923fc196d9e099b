"""Writing a report: replaced as a whole, and other files stay."""

import json
import os

import pandas as pd
import pytest

from harness.errors import DataError, UsageError
from harness.report.report_page import DataTable, Drawing, Section, Text, make_section, write_report


def drawing(name, draw=lambda figure: None):
    return Drawing(name, (1.0, 1.0), draw, "what it shows", "caption")


def test_the_figures_of_an_older_report_are_removed_and_other_files_stay(tmp_path):
    (tmp_path / "mine.png").write_bytes(b"mine")
    write_report("one", "", [Section("a", "A", [drawing("older")])], tmp_path)
    write_report("two", "", [Section("a", "A", [drawing("newer")])], tmp_path)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"mine.png", "newer.png", "newer.svg", "index.html", "report.json"}


def test_a_record_that_names_files_elsewhere_deletes_nothing(tmp_path):
    (tmp_path / "keep.png").write_bytes(b"")
    report = tmp_path / "report"
    report.mkdir()
    (report / "report.json").write_text(json.dumps({"files": ["../keep.png", 3, "notes.txt"]}))
    (report / "notes.txt").write_text("mine")
    write_report("one", "", [], report)
    assert (tmp_path / "keep.png").exists()
    assert (report / "notes.txt").exists()


def test_an_older_report_stays_if_writing_fails(tmp_path):
    write_report("one", "", [Section("a", "A", [Text("first")])], tmp_path)

    def fail(figure):
        raise OSError("No space left on device")

    with pytest.raises(UsageError, match=r"cannot be written to .*No space left.*--out"):
        write_report("two", "", [Section("a", "A", [drawing("figure", fail)])], tmp_path)
    assert "first" in (tmp_path / "index.html").read_text()
    assert {file.name for file in tmp_path.iterdir()} == {"index.html", "report.json"}


def test_a_figure_that_cannot_be_drawn_is_named(tmp_path):
    def fail(figure):
        raise ValueError("no colours")

    files = write_report("one", "", [Section("a", "A", [drawing("figure", fail)])], tmp_path)
    assert [file.name for file in files] == ["index.html"]
    assert "figure could not be drawn: ValueError: no colours" in files[0].read_text()


def test_a_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="choose another directory with --out"):
        write_report("one", "", [], tmp_path / "file")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_refused(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(UsageError, match="choose another directory with --out"):
        write_report("one", "", [], tmp_path / "closed" / "report")


def test_sections_without_content_are_left_out(tmp_path):
    files = write_report("one", "", [Section("a", "Empty"), Section("b", "Full", [Text("x")])], tmp_path)
    page = files[0].read_text()
    assert "Full" in page
    assert "Empty" not in page


def test_an_error_of_a_section_is_its_content():
    def fail():
        raise DataError("folds.csv was edited")

    (block,) = make_section("a", "A", fail).blocks
    assert block.text == "This section is missing: folds.csv was edited"


def test_cells_are_escaped_and_long_texts_are_broken(tmp_path):
    table = pd.DataFrame({"<b>": ["<script>"], "text": ["word " * 20], "number": [0.123456]})
    page = write_report("t", "", [Section("a", "A", [DataTable(table)])], tmp_path)[0].read_text()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert 'class="text sentence">word' in page
    assert "<td>0.1235</td>" in page
