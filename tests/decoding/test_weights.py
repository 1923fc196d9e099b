"""Weight maps: the right sign, in the right place."""

import nibabel as nib
import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.svm import LinearSVC

from harness.datasets.haxby import read_subject
from harness.decoding.decoder import fit_decoder
from harness.decoding.estimator import Estimator
from harness.decoding.weights import map_weights, unmask
from harness.samples.contrasts import make_contrast
from harness.samples.samples import FoldPreprocessing, Roi, VoxelGrid, load_samples
from harness.samples.signal import Signal

SVC = Estimator("svc", LinearSVC(random_state=0), {"C": [1.0, 10.0]})
FACE_VOXEL, CAT_VOXEL, HOUSE_VOXEL = (1, 2, 1), (0, 3, 3), (2, 0, 0)


@pytest.fixture(scope="module")
def map_of(tiny_subject):
    """Decode a subject in whom one voxel rises for every condition."""
    data_dir = tiny_subject(planted={"face": FACE_VOXEL, "cat": CAT_VOXEL, "house": HOUSE_VOXEL}, effect=80)
    recording = read_subject(data_dir / "haxby2001", 1, dataset="haxby")

    def map_of(conditions, estimator=SVC):
        samples = load_samples(recording, make_contrast(conditions), Roi(), Signal())
        folds = list(LeaveOneGroupOut().split(samples.X, samples.y, samples.runs))
        fitted = fit_decoder(samples.X, samples.y, folds, estimator, "roc_auc", samples.preparation)
        return map_weights(fitted, samples.contrast, samples.grid)

    map_of.recording = recording
    return map_of


def read(image):
    return np.asarray(image.dataobj)


@pytest.mark.parametrize(
    "conditions, positive, negative",
    [(["face", "cat"], FACE_VOXEL, CAT_VOXEL), (["cat", "face"], CAT_VOXEL, FACE_VOXEL)],
)
def test_a_voxel_that_rises_for_the_first_condition_has_the_largest_positive_weight(
    map_of, conditions, positive, negative
):
    (weights,) = map_of(conditions)
    data = read(weights.mean)
    assert np.unravel_index(data.argmax(), data.shape) == positive
    assert np.unravel_index(data.argmin(), data.shape) == negative
    assert data[positive] > 0 > data[negative]
    assert weights.name == "_vs_".join(conditions)
    assert (weights.positive, weights.negative) == tuple(conditions)
    assert weights.mean.header["descrip"].item().decode().endswith(f"positive = {conditions[0]}")


def test_the_sign_is_that_of_the_difference_of_means(map_of):
    """Without scikit-learn: a classifier of one voxel can only follow the sign of the difference."""
    (weights,) = map_of(["house", "cat"])
    bold = np.asanyarray(nib.load(map_of.recording.bold).dataobj)
    condition = map_of.recording.labels["condition"].to_numpy()
    difference = bold[..., condition == "house"].mean(axis=-1) - bold[..., condition == "cat"].mean(axis=-1)
    for voxel in (HOUSE_VOXEL, CAT_VOXEL):
        assert np.sign(read(weights.mean)[voxel]) == np.sign(difference[voxel])


def test_swapping_the_two_conditions_flips_the_map_and_nothing_else(map_of):
    (one,), (other,) = map_of(["face", "cat"]), map_of(["cat", "face"])
    assert read(one.mean).any()
    np.testing.assert_array_equal(read(one.mean), -read(other.mean))
    np.testing.assert_array_equal(read(one.sd), read(other.sd))


def test_several_classes_have_a_map_each_in_the_contrasts_order(map_of):
    maps = map_of(["house", "face", "cat"])
    assert [weights.positive for weights in maps] == ["house", "face", "cat"]
    assert {weights.negative for weights in maps} == {"the rest"}
    assert [weights.name for weights in maps] == [
        f"house_vs_face_vs_cat_{name}" for name in ("house", "face", "cat")
    ]
    for weights, voxel in zip(maps, (HOUSE_VOXEL, FACE_VOXEL, CAT_VOXEL), strict=True):
        data = read(weights.mean)
        assert np.unravel_index(data.argmax(), data.shape) == voxel


