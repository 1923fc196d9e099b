"""All combinations of options that change how voxels are read: a damaged file is refused or has no effect."""

import zlib
from itertools import product

import nibabel as nib
import numpy as np
import pytest
from nilearn.image import smooth_img
from nilearn.masking import apply_mask
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.svm import LinearSVC

from harness.checks.inspection import inspect_recording
from harness.datasets.bids import Bids
from harness.datasets.haxby import Haxby
from harness.datasets.images import list_files
from harness.datasets.nifti import Nifti
from harness.decoding.decode import decode
from harness.decoding.estimator import Estimator
from harness.decoding.question import Question
from harness.decoding.splitters import Scheme
from harness.errors import DataError, HarnessError
from harness.samples.cache import SampleCache
from harness.samples.contrasts import make_contrast
from harness.samples.samples import Roi, load_samples
from harness.samples.signal import Signal
from marks import first

FACE_CAT = make_contrast(["face", "cat"])
ROI_OF = {"haxby": "vt", "nifti, one image": "vt", "nifti, one per run": "vt", "bids": "brain"}
N_FLIPS = 8


def paths():
    """Yield all combinations; most are slow."""
    for layout, fwhm, engine, caching in product(ROI_OF, (None, 5.0), ("harness", "nilearn"), (False, True)):
        name = f"{layout}, {engine}, {fwhm or 'not'} smoothed, {'with' if caching else 'without'} cache"
        marks = () if (layout, fwhm, engine, caching) in QUICK else pytest.mark.slow
        yield pytest.param((layout, Signal(smoothing_fwhm=fwhm), engine, caching), id=name, marks=marks)


QUICK = {("haxby", None, "harness", True), ("nifti, one per run", 5.0, "nilearn", False)}
every_path = pytest.mark.parametrize("path", list(paths()))
every_layout = pytest.mark.parametrize(
    "path",
    [
        pytest.param((layout, Signal(), "harness", False), id=layout, marks=marks)
        for layout, marks in zip(ROI_OF, ((), *[pytest.mark.slow] * 3), strict=True)
    ],
)


@pytest.fixture
def load(request, path, tmp_path):
    """Return a function that loads a small subject of the layout."""
    layout = path[0]
    if layout == "haxby":
        dataset = Haxby(request.getfixturevalue("tiny_subject")())
    elif layout == "bids":
        dataset = Bids(request.getfixturevalue("bids_study")(runs=(1, 2, 3, 4)), cache_dir=tmp_path / "bids")
    else:
        home = request.getfixturevalue("nifti_study") / "sub-{subject:02d}"
        one = layout == "nifti, one image"
        bold = f"{home}/all.nii.gz" if one else [f"{home}/run-{run}.nii.gz" for run in range(3)]
        dataset = Nifti(bold, home / "labels.tsv", masks={"vt": f"{home}/vt.nii.gz"})
    return lambda: dataset.load(1)


@pytest.fixture
def run(load, path, tmp_path):
    """Return a function that decodes the subject by leave-one-run-out; by default with the layout's mask."""
    layout, signal, engine, caching = path
    cache = SampleCache(tmp_path / "samples") if caching else None

    def run(mask=ROI_OF[layout]):
        return decode(
            load(),
            Question(
                FACE_CAT,
                Estimator("svc", LinearSVC(), {"C": [1]}),
                Scheme("logo", LeaveOneGroupOut()),
                roi=Roi(str(mask), 100),
                signal=signal,
                engine=engine,
            ),
            cache=cache,
        )

    return run


def image_of(recording):
    """Return the file that is damaged: the last one of the image."""
    return list_files(recording.bold)[-1]


def flips(content):
    """Yield copies with one flipped bit, from the end of the header of gzip to its checksum and length."""
    for position in np.linspace(10, len(content) - 1, N_FLIPS, dtype=int):
        damaged = bytearray(content)
        damaged[position] ^= 0x40
        yield bytes(damaged)


