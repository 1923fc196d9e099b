"""The signal options: equal to `nilearn.signal.clean`, run by run, over all volumes."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.image import get_data, smooth_img
from nilearn.maskers import NiftiMasker
from nilearn.masking import apply_mask
from nilearn.signal import clean

from harness.datasets.haxby import Haxby
from harness.datasets.images import read_mask
from harness.errors import DataError, DesignError, UsageError
from harness.samples.cache import SampleCache
from harness.samples.contrasts import make_contrast
from harness.samples.samples import Roi, load_samples
from harness.samples.signal import Signal, clean_runs, degrees_of_freedom, find_moments
from harness.samples.smoothing import mask_smoothed

FACE_CAT = make_contrast(["face", "cat"])


@pytest.fixture(scope="module")
def recording(tiny_subject):
    return Haxby(data_dir=tiny_subject(n_runs=4, block=8)).load(1)


def load(recording, cache=None, **signal):
    return load_samples(recording, FACE_CAT, Roi("vt", 100), Signal(**signal), cache)


def masked(recording):
    return apply_mask(recording.bold, recording.masks["vt"], dtype=np.float32)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("value", [700.1, -1e5 / 3, 0.1, 0.0])
def test_constant_voxels_of_any_number_of_samples_become_0(value, axis):
    for n_samples in (*range(2, 60), 864, 1452):
        X = np.full((n_samples, 3), value)
        X = X if axis == 0 else np.ascontiguousarray(X.T)
        location, scale = find_moments(X, axis)
        assert np.array_equal(scale, np.ones_like(scale)), n_samples
        np.testing.assert_allclose((X - location) / scale, 0, atol=1e-9)


def test_voxels_that_vary_have_numpys_moments(rng):
    X = (1000 + rng.normal(size=(30, 4)) * [20, 1, 1e-3, 1e-6]).astype(np.float64)
    location, scale = find_moments(X)
    assert np.array_equal(location[0], X.mean(axis=0))
    assert np.array_equal(scale[0], X.std(axis=0, ddof=1))


@pytest.mark.parametrize(
    ("options", "arguments"),
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
def test_every_run_is_cleaned_as_by_nilearn(recording, options, arguments):
    samples = load(recording, **options)
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


def test_regressed_confounds_have_a_digest(recording, tmp_path, rng):
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


def test_first_gap_of_every_run_is_filled_with_the_next_value(recording, tmp_path, rng):
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
def test_confounds_that_do_not_fit_the_recording_are_refused(recording, tmp_path, content, words):
    assert len(recording.labels) == 108
    if content is not None:
        (tmp_path / "confounds.tsv").write_text(content)
    with pytest.raises(DataError) as raised:
        load(recording, confounds=["x"], confounds_file=str(tmp_path / "confounds.tsv"))
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        # A tab at the end of the rows, but not of the header: pandas takes the first column for an index.
        (b"x\ty\n" + b"1\t2\t\n" * 108, ["line 2", "3 cells", "2 columns"]),
        (b"x\ty\n" + b"1\t2\n" * 50 + b"1\t2\t\n" + b"1\t2\n" * 57, ["line 52", "3 cells"]),
        (b"x\ty\n" + b"1\t2\n" * 50 + b"1\n" + b"1\t2\n" * 57, ["line 52", "1 cells"]),
        (b"x\tx\n" + b"1\t2\n" * 108, ["column 'x' twice"]),
        (b"x\tfr\xe9quence\n" + b"1\t2\n" * 108, ["UTF-8"]),
        ("x\n".encode("utf-16"), ["UTF-8"]),
        (b"", ["first line"]),
        (b"x\ty\n", ["no rows"]),
        (b"x\t\n" + b"1\t2\n" * 108, ["without a name"]),
        (b"x\n" + b"1\n" * 50 + b"1_0\n" + b"1\n" * 57, ["row 51", "'1_0'"]),
    ],
)
def test_confounds_file_that_is_not_a_table_is_refused(recording, tmp_path, content, words):
    (tmp_path / "confounds.tsv").write_bytes(content)
    with pytest.raises(DataError) as raised:
        load(recording, confounds_file=str(tmp_path / "confounds.tsv"))
    for word in [str(tmp_path / "confounds.tsv"), *words]:
        assert word in str(raised.value)


def test_tab_at_the_end_of_the_rows_shifts_no_column(recording, tmp_path, rng):
    """Whatever columns are chosen: pandas would take the values of y for those of x."""
    values = rng.normal(size=(len(recording.labels), 2))
    rows = [f"{x!r}\t{y!r}\t" for x, y in values.tolist()]
    (tmp_path / "confounds.tsv").write_text("\n".join(["x\ty", *rows]))
    with pytest.raises(DataError, match="line 2 has 3 cells, but the first line names 2 columns"):
        load(recording, confounds=["x"], confounds_file=str(tmp_path / "confounds.tsv"))
    (tmp_path / "confounds.tsv").write_text("\n".join(["x\ty\t", *rows]))
    samples = load(recording, confounds=["x"], confounds_file=str(tmp_path / "confounds.tsv"))
    alone = replace(recording, confounds=pd.DataFrame({"x": values[:, 0]}))
    np.testing.assert_array_equal(samples.X, load(alone, confounds=["x"]).X)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encoding_and_line_ends_do_not_change_the_confounds(recording, tmp_path, rng, encoding, end):
    values = rng.normal(size=(len(recording.labels), 2))
    plain = pd.DataFrame(values, columns=["x", "y"])
    plain.to_csv(tmp_path / "plain.tsv", sep="\t", index=False)
    plain.to_csv(tmp_path / "other.tsv", sep="\t", index=False, encoding=encoding, lineterminator=end)
    by_plain, by_other = (
        load(recording, confounds_file=str(tmp_path / f"{name}.tsv")) for name in ("plain", "other")
    )
    np.testing.assert_array_equal(by_plain.X, by_other.X)
    assert by_plain.digests == by_other.digests


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"confounds": ["a", "b", "a"]}, ["signal.confounds", "'a'", "twice"]),
        ({"confounds": "trans_x"}, ["signal.confounds='trans_x'", "[trans_x]"]),
        ({"confounds": [], "confounds_file": "c.tsv"}, ["signal.confounds=[]", "null"]),
    ],
)
def test_invalid_choices_of_confounds_are_refused(options, words):
    with pytest.raises(UsageError) as raised:
        Signal(**options)
    for word in words:
        assert word in str(raised.value)


def test_empty_list_of_confounds_changes_nothing(recording):
    assert not Signal(confounds=[]).cleans_runs
    np.testing.assert_array_equal(load(recording, confounds=[]).X, load(recording).X)


# Degrees of freedom -----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(
    n_volumes=st.integers(4, 40),
    n_confounds=st.integers(0, 45),
    detrend=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_degrees_of_freedom_are_the_volumes_less_the_rank_of_the_regressors(
    n_volumes, n_confounds, detrend, seed
):
    confounds = np.random.default_rng(seed).normal(size=(n_volumes, n_confounds))
    constant_and_trend = np.vander(np.arange(n_volumes), 2 if detrend else 1)
    rank = np.linalg.matrix_rank(np.hstack([constant_and_trend, confounds]))
    steps = {"detrend": detrend, "filter": False}
    left = degrees_of_freedom(n_volumes, steps, confounds if n_confounds else None)
    np.testing.assert_allclose(left, n_volumes - rank, atol=1e-8)


@pytest.mark.parametrize(("high_pass", "low_pass"), [(None, 0.1), (0.05, None), (0.05, 0.15)])
def test_filter_leaves_the_degrees_of_freedom_of_its_band(high_pass, low_pass):
    """In closed form: the Butterworth filter of order 5, forth and back, at the frequencies of a run."""
    n_volumes, t_r = 400, 2.0
    steps = {"detrend": False, "filter": "butterworth", "high_pass": high_pass, "low_pass": low_pass}
    left = degrees_of_freedom(n_volumes, steps | {"t_r": t_r}, None)
    warped = np.tan(np.pi * t_r * np.abs(np.fft.fftfreq(n_volumes, t_r)[1:]))
    low, high = (None if f is None else np.tan(np.pi * t_r * f) for f in (high_pass, low_pass))
    if low is None:
        ratio = warped / high
    elif high is None:
        ratio = low / warped
    else:
        ratio = (warped**2 - low * high) / (warped * (high - low))
    np.testing.assert_allclose(left, np.sum((1 / (1 + ratio**10)) ** 2), rtol=0.03)


def regress_out(recording, n_confounds, **signal):
    rng = np.random.default_rng(5)
    confounds = pd.DataFrame(rng.normal(size=(len(recording.labels), n_confounds))).add_prefix("c")
    names = list(confounds)
    return load(replace(recording, confounds=confounds), confounds=names, **signal)


@pytest.mark.parametrize(
    ("n_confounds", "options", "words"),
    [
        (26, {}, "26 confounds leave no degree of freedom"),
        (60, {"zscore": "run"}, "60 confounds leave no degree of freedom"),
        (25, {"detrend": True}, "25 confounds and detrending leave no degree of freedom"),
        (14, {"low_pass": 0.1}, "14 confounds and filtering leave no degree of freedom"),
    ],
)
def test_confounds_that_regress_out_everything_are_refused(recording, n_confounds, options, words):
    """Runs have 27 volumes: 26 degrees of freedom without their mean."""
    with pytest.raises(DesignError, match=rf"run 0 has 27 volumes.*{words}.*signal\.confounds"):
        regress_out(recording, n_confounds, **options)


def test_few_degrees_of_freedom_are_one_warning(recording):
    assert len(regress_out(recording, 13).X) > 0
    with pytest.warns(UserWarning, match="14 confounds leave 12 of 26 degrees of freedom in run 0.*3 more"):
        regress_out(recording, 14)


def test_detrending_two_volumes_leaves_nothing(recording):
    runs = np.repeat([0, 1], [25, 2])
    with pytest.raises(DesignError, match=r"run 1 has 2 volumes.*detrending leaves no"):
        clean_runs(np.ones((27, 3), dtype=np.float32), runs, Signal(detrend=True), recording)


@pytest.mark.parametrize("detrend", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_dependent_confounds_change_nothing(rng, recording, detrend, scale):
    """nilearn alone would remove directions of rounding errors."""
    n_volumes = 400
    walks = np.cumsum(rng.normal(size=(n_volumes, 6)), axis=0) + scale
    dependent = {
        "copy": walks[:, 0],
        "other unit": 0.001 * walks[:, 1] + 3,
        "sum": walks @ rng.normal(size=6),
        "difference": walks[:, 2] - 2 * walks[:, 4],
        "constant": np.full(n_volumes, 0.1 * scale),
    }
    if detrend:
        dependent["trend"] = 0.1 * np.arange(n_volumes) + scale
    own = pd.DataFrame(walks).add_prefix("walk")
    data = rng.normal(size=(n_volumes, 8)).astype(np.float32)
    runs, signal = np.zeros(n_volumes, dtype=int), Signal(detrend=detrend)
    expected = clean(data, confounds=walks, detrend=detrend, standardize=None, filter=False)
    cleaned = clean_runs(data, runs, signal, recording, own.assign(**dependent))
    np.testing.assert_allclose(cleaned, expected, atol=1e-5)


def test_cleaning_keeps_the_order_of_the_runs(recording, rng):
    """`nilearn.signal.clean` with ``runs`` returns the runs in the order of their numbers."""
    data = rng.normal(size=(60, 5)).astype(np.float32)
    runs = np.repeat([7, 2, 4], 20)
    cleaned = clean_runs(data, runs, Signal("run", detrend=True), recording)
    for run in (7, 2, 4):
        np.testing.assert_allclose(cleaned[runs == run], clean(data[runs == run], filter=False), rtol=1e-5)


# Smoothing and selection ------------------------------------------------------------------------------------


def test_confounds_of_a_data_set_without_any_are_refused(recording):
    with pytest.raises(DataError, match=r"contains no confounds.*signal\.confounds_file"):
        load(recording, confounds=["trans_x"])


def test_smoothing_equals_nilearn(recording):
    samples = load(recording, smoothing_fwhm=6.0)
    masker = NiftiMasker(recording.masks["vt"], smoothing_fwhm=6.0, standardize=None)
    expected = masker.fit_transform(recording.bold)
    np.testing.assert_array_equal(samples.X, expected[samples.volumes])
    assert not np.allclose(samples.X, load(recording).X)


@pytest.mark.slow
def test_smoothing_of_real_data_equals_nilearn(shared_data):
    directory = shared_data / "haxby2001-slice" / "haxby2001" / "subj1"
    mask_file = directory / "mask4_vt.nii.gz"
    masked = mask_smoothed(directory / "bold.nii.gz", *read_mask(mask_file), 4.0)
    masker = NiftiMasker(mask_file, smoothing_fwhm=4.0, standardize=None)
    np.testing.assert_array_equal(masked.data, masker.fit_transform(directory / "bold.nii.gz"))


@pytest.mark.parametrize("sizes", [(3.5, 3.75, 3.75), (2.0, 1.0, 6.0)])
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


def test_cold_warm_and_no_cache_give_the_same_samples(recording, tmp_path):
    cache = SampleCache(tmp_path)
    for options in ({}, {"smoothing_fwhm": 6.0}, {"zscore": "run", "detrend": True}):
        without, cold, warm = (load(recording, used, **options) for used in (None, cache, cache))
        for other in (cold, warm):
            np.testing.assert_array_equal(without.X, other.X)
            np.testing.assert_array_equal(without.grid.mean_volume, other.grid.mean_volume)
            assert without.digests == other.digests
    assert len(cache.entries()) == 2, "steps after masking need no other entry"


def test_lag_and_trimming_select_other_volumes(recording):
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


def test_average_blocks_gives_one_sample_per_block(recording):
    plain, averaged = load(recording), load(recording, average_blocks=True)
    assert len(averaged.y) == 8
    np.testing.assert_allclose(averaged.X[0], plain.X[:8].mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(averaged.y, plain.y[::8])
    np.testing.assert_array_equal(averaged.runs, plain.runs[::8])


@pytest.mark.parametrize(
    "options",
    [
        {"zscore": "session"},
        {"smoothing_fwhm": 0.0},
        {"high_pass": -1.0},
        {"high_pass": 0.2, "low_pass": 0.1},
        {"lag": -1},
        {"trim_last": -2},
    ],
)
def test_message_about_an_invalid_option_names_key_and_value(options):
    with pytest.raises(UsageError) as raised:
        Signal(**options)
    name, value = next(iter(options.items()))
    assert f"signal.{name}" in str(raised.value)
    assert str(value) in str(raised.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trim_first": 4, "trim_last": 4}, "trim less"),
        ({"high_pass": 0.01, "low_pass": 0.1}, "cannot be cleaned with these options .*27 volumes"),
        ({"low_pass": 5.0}, r"less than 0\.2 Hz"),
    ],
)
def test_options_that_do_not_fit_the_recording_are_refused(recording, options, words):
    with pytest.raises(DesignError, match=words):
        load(recording, **options)
