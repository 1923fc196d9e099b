"""Tested searchlights, against scikit-learn under every relabelling, and their interruption."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import label
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.svm import LinearSVC

from harness.decoding.estimator import Estimator
from harness.errors import DesignError, HarnessError, UsageError
from harness.inference import checkpoint as checkpoint_module
from harness.inference.corrections import maximum_statistic, standardise_nulls
from harness.inference.relabelling import plan_relabellings
from harness.inference.settings import PermutationSettings
from harness.searchlight import run as run_module
from harness.searchlight.run import run_searchlight
from harness.searchlight.settings import Searchlight
from harness.searchlight.sphere_scores import SphereScores
from harness.solvers.estimators import ExactLDA, ExactRidgeClassifierCV
from small_brains import ask, make_brain

EVERY = PermutationSettings()
CENTRES = np.zeros((4, 3, 3), dtype=bool)
CENTRES[1:3, :, 1] = True
SMALL = Searchlight(radius=3.0, min_voxels=2)


@pytest.fixture
def brain():
    return make_brain(effect=1.0)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(run_module, "LARGEST_BATCH", 5)


def search(brain, settings=SMALL, centres=CENTRES, permutation=EVERY, question=None, **options):
    return run_searchlight(brain, centres, question or ask(), settings, permutation, **options)


def assert_same_bits(found, expected):
    for name, values in expected.scores.items():
        np.testing.assert_array_equal(found.scores[name], values)
    for name in ("z", "p", "null_mean", "kept", "kept_rows"):
        np.testing.assert_array_equal(getattr(found.test, name), getattr(expected.test, name))
    for name, corrected in expected.test.corrected.items():
        other = found.test.corrected[name]
        np.testing.assert_array_equal(other.values, corrected.values)
        np.testing.assert_array_equal(other.p, corrected.p)
        assert other.threshold == corrected.threshold
    assert found.test.maxima.equals(expected.test.maxima)


# Values -----------------------------------------------------------------------------------------------------


def score_with_sklearn(brain, columns, labels):
    """Return accuracy, ROC AUC and decision value of one sphere under all labellings: means over folds.

    A ridge classifier of two classes is the ridge regression of labels of -1 and 1.
    """
    X, Y, found = brain.X.astype(np.float64)[:, columns], (labels == "B").T * 2.0 - 1, []
    for train, test in LeaveOneGroupOut().split(X, brain.y, brain.runs):
        decisions = Ridge(alpha=1.0).fit(X[train], Y[train]).predict(X[test])
        right = np.sign(decisions) == Y[test]
        above = [d[y > 0][:, None] > d[y < 0] for d, y in zip(decisions.T, Y[test].T, strict=True)]
        found.append([right.mean(axis=0), np.mean(above, axis=(1, 2)), (decisions * Y[test]).mean(axis=0)])
    return np.mean(found, axis=0).T


@pytest.fixture(scope="module")
def brute_force():
    """Statistics of every relabelling and sphere, (n_relabellings, n_spheres, 3), by scikit-learn."""
    brain = make_brain(effect=1.0)
    relabellings = plan_relabellings(brain, EVERY)
    labels = np.stack([relabellings.labels(row) for row in range(len(relabellings))])
    places = np.argwhere(np.ones(CENTRES.shape))
    spheres = [
        np.flatnonzero(np.abs(places - centre).sum(axis=1) <= 1)  # 3 mm: the centre and its neighbours
        for centre in np.argwhere(CENTRES)
    ]
    return np.stack([score_with_sklearn(brain, columns, labels) for columns in spheres], axis=1)


@pytest.mark.parametrize(("place", "statistic"), [(0, "accuracy"), (1, "roc_auc"), (2, "decision_value")])
def test_every_map_is_that_of_all_relabellings_with_sklearn(brain, brute_force, place, statistic):
    table = brute_force[:, :, place]
    assert table.shape == (32, 6)
    found = search(brain, replace(SMALL, statistic=statistic))
    test = found.test
    np.testing.assert_allclose(found.scores["accuracy"], brute_force[0, :, 0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.scores["roc_auc"], brute_force[0, :, 1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(test.kept, table, rtol=1e-6, atol=1e-7)
    z = (table - table.mean(axis=0)) / table.std(axis=0)
    np.testing.assert_allclose(test.z, z[0], rtol=0, atol=1e-8)
    np.testing.assert_array_equal(test.p, (table >= table[0] - 1e-9).mean(axis=0))
    np.testing.assert_allclose(test.null_mean, table.mean(axis=0), rtol=0, atol=1e-10)
    np.testing.assert_allclose(test.maxima["maximum"], z.max(axis=1), rtol=0, atol=1e-8)
    corrected = test.corrected["maximum"]
    np.testing.assert_array_equal(corrected.p, (z.max(axis=1)[:, None] >= z[0] - 1e-7).mean(axis=0))
    assert corrected.threshold == pytest.approx(np.sort(z.max(axis=1))[-2], abs=1e-8)


def test_the_null_mean_of_random_relabellings_leaves_out_the_true_labelling(brain):
    settings = PermutationSettings(n=19, limit=1)
    relabellings = plan_relabellings(brain, settings)
    assert not relabellings.enumerated
    labels = np.stack([relabellings.labels(row) for row in range(20)])
    places = np.argwhere(np.ones(CENTRES.shape))
    column = np.flatnonzero(np.abs(places - [1, 1, 1]).sum(axis=1) <= 1)
    expected = score_with_sklearn(brain, column, labels)[1:, 1].mean()
    centre = np.zeros_like(CENTRES)
    centre[1, 1, 1] = True
    found = search(brain, SMALL, centre, settings).test
    assert found.null_mean == pytest.approx([expected], abs=1e-10)
    assert found.median_null_mean == found.null_mean[0]


def enhance_by_flood(volume):
    heights = np.unique(np.append(volume[volume > 0], 0.0))
    total = np.zeros(volume.shape)
    for low, high in pairwise(heights):
        numbers, _ = label(volume >= high)
        sizes = np.bincount(numbers.ravel()).astype(float)
        sizes[0] = 0
        total += np.sqrt(sizes)[numbers] * (high**3 - low**3) / 3
    return total


def size_by_flood(volume, threshold):
    numbers, _ = label(volume > threshold)
    sizes = np.bincount(numbers.ravel()).astype(float)
    sizes[0] = 0
    return sizes[numbers]


@pytest.mark.parametrize("correction", ["tfce", "cluster_size"])
def test_corrections_with_neighbours_are_those_of_every_standardised_map(brain, brute_force, correction):
    table = brute_force[:, :, 2]
    z = (table - table.mean(axis=0)) / table.std(axis=0)
    enhanced = []
    for row in z:
        volume = np.full(CENTRES.shape, -9.0)
        volume[CENTRES] = row
        found = enhance_by_flood(volume) if correction == "tfce" else size_by_flood(volume, 0.8)
        enhanced.append(found[CENTRES])
    enhanced = np.array(enhanced)
    maxima = enhanced.max(axis=1)
    settings = replace(SMALL, statistic="decision_value", correction=correction, cluster_z=0.8)
    test = search(brain, settings).test
    assert list(test.corrected) == ["maximum", correction]
    corrected = test.corrected[correction]
    np.testing.assert_allclose(corrected.values, enhanced[0], rtol=1e-5)
    np.testing.assert_allclose(test.maxima[correction], maxima, rtol=1e-5)
    np.testing.assert_array_equal(corrected.p, (maxima[:, None] >= enhanced[0] * (1 - 1e-6)).mean(axis=0))
    assert len(set(corrected.p)) > 1
    assert corrected.threshold == pytest.approx(np.sort(maxima)[-2], rel=1e-5)


def test_clusters_that_no_labelling_has_are_a_caution(brain):
    settings = replace(SMALL, correction="cluster_size", cluster_z=1e6)
    cautions = search(brain, settings).test.cautions
    assert any("no voxel is above z 1e+06" in text and "analysis.cluster_z" in text for text in cautions)
    usual = search(brain, replace(settings, cluster_z=0.8)).test.cautions
    assert not any("analysis.cluster_z" in text for text in usual)


def test_a_map_without_inference_has_scores_alone(brain):
    found = search(brain, permutation=None)
    assert found.test is None
    assert found.n_folds == 6
    np.testing.assert_array_equal(found.score_map, search(brain).score_map)


def test_kept_maps_begin_with_the_true_labelling(brain):
    found = search(brain, replace(SMALL, keep_maps=7))
    test = found.test
    assert test.kept.shape == (7, 6)
    assert test.kept_rows[0] == 0
    assert len(set(test.kept_rows.tolist())) == 7
    np.testing.assert_array_equal(test.kept[0], found.scores["roc_auc"].astype(np.float32))
    assert search(brain, replace(SMALL, keep_maps=0)).test.kept.shape == (0, 6)


# Statistics that are not defined, or do not vary ------------------------------------------------------------


class TableScorer:
    """Statistics of a table instead of decoders."""

    def __init__(self, table):
        self.table = np.asarray(table, dtype=float)

    def score(self, numbers):
        return SphereScores(np.zeros((3, len(numbers))), self.table[:, numbers])


@pytest.fixture
def search_table(brain, monkeypatch):
    def search_one(table, **changes):
        monkeypatch.setattr(run_module, "make_scorer", lambda *arguments: TableScorer(table))
        return search(brain, replace(SMALL, **changes)).test

    return search_one


@pytest.mark.parametrize("correction", ["maximum", "tfce", "cluster_size"])
def test_undefined_statistics_are_never_significant(rng, search_table, correction):
    table = rng.standard_normal((32, 6))
    table[0] = 5.0
    found = search_table(table, correction=correction, cluster_z=1.0)
    assert (found.corrected[correction].p == 1 / 32).all()
    assert not any("defined" in caution for caution in found.cautions)
    table[5, 2] = np.nan  # a relabelling reaches everything
    found = search_table(table, correction=correction, cluster_z=1.0)
    assert found.p.tolist() == [1 / 32, 1 / 32, 2 / 32, 1 / 32, 1 / 32, 1 / 32]
    assert (found.corrected[correction].p == 2 / 32).all()
    assert "1 spheres have labellings without a defined statistic" in found.cautions[-1]
    np.testing.assert_allclose(found.null_mean, np.nanmean(table, axis=0), rtol=0, atol=1e-12)
    table[0, 3] = np.nan  # the sphere cannot be tested
    table[:, 4] = np.nan
    found = search_table(table, correction=correction, cluster_z=1.0)
    assert np.isnan(found.null_mean).tolist() == [False, False, False, False, True, False]
    assert found.median_null_mean == pytest.approx(np.nanmedian(found.null_mean))
    assert found.p[3] == 1
    assert found.z[3] == 0


def test_a_constant_statistic_has_p_1_and_does_not_set_the_maximum(rng, search_table):
    table = rng.standard_normal((32, 6))
    table[:, 4] = 0.7
    found = search_table(table)
    assert found.p[4] == 1
    assert found.z[4] == 0
    others = np.delete(table, 4, axis=1)
    expected = maximum_statistic(standardise_nulls(others))
    np.testing.assert_array_equal(np.delete(found.corrected["maximum"].p, 4), expected.single_step)


@pytest.mark.parametrize("correction", ["maximum", "tfce", "cluster_size"])
def test_a_relabelling_that_ties_up_to_rounding_counts(rng, search_table, correction):
    table = rng.standard_normal((32, 6)) / 10
    table[0] = [0.9, 0.8, 0.7, 0.9, 0.8, 0.7]
    table[7] = table[0] * (1 - 1e-14)
    found = search_table(table, correction=correction, cluster_z=2.0)
    assert (found.p == 2 / 32).all()
    assert found.corrected[correction].p.min() == 2 / 32


# Options that are refused -----------------------------------------------------------------------------------


def test_a_dummy_is_refused(brain):
    with pytest.raises(DesignError, match="all spheres would score alike"):
        search(brain, question=ask(Estimator("dummy", DummyClassifier(strategy="prior"))))


def test_a_test_that_ends_early_is_refused(brain):
    with pytest.raises(UsageError, match=r"inference\.stop_early=true .* leave it out"):
        search(brain, permutation=PermutationSettings(stop_early=True))


def test_a_design_with_few_relabellings_is_refused():
    with pytest.raises(DesignError, match="relabellings"):
        search(make_brain(orders=("AB", "BA", "AB")))


def test_renamed_classes_count_twice_where_the_estimator_treats_them_differently(brain, monkeypatch):
    def lean(samples, question, settings, spheres, labels):
        # A scorer that prefers the first class in the first block.
        favoured = (labels[:, :1] == "A") * 1.0
        return TableScorer(np.tile(favoured, len(spheres)) + np.arange(len(labels))[:, None] % 7 / 10)

    monkeypatch.setattr(run_module, "make_scorer", lean)
    svc = Estimator("liblinear", LinearSVC())
    assert len(search(brain, question=ask(svc)).test.maxima) == 64
    monkeypatch.setattr(
        run_module, "make_scorer", lambda *given: TableScorer(np.ones((len(given[4]), len(given[3]))))
    )
    assert len(search(brain, question=ask(svc)).test.maxima) == 32


# Processes, interruption and memory -------------------------------------------------------------------------


@pytest.mark.parametrize("correction", ["maximum", "tfce"])
def test_a_searchlight_resumes_with_the_same_bits(brain, small_chunks, tmp_path, monkeypatch, correction):
    settings = replace(SMALL, correction=correction)
    expected = search(brain, settings)
    assert_same_bits(search(brain, settings, checkpoint=tmp_path), expected)
    files = sorted(tmp_path.glob("*.npz"))
    assert len(files) == 2
    files[0].write_bytes(files[0].read_bytes()[:300])  # damaged
    computed = []
    whole = run_module.SphereWork.compute
    monkeypatch.setattr(
        run_module.SphereWork, "compute", lambda self, rows: computed.append(len(rows)) or whole(self, rows)
    )
    assert_same_bits(search(brain, settings, checkpoint=tmp_path), expected)
    assert computed == [5]
    assert_same_bits(search(brain, settings, checkpoint=tmp_path), expected)
    assert computed == [5]


def test_another_process_may_remove_the_checkpoint_of_the_same_map(brain, small_chunks, tmp_path):
    settings, kept = replace(SMALL, correction="tfce"), tmp_path / "kept"

    def finish_elsewhere(stage, done, total):
        if stage.startswith("tfce") and not done:
            shutil.rmtree(kept)

    found = search(brain, settings, checkpoint=kept, progress=finish_elsewhere)
    assert_same_bits(found, search(brain, settings))


def test_spheres_of_another_searchlight_are_not_used(brain, tmp_path):
    other = make_brain(seed=1)
    expected = search(other)
    search(brain, checkpoint=tmp_path)
    assert_same_bits(search(other, checkpoint=tmp_path), expected)
    by_accuracy = replace(SMALL, statistic="accuracy")
    assert_same_bits(search(other, by_accuracy, checkpoint=tmp_path), search(other, by_accuracy))


@pytest.mark.parametrize("size", [1, 3, 4])
def test_the_size_of_batches_does_not_change_a_bit_and_is_what_is_stored(brain, tmp_path, size):
    expected = search(brain)
    some = replace(SMALL, batch_size=size)
    assert_same_bits(search(brain, some, checkpoint=tmp_path), expected)
    stored = [np.load(file)["scores"].shape[1] for file in sorted(tmp_path.glob("*.npz"))]
    assert stored == {1: [1] * 6, 3: [3, 3], 4: [4, 2]}[size]


def test_slow_estimators_have_smaller_batches(brain):
    """Each gets a whole number of spheres whatever the number of relabellings."""
    ridge, lda, other = (
        ask(Estimator(model.__class__.__name__, model))
        for model in (ExactRidgeClassifierCV(), ExactLDA(), LinearSVC())
    )
    sizes = [run_module.choose_batch_size(question, 2048) for question in (ridge, lda, other)]
    assert sizes == sorted(set(sizes), reverse=True)
    assert [run_module.choose_batch_size(other, n) for n in (10**6, 1)] == [1, run_module.LARGEST_BATCH]


BOTH = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from pathlib import Path
from harness.inference.settings import PermutationSettings
from harness.searchlight import run
from harness.searchlight.settings import Searchlight
from small_brains import ask, make_brain

found = run.run_searchlight(
    make_brain(effect=1.0), np.ones((4, 3, 3), dtype=bool), ask(),
    Searchlight(radius=3.0, min_voxels=2, correction="tfce", batch_size=2), PermutationSettings(),
    checkpoint=Path(sys.argv[2]),
)
np.save(sys.argv[3], found.test.corrected["tfce"].values)
"""

KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from pathlib import Path
from harness.inference import chunked_work
from harness.inference.settings import PermutationSettings
from harness.searchlight import run, map_corrections
from harness.searchlight.settings import Searchlight
from small_brains import ask, make_brain

def kill(stage, done, total):
    if stage.startswith(sys.argv[3]) and done:
        os.kill(os.getpid(), signal.SIGKILL)

map_corrections.CHUNK = 5
run.run_searchlight(
    make_brain(effect=1.0), np.ones((4, 3, 3), dtype=bool), ask(),
    Searchlight(radius=3.0, min_voxels=2, correction="tfce", batch_size=10), PermutationSettings(),
    progress=kill, checkpoint=Path(sys.argv[2]),
)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "n_corrected"), [("searchlight", 0), ("tfce", 1)])
def test_a_killed_process_resumes_with_the_same_bits(brain, tmp_path, monkeypatch, stage, n_corrected):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    kept = tmp_path / "kept"
    command = [sys.executable, str(script), str(Path(__file__).parents[1]), str(kept), stage]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert len(list(kept.glob("*.npz"))) == (4 if stage == "tfce" else 1)
    assert len(list(kept.glob("tfce/*.npz"))) == n_corrected
    monkeypatch.setattr("harness.searchlight.map_corrections.CHUNK", 5)
    everywhere = np.ones((4, 3, 3), dtype=bool)
    settings = replace(SMALL, correction="tfce", batch_size=10)
    found = search(brain, settings, everywhere, checkpoint=kept)
    assert_same_bits(found, search(brain, settings, everywhere))


