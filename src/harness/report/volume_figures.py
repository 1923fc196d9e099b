"""Volumes drawn in planes, by their affine, with left and right and the coordinates of the cuts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine

from harness.report.canvas import literal, new_figure
from harness.report.captions import fit_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 9.8  # inches
TITLE_SIZE = 8.0  # points
LINE_HEIGHT = 0.15  # inches
GAP = 0.06  # inches


@dataclass(frozen=True, eq=False)
class ShownVolume:
    """A volume with its title.

    Attributes
    ----------
    values : ndarray of shape (x, y, z)
    lines : tuple of str
        The lines of its title.
    frame : tuple of str or None
        Colour and line style of a frame.
    """

    values: np.ndarray
    lines: tuple[str, ...]
    frame: tuple[str, str] | None = None


def find_display(
    shape: Sequence[int], affine: np.ndarray, centre: Sequence[float], planes: str = "ortho"
) -> tuple[str, Sequence[float]]:
    """Return nilearn's display mode and cuts, in mm: an image of a single slice is drawn in that one.

    Parameters
    ----------
    planes : {"ortho", "z"}
        What is drawn of an image of several slices.
    """
    flat = [axis for axis, n in enumerate(shape[:3]) if n == 1]
    if flat:
        # The direction in space of the voxel axis, which need not have the same number.
        direction = int(nib.io_orientation(affine)[flat[0], 0])
        return "xyz"[direction], [float(apply_affine(affine, (0, 0, 0))[direction])]
    return ("ortho", list(centre)) if planes == "ortho" else ("z", [centre[2]])


def measure_panel(shape: Sequence[int], affine: np.ndarray, mode: str) -> float:
    """Return height over width of the planes of a display mode, drawn in a row."""
    x, y, z = np.abs(affine[:3, :3]) @ np.array(shape[:3])
    sizes = {"ortho": (y + 2 * x, max(y, z)), "x": (y, z), "y": (x, z), "z": (x, y)}
    width, height = sizes[mode]
    return float(np.clip(height / width, 0.15, 1.6))


def place_volume(
    figure: "Figure",
    box: tuple[float, float, float, float],
    image: nib.Nifti1Image,
    display: tuple[str, Sequence[float]],
    bright: float,
    text_size: float = 8.0,
) -> None:
    """Draw an image in shades of grey, black is 0, into a box of left, bottom, width and height (shares)."""
    from nilearn.plotting import plot_img

    mode, cuts = display
    slicer = plot_img(
        image,
        cmap="gray",
        vmin=0,
        vmax=bright,
        display_mode=mode,
        cut_coords=cuts,
        figure=figure,
        axes=box,
        draw_cross=False,
        annotate=False,
        black_bg=True,
        colorbar=False,
    )
    slicer.annotate(size=text_size, decimals=1)
    place_labels(slicer)


def place_labels(display: Any) -> None:
    """Move the labels of nilearn's slices away from the left edge, and outside of slices that are thin."""
    for cut in display.axes.values():
        left, right, bottom, top = cut.get_object_bounds()
        is_thin = top - bottom < 0.4 * (right - left)
        for text in cut.ax.texts:
            is_position = "=" in text.get_text()
            if is_position:
                text.set_x(0.02)
            if is_thin:
                text.set_y(-0.1 if is_position else 1.1)
                text.set_verticalalignment("top" if is_position else "bottom")


def find_bright(volumes: Sequence[np.ndarray]) -> float:
    """Return the value that is drawn white: the 99.5th percentile of the positive values."""
    values = np.concatenate([volume[np.isfinite(volume) & (volume > 0)].ravel() for volume in volumes])
    return float(np.percentile(values, 99.5)) if len(values) else 1.0


def draw_shown_volumes(
    shown: Sequence[ShownVolume], affine: np.ndarray, centre: Sequence[float], file: Path
) -> None:
    """Draw volumes with their titles, all on one scale of grey, as a PNG.

    Parameters
    ----------
    centre : sequence of float
        Where volumes of several slices are cut, in mm.
    """
    shape = shown[0].values.shape
    display = find_display(shape, affine, centre)
    n_columns = min(len(shown), 2 if display[0] == "ortho" else 4)
    n_rows = -(-len(shown) // n_columns)
    width = WIDTH / max(n_columns, 2)
    height = (width - GAP) * measure_panel(shape, affine, display[0]) + 2 * LINE_HEIGHT
    with new_figure(file, (width * n_columns, height * n_rows)) as figure:
        place_grid(figure, shown, affine, display, (n_rows, n_columns), lines=1)


def place_grid(
    figure: "Figure",
    shown: Sequence[ShownVolume | None],
    affine: np.ndarray,
    display: tuple[str, Sequence[float]],
    grid: tuple[int, int],
    *,
    lines: int,
    area: tuple[float, float] = (0.0, 1.0),
) -> None:
    """Draw volumes in rows and columns, each below its title.

    Parameters
    ----------
    shown : sequence of ShownVolume or None
        Row by row; None leaves a place empty.
    grid : tuple of int
        Rows and columns.
    lines : int
        Number of lines of a title.
    area : tuple of float
        Bottom and top of the grid, as shares of the figure's height.
    """
    n_rows, n_columns = grid
    size = figure.get_size_inches()
    bottom, top = area
    column, row = 1 / n_columns, (top - bottom) / n_rows
    gap, title = (GAP / size[0], GAP / size[1]), (lines + 0.6) * LINE_HEIGHT / size[1]
    bright = find_bright([volume.values for volume in shown if volume is not None])
    letters = min(
        fit_lines(line, column * size[0] - 0.1, TITLE_SIZE)[1]
        for volume in shown
        if volume is not None
        for line in volume.lines
    )
    for place, volume in enumerate(shown):
        if volume is None:
            continue
        x, y = place % n_columns * column, top - (place // n_columns + 1) * row
        box = (x + gap[0] / 2, y + gap[1] / 2, column - gap[0], row - gap[1] - title)
        # nilearn replaces values that are not finite in place.
        values = np.nan_to_num(volume.values, posinf=0.0, neginf=0.0).astype(np.float32)
        image = nib.Nifti1Image(values, affine)
        place_volume(figure, box, image, display, bright, text_size=7.0)
        for number, line in enumerate(volume.lines):
            text, _ = fit_lines(line, column * size[0] - 0.1, letters)
            height = y + row - gap[1] - (number + 0.1) * LINE_HEIGHT / size[1]
            figure.text(box[0], height, literal("".join(text)), fontsize=letters, va="top")
        if volume.frame is not None:
            _place_frame(figure, box, *volume.frame)


def _place_frame(figure: "Figure", box: tuple[float, float, float, float], colour: str, style: str) -> None:
    from matplotlib.patches import Rectangle

    left, bottom, width, height = box
    frame = Rectangle((left, bottom), width, height, fill=False, edgecolor=colour, linestyle=style)
    frame.set(linewidth=2.5, zorder=1000)
    figure.add_artist(frame)
