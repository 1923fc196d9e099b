"""The test of patterns against loops over all relabellings, on planted effects and on noise."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from scipy.stats import binom

from harness.datasets.haxby import Haxby
from harness.inference import pattern_maps
from harness.inference.pattern_maps import compare_patterns, map_pattern_p
from harness.samples.contrasts import make_contrast
from harness.samples.samples import Roi, load_samples
from harness.samples.signal import Signal

N_RUNS, BLOCK = 5, 4
RUNS = np.repeat(range(N_RUNS), 2 * BLOCK)
LABELS = np.tile(np.repeat([1.0, -1.0], BLOCK), N_RUNS)


def relabel(n_runs=N_RUNS, runs=RUNS, labels=LABELS, merged=True):
    """Return the label vectors of all exchanges of two blocks in a run; if merged, without mirror images."""
    signs = [(1, *rest) for rest in product((1, -1), repeat=n_runs - 1)]
    if not merged:
        signs += [tuple(-sign for sign in flips) for flips in signs]
    return np.array([labels * np.array(flips)[runs] for flips in signs])


def decide(X, labels, penalty=10.0):
    """Return the decision values of ridge regression on its own training samples, and the labels."""
    Z = X - X.mean(axis=0)
    K = Z @ Z.T
    decisions = labels @ np.linalg.solve(K + penalty * np.eye(len(X)), K)
    return decisions[:, np.newaxis], labels[:, np.newaxis]


def loop(X, decisions, labels, problem, pooled=()):
    """Return z, p and corrected p of one problem, in plain loops; `pooled` problems have the same null."""
    problems = list(pooled) or [problem]
    T = []
    for row, y in zip(decisions, labels, strict=True):
        for k in problems:
            slope, intercept = np.polyfit(row[k], y[k], 1)
            T.append([np.cov(voxel, intercept + slope * row[k])[0, 1] for voxel in X.T])
    T = np.array(T) - np.mean(T, axis=0)
    T /= np.sqrt((T.var(axis=0) + np.median(T.var(axis=0))) / 2)
    z, null = T[problems.index(problem)], np.abs(T)
    p = [np.mean(null[:, v] >= abs(z[v]) - 1e-9) for v in range(X.shape[1])]
    p_fwe = [np.mean(null.max(axis=1) >= abs(z[v]) - 1e-9) for v in range(X.shape[1])]
    return z, p, p_fwe


def simulate_three(rng, n_rows, n_samples):
    """Return decision values and labels of three classes against the rest."""
    codes = rng.integers(0, 3, size=(n_rows, n_samples))
    labels = np.where(codes[:, np.newaxis] == np.arange(3)[:, np.newaxis], 1.0, -1.0)
    return rng.normal(size=labels.shape) + 0.5 * labels, labels


def check(test, problem, expected):
    z, p, p_fwe = expected
    np.testing.assert_allclose(test.z[problem], z, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(test.p[problem], p)
    np.testing.assert_allclose(test.p_fwe[problem], p_fwe, rtol=0, atol=1e-15)


@pytest.fixture(name="X")
def noise(rng):
    return rng.normal(size=(len(LABELS), 7)) + RUNS[:, np.newaxis] * 0.3


def test_mirror_images_that_count_once_are_part_of_the_null_distribution(X):
    merged, every = (decide(X, relabel(merged=merged)) for merged in (True, False))
    expected = loop(X, *every, 0)
    check(compare_patterns(X, *merged, renamings_merged=True), 0, expected)
    check(compare_patterns(X, *every, renamings_merged=False), 0, expected)
    assert len(set(expected[1])) > 3


def test_it_does_not_matter_which_of_two_mirror_images_is_computed(X, rng):
    computed = decide(X, relabel())
    signs = np.concatenate([[1], rng.choice([-1, 1], size=len(computed[0]) - 1)])[:, None, None]
    other = [values * signs for values in computed]
    one, two = (compare_patterns(X, *each, renamings_merged=True) for each in (computed, other))
    np.testing.assert_allclose(one.z, two.z, rtol=1e-12)
    np.testing.assert_array_equal(one.p, two.p)
    np.testing.assert_array_equal(one.p_fwe, two.p_fwe)


def test_relabellings_without_mirror_images_are_centred_by_their_mean(X, rng):
    # Three blocks in a run, two of one class: there is no mirror image.
    runs, labels = np.repeat(range(3), 12), np.tile(np.repeat([1.0, -1.0, 1.0], 4), 3)
    places = list(product(range(3), repeat=3))
    every = []
    for odd in [(1, 1, 1), *[place for place in places if place != (1, 1, 1)]]:
        y = np.ones(36)
        for run, block in enumerate(odd):
            y[12 * run + 4 * block : 12 * run + 4 * block + 4] = -1
        every.append(y)
    np.testing.assert_array_equal(every[0], labels)
    X = rng.normal(size=(36, 5)) + runs[:, np.newaxis]
    computed = decide(X, np.array(every))
    check(compare_patterns(X, *computed, renamings_merged=False), 0, loop(X, *computed, 0))


def test_renamings_of_three_classes_pool_their_problems(X, rng):
    computed = simulate_three(rng, 6, len(X))
    orders = list(permutations(range(3)))
    renamed = [np.concatenate([values[:, order] for order in orders]) for values in computed]
    test = compare_patterns(X, *computed, renamings_merged=True)
    for problem in range(3):
        check(test, problem, loop(X, *computed, problem, pooled=range(3)))
        # The same as all renamings one by one.
        check(test, problem, loop(X, *renamed, problem))


def test_three_classes_whose_renamings_differ_are_tested_one_by_one(X, rng):
    computed = simulate_three(rng, 20, len(X))
    test = compare_patterns(X, *computed, renamings_merged=False)
    for problem in range(3):
        check(test, problem, loop(X, *computed, problem))


def test_chunks_of_voxels_give_the_same_result(X, monkeypatch):
    computed = decide(X, relabel())
    whole = compare_patterns(X, *computed, renamings_merged=True)
    for n_bytes in (1, 2 * 8 * 16, 3 * 8 * 16):
        monkeypatch.setattr(pattern_maps, "CHUNK_BYTES", n_bytes)
        parts = compare_patterns(X, *computed, renamings_merged=True)
        np.testing.assert_allclose(parts.z, whole.z, rtol=1e-12)
        np.testing.assert_array_equal(parts.p, whole.p)
        np.testing.assert_array_equal(parts.p_fwe, whole.p_fwe)


def test_voxels_that_do_not_vary_are_never_significant(X):
    X[:, 2] = 0.1
    test = compare_patterns(X, *decide(X, relabel()), renamings_merged=True)
    assert (test.z[0, 2], test.p[0, 2], test.p_fwe[0, 2]) == (0, 1, 1)
    outputs, labels = np.full((16, 1, len(X)), 0.3), relabel()[:, np.newaxis]
    constant = compare_patterns(X, outputs, labels, renamings_merged=True)
    assert (constant.z == 0).all()
    assert (constant.p == 1).all()
    assert (constant.p_fwe == 1).all()


def test_scale_and_offset_of_outputs_do_not_matter(X, rng):
    decisions, labels = decide(X, relabel())
    scaled = decisions * rng.uniform(0.1, 10, size=(len(decisions), 1, 1)) + 3
    one, two = (compare_patterns(X, each, labels, renamings_merged=True) for each in (decisions, scaled))
    np.testing.assert_allclose(one.z, two.z, rtol=1e-9)
    np.testing.assert_array_equal(one.p_fwe, two.p_fwe)


def test_planted_voxel_is_significant_and_its_suppressor_is_not(rng):
    """Voxel 0 is activation and noise, voxel 1 the same noise: the decoder needs it, the classes do not."""
    n_runs = 8
    runs, labels = np.repeat(range(n_runs), 8), np.tile(np.repeat([1.0, -1.0], 4), n_runs)
    X = rng.normal(size=(64, 10))
    noise = rng.normal(size=64)
    noise -= np.repeat(noise.reshape(-1, 4).mean(axis=1), 4)  # the same mean in every block
    X[:, 0], X[:, 1] = labels + 2 * noise, 2 * noise
    computed = decide(X, relabel(n_runs, runs, labels), penalty=1.0)
    test = compare_patterns(X, *computed, renamings_merged=True)
    Z = X - X.mean(axis=0)
    weights = np.linalg.solve(Z.T @ Z + np.eye(10), Z.T @ labels)
    assert abs(weights[1]) > 0.5 * abs(weights[0])
    assert test.p_fwe[0, 0] == 1 / 2**7
    assert test.z[0, 0] > 0
    assert (test.p_fwe[0, 1:] > 0.05).all()


def test_shapes_that_do_not_fit_are_refused(X):
    with pytest.raises(ValueError, match=r"must have the shape \(n_relabellings, n_problems, 40\), got"):
        compare_patterns(X, np.zeros((16, len(X))), np.zeros((16, len(X))), renamings_merged=True)


@pytest.mark.slow
def test_noise_is_significant_as_often_as_it_may_be():
    """Autocorrelated noise, smooth over voxels: rate of any corrected p up to .05, of 300 data sets."""
    rng = np.random.default_rng(5)
    runs, labels = np.repeat(range(7), 12), np.tile(np.repeat([1.0, -1.0], 6), 7)
    every = relabel(7, runs, labels)
    n_sets, found = 300, 0
    for _ in range(n_sets):
        noise = rng.normal(size=(7, 12, 40))
        for t in range(1, 12):
            noise[:, t] = 0.7 * noise[:, t - 1] + noise[:, t]
        X = gaussian_filter1d(noise.reshape(84, 40), 1.5, axis=1)
        X = (X - X.mean(axis=0)) / X.std(axis=0)
        order = every * rng.choice([-1, 1], size=7)[runs]  # the true order is one of those equally likely
        found += bool((compare_patterns(X, *decide(X, order), renamings_merged=True).p_fwe <= 0.05).any())
    level = 3 / 64  # the largest p-value of 64 relabellings up to .05
    assert binom.ppf(0.0005, n_sets, level) <= found <= binom.ppf(0.9995, n_sets, level)


@pytest.mark.parametrize("conditions", [("face", "cat"), ("cat", "face")], ids="_".join)
def test_images_have_the_sign_of_the_class_that_they_name(tiny_subject, conditions):
    """Decision values are positive for the second class in alphabetical order: face."""
    recording = Haxby(tiny_subject(planted={"face": (1, 2, 2)}, n_runs=6)).load(1)
    samples = load_samples(recording, make_contrast(list(conditions)), Roi(), Signal())
    X = (samples.X - samples.X.mean(axis=0)) / samples.X.std(axis=0)
    labels = relabel(6, samples.runs, np.where(samples.y == "face", 1.0, -1.0))
    decisions, _ = decide(X, labels)
    names = np.where(labels > 0, "face", "cat")
    (found,) = map_pattern_p(samples, decisions, names, renamings_merged=True)
    z, p, p_fwe = (np.asarray(image.dataobj) for image in (found.z, found.p, found.p_fwe))
    assert (found.name, found.positive, found.negative) == ("_vs_".join(conditions), *conditions)
    assert (z[1, 2, 2] > 0) == (conditions[0] == "face")
    assert np.unravel_index(np.abs(z).argmax(), z.shape) == (1, 2, 2)
    assert p_fwe[1, 2, 2] == np.float32(1 / 32)
    mask = samples.grid.mask
    assert (z[~mask] == 0).all()
    assert (p[~mask] == 1).all()
    assert (p_fwe[~mask] == 1).all()
    assert (p_fwe[mask] >= p[mask]).all()
    assert all(isinstance(image, nib.Nifti1Image) for image in (found.z, found.p, found.p_fwe))
