"""Figures of reports: bands, matrices and the choice of volumes."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from harness.report.map_figures import choose_volumes, find_peak, view_aspect
from harness.report.matrix_figures import (
    count_confusions,
    draw_confusions,
    draw_scores,
    make_dissimilarity,
    tabulate_scores,
)
from harness.report.score_figures import ChanceBand, draw_folds, draw_rows, make_band


def test_the_band_is_the_central_95_percent():
    band = make_band(np.arange(1001) / 1000, 0.3)
    assert band.limits == pytest.approx((0.025, 0.975))
    assert band.middle == pytest.approx(0.5)


@pytest.mark.parametrize("null", [None, np.array([np.nan, np.nan])])
def test_without_a_null_distribution_there_is_nominal_chance(null):
    # As text: NaN differs from itself, also inside a dataclass from Python 3.13 on.
    assert repr(make_band(null, 0.125)) == repr(ChanceBand(0.125, None))


def test_confusions_of_classes_that_were_never_predicted_are_zero():
    predictions = pd.DataFrame({"class": ["a", "b", "b"], "predicted": ["b", "b", "b"]})
    assert count_confusions(predictions, ["a", "b", "c"]).tolist() == [[0, 1, 0], [0, 2, 0], [0, 0, 0]]


def test_subjects_are_in_the_order_of_their_numbers():
    means = pd.DataFrame({"subject": ["10", "2", "x"], "contrast": "c", "score": [0.1, 0.2, 0.3]})
    assert tabulate_scores(means, "score").index.tolist() == ["2", "10", "x"]


def test_pairs_without_a_run_are_empty_in_the_dissimilarity_matrix():
    means = pd.DataFrame({"contrast": ["ab", "bc"], "score": [0.6, 0.8]})
    matrix = make_dissimilarity(means, {"ab": ("a", "b"), "bc": ("b", "c")}, "score")
    assert np.isnan(matrix.loc["a", "c"])
    assert matrix.loc["c", "b"] == 0.8


def written(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_confusion_matrix_shows_counts_and_shares_of_the_row():
    figure = Figure()
    draw_confusions(figure, np.array([[3, 1], [0, 0]]), ["$a$", "b"])
    assert written(figure) == ["3\n75%", "1\n25%", "0\n0%", "0\n0%"]


def test_a_missing_run_has_an_empty_cell():
    figure = Figure()
    table = pd.DataFrame({"one": [0.5, np.nan]}, index=["1", "2"])
    draw_scores(figure, table, 0.5, "accuracy")
    assert written(figure) == ["0.50", ""]


def test_single_folds_and_undefined_scores_can_be_drawn():
    folds = pd.DataFrame({"test_accuracy": [0.5], "test_roc_auc": [np.nan]})
    names = {column: column for column in folds}
    figure = Figure()
    draw_folds(figure, folds, names, dict.fromkeys(names, ChanceBand(0.5, None)), ["1"], "fold")
    points = [axes.lines[0].get_ydata() for axes in figure.axes]
    np.testing.assert_array_equal(points, [[0.5], [np.nan]])
    rows = pd.DataFrame({"label": ["a"], "group": [""], "values": [np.array([0.4])]})
    figure = Figure()
    draw_rows(figure, rows, "accuracy", "fold", [None])
    (axes,) = figure.axes
    assert axes.lines[0].get_xdata().tolist() == [0.4]
    assert axes.get_yticklabels()[0].get_text() == "a"


def test_volumes_are_chosen_from_correct_and_wrong_predictions():
    right = pd.DataFrame({"volume": range(100), "class": "a", "predicted": "a"})
    wrong = pd.DataFrame({"volume": range(200, 202), "class": "a", "predicted": "b"})
    assert choose_volumes(pd.concat([right, wrong]))["volume"].tolist() == [0, 33, 66, 99, 200, 201]
    assert choose_volumes(right[:0]).empty


def test_the_peak_is_the_position_of_the_largest_absolute_weight():
    data = np.zeros((3, 4, 5))
    data[2, 1, 3] = -2
    data[0, 0, 0] = 1
    image = nib.Nifti1Image(data, np.diag([2.0, 3, 4, 1]))
    assert find_peak(image) == (4, 3, 12)
    assert 0 < view_aspect(image) <= 1
