"""Single volumes are drawn as they are stored, by their affine, with left and right where they are."""

import nibabel as nib
import numpy as np
import pytest
from matplotlib.figure import Figure
from nilearn.image import index_img

from harness.checks.inspection import inspect_recording
from harness.datasets.haxby import Haxby
from harness.report import volume_figures
from harness.report.inspection_figures import draw_volumes
from harness.report.volume_figures import ShownVolume, find_display, place_grid
from harness.samples.contrasts import make_contrast
from harness.samples.samples import Roi
from harness.samples.signal import Signal

AFFINES = {"RAS": np.diag([3.0, 3, 3, 1]), "LAS": np.diag([-3.0, 3, 3, 1])}


def read_panels(figure):
    """Return the axes that show a plane, and the picture in each; nilearn adds backgrounds of four pixels."""
    return [(axes, axes.images[-1]) for axes in figure.axes if axes.texts]


@pytest.mark.parametrize("codes", AFFINES)
def test_the_right_of_the_subject_is_below_the_r(codes):
    values = np.full((9, 9, 1), 100.0)
    right = 7 if codes == "RAS" else 1  # voxel index
    values[right, 4, 0] = 1000
    figure = Figure(figsize=(4, 4))
    display = find_display(values.shape, AFFINES[codes], (0, 0, 0))
    place_grid(figure, [ShownVolume(values, ("title",))], AFFINES[codes], display, (1, 1), lines=1)
    ((axes, picture),) = read_panels(figure)
    marks = {text.get_text(): text.get_position()[0] for text in axes.texts}
    assert set(marks) == {"L", "R", "z=0.0"}
    assert marks["L"] < marks["R"]
    left, right_end, *_ = picture.get_extent()
    drawn = np.asarray(picture.get_array())
    column = np.argwhere(drawn == drawn.max())[:, 1].mean()
    towards_right = (column + 0.5) / drawn.shape[1]
    assert left < right_end
    assert towards_right > 0.7


def test_a_single_slice_is_drawn_in_its_own_plane_whatever_the_order_of_the_axes():
    # The first voxel axis is z.
    affine = np.array([[0, 3.0, 0, -10], [0, 0, 3, -20], [3, 0, 0, 5], [0, 0, 0, 1]])
    assert find_display((1, 8, 9), affine, (1, 2, 3)) == ("z", [5.0])
    assert find_display((8, 8, 9), affine, (1, 2, 3)) == ("ortho", [1, 2, 3])
    assert find_display((8, 8, 9), affine, (1, 2, 3), "z") == ("z", [3])


def test_the_inspection_draws_the_volumes_that_nibabel_reads(tiny_subject, tmp_path, monkeypatch):
    drawn = []
    original = volume_figures.place_volume

    def note(figure, box, image, *others, **look):
        drawn.append(np.asarray(image.dataobj).copy())
        original(figure, box, image, *others, **look)

    titles = []
    original_text = Figure.text

    def note_text(self, x, y, s, **look):
        titles.append(s)
        return original_text(self, x, y, s, **look)

    monkeypatch.setattr(volume_figures, "place_volume", note)
    monkeypatch.setattr(Figure, "text", note_text)
    recording = Haxby(tiny_subject()).load(1)
    contrast = make_contrast(["face", "cat"])
    inspection = inspect_recording(recording, contrast, Roi("vt"), Signal(), shown=[17, 0, "house"])
    draw_volumes(inspection, tmp_path / "volumes.png")
    table = np.loadtxt(recording.labels_file, dtype=str, skiprows=1)
    houses = [row for row in np.flatnonzero(table[:, 0] == "house") if table[row - 1, 0] == "rest"]
    expected = [17, 0, *houses]
    assert titles == [
        f"volume {index}: {table[index, 0]}, scanner run {table[index, 1]}" for index in expected
    ]
    for index, values in zip(expected, drawn, strict=True):
        np.testing.assert_array_equal(values, np.asarray(index_img(str(recording.bold), index).dataobj))
    assert nib.load(recording.bold).shape[3] == 60


def test_values_that_are_not_finite_are_drawn_as_zero_and_the_array_stays():
    values = np.full((4, 4, 1), 5.0)
    values[0, 0] = np.nan
    values[1, 1] = np.inf
    before = values.copy()
    figure = Figure(figsize=(3, 3))
    display = find_display(values.shape, AFFINES["RAS"], (0, 0, 0))
    place_grid(figure, [ShownVolume(values, ("", "$x_{$"))], AFFINES["RAS"], display, (1, 1), lines=2)
    np.testing.assert_array_equal(values, before)
    ((_, picture),) = read_panels(figure)
    assert np.isfinite(np.asarray(picture.get_array()).astype(float)).all()
