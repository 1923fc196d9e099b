"""The figure of the scores of every value of a grid."""

import re
from dataclasses import replace

import matplotlib
import pandas as pd
import pytest
from sklearn.model_selection import LeaveOneGroupOut

from harness.datasets.haxby import Haxby
from harness.decoding.decode import decode
from harness.decoding.estimator import Estimator
from harness.decoding.evaluation import Scoring
from harness.decoding.question import Question
from harness.decoding.splitters import Scheme
from harness.report.artifacts import write_artifacts
from harness.report.grid_figure import can_draw_grid, draw_grid
from harness.samples.contrasts import make_contrast
from harness.solvers.estimators import ExactLDA, ExactLinearSVC, ExactLogisticRegressionCV
from harness.tracking.decoding_content import summary_metrics
from harness.tracking.run_result import RunResult

SVC = Estimator("svc", ExactLinearSVC(), {"C": [0.01, 1.0]})


@pytest.fixture(scope="module")
def decode_with(tiny_subject):
    recording = Haxby(tiny_subject()).load(1)

    def decode_with(estimator, conditions=("face", "cat")):
        scheme = Scheme("logo", LeaveOneGroupOut())
        question = Question(
            make_contrast(list(conditions)), estimator, scheme, scoring=Scoring(inner_folds=2)
        )
        return decode(recording, question)

    return decode_with


def read_words(decoding, file):
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw_grid(decoding, file)
    return " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", file.read_text()))


def test_figure_names_the_data_the_analysis_and_the_score(decode_with, tmp_path):
    words = read_words(decode_with(SVC), tmp_path / "grid.svg")
    for expected in (
        "haxby subject 1: face vs cat: score of every C (roc_auc)",
        "vt, 80 voxels, 32 volumes; svc, cv=logo; signal: zscore=own",
        "ROC AUC on the held-out fold",
        "mean over folds",
        "chosen in a fold",
    ):
        assert expected in words
    words = read_words(
        decode_with(Estimator("logistic", ExactLogisticRegressionCV([0.1, 1.0]))), tmp_path / "l.svg"
    )
    assert "mean log-likelihood of the inner folds" in words


@pytest.mark.slow
def test_every_class_has_a_panel(decode_with, tmp_path):
    words = read_words(decode_with(SVC, ("face", "cat", "house")), tmp_path / "grid.svg")
    assert all(f"{name} against the rest" in words for name in ("face", "cat", "house"))


@pytest.mark.slow
def test_names_are_drawn_as_they_are(decode_with, tmp_path):
    decoding = decode_with(SVC)
    odd = replace(decoding, recording=replace(decoding.recording, dataset="$x_{$"))
    assert "$x_{$ subject 1" in read_words(odd, tmp_path / "grid.svg")


@pytest.mark.parametrize(
    ("values", "drawn"), [([1.0, 10.0], True), ([1.0, 1.0], False), ([0.0, 1.0], False), (["a", "b"], False)]
)
def test_only_several_positive_numbers_are_drawn(values, drawn):
    assert can_draw_grid(pd.DataFrame({"value": values})) == drawn


def test_run_writes_table_picture_and_patterns_and_logs_optimism(decode_with, tmp_path):
    decoding = decode_with(SVC)
    result = write_artifacts(RunResult(decoding), tmp_path, "seed: 0", "full")
    assert result.decoding.warnings == ()
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "grid_scores.csv"), decoding.grid_scores)
    written = {file.name for file in tmp_path.iterdir()}
    assert {
        "grid_scores.png",
        *(f"pattern_face_vs_cat.{kind}" for kind in ("nii.gz", "png", "html")),
    } <= written
    folds = pd.read_csv(tmp_path / "folds.csv")
    metrics = {metric.key: metric.value for metric in summary_metrics(result, {})}
    expected = folds["selected_roc_auc"].mean() - folds["test_roc_auc"].mean()
    assert metrics["optimism_roc_auc"] == pytest.approx(expected, abs=1e-12)


def test_estimator_that_tries_nothing_writes_no_table(decode_with, tmp_path):
    write_artifacts(RunResult(decode_with(Estimator("lda", ExactLDA()))), tmp_path, "seed: 0", "light")
    names = {file.name for file in tmp_path.iterdir()}
    assert not names & {"grid_scores.csv", "grid_scores.png"}
    assert {name for name in names if name.startswith("pattern")} == {"pattern_face_vs_cat.nii.gz"}
