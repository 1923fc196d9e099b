"""Figures of the maps of a stored run, on its anatomy: weights and patterns, and single held-out volumes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.affines import apply_affine, voxel_sizes
from numpy.typing import NDArray

from harness.report.canvas import literal, quiet, standalone_page
from harness.report.volume_figures import place_labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOUR_MAP = "RdBu_r"  # red is positive
SHOWN_QUANTILE = 0.7  # the weakest values are left out, so that the anatomy shows
N_CORRECT, N_WRONG = 4, 4  # single volumes that are shown


@dataclass(frozen=True, eq=False)
class StoredImages:
    """The images that a run was decoded from, read again.

    Attributes
    ----------
    mean : Nifti1Image of shape (x, y, z)
        Mean over all volumes.
    anatomy : Nifti1Image or None
    volumes : mapping of int to ndarray of shape (x, y, z)
        Some volumes by their index.
    t_r : float or None
        Repetition time in seconds.
    """

    mean: nib.Nifti1Image
    anatomy: nib.Nifti1Image | None
    volumes: Mapping[int, np.ndarray]
    t_r: float | None = None

    @property
    def background(self) -> nib.Nifti1Image:
        """What maps are drawn on."""
        return self.mean if self.anatomy is None else self.anatomy


def choose_volumes(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return some held-out volumes, correct and wrong ones, spread evenly over the folds."""
    is_right = predictions["class"].astype(str) == predictions["predicted"].astype(str)
    chosen = [
        _spread(predictions[which], number) for which, number in ((is_right, N_CORRECT), (~is_right, N_WRONG))
    ]
    return pd.concat(chosen)


def _spread(rows: pd.DataFrame, number: int) -> pd.DataFrame:
    """Return some rows at equal distances, the first and the last among them."""
    places = np.linspace(0, len(rows) - 1, min(number, len(rows))).round().astype(int)
    return rows.iloc[np.unique(places)]


def place_map(
    figure: "Figure",
    axes: tuple[float, float, float, float],
    image: nib.Nifti1Image,
    background: nib.Nifti1Image | None,
    *,
    threshold: float,
    centre: tuple[float, ...],
    **look: Any,
) -> Any:
    """Draw a map in three orthogonal slices, or in the only one of an image that is a single slice.

    Parameters
    ----------
    axes : tuple of float
        Left, bottom, width and height, as shares of the figure.
    centre : tuple of float
        In mm.
    **look
        Further arguments of `nilearn.plotting.plot_stat_map`, whose display is returned.
    """
    from nilearn.plotting import plot_stat_map

    flat = find_flat_axis(image)
    display = plot_stat_map(
        image,
        bg_img=background,
        display_mode="ortho" if flat is None else "xyz"[flat],
        cut_coords=centre if flat is None else [centre[flat]],
        threshold=threshold,
        figure=figure,
        axes=axes,
        draw_cross=False,
        resampling_interpolation="nearest",
        **{"symmetric_cbar": True, "cmap": COLOUR_MAP, **look},
    )
    place_labels(display)
    return display


def draw_maps(
    figure: "Figure", maps: Sequence[Sequence[tuple[str, nib.Nifti1Image]]], images: StoredImages | None
) -> None:
    """Draw maps, one row per class: weights at the left, activation pattern at the right.

    Parameters
    ----------
    maps : sequence of sequence of (title, image)
    """
    n_rows, n_columns = len(maps), max(len(row) for row in maps)
    for place, row in enumerate(maps):
        # Both maps of a row at the same point, so that they can be compared.
        centre = find_peak(row[0][1])
        for column, (title, image) in enumerate(row):
            x, y = column / n_columns, 1 - (place + 1) / n_rows
            figure.text(
                x + 0.5 / n_columns, y + 0.985 / n_rows, literal(title), fontsize=8, ha="center", va="top"
            )
            values = np.nan_to_num(np.asarray(image.dataobj))
            largest, least = float(np.abs(values).max()) or 1.0, find_threshold(image)
            display = place_map(
                figure,
                (x + 0.01, y + 0.2 / n_rows, 1 / n_columns - 0.02, 0.68 / n_rows),
                image,
                None if images is None else images.background,
                threshold=least,
                centre=centre,
                black_bg=False,
                dim=0,
                annotate=False,
                colorbar=False,
                vmax=largest,
            )
            display.annotate(size=6.5)
            place_of_scale = (x + 0.32 / n_columns, y + 0.12 / n_rows, 0.36 / n_columns, 0.035 / n_rows)
            _draw_scale(figure, place_of_scale, largest, least)