def cuts(content):
    """Yield copies that end too early, also within the checksum and the length."""
    for size in (0, 9, 60, len(content) // 2, *(len(content) - n for n in (12, 8, 4, 1))):
        yield content[:size]


def replace_values(file, damage):
    """Write the image again as float32, with other values and a valid checksum."""
    image = nib.load(file)
    data = image.get_fdata(dtype=np.float32)
    damage(data)
    header = image.header.copy()
    header.set_data_dtype(np.float32)
    nib.save(nib.Nifti1Image(data, image.affine, header), file)


def inflates_to(content):
    """Return the content of a gzip file without verifying its checksum, or None."""
    inflater = zlib.decompressobj(-15)
    try:
        return inflater.decompress(content[10:]) + inflater.flush()
    except zlib.error:
        return None


@every_path
def test_damaged_image_is_refused(run, load):
    intact = run()
    file = image_of(load())
    content = file.read_bytes()
    for damaged in (*flips(content), *cuts(content)):
        file.write_bytes(damaged)
        try:
            decoding = run()
        except DataError as error:
            assert str(file) in str(error)
        else:
            # A few bits of a deflate stream have no meaning, for example padding.
            assert inflates_to(damaged) == inflates_to(content)
            assert len(damaged) == len(content)
            np.testing.assert_array_equal(decoding.samples.X, intact.samples.X)


@every_path
def test_damaged_mask_is_refused(run, load, path):
    intact = run()
    if path[0] == "bids":  # the mask is where the runs' masks agree; the file of one run is damaged
        file = next(image_of(load()).parent.glob("*desc-brain_mask.nii.gz"))
    else:
        file = intact.recording.masks[ROI_OF[path[0]]]
    content = file.read_bytes()
    for damaged in (*flips(content), *cuts(content)):
        file.write_bytes(damaged)
        try:
            decoding = run()
        except DataError as error:
            assert str(file) in str(error)
        else:
            np.testing.assert_array_equal(decoding.samples.grid.mask, intact.samples.grid.mask)
            np.testing.assert_array_equal(decoding.samples.X, intact.samples.X)


@every_path
def test_volume_of_nan_is_refused(run, load):
    def damage(data):
        data[..., 3] = np.nan

    replace_values(image_of(load()), damage)
    with pytest.raises(DataError, match=r"volume \d+ \(from 0\) holds no finite value inside"):
        run()


@every_path
@pytest.mark.parametrize(
    ("value", "volumes"),
    first(
        1,
        [
            pytest.param(np.nan, 2, id="NaN in one volume"),
            pytest.param(np.nan, slice(None), id="NaN in all volumes", marks=pytest.mark.slow),
            pytest.param(-np.inf, 2, id="-inf in one volume", marks=pytest.mark.slow),
            pytest.param(np.inf, 2, id="inf in one volume"),
        ],
    ),
)
def test_voxel_that_is_not_finite_is_dropped_with_a_warning(run, load, value, volumes):
    voxel = (1, 2, 1)

    def damage(data):
        data[(*voxel, volumes)] = value

    mask = run().samples.grid.mask.copy()
    replace_values(image_of(load()), damage)
    decoding = run()
    dropped = f"dropped 1 of {mask.sum()} voxels with NaN or infinite values"
    assert dropped in decoding.warnings
    mask[voxel] = False
    np.testing.assert_array_equal(decoding.samples.grid.mask, mask)
    assert np.isfinite(decoding.samples.X).all()


@every_path
def test_mask_of_another_space_is_refused(run, load, tmp_path):
    image = nib.load(image_of(load()))
    affine, shape = image.affine, image.shape[:3]
    moved, far = affine.copy(), affine.copy()
    moved[0, 3] += 1
    far[:3, 3] += 1e4
    spaces = {
        "moved": (shape, moved),
        "far": (shape, far),
        "coarser": (shape, affine @ np.diag([2, 2, 2, 1])),
        "mirrored": (shape, affine @ np.diag([-1, 1, 1, 1])),
        "larger": ((shape[0] + 1, *shape[1:]), affine),
    }
    for name, (other_shape, other_affine) in spaces.items():
        file = tmp_path / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(np.ones(other_shape, np.uint8), other_affine), file)
        with pytest.raises(DataError, match=name):
            run(file)


@every_layout
def test_inspect_refuses_a_damaged_image(load, path):
    file = image_of(load())
    content = file.read_bytes()
    for damaged in (*flips(content), *cuts(content)):
        file.write_bytes(damaged)
        try:
            inspect_recording(load(), FACE_CAT, Roi(ROI_OF[path[0]]), Signal())
        except DataError as error:
            assert str(file) in str(error)
        else:
            assert inflates_to(damaged) == inflates_to(content)


@every_layout
def test_smoothing_counts_values_that_are_not_finite_as_zero_with_a_warning(load, path):
    """The voxel is outside of the mask: nothing is dropped, and its neighbours are as nilearn's."""
    outside = (5, 4, 3)

    def damage(data):
        data[(*outside, 2)] = np.nan

    recording = load()
    file = image_of(recording)
    mask = nib.load(recording.masks[ROI_OF[path[0]]]).get_fdata() > 0
    mask[outside] = False
    mask_file = file.parent / "roi.nii.gz"
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), nib.load(file).affine), mask_file)
    replace_values(file, damage)
    with pytest.warns(UserWarning) as warned:
        samples = load_samples(
            load(), FACE_CAT, Roi(str(mask_file), 100), Signal("none", smoothing_fwhm=10.0)
        )
    assert len(warned) == 1
    assert f"1 of {mask.size} voxels of the image" in str(warned[0].message)
    assert "smoothing counted these values as 0" in str(warned[0].message)
    expected = [
        apply_mask(smooth_img(str(part), 10.0), str(mask_file)) for part in list_files(recording.bold)
    ]
    np.testing.assert_array_equal(samples.X, np.concatenate(expected)[samples.volumes])


@every_layout
def test_useless_smoothing_width_is_refused(load, path):
    recording = load()
    for fwhm in (np.inf, np.nan, -1.0, 0.0, 1e300, 1e20, 1e9, 1e4, 1e-9, 1e-200):
        with pytest.raises(HarnessError, match=r"signal\.smoothing_fwhm="):
            load_samples(recording, FACE_CAT, Roi(ROI_OF[path[0]]), Signal(smoothing_fwhm=fwhm))
