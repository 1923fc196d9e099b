"""BIDS and fMRIPrep: which files belong to a run, and the messages where that is ambiguous."""

import json
import re
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.masking import apply_mask
from nilearn.signal import clean

from harness.app.run_spec import decode_request
from harness.datasets.bids import Bids
from harness.datasets.brain_masks import intersect_brain_masks
from harness.errors import DataError, UsageError
from harness.samples.contrasts import make_contrast
from harness.samples.samples import Roi, find_mask, load_samples
from harness.samples.signal import Signal

FACE_CAT = make_contrast(["face", "cat"])
STEM = "sub-01_task-objects"


@pytest.fixture
def root(bids_study):
    return bids_study()


def func(root, label="01"):
    return root / "derivatives" / "fmriprep" / f"sub-{label}" / "func"


def names(recording):
    files = recording.bold if isinstance(recording.bold, tuple) else (recording.bold,)
    return [file.name.split("_space")[0] for file in files]


# What is found ----------------------------------------------------------------------------------------------


def test_load_finds_all_files_of_a_subject(root, run_of_study):
    recording = Bids(root).load(2)
    where = func(root, "02")
    assert recording.bold == tuple(
        where / f"sub-02_task-objects_run-{run}_space-T1w_desc-preproc_bold.nii.gz" for run in (1, 2)
    )
    shown = [run_of_study(2, run)[1] for run in (1, 2)]
    expected = {"condition": [*shown[0], *shown[1]], "run": np.repeat([1, 2], [len(part) for part in shown])}
    pd.testing.assert_frame_equal(recording.labels, pd.DataFrame(expected).astype({"condition": str}))
    assert recording.labels_file == tuple(
        root / "sub-02" / "func" / f"sub-02_task-objects_run-{run}_events.tsv" for run in (1, 2)
    )
    assert (recording.dataset, recording.subject, recording.t_r) == ("bids", 2, 2.0)
    assert recording.anat == where.parent / "anat" / "sub-02_desc-preproc_T1w.nii.gz"
    assert recording.notice is None


def test_name_of_the_data_set_is_that_of_its_description_and_not_of_its_directory(root):
    assert Bids(root, run=1).load(1).dataset == "bids"
    description = root / "dataset_description.json"
    for content, name in [
        ('{"Name": " Faces\\nand cats"}', "Faces and cats"),
        ('{"Name": 3}', "bids"),
        ("{", "bids"),
    ]:
        description.write_text(content)
        assert Bids(root, run=1).load(1).dataset == name
    moved = root.rename(root.with_name("elsewhere"))
    assert Bids(moved, run=1).load(1).dataset == "bids"


def test_an_empty_list_of_runs_is_refused(root, refused):
    refused(Bids(root, run=[]), "dataset.run=[] is empty", kind=UsageError)


def test_brain_is_the_intersection_of_all_runs_masks(root):
    mask = nib.load(Bids(root).load(1).masks["brain"]).get_fdata()
    assert np.argwhere(mask == 0).tolist() == [[5, 4, 1], [5, 4, 2]]
    assert Bids(root, run=1).load(1).masks["brain"].parent == func(root)


def test_an_unknown_mask_lists_the_available_ones(root):
    with pytest.raises(DataError, match=r"roi\.mask='vt' is neither .*bids subject 1 \(brain\)"):
        find_mask(Bids(root).load(1), "vt")


def test_confounds_are_chosen_by_name_and_regressed_out(root):
    recording = Bids(root).load(1)
    assert list(recording.confounds) == ["trans_x", "trans_x_derivative1", "motion_outlier00"]
    assert np.flatnonzero(recording.confounds["trans_x_derivative1"].isna()).tolist() == [0, 33]
    assert np.flatnonzero(recording.confounds["motion_outlier00"]).tolist() == [33 + 5]
    chosen = ["trans_x", "trans_x_derivative1", "motion_outlier00"]
    samples = load_samples(recording, FACE_CAT, Roi("brain"), Signal("none", confounds=chosen))
    expected = []
    for run in (1, 2):
        table = pd.read_csv(func(root) / f"{STEM}_run-{run}_desc-confounds_timeseries.tsv", sep="\t")
        table = table.bfill()[[name for name in chosen if name in table]]
        masked = apply_mask(str(recording.bold[run - 1]), str(recording.masks["brain"]), dtype=np.float32)
        expected.append(
            clean(masked, confounds=table.to_numpy(), detrend=False, standardize=None, filter=False)
        )
    # A column of zeros, where a run has no outlier, changes nothing but the last digits.
    np.testing.assert_allclose(samples.X, np.concatenate(expected)[samples.volumes], rtol=1e-5)


