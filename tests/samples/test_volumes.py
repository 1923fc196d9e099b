"""Reading with a mask: equal to nilearn, and every damaged file is an error that names it."""

import gzip
import hashlib
import tracemalloc
from functools import partial
from itertools import product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.maskers import NiftiMasker
from nilearn.masking import apply_mask

from harness.datasets import images
from harness.datasets.images import read_mask, stream_volumes
from harness.errors import DataError
from harness.samples.smoothing import mask_smoothed
from harness.samples.volumes import read_masked

AFFINE = np.array([[-3.5, 0, 0, 68.25], [0, 3.75, 0, -118.1], [0, 0, 3.75, -118.1], [0, 0, 0, 1]])


@pytest.fixture(params=["isal", "gzip"])
def inflater(request, monkeypatch):
    """Both inflaters: that of isal, and the standard library's, which is used where isal has no wheel."""
    if request.param == "gzip":
        monkeypatch.setattr(images, "GzipFile", gzip.GzipFile)
    else:
        pytest.importorskip("isal")
    return request.param


def write_image(path, values, *, affine=AFFINE, nifti2=False, endianness="<", slope=None, inter=0.0):
    """Write stored values as they are, with the slope and the intercept of the header chosen freely."""
    cls = nib.Nifti2Image if nifti2 else nib.Nifti1Image
    header = cls.header_class(endianness=endianness)
    header.set_data_dtype(values.dtype.newbyteorder(endianness))
    image = cls(values, affine, header)
    # nibabel resets the scaling on saving, so that it is set in the bytes.
    content = bytearray(image.to_bytes())
    if slope is not None:
        written = cls.header_class.template_dtype.newbyteorder(endianness)
        for name, value in (("scl_slope", slope), ("scl_inter", inter)):
            dtype, offset = written.fields[name]
            content[offset : offset + dtype.itemsize] = np.array(value, dtype=dtype).tobytes()
    path.write_bytes(gzip.compress(content, 1, mtime=0) if path.name.endswith(".gz") else content)
    return path


def write_mask(path, mask, affine=AFFINE):
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), path)
    return path


@pytest.fixture
def mask(rng):
    mask = rng.random((5, 6, 4)) < 0.4
    mask[0, 0, 0] = True
    mask[-1, -1, -1] = False
    return mask


@pytest.fixture
def bold(tmp_path, rng):
    return write_image(tmp_path / "bold.nii.gz", rng.integers(-500, 3000, (5, 6, 4, 12)).astype(np.int16))


@pytest.fixture
def long_bold(tmp_path, rng):
    """A file well beyond what nibabel inflates while it reads the header."""
    return write_image(tmp_path / "long.nii.gz", rng.integers(-500, 3000, (16, 12, 10, 30)).astype(np.int16))


@pytest.fixture
def long_mask(rng):
    return rng.random((16, 12, 10)) < 0.2


def masked_by_nilearn(path, mask):
    mask_image = nib.Nifti1Image(mask.astype(np.uint8), nib.load(path).affine)
    with np.errstate(over="ignore"):
        return apply_mask(nib.load(path), mask_image, dtype=np.float32)


def assert_same_bits(actual, expected, dtype=np.float32):
    assert actual.dtype == expected.dtype == dtype
    bits = np.dtype(f"u{actual.dtype.itemsize}")
    np.testing.assert_array_equal(actual.view(bits), np.ascontiguousarray(expected).view(bits))


stored_dtypes = st.sampled_from("u1 i1 i2 u2 i4 u4 i8 u8 f4 f8".split()).map(np.dtype)
scalings = st.one_of(
    st.none(),
    st.tuples(
        st.sampled_from([1.0, 0.5, 0.001, -3.25, 0.0, np.nan, 1e6, 1 / 3]),
        st.sampled_from([0.0, 100.0, -0.1, 1e-3]),
    ),
)


