"""Held-out volumes on which two runs differ."""

import pandas as pd
import pytest

from harness.comparison.volumes import compare_volumes


def predictions(decisions, folds=(1, 1, 2, 2), volumes=(3, 4, 8, 9), classes=("cat", "face", "cat", "face")):
    """Above zero is evidence for face, the first class of the contrast."""
    return pd.DataFrame(
        {
            "volume": volumes,
            "run": [0, 0, 1, 1],
            "fold": folds,
            "condition": classes,
            "class": classes,
            "predicted": ["face" if value > 0 else "cat" for value in decisions],
            "decision_value": decisions,
        }
    )


def test_volumes_are_ordered_by_their_difference():
    found = compare_volumes(predictions([-1, 1, -1, 1]), predictions([-1, 1.25, 0.5, 0.5]), limit=2)
    assert (found.n_joined, found.n_other_prediction, found.n_changed) == (4, 1, 3)
    assert found.notes == ()
    table = found.table
    assert table["volume"].tolist() == [8, 9]
    assert table["difference"].tolist() == [1.5, -0.5]
    assert table["first_predicted"].tolist() == ["cat", "face"]
    assert table["second_predicted"].tolist() == ["face", "face"]


def test_order_of_the_rows_does_not_count():
    first = predictions([-1, 1, -1, 1])
    found = compare_volumes(first, first.iloc[::-1], limit=5)
    assert (found.n_joined, found.n_other_prediction, found.n_changed, len(found.table)) == (4, 0, 0, 0)


def test_other_folds_are_joined_by_volume_where_each_is_held_out_once():
    found = compare_volumes(predictions([-1, 1, -1, 1]), predictions([-1, 1, -1, 2], folds=(1, 2, 3, 4)), 5)
    assert found.table["volume"].tolist() == [9]
    assert found.notes == ("the folds differ: volumes are joined by their number alone",)


def test_volumes_that_are_held_out_several_times_are_not_joined():
    twice = predictions([-1, 1, -1, 1], volumes=(3, 4, 3, 4))
    assert compare_volumes(predictions([-1, 1, -1, 1]), twice, 5) == (
        "the folds differ, and a volume is held out in several of them"
    )


def test_volumes_of_one_run_alone_are_counted():
    found = compare_volumes(predictions([-1, 1, -1, 1]), predictions([-1, 1, -1, 1], volumes=(3, 4, 5, 6)), 5)
    assert found.n_joined == 2
    assert found.notes[-1] == "held out by one run only: 2 volumes of the first, 2 of the second"


def test_volumes_of_another_class_are_left_out():
    second = predictions([-1, 1, -1, 1], classes=("face", "face", "cat", "face"))
    found = compare_volumes(predictions([-1, 1, -1, 1]), second, 5)
    assert found.n_joined == 3
    assert found.notes == ("left out, because their class differs between the runs: 1 volumes",)


def test_decision_values_of_other_scales_are_divided_by_their_sd():
    """The SD of the first is 1, of the second 100: two volumes have moved by two SD."""
    found = compare_volumes(predictions([-1, 1, -1, 1]), predictions([-100, 100, 100, -100]), 2)
    assert found.table["volume"].tolist() == [8, 9]
    assert found.table["difference"].tolist() == [2.0, -2.0]
    assert found.table["second"].tolist() == [100.0, -100.0]
    assert "SD 1 and 100" in found.notes[0]


def test_of_several_classes_the_decision_value_that_differs_most_is_named():
    base = predictions([1, 1, 1, 1]).drop(columns="decision_value")
    first = base.assign(decision_value_cat=[1.0, 2, 3, 4], decision_value_face=[1.0, 1, 1, 1])
    second = base.assign(decision_value_cat=[1.0, 2, 3, 4.5], decision_value_face=[1.0, 1, 2, 1])
    table = compare_volumes(first, second, 5).table
    assert table["decision"].tolist() == ["face", "cat"]
    assert table["difference"].tolist() == [1.0, 0.5]


@pytest.mark.parametrize("lacking", ["volume", "predicted", "decision_value"])
def test_table_of_another_form_is_refused_with_the_reason(lacking):
    whole = predictions([-1, 1, -1, 1])
    assert isinstance(compare_volumes(whole, whole.drop(columns=lacking), 5), str)


def test_no_common_volume_is_a_reason():
    other = predictions([-1, 1, -1, 1], volumes=(30, 40, 50, 60))
    assert (
        compare_volumes(predictions([-1, 1, -1, 1]), other, 5) == "no held-out volume is common to both runs"
    )
