"""The hold-out of nilearn's introduction to decoding."""

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC

from harness.decoding.splitters import HoldOutLast


@pytest.mark.parametrize("n_samples, n_volumes", [(216, 30), (31, 30), (10, 1)])
def test_equals_the_slices_of_the_tutorial(n_samples, n_volumes):
    volumes = np.arange(n_samples)
    splitter = HoldOutLast(n_volumes)
    folds = list(splitter.split(np.zeros((n_samples, 3))))
    assert len(folds) == splitter.get_n_splits() == 1
    np.testing.assert_array_equal(volumes[folds[0][0]], volumes[:-n_volumes])
    np.testing.assert_array_equal(volumes[folds[0][1]], volumes[-n_volumes:])


def test_thirty_volumes_are_held_out_by_default():
    ((_, test),) = HoldOutLast().split(np.zeros(216))
    assert len(test) == 30


@pytest.mark.parametrize("n_volumes", [0, -1, 10, 11])
def test_number_of_held_out_volumes_is_checked(n_volumes):
    with pytest.raises(ValueError, match=rf"n_volumes={n_volumes} of 10 .*expected 1 to 9"):
        list(HoldOutLast(n_volumes).split(np.zeros(10)))


@pytest.mark.parametrize("n_volumes", [None, True, 1.5, "30", [30], {}])
def test_number_of_volumes_must_be_an_integer(n_volumes):
    with pytest.raises(ValueError, match="is not a whole number"):
        HoldOutLast(n_volumes)


def test_scikit_learn_accepts_the_splitter(rng):
    X, y = rng.normal(size=(40, 5)), np.tile([0, 1], 20)
    scores = cross_val_score(LinearSVC(), X, y, cv=HoldOutLast(8))
    assert scores.tolist() == [LinearSVC().fit(X[:-8], y[:-8]).score(X[-8:], y[-8:])]
