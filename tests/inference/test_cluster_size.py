"""Sizes of clusters, against clusters drawn by hand."""

import numpy as np

from harness.inference.cluster_size import measure_clusters

DRAWN = np.array(
    [
        [9, 9, 0, 5],
        [0, 9, 0, 5],
        [5, 0, 0, 5],
        [0, 0, 2, 0],
    ]
)[..., np.newaxis]


def test_voxels_that_share_faces_are_one_cluster():
    everywhere = np.ones(DRAWN.shape, dtype=bool)
    expected = np.array([[3, 3, 0, 3], [0, 3, 0, 3], [1, 0, 0, 3], [0, 0, 0, 0]])
    sizes = measure_clusters(DRAWN.ravel(), everywhere, 2.0)
    np.testing.assert_array_equal(sizes.reshape(4, 4), expected)


def test_voxels_outside_the_mask_do_not_join_clusters():
    mask = np.ones(DRAWN.shape, dtype=bool)
    mask[0, 1] = False
    found = np.zeros(DRAWN.shape)
    found[mask] = measure_clusters(DRAWN[mask], mask, 2.0)
    np.testing.assert_array_equal(found[:2, :2, 0], [[1, 0], [0, 1]])


def test_no_voxel_above_the_threshold_has_no_cluster():
    assert not measure_clusters(np.ones(8), np.ones((2, 2, 2), dtype=bool), 1.0).any()
