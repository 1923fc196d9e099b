"""Figures of searchlights: colours around chance, outlines, and special maps."""

from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest
from searchlight_results import make_result

from harness.report.score_map import ScoreMap, make_colours
from harness.report.searchlight_figures import (
    draw_maxima,
    draw_score_map,
    show_scores,
    write_score_view,
)
from harness.searchlight.descriptions import describe_within

EIGHT = ("face", "cat", "house", "chair", "shoe", "bottle", "scissors", "scrambledpix")
LONG = [
    {f"{name}_with_a_very_long_name_of_its_class_that_fills_the_title_of_figures": [name]}
    for name in EIGHT[:2]
]


@pytest.fixture(scope="module")
def subject(tiny_subject):
    return {"volume": tiny_subject(shape=(8, 7, 6)), "slice": tiny_subject(shape=(9, 8, 1))}


def make_map(scores, chance=0.5):
    centres = np.isfinite(scores)
    return ScoreMap(np.nan_to_num(scores), centres, np.eye(4), None, chance, "accuracy")


def test_chance_is_white_and_equal_distances_have_equal_darkness():
    shown = make_map(np.array([[[0.4, 0.5, 0.9]]]))
    colours, (low, high) = make_colours(shown), shown.limits

    def brightness(score):
        return np.sum(colours((score - low) / (high - low))[:3])

    assert (low, high) == (0.4, 0.9)
    assert brightness(0.5) > 2.85
    assert brightness(0.4) == pytest.approx(brightness(0.6), abs=0.25)
    red, _, blue, _ = colours(1.0)
    assert red > blue
    assert colours(0.0)[2] > colours(0.0)[0]


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_limits_of_a_map_of_one_value_hold_chance_and_a_range(value):
    low, high = make_map(np.full((1, 1, 1), value)).limits
    assert low <= 0.5 <= high
    assert high > low


def test_a_score_of_0_is_drawn(subject):
    scores = np.full((8, 7, 6), 0.5)
    scores[2, 2, 2] = 0.0
    shown = show_scores(make_result(subject["volume"], scores))
    assert np.count_nonzero(np.asarray(shown.image.dataobj)) == shown.centres.sum()


def make_special(subject, case):
    """Return the result of a special case."""
    kind = "slice" if case.startswith("slice") else "volume"
    shape = (9, 8, 1) if kind == "slice" else (8, 7, 6)
    rng = np.random.default_rng(3)
    scores = rng.normal(0.55, 0.1, shape).clip(0, 1)
    z = (scores - 0.5) * 20
    p = np.where(z > 3, 0.01, 1.0)
    if case.endswith("nothing corrected"):
        p[:] = 1.0
    if case.endswith("one sphere"):
        middle = tuple(size // 2 for size in shape)
        scores = np.where(np.indices(shape).sum(axis=0) >= 0, np.nan, scores)
        scores[middle] = 0.8
    options = {}
    if case.endswith("long names"):
        options = {"classes": LONG}
    if case.endswith("cluster"):
        options = {"correction": "cluster_size"}
    return make_result(subject[kind], scores, z, p, **options)


CASES = ["volume", "slice nothing corrected", "slice one sphere"]
SLOW_CASES = ["slice", "volume nothing corrected", "volume one sphere", "volume long names", "volume cluster"]


@pytest.mark.parametrize(
    "case", [*CASES, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW_CASES)]
)
def test_special_maps_are_drawn(subject, case, tmp_path):
    result = make_special(subject, case)
    draw_score_map(result, tmp_path / "map.png")
    draw_maxima(result, result.test, tmp_path / "maxima.png")
    red, _, blue = np.moveaxis(matplotlib.image.imread(tmp_path / "map.png")[..., :3], -1, 0)
    assert (red - blue > 0.2).sum() > 20
    assert (tmp_path / "maxima.png").stat().st_size > 5000


@pytest.mark.slow
def test_eight_classes_have_chance_of_an_eighth(tiny_subject, tmp_path):
    data = tiny_subject(shape=(5, 5, 3), conditions=EIGHT)
    result = make_result(data, classes=EIGHT, option="all8")
    draw_score_map(result, tmp_path / "map.png")
    assert show_scores(result).chance == 1 / 8


def test_significant_voxels_are_outlined(subject, tmp_path):
    scores = np.full((9, 8, 1), 0.7)
    z = np.zeros(scores.shape)
    dark = []
    for p in (1.0, 0.01):
        p_fwe = np.ones(scores.shape)
        p_fwe[3:6, 3:6] = p
        file = tmp_path / f"{p}.png"
        draw_score_map(make_result(subject["slice"], scores, z, p_fwe), file)
        picture = matplotlib.image.imread(file)[..., :3]
        dark.append(int((picture[60:-60].max(axis=-1) < 0.25).sum()))
    assert dark[1] > dark[0] + 200


def test_the_interactive_view_loads_nothing_and_has_the_words_of_the_figure(subject, tmp_path):
    write_score_view(make_result(subject["slice"]), tmp_path / "view.html")
    page = (tmp_path / "view.html").read_text()
    assert "haxby subject 1: ridge searchlight, face vs cat (accuracy)" in page
    assert "spheres of 8 mm" in page
    assert "Not tested: no p-values" in page
    assert 'src="http' not in page
    assert 'href="http' not in page


def test_every_correction_states_what_a_significant_centre_means():
    assert "somewhere within the radius, not necessarily in that voxel" in describe_within("maximum")
    assert "farther away than the radius" in describe_within("tfce")
    assert "no single voxel" in describe_within("cluster_size")


def test_a_mean_volume_with_undefined_voxels_is_a_background(subject, tmp_path):
    result = make_result(subject["volume"])
    mean = result.samples.grid.mean_volume.copy()
    mean[0, 0, 0], mean[1, 1, 1] = np.nan, np.inf
    mean.flags.writeable = False
    samples = replace(result.samples, grid=replace(result.samples.grid, mean_volume=mean))
    sources = samples.sources
    without_anatomy = replace(sources, recording=replace(sources.recording, anat=None))
    result = replace(result, samples=replace(samples, sources=without_anatomy))
    draw_score_map(result, tmp_path / "map.png")
    write_score_view(result, tmp_path / "map.html")
    assert matplotlib.image.imread(tmp_path / "map.png").std() > 0.05