def assert_equals_nilearn(directory, dtype, endianness, nifti2, suffix, scaling, shape, seed):
    rng = np.random.default_rng(seed)
    path = directory / f"bold{suffix}"
    if dtype.kind == "f":
        values = (rng.normal(size=shape) * 10.0 ** rng.integers(-3, 6)).astype(dtype)
    else:
        info = np.iinfo(dtype)
        values = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    slope, inter = scaling or (None, 0.0)
    write_image(path, values, nifti2=nifti2, endianness=endianness, slope=slope, inter=inter)
    mask = rng.random(shape[:3]) < 0.5
    mask[tuple(rng.integers(shape[:3]))] = True

    masked = read_masked(path, mask, AFFINE)

    assert_same_bits(masked.data, masked_by_nilearn(path, mask))
    assert masked.data.flags.c_contiguous
    seen_by_nibabel = np.asanyarray(nib.load(path).dataobj).astype(np.float64)
    tolerance = 1e-6 * np.abs(seen_by_nibabel).max() + 1e-30
    np.testing.assert_allclose(masked.mean_volume, seen_by_nibabel.mean(axis=-1), rtol=1e-5, atol=tolerance)
    assert masked.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    np.testing.assert_array_equal(masked.affine, nib.load(path).affine)


any_image = given(
    dtype=stored_dtypes,
    endianness=st.sampled_from("<>"),
    nifti2=st.booleans(),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
    scaling=scalings,
    shape=st.tuples(*[st.integers(1, 5)] * 4),
    seed=st.integers(0, 2**32 - 1),
)


@settings(deadline=None, max_examples=10)
@any_image
def test_equals_nilearn_bit_for_bit(tmp_path_factory, **image):
    assert_equals_nilearn(tmp_path_factory.mktemp("bold"), **image)


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@any_image
def test_equals_nilearn_bit_for_bit_in_many_examples(tmp_path_factory, **image):
    assert_equals_nilearn(tmp_path_factory.mktemp("bold"), **image)


DTYPES = "u1 i1 i2 u2 i4 u4 i8 u8 f4 f8".split()
REPRESENTATIVE = {("i2", None, None), ("i2", (0.5, 3.0), 6.0), ("f8", None, 6.0), ("u8", (1 / 3, -0.1), None)}


def stored_images():
    """Yield types, byte orders, scalings and widths; all but a few are slow."""
    for dtype, endianness, scaling, fwhm in product(
        DTYPES, "<>", (None, (0.5, 3.0), (1 / 3, -0.1)), (None, 6.0)
    ):
        marks = () if (dtype, scaling, fwhm) in REPRESENTATIVE else pytest.mark.slow
        yield pytest.param(dtype, endianness, scaling, fwhm, marks=marks)


@pytest.mark.parametrize(("dtype", "endianness", "scaling", "fwhm"), list(stored_images()))
def test_samples_of_every_type_are_those_of_nilearns_masker(
    tmp_path, rng, mask, dtype, endianness, scaling, fwhm
):
    """With dtype=None to the last bit and in nilearn's type; by default rounded to float32."""
    values = rng.normal(100, 10, (*mask.shape, 4)).astype(dtype)
    slope, inter = scaling or (None, 0.0)
    path = write_image(tmp_path / "bold.nii", values, endianness=endianness, slope=slope, inter=inter)
    mask_image = nib.Nifti1Image(mask.astype(np.uint8), AFFINE)
    expected = NiftiMasker(mask_image, standardize=None, smoothing_fwhm=fwhm).fit().transform(nib.load(path))
    is_double = scaling is not None or dtype == "f8" or (fwhm and dtype in ("i8", "u8") and endianness == "<")
    expected_dtype = np.float64 if is_double else np.float32
    assert expected.dtype.newbyteorder("=") == expected_dtype
    expected = expected.astype(expected_dtype)  # in the machine's byte order

    def read(**options):
        if fwhm is None:
            return read_masked(path, mask, AFFINE, **options).data
        return mask_smoothed(path, mask, AFFINE, fwhm, **options).data

    assert_same_bits(read(dtype=None), expected, expected_dtype)
    assert_same_bits(read(), expected.astype(np.float32))


def test_files_of_several_types_are_read_in_the_widest(tmp_path, rng, mask):
    paths = [
        write_image(tmp_path / f"{dtype}.nii", rng.normal(100, 10, (*mask.shape, 2)).astype(dtype))
        for dtype in ("i2", "f4", "f8")
    ]
    masked = read_masked(paths, mask, AFFINE, dtype=None)
    expected = [np.asanyarray(nib.load(path).dataobj)[mask].T.astype(np.float64) for path in paths]
    assert_same_bits(masked.data, np.concatenate(expected), np.float64)


