"""The map of a searchlight as it is drawn: scores around chance, and where they are significant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from harness.report.canvas import literal, quiet, standalone_page
from harness.report.map_figures import COLOUR_MAP, find_flat_axis, find_peak
from harness.report.report_page import write_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

N_SLICES = 6
SMALLEST = 1e-6  # a score of 0 is drawn as this, because plotting packages draw nothing where a map is 0
OUTLINE = "black"
MAX_REFINED = 100_000  # voxels; of more, outlines are less exact


@dataclass(frozen=True, eq=False)
class ScoreMap:
    """The scores of a searchlight, and which are significant.

    Attributes
    ----------
    scores : ndarray of shape (x, y, z)
        0 outside of the centres.
    centres : ndarray of shape (x, y, z), bool
    affine : ndarray of shape (4, 4)
    significant : ndarray of shape (x, y, z), bool, or None
        Centres whose corrected p is at most .05; None without a test.
    chance : float
        The neutral colour.
    unit : str
        What the colour bar shows.
    common_limits : tuple of float or None
        The limits of several maps that are drawn with the same colours.
    """

    scores: NDArray[np.float64]
    centres: NDArray[np.bool_]
    affine: NDArray[np.float64]
    significant: NDArray[np.bool_] | None
    chance: float
    unit: str
    common_limits: tuple[float, float] | None = None

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest score, chance between them."""
        if self.common_limits is not None:
            return self.common_limits
        values = self.scores[self.centres & np.isfinite(self.scores)]
        low, high = values.min(initial=self.chance), values.max(initial=self.chance)
        low, high = float(low), float(high)
        return (low, high) if high > low else (low, low + 0.01)

    @property
    def peak(self) -> tuple[float, ...]:
        """The position of the highest score, in mm; of several, the one in the largest block of them."""
        return find_peak(self.image)

    @property
    def image(self) -> nib.Nifti1Image:
        """The scores as they are drawn."""
        values = np.where(self.centres, np.fmax(self.scores, SMALLEST), 0.0)
        return nib.Nifti1Image(values, self.affine)

    @property
    def thresholded(self) -> nib.Nifti1Image:
        """The significant scores as they are drawn."""
        kept = np.zeros_like(self.centres) if self.significant is None else self.significant
        return nib.Nifti1Image(np.where(kept, np.fmax(self.scores, SMALLEST), 0.0), self.affine)


