"""Pictures of a decoding. Matplotlib and nilearn's plotting are imported when the first one is drawn."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine

from harness.decoding import Decoding
from harness.weights import WeightMap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THRESHOLD_QUANTILE = 0.7  # the weakest weights are left out, so that the anatomy shows


def draw_weights(decoding: Decoding, weights: WeightMap, file: Path) -> None:
    """Draw weights on the anatomy, or on the mean volume where there is none.

    Parameters
    ----------
    decoding : Decoding
    weights : WeightMap
    file : Path
        PNG to write.
    """
    from nilearn.plotting import plot_stat_map

    # A single slice has no other views; its plane is looked at from the direction in which it is thin.
    flat = [axis for axis, size in enumerate(weights.mean.shape) if size == 1]
    mode = "xyz"[flat[0]] if flat else "ortho"
    with new_figure(file, (8, 4.6) if flat else (9.5, 4.2)) as figure:
        figure.text(0.02, 0.95, _title(decoding, weights), fontsize=11, va="top")
        figure.text(
            0.02,
            0.03,
            f"red: evidence for {weights.positive}; blue: for {weights.negative}. Weights per SD of the "
            f"voxel; the weakest {THRESHOLD_QUANTILE:.0%} left out.",
            fontsize=8,
        )
        centre = _strongest(weights.mean)
        plot_stat_map(
            weights.mean,
            bg_img=_background(decoding),
            display_mode=mode,
            cut_coords=[centre["xyz".index(mode)]] if flat else centre,
            threshold=_threshold(weights.mean),
            black_bg=True,
            figure=figure,
            axes=(0.02, 0.09, 0.96, 0.76),
            annotate=True,
            draw_cross=False,
            resampling_interpolation="nearest",
            cmap="RdBu_r",
        )


def draw_confusion(decoding: Decoding, file: Path) -> None:
    """Draw which class the held-out volumes were taken for.

    Parameters
    ----------
    decoding : Decoding
    file : Path
        PNG to write.
    """
    classes = decoding.samples.contrast.classes
    counts = decoding.confusion
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 3.4 + 0.55 * len(classes)
    upright = len(classes) <= 3
    with new_figure(file, (size, size * 0.9)) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            axes.text(
                column,
                row,
                f"{count}\n{shares[row, column]:.0%}",
                ha="center",
                va="center",
                color="white" if shares[row, column] > 0.55 else "black",
                fontsize=12 if upright else 9,
            )
        axes.set_xticks(
            range(len(classes)),
            classes,
            rotation=0 if upright else 40,
            ha="center" if upright else "right",
        )
        axes.set_yticks(range(len(classes)), classes)
        axes.set_xlabel("predicted")
        axes.set_ylabel("shown")
        axes.set_title(f"held-out volumes, {decoding.scheme.name}", fontsize=10)


def write_weights_view(decoding: Decoding, weights: WeightMap, file: Path) -> None:
    """Write a page on which the weights can be browsed slice by slice.

    Parameters
    ----------
    decoding : Decoding
    weights : WeightMap
    file : Path
        Self-contained HTML page to write.
    """
    from nilearn.plotting import view_img

    with quiet():
        view = view_img(
            weights.mean,
            bg_img=_background(decoding),
            threshold=_threshold(weights.mean),
            title=f"positive: {weights.positive}",  # there is no room for more
            cut_coords=_strongest(weights.mean),
            resampling_interpolation="nearest",
            cmap="RdBu_r",
            black_bg=True,
        )
    file.write_text(standalone_page(view), encoding="utf-8")


def standalone_page(view: Any) -> str:
    """Return the HTML of nilearn's interactive view, without the icon that it would fetch from the network.

    Parameters
    ----------
    view : nilearn.plotting.html_document.HTMLDocument

    Returns
    -------
    page : str
    """
    return re.sub(r"<link[^>]*favicon[^>]*>", "", str(view.get_standalone()))


def _title(decoding: Decoding, weights: WeightMap) -> str:
    contrast, subject = decoding.samples.contrast, decoding.recording.subject
    return (
        f"{decoding.recording.dataset} subject {subject}: {decoding.estimator.name} weights, "
        f"{contrast.name.replace('_', ' ')} (positive: {weights.positive})"
    )


def _background(decoding: Decoding) -> nib.Nifti1Image:
    anat = decoding.recording.anat
    if anat is not None:
        return nib.load(anat)
    return nib.Nifti1Image(decoding.samples.mean_volume, decoding.samples.affine)


def _strongest(image: nib.Nifti1Image) -> tuple[float, ...]:
    """Return the place of the largest absolute weight, in mm."""
    data = np.asarray(image.dataobj)
    voxel = np.unravel_index(np.abs(data).argmax(), data.shape)
    return tuple(float(x) for x in apply_affine(image.affine, voxel))


def _threshold(image: nib.Nifti1Image) -> float:
    sizes = np.abs(np.asarray(image.dataobj))
    if not sizes.any():
        return 0.0
    # nilearn leaves out what equals the threshold: just below it, a map of one voxel still shows that voxel.
    return float(np.quantile(sizes[sizes > 0], THRESHOLD_QUANTILE)) * (1 - 1e-6)


@contextmanager
def new_figure(file: Path, size: tuple[float, float]) -> "Iterator[Figure]":
    """Open a figure of a size in inches, and save it at the end.

    Without pyplot: it would keep the figure, and a notebook's own backend must stay as it is.

    Parameters
    ----------
    file : Path
        PNG to write.
    size : tuple of float
        Width and height in inches.
    """
    logging.getLogger("matplotlib.font_manager").setLevel(logging.WARNING)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    with quiet():
        yield figure
        figure.savefig(file, dpi=110, facecolor="white")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep to itself what the plotting packages warn of: it is of no weight for the result."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
