"""The contract of every data set: the same checks for all layouts."""

from dataclasses import replace
from pathlib import Path

import harness.conf
import nibabel as nib
import numpy as np
import pytest
from nilearn.image import concat_imgs, index_img
from nilearn.maskers import NiftiMasker
from nilearn.masking import apply_mask

from harness.datasets.bids import Bids
from harness.datasets.haxby import Haxby
from harness.datasets.nifti import Nifti
from harness.datasets.recording import Recording
from harness.datasets.simulated import Simulated
from harness.errors import DataError
from harness.samples.contrasts import make_contrast
from harness.samples.samples import Roi, load_samples
from harness.samples.signal import Signal, zscore

FACE_CAT = make_contrast(["face", "cat"])
# Every layout: the option of `dataset`, the subjects that a message must name, a mask, the number of runs.
LAYOUTS = {
    "simulated": ("simulated", "1 to 6", "vt", 12),
    "haxby": ("haxby", "1 to 6", "vt", 4),
    "nifti, one image": ("nifti", "1, 2", "vt", 3),
    "nifti, one per run": ("nifti", "1, 2", "vt", 3),
    "nifti, events": ("nifti", "1, 2", "vt", 3),
    "bids": ("bids", "sub-01, sub-02", "brain", 2),
}


@pytest.fixture
def dataset(request, layout):
    if layout == "simulated":
        return Simulated()
    if layout == "haxby":
        return Haxby(request.getfixturevalue("tiny_subject")())
    if layout == "bids":
        return Bids(request.getfixturevalue("bids_study")())
    home = request.getfixturevalue("nifti_study") / "sub-{subject:02d}"
    several = {"confounds": f"{home}/confounds-*.tsv", "masks": {"vt": f"{home}/vt.nii.gz"}}
    if layout == "nifti, one image":
        return Nifti(f"{home}/all.nii.gz", f"{home}/labels.tsv", **several)
    if layout == "nifti, one per run":
        return Nifti([f"{home}/run-{run}.nii.gz" for run in range(3)], home / "labels.tsv", **several)
    return Nifti(f"{home}/run-?.nii.gz", events=f"{home}/events-?.tsv", **several)


# The simulated images have 1452 volumes: concatenating and masking them with nilearn takes seconds.
every_layout = pytest.mark.parametrize(
    "layout",
    [pytest.param(name, marks=pytest.mark.slow if name == "simulated" else ()) for name in LAYOUTS],
)


def files_of(value):
    return (value,) if isinstance(value, Path) else value


def test_every_option_has_a_layout_here():
    options = {file.stem for file in (Path(harness.conf.__path__[0]) / "dataset").glob("*.yaml")}
    assert options == {option for option, *_ in LAYOUTS.values()}


@every_layout
def test_labels_files_and_masks_fit_the_image(dataset, layout):
    recording = dataset.load(1)
    assert isinstance(recording, Recording)
    assert recording.subject == 1
    labels, image = recording.labels, concat_imgs([str(file) for file in files_of(recording.bold)])
    assert {"condition", "run"} <= set(labels.columns)
    assert len(labels) == image.shape[3]
    assert labels.index.tolist() == list(range(len(labels)))
    assert labels["run"].dtype.kind == "i"
    assert all(type(name) is str and name for name in labels["condition"])
    assert {"face", "cat", "rest"} <= set(labels["condition"])
    runs = labels["run"].to_numpy()
    _, _, mask, n_runs = LAYOUTS[layout]
    # In one piece each, and in order.
    assert np.unique(runs).size == n_runs == 1 + np.count_nonzero(np.diff(runs))
    assert (np.diff(runs) >= 0).all()
    if len(files_of(recording.bold)) > 1:
        counts = [nib.load(file).shape[3] for file in files_of(recording.bold)]
        assert np.bincount(runs - runs[0]).tolist() == counts
    assert all(file.is_file() for file in files_of(recording.labels_file))
    assert mask in recording.masks
    for path in recording.masks.values():
        roi = nib.load(path)
        assert roi.shape == image.shape[:3]
        np.testing.assert_allclose(roi.affine, image.affine)
    assert recording.anat is None or recording.anat.is_file()
    assert recording.t_r in (2.0, 2.5)
    assert recording.confounds is None or len(recording.confounds) == len(labels)


@every_layout
def test_a_run_in_two_pieces_is_refused_in_every_layout(dataset, layout):
    """Three volumes of the first run carry the number of another one."""
    recording = dataset.load(1)
    labels = recording.labels.copy()
    labels.loc[5:7, "run"] = int(labels["run"].max()) + 1
    with pytest.raises(DataError, match=r"run \d comes back.*volume 8"):
        replace(recording, labels=labels)


@every_layout
def test_loading_twice_gives_equal_recordings(dataset):
    one, other = dataset.load(1), dataset.load(1)
    assert one.labels.equals(other.labels)
    assert (one.bold, one.labels_file, one.masks, one.anat) == (
        other.bold,
        other.labels_file,
        other.masks,
        other.anat,
    )
    assert (one.confounds is None and other.confounds is None) or one.confounds.equals(other.confounds)


@every_layout
def test_a_subject_outside_of_the_data_is_refused(dataset, layout):
    with pytest.raises(DataError) as error:
        dataset.load(99)
    assert "99" in str(error.value)
    assert LAYOUTS[layout][1] in str(error.value)
    assert "\n" not in str(error.value)


@every_layout
def test_samples_equal_those_of_nilearn(dataset, layout):
    recording = dataset.load(1)
    mask = LAYOUTS[layout][2]
    samples = load_samples(recording, FACE_CAT, Roi(mask), Signal())
    image = concat_imgs([str(file) for file in files_of(recording.bold)])
    chosen = np.flatnonzero(recording.labels["condition"].isin(["face", "cat"]))
    np.testing.assert_array_equal(samples.volumes, chosen)
    np.testing.assert_array_equal(samples.y, recording.labels["condition"][chosen])
    np.testing.assert_array_equal(samples.runs, recording.labels["run"][chosen])
    selected = index_img(image, chosen)
    np.testing.assert_array_equal(
        samples.X, apply_mask(selected, str(recording.masks[mask]), dtype=np.float32)
    )
    masker = NiftiMasker(str(recording.masks[mask]), standardize="zscore_sample")
    np.testing.assert_array_equal(zscore(samples.X), masker.fit_transform(selected))