@pytest.mark.slow
def test_two_programs_at_once_share_a_checkpoint(brain, tmp_path):
    script = tmp_path / "both.py"
    script.write_text(BOTH)
    kept = tmp_path / "kept"
    command = [sys.executable, str(script), str(Path(__file__).parents[1]), str(kept)]
    running = [subprocess.Popen([*command, str(tmp_path / f"{n}.npy")], text=True) for n in range(2)]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    expected = search(brain, replace(SMALL, correction="tfce"), np.ones((4, 3, 3), dtype=bool))
    for n in range(2):
        np.testing.assert_array_equal(np.load(tmp_path / f"{n}.npy"), expected.test.corrected["tfce"].values)
    assert not list(kept.glob("**/*.tmp"))


@pytest.mark.slow
def test_processes_give_the_same_bits(brain, small_chunks, tmp_path):
    settings = replace(SMALL, correction="tfce")
    expected = search(brain, settings)
    assert_same_bits(search(brain, settings, processes=2), expected)
    assert_same_bits(search(brain, settings, processes=2, checkpoint=tmp_path), expected)
    assert len(list(tmp_path.glob("*.npz"))) == 2


class KilledScorer(TableScorer):
    """A scorer whose process is killed when it is used by a worker."""

    def __init__(self, table, parent):
        super().__init__(table)
        self.parent = parent

    def score(self, numbers):
        if os.getpid() != self.parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(numbers)