def test_equals_nilearn_with_either_inflater(bold, mask, inflater):
    masked = read_masked(bold, mask, AFFINE)
    assert_same_bits(masked.data, masked_by_nilearn(bold, mask))
    assert masked.digest == hashlib.sha256(bold.read_bytes()).hexdigest()


@pytest.mark.parametrize("n_parts", [1, 3])
@pytest.mark.parametrize("ndim", [3, 4])
def test_list_of_images_equals_nilearn(tmp_path, rng, mask, ndim, n_parts):
    shape = mask.shape + (2,) * (ndim == 4)
    paths = [
        write_image(tmp_path / f"bold{i}.nii.gz", rng.integers(0, 999, shape).astype(np.int16))
        for i in range(n_parts)
    ]
    masked = read_masked(paths, mask, AFFINE)
    expected = apply_mask([str(path) for path in paths], nib.Nifti1Image(mask.astype(np.uint8), AFFINE))
    assert_same_bits(masked.data, expected)
    digests = "\n".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    assert masked.digest == hashlib.sha256(digests.encode()).hexdigest()


def test_every_file_of_a_list_keeps_its_own_scaling(tmp_path, rng, mask):
    values = rng.integers(0, 999, (*mask.shape, 3)).astype(np.int16)
    paths = [
        write_image(tmp_path / "run1.nii.gz", values),
        write_image(tmp_path / "run2.nii", values[..., :1], slope=0.25, inter=7),
    ]
    masked = read_masked(paths, mask, AFFINE)
    assert_same_bits(masked.data, np.vstack([masked_by_nilearn(path, mask) for path in paths]))
    seen = np.concatenate([np.asanyarray(nib.load(path).dataobj) for path in paths], axis=-1)
    np.testing.assert_allclose(masked.mean_volume, seen.mean(axis=-1), rtol=1e-6)


def test_values_that_are_not_finite_are_kept(tmp_path, rng, mask):
    values = rng.normal(size=(*mask.shape, 6)).astype(np.float32)
    inside = np.argwhere(mask)
    values[(*inside[0], 2)] = np.nan
    values[(*inside[1], 3)] = np.inf
    values[(*inside[1], 4)] = -np.inf
    path = write_image(tmp_path / "bold.nii.gz", values)
    data = read_masked(path, mask, AFFINE).data
    np.testing.assert_array_equal(np.argwhere(~np.isfinite(data)), [[2, 0], [3, 1], [4, 1]])
    # nilearn puts zeros there, and nothing else differs.
    assert_same_bits(np.where(np.isfinite(data), data, np.float32(0)), masked_by_nilearn(path, mask))


def test_extensions_before_the_data_are_skipped(tmp_path, bold, mask):
    image = nib.load(bold)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"scanner notes " * 50))
    path = tmp_path / "extended.nii.gz"
    nib.save(image, path)
    assert nib.load(path).dataobj.offset > 352
    assert_same_bits(read_masked(path, mask, AFFINE).data, masked_by_nilearn(bold, mask))


def test_several_gzip_members_are_one_file(tmp_path, bold, mask, inflater):
    content = gzip.decompress(bold.read_bytes())
    path = tmp_path / "blocks.nii.gz"
    path.write_bytes(b"".join(gzip.compress(content[i : i + 500]) for i in range(0, len(content), 500)))
    assert_same_bits(read_masked(path, mask, AFFINE).data, masked_by_nilearn(bold, mask))


