"""NIfTI headers: a damaged header or another format gives a result or a message, never another error."""

import gzip
import tracemalloc
import warnings
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from harness.datasets.headers import read_nifti_header
from harness.datasets.images import read_mask, stream_volumes
from harness.errors import DataError, HarnessError
from harness.samples.smoothing import mask_smoothed
from harness.samples.volumes import read_masked

AFFINE = np.array([[-3.5, 0, 0, 68.25], [0, 3.75, 0, -118.1], [0, 0, 3.75, -118.1], [0, 0, 0, 1]])
SHAPE = (5, 6, 4, 3)
HEADERS = {"NIfTI-1": nib.Nifti1Header, "NIfTI-2": nib.Nifti2Header}
IMAGES = {"NIfTI-1": nib.Nifti1Image, "NIfTI-2": nib.Nifti2Image}
all_versions = pytest.mark.parametrize("version", HEADERS)
all_suffixes = pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])


def image_bytes(version, shape=SHAPE, dtype=np.int16):
    image = IMAGES[version](np.ones(shape, dtype), AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    return image.to_bytes()


def set_field(content, version, name, values):
    """Return a copy of a file with other numbers in one field of the header."""
    dtype, offset = HEADERS[version].template_dtype.fields[name]
    field = np.array(values, dtype=dtype.base).tobytes()[: dtype.itemsize]
    return content[:offset] + field + content[offset + len(field) :]


def write(path, content):
    path.write_bytes(gzip.compress(content, 1) if path.name.endswith(".gz") else content)
    return path


@contextmanager
def memory_limited(n_bytes):
    """Limit the memory that the process can allocate in addition; skip the test except on Linux."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("the memory of the process cannot be read")
    import resource

    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def readers(path):
    """Yield every way of reading a file, as a function."""
    mask = np.ones(SHAPE[:3], dtype=bool)
    yield lambda: read_nifti_header(path)
    yield lambda: read_mask(path)
    yield lambda: read_masked(path, mask, AFFINE)
    yield lambda: read_masked([path], mask, AFFINE, dtype=None)
    yield lambda: mask_smoothed(path, mask, AFFINE, 5.0)
    yield lambda: list(stream_volumes(path))
    # An image in the space of a damaged mask.
    yield lambda: mask_smoothed([path], *read_mask(path), 5.0)


def read_every_way(path):
    """Read a file in every way, and return how often there was a result instead of a message."""
    n_read = 0
    for read in readers(path):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                read()
            n_read += 1
        except HarnessError as error:
            assert str(path) in str(error)
    return n_read


def extremes(dtype):
    """Return unusual values of a field of this type."""
    if dtype.kind == "f":
        limits = np.finfo(dtype)
        numbers = [0, -1, 1e-30, 3.5, 1e9, limits.max, -limits.max, limits.tiny, np.nan, np.inf, -np.inf]
    elif dtype.kind in "iu":
        limits = np.iinfo(dtype)
        numbers = [0, 1, 2, 7, limits.max, limits.max // 2 + 1, limits.min, limits.min // 2]
    else:
        numbers = [b"", b"\\xff" * dtype.itemsize, b"n+1", b"ni1"]
    return numbers


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory limit is Linux's")
@pytest.mark.parametrize(
    ("version", "suffix", "step"),
    [
        ("NIfTI-1", ".nii", 61),
        ("NIfTI-2", ".nii.gz", 61),
        *[
            pytest.param(version, suffix, 1, marks=pytest.mark.slow)
            for version in HEADERS
            for suffix in (".nii", ".nii.gz")
        ],
    ],
)
def test_header_field_of_any_value_gives_a_result_or_a_message(tmp_path, version, suffix, step):
    """All fields, all their elements, all extreme values, then random pairs; or a sample of these."""
    rng = np.random.default_rng(9)
    content = image_bytes(version)
    changes = []
    for name, (dtype, _) in HEADERS[version].template_dtype.fields.items():
        for number in extremes(dtype.base):
            for size in {1, 2, 4, int(np.prod(dtype.shape))} if dtype.shape else {1}:
                changes.append((name, [number] * size))
    changes = changes[::step]
    path = tmp_path / f"image{suffix}"
    n_results = 0
    with memory_limited(2**29):
        for change in changes:
            write(path, set_field(content, version, *change))
            n_results += read_every_way(path)
        for pair in rng.integers(len(changes), size=(150 // step, 2)):
            write(path, set_field(set_field(content, version, *changes[pair[0]]), version, *changes[pair[1]]))
            n_results += read_every_way(path)
    assert n_results > len(changes), "most fields have no effect on reading"


@all_suffixes
@pytest.mark.parametrize("offset", [np.inf, -np.inf, np.nan, 1e38, -16, 1e9])
def test_offset_outside_the_file_is_refused(tmp_path, suffix, offset):
    content = set_field(image_bytes("NIfTI-1"), "NIfTI-1", "vox_offset", offset)
    path = write(tmp_path / f"image{suffix}", content)
    with pytest.raises(DataError, match=f"image{suffix}: "):
        read_masked(path, np.ones(SHAPE[:3], bool), AFFINE)


@all_suffixes
@pytest.mark.parametrize(
    "shape",
    [(10**5, 10**5, 10**3), (2**31, 2**31, 2**31), (2**40, 1, 1), (2**21, 2**21, 2**21), (2**62, 4, 4)],
    ids=str,
)
def test_mask_larger_than_its_file_is_refused_before_memory_is_allocated(tmp_path, suffix, shape):
    content = set_field(image_bytes("NIfTI-2", SHAPE[:3]), "NIfTI-2", "dim", [3, *shape, 1, 1, 1, 1])
    path = write(tmp_path / f"mask{suffix}", content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=f"mask{suffix}: .*(announces|cut short)"):
            read_mask(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20e6


def test_file_of_the_highest_compression_is_read(tmp_path):
    """A file of zeros is about 1030 times smaller."""
    path = tmp_path / "zeros.nii.gz"
    values = np.zeros((64, 64, 64, 10), np.int16)
    path.write_bytes(gzip.compress(nib.Nifti1Image(values, AFFINE).to_bytes(), 9))
    assert values.nbytes / path.stat().st_size > 1000
    masked = read_masked(path, np.ones((64, 64, 64), bool), AFFINE)
    assert masked.data.shape == (10, 64**3)
    assert not masked.data.any()


def test_image_that_does_not_fit_into_memory_is_refused(tmp_path):
    """The file is as large as its header announces, but the samples are too large."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("the memory limit is Linux's")
    path = tmp_path / "zeros.nii.gz"
    values = np.zeros((64, 64, 64, 300), np.int8)
    path.write_bytes(gzip.compress(nib.Nifti1Image(values, AFFINE).to_bytes(), 1))
    del values
    mask = np.ones((64, 64, 64), bool)
    # More than the 136 MB of address space that a new thread reserves: where its start runs out of memory,
    # Python waits for it for ever.
    with memory_limited(2**28), pytest.raises(DataError, match=r"zeros\.nii\.gz: .*memory"):
        read_masked(path, mask, AFFINE)


def nibabel_files():
    directory = Path(nib.__file__).parent / "tests" / "data"
    return sorted(path for path in directory.iterdir() if path.is_file())


def test_test_files_of_nibabel_give_a_result_or_a_message():
    files = nibabel_files()
    assert len(files) > 60
    read = {path.name for path in files if read_every_way(path)}
    # All NIfTI images in one file, of real numbers, with three or four dimensions.
    assert read == {
        "anatomical.nii",
        "example4d.nii.gz",
        "example_nifti2.nii.gz",
        "functional.nii",
        "reoriented_anat_moved.nii",
        "resampled_anat_moved.nii",
        "standard.nii.gz",
    }


@pytest.mark.parametrize("name", ["T1.PAR", "tiny.mnc", "minc2_4d.mnc", "test.mgz", "analyze.hdr", "0.dcm"])
def test_message_about_another_format_names_the_supported_ones(name):
    path = next(path for path in nibabel_files() if path.name == name)
    for read in readers(path):
        with pytest.raises(
            DataError, match=rf"{name}: .*NIfTI-1 and NIfTI-2 in one file, \.nii or \.nii\.gz"
        ):
            read()


@all_versions
@all_suffixes
def test_header_equals_that_of_nibabel(tmp_path, version, suffix):
    image = IMAGES[version](np.ones(SHAPE, np.float32), AFFINE)
    image.header.set_xyzt_units("mm", "msec")
    image.header.set_zooms((*image.header.get_zooms()[:3], 2200))
    path = tmp_path / f"image{suffix}"
    nib.save(image, path)
    header, expected = read_nifti_header(path), nib.load(path)
    assert header.shape == expected.shape
    assert header.dtype == expected.get_data_dtype()
    assert header.offset == expected.dataobj.offset
    assert (header.slope, header.inter) == (expected.dataobj.slope, expected.dataobj.inter)
    np.testing.assert_array_equal(header.affine, expected.affine)
    assert header.voxel_mm == expected.header.get_zooms()[:3]
    assert (header.t_r, header.n_volumes, header.is_series) == (2.2, 3, True)
