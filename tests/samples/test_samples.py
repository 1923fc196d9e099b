"""Masking, selecting and standardising, against nilearn; and images that do not fit."""

import hashlib
import warnings

import nibabel as nib
import numpy as np
import pytest
from nilearn.decoding import Decoder
from nilearn.decoding._utils import adjust_screening_percentile
from nilearn.exceptions import MaskWarning
from nilearn.image import index_img
from nilearn.maskers import NiftiMasker
from nilearn.masking import apply_mask
from nilearn.signal import clean
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.svm import LinearSVC

from harness.datasets.haxby import read_subject
from harness.decoding.decode import decode
from harness.decoding.estimator import Estimator
from harness.decoding.question import Question
from harness.decoding.splitters import Scheme
from harness.errors import DataError, DesignError, UsageError
from harness.samples.cache import SampleCache
from harness.samples.contrasts import make_contrast
from harness.samples.samples import FoldPreprocessing, Roi, find_mask, load_samples, screening_of_mask
from harness.samples.signal import Signal, zscore
from marks import first

FACE_CAT = make_contrast(["face", "cat"])


@pytest.fixture(scope="module")
def real(shared_data):
    """Subject 1's slice with rest, 98 voxels of VT, and the indices of its faces and cats."""
    recording = read_subject(shared_data / "haxby2001-slice" / "haxby2001", 1, dataset="haxby")
    return recording, np.flatnonzero(recording.labels["condition"].isin(["face", "cat"]))


@pytest.fixture
def recording(tiny_subject):
    return read_subject(tiny_subject() / "haxby2001", 1, dataset="haxby")


def read_array(path):
    return np.asanyarray(nib.load(path).dataobj)


def masked_by_nilearn(recording):
    return apply_mask(recording.bold, recording.masks["vt"], dtype=np.float32)


def replace_voxels(path, values):
    """Write an image again as float32, some voxels replaced over time."""
    image = nib.load(path)
    data = image.get_fdata(dtype=np.float32)
    for voxel, course in values:
        data[voxel] = course
    nib.save(nib.Nifti1Image(data, image.affine), path)


def write_mask(path, mask, affine):
    nib.save(nib.Nifti1Image(np.asarray(mask, dtype=np.uint8), affine), path)
    return Roi(mask=str(path))


# Against nilearn --------------------------------------------------------------------------------------------


def test_zscored_samples_equal_niftimaskers_bit_for_bit(real):
    recording, volumes = real
    samples = load_samples(recording, FACE_CAT, Roi(), Signal("own"))
    masker = NiftiMasker(recording.masks["vt"], standardize="zscore_sample")
    expected = masker.fit_transform(index_img(recording.bold, volumes))
    assert samples.X.shape == (216, 98)
    assert samples.X.dtype == np.float32
    assert samples.preparation.zscore == "own"
    np.testing.assert_array_equal(zscore(samples.X), expected)