@pytest.mark.parametrize(
    ("directory", "mask_name", "n_voxels"),
    [
        ("haxby2001-slice/haxby2001", "subj1/mask4_vt.nii.gz", 98),
        ("haxby2001-slice/haxby2001", "mask.nii.gz", 530),
        # nilearn takes 1.4 GB and several seconds for its side of this one.
        pytest.param("haxby2001-vt/haxby2001", "subj1/mask4_vt.nii.gz", 577, marks=pytest.mark.slow),
    ],
)
def test_real_data_equal_nilearn(shared_data, directory, mask_name, n_voxels):
    path, mask_path = shared_data / directory / "subj1" / "bold.nii.gz", shared_data / directory / mask_name
    masked = read_masked(path, *read_mask(mask_path))
    assert masked.data.shape[1] == n_voxels
    assert_same_bits(masked.data, apply_mask(str(path), str(mask_path), dtype="f"))


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(read_masked, id="unsmoothed"),
        pytest.param(partial(mask_smoothed, smoothing_fwhm=4.0), id="smoothed", marks=pytest.mark.slow),
    ],
)
def test_memory_does_not_grow_with_the_number_of_volumes(tmp_path, read):
    mask = np.zeros((64, 64, 32), dtype=bool)
    mask[32, 32, 16] = True
    peaks = []
    for n_volumes in (40, 240):
        path = write_image(tmp_path / f"bold{n_volumes}.nii.gz", np.zeros((*mask.shape, n_volumes), np.int16))
        tracemalloc.start()
        read(path, mask, AFFINE)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 200 volumes more are 52 MB. A few megabytes come and go with the pace of the threads.
    assert peaks[1] - peaks[0] < 10e6


# Damaged files ----------------------------------------------------------------------------------------------


def test_truncated_compressed_file_is_refused(tmp_path, long_bold, long_mask, inflater):
    content = long_bold.read_bytes()
    path = tmp_path / "short.nii.gz"
    inside_trailer = [len(content) - n for n in (1, 3, 4, 5, 7, 8)]
    for size in [*np.linspace(0, len(content) - 9, 10, dtype=int), *inside_trailer]:
        path.write_bytes(content[:size])
        with pytest.raises(
            DataError, match=r"short\.nii\.gz: .*(Copy or download|copy or download)"
        ) as error:
            read_masked(path, long_mask, AFFINE)
        assert "\n" not in str(error.value), size


def test_truncated_uncompressed_file_is_refused(tmp_path, rng, mask):
    path = write_image(tmp_path / "short.nii", rng.integers(0, 9, (*mask.shape, 12)).astype(np.int16))
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"short\.nii: ends within volume 12 of the 12 that"):
        read_masked(path, mask, AFFINE)
    path.write_bytes(content[:300])
    with pytest.raises(DataError, match=r"short\.nii: "):
        read_masked(path, mask, AFFINE)


@pytest.mark.parametrize("step", [2999, pytest.param(199, marks=pytest.mark.slow)])
def test_flipped_byte_never_changes_the_samples(tmp_path, long_bold, long_mask, inflater, step):
    content = long_bold.read_bytes()
    path = tmp_path / "flipped.nii.gz"
    intact = read_masked(long_bold, long_mask, AFFINE)
    unnoticed = []
    # The first ten bytes are the header of gzip, whose time stamp no checksum covers.
    for position in {*range(10, len(content), step), *range(len(content) - 8, len(content))}:
        flipped = bytearray(content)
        flipped[position] ^= 0x10
        path.write_bytes(flipped)
        try:
            masked = read_masked(path, long_mask, AFFINE)
        except DataError as error:
            assert str(path) in str(error)
        else:
            # A few bits of deflate have no meaning: codes that no symbol uses, padding.
            unnoticed.append(position)
            assert_same_bits(masked.data, intact.data)
            assert masked.digest != intact.digest
    assert len(unnoticed) <= 2


