"""The permutation test, against reference values and brute force."""

import os
import signal
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, LeaveOneGroupOut, StratifiedKFold

from harness.decoding.decode import decode
from harness.decoding.estimator import Estimator
from harness.decoding.evaluation import Scoring
from harness.decoding.question import Question
from harness.decoding.splitters import Scheme
from harness.errors import DesignError, HarnessError
from harness.inference import null_scores
from harness.inference.chunked_work import format_duration
from harness.inference.null_scores import RelabelledAnalysis
from harness.inference.permutation import estimate_seconds, run_permutation_test
from harness.inference.settings import PermutationSettings
from harness.samples.contrasts import make_contrast
from harness.samples.samples import FoldPreprocessing, Samples
from harness.solvers.estimators import ExactLDA, ExactLinearSVC, ExactRidgeClassifierCV

FORCED = PermutationSettings(force=True)
LOGO = Scheme("logo", LeaveOneGroupOut())
RIDGE = Estimator("ridge", RidgeClassifier(alpha=10))
EXACT_RIDGE = Estimator("exact", ExactRidgeClassifierCV(alphas=(10.0,)))
TWO = ["AB", "BA", "AB", "BA", "AB", "BA"]
SIX = [*TWO, "AB", "BA"]  # 128 distinct relabellings


def ask(samples, estimator=EXACT_RIDGE, scheme=LOGO, scoring=None):
    return Question(samples.contrast, estimator, scheme, scoring=scoring or Scoring(inner="runs"))


def compute(samples, question, decode, settings=FORCED, **options):
    return run_permutation_test(
        samples, question, settings, decode(samples, question).mean_scores(), **options
    )


@pytest.fixture(scope="module")
def toy(statistics):
    """The toy recording of the reference values, as samples, and the reference values."""
    case = statistics["enumerated_test"]
    y, runs = np.array(case["y"]), np.array(case["runs"])
    samples = Samples(
        X=np.array(case["X"], dtype=np.float32),
        y=y,
        runs=runs,
        conditions=y,
        volumes=np.arange(len(y)) * 5,
        blocks=np.array(case["blocks"]),
        contrast=make_contrast(["face", "cat"]),
        preparation=FoldPreprocessing(),
    )
    return samples, case


@pytest.mark.parametrize(
    "estimator", [pytest.param(RIDGE, marks=pytest.mark.slow), EXACT_RIDGE], ids=["repeated", "together"]
)
@pytest.mark.parametrize("scorer", ["accuracy", "roc_auc"])
def test_the_reference_test_is_reproduced(toy, decode_plain, estimator, scorer):
    samples, case = toy
    inner = {"inner_folds": 2} if estimator is RIDGE else {"inner": "runs"}
    question = ask(samples, estimator, scoring=Scoring(select=scorer, report=(scorer,), **inner))
    found = compute(samples, question, decode_plain)
    expected = case["expected"]
    column = f"selected_{scorer}"
    assert found.p_values[column] == expected[f"p_{scorer}"]
    assert (found.n_distinct, found.method) == (expected["n_distinct"], "enumerated")
    assert 1 / found.n_distinct == expected["smallest_possible_p"]
    reference = sorted(relabelling[scorer] for relabelling in case["relabellings"])
    np.testing.assert_allclose(np.sort(found.scores[column]), reference, atol=1e-12)
    assert found.scores[column][0] == pytest.approx(case["relabellings"][0][scorer])


def brute_force_p(samples, scorer):
    """Return the share of ALL labellings that score as high, by scikit-learn and nothing of the harness."""
    _, first, block = np.unique(samples.blocks, return_index=True, return_inverse=True)
    runs, blocks = samples.runs[first], samples.y[first]
    orders = [sorted(set(permutations(blocks[runs == run].tolist()))) for run in np.unique(runs)]
    scores = []
    for labelling in product(*orders):
        y = np.array([name for order in labelling for name in order])[block]
        folds = []
        for run in np.unique(samples.runs):
            train, test = samples.runs != run, samples.runs == run
            model = RidgeClassifier(alpha=10).fit(samples.X[train].astype(float), y[train])
            decision = model.decision_function(samples.X[test].astype(float))
            right = (model.predict(samples.X[test].astype(float)) == y[test]).mean()
            folds.append(right if scorer == "accuracy" else roc_auc_score(y[test] == "B", decision))
        scores.append((np.mean(folds), tuple(y.tolist())))
    (true,) = [score for score, y in scores if y == tuple(samples.y.tolist())]
    return np.mean([score >= true - 1e-10 for score, _ in scores])


