"""How two maps differ: computed from planted scores."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from map_files import write_map

from harness.comparison.map_differences import compare_maps
from harness.tracking.stored_run import StoredRun
from harness.tracking.tags import ANALYSIS_TAG

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
AFFINE[:3, 3] = (-10, -20, -30)


@pytest.fixture
def store_map(tmp_path):
    """Return a function that writes a map, and returns its run."""

    def write(name, scores, affine=AFFINE, searchlight=True, **metrics):
        directory = tmp_path / name
        voxels = np.flatnonzero(~np.isnan(scores))
        write_map(directory, voxels, scores.ravel()[voxels], scores.shape, affine, "z_vs_a")
        tags = {ANALYSIS_TAG: "searchlight"} if searchlight else {}
        started = datetime(2026, 1, 1, tzinfo=UTC)
        uri = directory.as_uri()
        return StoredRun("", uri, name * 8, name, "FINISHED", "1", started, {}, metrics, tags)

    return write


def make_scores():
    scores = np.full((4, 3, 2), np.nan)
    scores[1:3] = np.linspace(0.4, 0.9, 12).reshape(2, 3, 2)
    return scores


def test_largest_difference_has_its_place_in_mm(store_map):
    scores = make_scores()
    other = scores.copy()
    other[2, 1, 0] -= 0.25
    other[1, 0, 0] = np.nan  # no centre in the second map
    other[3, 2, 1] = 0.7  # a centre in the second map alone
    found = compare_maps(store_map("a", scores, n_corrected=3.0), store_map("b", other))
    assert (found.n_first, found.n_second, found.n_both, found.n_changed) == (12, 12, 11, 1)
    assert found.largest == pytest.approx(-0.25, abs=1e-12)
    assert found.where == pytest.approx((-4, -17, -30))
    assert found.mean == pytest.approx(-0.25 / 11, abs=1e-12)
    both = np.isfinite(scores) & np.isfinite(other)
    x, y = scores[both] - scores[both].mean(), other[both] - other[both].mean()
    assert found.correlation == pytest.approx(x @ y / np.sqrt((x @ x) * (y @ y)), abs=1e-12)
    assert found.n_corrected == (3, None)


def test_maps_of_other_grids_and_other_analyses_are_not_compared(store_map):
    first = store_map("a", make_scores())
    assert "different grids" in compare_maps(first, store_map("b", make_scores(), affine=np.eye(4)))
    region = store_map("c", make_scores(), searchlight=False)
    assert "first is a searchlight, the second a decoding" in compare_maps(first, region)
    assert "first is a decoding, the second a searchlight" in compare_maps(region, first)
    assert compare_maps(region, region) is None


def test_a_score_of_0_is_a_score(store_map):
    scores = make_scores()
    scores[1, 0, 0] = 0.0
    other = scores.copy()
    other[1, 0, 0] = 0.25
    found = compare_maps(store_map("a", scores), store_map("b", other))
    assert (found.n_first, found.n_second, found.n_both, found.n_changed) == (12, 12, 12, 1)
    assert found.largest == 0.25


def test_a_score_that_is_not_defined_is_left_out_of_the_means(store_map, tmp_path):
    first, second = store_map("a", make_scores()), store_map("b", make_scores() + 0.125)
    stored = dict(np.load(tmp_path / "b" / "centres.npz"))
    stored["scores"][3] = np.nan
    np.savez(tmp_path / "b" / "centres.npz", **stored)
    found = compare_maps(first, second)
    assert (found.n_both, found.n_changed) == (12, 12)
    assert found.mean == pytest.approx(0.125)


def test_map_that_is_missing_or_damaged_is_named(store_map, tmp_path):
    first, second = store_map("a", make_scores()), store_map("b", make_scores())
    (tmp_path / "b" / "centres.npz").unlink()
    assert "has no centres.npz" in compare_maps(first, second)
    (tmp_path / "b" / "searchlight.json").write_text("{")
    assert "searchlight.json of run" in compare_maps(first, second)


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("searchlight.json", {"settings": {}}, "it lacks settings.radius"),
        ("searchlight.json", {"settings": 3}, "it has no settings"),
        ("searchlight.json", {"n_spheres": 5}, "it has 12 centres, and searchlight.json counts 5"),
        ("centres.npz", {"voxels": np.arange(12)[::-1]}, "its scores do not fit its voxels"),
        ("centres.npz", {"voxels": np.arange(20, 32)}, "its scores do not fit its voxels"),
        ("centres.npz", {"scores": np.zeros(3)}, "its scores do not fit its voxels"),
    ],
)
def test_a_damaged_record_is_refused_with_its_problem(store_map, tmp_path, name, change, problem):
    first, second = store_map("a", make_scores()), store_map("b", make_scores())
    file = tmp_path / "b" / name
    if name.endswith("json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
    else:
        np.savez(file, **(dict(np.load(file)) | change))
    found = compare_maps(first, second)
    assert problem in found
    assert "repeat the run with resume=false" in found
