"""Our stratified folds are scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from harness.solvers.folds import stratified_fold_ids


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.integers(2, 4), st.integers(0, 2**32 - 1), st.booleans())
def test_folds_are_scikit_learns(n_folds, n_classes, seed, in_blocks):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(n_classes), rng.integers(n_folds, 30, n_classes))
    y = np.array(["face", "cat", "house", "chair"])[codes if in_blocks else rng.permutation(codes)]
    folds = stratified_fold_ids(y, n_folds)
    for i, (train, test) in enumerate(StratifiedKFold(n_folds).split(y, y)):
        np.testing.assert_array_equal(np.flatnonzero(folds == i), test)
        np.testing.assert_array_equal(np.flatnonzero(folds != i), train)


def test_a_rare_class_is_warned_of_and_dealt_as_scikit_learn_deals_it():
    y = np.array([1, 1, -1, 1, 1, -1, 1, 1])
    with pytest.warns(UserWarning, match="least populated class has 2 samples, fewer than the 5 folds"):
        folds = stratified_fold_ids(y, 5)
    with pytest.warns(UserWarning, match="least populated class"):
        expected = [test for _, test in StratifiedKFold(5).split(y, y)]
    for i, test in enumerate(expected):
        np.testing.assert_array_equal(np.flatnonzero(folds == i), test)


def test_more_folds_than_samples_of_any_class_are_refused():
    with pytest.raises(ValueError, match="5 folds are more than the 3 samples of the largest class"):
        stratified_fold_ids([0, 1, 0, 1, 0, 1], 5)