def _draw_scale(
    figure: "Figure", place: tuple[float, float, float, float], largest: float, threshold: float
) -> None:
    """Draw the colours of values from -largest to +largest, grey where nothing is drawn."""
    bar = make_colour_bar(512, largest, threshold, 0.85)
    axes = figure.add_axes(place)
    axes.imshow(bar[np.newaxis], aspect="auto", extent=(-largest, largest, 0, 1))
    axes.set_yticks([])
    axes.set_xticks([-largest, 0, largest], [f"{value:.2g}" for value in (-largest, 0.0, largest)])
    axes.tick_params(labelsize=6.5, length=2, width=0.5, pad=1.5)


def make_colour_bar(length: int, largest: float, threshold: float, grey: float) -> NDArray[np.float64]:
    """Return the colours of values from -largest to +largest, (length, 3), grey where nothing is drawn."""
    from matplotlib import colormaps

    level = np.linspace(-1, 1, length)
    bar: NDArray[np.float64] = colormaps[COLOUR_MAP](0.5 + level / 2)[:, :3]
    bar[np.abs(level) * largest <= threshold] = grey
    return bar


def render_view(
    image: nib.Nifti1Image,
    background: nib.Nifti1Image | None,
    left_out: float = SHOWN_QUANTILE,
    **look: Any,
) -> str:
    """Return a page on which a map can be browsed, at first at its largest value; it loads nothing.

    Parameters
    ----------
    left_out : float
        As in `find_threshold`.
    **look
        Further arguments of `nilearn.plotting.view_img`.
    """
    from nilearn.plotting import view_img

    with quiet():
        view = view_img(
            image,
            bg_img=False if background is None else background,
            threshold=find_threshold(image, left_out),
            cut_coords=find_peak(image),
            resampling_interpolation="nearest",
            cmap=COLOUR_MAP,
            **look,
        )
        return standalone_page(view)


def view_aspect(image: nib.Nifti1Image) -> float:
    """Return height over width of the interactive view: the planes y-z, x-z and x-y in a row."""
    x, y, z = np.abs(np.array(image.shape[:3]) * voxel_sizes(image.affine))
    return float(min(1.0, max(y, z) / (y + 2 * x) + 0.11))


def draw_volumes(
    figure: "Figure", chosen: pd.DataFrame, images: StoredImages, weights: nib.Nifti1Image | None
) -> None:
    """Draw single held-out volumes, in the slice of the largest weight, with true and predicted class."""
    figure.set_layout_engine("constrained")
    shape = images.mean.shape
    axis = shape.index(1) if 1 in shape else 2
    place = shape[axis] // 2
    if weights is not None:
        place = int(np.unravel_index(np.abs(np.asarray(weights.dataobj)).argmax(), shape)[axis])
    across, up = [other for other in range(3) if other != axis]
    sizes = voxel_sizes(images.mean.affine)
    records = chosen.to_dict("records")
    slices = [images.volumes[int(row["volume"])].take(place, axis=axis) for row in records]
    bright = float(np.nanpercentile(np.stack(slices), 99.5)) or 1.0
    n_columns = min(len(slices), 4)
    panels = figure.subplots(-(-len(slices) // n_columns), n_columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, pixels, row in zip(panels, slices, records, strict=False):
        axes.imshow(
            pixels.T, cmap="gray", origin="lower", vmin=0, vmax=bright, aspect=sizes[up] / sizes[across]
        )
        true, predicted = str(row["class"]), str(row["predicted"])
        word = "correct" if true == predicted else "wrong"
        axes.set_title(
            literal(
                f"volume {row['volume']}, run {row['run']}\ntrue: {true}\npredicted: {predicted} ({word})"
            ),
            fontsize=7,
            color="#004a77" if true == predicted else "#a03c00",
        )


def find_peak(image: nib.Nifti1Image) -> tuple[float, ...]:
    """Return the position of the largest absolute value, in mm."""
    data = np.nan_to_num(np.abs(np.asarray(image.dataobj)))
    voxel = np.unravel_index(data.argmax(), data.shape)
    return tuple(float(x) for x in apply_affine(image.affine, voxel))


def find_flat_axis(image: nib.Nifti1Image) -> int | None:
    """Return the first axis along which an image is a single slice; None for a volume."""
    return next((axis for axis, size in enumerate(image.shape) if size == 1), None)


def find_threshold(image: nib.Nifti1Image, left_out: float = SHOWN_QUANTILE) -> float:
    """Return the absolute value up to which values are not drawn.

    Parameters
    ----------
    left_out : float
        Share of the weakest values that are not drawn.
    """
    sizes = np.nan_to_num(np.abs(np.asarray(image.dataobj)))
    if not sizes.any():
        return 0.0
    # nilearn leaves out what equals the threshold: just below it, a map of one voxel still shows that voxel.
    return float(np.quantile(sizes[sizes > 0], left_out)) * (1 - 1e-6)
