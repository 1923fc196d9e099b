"""Activation patterns find what is planted, against the closed forms of Haufe et al. (2014)."""

import numpy as np
import pytest
from sklearn.model_selection import LeaveOneGroupOut

from harness.datasets.haxby import Haxby
from harness.decoding.decode import decode
from harness.decoding.decoder import fit_decoder
from harness.decoding.estimator import Estimator
from harness.decoding.evaluation import Scoring
from harness.decoding.patterns import compute_patterns, standardise_samples
from harness.decoding.question import Question
from harness.decoding.splitters import Scheme
from harness.samples.contrasts import make_contrast
from harness.samples.samples import FoldPreprocessing, Roi
from harness.samples.signal import Signal
from harness.solvers.estimators import ExactLDA, ExactLinearSVC, ExactRidgeClassifierCV

LDA = Estimator("lda", ExactLDA())
LINEAR = [
    LDA,
    Estimator("svc", ExactLinearSVC(), {"C": [0.01, 1.0]}),
    Estimator("ridge", ExactRidgeClassifierCV([1.0, 100.0])),
]
LOGO = Scheme("logo", LeaveOneGroupOut())


def named(estimator):
    return estimator.name


@pytest.mark.parametrize("estimator", LINEAR, ids=named)
def test_pattern_of_a_suppressor_is_zero_where_its_weight_is_not(rng, estimator):
    """Haufe et al., section 2.1: voxel 0 is activation plus noise, voxel 1 the same noise alone."""
    runs, y = np.repeat(range(8), 100), np.tile(np.repeat(["a", "b"], 50), 8)
    label, noise = np.where(y == "b", 1.0, -1.0), rng.normal(size=800)
    noise -= label * (label @ noise) / 800  # uncorrelated with the classes, not only on average
    X = np.column_stack([label + noise, noise + 0.1 * rng.normal(size=800)]).astype(np.float32)
    folds = list(LeaveOneGroupOut().split(X, y, runs))
    preparation = FoldPreprocessing("own")
    decoder = fit_decoder(X, y, folds, estimator, "accuracy", preparation)
    (pattern,) = compute_patterns(standardise_samples(X, preparation), decoder.coef)
    (weights,) = decoder.coef
    assert weights[0] > 0
    assert weights[1] < -0.5 * weights[0]
    assert pattern[0] > 0
    assert abs(pattern[1]) < 0.1 * pattern[0]


def test_pattern_is_the_covariance_matrix_times_the_weights_over_the_variance_of_the_output(rng):
    X = rng.normal(3.0, 1.0, size=(50, 6)) @ rng.normal(size=(6, 6))
    coef = rng.normal(size=(3, 6))
    covariance = np.cov(X.T)
    for pattern, weights in zip(compute_patterns(X, coef), coef, strict=True):
        expected = covariance @ weights / (weights @ covariance @ weights)
        np.testing.assert_allclose(pattern, expected, rtol=1e-10)


def test_pattern_recovers_the_mixing_vector_of_the_forward_model(rng):
    """x = a s + noise: the best linear estimate of s has the weights Cov^-1 a, up to a factor."""
    a, source, mixing = rng.normal(size=5), rng.normal(size=20_000), rng.normal(size=(5, 5))
    X = np.outer(source, a) + rng.normal(size=(20_000, 5)) @ mixing
    covariance = np.outer(a, a) + mixing.T @ mixing  # of the population
    weights = np.linalg.solve(covariance, a)
    (pattern,) = compute_patterns(X, weights[np.newaxis])
    # Cov(x, s') / Var(s') with s' = w^T x is a / (a^T Cov^-1 a).
    expected = a / (a @ weights)
    standard_error = np.sqrt(np.diag(covariance) / (a @ weights) / 20_000)
    assert (np.abs(pattern - expected) < 5 * standard_error).all()


def test_decoder_without_any_weight_has_the_pattern_zero(rng):
    patterns = compute_patterns(rng.normal(size=(10, 3)), np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    assert patterns[0].tolist() == [0, 0, 0]
    assert patterns[1, 0] == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("zscore", "scaled"), [("own", True), ("train", True), (None, False)])