@pytest.mark.slow
def test_a_killed_worker_of_a_searchlight_is_one_message(brain, small_chunks, rng, monkeypatch):
    scorer = KilledScorer(rng.standard_normal((32, 6)), os.getpid())
    monkeypatch.setattr(run_module, "make_scorer", lambda *arguments: scorer)
    with pytest.raises(HarnessError, match=r"worker process of the searchlight .*analysis\.processes=1"):
        search(brain, processes=2)


def test_a_full_disk_is_one_warning_of_a_searchlight(brain, small_chunks, tmp_path, monkeypatch):
    expected = search(brain)

    def refuse(stream, **arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module.np, "savez", refuse)
    found = search(brain, checkpoint=tmp_path)
    assert_same_bits(found, expected)
    (warning,) = found.warnings
    assert "the spheres computed so far cannot be stored (No space left on device)" in warning
    assert list(tmp_path.iterdir()) == []


def test_maps_that_do_not_fit_on_the_disk_go_to_the_temporary_directory(brain, tmp_path, monkeypatch):
    settings = replace(SMALL, correction="tfce")
    expected = search(brain, settings)
    full = tmp_path / "file"
    full.write_text("not a directory")
    with_file = search(brain, settings, checkpoint=full)
    assert_same_bits(with_file, expected)
    monkeypatch.setenv("TMPDIR", str(full))
    monkeypatch.setattr("tempfile.tempdir", str(full))
    with pytest.raises(HarnessError, match=r"maps of 32 labellings need 0 MB on disk .*TMPDIR"):
        search(brain, settings, checkpoint=full)


def test_progress_counts_spheres_and_corrected_maps(brain, small_chunks):
    seen = []
    search(brain, replace(SMALL, correction="cluster_size"), progress=lambda *given: seen.append(given))
    spheres = [(done, total) for stage, done, total in seen if stage.startswith("searchlight")]
    assert spheres == [(0, 6), (5, 6), (6, 6)]
    maps = [(done, total) for stage, done, total in seen if stage.startswith("cluster size")]
    assert maps == [(0, 32), (32, 32)]
    assert seen[1][0].endswith("left")