def test_confounds_may_have_their_old_name_or_be_absent(root, refused):
    for file in func(root).glob("*timeseries.tsv"):
        file.rename(file.with_name(file.name.replace("timeseries", "regressors")))
    assert Bids(root).load(1).confounds["trans_x"].notna().all()
    next(func(root).glob("*run-2*regressors.tsv")).unlink()
    refused(Bids(root), "run-2", "desc-confounds_timeseries.tsv", "dataset.run=")
    next(func(root).glob("*regressors.tsv")).unlink()
    assert Bids(root).load(1).confounds is None


@pytest.mark.parametrize("labels", [("1", "2"), ("001", "002"), ("MSC01", "MSC02"), ("1", "10")])
def test_subject_number_selects_the_label_with_that_number(bids_study, labels):
    recording = Bids(bids_study(labels=labels)).load(1)
    assert recording.bold[0].parent.parent.name == f"sub-{labels[0]}"


def test_subject_label_chooses_between_labels_with_one_number(bids_study, refused):
    root = bids_study(labels=("CON01", "PAT01"))
    refused(Bids(root), "sub-CON01 or sub-PAT01", "dataset.subject_label=CON{subject:02d}")
    recording = Bids(root, subject_label="PAT{subject:02d}").load(1)
    assert "sub-PAT01" in str(recording.bold[0])
    refused(Bids(root, subject_label="sub-PAT{subject:02d}"), "subject 2 (sub-PAT02)", "sub-CON01", subject=2)


def test_runs_are_in_the_order_of_their_numbers(bids_study):
    recording = Bids(bids_study(runs=(10, 2, 1))).load(1)
    assert names(recording) == [f"{STEM}_run-{run}" for run in (1, 2, 10)]
    assert recording.labels["run"].unique().tolist() == [1, 2, 10]


@pytest.mark.parametrize(
    ("run", "found"), [(2, [2]), ("2", [2]), ("02", [2]), ([3, 1], [1, 3]), (None, [1, 2, 3])]
)
def test_runs_are_chosen_by_number(bids_study, run, found):
    recording = Bids(bids_study(labels=("01",), runs=(1, 2, 3)), run=run).load(1)
    assert names(recording) == [f"{STEM}_run-{number}" for number in found]
    assert recording.labels["run"].unique().tolist() == found


def test_sessions_follow_one_another(bids_study, refused):
    root = bids_study(labels=("01",), sessions=("01", "02"))
    recording = Bids(root).load(1)
    assert names(recording) == [
        f"sub-01_ses-{s}_task-objects_run-{run}" for s in ("01", "02") for run in (1, 2)
    ]
    assert recording.labels["run"].unique().tolist() == [1, 2, 3, 4]
    assert recording.anat is not None  # not in the directory of a session
    assert [file.name[:13] for file in recording.labels_file] == ["sub-01_ses-01"] * 2 + ["sub-01_ses-02"] * 2
    assert names(Bids(root, session=2).load(1))[0].startswith("sub-01_ses-02")
    refused(Bids(root, session="03"), "dataset.session='03'", "available: 01, 02")


def test_events_and_sidecars_of_a_level_above_are_inherited(root):
    expected = Bids(root, run=1).load(1).labels
    shutil.move(root / "sub-01" / "func" / f"{STEM}_run-1_events.tsv", root / "task-objects_run-1_events.tsv")
    recording = Bids(root).load(1)
    assert recording.labels_file[0] == root / "task-objects_run-1_events.tsv"
    pd.testing.assert_frame_equal(recording.labels[:33], expected)


