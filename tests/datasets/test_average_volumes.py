"""Means of some volumes of one image, or of several, in one pass."""

import nibabel as nib
import numpy as np
import pytest

from harness.datasets.images import average_volumes
from harness.errors import DataError


@pytest.fixture
def image(tmp_path, rng):
    data = rng.integers(0, 1000, (3, 4, 5, 12)).astype(np.int16)
    file = tmp_path / "bold.nii.gz"
    nib.save(nib.Nifti1Image(data, np.eye(4)), file)
    return file, data


def test_means_equal_numpy_on_the_whole_image(image, tmp_path):
    file, data = image
    groups = [[7], [0, 1, 2], [11], [2, 7]]
    parts = tuple(tmp_path / f"{start}.nii" for start in (0, 6))
    for start, part in zip((0, 6), parts, strict=True):
        nib.save(nib.Nifti1Image(data[..., start : start + 6], np.eye(4)), part)
    for bold in (file, parts):
        for group, mean in zip(groups, average_volumes(bold, groups), strict=True):
            np.testing.assert_allclose(mean, data[..., group].mean(axis=-1), rtol=1e-14)
    np.testing.assert_array_equal(average_volumes(file, [[7]])[0], data[..., 7])


def test_a_volume_beyond_the_end_is_a_data_error(image):
    with pytest.raises(DataError, match="has 12 volumes, no volume 12"):
        average_volumes(image[0], [[0], [3, 12]])


def test_damage_after_the_last_volume_that_is_needed_is_found(image):
    file, _ = image
    file.write_bytes(file.read_bytes()[:-6])
    with pytest.raises(DataError, match="damaged or cut short"):
        average_volumes(file, [[0]])
