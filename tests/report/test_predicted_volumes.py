"""Predicted volumes: the titles are those of predictions.csv, the pictures the volumes of the recording."""

import re
from dataclasses import replace
from itertools import pairwise

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import LeaveOneGroupOut

from harness.datasets.haxby import Haxby
from harness.decoding.decode import decode
from harness.decoding.estimator import Estimator
from harness.decoding.evaluation import Scoring
from harness.decoding.question import Question
from harness.decoding.splitters import Scheme
from harness.report import predicted_volumes, volume_figures
from harness.report.artifacts import write_artifacts
from harness.report.predicted_volumes import choose_predictions, draw_predicted_volumes
from harness.samples.contrasts import make_contrast
from harness.samples.signal import Signal
from harness.tracking.run_result import RunResult
from marks import first

LDA = Estimator("lda", LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))
TITLE = re.compile(
    r"(?P<what>volume|mean of volumes) (?P<first>\d+)(-(?P<last>\d+))?, "
    r"scanner run (?P<run>\d+), fold (?P<fold>\d+)\n"
    r"true: (?P<true>\w+), predicted: (?P<predicted>\w+) \((?P<word>correct|WRONG)\)\n"
    r"decision value( of (?P<of>\w+))?: (?P<value>-?[\d.]+)"
)