def test_repetition_time_is_that_of_the_nearest_sidecar(root):
    assert Bids(root).load(1).t_r == 2.0
    for file in func(root).glob("*_bold.nii.gz"):
        file.with_name(file.name.replace(".nii.gz", ".json")).write_text('{"RepetitionTime": 2.02, "x": 1}')
    assert Bids(root).load(1).t_r == 2.02
    assert Bids(root, t_r=1.99).load(1).t_r == 1.99


def test_repetition_time_defaults_to_the_header(root):
    (root / "task-objects_bold.json").unlink()
    assert Bids(root).load(1).t_r == 2.0
    (root / "task-objects_bold.json").write_text('{"TaskName": "objects"}')
    assert Bids(root).load(1).t_r == 2.0


def test_derivatives_default_to_the_only_directory_with_subjects(root, tmp_path, refused):
    home = root / "derivatives"
    (home / "fmriprep").rename(home / "fmriprep-24.1.0")
    (home / "qc").mkdir()
    assert "fmriprep-24.1.0" in str(Bids(root).load(1).bold[0])
    shutil.copytree(home / "fmriprep-24.1.0", home / "fmriprep-23.0.0")
    refused(Bids(root), "fmriprep-23.0.0, fmriprep-24.1.0", "dataset.derivatives=")
    assert "23.0.0" in str(Bids(root, derivatives="derivatives/fmriprep-23.0.0").load(1).bold[0])
    shutil.move(home / "fmriprep-24.1.0", tmp_path / "elsewhere")
    assert "elsewhere" in str(Bids(root, derivatives=tmp_path / "elsewhere").load(1).bold[0])
    refused(Bids(root, derivatives="nowhere"), "dataset.derivatives='nowhere'", "fmriprep-23.0.0, qc")


def test_root_may_contain_wildcard_characters(root):
    strange = root.with_name("ds [1]")
    root.rename(strange)
    assert len(Bids(strange).load(1).bold) == 2


def test_masks_option_adds_masks(root, refused):
    nib.save(nib.load(next(func(root).glob("*run-1*mask.nii.gz"))), root / "sub-1_vt.nii.gz")
    dataset = Bids(root, masks={"vt": f"{root}/sub-{{subject}}_vt.nii.gz"})
    assert list(dataset.load(1).masks) == ["brain", "vt"]
    refused(dataset, "dataset.masks.vt", "sub-2_vt.nii.gz", "available: subject 1;", subject=2)


# Indices are numbers ----------------------------------------------------------------------------------------


def rename(folder, pattern, replacement):
    """Rename every file below a directory whose name has `pattern`, a regular expression."""
    for file in sorted(folder.rglob("*")):
        if file.is_file() and re.search(pattern, file.name):
            file.rename(file.with_name(re.sub(pattern, replacement, file.name)))


def by_run(recording):
    """What belongs to every run but its images' names."""
    return [int(re.search("run-([0-9]+)", file.name)[1]) for file in recording.labels_file]


@pytest.mark.parametrize(("raw", "derived"), [("0", ""), ("", "0"), ("00", "0")])
def test_leading_zeros_of_the_run_index_do_not_matter(root, raw, derived):
    """bids-examples: ds001 has run-01, and its derivatives ds000001-fmriprep have run-1."""
    expected = Bids(root).load(1)
    rename(root / "sub-01", "run-", f"run-{raw}")
    rename(func(root), r"run-(.*bold\.nii\.gz)", rf"run-{derived}\1")
    recording = Bids(root).load(1)
    pd.testing.assert_frame_equal(recording.labels, expected.labels)
    pd.testing.assert_frame_equal(recording.confounds, expected.confounds)
    assert by_run(recording) == [1, 2]
    np.testing.assert_array_equal(
        *(nib.load(one.masks["brain"]).get_fdata() for one in (recording, expected))
    )


@pytest.mark.parametrize("entity", ["run", "echo", "flip", "inv", "split", "chunk"])
def test_index_entities_are_compared_as_integers(root, entity):
    if entity != "run":
        rename(root / "sub-01", "_events", f"_{entity}-03_events")
        rename(func(root), "_space", f"_{entity}-3_space")
    else:
        rename(root / "sub-01", "run-", "run-0")
    assert by_run(Bids(root).load(1)) == [1, 2]


