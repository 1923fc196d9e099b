"""Maps over subjects of stored searchlights, whose maps are written by hand."""

import io
import json
from datetime import UTC, datetime, timedelta
from itertools import product

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from map_files import write_map
from rich.console import Console

from harness.comparison.group_map_record import describe_maps, explain_several, maps_to_json
from harness.comparison.group_maps import map_groups, refuse_ungrouped
from harness.errors import DesignError
from harness.report.group_map_files import find_group_peaks, make_group_images, write_group_maps
from harness.report.group_map_tables import print_group_maps
from harness.tracking.file_digests import write_digests
from harness.tracking.stored_run import StoredRun
from harness.tracking.tags import ANALYSIS_TAG, FILES_TAG, INFERENCE_TAG, RELABELLINGS_TAG

START = datetime(2026, 11, 21, tzinfo=UTC)
SHAPE = (4, 3, 3)
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
LOGO = {"_target_": "sklearn.model_selection.LeaveOneGroupOut"}


@pytest.fixture
def make_run(tmp_path):
    """Return a function that writes the files of a searchlight and returns its run."""
    made = []

    def make(subject, kept=None, scores=None, voxels=None, status="FINISHED", **changed):
        number = len(made)
        rng = np.random.default_rng(number)
        directory = tmp_path / f"run{number}"
        voxels = np.arange(5, 30) if voxels is None else np.asarray(voxels)
        if scores is None:
            scores = rng.uniform(0.4, 0.9, len(voxels))
        if kept is None:
            kept = rng.uniform(0.3, 0.7, (8, len(voxels)))
        shape, affine = changed.pop("shape", SHAPE), changed.pop("affine", AFFINE)
        space = changed.pop("space", "MNI152NLin2009cAsym")
        contrast, settings = changed.pop("stored_contrast", "face_vs_cat"), changed.pop("settings", {})
        record = changed.pop("record", {})
        write_map(directory, voxels, scores, shape, affine, contrast, space, settings, **record)
        tags = {ANALYSIS_TAG: "searchlight"}
        if len(kept):
            np.savez_compressed(
                directory / "relabelled_maps.npz",
                maps=np.asarray(kept, dtype=np.float32),
                rows=np.arange(len(kept)),
                voxels=voxels,
                shape=np.array(shape),
                affine=affine,
                statistic=np.array("roc_auc"),
                space=np.array(space or ""),
            )
            tags |= {INFERENCE_TAG: "enumerated", RELABELLINGS_TAG: "x"}
        config = {"cv": changed.pop("scheme", LOGO), "contrast": {"conditions": ["face", "cat"]}}
        (directory / "config.yaml").write_text(yaml.safe_dump(config))
        (directory / "audit.json").write_text("[]")
        params = {"subject": str(subject), "analysis": "searchlight", "contrast": "face_vs_cat", "cv": "logo"}
        params |= {"estimator": "ridge", "dataset": "nifti", "n_folds": "6", "n_samples": "18"}
        tags[FILES_TAG] = write_digests(directory)
        made.append(
            StoredRun(
                uri="sqlite:///none.db",
                artifact_uri=directory.as_uri(),
                run_id=f"{number:08x}{'0' * 24}",
                name=f"sub-{subject}",
                status=status,
                experiment_id="1",
                started=START + timedelta(minutes=number),
                params=params | changed,
                metrics={"smallest_p_fwe": 0.125},
                tags=tags,
            )
        )
        return made[-1]

    return make


def refusal(runs):
    groups, (refused,) = map_groups(runs)
    assert groups == []
    return refused.reason


def test_tests_are_those_of_the_standardised_maps_of_the_shared_voxels(make_run, rng):
    kept = [rng.uniform(0.3, 0.7, (6, 25)).astype(np.float32) for _ in range(3)]
    scores = rng.uniform(0.4, 0.9, (3, 25))
    runs = [make_run(place + 1, maps, scores[place]) for place, maps in enumerate(kept)]
    (maps,), refused = map_groups(runs)
    assert (refused, maps.n, maps.grid.n_partial) == ([], 3, 0)
    np.testing.assert_allclose(maps.mean, scores.mean(axis=0))
    z = [(table - table.mean(axis=0)) / table.std(axis=0) for table in np.array(kept, dtype=np.float64)]
    sums = np.array([np.sum(rows, axis=0) for rows in product(*z)]) / np.sqrt(3)
    np.testing.assert_allclose(maps.mean_test.z, sums[0], atol=1e-5)
    np.testing.assert_allclose(maps.mean_test.p, (sums >= sums[0] - 1e-4).mean(axis=0), atol=1e-9)
    maxima = sums.max(axis=1)
    expected = [(maxima >= value - 1e-4).mean() for value in sums[0]]
    np.testing.assert_allclose(maps.mean_test.p_fwe, expected, atol=1e-9)
    lowest = np.min([table[0] for table in z], axis=0)
    p = np.prod([(table >= lowest - 1e-4).mean(axis=0) for table in z], axis=0)
    np.testing.assert_allclose(maps.prevalence.p_global, p, rtol=1e-9)