def test_bytes_after_the_compressed_data_are_refused(tmp_path, bold, mask, inflater):
    path = tmp_path / "longer.nii.gz"
    path.write_bytes(bold.read_bytes() + b"<html>404</html>")
    with pytest.raises(DataError, match=r"longer\.nii\.gz: the compressed data are damaged"):
        read_masked(path, mask, AFFINE)
    # gzip tolerates padding with zeros, to the block of a tape or a disk.
    path.write_bytes(bold.read_bytes() + bytes(512))
    masked = read_masked(path, mask, AFFINE)
    assert masked.digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("bold.nii.gz", b"", "not an image", id="empty"),
        pytest.param("bold.nii", b"run condition\n0 face\n" * 99, "not an image", id="table as nii"),
        pytest.param("bold.nii.gz", b"<html>404 not found</html>" * 99, "damaged|not an image", id="page"),
        pytest.param("bold.nii.gz", gzip.compress(b"nothing of the kind" * 99), "not an image", id="other"),
        pytest.param("bold.txt", b"run condition\n0 face\n" * 99, "not an image", id="table"),
    ],
)
def test_file_that_is_not_an_image_is_refused(tmp_path, mask, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: .*({message})"):
        read_masked(path, mask, AFFINE)
    with pytest.raises(DataError, match=f"{name}: .*({message})"):
        read_mask(path)


def test_uncompressed_file_with_a_compressed_name_is_refused(tmp_path, bold, mask):
    path = tmp_path / "plain.nii.gz"
    path.write_bytes(gzip.decompress(bold.read_bytes()))
    with pytest.raises(DataError, match=r"plain\.nii\.gz: "):
        read_masked(path, mask, AFFINE)


def test_missing_and_unreadable_files_are_refused(tmp_path, mask):
    with pytest.raises(DataError, match=r"nowhere\.nii\.gz: no such file"):
        read_masked(tmp_path / "nowhere.nii.gz", mask, AFFINE)
    with pytest.raises(DataError, match=r"nowhere\.nii\.gz: no such file"):
        read_mask(tmp_path / "nowhere.nii.gz")
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(DataError, match=r"folder\.nii: "):
        read_masked(tmp_path / "folder.nii", mask, AFFINE)


def test_single_3d_image_is_refused(tmp_path, rng, mask):
    path = write_image(tmp_path / "anat.nii.gz", rng.integers(0, 9, mask.shape).astype(np.int16))
    with pytest.raises(DataError, match=r"anat\.nii\.gz: is 3D, of shape \(5, 6, 4\), but expected 4D"):
        read_masked(path, mask, AFFINE)


def test_five_dimensions_are_refused(tmp_path, rng, mask):
    path = write_image(tmp_path / "echoes.nii", rng.integers(0, 9, (*mask.shape, 2, 3)).astype(np.int16))
    with pytest.raises(DataError, match=r"echoes\.nii: has 5 dimensions, shape \(5, 6, 4, 2, 3\)"):
        read_masked(path, mask, AFFINE)
    with pytest.raises(DataError, match=r"echoes\.nii: has 5 dimensions"):
        read_mask(path)


def test_other_formats_and_complex_values_are_refused(tmp_path, rng, mask):
    values = rng.normal(size=(*mask.shape, 2)).astype(np.float32)
    nib.save(nib.MGHImage(values, AFFINE), tmp_path / "bold.mgz")
    with pytest.raises(
        DataError, match=r"bold\.mgz: not an image in a supported format.*NIfTI-1 and NIfTI-2"
    ):
        read_masked(tmp_path / "bold.mgz", mask, AFFINE)
    path = write_image(tmp_path / "phase.nii", values.astype(np.complex64))
    with pytest.raises(DataError, match=r"phase\.nii: holds complex64 values"):
        read_masked(path, mask, AFFINE)


def test_mask_of_another_shape_is_refused(bold, mask):
    with pytest.raises(DataError, match=r"bold\.nii\.gz: .*\(5, 6, 4\), but vt\.nii has shape \(5, 6, 3\)"):
        read_masked(bold, mask[:, :, :3], AFFINE, mask_name="vt.nii")


def test_message_about_another_affine_contains_both(bold, mask):
    other = AFFINE.copy()
    other[0, 3] += 3.5
    with pytest.raises(DataError, match=r"bold\.nii\.gz: its affine differs") as error:
        read_masked(bold, mask, other)
    assert str(nib.load(bold).affine) in str(error.value)
    assert str(other) in str(error.value)
    read_masked(bold, mask, AFFINE * (1 + 1e-7))


def test_empty_mask_or_list_is_refused(tmp_path, bold, mask):
    with pytest.raises(DataError, match="with 0 voxels inside"):
        read_masked(bold, np.zeros_like(mask), AFFINE)
    with pytest.raises(DataError, match="but expected a 3D array of bool"):
        read_masked(bold, mask.astype(int), AFFINE)
    with pytest.raises(DataError, match="list of images is empty"):
        read_masked([], mask, AFFINE)


def test_image_without_volumes_is_refused(tmp_path, bold, mask):
    content = bytearray(gzip.decompress(bold.read_bytes()))
    dtype, offset = nib.Nifti1Header.template_dtype.fields["dim"]
    dim = np.array([4, *mask.shape, 0, 1, 1, 1], dtype=dtype.base)
    content[offset : offset + dim.nbytes] = dim.tobytes()
    path = tmp_path / "none.nii"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"none\.nii: has shape \(5, 6, 4, 0\), so it has no volume"):
        read_masked(path, mask, AFFINE)