@pytest.mark.parametrize("entity", ["acq", "dir", "rec"])
def test_label_entities_are_compared_as_text(root, entity, refused):
    rename(root / "sub-01", "_events", f"_{entity}-03_events")
    rename(func(root), "_space", f"_{entity}-3_space")
    refused(Bids(root), "events.tsv is missing")


def test_sidecar_of_a_run_with_other_zeros_precedes_that_of_the_root(root):
    for run in (1, 2):
        sidecar = root / "sub-01" / "func" / f"{STEM}_run-{run}_bold.json"
        sidecar.write_text('{"RepetitionTime": 2.5}')
    rename(root / "sub-01", "run-(.*events)", r"run-0\1")
    rename(func(root), "run-", "run-0")
    assert Bids(root).load(1).t_r == 2.5


def test_one_run_with_and_without_zeros_is_refused(root, refused):
    file = func(root) / f"{STEM}_run-1_space-T1w_desc-preproc_bold.nii.gz"
    shutil.copy(file, file.with_name(file.name.replace("run-1", "run-01")))
    refused(Bids(root), file, "are images of the same run", "remove the other")


# Inheritance ------------------------------------------------------------------------------------------------


def test_the_deepest_level_takes_precedence_over_the_number_of_entities(root):
    for run in (1, 2):
        (root / f"task-objects_run-{run}_bold.json").write_text('{"RepetitionTime": 3.0}')
    (root / "sub-01" / "sub-01_bold.json").write_text('{"RepetitionTime": 2.5}')
    assert Bids(root).load(1).t_r == 2.5


def test_every_level_is_searched_where_there_are_sessions(bids_study):
    root = bids_study(labels=("01",), sessions=("01", "02"))
    (root / "sub-01" / "sub-01_task-objects_bold.json").write_text('{"RepetitionTime": 2.5}')
    assert Bids(root).load(1).t_r == 2.5
    for session in ("01", "02"):
        sidecar = root / "sub-01" / f"ses-{session}" / f"sub-01_ses-{session}_task-objects_bold.json"
        sidecar.write_text('{"RepetitionTime": 2.25}')
    assert Bids(root).load(1).t_r == 2.25


# The order of time ------------------------------------------------------------------------------------------


@pytest.fixture
def sessions(bids_study):
    """A data set whose sessions are, in order of time, pre, post and later."""
    return bids_study(labels=("01",), sessions=("pre", "post", "later"))


TIMES = {"pre": "2009-05-18T12:26:31", "post": "2009-06-01T08:00:00.25", "later": "2010-01-01T00:00:00"}
IN_TIME = ["pre", "pre", "post", "post", "later", "later"]
BY_NAME = ["later", "later", "post", "post", "pre", "pre"]


def sessions_of(recording):
    return [re.search("_ses-([a-z]+)_", file.name)[1] for file in recording.bold]


def write_sessions(root, times):
    rows = [f"ses-{session}\t{time}" for session, time in sorted(times.items())]
    (root / "sub-01" / "sub-01_sessions.tsv").write_text("\n".join(["session_id\tacq_time", *rows]))


def write_scans(root, times, runs=(1, 2)):
    for session, time in times.items():
        names = [f"func/sub-01_ses-{session}_task-objects_run-0{run}_bold.nii.gz" for run in runs]
        rows = [f"{name}\t{time}" for name in ("anat/sub-01_T1w.nii.gz", *names)]
        file = root / "sub-01" / f"ses-{session}" / f"sub-01_ses-{session}_scans.tsv"
        file.write_text("\n".join(["filename\tacq_time", *rows]))


@pytest.mark.parametrize("write", [write_sessions, write_scans])
@pytest.mark.parametrize("end", ["", "Z"])
def test_sessions_are_in_the_order_of_their_acquisition_times(sessions, write, end):
    write(sessions, {session: time + end for session, time in TIMES.items()})
    recording = Bids(sessions).load(1)
    assert sessions_of(recording) == IN_TIME
    assert recording.notice is None
    assert [re.search("_ses-([a-z]+)_", file.name)[1] for file in recording.labels_file] == IN_TIME
    assert recording.labels["run"].unique().tolist() == [1, 2, 3, 4, 5, 6]