def make_colours(shown: ScoreMap) -> "ListedColormap":
    """Return the colours from the lowest to the highest score.

    Chance is white; scores at equal distances from it are equally dark, although the range is not symmetric.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    low, high = shown.limits
    reach = max(high - shown.chance, shown.chance - low)
    levels = np.linspace(low, high, 256)
    return ListedColormap(colormaps[COLOUR_MAP](0.5 + (levels - shown.chance) / (2 * reach)), name="chance")


def draw_score_maps(
    figure: "Figure", shown: ScoreMap, background: nib.Nifti1Image | None, top: float, bottom: float
) -> None:
    """Draw the map in three slices through its highest score, and in axial slices; outlined: significant.

    A map that is a single slice is drawn once.

    Parameters
    ----------
    top, bottom : float
        Shares of the figure that are left for words.
    """
    height = 1 - top - bottom
    flat = find_flat_axis(shown.image)
    if flat is not None:
        _place(figure, (0.02, bottom, 0.86, height), shown, background, "xyz"[flat], None)
    else:
        _place(
            figure,
            (0.02, bottom + 0.45 * height, 0.86, 0.55 * height),
            shown,
            background,
            "ortho",
            shown.peak,
        )
        slices = _choose_slices(shown)
        _place(figure, (0.02, bottom, 0.86, 0.42 * height), shown, background, "z", slices)
    draw_colour_bar(figure.add_axes((0.905, bottom + 0.12 * height, 0.014, 0.76 * height)), shown)


def _place(
    figure: "Figure",
    axes: tuple[float, float, float, float],
    shown: ScoreMap,
    background: nib.Nifti1Image | None,
    mode: str,
    places: Sequence[float] | None,
) -> Any:
    from nilearn.plotting import plot_stat_map

    image = shown.image
    low, high = shown.limits
    if places is None:
        flat = "xyz".index(mode)
        places = [shown.peak[flat]]
    display = plot_stat_map(
        image,
        bg_img=background,
        display_mode=mode,
        cut_coords=list(places) if mode != "ortho" else tuple(places),
        threshold=SMALLEST / 2,
        figure=figure,
        axes=axes,
        draw_cross=False,
        colorbar=False,
        symmetric_cbar=False,
        resampling_interpolation="nearest",
        cmap=make_colours(shown),
        vmin=low,
        vmax=high,
        transparency=0.8,
        black_bg=False,
        annotate=False,
    )
    display.annotate(size=9)
    if shown.significant is not None and shown.significant.any():
        display.add_contours(_refine(shown), levels=[0.5], colors=OUTLINE, linewidths=1.1)
    return display


def _refine(shown: ScoreMap) -> nib.Nifti1Image:
    """Return the significant voxels in a finer grid, in which outlines follow the edges of voxels."""
    assert shown.significant is not None
    factor = 4 if shown.significant.size < MAX_REFINED else 2
    affine = shown.affine.copy()
    affine[:3, :3] /= factor
    # The first fine voxel lies in the corner of the first voxel, not in its centre.
    affine[:3, 3] += shown.affine[:3, :3] @ np.full(3, (1 / factor - 1) / 2)
    fine = np.kron(shown.significant, np.ones((factor,) * 3, dtype=bool))
    return nib.Nifti1Image(fine.astype(np.float32), affine)


def _choose_slices(shown: ScoreMap) -> list[float]:
    """Return axial positions in mm at equal distances over the centres."""
    voxels = np.argwhere(shown.centres)
    heights = np.unique(apply_affine(shown.affine, voxels)[:, 2].round(3))
    places = np.arange(len(heights))
    if len(heights) > N_SLICES:
        places = np.linspace(0, len(heights) - 1, N_SLICES + 2).round().astype(int)[1:-1]
    return [float(heights[place]) for place in np.unique(places)]


def draw_colour_bar(axes: "Axes", shown: ScoreMap) -> None:
    """Draw the colours from the lowest to the highest score, with a line at chance."""
    low, high = shown.limits
    colours = make_colours(shown)(np.linspace(0, 1, 256))
    axes.imshow(colours[:, np.newaxis], aspect="auto", origin="lower", extent=(0, 1, low, high))
    axes.set_xticks([])
    axes.yaxis.tick_right()
    ends = [value for value in (low, high) if abs(value - shown.chance) > 0.08 * (high - low)]
    ticks = sorted([*ends, shown.chance])
    names = [f"{value:.3g}" + (" chance" if value == shown.chance else "") for value in ticks]
    axes.set_yticks(ticks, [name.replace(" ", "\n") for name in names])
    axes.tick_params(labelsize=8, length=2)
    axes.axhline(shown.chance, color="black", linewidth=0.8)
    axes.set_title(literal(write_words(shown.unit)), fontsize=8, loc="center")


def render_score_view(
    image: nib.Nifti1Image, shown: ScoreMap, background: nib.Nifti1Image | None, **look: Any
) -> str:
    """Return a page on which scores can be browsed, at first at the highest one; it loads nothing."""
    from nilearn.plotting import view_img

    low, high = shown.limits
    with quiet():
        view = view_img(
            image,
            bg_img=False if background is None else background,
            threshold=SMALLEST / 2,
            cut_coords=find_peak(image),
            resampling_interpolation="nearest",
            cmap=make_colours(shown),
            symmetric_cmap=False,
            vmin=low,
            vmax=high,
            opacity=0.8,
            **look,
        )
        return standalone_page(view)
