"""Arguments of classifiers are checked before any data are read."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegressionCV
from sklearn.svm import LinearSVC

from harness.decoding.estimator import Estimator
from harness.errors import UsageError


@pytest.mark.parametrize(
    ("model", "grid"),
    [
        # liblinear would never end.
        (
            LogisticRegressionCV(
                Cs=[np.nan],
                solver="liblinear",
                l1_ratios=(0,),
                use_legacy_attributes=False,
                scoring="neg_log_loss",
            ),
            {},
        ),
        (LinearSVC(), {"C": [1.0, np.nan]}),
        (LinearSVC(C=np.nan), {}),
    ],
)
def test_nan_is_refused(model, grid):
    with pytest.raises(UsageError, match=r"C.*nan"):
        Estimator("mine", model, grid)


def test_infinite_penalty_is_accepted():
    model = LogisticRegressionCV(
        Cs=[1.0, np.inf], solver="lbfgs", l1_ratios=(0,), use_legacy_attributes=False, scoring="neg_log_loss"
    )
    assert Estimator("mine", model).model.Cs == [1.0, np.inf]
