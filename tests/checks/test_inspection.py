"""Inspection of a recording, against numpy on the whole image."""

import tracemalloc
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from nilearn.image import index_img, mean_img

from harness.checks.inspection import inspect_recording
from harness.datasets.haxby import Haxby, read_labels
from harness.errors import DataError
from harness.samples.contrasts import make_contrast
from harness.samples.samples import Roi
from harness.samples.signal import Signal

FACE_CAT = make_contrast(["face", "cat"])


def inspect(recording, contrast=FACE_CAT, roi="vt", **signal):
    return inspect_recording(recording, contrast, Roi(roi), Signal(**signal))


@pytest.fixture(scope="module")
def tiny(tiny_subject):
    """A small subject, with one voxel of its third volume far off and its image as an array."""
    data_dir = tiny_subject(shape=(8, 6, 5))
    bold = data_dir / "haxby2001" / "subj1" / "bold.nii.gz"
    image = nib.load(bold)
    data = np.asarray(image.dataobj).copy()
    data[..., 7] += 150
    nib.save(nib.Nifti1Image(data, image.affine), bold)
    recording = Haxby(data_dir).load(1)
    return recording, data.astype(np.float64), recording.labels["run"].to_numpy()


def test_quality_equals_numpy_on_the_whole_image(tiny):
    recording, data, runs = tiny
    inspection = inspect(recording)
    vt = np.asarray(nib.load(recording.masks["vt"]).dataobj) != 0
    np.testing.assert_allclose(inspection.quality.global_signal, data.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(inspection.volumes.mean, data.mean(axis=3), rtol=1e-6)
    for run in np.unique(runs):
        here = data[..., runs == run]
        mean, sd = here.mean(axis=3), here.std(axis=3, ddof=1)
        change = 100 * np.sqrt((np.diff(here, axis=3) ** 2).mean(axis=(0, 1, 2))) / here.mean()
        row = inspection.quality.per_run.loc[run]
        assert row["volumes"] == here.shape[3]
        np.testing.assert_allclose(row["mean"], here.mean())
        np.testing.assert_allclose(row["sd"], np.median(sd))
        np.testing.assert_allclose(row["tsnr"], np.median(mean / sd))
        np.testing.assert_allclose(row["tsnr_roi"], np.median((mean / sd)[vt]))
        np.testing.assert_allclose(row["dvars"], np.median(change))
        dvars = inspection.quality.dvars[runs == run]
        assert np.isnan(dvars[0])
        np.testing.assert_allclose(dvars[1:], change)
    assert inspection.quality.outliers[7]
    assert inspection.quality.per_run["outliers"].sum() == inspection.quality.outliers.sum() < 10


def test_examples_design_and_shapes(tiny):
    recording, data, _ = tiny
    inspection = inspect(recording)
    n_volumes = data.shape[3]
    assert len(inspection.volumes.examples) == 6
    assert {0, n_volumes - 1} <= set(inspection.volumes.examples)
    for index, volume in inspection.volumes.examples.items():
        expected = np.asarray(index_img(str(recording.bold), index).dataobj)
        np.testing.assert_array_equal(volume, expected)
    for (run, condition), rows in recording.labels.groupby(["run", "condition"]):
        assert inspection.design.conditions.loc[run, condition] == len(rows)
    assert inspection.design.conditions.to_numpy().sum() == n_volumes
    selected = np.flatnonzero(recording.labels["condition"].isin(["face", "cat"]))
    np.testing.assert_array_equal(inspection.design.selected, selected)
    shapes = inspection.design.shapes.set_index("what")
    assert shapes.loc["labels"].tolist() == [(n_volumes,), (len(selected),)]
    assert shapes.loc["image"].tolist() == [(8, 6, 5, n_volumes), (8, 6, 5, len(selected))]


def test_the_real_slice_has_the_shapes_of_the_tutorial(shared_data):
    recording = Haxby(shared_data / "haxby2001-slice").load(1)
    inspection = inspect(recording)
    shapes = {what: (before, after) for what, before, after in inspection.design.shapes.to_numpy()}
    assert shapes["labels"] == ((1452,), (216,))
    assert shapes["image"] == ((40, 20, 1, 1452), (40, 20, 1, 216))
    assert shapes["voxels of vt: what is decoded"] == ((1452, 98), (216, 98))
    assert inspection.header_t_r == 2.5
    assert inspection.volumes.quality_mask.sum() == 530
    expected = np.asarray(mean_img(str(recording.bold), copy_header=True).dataobj)
    np.testing.assert_allclose(inspection.volumes.mean, expected, rtol=1e-5)
    assert inspection.notices == ()


def test_in_an_image_that_is_zero_outside_the_roi_the_roi_is_the_brain(shared_data):
    recording = Haxby(shared_data / "haxby2001-vt").load(1)
    inspection = inspect(recording)
    assert (inspection.volumes.quality_mask <= inspection.volumes.roi_mask).all()
    assert inspection.volumes.quality_mask.sum() > 0.9 * 577
    assert dict(inspection.design.shapes[["what", "after"]].to_numpy())["image"] == (40, 64, 64, 216)


def test_a_run_without_a_condition_is_a_notice(tiny, shared_data, tmp_path, rng):
    """Subject 5 of the real data has no labels in run 8."""
    labels = shared_data / "labels" / "subj5" / "labels.txt"
    expected = np.loadtxt(labels, dtype=str, skiprows=1)
    empty = [run for run in range(12) if set(expected[expected[:, 1] == str(run), 0]) == {"rest"}]
    assert len(empty) == 1
    table = read_labels(labels)
    file = tmp_path / "bold.nii.gz"
    nib.save(nib.Nifti1Image(rng.integers(1, 99, (3, 3, 3, len(table))).astype(np.int16), np.eye(4)), file)
    recording = replace(tiny[0], bold=file, labels=table, masks={}, subject=5)
    inspection = inspect(recording)
    for name in ("face", "cat"):
        assert f"no volume of {name!r} in run {empty[0]}" in inspection.notices


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"roi": "face"}, "roi.mask='face' is neither"),
        ({"contrast": make_contrast(["face", "shoe"])}, "a run would fail: contrast.conditions: 'shoe'"),
    ],
)
def test_an_error_that_would_end_a_run_is_a_notice(tiny, change, text):
    inspection = inspect(tiny[0], **change)
    assert sum(text in notice for notice in inspection.notices) == 1


