"""The values of voxels in folds, standardised as for the test scores of a decoding."""

import numpy as np
import pytest

from harness.decoding.decoder import TrainingMoments
from harness.samples.contrasts import make_contrast
from harness.samples.samples import FoldPreprocessing, Samples
from harness.samples.signal import zscore
from harness.searchlight.fold_samples import prepare_fold_samples

FOLDS = [
    (np.arange(4, 20), np.arange(4)),
    (np.r_[0:4, 9:20], np.arange(4, 9)),
    (np.arange(9), np.arange(9, 20)),
]
COLUMNS = np.array([[0, 2, 5], [1, 2, 3]])


@pytest.fixture
def make_samples(rng):
    def make(how, dtype=np.float32):
        X = (rng.normal(size=(20, 6)) * 20 + 1000).astype(dtype)
        X[:4, 2] = 700.1  # constant in a held-out set
        y = np.tile(["cat", "face"], 10)
        every = np.arange(20)
        return Samples(
            X, y, every // 5, y, every, every, make_contrast(["cat", "face"]), FoldPreprocessing(how)
        )

    return make


def expected_values(how, X, train, test):
    match how:
        case "own":
            return zscore(X[train]), zscore(X[test])
        case "train":
            moments = TrainingMoments.of(X[train])
            return moments(X[train]), moments(X[test])
    return X[train], X[test]


@pytest.mark.parametrize("how", ["own", "train", None])
@pytest.mark.parametrize("columns", [COLUMNS[0], COLUMNS], ids=["one sphere", "two spheres"])
def test_values_are_standardised_as_for_test_scores(make_samples, how, columns):
    samples = make_samples(how)
    prepared = prepare_fold_samples(samples, FOLDS)
    X = samples.X.astype(np.float64)
    for fold, (train, test) in enumerate(FOLDS):
        training, held_out = expected_values(how, X, train, test)
        expected = np.moveaxis(training[:, columns], 0, -2), np.moveaxis(held_out[:, columns], 0, -2)
        np.testing.assert_allclose(prepared.training(fold, columns), expected[0], rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(prepared.held_out(fold, columns), expected[1], rtol=1e-10, atol=1e-10)


def test_samples_are_not_changed(make_samples):
    samples = make_samples("own", np.float64)
    samples = Samples(**{**vars(samples), "X": np.asfortranarray(samples.X)})
    before = samples.X.copy()
    prepare_fold_samples(samples, FOLDS)
    assert np.array_equal(samples.X, before)


@pytest.mark.parametrize("how", ["own", "train", None])
def test_values_do_not_depend_on_the_other_spheres(make_samples, how):
    prepared = prepare_fold_samples(make_samples(how), FOLDS)
    columns = np.arange(6)[:, None]
    for fold in range(3):
        for values in (prepared.training, prepared.held_out):
            together = values(fold, columns)
            for number in range(6):
                assert np.array_equal(values(fold, columns[number : number + 1])[0], together[number])