def test_mean_and_sd_are_those_of_the_folds_models(map_of):
    contrast = make_contrast(["face", "cat"])
    estimator = Estimator("svc", LinearSVC(random_state=0), {"C": [1.0]})
    (weights,) = map_of(["face", "cat"], estimator)
    samples = load_samples(map_of.recording, contrast, Roi(), Signal())
    Z = samples.X.astype(float)
    Z = (Z - Z.mean(axis=0)) / Z.std(axis=0, ddof=1)
    # +1 for face by hand.
    coefs = [
        LinearSVC(random_state=0).fit(Z[train], np.where(samples.y[train] == "face", 1, -1)).coef_[0]
        for train, _ in LeaveOneGroupOut().split(Z, groups=samples.runs)
    ]
    vt = np.asanyarray(nib.load(map_of.recording.masks["vt"]).dataobj) > 0
    np.testing.assert_allclose(read(weights.mean)[vt], np.mean(coefs, axis=0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(read(weights.sd)[vt], np.std(coefs, axis=0), rtol=1e-3, atol=1e-5)


def test_maps_are_in_the_masks_space_and_zero_outside(map_of):
    vt = nib.load(map_of.recording.masks["vt"])
    outside = np.asanyarray(vt.dataobj) == 0
    for weights in map_of(["face", "cat", "house"]):
        for image in (weights.mean, weights.sd):
            assert image.shape == vt.shape
            np.testing.assert_array_equal(image.affine, vt.affine)
            assert image.get_data_dtype() == np.float32
            assert image.header.get_xyzt_units()[0] == "mm"
            assert not read(image)[outside].any()
            assert read(image)[~outside].all()


def test_the_dummy_has_no_maps(map_of):
    dummy = Estimator("dummy", DummyClassifier(strategy="stratified", random_state=0))
    assert map_of(["face", "cat"], dummy) == []


def make_grid(n_voxels):
    """A grid whose voxels fill a box in C order, after one voxel that is outside the mask."""
    mask = np.zeros(4 * 3 * (n_voxels // 12 + 1), dtype=bool)
    mask[1 : n_voxels + 1] = True
    mask = mask.reshape(-1, 4, 3)
    return VoxelGrid(mask, np.eye(4), np.ones(mask.shape, dtype=np.float32))


def test_values_go_back_to_the_voxels_that_they_came_from(rng):
    X, grid = rng.normal(size=(6, 30)).astype(np.float32), make_grid(30)
    values = rng.normal(size=30).astype(np.float32)
    image = unmask(values, grid, "x" * 100)
    assert image.shape == grid.mask.shape
    np.testing.assert_array_equal(read(image)[grid.mask], values)
    assert np.count_nonzero(read(image)) == 30
    assert image.header["descrip"].item() == b"x" * 79
    several = unmask(X, grid)
    assert several.shape == (*grid.mask.shape, 6)
    np.testing.assert_array_equal(read(several)[grid.mask].T, X)


def test_voxels_that_were_screened_out_weigh_nothing(make_samples, rng):
    y, runs = np.tile(["face", "cat"], 20), np.repeat(range(4), 10)
    X = rng.normal(size=(40, 120))
    X[:, 77] += 5 * (y == "face")
    samples = make_samples(X, y, runs, preparation=FoldPreprocessing("own", 10))
    grid = make_grid(120)
    folds = list(LeaveOneGroupOut().split(X, y, runs))
    (weights,) = map_weights(
        fit_decoder(samples.X, y, folds, SVC, "roc_auc", samples.preparation), samples.contrast, grid
    )
    inside = read(weights.mean)[grid.mask]
    assert 12 <= np.count_nonzero(inside) <= 48  # 12 voxels in each of four folds
    assert inside.argmax() == 77
