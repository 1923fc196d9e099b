"""The report of one run: its content, and what it says where something is missing."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from report_runs import write_run

from harness.decoding.scores import nominal_chance
from harness.errors import TrackingError
from harness.report.report_page import DataTable, Drawing, Frame, Text
from harness.report.run_report import describe_run, write_run_report

NO_IMAGES = "the files are on another machine"


def sections_of(run, images=NO_IMAGES):
    return {section.anchor: section.blocks for section in describe_run(run, images)[2]}


def texts(blocks):
    return " ".join(block.text for block in blocks if isinstance(block, Text))


def tables(blocks):
    return [block.table for block in blocks if isinstance(block, DataTable)]


def figures(blocks):
    return [block for block in blocks if isinstance(block, Drawing)]


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


def test_the_answer_has_mean_sd_and_audit_in_words(tmp_path):
    run = write_run(tmp_path / "run", tags={"harness.audit": "caution"})
    answer = texts(sections_of(run)["summary"])
    assert "Can face vs cat be decoded from vt of subject 1 (simulated)?" in answer
    assert "Mean test accuracy 0.750, SD 0.250 over 3 folds" in answer  # of 0.5, 0.75, 1
    assert "not tested (nominal chance 0.500)" in answer
    assert "Audit: caution." in answer


def test_one_fold_has_no_sd(tmp_path):
    run = write_run(tmp_path / "run", accuracies=(0.75,))
    assert "one fold, no SD" in texts(sections_of(run)["summary"])
    (figure,) = figures(sections_of(run)["scores"])
    assert "0.750" in figure.alternative


@pytest.mark.parametrize("kind", ["random", "enumerated"])
def test_a_tested_run_has_its_p_value_and_its_null_distribution(tmp_path, kind):
    null = np.concatenate([[0.75], np.linspace(0, 0.7, 41)])
    sections = sections_of(write_run(tmp_path / "run", null=null, tags={"harness.inference": kind}))
    assert "p = 0.024" in texts(sections["summary"])  # 1 of 42
    (summary,) = tables(sections["null"])
    # Of n values the percentiles are 0.025 * (n - 1) steps from either end. An enumeration includes the true
    # labelling, the first of these 42; random relabellings are the other 41.
    ordered, rest = (np.sort(null), 0.025) if kind == "enumerated" else (np.sort(null[1:]), 0.0)
    low, high = ordered[1] + rest * 0.0175, ordered[-2] - rest * 0.0175
    assert summary.loc[0, ["2.5 %", "97.5 %"]].tolist() == pytest.approx([low, high])
    (figure,) = figures(sections["scores"])
    assert "95 % range" in figure.caption


def test_without_a_test_the_line_is_named_nominal_chance(run):
    (figure,) = figures(sections_of(run)["scores"])
    assert "nominal chance" in figure.caption
    assert "null" not in [anchor for anchor, blocks in sections_of(run).items() if blocks]


def test_confusions_are_counted_by_true_and_predicted_class(run):
    (table,) = tables(sections_of(run)["confusion"])
    # Two volumes per class in three folds, of which one face is predicted as cat.
    assert table.to_numpy().tolist() == [["face", 5, 1], ["cat", 0, 6]]


def test_an_edited_table_is_named_and_the_other_sections_are_written(run, tmp_path):
    with (tmp_path / "run" / "predictions.csv").open("a") as file:
        file.write(" ")
    sections = sections_of(run)
    assert "predictions.csv of run" in texts(sections["confusion"])
    assert "was edited" in texts(sections["confusion"])
    assert figures(sections["scores"])
    files = write_run_report(run, NO_IMAGES, tmp_path / "report")
    assert "was edited" in files[0].read_text(encoding="utf-8")


def test_every_file_that_changed_since_the_run_is_named(run, tmp_path):
    (tmp_path / "run" / "config.yaml").write_text("edited: true\n")
    blocks = sections_of(run)["files"]
    assert "Edited, damaged or deleted since the run: config.yaml." in texts(blocks)
    (table,) = [table for table in tables(blocks) if "now" in table]
    assert dict(zip(table["file"], table["now"], strict=True))["folds.csv"] == "the same"


def test_missing_weights_are_named(run, tmp_path):
    (tmp_path / "run" / "weights_face_vs_cat.nii.gz").unlink()
    assert "has no weights_face_vs_cat.nii.gz" in texts(sections_of(run)["maps"])


def test_without_the_recording_predictions_are_a_table_with_the_reason(run):
    blocks = sections_of(run)["volumes"]
    assert NO_IMAGES in texts(blocks)
    assert list(tables(blocks)[0]["predicted"][:2]) == ["cat", "face"]
    assert NO_IMAGES in figures(sections_of(run)["maps"])[0].caption


def test_a_decoder_without_weights_has_no_map(tmp_path):
    sections = sections_of(write_run(tmp_path / "run", weights=False, estimator="dummy"))
    assert "stores no weights" in texts(sections["maps"])
    assert not sections["brain"]


def test_eight_classes_have_a_row_of_maps_each_in_the_order_of_the_contrast(tmp_path):
    classes = tuple(f"class{number}" for number in reversed(range(8)))
    run = write_run(tmp_path / "run", classes=classes)
    (figure,) = figures(sections_of(run)["maps"])
    rows = figure.draw.keywords["maps"]
    assert [len(row) for row in rows] == [2] * 8
    assert [row[0][0].rpartition(" ")[2] for row in rows] == list(classes)
    assert len([block for block in sections_of(run)["brain"] if isinstance(block, Frame)]) == 2
    assert "nominal chance 0.125" in texts(sections_of(run)["summary"])


@pytest.mark.parametrize(
    ("score", "n_classes", "chance"),
    [("test_accuracy", 8, 1 / 8), ("test_balanced_accuracy", 3, 1 / 3), ("selected_roc_auc_cat", 8, 0.5)],
)
def test_nominal_chance_depends_on_the_score(score, n_classes, chance):
    assert nominal_chance(score, n_classes) == chance


@pytest.mark.parametrize("status", ["FAILED", "RUNNING", "KILLED"])
def test_a_run_that_is_not_finished_is_refused(tmp_path, status):
    run = write_run(tmp_path / "run", status=status)
    with pytest.raises(TrackingError, match=f"is {status} and has no results"):
        write_run_report(run, NO_IMAGES, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_run_without_files_says_so_in_every_section(tmp_path):
    run = write_run(tmp_path / "run")
    for file in (tmp_path / "run").iterdir():
        file.unlink()
    run = type(run)(**{**vars(run), "tags": {}})  # of an earlier version: no digests either
    page = write_run_report(run, NO_IMAGES, tmp_path / "report")[0].read_text(encoding="utf-8")
    assert "has no folds.csv" in page
    assert "has no predictions.csv" in page
    assert "not audited" in page


class _Reader(HTMLParser):
    """Collects elements, and checks that every image has an alternative text."""

    def __init__(self):
        super().__init__()
        self.tags, self.anchors, self.links = [], set(), set()

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        if tag == "img":
            assert values["alt"]
            assert values["src"].startswith("data:image/png;base64,")
        if tag in ("section",):
            self.anchors.add(values["id"])
        if tag == "a":
            self.links.add(values["href"].removeprefix("#"))


def test_names_with_markup_are_shown_as_they_are(tmp_path):
    name = "<script>alert('\"x\"')</script>"
    run = write_run(tmp_path / "run", classes=(name, "cat"), name=name, weights=False)
    files = write_run_report(run, NO_IMAGES, tmp_path / "report")
    page = files[0].read_text(encoding="utf-8")
    reader = _Reader()
    reader.feed(page)
    assert "script" not in reader.tags
    assert page.count("&lt;script&gt;") > 2


def test_every_section_is_in_the_table_of_contents_and_nothing_is_loaded(run, tmp_path):
    files = write_run_report(run, NO_IMAGES, tmp_path / "report")
    page = re.sub(r'srcdoc="[^"]*"', "", files[0].read_text(encoding="utf-8"))
    reader = _Reader()
    reader.feed(page)
    assert reader.anchors == reader.links
    assert {"summary", "scores", "confusion", "maps", "brain", "audit", "methods", "files"} <= reader.anchors
    assert not re.search(r"(src|href)=.https?:", page)


def test_figures_are_at_300_dpi_and_their_svg_keeps_text(run, tmp_path):
    from PIL import Image

    write_run_report(run, NO_IMAGES, tmp_path / "report")
    with Image.open(tmp_path / "report" / "scores.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    svg = (tmp_path / "report" / "scores.svg").read_text(encoding="utf-8")
    assert re.search(r"<text[^>]*>[^<]*test accuracy", svg)


def test_a_sequential_test_has_no_chance_band(tmp_path):
    # How many relabellings it computes depends on their scores.
    null = np.concatenate([[0.75], np.linspace(0, 0.7, 41)])
    sections = sections_of(write_run(tmp_path / "run", null=null, sequential=True))
    (scores,) = figures(sections["scores"])
    assert scores.draw.keywords["bands"]["test_accuracy"].limits is None
    assert "nominal chance" in scores.caption
    (figure,) = figures(sections["null"])
    assert "Besag and Clifford" in figure.caption
    assert "all distinct" not in figure.caption
    (summary,) = tables(sections["null"])
    assert summary[["null mean", "2.5 %", "97.5 %"]].isna().all().all()
