"""Signals: `nilearn.signal.clean` and nilearn's masker do the arithmetic, run by run, over all volumes."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.image import get_data, smooth_img
from nilearn.maskers import NiftiMasker
from nilearn.masking import apply_mask
from nilearn.signal import clean

from harness.cache import SampleCache
from harness.contrasts import make_contrast
from harness.datasets.haxby import Haxby
from harness.errors import DataError, DesignError, UsageError
from harness.samples import Roi, load_samples
from harness.signals import Signal, mask_smoothed
from harness.volumes import read_mask

FACE_CAT = make_contrast(["face", "cat"])


@pytest.fixture(scope="module")
def recording(tiny_subject):
    return Haxby(data_dir=tiny_subject(n_runs=4, block=8)).load(1)


def load(recording, cache=None, **signal):
    return load_samples(recording, FACE_CAT, Roi("vt", 100), Signal(**signal), cache)


def masked(recording):
    return apply_mask(recording.bold, recording.masks["vt"], dtype=np.float32)


@pytest.mark.parametrize(
    ("asked", "arguments"),
    [
        ({"detrend": True}, {"detrend": True, "standardize": None}),
        ({"zscore": "run", "detrend": True}, {"detrend": True, "standardize": "zscore_sample"}),
        ({"high_pass": 0.02}, {"detrend": False, "standardize": None, "high_pass": 0.02, "t_r": 2.5}),
        (
            {"low_pass": 0.1, "zscore": "run"},
            {"detrend": False, "standardize": "zscore_sample", "low_pass": 0.1, "t_r": 2.5},
        ),
    ],
)
def test_cleaning_is_nilearns_run_by_run(recording, asked, arguments):
    samples = load(recording, **asked)
    data, runs = masked(recording), recording.labels["run"].to_numpy()
    if "t_r" not in arguments:
        arguments = arguments | {"filter": False}
    expected = np.concatenate([clean(data[runs == run], **arguments) for run in np.unique(runs)])
    np.testing.assert_allclose(samples.X, expected[samples.volumes], rtol=1e-5, atol=1e-5)


def test_confounds_of_a_file_are_regressed_out(recording, tmp_path, rng):
    runs = recording.labels["run"].to_numpy()
    table = pd.DataFrame(rng.normal(size=(len(runs), 3)), columns=["x", "y", "unused"])
    table.to_csv(tmp_path / "confounds_1.tsv", sep="\t", index=False)
    samples = load(recording, confounds=["y", "x"], confounds_file=str(tmp_path / "confounds_{subject}.tsv"))
    parts = [
        clean(
            masked(recording)[runs == run],
            detrend=False,
            standardize=None,
            confounds=table.loc[runs == run, ["y", "x"]].to_numpy(),
            filter=False,
        )
        for run in np.unique(runs)
    ]
    np.testing.assert_allclose(samples.X, np.concatenate(parts)[samples.volumes], rtol=1e-5, atol=1e-4)


def test_confounds_that_were_regressed_out_have_a_digest(recording, tmp_path, rng):
    def digest(column):
        return load(recording, confounds=[column], confounds_file=str(tmp_path / "c.tsv")).digests[
            "confounds"
        ]

    rows = len(recording.labels)
    pd.DataFrame({"x": rng.normal(size=rows), "y": rng.normal(size=rows)}).to_csv(
        tmp_path / "c.tsv", sep="\t", index=False
    )
    assert digest("x") == digest("x") != digest("y")
    assert "confounds" not in load(recording, detrend=True).digests


def test_first_gap_of_every_run_takes_the_next_value(recording, tmp_path, rng):
    runs = recording.labels["run"].to_numpy()
    first = np.r_[True, runs[1:] != runs[:-1]]
    values = rng.normal(size=len(runs))
    values[np.flatnonzero(first)] = values[np.flatnonzero(first) + 1]
    whole, gaps = pd.DataFrame({"dx": values}), pd.DataFrame({"dx": values.astype(object)})
    gaps.loc[first, "dx"] = "n/a"
    whole.to_csv(tmp_path / "whole.tsv", sep="\t", index=False)
    gaps.to_csv(tmp_path / "gaps.tsv", sep="\t", index=False)
    by_whole, by_gaps = (
        load(recording, confounds_file=str(tmp_path / f"{name}.tsv")).X for name in ("whole", "gaps")
    )
    np.testing.assert_array_equal(by_whole, by_gaps)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["confounds.tsv", "cannot be read"]),
        ("x\n" + "1\n" * 5, ["5 rows", "volumes"]),
        ("y\n" + "1\n" * 108, ["no column 'x'", "it has y"]),
        ("x\n" + "1\n" * 50 + "n/a\n" + "1\n" * 57, ["'x'", "row 51", "nan", "expected a number"]),
        ("x\n" + "1\n" * 50 + "word\n" + "1\n" * 57, ["'x'", "row 51", "'word'", "expected a number"]),
    ],
)
def test_confounds_that_do_not_fit_are_one_message(recording, tmp_path, content, words):
    assert len(recording.labels) == 108
    if content is not None:
        (tmp_path / "confounds.tsv").write_text(content)
    asked = {"confounds": ["x"], "confounds_file": str(tmp_path / "confounds.tsv")}
    with pytest.raises(DataError) as raised:
        load(recording, **asked)
    for word in words:
        assert word in str(raised.value)


def test_a_data_set_without_confounds_says_so(recording):
    with pytest.raises(DataError, match=r"without confounds.*signal\.confounds_file"):
        load(recording, confounds=["trans_x"])


def test_smoothing_is_nilearns(recording):
    samples = load(recording, smoothing_fwhm=6.0)
    masker = NiftiMasker(recording.masks["vt"], smoothing_fwhm=6.0, standardize=None)
    expected = masker.fit_transform(recording.bold)
    np.testing.assert_array_equal(samples.X, expected[samples.volumes])
    assert not np.allclose(samples.X, load(recording).X)


@pytest.mark.slow
def test_smoothing_of_real_data_is_nilearns(shared_data):
    folder = shared_data / "haxby2001-slice" / "haxby2001" / "subj1"
    mask_file = folder / "mask4_vt.nii.gz"
    masked = mask_smoothed(folder / "bold.nii.gz", *read_mask(mask_file), 4.0)
    masker = NiftiMasker(mask_file, smoothing_fwhm=4.0, standardize=None)
    np.testing.assert_array_equal(masked.data, masker.fit_transform(folder / "bold.nii.gz"))


@pytest.mark.parametrize("sizes", [(3.5, 3.75, 3.75), (1.0, 1.0, 6.0)])
def test_smoothing_width_is_bounded_by_twice_the_field_of_view(tmp_path, sizes):
    """At the bound, no more than 3 % is left of the slowest change across the field of view."""
    affine = np.diag([*sizes, 1])
    x = np.arange(16)
    slowest = np.cos(np.pi * (x + 0.5) / 16)  # half a period from one side to the other
    volumes = np.broadcast_to(slowest[:, np.newaxis, np.newaxis, np.newaxis], (16, 4, 3, 2))
    file, mask = tmp_path / "bold.nii.gz", np.ones((16, 4, 3), dtype=bool)
    nib.save(nib.Nifti1Image(volumes.astype(np.float32), affine), file)
    widest = 2 * 16 * sizes[0]
    left = mask_smoothed(file, mask, affine, widest).data[0].reshape(mask.shape)[:, 0, 0]
    assert 0.02 < np.abs(left).max() < 0.035
    with pytest.raises(DesignError, match=rf"signal\.smoothing_fwhm=.* at most {widest:g} mm"):
        mask_smoothed(file, mask, affine, widest * 1.001)


def test_smoothing_width_that_changes_nothing_is_refused(tmp_path, rng):
    affine, file = np.diag([3.0, 3, 3, 1]), tmp_path / "bold.nii.gz"
    volumes = rng.normal(0, 100, (6, 5, 4, 2))
    nib.save(nib.Nifti1Image(volumes, affine), file)
    mask = np.ones((6, 5, 4), dtype=bool)
    with pytest.raises(DesignError, match=r"signal\.smoothing_fwhm=0\.88 mm changes nothing.*null"):
        mask_smoothed(file, mask, affine, 0.88)
    assert np.abs(mask_smoothed(file, mask, affine, 0.89, dtype=None).data - volumes[mask].T).max() > 0
    np.testing.assert_array_equal(get_data(smooth_img(str(file), 0.88)), volumes)


def test_smoothing_without_a_size_of_voxels_is_refused(tmp_path):
    affine = np.diag([0.0, 3, 3, 1])
    with pytest.raises(
        DataError, match=r"vt: signal\.smoothing_fwhm=4 mm needs the size of a voxel.*0 x 3 x 3"
    ):
        mask_smoothed(tmp_path / "bold.nii.gz", np.ones((2, 2, 2), bool), affine, 4, mask_name="vt")


def test_smoothing_several_images_equals_smoothing_their_concatenation(recording, tmp_path):
    image = nib.load(recording.bold)
    volumes = np.asanyarray(image.dataobj)
    parts = []
    for number, rows in enumerate(np.split(np.arange(volumes.shape[-1]), [40])):
        parts.append(tmp_path / f"{number}.nii.gz")
        nib.save(nib.Nifti1Image(volumes[..., rows], image.affine), parts[-1])
    mask = np.asanyarray(nib.load(recording.masks["vt"]).dataobj) > 0
    whole = mask_smoothed(recording.bold, mask, image.affine, 5.0)
    split = mask_smoothed(tuple(parts), mask, image.affine, 5.0)
    np.testing.assert_array_equal(whole.data, split.data)
    np.testing.assert_allclose(whole.mean_volume, split.mean_volume, rtol=1e-5)
    np.testing.assert_allclose(whole.mean_volume, volumes.mean(axis=-1), rtol=1e-5)


def test_results_are_the_same_with_a_cold_cache_a_warm_one_and_none(recording, tmp_path):
    cache = SampleCache(tmp_path)
    for asked in ({}, {"smoothing_fwhm": 6.0}, {"zscore": "run", "detrend": True}):
        without, cold, warm = (load(recording, kept, **asked) for kept in (None, cache, cache))
        for other in (cold, warm):
            np.testing.assert_array_equal(without.X, other.X)
            np.testing.assert_array_equal(without.mean_volume, other.mean_volume)
            assert without.digests == other.digests
    assert len(cache.entries()) == 2, "what is done after masking does not need another entry"


def test_lag_and_trimming_choose_other_volumes(recording):
    plain, lagged = load(recording), load(recording, lag=2)
    conditions, runs = (recording.labels[name].to_numpy() for name in ("condition", "run"))
    expected = [
        volume
        for volume in range(2, len(runs))
        if runs[volume - 2] == runs[volume] and conditions[volume - 2] in ("face", "cat")
    ]
    assert lagged.volumes.tolist() == expected
    trimmed = load(recording, trim_first=1, trim_last=2)
    assert len(trimmed.y) == len(plain.y) * 5 // 8
    assert set(trimmed.volumes) < set(plain.volumes)


def test_blocks_are_averaged_to_one_sample_each(recording):
    plain, averaged = load(recording), load(recording, average_blocks=True)
    assert len(averaged.y) == 8
    np.testing.assert_allclose(averaged.X[0], plain.X[:8].mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(averaged.y, plain.y[::8])
    np.testing.assert_array_equal(averaged.runs, plain.runs[::8])


@pytest.mark.parametrize(
    "asked",
    [
        {"zscore": "session"},
        {"smoothing_fwhm": 0.0},
        {"high_pass": -1.0},
        {"high_pass": 0.2, "low_pass": 0.1},
        {"lag": -1},
        {"trim_last": -2},
    ],
)
def test_signals_that_make_no_sense_name_key_and_value(asked):
    with pytest.raises(UsageError) as raised:
        Signal(**asked)
    name, value = next(iter(asked.items()))
    assert f"signal.{name}" in str(raised.value)
    assert str(value) in str(raised.value)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"trim_first": 4, "trim_last": 4}, "trim less"),
        ({"high_pass": 0.01, "low_pass": 0.1}, "cannot be cleaned as asked .*27 volumes"),
        ({"low_pass": 5.0}, r"less than 0\.2 Hz"),
    ],
)
def test_signals_that_this_recording_cannot_give_are_one_message(recording, asked, words):
    with pytest.raises(DesignError, match=words):
        load(recording, **asked)