def test_sessions_without_acquisition_times_are_sorted_by_name_with_a_notice(sessions):
    recording = Bids(sessions).load(1)
    assert sessions_of(recording) == BY_NAME
    for part in ("sessions later, post, pre", "acquisition times", "sub-01_sessions.tsv"):
        assert part in recording.notice
    assert Bids(sessions, session="post").load(1).notice is None


@pytest.mark.parametrize("time", ["n/a", "", "yesterday", "2009-06-01T08:00:00Z", TIMES["pre"]])
@pytest.mark.parametrize("write", [write_sessions, write_scans])
def test_times_that_give_no_order_are_not_used(sessions, write, time):
    """Missing, unreadable, of another time zone than the others, or the same twice."""
    write(sessions, TIMES | {"post": time})
    recording = Bids(sessions).load(1)
    assert sessions_of(recording) == BY_NAME
    assert "by name" in recording.notice


def test_a_table_of_times_that_cannot_be_read_is_not_used(sessions):
    write_sessions(sessions, TIMES)
    file = sessions / "sub-01" / "sub-01_sessions.tsv"
    file.write_text(file.read_text().replace("00:00", "00:00\t"))
    with pytest.warns(UserWarning, match=f"{re.escape(str(file))}, line 2 has 3 cells"):
        recording = Bids(sessions).load(1)
    assert sessions_of(recording) == BY_NAME
    assert "by name" in recording.notice


def test_runs_of_a_session_are_in_the_order_of_their_acquisition_times(root):
    rows = [f"func/{STEM}_run-1_bold.nii.gz\t2009-05-18T12:30:00"]
    rows += [f"func/{STEM}_run-2_bold.nii.gz\t2009-05-18T12:20:00", "anat/sub-01_T1w.nii.gz\tn/a"]
    (root / "sub-01" / "sub-01_scans.tsv").write_text("\n".join(["filename\tacq_time", *rows]))
    expected = Bids(root, run=2).load(1).labels
    recording = Bids(root).load(1)
    assert by_run(recording) == [2, 1]
    pd.testing.assert_frame_equal(recording.labels[:33], expected)


# What is not clear ------------------------------------------------------------------------------------------


def test_one_of_several_tasks_must_be_chosen(bids_study, refused):
    root = bids_study(labels=("01",), tasks=("faces", "houses"))
    refused(Bids(root), "several tasks, faces, houses", "dataset.task=faces")
    assert names(Bids(root, task="houses").load(1))[0] == "sub-01_task-houses_run-1"
    refused(Bids(root, task="house"), "dataset.task='house'", "available: faces, houses")


def test_one_of_several_spaces_must_be_chosen(bids_study, refused):
    spaces = ("space-T1w", "space-MNI152NLin6Asym_res-1", "space-MNI152NLin6Asym_res-2", "")
    root = bids_study(labels=("01",), spaces=spaces)
    there = "MNI152NLin6Asym:res-1, MNI152NLin6Asym:res-2, T1w, func"
    refused(Bids(root), "several spaces", there, "dataset.space=")
    refused(
        Bids(root, space="MNI152NLin6Asym"), "several spaces, MNI152NLin6Asym:res-1, MNI152NLin6Asym:res-2;"
    )
    refused(Bids(root, space="MNI"), "dataset.space='MNI'", there)
    recording = Bids(root, space="MNI152NLin6Asym:res-2", run=1).load(1)
    assert recording.bold.name == f"{STEM}_run-1_space-MNI152NLin6Asym_res-2_desc-preproc_bold.nii.gz"
    assert recording.masks["brain"].name == f"{STEM}_run-1_space-MNI152NLin6Asym_res-2_desc-brain_mask.nii.gz"
    assert recording.anat is None  # the one there is lies in another space
    assert recording.space == "MNI152NLin6Asym"
    assert Bids(root, space="T1w", run=1).load(1).space is None
    own = Bids(root, space="func", run=1).load(1)
    assert own.bold.name == f"{STEM}_run-1_desc-preproc_bold.nii.gz"
    assert own.masks["brain"].name == f"{STEM}_run-1_desc-brain_mask.nii.gz"
    assert own.anat is None
    assert own.space is None