@pytest.fixture(scope="module")
def decode_tiny(tiny_subject):
    def decode_tiny(*conditions, shape=(6, 5, 4), **signal):
        question = Question(
            make_contrast(list(conditions)),
            LDA,
            Scheme("logo", LeaveOneGroupOut()),
            signal=Signal(**signal),
            scoring=Scoring(inner_folds=2),
        )
        return decode(Haxby(tiny_subject(shape=shape)).load(1), question)

    return decode_tiny


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn: the volumes in order, the titles as one text, and the frames."""
    found = {"volumes": [], "text": [], "frames": []}
    place, frame, text = volume_figures.place_volume, volume_figures._place_frame, Figure.text

    def note(figure, box, image, *others, **look):
        found["volumes"].append(np.asarray(image.dataobj).copy())
        place(figure, box, image, *others, **look)

    def note_frame(figure, box, colour, style):
        found["frames"].append(style)
        frame(figure, box, colour, style)

    def note_text(self, x, y, s, **look):
        found["text"].append(s)
        return text(self, x, y, s, **look)

    monkeypatch.setattr(volume_figures, "place_volume", note)
    monkeypatch.setattr(volume_figures, "_place_frame", note_frame)
    monkeypatch.setattr(Figure, "text", note_text)
    return found


def read_titles(found):
    return [match.groupdict() for match in TITLE.finditer("\n".join(found["text"]))]


def read_images(decoding):
    return np.asarray(nib.load(decoding.recording.bold).dataobj).astype(np.float32)


@pytest.mark.parametrize("conditions", [("face", "cat"), ("face", "cat", "house")])
def test_titles_equal_predictions_and_pictures_equal_the_recording(decode_tiny, drawn, tmp_path, conditions):
    decoding = decode_tiny(*conditions)
    written = write_artifacts(RunResult(decoding), tmp_path, "seed: 0", "off").decoding
    draw_predicted_volumes(written, tmp_path / "predicted_volumes.png")
    table = pd.read_csv(tmp_path / "predictions.csv").set_index(["volume", "fold"])
    titles, images = read_titles(drawn), read_images(decoding)
    assert len(titles) == len(drawn["volumes"]) == len(drawn["frames"]) >= 2 * len(conditions)
    for title, values, style in zip(titles, drawn["volumes"], drawn["frames"], strict=True):
        row = table.loc[int(title["first"]), int(title["fold"])]
        assert (title["true"], title["predicted"]) == (row["class"], row["predicted"])
        assert int(title["run"]) == row["run"]
        column = "decision_value" if len(conditions) == 2 else f"decision_value_{row['predicted']}"
        assert title["of"] == (None if len(conditions) == 2 else row["predicted"])
        assert float(title["value"]) == pytest.approx(row[column], abs=5.1e-4)
        is_correct = row["class"] == row["predicted"]
        assert (title["word"], style) == (("correct", "solid") if is_correct else ("WRONG", "dashed"))
        np.testing.assert_array_equal(values, images[..., int(title["first"])])
    assert {title["true"] for title in titles} == set(conditions)


def test_averaged_blocks_are_shown_as_means_of_their_selected_volumes(decode_tiny, drawn, tmp_path):
    decoding = decode_tiny("face", "cat", average_blocks=True, trim_first=1, zscore="train")
    draw_predicted_volumes(decoding, tmp_path / "predicted_volumes.png")
    images = read_images(decoding)
    for title, values in zip(read_titles(drawn), drawn["volumes"], strict=True):
        first, last = int(title["first"]), int(title["last"])
        assert last - first == 2  # blocks of four, less the first
        block = images[..., first : last + 1].astype(np.float64)
        np.testing.assert_allclose(values, block.mean(axis=-1), rtol=1e-6)
        shown = set(decoding.recording.labels["condition"].iloc[first : last + 1])
        assert shown == {title["true"]}
        assert decoding.recording.labels["condition"].iloc[first - 2] == "rest"


def test_one_image_per_scanner_run_gives_the_picture_of_one_image(decode_tiny, drawn, tmp_path):
    decoding = decode_tiny("face", "cat")
    image = nib.load(decoding.recording.bold)
    edges = [0, 15, 30, 45, 60]
    parts = []
    for start, stop in pairwise(edges):
        parts.append(tmp_path / f"run-{start}.nii.gz")
        nib.save(image.slicer[..., start:stop], parts[-1])
    question = decoding.question
    several = decode(replace(decoding.recording, bold=tuple(parts)), question)
    draw_predicted_volumes(several, tmp_path / "several.png")
    titles, images = read_titles(drawn), read_images(decoding)
    for title, values in zip(titles, drawn["volumes"], strict=True):
        np.testing.assert_array_equal(values, images[..., int(title["first"])])


def make_predictions(rows):
    names = ["volume", "class", "predicted", "decision_value"]
    return pd.DataFrame(rows, columns=names).assign(run=0, fold=1, condition="x")


def test_the_choice_is_the_most_certain_correct_and_wrong_and_the_least_certain_other():
    table = make_predictions(
        [
            (0, "a", "a", 2.0),
            (1, "a", "a", 3.0),
            (2, "a", "a", 3.0),
            (3, "a", "b", -0.1),
            (4, "a", "b", -4.0),
            (5, "b", "b", -1.0),
            (6, "b", "b", -0.2),
        ]
    )
    chosen = choose_predictions(table, ["a", "b"])
    found = {(row["class"], row["choice"]): row["volume"] for row in chosen.to_dict("records")}
    assert found == {
        ("a", "most certain correct"): 1,
        ("a", "most certain wrong"): 4,
        ("a", "least certain"): 3,
        ("b", "most certain correct"): 5,
        ("b", "least certain"): 6,
    }


def test_with_several_classes_certainty_is_the_lead_of_the_largest_decision_value():
    table = make_predictions([(0, "a", "a", 0), (1, "a", "a", 0), (2, "a", "a", 0)]).drop(
        columns="decision_value"
    )
    table["decision_value_a"] = [5.0, 2.0, 1.0]
    table["decision_value_b"] = [4.0, -1.0, 0.5]
    table["decision_value_c"] = [-9.0, -1.0, 0.0]
    chosen = choose_predictions(table, ["a", "b", "c"])
    assert chosen["volume"].tolist() == [1, 2]  # leads: 1, 3, 0.5


def test_only_full_figures_have_the_picture(decode_tiny, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("the image was read again")

    monkeypatch.setattr(predicted_volumes, "average_volumes", refuse)
    decoding = decode_tiny("face", "cat")
    for figures in ("light", "off"):
        (tmp_path / figures).mkdir()
        written = write_artifacts(RunResult(decoding), tmp_path / figures, "seed: 0", figures).decoding
        assert written.warnings == decoding.warnings
        assert not (tmp_path / figures / "predicted_volumes.png").exists()


@pytest.mark.parametrize(
    ("change", "text"),
    first(
        1,
        [
            (lambda file: file.unlink(), "no such file"),
            (lambda file: file.write_bytes(file.read_bytes()[:-9]), "damaged or cut short"),
            (
                lambda file: nib.save(nib.as_closest_canonical(nib.load(file)), file),
                "changed after it was decoded",
            ),
        ],
    ),
)
def test_an_image_that_changed_since_is_a_warning_and_the_scores_are_written(
    decode_tiny, tmp_path, monkeypatch, change, text
):
    monkeypatch.setattr("harness.report.artifacts.write_map_view", lambda *_: None)
    monkeypatch.setattr("harness.report.artifacts.draw_map", lambda *_: None)
    decoding = decode_tiny("face", "cat")
    change(decoding.recording.bold)
    written = write_artifacts(RunResult(decoding), tmp_path, "seed: 0", "full").decoding
    (warning,) = (text for text in written.warnings if text.startswith("predicted_volumes.png"))
    assert text in warning
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == len(decoding.predictions)
    assert not (tmp_path / "predicted_volumes.png").exists()
