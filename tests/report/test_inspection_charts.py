"""Colours of the design figure, also as people with a colour vision deficiency see them."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from harness.checks.inspection import inspect_recording
from harness.datasets.haxby import Haxby
from harness.report.inspection_charts import (
    COLOURS,
    REST_COLOUR,
    SELECTION_COLOUR,
    condition_looks,
    draw_design,
)
from harness.samples.contrasts import make_contrast
from harness.samples.samples import Roi
from harness.samples.signal import Signal

# Machado, Oliveira, Fernandes (2009), IEEE TVCG 15:1291, table 1: severity 1.0, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}
# IEC 61966-2-1 and the CIE's L*a*b* with the white point D65.
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.9505, 1.0, 1.089])


def to_lab(colour, vision):
    stored = np.array(to_rgb(colour))
    linear = np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)
    x, y, z = TO_XYZ @ np.clip(VISION[vision] @ linear, 0, 1) / WHITE
    f = [value ** (1 / 3) if value > 216 / 24389 else (24389 / 27 * value + 16) / 116 for value in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(one, other, vision):
    return np.linalg.norm(to_lab(one, vision) - to_lab(other, vision))


def test_the_conversion_to_lab_is_that_of_the_cie():
    np.testing.assert_allclose(to_lab("#ffffff", "normal"), [100, 0, 0], atol=0.02)
    np.testing.assert_allclose(to_lab("#ff0000", "normal"), [53.24, 80.09, 67.20], atol=0.05)


@pytest.mark.parametrize("vision", VISION)
def test_every_condition_differs_from_the_mark_of_the_selection(vision):
    for colour in (*COLOURS, REST_COLOUR):
        assert distance(colour, SELECTION_COLOUR, vision) > 30  # black would be 0


@pytest.mark.parametrize("vision", VISION)
def test_conditions_differ_from_each_other_and_from_rest(vision):
    assert len(COLOURS) == 8  # as many as the conditions of Haxby's study
    for one, other in combinations((*COLOURS, REST_COLOUR), 2):
        assert distance(one, other, vision) > 15, (one, other)


def test_more_conditions_than_colours_have_a_pattern():
    names = [f"condition {number}" for number in range(30)]
    looks = condition_looks(["rest", *names])
    assert len({looks[name] for name in names}) == len(names)
    assert looks["rest"] == (REST_COLOUR, "")


def test_the_figure_has_the_colours_and_marks_the_selected_volumes(tiny_subject, tmp_path, monkeypatch):
    """The strips are read back as lengths of the bars that matplotlib draws."""
    from matplotlib.axes import Axes

    drawn = {}
    original = Axes.broken_barh

    def note(self, spans, place, facecolors, **look):
        for start, length in spans:
            drawn.setdefault(facecolors, []).append((place[0], start, length))
        return original(self, spans, place, facecolors=facecolors, **look)

    monkeypatch.setattr(Axes, "broken_barh", note)
    recording = Haxby(tiny_subject(shape=(3, 3, 3))).load(1)
    inspection = inspect_recording(recording, make_contrast(["face", "cat"]), Roi("vt"), Signal())
    draw_design(inspection, tmp_path / "design.png")
    counts = recording.labels["condition"].value_counts()
    looks = condition_looks(sorted(counts.index))
    for name in counts.index:
        assert sum(length for _, _, length in drawn[looks[name][0]]) == counts[name]
    selected = sum(length for _, _, length in drawn[SELECTION_COLOUR])
    assert selected == counts["face"] + counts["cat"]