def test_two_images_of_one_run_are_refused(root, refused):
    for file in list(func(root).glob("*run-1*")) + list(func(root).glob("*run-2*")):
        shutil.copy(file, file.with_name(file.name.replace("_run-", "_acq-mb_run-")))
    message = refused(Bids(root), "two images of one run", "acq (mb, null)", "dataset.entities.acq=mb")
    assert f"{STEM}_run-1_space-T1w_desc-preproc_bold.nii.gz" in message
    # Events without `acq` apply to images with it, and are not there twice.
    assert "acq-mb" in names(Bids(root, entities={"acq": "mb"}).load(1))[0]
    assert names(Bids(root, entities={"acq": None}).load(1))[0] == f"{STEM}_run-1"
    refused(Bids(root, entities={"acq": "sb"}), "dataset.entities.acq=sb", "available: mb, null")


def test_an_image_both_compressed_and_uncompressed_is_refused(root, refused):
    file = func(root) / f"{STEM}_run-1_space-T1w_desc-preproc_bold.nii.gz"
    nib.save(nib.load(file), file.with_suffix(""))
    refused(Bids(root), f"{file.name} are images of the same run", "remove the other")


def test_two_applicable_events_files_are_refused(root, refused):
    for name in ("run-2_events.tsv", "task-objects_events.tsv"):
        shutil.copy(root / "sub-01" / "func" / f"{STEM}_run-1_events.tsv", root / name)
    (root / "sub-01" / "func" / f"{STEM}_run-2_events.tsv").unlink()
    refused(Bids(root), root / "run-2_events.tsv", root / "task-objects_events.tsv", "both apply")


# What is missing or damaged ---------------------------------------------------------------------------------


def test_root_must_be_a_directory(tmp_path, refused):
    with pytest.raises(UsageError, match=r"dataset\.root is not given"):
        Bids()
    with pytest.raises(UsageError, match=r"dataset\.t_r=0"):
        Bids("/data", t_r=0)
    refused(Bids(tmp_path / "nowhere"), f"dataset.root={tmp_path / 'nowhere'} is not a directory")


def test_raw_data_without_derivatives_are_refused(root, refused):
    shutil.rmtree(root / "derivatives")
    refused(Bids(root), root / "derivatives", "no directory with subjects", "dataset.derivatives=")


def test_a_subject_without_preprocessed_images_is_refused(root, refused):
    for file in func(root).glob("*_bold.nii.gz"):
        file.unlink()
    refused(Bids(root), "sub-01_task-..._desc-preproc_bold.nii.gz")


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("run", 3, ["dataset.run=3", "available: 1, 2"]),
        ("run", [1, 7], ["dataset.run=7"]),
        ("session", 1, ["dataset.session=1", "no file name contains ses-"]),
        ("task", "rest", ["dataset.task='rest'", "available: objects"]),
    ],
)
def test_unknown_labels_are_refused_with_the_available_ones(root, key, value, parts, refused):
    refused(Bids(root, **{key: value}), *parts)


def test_missing_events_name_the_expected_file(root, refused):
    missing = root / "sub-01" / "func" / f"{STEM}_run-2_events.tsv"
    missing.unlink()
    refused(Bids(root), missing, "dataset.run=")
    assert names(Bids(root, run=1).load(1)) == [f"{STEM}_run-1"]


def test_brain_masks_must_exist_for_all_runs_or_none(root, refused):
    missing = func(root) / f"{STEM}_run-2_space-T1w_desc-brain_mask.nii.gz"
    missing.unlink()
    refused(Bids(root), missing)
    (func(root) / f"{STEM}_run-1_space-T1w_desc-brain_mask.nii.gz").unlink()
    assert Bids(root).load(1).masks == {}