def test_voxels_that_a_subject_lacks_are_left_out_and_counted(make_run):
    first = make_run(1, voxels=np.arange(5, 30))
    second = make_run(2, voxels=np.arange(8, 33))
    (maps,), _ = map_groups([first, second])
    assert np.flatnonzero(maps.grid.mask).tolist() == list(range(8, 30))
    assert maps.grid.n_partial == 6
    assert any("6 voxels are left out" in note for note in maps.notes)
    expected = [run.read_image("searchlight_face_vs_cat.nii.gz").get_fdata() for run in (first, second)]
    np.testing.assert_allclose(maps.mean, np.mean(expected, axis=0)[maps.grid.mask])


def test_undefined_voxels_are_left_out(make_run, rng):
    kept = rng.uniform(0.3, 0.7, (8, 25))
    kept[3, 4] = np.nan
    (maps,), _ = map_groups([make_run(1, kept), make_run(2)])
    assert not maps.grid.mask.ravel()[9]
    assert maps.grid.mask.sum() == 24


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"space": "MNI152NLin6Asym"}, ["the space", "MNI152NLin2009cAsym", "MNI152NLin6Asym"]),
        ({"shape": (4, 3, 4)}, ["the shape", "(4, 3, 3)", "(4, 3, 4)"]),
        ({"affine": np.diag([2.0, 3.0, 3.0, 1.0])}, ["the affine", "2.0"]),
        ({"settings": {"radius": 8.0}}, ["analysis.radius", "6.0", "8.0"]),
        ({"settings": {"scorer": "roc_auc"}}, ["analysis.scorer", "accuracy", "roc_auc"]),
        ({"settings": {"statistic": "decision_value"}}, ["analysis.statistic", "roc_auc", "decision_value"]),
        ({"stored_contrast": "face_vs_house"}, ["the contrast", "face_vs_cat", "face_vs_house"]),
        ({"voxels": np.arange(31, 36)}, ["no voxel is in the maps of all"]),
    ],
)
def test_other_searchlights_are_refused_with_both_runs_and_values(make_run, changed, words):
    message = refusal([make_run(1), make_run(2, **changed)])
    for word in [*words, "00000000 (sub-1)", "00000001 (sub-2)"]:
        assert word in message


def test_subjects_in_spaces_of_their_own_are_refused_with_what_to_do(make_run):
    message = refusal([make_run(1, space=None), make_run(2, space=None)])
    assert "run 00000000 (sub-1)" in message
    assert "dataset.space=" in message
    assert "analysis=decoding" in message


def test_other_settings_of_memory_and_of_the_correction_do_not_matter(make_run):
    other = {"batch_size": 1, "keep_maps": 9, "correction": "tfce", "mask": "/other/mask.nii"}
    groups, refused = map_groups([make_run(1), make_run(2, settings=other)])
    assert (len(groups), refused) == (1, [])


@pytest.mark.parametrize("damage", ["edited", "deleted", "truncated"])
def test_damaged_maps_are_refused(make_run, damage, tmp_path):
    runs = [make_run(1), make_run(2)]
    file = tmp_path / "run1" / "relabelled_maps.npz"
    content = file.read_bytes()
    if damage == "edited":
        file.write_bytes(content[:-30] + bytes([content[-30] ^ 1]) + content[-29:])
    elif damage == "deleted":
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 2])
        # As if the disk had been full when the run was written, and its digest computed afterwards.
        tags = dict(runs[1].tags) | {FILES_TAG: write_digests(tmp_path / "run1")}
        runs[1] = StoredRun(**{**vars(runs[1]), "tags": tags})
    message = refusal(runs)
    assert "relabelled_maps.npz of run 00000001 (sub-2)" in message or "no relabelled_maps.npz" in message
    assert "resume=false" in message