def test_samples_are_in_the_units_of_the_decoder(rng, zscore, scaled):
    """The decoder's own decision values are those of the standardised samples."""
    X = rng.normal(100, 7, size=(24, 4)).astype(np.float32)
    y, runs = np.tile(["a", "b"], 12), np.repeat(range(4), 6)
    preparation = FoldPreprocessing(zscore)
    folds = list(LeaveOneGroupOut().split(X, y, runs))
    decoder = fit_decoder(X, y, folds, LDA, "accuracy", preparation)
    Z = standardise_samples(X, preparation)
    expected = (X - X.mean(axis=0)) / X.std(axis=0, ddof=1) if scaled else X
    np.testing.assert_allclose(Z, expected, rtol=1e-4, atol=1e-4)
    decisions = Z @ decoder.coef[0] + decoder.intercept[0]
    np.testing.assert_allclose(decisions, decoder.decision_function(X), rtol=1e-5, atol=1e-5)


# In a run ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(tiny_subject):
    """Every condition has a voxel of its own, of a few standard deviations."""
    voxels = {"face": (0, 1, 2), "cat": (2, 3, 1), "house": (1, 1, 1)}
    data = tiny_subject(planted=voxels, effect=60)
    return voxels, Haxby(data).load(1)


def decode_planted(recording, conditions, estimator=LDA, signal=None, roi=None, engine="harness"):
    question = Question(
        make_contrast(list(conditions)),
        estimator,
        LOGO,
        signal=signal or Signal(),
        roi=roi or Roi(),
        scoring=Scoring(inner_folds=2),
        engine=engine,
    )
    return decode(recording, question)


@pytest.mark.parametrize("zscore", ["own", "run", "train", "none"])
def test_pattern_is_positive_where_the_first_class_activates(planted, zscore):
    voxels, recording = planted
    for conditions in (("face", "cat"), ("cat", "face")):
        (pattern,) = decode_planted(recording, conditions, signal=Signal(zscore=zscore)).patterns
        values = np.asarray(pattern.image.dataobj)
        first, second = (voxels[name] for name in conditions)
        assert np.unravel_index(values.argmax(), values.shape) == first
        assert np.unravel_index(values.argmin(), values.shape) == second
        assert values[first] > 0 > values[second]
        assert (pattern.positive, pattern.negative) == conditions
        assert pattern.name == "_vs_".join(conditions)


def test_swapping_the_classes_flips_the_pattern(planted):
    _, recording = planted
    one, other = (decode_planted(recording, names).patterns[0] for names in (TWO, TWO[::-1]))
    np.testing.assert_array_equal(np.asarray(one.image.dataobj), -np.asarray(other.image.dataobj))


TWO = ("face", "cat")


def test_three_classes_have_a_pattern_each(planted):
    voxels, recording = planted
    patterns = decode_planted(recording, ("house", "cat", "face")).patterns
    assert [pattern.positive for pattern in patterns] == ["house", "cat", "face"]
    for pattern in patterns:
        values = np.asarray(pattern.image.dataobj)
        assert np.unravel_index(values.argmax(), values.shape) == voxels[pattern.positive]
        assert pattern.negative == "the rest"


@pytest.mark.slow
def test_pattern_of_nilearns_decoder_is_the_same(planted):
    _, recording = planted
    ours, theirs = (
        decode_planted(recording, TWO, estimator=LINEAR[2], engine=engine).patterns[0]
        for engine in ("harness", "nilearn")
    )
    np.testing.assert_allclose(ours.image.dataobj, theirs.image.dataobj, rtol=1e-4, atol=1e-6)


def test_pattern_has_the_grid_of_the_mask_and_zeros_outside(planted):
    _, recording = planted
    decoding = decode_planted(recording, TWO)
    (pattern,) = decoding.patterns
    inside = np.asarray(pattern.image.dataobj) != 0
    np.testing.assert_array_equal(inside, decoding.samples.grid.mask)
    np.testing.assert_array_equal(pattern.image.affine, decoding.samples.grid.affine)