def test_masks_of_another_shape_are_a_notice_and_not_used(tiny, tmp_path):
    recording = tiny[0]
    other = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), dtype=np.uint8), np.eye(4)), other)
    inspection = inspect(replace(recording, masks={"brain": other, "vt": other}))
    assert inspection.volumes.roi_mask is None
    assert any("(3, 3, 3)" in notice for notice in inspection.notices)
    assert inspection.quality.per_run["tsnr_roi"].isna().all()


@pytest.mark.parametrize("damage", ["cut short", "without checksum", "4D"])
def test_anatomy_that_cannot_be_read_is_a_notice(tiny, tmp_path, damage):
    recording = tiny[0]
    anat = tmp_path / "anat.nii.gz"
    shape = nib.load(recording.bold).shape[:3] + ((2,) if damage == "4D" else ())
    values = np.random.default_rng(0).normal(500, 100, shape).astype(np.float32)
    nib.save(nib.Nifti1Image(values, nib.load(recording.bold).affine), anat)
    content = anat.read_bytes()
    if damage == "cut short":
        anat.write_bytes(content[: len(content) // 2])
    elif damage == "without checksum":
        anat.write_bytes(content[:-8])
    inspection = inspect(replace(recording, anat=anat))
    assert sum(f"not shown: {anat}: " in notice for notice in inspection.notices) == 1
    assert inspection.recording.anat is None


def test_several_images_are_inspected_as_one(tiny, tmp_path):
    recording, data, _ = tiny
    parts = []
    for name, part in (("a", data[..., :20]), ("b", data[..., 20:])):
        parts.append(tmp_path / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(part.astype(np.int16), nib.load(recording.bold).affine), parts[-1])
    several, one = inspect(replace(recording, bold=tuple(parts))), inspect(recording)
    np.testing.assert_array_equal(several.quality.global_signal, one.quality.global_signal)
    np.testing.assert_array_equal(several.quality.dvars, one.quality.dvars)
    assert several.files["what"].tolist()[:2] == ["image", "image"]


def test_values_that_are_not_finite_are_counted(tiny, tmp_path):
    recording, data, _ = tiny
    file = tmp_path / "nan.nii.gz"
    broken = data.astype(np.float32)
    broken[0, 0, 0, :3] = np.nan
    nib.save(nib.Nifti1Image(broken, nib.load(recording.bold).affine), file)
    inspection = inspect(replace(recording, bold=file))
    assert any(notice.startswith("3 values of the image are NaN") for notice in inspection.notices)
    assert np.isfinite(inspection.quality.global_signal).all()


def test_a_singular_affine_is_refused(tiny, tmp_path):
    recording, data, _ = tiny
    affine = nib.load(recording.bold).affine.copy()
    affine[1, :3] = affine[0, :3]
    file = tmp_path / "singular.nii.gz"
    image = nib.Nifti1Image(data.astype(np.int16), nib.load(recording.bold).affine)
    image.set_sform(affine, code=2)
    nib.save(image, file)
    with pytest.raises(DataError, match=r"singular.nii.gz: its affine is singular"):
        inspect(replace(recording, bold=file))


def test_numbers_of_labels_and_volumes_must_be_equal(tiny):
    recording = tiny[0]
    for labels in (recording.labels.iloc[:-1], recording.labels.loc[[*recording.labels.index, 59]]):
        with pytest.raises(DataError, match=f"has {len(labels)} rows, but .* has {len(recording.labels)}"):
            inspect(replace(recording, labels=labels.reset_index(drop=True)))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_volumes(tiny_subject):
    peaks = []
    for block in (24, 72):  # both images are larger than the buffers they are read through
        recording = Haxby(tiny_subject(shape=(40, 40, 20), block=block)).load(1)
        tracemalloc.start()
        # A contrast without volumes, so that the samples themselves do not count.
        inspect(recording, contrast=make_contrast(["face", "nothing"]))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