@pytest.mark.parametrize("kind", first(1, ["float64", "int16 with a slope"]))
@pytest.mark.parametrize("caching", [False, True], ids=["without cache", "with cache"])
@pytest.mark.parametrize("fwhm", [None, 8.0], ids=["unsmoothed", "smoothed"])
def test_engine_nilearn_receives_what_nilearn_reads_from_the_files(
    recording, rng, tmp_path, kind, caching, fwhm
):
    """Scores and weights are those of a live Decoder on the files, to the last bit, also in float64."""
    image = nib.load(recording.bold)
    if kind == "float64":
        values = image.get_fdata() + rng.normal(size=image.shape)
        nib.save(nib.Nifti1Image(values, image.affine), recording.bold)
    else:
        header = image.header.copy()
        header.set_slope_inter(1 / 3, 0.1)
        scaled = nib.Nifti1Image(np.asanyarray(image.dataobj) / 3 + 0.1, image.affine, header)
        nib.save(scaled, recording.bold)
    cache = SampleCache(tmp_path) if caching else None

    def run():
        return decode(
            recording,
            Question(
                FACE_CAT,
                Estimator("svc", LinearSVC(random_state=0), {"C": [1, 10]}),
                Scheme("logo", LeaveOneGroupOut()),
                roi=Roi("vt", 100),
                signal=Signal(smoothing_fwhm=fwhm),
                engine="nilearn",
            ),
            cache=cache,
        )

    ours = [run() for _ in range(2 if caching else 1)][-1]
    samples = ours.samples
    assert samples.X.dtype == np.float64
    theirs = Decoder(
        estimator=LinearSVC(random_state=0),
        mask=nib.load(recording.masks["vt"]),
        cv=list(LeaveOneGroupOut().split(samples.X, samples.y, samples.runs)),
        param_grid={"C": [1, 10]},
        scoring="roc_auc",
        screening_percentile=100,
        standardize="zscore_sample",
        smoothing_fwhm=fwhm,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs.fit(index_img(recording.bold, samples.volumes), samples.y)
    np.testing.assert_array_equal(ours.decoder.scores[:, 0], theirs.cv_scores_["face"])
    np.testing.assert_array_equal(ours.decoder.coef, theirs.coef_)
    np.testing.assert_array_equal(
        np.atleast_1d(ours.decoder.decoder.intercept_), np.atleast_1d(theirs.intercept_)
    )


def test_samples_are_float32_whatever_the_image_holds(recording):
    """Rounded once, from what nilearn's masker gives."""
    image = nib.load(recording.bold)
    nib.save(nib.Nifti1Image(image.get_fdata() / 3, image.affine), recording.bold)
    double = load_samples(recording, FACE_CAT, Roi(), Signal("none"), single_precision=False)
    single = load_samples(recording, FACE_CAT, Roi(), Signal("none"))
    masker = NiftiMasker(recording.masks["vt"], standardize=None)
    expected = masker.fit_transform(recording.bold)[single.volumes]
    assert (single.X.dtype, double.X.dtype, expected.dtype) == (np.float32, np.float64, np.float64)
    np.testing.assert_array_equal(double.X, expected)
    np.testing.assert_array_equal(single.X, expected.astype(np.float32))


def test_cleaning_keeps_the_precision_of_nilearns_masker(recording):
    image = nib.load(recording.bold)
    nib.save(nib.Nifti1Image(image.get_fdata() / 3, image.affine), recording.bold)
    signal = Signal("run", detrend=True)
    samples = load_samples(recording, FACE_CAT, Roi(), signal, single_precision=False)
    masker = NiftiMasker(
        recording.masks["vt"],
        standardize="zscore_sample",
        detrend=True,
        runs=recording.labels["run"].to_numpy(),
    )
    np.testing.assert_array_equal(samples.X, masker.fit_transform(recording.bold)[samples.volumes])


@pytest.mark.parametrize("detrend", [True, False])
def test_per_run_equals_nilearns_clean_of_every_whole_run(real, detrend):
    recording, volumes = real
    samples = load_samples(recording, FACE_CAT, Roi(), Signal("run", detrend=detrend))
    masked, runs = masked_by_nilearn(recording), recording.labels["run"].to_numpy()
    by_run = [
        clean(masked[runs == run], detrend=detrend, standardize="zscore_sample", filter=False)
        for run in range(12)
    ]
    np.testing.assert_array_equal(samples.X, np.concatenate(by_run)[volumes])
    assert samples.preparation.zscore is None
    # Over the selected volumes alone it would be something else.
    selected = clean(masked[volumes][:18], detrend=detrend, standardize="zscore_sample", filter=False)
    assert np.abs(selected - samples.X[:18]).max() > 0.5


def test_detrending_alone_keeps_the_scale_and_leaves_the_standardising_to_the_decoder(real):
    recording, volumes = real
    samples = load_samples(recording, FACE_CAT, Roi(), Signal("train", detrend=True))
    masked, runs = masked_by_nilearn(recording), recording.labels["run"].to_numpy()
    time = np.arange(121)
    expected = np.empty(masked.shape)
    for run in range(12):
        slope, level = np.polyfit(time, masked[runs == run].astype(float), 1)
        expected[runs == run] = masked[runs == run] - (np.outer(time, slope) + level)
    np.testing.assert_allclose(samples.X, expected[volumes], atol=0.02)
    assert samples.preparation.zscore == "train"


@pytest.mark.parametrize("zscore, left", [("train", "train"), ("none", None)])
def test_train_and_none_leave_the_volumes_as_they_were_recorded(real, zscore, left):
    recording, volumes = real
    samples = load_samples(recording, FACE_CAT, Roi(), Signal(zscore))
    np.testing.assert_array_equal(samples.X, masked_by_nilearn(recording)[volumes])
    assert samples.preparation.zscore == left


def test_everything_about_a_sample_is_of_the_same_volume(real):
    recording, _ = real
    contrast = make_contrast([{"animate": ["cat", "face"], "inanimate": ["house"]}])
    samples = load_samples(recording, contrast, Roi(), Signal())
    table = np.loadtxt(recording.labels_file, dtype=str, skiprows=1)
    chosen = np.flatnonzero(np.isin(table[:, 0], ["face", "cat", "house"]))
    np.testing.assert_array_equal(samples.volumes, chosen)
    np.testing.assert_array_equal(samples.conditions, table[chosen, 0])
    np.testing.assert_array_equal(samples.runs, table[chosen, 1].astype(int))
    np.testing.assert_array_equal(samples.y, np.where(table[chosen, 0] == "house", "inanimate", "animate"))


def test_mask_affine_mean_volume_and_digests(real):
    recording, _ = real
    samples = load_samples(recording, FACE_CAT, Roi(), Signal())
    bold, vt = nib.load(recording.bold), recording.masks["vt"]
    np.testing.assert_array_equal(samples.grid.mask, read_array(vt) > 0)
    np.testing.assert_array_equal(samples.grid.affine, bold.affine)
    np.testing.assert_allclose(samples.grid.mean_volume, read_array(recording.bold).mean(axis=-1), rtol=1e-6)
    files = {"bold": recording.bold, "labels": recording.labels_file, "mask": vt}
    assert samples.digests == {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()
    }


# Screening --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3.5, 4.2, 10.0])
@pytest.mark.parametrize("percentile", [0.3, 5, 20, 20.5, 99.9, 100])
def test_screening_equals_nilearns_truncated_to_a_whole_number(percentile, size):
    affine = np.diag([-size, size, size, 1])  # a mirrored axis has a negative determinant
    mask = np.zeros((20, 20, 20), dtype=bool)
    mask[2:18, :, 1:] = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MaskWarning)
        adjusted = adjust_screening_percentile(percentile, nib.Nifti1Image(mask.astype(np.uint8), affine))
    assert screening_of_mask(percentile, mask, affine) == int(adjusted)


