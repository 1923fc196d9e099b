"""Searchlights through the command line: composition, refusals, runs, repetitions and comparisons."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.decoding import SearchLight
from nilearn.image import index_img
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import LeaveOneGroupOut

from harness.app.composition import compose_request
from harness.app.computation import RunData
from harness.app.entry import run
from harness.app.verbs import run_verb
from harness.errors import DataError, UsageError
from marks import first
from processes import harness, read_runs

SPHERES = ["analysis=searchlight", "analysis.min_voxels=3", "analysis.radius=5"]
TINY = ["dataset=haxby", "subject=1", "estimator=ridge", "figures=off", "analysis.processes=1"]
TEST = ["inference=permutation"]


@pytest.fixture(scope="module")
def subject(tiny_subject):
    """Seven scanner runs with information in one voxel: 64 distinct relabellings."""
    return tiny_subject(n_runs=7, planted={"face": (1, 2, 2)}, effect=60)


@pytest.fixture
def home(tmp_path, monkeypatch, make_store, subject):
    """A directory with an empty store; the overrides of a searchlight."""
    home = tmp_path / "home"
    make_store(home / "mlruns")
    monkeypatch.chdir(home)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return home, [*SPHERES, *TINY, f"dataset.data_dir={subject}"]


def find_runs(home, **params):
    """Return the client, and the runs with these parameters, the newest first."""
    client, found = read_runs(home)
    return client, [item for item in found if params.items() <= item.data.params.items()]


# Composition ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick_composition")
class TestComposition:
    def test_decoding_is_the_default_and_is_not_in_the_name(self):
        spec = compose_request([])
        assert spec.searchlight is None
        assert spec.params["analysis"] == "decoding"
        assert spec.name == "sub-2 face_vs_cat vt svc logo"

    def test_changes_of_a_searchlight_are_named(self):
        spec = compose_request(["analysis=searchlight", "analysis.radius=6"])
        assert spec.searchlight.radius == 6
        assert spec.params["analysis"] == "searchlight[radius=6]"
        assert spec.name == "sub-2 face_vs_cat vt svc logo searchlight[radius=6]"

    @pytest.mark.parametrize("word", ["analysis.processes=2", "analysis.batch_size=7"])
    def test_how_the_work_is_shared_is_not_named(self, word):
        assert compose_request(["analysis=searchlight", word]).params["analysis"] == "searchlight"

    @pytest.mark.parametrize(
        ("words", "message"),
        first(
            5,
            [
                (["analysis.radius=6"], "type analysis=searchlight analysis.radius=VALUE"),
                (["analysis=searchlight", "analysis.radios=6"], "radius"),
                (["analysis=searchlight", "analysis.radius=-1"], "expected a number above 0"),
                (["analysis=searchlight", "model=true"], "leave out model=true"),
                (["analysis=searchlight", *TEST, "inference.stop_early=true"], "needs every relabelling"),
                (["analysis=searchlight", *TEST, "inference.maps=false"], "the map is what is tested"),
                (["analysis=searchlight", *TEST, "inference.processes=2"], "type analysis.processes=N"),
                (["analysis=searchlight", "roi.screening_percentile=10"], "has no effect"),
                (["analysis=searchlight", "scoring=accuracy"], "analysis.scorer is the score"),
                (["analysis=searchlight", "scoring.inner=runs"], "analysis.scorer is the score"),
                (["analysis=searchlight", "analysis.correction=fdr"], "maximum, tfce, cluster_size"),
                (["analysis._target_=sklearn.svm.SVC"], "is not an analysis"),
                (["analysis=searchlite"], "searchlight"),
                (["analysis=searchlight", "analysis.mask=null"], "expected the name of a mask or a path"),
                (["analysis=searchlight", "analysis.mask=[brain]"], "expected the name of a mask or a path"),
                (["analysis=searchlight", "analysis.mask=3"], "expected the name of a mask or a path"),
                (["analysis=searchlight", "analysis.correction=tfce"], "type inference=permutation"),
                (["analysis=searchlight", "analysis.statistic=accuracy"], "type inference=permutation"),
                (["analysis=searchlight", "analysis.keep_maps=7"], "type inference=permutation"),
            ],
        ),
    )
    def test_what_has_no_effect_or_does_not_exist_is_refused(self, words, message):
        with pytest.raises(UsageError) as caught:
            compose_request(words)
        assert message in str(caught.value)

    def test_nilearn_takes_a_standardisation_that_its_decoder_refuses(self):
        spec = compose_request(["analysis=searchlight", "engine=nilearn", "signal=train_only"])
        assert spec.question.engine == "nilearn"
        with pytest.raises(UsageError, match=r"estimator\.tol=0\.001 has no effect with engine=nilearn"):
            compose_request(["analysis=searchlight", "engine=nilearn", "estimator.tol=1e-3"])


# Data -------------------------------------------------------------------------------------------------------


def write_mask(path, values, affine):
    nib.save(nib.Nifti1Image(values.astype(np.uint8), affine), path)
    return path


def open_data(overrides, *more):
    return RunData(compose_request([*overrides, *more]))


@pytest.fixture
def brain(subject):
    return nib.load(subject / "haxby2001" / "mask.nii.gz")


def test_masks_and_radius_change_the_fingerprint_and_shared_work_does_not(home, tmp_path, brain):
    _, overrides = home
    values = brain.get_fdata()
    copy = write_mask(tmp_path / "copy.nii.gz", values, brain.affine)
    values[0] = 0
    smaller = write_mask(tmp_path / "smaller.nii.gz", values, brain.affine)
    usual = open_data(overrides).fingerprint()
    for same in (["analysis.processes=2"], ["analysis.batch_size=3"], [f"analysis.mask={copy}"]):
        assert (same, open_data(overrides, *same).fingerprint()) == (same, usual)
    others = [
        open_data(overrides, *words).fingerprint()
        for words in (
            ["analysis.radius=6"],
            ["analysis.min_voxels=4"],
            [f"analysis.mask={smaller}"],
            ["roi=brain"],
        )
    ]
    assert len({usual, *others}) == 5


def test_masks_of_different_grids_are_both_named(home, tmp_path, brain):
    _, overrides = home
    affine = brain.affine.copy()
    affine[0, 3] += 1
    moved = write_mask(tmp_path / "moved.nii.gz", brain.get_fdata(), affine)
    with pytest.raises(DataError, match=r"moved\.nii\.gz.*mask\.nii\.gz.*different grids: origins"):
        _ = open_data(overrides, f"roi.mask={moved}").sources


def test_centres_outside_the_brain_mask_are_counted(home, tmp_path, brain):
    _, overrides = home
    values = brain.get_fdata()
    values[2:] = 0  # two of six slices remain; the region has four
    half = write_mask(tmp_path / "half.nii.gz", values, brain.affine)
    data = open_data(overrides, f"analysis.mask={half}")
    assert data.centres.sum() == 2 * 5 * 4
    assert any("40 of 80 centres are outside" in text for text in data.warnings)


def test_region_outside_the_brain_mask_is_refused(home, tmp_path, brain):
    _, overrides = home
    values = brain.get_fdata()
    values[:4] = 0
    rest = write_mask(tmp_path / "rest.nii.gz", values, brain.affine)
    with pytest.raises(DataError, match=r"none of its 80 voxels can be the centre.*80 are outside"):
        _ = open_data(overrides, f"analysis.mask={rest}").centres


def test_data_set_without_a_brain_mask_says_how_to_give_one(home, subject, tmp_path):
    _, overrides = home
    words = [word for word in overrides if not word.startswith("dataset")]
    files = subject / "haxby2001" / "subj1"
    labels = pd.read_csv(files / "labels.txt", sep=" ", names=["condition", "run"], header=0)
    labels.to_csv(tmp_path / "labels.csv", index=False)
    words += [
        "dataset=nifti",
        f"++dataset.bold={files / 'bold.nii.gz'}",
        f"++dataset.labels={tmp_path / 'labels.csv'}",
        f"++dataset.masks={{vt: {files / 'mask4_vt.nii.gz'}}}",
    ]
    with pytest.raises(DataError, match=r"no brain mask.*analysis\.mask=/data/brain_mask\.nii\.gz.*vt"):
        _ = open_data(words).sources
    assert open_data(words, "analysis.mask=vt").sources.mask.sum() == 80


# Runs -------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Use a custom estimator")
def test_scores_are_those_of_nilearns_searchlight(home, subject):
    directory, overrides = home
    assert run([*overrides, "estimator=lda", "signal.zscore=none"]) == 0
    client, (stored,) = read_runs(directory)
    path = client.download_artifacts(stored.info.run_id, "searchlight_face_vs_cat.nii.gz")
    found = nib.load(path).get_fdata()
    files = subject / "haxby2001" / "subj1"
    labels = pd.read_csv(files / "labels.txt", sep=" ")
    chosen = labels["labels"].isin(["face", "cat"]).to_numpy()
    searchlight = SearchLight(
        mask_img=nib.load(subject / "haxby2001" / "mask.nii.gz"),
        process_mask_img=nib.load(files / "mask4_vt.nii.gz"),
        radius=5,
        estimator=LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        scoring="accuracy",
        cv=LeaveOneGroupOut(),
    )
    images = index_img(nib.load(files / "bold.nii.gz"), chosen)
    searchlight.fit(images, labels["labels"][chosen], groups=labels["chunks"][chosen])
    expected = searchlight.scores_
    centres = nib.load(files / "mask4_vt.nii.gz").get_fdata() != 0
    np.testing.assert_allclose(found[centres], expected[centres], atol=1e-10)
    assert not found[~centres].any()
    assert stored.data.metrics["max_score"] == pytest.approx(expected[centres].max(), abs=1e-10)
    assert stored.data.metrics["n_spheres"] == centres.sum()


def test_tested_map_is_stored_and_compared_with_others(home, capsys):
    """One run of every kind, and what the verbs say about them."""
    directory, overrides = home
    decoding = [word for word in overrides if not word.startswith("analysis")]
    assert run([*overrides, *TEST]) == 0
    assert run([*overrides, "roi=brain"]) == 0
    assert run(decoding) == 0
    client, _ = read_runs(directory)
    (tested,) = find_runs(directory, inference="permutation")[1]
    (plain,) = find_runs(directory, roi="brain")[1]
    (region,) = find_runs(directory, analysis="decoding")[1]

    metrics, tags = tested.data.metrics, tested.data.tags
    assert tags["harness.analysis"] == "searchlight"
    assert "harness.analysis" not in region.data.tags
    assert {"harness.digest.mask", "harness.digest.centres", "harness.relabellings"} <= tags.keys()
    maxima = pd.read_csv(client.download_artifacts(tested.info.run_id, "searchlight_maxima.csv"))
    assert len(maxima) == metrics["n_relabellings"] == 64
    p_fwe = nib.load(client.download_artifacts(tested.info.run_id, "searchlight_p_fwe_face_vs_cat.nii.gz"))
    assert metrics["n_corrected"] == (p_fwe.get_fdata() <= 0.05).sum() > 0
    path = client.download_artifacts(tested.info.run_id, "searchlight_null_mean_face_vs_cat.nii.gz")
    null_mean = nib.load(path).get_fdata()
    assert metrics["median_null_mean"] == np.median(null_mean[null_mean != 0])
    assert metrics["smallest_p_fwe"] == p_fwe.get_fdata().min()
    assert (maxima["maximum"] >= maxima["maximum"][0] - 1e-10).mean() == metrics["smallest_p_fwe"]

    def verb(*words):
        capsys.readouterr()
        status = run_verb(list(words))
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    _, printed = verb("explain", tested.info.run_id, plain.info.run_id)
    assert "80 and 120 centres, 80 in both; 0 with another score" in printed
    assert f"corrected: {metrics['n_corrected']:.0f} and not tested" in printed
    _, printed = verb("explain", plain.info.run_id, region.info.run_id)
    assert "they answer different questions" in printed
    assert "missing" not in printed
    for words in (["export", plain.info.run_id], ["predict", plain.info.run_id, "image.nii.gz"]):
        status, printed = verb(*words)
        assert (status, "is a searchlight" in printed) == (1, True)
    _, printed = verb("compare")
    assert printed.index("test accuracy") < printed.index("max score")
    _, printed = verb("compare", "--chance")
    assert "2 searchlights left out" in printed
    status, printed = verb("compare", "by=analysis")
    assert (status, "answer different questions" in printed) == (2, True)
    status, printed = verb("compare", "by=estimator", "inference=permutation")
    assert (status, "only searchlights" in printed) == (1, True)
    _, printed = verb("compare", "--pivot", "roi,estimator", "--score", "max_score")
    assert f"{metrics['max_score']:.3f}" in printed


@pytest.mark.slow
@pytest.mark.parametrize("test", [TEST, []], ids=["tested", "not tested"])
def test_map_is_replayed_with_other_processes(home, capsys, test):
    directory, overrides = home
    assert run([*overrides, *test]) == 0
    _, (stored,) = read_runs(directory)
    capsys.readouterr()
    status = run_verb(["replay", stored.info.run_id, "analysis.processes=2"])
    assert (status, "identical: every number" in capsys.readouterr().out) == (0, True)


def test_runs_without_the_parameter_count_as_decodings(home, capsys):
    directory, overrides = home
    decoding = [word for word in overrides if not word.startswith("analysis")]
    assert run(decoding) == 0
    assert run([*overrides]) == 0
    database = directory / "mlruns" / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection:  # as an earlier version would have written it
        connection.execute("DELETE FROM params WHERE key = 'analysis' AND value = 'decoding'")
        connection.commit()
    for words, names in (
        (["compare", "analysis=decoding"], {"sub-1 face_vs_cat vt ridge logo"}),
        (["runs", "analysis=decoding", "subject=1"], {"sub-1 face_vs_cat vt ridge logo"}),
        (["runs"], None),
    ):
        capsys.readouterr()
        assert run_verb([*words, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["runs"]
        kinds = {item["name"].partition(" location")[0]: item["analysis"] for item in found}
        assert "decoding" in kinds.values()
        if names is not None:
            assert kinds.keys() == names
    assert run_verb(["replay", find_runs(directory)[1][-1].info.run_id]) == 0


def test_finished_map_names_the_test_without_timing_it_and_is_skipped_on_resume(home, capsys, monkeypatch):
    _, overrides = home
    monkeypatch.delattr("harness.searchlight.duration.estimate_map_test")
    assert run(overrides) == 0
    assert "add inference=permutation for a map corrected over voxels\n" in capsys.readouterr().out
    assert run([*overrides, "resume=true", "analysis.batch_size=9"]) == 0
    assert "has finished before" in capsys.readouterr().out


@pytest.mark.slow
def test_sweep_lists_searchlights_apart_from_decodings(home):
    directory, overrides = home
    words = ["-m", "analysis=decoding,searchlight", *[word for word in overrides if "analysis" not in word]]
    first_run = harness(directory, *words, "roi=brain")
    assert first_run.stdout.index("test accuracy") < first_run.stdout.index("max score")
    again = harness(directory, *words, "roi=brain")
    assert "2 skipped" in again.stdout
    assert len(read_runs(directory)[1]) == 2


@pytest.mark.slow
def test_map_of_a_killed_run_is_resumed(home):
    directory, _ = home
    words = ["analysis=searchlight", "estimator=ridge", *TEST, "resume=true", "figures=off"]
    words += ["analysis.processes=1"]  # simulated subject: 551 spheres in five chunks
    command = [sys.executable, "-m", "harness", *words]
    process = subprocess.Popen(
        command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    chunks = directory / "mlruns"
    for _ in range(600):
        if process.poll() is not None or list(chunks.rglob("relabellings/*/*.npz")):
            break
        time.sleep(0.1)
    assert process.poll() is None, "the map was finished before it could be interrupted"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in chunks.rglob("relabellings/*/*.npz")}
    assert kept
    harness(directory, *words)
    _, (stored, killed) = read_runs(directory)
    assert (stored.info.status, killed.info.status) == ("FINISHED", "KILLED")
    assert not list(chunks.rglob("relabellings/*/*.npz"))
    replay = harness(directory, "replay", stored.info.run_id, check=False)
    assert "identical: every number" in replay.stdout, replay.stdout
