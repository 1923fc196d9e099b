"""A searchlight takes the first value of every parameter of the grid."""

import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from harness.decoding.estimator import Estimator
from harness.errors import UsageError
from harness.searchlight.nilearn_scorer import FirstMultiple
from harness.searchlight.parameters import fix_parameters
from harness.solvers.estimators import ExactLDA, ExactLinearSVC


def test_the_first_value_of_every_parameter_is_set():
    estimator = Estimator("ours", LinearSVC(), {"C": [3.0, 1.0], "tol": [1e-3]})
    model, notice = fix_parameters(estimator)
    assert (model.C, model.tol) == (3.0, 1e-3)
    assert "C=3.0, tol=0.001" in notice
    assert estimator.model.C == 1.0


@pytest.mark.parametrize("grid", [{}, {"C": [3.0]}])
def test_nothing_is_noticed_where_nothing_was_to_be_chosen(grid):
    model, notice = fix_parameters(Estimator("svc", ExactLinearSVC(), grid))
    assert model.C == (3.0 if grid else 1.0)
    assert notice is None


def test_an_estimator_without_a_grid_is_cloned():
    estimator = Estimator("lda", ExactLDA())
    model, _ = fix_parameters(estimator)
    assert isinstance(model, ExactLDA)
    assert model is not estimator.model


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        (LinearSVC(penalty="l1", dual=False), "squared_hinge"),
        (LogisticRegression(solver="liblinear", l1_ratio=1.0), "log"),
    ],
)
def test_multiples_of_the_smallest_c_are_left_to_every_training_set(model, loss):
    fixed, notice = fix_parameters(Estimator("l1", model, {"C": {"times_l1_min_c": [2, 20]}}))
    assert isinstance(fixed, FirstMultiple)
    assert (fixed.multiple, fixed.loss, fixed.parameter) == (2.0, loss, "C")
    assert "2 times its smallest value" in notice


def test_multiples_and_other_parameters_together_are_refused():
    grid = {"C": {"times_l1_min_c": [2]}, "tol": [1e-3]}
    with pytest.raises(UsageError, match="only if no other parameter varies"):
        fix_parameters(Estimator("l1", LinearSVC(penalty="l1", dual=False), grid))


def test_an_empty_grid_is_refused():
    with pytest.raises(UsageError, match=r"estimator\.grid\.C=\[\] has no values"):
        fix_parameters(Estimator("svc", ExactLinearSVC(), {"C": []}))