def test_maps_that_do_not_fit_their_voxels_are_refused(make_run, tmp_path):
    runs = [make_run(1), make_run(2)]
    file = tmp_path / "run1" / "relabelled_maps.npz"
    stored = dict(np.load(file))
    np.savez_compressed(file, **stored | {"voxels": stored["voxels"][::-1]})
    tags = dict(runs[1].tags) | {FILES_TAG: write_digests(tmp_path / "run1")}
    runs[1] = StoredRun(**{**vars(runs[1]), "tags": tags})
    assert "its maps do not fit the centres" in refusal(runs)


def test_subject_without_relabelled_maps_leaves_the_mean_map(make_run):
    (maps,), _ = map_groups([make_run(1), make_run(2, kept=[])])
    assert maps.mean_test is None
    assert maps.prevalence is None
    assert len(maps.mean) == 25
    assert any("subject 2 has no relabelled maps" in note for note in maps.notes)
    assert "group_mean" in make_group_images(maps)
    assert "group_p" not in make_group_images(maps)
    assert len(find_group_peaks(maps)) > 0


def test_few_and_unequal_relabelled_maps_are_noted(make_run, rng):
    runs = [make_run(1), make_run(2, rng.uniform(0.3, 0.7, (5, 25)))]
    (maps,), _ = map_groups(runs)
    text = " ".join(maps.notes)
    assert "100 relabelled maps per subject or more are wanted" in text
    assert "subject 1 has 8; subject 2 has 5" in text
    assert "differ in their number of relabelled maps: 5 in 2, 8 in 1" in text


def test_majority_of_four_subjects_cannot_be_significant(make_run):
    (maps,), _ = map_groups([make_run(subject) for subject in range(1, 5)])
    assert any("majority null): cannot be significant with 4 subjects" in note for note in maps.notes)


def test_twelve_subjects_are_tested_by_changes_of_sign(make_run, rng):
    scores = rng.uniform(0.4, 0.8, (12, 25))
    scores[:, 3] = rng.uniform(0.8, 0.9, 12)
    runs = [make_run(place, kept=[], scores=values) for place, values in enumerate(scores, start=1)]
    (maps,), _ = map_groups(runs)
    assert maps.sign_flip.n_patterns == 4096
    assert maps.sign_flip.p[3] == 1 / 4096
    signs = np.array(list(product((1, -1), repeat=12)))
    means = signs @ (scores - 0.5)
    np.testing.assert_allclose(maps.sign_flip.p, (means >= means[0] - 1e-9).mean(axis=0), atol=1e-12)
    assert "group_p_sign_flip_tfce" in make_group_images(maps)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"scheme": {"_target_": "sklearn.model_selection.KFold"}}, "does not hold out whole scanner runs"),
        ({"record": {"class_sizes": {"face": 9, "cat": 8}}}, "unequal numbers of volumes"),
        ({"record": {"class_sizes": None}}, "does not record how many volumes"),
    ],
)
def test_scores_whose_chance_level_is_not_half_are_not_flipped(make_run, changed, words):
    (maps,), _ = map_groups([make_run(subject, kept=[], **changed) for subject in range(1, 13)])
    assert maps.sign_flip is None
    assert any(words in note for note in maps.notes)


def test_few_subjects_are_not_flipped(make_run):
    (maps,), _ = map_groups([make_run(1), make_run(2)])
    assert any("2 subjects have 4 patterns of signs" in note for note in maps.notes)


def test_several_contrasts_are_several_groups_with_holms_correction(make_run):
    runs = [make_run(subject) for subject in (1, 2)]
    runs += [
        make_run(subject, contrast="face_vs_house", stored_contrast="face_vs_house") for subject in (1, 2)
    ]
    groups, _ = map_groups(runs)
    assert [maps.params["contrast"] for maps in groups] == ["face_vs_cat", "face_vs_house"]
    smallest = [maps.mean_test.p_fwe.min() for maps in groups]
    low, high = sorted(smallest)
    expected = {low: 2 * low, high: max(2 * low, high)}
    assert [maps.p_holm for maps in groups] == pytest.approx([min(1, expected[p]) for p in smallest])
    assert "not over the 2 maps" in explain_several(groups)
    assert "Holm" in describe_maps(groups[0]).note