def test_screening_of_the_real_mask_keeps_every_voxel(real):
    recording, _ = real
    assert load_samples(recording, FACE_CAT, Roi(), Signal()).preparation == FoldPreprocessing("own", 100)


def test_screening_counts_the_voxels_that_are_left(tiny_subject):
    affine = np.diag([20.0, 20, 20, 1])  # 20 % of a brain are 47 voxels of this size
    recording = read_subject(tiny_subject(affine=affine) / "haxby2001", 1, dataset="haxby")
    whole = load_samples(recording, FACE_CAT, Roi(mask="brain"), Signal())
    assert whole.preparation.screening_percentile == int(100 * 0.2 * 1_882_989 / (120 * 8000)) == 39
    replace_voxels(recording.bold, [(0, 7)])
    with pytest.warns(UserWarning, match="dropped 20 of 120"):
        fewer = load_samples(recording, FACE_CAT, Roi(mask="brain"), Signal())
    assert fewer.preparation.screening_percentile == int(100 * 0.2 * 1_882_989 / (100 * 8000)) == 47


def test_a_screening_that_leaves_no_voxel_is_refused(tiny_subject):
    # nilearn: "No feature left for training."
    recording = read_subject(tiny_subject() / "haxby2001", 1, dataset="haxby")
    with pytest.raises(UsageError, match=r"roi\.screening_percentile=0\.001 .*120 voxels"):
        load_samples(recording, FACE_CAT, Roi(mask="brain", screening_percentile=0.001), Signal())


@pytest.mark.parametrize("percentile", [0, -5, 100.1])
def test_percentiles_that_are_none(percentile):
    with pytest.raises(UsageError, match=rf"roi\.screening_percentile={percentile} "):
        Roi(screening_percentile=percentile)


