"""Figures of a decoding: signed maps and the confusion matrix.

Matplotlib and nilearn's plotting are imported when the first one is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine

from harness.decoding.decode import Decoding
from harness.decoding.patterns import PatternMap
from harness.decoding.weights import WeightMap
from harness.inference.pattern_maps import PatternPMap
from harness.report.canvas import DPI, new_figure, read_anatomy
from harness.report.captions import (
    NO_ACTIVATION,
    describe_data,
    describe_method,
    draw_caption,
    name_contrast,
)
from harness.report.map_figures import (
    COLOUR_MAP,
    SHOWN_QUANTILE,
    find_flat_axis,
    find_peak,
    find_threshold,
    make_colour_bar,
    place_map,
    render_view,
)
from harness.report.map_view import write_view
from harness.report.matrix_figures import draw_confusions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_SLICES = 5
MATRIX_LEGEND = "Rows: true class. Number of volumes, share of the row."


@dataclass(frozen=True, eq=False)
class SignedMap:
    """A map whose sign has a meaning, with the words of its figures.

    Attributes
    ----------
    image : Nifti1Image of shape (x, y, z)
    quantity : str
        What it shows, for the title: ``weights``.
    positive : str
        What positive values stand for, for the title.
    legend : str
        What both colours mean, and the unit, in sentences.
    left_out : float
        Share of the weakest values that are not drawn.
    """

    image: nib.Nifti1Image
    quantity: str
    positive: str
    legend: str
    left_out: float = SHOWN_QUANTILE


def show_weights(weights: WeightMap) -> SignedMap:
    """Return weights as they are drawn."""
    legend = (
        f"red: evidence for {weights.positive}; blue: for {weights.negative}. {NO_ACTIVATION} "
        "Per SD of the voxel, mean over folds;"
    )
    return SignedMap(weights.mean, "weights", weights.positive, legend)


def show_pattern(pattern: PatternMap) -> SignedMap:
    """Return an activation pattern as it is drawn."""
    legend = (
        f"Covaries with the decoder's output: red: higher when it favours {pattern.positive}; blue: when it "
        f"favours {pattern.negative};"
    )
    return SignedMap(pattern.image, "activation pattern", pattern.positive, legend)


def show_tested_pattern(tested: PatternPMap) -> SignedMap:
    """Return a pattern as it is drawn: z where the corrected p is at most .05, and 0 elsewhere."""
    z, p_fwe = (np.asarray(image.dataobj) for image in (tested.z, tested.p_fwe))
    legend = (
        "z of voxels that covary with the decoder's output (p <= .05, corrected over voxels): red: higher "
        f"when it favours {tested.positive}; blue: when it favours {tested.negative}."
    )
    image = nib.Nifti1Image(np.where(p_fwe <= 0.05, z, 0), tested.z.affine)
    return SignedMap(image, "z of the activation pattern", tested.positive, legend, left_out=0.0)


def draw_map(decoding: Decoding, shown: SignedMap, file: Path) -> None:
    """Draw a map on the anatomy, or on the mean volume where there is none, as a PNG."""
    width, height = (9.5, 4.6) if find_flat_axis(shown.image) is None else (8, 5.0)
    with new_figure(file, (width, height)) as figure:
        draw_caption(figure, _title(decoding, shown), describe_method(decoding), _legend(shown))
        place_map(
            figure,
            (0.02, 0.48 / height, 0.96, (height - 0.48 - 0.68) / height),
            shown.image,
            _background(decoding),
            threshold=find_threshold(shown.image, shown.left_out),
            centre=find_peak(shown.image),
            black_bg=True,
        )


def draw_slices(decoding: Decoding, shown: SignedMap, file: Path) -> None:
    """Draw the slices with the largest values, on the mean volume, as a PNG.

    Every run of a sweep has this picture, so it is composed as pixels, without axes and resampling. CPU
    seconds, minimum of seven on a machine under load: 0.12 (volumes of 38 x 47 x 7 voxels) and 0.16
    (40 x 64 x 64); five axes with `imshow` and a colour bar 0.22 and 0.42; nilearn's
    ``plot_stat_map(display_mode="z", cut_coords=5)`` 0.38 for the smaller one.
    """
    from matplotlib import colormaps

    width, height = 9.5, 3.7
    image = nib.as_closest_canonical(shown.image)
    values = np.asarray(image.dataobj)
    grey = _shades(nib.as_closest_canonical(_mean_volume(decoding)))
    # Axial slices, but for an image that is a single slice of another orientation.
    axis = next((axis for axis in (2, 1, 0) if values.shape[axis] == 1), 2)
    across, up = [other for other in range(3) if other != axis]
    largest, threshold = float(np.abs(values).max()) or 1.0, find_threshold(image, shown.left_out)
    visible = np.abs(values) > threshold
    colours = colormaps[COLOUR_MAP]
    panel = np.repeat(grey[..., np.newaxis], 3, axis=-1)
    panel[visible] = colours(0.5 + values[visible] / (2 * largest))[:, :3]

    window = tuple(_extent(grey, values, direction) for direction in (across, up))
    zooms = np.array(image.header.get_zooms())[[across, up]]
    size = [(span.stop - span.start) * zoom for span, zoom in zip(window, zooms, strict=True)]
    places = _heaviest_slices(values, axis)
    # The strip of slices, side by side, in pixels of the picture.
    strip_size = round(0.91 * width * DPI), round(2.25 * DPI)
    scale = min(strip_size[0] / len(places) / size[0], strip_size[1] / size[1])
    shape = [max(int(length * scale), 1) for length in size]
    strip = np.zeros((strip_size[1], strip_size[0], 3))
    x, y = round(0.015 * width * DPI), round(0.74 * DPI)
    with new_figure(file, (width, height)) as figure:
        legend = f"{_legend(shown)} On the mean volume; left is left."
        draw_caption(figure, _title(decoding, shown), describe_method(decoding), legend)
        for number, place in enumerate(places):
            middle = round((number + 0.5) * strip_size[0] / len(places))
            left, bottom = middle - shape[0] // 2, (strip_size[1] - shape[1]) // 2
            pixels = panel.take(place, axis=axis)[window]
            strip[bottom : bottom + shape[1], left : left + shape[0]] = _enlarge(pixels, shape)
            millimetres = apply_affine(image.affine, [place if a == axis else 0 for a in range(3)])[axis]
            figure.text(
                (x + middle) / (width * DPI),
                (y - 4) / (height * DPI),
                f"{'xyz'[axis]} = {millimetres:.0f} mm",
                fontsize=8,
                ha="center",
                va="top",
            )
        figure.figimage(strip, x, y, origin="lower")
        _draw_scale(figure, largest, threshold)


def draw_confusion(decoding: Decoding, file: Path) -> None:
    """Draw the confusion matrix of the held-out volumes as a PNG."""
    classes = decoding.samples.contrast.classes
    size = 3.4 + 0.55 * len(classes)
    height = size * 0.9 + 0.9
    with new_figure(file, (size, height)) as figure:
        figure.set_layout_engine("constrained", rect=(0, 0.35 / height, 1, 1 - 1.15 / height))
        details = f"{int(decoding.confusion.sum())} held-out volumes; {describe_method(decoding)}"
        draw_caption(figure, f"Confusion matrix, {describe_data(decoding)}", details, MATRIX_LEGEND)
        draw_confusions(figure, decoding.confusion, classes)


def write_map_view(decoding: Decoding, shown: SignedMap, file: Path) -> None:
    """Write a standalone HTML page on which a map can be browsed slice by slice."""

    def render(**look: object) -> str:
        return render_view(shown.image, _background(decoding), shown.left_out, **look)

    write_view(
        render,
        file,
        short=f"positive: {shown.positive}",
        title=_title(decoding, shown),
        details=describe_method(decoding),
        legend=_legend(shown),
    )


def _title(decoding: Decoding, shown: SignedMap) -> str:
    recording, estimator = decoding.recording, decoding.question.estimator
    return (
        f"{recording.dataset} subject {recording.subject}: {estimator.name} {shown.quantity}, "
        f"{name_contrast(decoding)} (positive: {shown.positive})"
    )


def _legend(shown: SignedMap) -> str:
    weakest = f" the weakest {shown.left_out:.0%} left out." if shown.left_out else ""
    return shown.legend + weakest


def _background(decoding: Decoding) -> nib.Nifti1Image:
    anat = decoding.recording.anat
    return _mean_volume(decoding) if anat is None else read_anatomy(anat)


def _mean_volume(decoding: Decoding) -> nib.Nifti1Image:
    # A copy: nilearn replaces values that are not finite in place.
    return nib.Nifti1Image(
        np.nan_to_num(decoding.samples.grid.mean_volume, posinf=0.0, neginf=0.0), decoding.samples.grid.affine
    )


def _shades(image: nib.Nifti1Image) -> np.ndarray:
    """Return an image as shades of grey from 0 to 1, bright enough for colours to stand out against it."""
    values = np.nan_to_num(np.asarray(image.dataobj, dtype=np.float64), posinf=0.0, neginf=0.0)
    darkest, brightest = np.quantile(values, (0.02, 0.995))
    return np.clip((values - darkest) / max(brightest - darkest, 1e-9), 0, 1) * 0.8


def _extent(grey: np.ndarray, values: np.ndarray, axis: int) -> slice:
    """Return the range along an axis that is not dark or has values, with one more voxel on either side."""
    others = tuple(other for other in range(3) if other != axis)
    seen = np.flatnonzero(((grey > 0.15).mean(axis=others) > 0.01) | values.any(axis=others))
    if len(seen) == 0:
        return slice(0, grey.shape[axis])
    return slice(max(seen[0] - 1, 0), min(seen[-1] + 2, grey.shape[axis]))


def _heaviest_slices(values: np.ndarray, axis: int) -> list[int]:
    """Return the slices with the largest sums of absolute values, in order; without any, the middle ones."""
    sums = np.abs(values).sum(axis=tuple(other for other in range(3) if other != axis))
    from_middle = np.abs(np.arange(len(sums)) - (len(sums) - 1) / 2)
    return sorted(np.lexsort((from_middle, -sums))[:N_SLICES].tolist())


def _enlarge(pixels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Repeat the pixels of a slice of shape (across, up, 3) until it has a size, and turn it upright."""
    rows, columns = (np.arange(length) * n // length for length, n in zip(shape, pixels.shape, strict=False))
    return pixels[rows][:, columns].swapaxes(0, 1)


def _draw_scale(figure: "Figure", largest: float, threshold: float) -> None:
    """Draw the colours of values from -largest to +largest at the right, grey where nothing is drawn."""
    width, height = (round(length * DPI) for length in figure.get_size_inches())
    length, x, bottom = round(0.56 * height), round(0.945 * width), round(0.22 * height)
    bar = make_colour_bar(length, largest, threshold, 0.5)
    figure.figimage(np.repeat(bar[:, np.newaxis], 12, axis=1), x, bottom, origin="lower")
    for value, place in ((largest, 1.0), (0.0, 0.5), (-largest, 0.0)):
        y = (bottom + place * length) / height
        figure.text((x + 16) / width, y, f"{value:.2g}", fontsize=8, va="center")