def test_damaged_file_of_a_list_is_named(tmp_path, rng, mask):
    paths = [
        write_image(tmp_path / f"run{i}.nii.gz", rng.integers(0, 999, (*mask.shape, 2)).astype(np.int16))
        for i in range(3)
    ]
    paths[1].write_bytes(paths[1].read_bytes()[:-20])
    with pytest.raises(DataError, match=r"run1\.nii\.gz: "):
        read_masked(paths, mask, AFFINE)


# Masks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_mask_is_where_the_values_are_not_zero(tmp_path, mask, dtype):
    path = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image((mask * 3).astype(dtype), AFFINE), path)
    read, affine = read_mask(path)
    assert read.dtype == bool
    np.testing.assert_array_equal(read, mask)
    np.testing.assert_array_equal(affine, nib.load(path).affine)


def test_values_that_are_not_finite_are_outside_the_mask(tmp_path, mask):
    values = np.where(mask, 1.0, np.nan)
    values[-1, -1, -1] = np.inf
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "mask.nii")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii")[0], mask)


def test_single_volume_in_4d_is_a_mask(tmp_path, mask):
    path = write_mask(tmp_path / "mask.nii.gz", mask[..., np.newaxis])
    np.testing.assert_array_equal(read_mask(path)[0], mask)


def test_empty_mask_and_mask_of_several_volumes_are_refused(tmp_path, bold, mask):
    path = write_mask(tmp_path / "empty.nii.gz", np.zeros_like(mask))
    with pytest.raises(DataError, match=r"empty\.nii\.gz: every voxel of this mask is zero"):
        read_mask(path)
    with pytest.raises(
        DataError, match=r"bold\.nii\.gz: has shape \(5, 6, 4, 12\), but expected one 3D volume"
    ):
        read_mask(bold)


def test_damaged_mask_is_refused(tmp_path, long_mask, inflater):
    path = write_mask(tmp_path / "mask.nii.gz", long_mask)
    content = path.read_bytes()
    for size in (0, 5, 60, len(content) - 30, len(content) - 2):
        path.write_bytes(content[:size])
        with pytest.raises(DataError, match=r"mask\.nii\.gz: "):
            read_mask(path)
    for position in range(100, len(content), 61):
        flipped = bytearray(content)
        flipped[position] ^= 0x04
        path.write_bytes(flipped)
        try:
            read = read_mask(path)[0]
        except DataError as error:
            assert str(path) in str(error)
        else:
            np.testing.assert_array_equal(read, long_mask)


# Streaming --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [None, 0.25])
def test_streamed_volumes_equal_those_of_nibabel(tmp_path, rng, slope, inflater):
    files = [
        write_image(tmp_path / name, rng.integers(-500, 3000, (5, 6, 4, n)).astype(np.int16), slope=slope)
        for name, n in (("a.nii.gz", 7), ("b.nii", 3))
    ]
    expected = np.concatenate([np.asarray(nib.load(file).dataobj) for file in files], axis=3)
    streamed = list(stream_volumes(files))
    assert len(streamed) == 10
    np.testing.assert_array_equal(np.stack(streamed, axis=3), expected)
    np.testing.assert_array_equal(np.stack(list(stream_volumes(files[0])), axis=3), expected[..., :7])


def test_streaming_refuses_damage_and_other_shapes(tmp_path, long_bold, bold, rng):
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(long_bold.read_bytes()[: long_bold.stat().st_size // 2])
    with pytest.raises(DataError, match=r"cut\.nii\.gz"):
        list(stream_volumes(cut))
    with pytest.raises(DataError, match="has shape"):
        list(stream_volumes([bold, long_bold]))