# Masks ------------------------------------------------------------------------------------------------------


def test_a_roi_is_a_name_or_a_path(recording, monkeypatch):
    vt = recording.masks["vt"]
    assert find_mask(recording, "vt") == vt
    assert find_mask(recording, str(vt)) == vt
    monkeypatch.setenv("HOME", str(vt.parent))
    assert find_mask(recording, f"~/{vt.name}") == vt
    by_name = load_samples(recording, FACE_CAT, Roi(), Signal())
    by_path = load_samples(recording, FACE_CAT, Roi(mask=str(vt)), Signal())
    np.testing.assert_array_equal(by_name.X, by_path.X)


def test_the_name_of_a_roi_is_short_whether_name_or_path():
    assert Roi(mask="vt").name == "vt"
    assert Roi(mask="/data/my_mask.nii.gz").name == "my_mask"
    assert Roi(mask="my.mask.nii").name == "my.mask"


def test_a_roi_that_is_neither(recording):
    with pytest.raises(DataError) as raised:
        load_samples(recording, FACE_CAT, Roi(mask="hippocampus"), Signal())
    for word in ["roi.mask='hippocampus'", "subject 1", "vt, brain"]:
        assert word in str(raised.value)


def test_an_empty_mask(recording, tmp_path):
    roi = write_mask(tmp_path / "empty.nii.gz", np.zeros((6, 5, 4)), nib.load(recording.bold).affine)
    with pytest.raises(DataError, match=r"empty\.nii\.gz.* zero"):
        load_samples(recording, FACE_CAT, roi, Signal())


def test_a_mask_of_another_shape(recording, tmp_path):
    roi = write_mask(tmp_path / "other.nii.gz", np.ones((6, 4, 5)), nib.load(recording.bold).affine)
    with pytest.raises(DataError, match=r"bold.*\(6, 5, 4\).*other\.nii\.gz.*\(6, 4, 5\)"):
        load_samples(recording, FACE_CAT, roi, Signal())


def test_a_mask_of_another_affine(recording, tmp_path):
    affine = nib.load(recording.bold).affine.copy()
    affine[0, 3] += 1  # one millimetre
    roi = write_mask(tmp_path / "moved.nii.gz", np.ones((6, 5, 4)), affine)
    with pytest.raises(DataError, match=r"affine differs from that of .*moved\.nii\.gz"):
        load_samples(recording, FACE_CAT, roi, Signal())


# Damaged and unlike files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [-1, 1])
def test_labels_of_another_length_than_the_image(tiny_subject, change):
    folder = tiny_subject() / "haxby2001"
    file = folder / "subj1" / "labels.txt"
    lines = file.read_text().splitlines()
    lines = lines[:change] if change < 0 else [*lines, "rest 3"]
    file.write_text("\n".join(lines))
    with pytest.raises(DataError) as raised:
        load_samples(read_subject(folder, 1, dataset="haxby"), FACE_CAT, Roi(), Signal())
    message = str(raised.value)
    assert f"{file} has {60 + change} rows" in message
    assert "bold.nii.gz has 60 volumes" in message


def test_a_truncated_image(recording):
    content = recording.bold.read_bytes()
    recording.bold.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"bold\.nii\.gz: .*cut short"):
        load_samples(recording, FACE_CAT, Roi(), Signal())


def test_a_misspelt_condition_is_found_before_the_image_is_read(recording):
    recording.bold.write_bytes(b"not an image")
    with pytest.raises(DesignError, match="Did you mean 'house'"):
        load_samples(recording, make_contrast(["face", "huose"]), Roi(), Signal())


# Unusable voxels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_dropped_and_counted(recording, bad):
    masked = masked_by_nilearn(recording)
    course = np.full(60, 1000.0)
    course[0] = bad  # a volume of rest: per-run cleaning would spread it over the run
    replace_voxels(recording.bold, [((0, 0, 1), course), ((1, 2, 3), course), ((5, 4, 3), course)])
    with pytest.warns(UserWarning) as warned:
        samples = load_samples(recording, FACE_CAT, Roi(), Signal("none"))
    # (5, 4, 3) is outside the mask: 80 voxels, two of them bad.
    assert [str(item.message) for item in warned] == ["dropped 2 of 80 voxels with NaN or infinite values"]
    kept = read_array(recording.masks["vt"]) > 0
    kept[0, 0, 1] = kept[1, 2, 3] = False
    np.testing.assert_array_equal(samples.grid.mask, kept)
    columns = np.setdiff1d(np.arange(80), [1, 20 + 2 * 4 + 3])
    np.testing.assert_array_equal(samples.X, masked[samples.volumes][:, columns])