def test_newest_run_of_a_subject_counts_and_killed_ones_are_noted(make_run):
    runs = [make_run(1), make_run(1), make_run(2), make_run(3, status="KILLED")]
    (maps,), _ = map_groups(runs)
    assert maps.subjects["run_id"].tolist() == [runs[1].run_id, runs[2].run_id]
    text = " ".join(maps.notes)
    assert "subject 1 has 2 runs of this configuration; the newest counts" in text
    assert "subject 3 is left out: its run is KILLED" in text


@pytest.mark.parametrize("case", ["none", "one subject", "radius", "killed"])
def test_runs_that_make_no_group_are_explained(make_run, case):
    runs = {
        "none": lambda: [StoredRun(**{**vars(make_run(1)), "tags": {}})],
        "one subject": lambda: [make_run(1), make_run(1)],
        "radius": lambda: [make_run(1), make_run(2, analysis="searchlight[radius=6]")],
        "killed": lambda: [make_run(1), make_run(2, status="KILLED")],
    }[case]()
    words = {
        "none": ["none of the 1 selected runs is a searchlight"],
        "one subject": ["all of subject 1"],
        "radius": [
            "which differ in analysis searchlight[radius=6] and searchlight",
            "--sweep",
        ],
        "killed": ["all of subject 1", "1 KILLED"],
    }[case]
    with pytest.raises(DesignError) as caught:
        refuse_ungrouped(runs)
    for word in words:
        assert word in str(caught.value)


def test_decodings_are_left_out(make_run):
    other = StoredRun(**{**vars(make_run(3)), "tags": {}})
    (maps,), _ = map_groups([make_run(1), make_run(2), other])
    assert maps.subjects["subject"].tolist() == ["1", "2"]


def test_files_are_the_maps_and_the_json_is_valid(make_run, tmp_path):
    # nilearn has no image of this space, so that the figure has no background.
    (maps,), _ = map_groups([make_run(subject, space="studytemplate") for subject in (1, 2)])
    home = tmp_path / "out"
    home.mkdir()
    write_group_maps(maps, home)
    names = {file.name for file in home.iterdir()}
    assert {"group_maps.json", "group_maps.csv", "group_peaks.csv", "group_face_vs_cat.png"} <= names
    p = nib.load(home / "group_p_fwe_face_vs_cat.nii.gz")
    np.testing.assert_allclose(p.get_fdata()[maps.grid.mask], maps.mean_test.p_fwe)
    assert (p.get_fdata()[~maps.grid.mask] == 1).all()
    np.testing.assert_allclose(p.affine, AFFINE)
    assert p.header["sform_code"] == 2
    in_mni = map_groups([make_run(1), make_run(2)])[0][0]
    assert make_group_images(in_mni)["group_mean"].header["sform_code"] == 4
    mean = nib.load(home / "group_mean_face_vs_cat.nii.gz").get_fdata()
    assert (mean[~maps.grid.mask] == 0).all()
    thresholded = nib.load(home / "group_thresholded_face_vs_cat.nii.gz").get_fdata()[maps.grid.mask]
    np.testing.assert_allclose(thresholded, np.where(maps.mean_test.p_fwe <= 0.05, maps.mean, 0))
    content = json.loads((home / "group_maps.json").read_text())
    assert content == json.loads(maps_to_json(maps))
    assert content["tests"]["means"]["smallest_p"] == maps.mean_test.p_fwe.min()
    peaks = pd.read_csv(home / "group_peaks.csv")
    assert peaks["z"].max() == pytest.approx(maps.mean_test.z.max(), rel=1e-9)
    assert not (home / "warnings.txt").exists()


def test_table_has_a_row_per_configuration_and_every_note_once(make_run):
    runs = [make_run(subject) for subject in (1, 2)]
    runs += [make_run(subject, estimator="lda") for subject in (1, 2)]
    runs += [make_run(subject, estimator="svc", space=None) for subject in (1, 2)]
    groups, refused = map_groups(runs)
    console = Console(file=io.StringIO(), width=200)
    print_group_maps(console, groups, refused)
    printed = console.file.getvalue()
    assert [maps.params["estimator"] for maps in groups] == ["ridge", "lda"]
    assert printed.count("changes of sign") == 1
    assert "not in a common space" in printed
    assert "p Holm" in printed
