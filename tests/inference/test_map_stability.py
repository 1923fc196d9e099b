"""Agreement of maps of disjoint halves: against plain loops, on a planted effect, and on noise."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import RidgeClassifier
from sklearn.svm import LinearSVC

from harness.decoding.estimator import Estimator
from harness.errors import DesignError
from harness.inference.map_stability import choose_rows, measure_stability, split_runs
from harness.samples.contrasts import make_contrast
from harness.samples.samples import FoldPreprocessing
from harness.solvers.estimators import ExactLDA, ExactRidgeClassifierCV

N_RUNS, BLOCK = 6, 4
RUNS = np.repeat(range(N_RUNS), 2 * BLOCK)
TRUE = np.tile(np.repeat(["a", "b"], BLOCK), N_RUNS)
RIDGE = Estimator("ridge", ExactRidgeClassifierCV([10.0]))
OWN = FoldPreprocessing("own")


def relabel(runs=RUNS, true=TRUE):
    """Return all exchanges of the two blocks of a run, without mirror images; the true order is the first."""
    n_runs = len(np.unique(runs))
    swapped = np.where(true == "a", "b", "a")
    for flips in product((False, True), repeat=n_runs - 1):
        yield np.where(np.array([False, *flips])[runs], swapped, true)


@pytest.fixture
def noise(rng, make_samples):
    return make_samples(rng.normal(size=(48, 30)), TRUE, RUNS, make_contrast(["a", "b"]), OWN)


def fit_half(X, y, runs):
    """Return mean weights over leave-one-run-out folds, and the pattern, with scikit-learn and numpy."""
    Z = (X - X.mean(axis=0)) / X.std(axis=0, ddof=1)
    weights = np.mean(
        [
            RidgeClassifier(alpha=10.0).fit(Z[runs != run], y[runs != run] == "b").coef_.ravel()
            for run in np.unique(runs)
        ],
        axis=0,
    )
    covariance = np.cov(Z.T)
    return weights, covariance @ weights / (weights @ covariance @ weights)


def test_correlations_are_those_of_maps_fitted_to_the_halves_in_plain_loops(noise):
    labellings = list(relabel())[:3]
    found = measure_stability(noise, labellings, RIDGE, "accuracy", n_splits=3)
    X = noise.X.astype(float)
    for row, y in enumerate(labellings):
        of_weights, of_patterns = [], []
        for halves in split_runs(RUNS, 3):
            (w, a), (other_w, other_a) = (fit_half(X[rows], y[rows], RUNS[rows]) for rows in halves)
            of_weights.append(np.corrcoef(w, other_w)[0, 1])
            of_patterns.append(np.corrcoef(a, other_a)[0, 1])
        assert found.weights[row] == pytest.approx(np.mean(of_weights), abs=1e-6)
        assert found.patterns[row] == pytest.approx(np.mean(of_patterns), abs=1e-6)
    assert found.n_splits == 3


def test_halves_share_no_run_and_are_balanced():
    for n_runs, n_expected in {4: 3, 5: 4, 6: 4, 12: 4, 13: 4}.items():
        runs = np.repeat(np.arange(n_runs) * 2 + 1, 3)
        splits = split_runs(runs)
        assert len(splits) == n_expected
        seen = set()
        for halves in splits:
            one, other = (frozenset(runs[rows].tolist()) for rows in halves)
            assert not one & other
            assert one | other == set(runs.tolist())
            assert abs(len(one) - len(other)) <= n_runs % 2
            seen.add(frozenset([one, other]))
        assert len(seen) == len(splits)
        again = split_runs(runs)
        assert [one.tolist() for one, _ in splits] == [one.tolist() for one, _ in again]


def test_all_splits_of_five_runs_are_found():
    assert len({tuple(one.tolist()) for one, _ in split_runs(np.arange(5), 10)}) == 10


def test_renaming_the_classes_changes_nothing(noise):
    mirror = np.where(TRUE == "a", "b", "a")
    found = measure_stability(noise, [TRUE, mirror], RIDGE, "accuracy")
    assert found.weights[0] == pytest.approx(found.weights[1], abs=1e-12)
    assert found.patterns[0] == pytest.approx(found.patterns[1], abs=1e-12)


def test_planted_activation_is_stable(rng, make_samples):
    X = rng.normal(size=(48, 30))
    X[:, :5] += np.where(TRUE == "a", 1.0, -1.0)[:, np.newaxis] * [1, -1, 1, -1, 1]
    samples = make_samples(X, TRUE, RUNS, make_contrast(["a", "b"]), OWN)
    found = measure_stability(samples, relabel(), RIDGE, "accuracy", n_splits=1)
    assert len(found.weights) == 32
    assert found.patterns[0] > 0.5
    assert found.p_patterns == found.p_weights == 1 / 32


def test_maps_of_noise_agree_no_more_than_chance_although_those_of_folds_do(noise):
    found = measure_stability(noise, relabel(), RIDGE, "accuracy", n_splits=2)
    standard_error = found.patterns.std() / np.sqrt(len(found.patterns))
    assert abs(found.patterns.mean()) < 4 * standard_error
    # Weights of two folds of leave-one-run-out on the same noise.
    X = noise.X.astype(float)
    folds = [fit_half(X[RUNS != run], TRUE[RUNS != run], RUNS[RUNS != run])[0] for run in (0, 1)]
    assert np.corrcoef(*folds)[0, 1] > 0.7


def test_parameters_are_chosen_again_in_every_half(make_samples, rng):
    """The decoder of a half has the values of C that leaving its runs out chooses."""
    samples = make_samples(rng.normal(size=(48, 5)), TRUE, RUNS, make_contrast(["a", "b"]), OWN)
    seen = []

    def spy(X, y, folds, estimator, scorer, preparation):
        from harness.decoding.decoder import fit_decoder

        seen.append((len(X), folds))
        return fit_decoder(X, y, folds, estimator, scorer, preparation)

    svc = Estimator("svc", LinearSVC(random_state=0, max_iter=100_000), {"C": [0.01, 1.0]})
    measure_stability(samples, [TRUE], svc, "accuracy", n_splits=1, fit=spy)
    assert [n for n, _ in seen] == [24, 24]
    for _, folds in seen:
        assert [len(test) for _, test in folds] == [8, 8, 8]
        assert all(not set(train) & set(test) for train, test in folds)


def test_three_classes_average_over_their_problems(make_samples, rng):
    y = np.tile(["a", "b", "c", "a"], 12)
    samples = make_samples(rng.normal(size=(48, 9)), y, RUNS, make_contrast(["a", "b", "c"]), OWN)
    found = measure_stability(samples, [y], Estimator("lda", ExactLDA()), "accuracy", n_splits=1)
    assert found.weights.shape == (1,)
    assert -1 < found.weights[0] < 1
    assert found.p_weights == 1


def test_designs_without_two_runs_per_half_are_refused(make_samples, rng):
    with pytest.raises(DesignError, match=r"needs at least 4 scanner runs, two per half, but there are 3"):
        split_runs(np.repeat(range(3), 4))
    y = np.repeat(["a", "b"], 12)  # every run has one class
    samples = make_samples(rng.normal(size=(24, 3)), y, np.repeat(range(4), 6), make_contrast(["a", "b"]))
    with pytest.raises(DesignError, match=r"maps: run 0, 1: this half of the scanner runs has no 'b'"):
        measure_stability(samples, [y], RIDGE, "accuracy")
    with pytest.raises(DesignError, match="estimator=dummy has no weights"):
        measure_stability(samples, [y], Estimator("dummy", DummyClassifier()), "accuracy")


def test_some_relabellings_are_drawn_where_there_are_many():
    assert choose_rows(150) == list(range(150))
    rows = choose_rows(2048)
    assert rows[0] == 0
    assert len(set(rows)) == len(rows) == 200
    assert max(rows) < 2048
    assert rows == choose_rows(2048)
    assert np.mean(np.array(rows) > 1024) == pytest.approx(0.5, abs=0.15)  # four standard errors


@pytest.mark.slow
def test_noise_is_as_stable_as_its_relabellings(make_samples):
    rng = np.random.default_rng(8)
    n_sets, level = 60, 3 / 32
    p_values = []
    for _ in range(n_sets):
        noise = rng.normal(size=(N_RUNS, 2 * BLOCK, 20))
        for t in range(1, 2 * BLOCK):
            noise[:, t] += 0.7 * noise[:, t - 1]
        samples = make_samples(noise.reshape(48, 20), TRUE, RUNS, make_contrast(["a", "b"]), OWN)
        found = measure_stability(samples, relabel(), RIDGE, "accuracy", n_splits=2)
        p_values.append((found.p_weights, found.p_patterns))
    for column in np.array(p_values).T:
        assert binom.ppf(0.0005, n_sets, level) <= (column <= 0.1).sum() <= binom.ppf(0.9995, n_sets, level)