def test_voxels_constant_over_the_selected_volumes_are_dropped_and_counted(recording):
    selected = recording.labels["condition"].isin(["face", "cat"]).to_numpy()
    everywhere, here, elsewhere = np.full(60, 5.0), np.where(selected, 5.0, 6.0), np.where(selected, 5.0, 6.0)
    elsewhere[np.flatnonzero(selected)[3]] = 7
    replace_voxels(recording.bold, [((0, 0, 0), everywhere), ((2, 1, 1), here), ((3, 1, 1), elsewhere)])
    with pytest.warns(UserWarning) as warned:
        samples = load_samples(recording, FACE_CAT, Roi(), Signal())
    assert [str(item.message) for item in warned] == [
        "dropped 2 of 80 voxels that are constant over the selected volumes"
    ]
    assert samples.n_voxels == samples.grid.mask.sum() == 78
    assert samples.grid.mask[3, 1, 1]
    assert not samples.grid.mask[0, 0, 0]
    assert not samples.grid.mask[2, 1, 1]


def test_a_mask_without_a_usable_voxel(recording):
    replace_voxels(recording.bold, [(slice(0, 2), 3), (slice(2, 4), np.nan)])
    with pytest.raises(DataError) as raised:
        load_samples(recording, FACE_CAT, Roi(), Signal())
    for word in ["mask4_vt.nii.gz", "none of its 80 voxels", "40 with NaN", "40 constant"]:
        assert word in str(raised.value)


# Signal -----------------------------------------------------------------------------------------------------


def test_a_standardisation_that_does_not_exist():
    with pytest.raises(UsageError, match=r"signal\.zscore='volume' .*own, run, train, none"):
        Signal("volume")


def test_a_run_of_one_volume_cannot_be_standardised_by_itself(tiny_subject):
    folder = tiny_subject() / "haxby2001"
    file = folder / "subj1" / "labels.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:-1], lines[-1].split()[0] + " 9"]))
    recording = read_subject(folder, 1, dataset="haxby")
    with pytest.raises(DesignError, match="run 9 has 1 volume"):
        load_samples(recording, FACE_CAT, Roi(), Signal("run"))


def test_zscore_is_zero_where_a_voxel_is_constant(rng):
    X = rng.normal(50, 3, size=(20, 3)).astype(np.float32)
    X[:, 1] = 4
    Z = zscore(X)
    np.testing.assert_allclose(Z[:, [0, 2]].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(Z[:, [0, 2]].std(axis=0, ddof=1), 1, rtol=1e-5)
    assert not Z[:, 1].any()


@pytest.mark.parametrize("lag", [15, 200, 10**30])
def test_a_lag_beyond_the_end_of_the_runs_is_named_as_the_cause(compose, tiny_subject, lag):
    """Every run has three blocks of four volumes with one volume of rest before each: 15 volumes."""
    words = ["dataset=haxby", f"dataset.data_dir={tiny_subject()}", "subject=1", f"signal.lag={lag}"]
    request = compose(*words)
    with pytest.raises(DesignError, match=rf"signal\.lag={lag} moves .* the shortest run has 15 volumes"):
        load_samples(
            request.dataset.load(1), request.question.contrast, request.question.roi, request.question.signal
        )


@pytest.mark.parametrize("trim", ["trim_first", "trim_last"])
def test_trimming_more_than_a_block_has_is_named_as_the_cause(compose, tiny_subject, trim):
    words = ["dataset=haxby", f"dataset.data_dir={tiny_subject()}", "subject=1", f"signal.{trim}={10**30}"]
    request = compose(*words)
    with pytest.raises(DesignError, match="trim less"):
        load_samples(
            request.dataset.load(1), request.question.contrast, request.question.roi, request.question.signal
        )
