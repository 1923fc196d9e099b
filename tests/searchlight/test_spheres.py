"""Spheres hold the voxels within the radius of their centre, in the columns of the samples."""

import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from nilearn.maskers import NiftiSpheresMasker

from harness.errors import DesignError, UsageError
from harness.searchlight.spheres import find_spheres

AFFINES = {
    "unequal sides": np.diag([3.5, 3.75, 3.75, 1.0]),
    "mirrored": np.array([[-3.0, 0, 0, 90], [0, 3, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]]),
    "rotated and sheared": np.array([[2.9, 0.6, 0, 5], [-0.6, 2.9, 0.3, 7], [0, -0.2, 4.1, 1], [0, 0, 0, 1]]),
}


def random_masks(rng, shape=(7, 8, 6)):
    samples_mask = rng.random(shape) < 0.8
    return samples_mask, samples_mask & (rng.random(shape) < 0.5)


def brute_force(samples_mask, affine, centres, radius):
    """Return the columns of every sphere, by the distance between all pairs of voxels."""
    voxels = np.argwhere(samples_mask)
    places = voxels @ affine[:3, :3].T + affine[:3, 3]
    return {
        column: [
            other
            for other in range(len(voxels))
            if np.linalg.norm(places[other] - places[column]) <= radius + 1e-6
        ]
        for column in range(len(voxels))
        if centres[tuple(voxels[column])]
    }


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES.keys())
@pytest.mark.parametrize("radius", [4.2, 8.0])
def test_members_are_the_voxels_within_the_radius(rng, affine, radius):
    samples_mask, centres = random_masks(rng)
    spheres = find_spheres(samples_mask, affine, centres, radius)
    expected = brute_force(samples_mask, affine, centres, radius)
    assert spheres.centres.tolist() == list(expected)
    assert [spheres.columns_of(i).tolist() for i in range(len(spheres))] == list(expected.values())
    assert spheres.n_small == 0


def test_distances_equal_to_the_radius_are_within_it(rng):
    """3 * 0.1 and 0.30000000000000004 mm: rounding must not decide about neighbours along one axis."""
    mask = np.ones((7, 1, 1), dtype=bool)
    spheres = find_spheres(mask, np.diag([0.1, 0.1, 0.1, 1.0]), mask, 0.3)
    assert spheres.sizes.tolist() == [4, 5, 6, 7, 6, 5, 4]


def test_members_are_nilearns_neighbours(rng):
    """Random values of 8 volumes have the same mean over a sphere only if it has the same voxels."""
    samples_mask, centres = random_masks(rng)
    affine = AFFINES["unequal sides"]
    image = Nifti1Image(rng.normal(size=(*samples_mask.shape, 8)), affine)
    seeds = np.argwhere(centres) @ affine[:3, :3].T + affine[:3, 3]
    masker = NiftiSpheresMasker(
        [tuple(seed) for seed in seeds],
        radius=8.0,
        mask_img=Nifti1Image(samples_mask.astype(np.int8), affine),
        allow_overlap=True,
        standardize=None,
    )
    spheres = find_spheres(samples_mask, affine, centres, 8.0)
    values = image.get_fdata()[samples_mask]
    means = np.stack([values[spheres.columns_of(i)].mean(axis=0) for i in range(len(spheres))], axis=1)
    np.testing.assert_allclose(means, masker.fit_transform(image), rtol=1e-10, atol=1e-12)


def test_small_spheres_are_left_out_and_counted(rng):
    samples_mask, centres = random_masks(rng)
    affine = AFFINES["mirrored"]
    expected = brute_force(samples_mask, affine, centres, 4.5)
    large = {column: members for column, members in expected.items() if len(members) >= 12}
    spheres = find_spheres(samples_mask, affine, centres, 4.5, min_voxels=12)
    assert 0 < len(large) < len(expected)
    assert spheres.centres.tolist() == list(large)
    assert spheres.n_small == len(expected) - len(large)


def test_centres_outside_the_samples_are_left_out(rng):
    samples_mask, _ = random_masks(rng)
    everywhere = np.ones_like(samples_mask)
    spheres = find_spheres(samples_mask, AFFINES["mirrored"], everywhere, 4.5)
    assert spheres.centres.tolist() == list(range(samples_mask.sum()))


def test_a_radius_that_reaches_no_neighbour_is_a_usage_error():
    mask = np.ones((3, 3, 3), dtype=bool)
    with pytest.raises(UsageError, match=r"analysis.radius=3 mm .* 3.5 mm away; choose a larger radius"):
        find_spheres(mask, AFFINES["unequal sides"], mask, 3.0)


def test_no_sphere_with_enough_voxels_is_a_design_error():
    mask = np.ones((3, 3, 3), dtype=bool)
    with pytest.raises(DesignError, match=r"min_voxels=8: of 27 spheres .* largest has 7 voxels"):
        find_spheres(mask, np.eye(4), mask, 1.0, min_voxels=8)


def test_a_region_outside_the_mask_is_a_design_error():
    mask = np.zeros((3, 3, 3), dtype=bool)
    mask[0] = True
    with pytest.raises(DesignError, match="none of the 18 voxels of the region"):
        find_spheres(mask, np.eye(4), ~mask, 1.0)


def test_a_region_of_another_shape_is_a_design_error():
    with pytest.raises(DesignError, match="on the grid of the image"):
        find_spheres(np.ones((3, 3, 3), dtype=bool), np.eye(4), np.ones((3, 3, 2), dtype=bool), 1.0)


def test_radius_beyond_the_volume_takes_the_whole_mask():
    mask = np.ones((3, 4, 5), dtype=bool)
    spheres = find_spheres(mask, np.diag([3.0, 3.0, 3.0, 1.0]), mask, 1e9)
    assert (spheres.sizes == 60).all()


def test_spheres_that_would_use_up_the_memory_are_refused():
    mask = np.ones((60, 60, 60), dtype=bool)
    with pytest.raises(
        UsageError, match=r"analysis.radius=500 mm: 216000 spheres .* choose a smaller radius"
    ):
        find_spheres(mask, np.diag([2.0, 2.0, 2.0, 1.0]), mask, 500)
