"""How two maps differ: computed from planted scores."""

import json
from datetime import UTC, datetime

import nibabel as nib
import numpy as np
import pytest

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
        directory.mkdir()
        nib.save(nib.Nifti1Image(scores, affine), directory / "searchlight_z_vs_a.nii.gz")
        (directory / "searchlight.json").write_text(json.dumps({"contrast": "z_vs_a"}))
        tags = {ANALYSIS_TAG: "searchlight"} if searchlight else {}
        started = datetime(2026, 1, 1, tzinfo=UTC)
        uri = directory.as_uri()
        return StoredRun("", uri, name * 8, name, "FINISHED", "1", started, {}, metrics, tags)

    return write


def make_scores():
    scores = np.zeros((4, 3, 2))
    scores[1:3] = np.linspace(0.4, 0.9, 12).reshape(2, 3, 2)
    return scores


def test_largest_difference_has_its_place_in_mm(store_map):
    scores = make_scores()
    other = scores.copy()
    other[2, 1, 0] -= 0.25
    other[1, 0, 0] = 0  # no centre in the second map
    other[3, 2, 1] = 0.7  # a centre in the second map alone
    found = compare_maps(store_map("a", scores, n_corrected=3.0), store_map("b", other))
    assert (found.n_first, found.n_second, found.n_both, found.n_changed) == (12, 12, 11, 1)
    assert found.largest == pytest.approx(-0.25, abs=1e-12)
    assert found.where == pytest.approx((-4, -17, -30))
    assert found.mean == pytest.approx(-0.25 / 11, abs=1e-12)
    both = (scores != 0) & (other != 0)
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


def test_map_that_is_missing_or_damaged_is_named(store_map, tmp_path):
    first, second = store_map("a", make_scores()), store_map("b", make_scores())
    (tmp_path / "b" / "searchlight_z_vs_a.nii.gz").unlink()
    assert "has no searchlight_z_vs_a.nii.gz" in compare_maps(first, second)
    (tmp_path / "b" / "searchlight.json").write_text("{")
    assert "searchlight.json of run" in compare_maps(first, second)