@pytest.mark.parametrize(
    "runs",
    [["AB", "BA", "AB", "BA"], pytest.param(["AABB", "ABBA", "BAB"], marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("scorer", ["accuracy", "roc_auc"])
def test_enumerated_p_equals_brute_force(make_design, decode_plain, runs, scorer):
    samples = make_design(runs, 3, seed=4, n_voxels=5)
    scoring = Scoring(select=scorer, report=(scorer,), inner="runs")
    found = compute(samples, ask(samples, scoring=scoring), decode_plain)
    assert found.p_values[f"selected_{scorer}"] == pytest.approx(brute_force_p(samples, scorer), abs=1e-12)


@pytest.mark.slow
def test_random_relabellings_agree_with_the_enumeration(make_design, decode_plain):
    samples = make_design(TWO, 3, seed=3)
    question = ask(samples)
    every = compute(samples, question, decode_plain)
    drawn = compute(samples, question, decode_plain, replace(FORCED, limit=10, n=400))
    assert (drawn.method, drawn.n_computed, drawn.n_distinct) == ("random", 401, 32)
    for name, p in every.p_values.items():
        assert 0.03 < p < 0.97
        assert abs(drawn.p_values[name] - p) < 4 * np.sqrt(p * (1 - p) / 400)
        assert drawn.p_values[name] * 401 == pytest.approx(round(drawn.p_values[name] * 401))
        np.testing.assert_allclose(drawn.band(name)[0], every.band(name)[0], atol=0.05)


def test_a_planted_effect_is_found_and_its_opposite_is_not(make_design, decode_plain):
    samples = make_design(TWO, 3, n_voxels=6)
    X = samples.X + 4 * (samples.y == "A")[:, np.newaxis]
    found = compute(replace(samples, X=X), ask(samples), decode_plain)
    assert found.primary == "test_roc_auc"
    assert found.p_values["test_roc_auc"] == 1 / 32
    assert found.lower_shares["test_roc_auc"] == 1.0
    mean, high = found.band("test_roc_auc")
    assert mean == pytest.approx(found.scores["test_roc_auc"].mean())
    assert mean < high < 1


def test_columns_and_decision_values_are_those_of_the_run(make_design, decode_plain):
    samples = make_design(TWO, 3, n_voxels=6, preparation=FoldPreprocessing(zscore="own"))
    observed = decode_plain(samples, ask(samples))
    found = run_permutation_test(samples, ask(samples), FORCED, observed.mean_scores())
    means = observed.summarise()["mean"]
    assert list(found.scores) == list(means.index)
    np.testing.assert_allclose(found.scores.iloc[0], means, atol=1e-12)
    assert found.decisions.shape == (32, 1, len(samples.y))
    expected = observed.decoder.decision_function(samples.X)
    np.testing.assert_allclose(found.decisions[0, 0], expected, atol=1e-9)


def test_the_primary_score_is_the_selected_scorer_if_it_is_reported(make_design, decode_plain):
    samples = make_design(TWO, 3)
    for select, report, primary in (
        ("accuracy", ("roc_auc", "accuracy"), "test_accuracy"),
        ("accuracy", ("roc_auc",), "test_roc_auc"),
    ):
        question = ask(samples, scoring=Scoring(select=select, report=report, inner="runs"))
        assert compute(samples, question, decode_plain).primary == primary


@pytest.mark.slow
def test_folds_that_depend_on_labels_are_made_anew(make_design, decode_plain):
    samples = make_design(["ABBA", "BAAB", "ABAB"], 2, n_voxels=4)
    scheme = Scheme("stratified", StratifiedKFold(5))
    question = ask(samples, scheme=scheme, scoring=Scoring(report=("accuracy",), inner_folds=2))
    found = compute(samples, question, decode_plain)
    splits = {
        tuple(tuple(test.tolist()) for _, test in scheme.splitter.split(samples.X, y))
        for y in (samples.y, np.roll(samples.y, 2))
    }
    assert len(splits) == 2  # another labelling, other folds
    assert found.n_computed == found.n_distinct == 108
    assert any("splits blocks" in text for text in found.cautions)


def test_schemes_that_keep_blocks_whole_get_no_caution(make_design, decode_plain):
    samples = make_design(["AB", "BA", "AB", "BA"], 4)
    assert not any("splits blocks" in text for text in compute(samples, ask(samples), decode_plain).cautions)
    uneven = ask(samples, scheme=Scheme("kfold", KFold(3)))
    assert any("splits blocks" in text for text in compute(samples, uneven, decode_plain).cautions)


class FirstClassRidge(RidgeClassifier):
    """A ridge classifier whose intercept favours the first class."""

    def fit(self, X, y):
        super().fit(X, y)
        self.intercept_ = self.intercept_ - 0.4
        return self


@pytest.mark.slow
def test_an_estimator_that_favours_a_class_gets_all_relabellings(make_design, decode_plain):
    samples = make_design(["AB", "BA", "AB", "BA"], 3)
    scoring = Scoring(report=("accuracy",), inner_folds=2)
    question = ask(samples, Estimator("own", FirstClassRidge()), scoring=scoring)
    assert compute(samples, question, decode_plain).n_computed == 16
    alike = ask(samples, RIDGE, scoring=scoring)
    assert compute(samples, alike, decode_plain).n_computed == 8


def test_a_dummy_gets_no_p_value(make_design, decode_plain):
    samples = make_design(TWO, 3)
    dummy = Estimator("dummy", DummyClassifier(strategy="most_frequent"))
    with pytest.raises(DesignError, match="predicts from the labels alone"):
        compute(samples, ask(samples, dummy), decode_plain)


def test_scores_that_cannot_be_reproduced_are_refused(make_design, decode_plain):
    samples = make_design(TWO, 3)
    question = ask(samples)
    observed = decode_plain(samples, question)
    observed.folds["test_accuracy"] += 1e-6
    with pytest.raises(HarnessError, match=r"test_accuracy = .* but the run has"):
        run_permutation_test(samples, question, FORCED, observed.mean_scores())


# Ending early -----------------------------------------------------------------------------------------------


def test_a_test_without_effect_ends_early(make_design, decode_plain, monkeypatch):
    monkeypatch.setattr(null_scores, "BATCH", 16)
    samples = make_design(SIX, 2, seed=8)
    question = ask(samples)
    found = compute(samples, question, decode_plain, PermutationSettings(stop_early=True))
    assert found.sequential
    assert found.n_computed < found.n_distinct == 128
    for name, p in found.p_values.items():
        reached = np.cumsum(found.scores[name][1:] >= found.scores[name][0] - 1e-10)
        assert p == 10 / (1 + np.flatnonzero(reached == 10)[0])
    assert found.lower_shares == {}
    assert found.band("test_accuracy") is None


@pytest.mark.slow
def test_a_test_with_an_effect_computes_all_relabellings(make_design, decode_plain):
    samples = make_design(SIX, 3, n_voxels=6)
    samples = replace(samples, X=samples.X + 4 * (samples.y == "A")[:, np.newaxis])
    found = compute(samples, ask(samples), decode_plain, PermutationSettings(stop_early=True))
    assert found.sequential
    assert found.p_values["test_roc_auc"] == 1 / 128
    assert found.lower_shares == {}


# Processes and checkpoints ----------------------------------------------------------------------------------


@pytest.fixture
def long_test(make_design, decode_plain, monkeypatch):
    """Return a function that runs a test of two chunks of 16 relabellings."""
    monkeypatch.setattr(null_scores, "BATCH", 16)
    samples = make_design(TWO, 2, preparation=FoldPreprocessing(zscore="own"))
    question = ask(samples)
    observed = decode_plain(samples, question)

    def run(**options):
        return run_permutation_test(samples, question, FORCED, observed.mean_scores(), **options)

    return run


def assert_same_bits(found, expected):
    assert found.scores.equals(expected.scores)
    np.testing.assert_array_equal(found.decisions, expected.decisions)
    assert found.p_values == expected.p_values


def test_a_test_resumes_with_the_same_bits(long_test, tmp_path, monkeypatch):
    expected = long_test()
    long_test(checkpoint=tmp_path / "kept")
    files = sorted((tmp_path / "kept").iterdir())
    assert len(files) == 2
    files[0].unlink()
    computed = []
    whole = RelabelledAnalysis.compute
    monkeypatch.setattr(
        RelabelledAnalysis,
        "compute",
        lambda self, relabellings, rows: computed.append(len(rows)) or whole(self, relabellings, rows),
    )
    assert_same_bits(long_test(checkpoint=tmp_path / "kept"), expected)
    assert computed == [16]
    files[1].write_bytes(files[1].read_bytes()[:200])  # damaged
    assert_same_bits(long_test(checkpoint=tmp_path / "kept"), expected)
    assert computed == [16, 16]
    assert_same_bits(long_test(checkpoint=tmp_path / "kept"), expected)
    assert computed == [16, 16]


def test_chunks_of_another_test_are_not_used(make_design, decode_plain, tmp_path):
    one, other = (make_design(TWO, 2, seed=seed) for seed in (0, 1))
    expected = compute(other, ask(other), decode_plain)
    compute(one, ask(one), decode_plain, checkpoint=tmp_path)
    assert_same_bits(compute(other, ask(other), decode_plain, checkpoint=tmp_path), expected)


def test_an_interrupted_test_keeps_what_it_computed(long_test, tmp_path, monkeypatch):
    expected = long_test()
    whole = RelabelledAnalysis.compute
    calls = []

    def interrupt(self, relabellings, rows):
        calls.append(rows)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(self, relabellings, rows)

    monkeypatch.setattr(RelabelledAnalysis, "compute", interrupt)
    with pytest.raises(KeyboardInterrupt):
        long_test(checkpoint=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["chunk-00000.npz"]
    assert_same_bits(long_test(checkpoint=tmp_path), expected)
    assert len(calls) == 3


def test_a_full_disk_is_one_warning(long_test, tmp_path, monkeypatch):
    expected = long_test()

    def refuse(stream, **arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", refuse)
    with pytest.warns(UserWarning, match="No space left on device.*cannot be resumed") as caught:
        assert_same_bits(long_test(checkpoint=tmp_path), expected)
    assert len(caught) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_processes_give_the_same_bits(long_test, tmp_path):
    expected = long_test()
    assert_same_bits(long_test(processes=2, checkpoint=tmp_path), expected)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_processes_end_early_together(make_design, decode_plain, monkeypatch):
    monkeypatch.setattr(null_scores, "BATCH", 16)
    samples = make_design(SIX, 2, seed=8)
    question, settings = ask(samples), PermutationSettings(stop_early=True)
    expected = compute(samples, question, decode_plain, settings)
    assert expected.n_computed < len(expected.relabellings)
    assert_same_bits(compute(samples, question, decode_plain, settings, processes=2), expected)


class Killed(ExactLDA):
    """An estimator whose process is killed when it is used by a worker."""

    def __init__(self, parent=0):
        self.parent = parent

    def check_arguments(self, grid=None):
        pass

    def solve_folds(self, X, Y, train_sets, grid):
        if os.getpid() != self.parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().solve_folds(X, Y, train_sets, grid)


@pytest.mark.slow
def test_a_killed_worker_is_one_message(make_design, decode_plain, monkeypatch):
    monkeypatch.setattr(null_scores, "BATCH", 16)
    samples = make_design(TWO, 2)
    question = ask(samples, Estimator("killed", Killed(os.getpid())))
    with pytest.raises(HarnessError, match=r"a worker process .* was killed.*inference\.processes=1"):
        compute(samples, question, decode_plain, processes=2)


# Time -------------------------------------------------------------------------------------------------------


def test_progress_counts_relabellings(long_test):
    seen = []
    long_test(progress=lambda stage, done, total: seen.append((stage, done, total)))
    assert [(done, total) for _, done, total in seen] == [(0, 32), (16, 32), (32, 32)]
    assert all(stage.startswith("permutation test") for stage, _, _ in seen)
    assert seen[1][0].endswith("left")


def test_an_estimate_scales_the_time_of_the_run(make_design):
    samples = make_design(SIX, 3)
    repeated = ask(samples, RIDGE)
    assert estimate_seconds(samples, repeated, FORCED, 2.0) == (128, 256.0)
    assert estimate_seconds(samples, repeated, FORCED, 2.0, processes=2) == (128, 128.0)
    together = ask(samples, Estimator("svc", ExactLinearSVC(), {"C": [1, 10]}))
    n, seconds = estimate_seconds(samples, together, FORCED, 2.0)
    assert n == 128
    assert 0 < seconds < 256
    n, seconds = estimate_seconds(samples, together, FORCED)
    assert n == 128
    assert seconds > 0


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (30, "30 s"), (240, "4 min"), (9000, "2.5 h")])
def test_durations_are_coarse(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.slow
def test_the_engine_of_the_question_is_repeated(compose, shared_data):
    spec = compose(
        "dataset=haxby",
        f"dataset.data_dir={shared_data / 'haxby2001-slice'}",
        "subject=1",
        "contrast.conditions=[face,cat]",
        "estimator=ridge",
        "engine=nilearn",
        "cv=holdout30",
        "scoring.inner_folds=2",
    )
    observed = decode(spec.dataset.load(1), spec.question)
    settings = PermutationSettings(limit=10, n=19)
    found = run_permutation_test(observed.samples, spec.question, settings, observed.mean_scores())
    means = observed.summarise()["mean"]
    np.testing.assert_allclose(found.scores.iloc[0], means[list(found.scores)], atol=1e-12)
    assert found.n_computed == 20