@pytest.mark.parametrize("damage", ["shape", "affine", "bytes"])
def test_brain_masks_on_different_grids_are_refused(root, damage, refused):
    file = func(root) / f"{STEM}_run-2_space-T1w_desc-brain_mask.nii.gz"
    if damage == "bytes":
        file.write_bytes(file.read_bytes()[:100])
    else:
        shape = (6, 5, 5) if damage == "shape" else (6, 5, 4)
        affine = nib.load(file).affine + np.diag([0.5 * (damage == "affine"), 0, 0, 0])
        nib.save(nib.Nifti1Image(np.ones(shape, dtype=np.uint8), affine), file)
    words = ["are damaged"] if damage == "bytes" else ["cannot be intersected", "dataset.space="]
    refused(Bids(root), file, *words)


def test_an_unwritable_cache_directory_is_refused(root, tmp_path, refused):
    (tmp_path / "file").touch()
    refused(Bids(root, cache_dir=tmp_path / "file"), "cannot be written", "dataset.cache_dir=")


def test_intersection_is_written_once_and_keeps_small_components(tmp_path):
    islands = np.zeros((6, 5, 4), dtype=np.uint8)
    islands[:2] = islands[5, 0, 0] = 1
    for name, voxel in (("a", (0, 0, 0)), ("b", (1, 1, 1))):
        one = islands.copy()
        one[voxel] = 0
        nib.save(nib.Nifti1Image(one, np.eye(4)), tmp_path / f"{name}.nii.gz")
    masks = [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"]
    path = intersect_brain_masks(masks, tmp_path / "cache")
    islands[0, 0, 0] = islands[1, 1, 1] = 0
    np.testing.assert_array_equal(nib.load(path).get_fdata(), islands)
    written = path.stat().st_mtime_ns
    assert intersect_brain_masks(masks[::-1], tmp_path / "cache") == path
    assert path.stat().st_mtime_ns == written
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    shutil.copy(masks[0], masks[1])
    assert intersect_brain_masks(masks, tmp_path / "cache") == masks[0]


@pytest.mark.parametrize(
    ("content", "part"),
    [("{", "cannot be read as JSON"), ('{"RepetitionTime": "2"}', "'2'"), ('{"RepetitionTime": 0}', "is 0")],
)
def test_an_invalid_sidecar_is_refused(root, content, part, refused):
    (root / "task-objects_bold.json").write_text(content)
    refused(Bids(root), root / "task-objects_bold.json", part)


def test_an_unknown_or_varying_repetition_time_is_refused(root, refused):
    (root / "task-objects_bold.json").unlink()
    (root / "run-1_bold.json").write_text(json.dumps({"RepetitionTime": 2.5}))
    refused(Bids(root), "2.5 s", "2.0 s", "dataset.run=")
    (root / "run-1_bold.json").unlink()
    for file in func(root).glob("*_bold.nii.gz"):
        image = nib.load(file)
        image = nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine)
        nib.save(image, file)
    refused(Bids(root), "RepetitionTime", "dataset.t_r=2")
    assert Bids(root, t_r=2).load(1).t_r == 2.0


def test_confounds_need_one_row_per_volume(root, refused):
    file = func(root) / f"{STEM}_run-2_desc-confounds_timeseries.tsv"
    file.write_text("\n".join(file.read_text().splitlines()[:-1]))
    refused(Bids(root), file, "32 rows", "33 volumes")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"onset\tduration\n0\t1\n", b""])
def test_invalid_events_are_refused(root, content, refused):
    file = root / "sub-01" / "func" / f"{STEM}_run-1_events.tsv"
    file.write_bytes(content)
    refused(Bids(root), file)


# Through the front door -------------------------------------------------------------------------------------


def test_a_composed_request_decodes(compose, root):
    request = compose(
        "dataset=bids",
        f"++dataset.root={root}",
        "++dataset.run=[1,2]",
        "roi=brain",
        "scoring.inner_folds=5",
        "signal.confounds=[trans_x,trans_x_derivative1]",
        "subject=2",
    )
    decoding = decode_request(request)
    assert len(decoding.folds) == 2
    # Four voxels rise while faces are shown.
    assert decoding.folds["test_accuracy"].mean() > 0.9
    weights = np.asarray(decoding.weights[0].mean.dataobj)
    assert np.unravel_index(weights.argmax(), weights.shape)[:2] == (0, 0)
