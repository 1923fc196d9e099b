"""Published values against those of stored runs."""

import pytest

from harness.comparison.published import PublishedValue, PublishedValues
from harness.comparison.published_cells import compare_published, describe_difference

DATA = {"dataset": "haxby", "subject": "1"}
EXPECTED = DATA | {"cv": "logo", "scoring": "roc_auc", "estimator": "svc_liblinear", "contrast": "a_vs_b"}


@pytest.fixture
def compare(make_stored):
    """Return a function from one published value to the cells of a run with four folds."""

    def compare(value, run=None, settings=DATA, **params):
        published = PublishedValues("a course", settings, {"holdout30": (value,)})
        run = run or make_stored((0.5, 0.75, 1.0, 0.25), **params)
        return compare_published(published, {"holdout30": run}, {"holdout30": EXPECTED})

    return compare


def accuracies(*values, **precision):
    return PublishedValue("test_accuracy", values, True, **precision)


def test_every_fold_is_a_cell(compare):
    cells = compare(accuracies(0.5, 0.8, 1.0, 0.25, decimals=1))
    assert [cell.fold for cell in cells] == [1, 2, 3, 4]
    assert [cell.verdict for cell in cells] == ["equal"] * 4  # 0.75 is 0.8 with one decimal
    assert [cell.obtained for cell in cells] == [(0.5,), (0.75,), (1.0,), (0.25,)]


def test_a_difference_is_obtained_minus_published(compare):
    cells = compare(accuracies(0.5, 0.5, 1.0, 0.5, tolerance=1e-9))
    assert [cell.verdict for cell in cells] == ["equal", "differs", "equal", "differs"]
    assert [cell.difference for cell in cells] == [0.0, 0.25, 0.0, -0.25]


def test_another_number_of_folds_differs(compare):
    (cell,) = compare(accuracies(0.5, 0.75))
    assert (cell.verdict, cell.reason) == ("differs", "2 values are published, and 4 obtained")


def test_a_value_that_was_not_published_is_shown_without_comparison(compare):
    cells = compare(PublishedValue("test_accuracy", None))
    assert {(cell.verdict, cell.published, cell.reason) for cell in cells} == {
        ("not applicable", (), "no value is published")
    }
    assert len(cells) == 4


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"dataset": "simulated"}, "simulated data: nothing is published"),
        ({"subject": "3"}, "subject is 3, but the published values are of 1"),
        ({"contrast": "a_vs_c"}, "contrast is a_vs_c, but the published values are of a_vs_b"),
        ({"estimator": "lda"}, "estimator is lda, but the published values are of svc_liblinear"),
        ({"cv": "kfold5"}, "cv is kfold5, but the published values are of logo"),
    ],
)
def test_values_of_other_data_or_settings_are_not_applicable(compare, params, reason):
    cells = compare(accuracies(0.5, 0.75, 1.0, 0.25), **params)
    assert {(cell.verdict, cell.reason) for cell in cells} == {("not applicable", reason)}
    assert [cell.obtained for cell in cells] == [(0.5,), (0.75,), (1.0,), (0.25,)]


@pytest.mark.parametrize(
    "params",
    [{"estimator": "svc"}, {"engine": "nilearn"}, {"inference": "permutation"}, {"location": "data"}],
)
def test_the_same_problem_solved_in_another_way_is_compared(compare, params):
    assert {cell.verdict for cell in compare(accuracies(0.5, 0.75, 1.0, 0.25), **params)} == {"equal"}


def test_settings_of_the_file_take_the_places_of_those_of_the_section(compare):
    settings = DATA | {"contrast": "a_vs_c"}
    cells = compare(accuracies(0.5, 0.75, 1.0, 0.25), settings=settings, contrast="a_vs_c")
    assert {cell.verdict for cell in cells} == {"equal"}


def test_a_section_without_a_run_says_why(compare):
    (cell,) = compare(accuracies(0.5), run="the disk is full")
    assert (cell.verdict, cell.reason) == ("no run", "the disk is full")


def test_a_quantity_that_the_run_lacks_is_no_difference(compare):
    (cell,) = compare(PublishedValue("selected_accuracy", (0.5,), True))
    assert cell.verdict == "no value"
    assert "has no selected_accuracy" in cell.reason


def test_a_long_list_is_one_cell_with_its_largest_difference(compare, make_stored):
    run = make_stored([0.5] * 30, estimator="svc")
    published = [0.5] * 28 + [0.75, 0.375]
    (cell,) = compare(accuracies(*published, tolerance=1e-9), run)
    assert (cell.fold, cell.difference, cell.reason) == (None, -0.25, "2 of 30 values differ")


def test_runs_of_the_same_settings_have_no_difference(make_stored):
    run = make_stored(estimator="svc_liblinear")
    assert describe_difference(EXPECTED, run) == ""
