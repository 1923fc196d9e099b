"""Figures of a searchlight: the map of scores, and the null distribution of its maximum."""

from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pandas as pd

from harness.decoding.scores import nominal_chance
from harness.errors import count
from harness.inference.corrections import ALPHA, format_p
from harness.report.canvas import lay_out, literal, new_figure, read_anatomy
from harness.report.captions import describe_data, describe_signal, draw_caption, name_contrast
from harness.report.map_view import write_view
from harness.report.report_page import write_score
from harness.report.score_figures import CHANCE, COLOURS
from harness.report.score_map import ScoreMap, draw_score_maps, render_score_view
from harness.searchlight.choices import Correction
from harness.searchlight.descriptions import (
    describe_correction,
    describe_within,
    name_correction,
    name_relabellings,
)
from harness.searchlight.map_test import MapTest
from harness.searchlight.result import SearchlightResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUANTITIES = {
    Correction.maximum: "largest z of the map",
    Correction.tfce: "largest TFCE of z",
    Correction.cluster_size: "largest cluster, in voxels",
}


def describe_searchlight_method(result: SearchlightResult) -> str:
    """Return estimator, scheme, spheres and signal."""
    question, settings = result.question, result.settings
    n = len(result.spheres)
    unit = "blocks" if question.signal.average_blocks else "volumes"
    return (
        f"{n} {'sphere' if n == 1 else 'spheres'} of {settings.radius:g} mm, centres: {question.roi.name}; "
        f"{len(result.samples.y)} {unit}; {question.estimator.name}, cv={question.scheme.name}, "
        f"{count(result.n_folds, 'fold')}; "
        f"signal: {describe_signal(question.signal)}"
    )


def show_scores(result: SearchlightResult) -> ScoreMap:
    """Return the score map of a searchlight as it is drawn."""
    significant = None
    if result.test is not None:
        p = result.test.corrected[result.settings.correction].p
        significant = np.asarray(result.to_image(p <= ALPHA).dataobj) > 0
    return ScoreMap(
        scores=np.asarray(result.to_image(result.score_map).dataobj),
        centres=result.centres,
        affine=result.samples.grid.affine,
        significant=significant,
        chance=nominal_chance(result.settings.scorer, len(result.samples.contrast.classes)),
        unit=write_score(result.settings.scorer),
    )


def draw_score_map(result: SearchlightResult, file: Path) -> None:
    """Draw the score map on the anatomy, or on the mean volume where there is none, as a PNG."""
    shown = show_scores(result)
    flat = 1 in shown.scores.shape
    width, height = (8.0, 4.9) if flat else (9.5, 6.0)
    with new_figure(file, (width, height)) as figure:
        draw_caption(figure, _title(result), describe_searchlight_method(result), _legend(result, shown))
        draw_score_maps(figure, shown, _background(result), top=0.68 / height, bottom=0.5 / height)


def write_score_view(result: SearchlightResult, file: Path) -> None:
    """Write a standalone HTML page on which the score map can be browsed slice by slice."""
    shown = show_scores(result)
    _write_view(result, shown, shown.image, shown.unit, file)


def write_thresholded_view(result: SearchlightResult, file: Path) -> None:
    """Write a standalone HTML page with the scores whose corrected p is at most .05."""
    shown = show_scores(result)
    _write_view(result, shown, shown.thresholded, "corrected p <= .05", file)


def _write_view(
    result: SearchlightResult, shown: ScoreMap, image: nib.Nifti1Image, short: str, file: Path
) -> None:
    def render(**look: object) -> str:
        return render_score_view(image, shown, _background(result), **look)

    write_view(
        render,
        file,
        short=short,
        title=_title(result),
        details=describe_searchlight_method(result),
        legend=_legend(result, shown, outlined=False),
    )


def draw_maxima(result: SearchlightResult, test: MapTest, file: Path) -> None:
    """Draw the null distribution of the maximum for every correction, as a PNG."""
    n = len(test.maxima.columns)
    height = 1.4 + 1.6 * n
    which = name_relabellings(test.relabellings.enumerated)
    title = f"{describe_data(result)}: maximum over {len(result.spheres)} spheres"
    details = f"{len(test.maxima)} relabellings ({which}), the true one included; "
    details += describe_searchlight_method(result)
    with new_figure(file, (7.5, height)) as figure:
        draw_caption(figure, title, details)
        figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - 0.75 / height))
        p = {name: corrected.smallest_p for name, corrected in test.corrected.items()}
        thresholds = {name: corrected.threshold for name, corrected in test.corrected.items()}
        draw_maximum_nulls(figure, test.maxima, thresholds, p)


def draw_maximum_nulls(
    figure: "Figure",
    maxima: pd.DataFrame,
    thresholds: "dict[str, float | None]",
    smallest_p: dict[str, float],
) -> None:
    """Draw a histogram of the maximum under relabelling for every correction, with the true one's.

    Parameters
    ----------
    maxima : DataFrame, one row per relabelling, the true labelling first
    thresholds : dict of str to float or None
        By correction; values above it have a corrected p of at most .05.
    smallest_p : dict of str to float
        The smallest corrected p of the map, by correction.
    """
    lay_out(figure)
    names = [name for name in maxima.columns if name in smallest_p]
    panels = figure.subplots(len(names), 1, squeeze=False)[:, 0]
    for axes, name in zip(panels, names, strict=True):
        values, threshold = maxima[name].to_numpy(dtype=float), thresholds.get(name)
        others = values[1:] if len(values) > 1 else values
        axes.hist(others[np.isfinite(others)], bins=50, color="#b3b3b3")
        if threshold is not None and np.isfinite(threshold):
            axes.axvline(threshold, color=CHANCE, linestyle="--", linewidth=1, label="threshold, p = .05")
        axes.axvline(values[0], color=COLOURS[0], linewidth=2, label="true labelling")
        axes.set_title(
            literal(
                f"{name_correction(name)}: {values[0]:.4g}, p = {format_p(smallest_p[name])}"
                + ("" if threshold is None else f", threshold {threshold:.4g}")
            ),
            fontsize=8.5,
        )
        axes.set_xlabel(QUANTITIES[Correction(name)], fontsize=8.5)
        axes.set_ylabel("relabellings", fontsize=8.5)
        axes.tick_params(labelsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8, frameon=False
    )


def _title(result: SearchlightResult) -> str:
    recording = result.recording
    return (
        f"{recording.dataset} subject {recording.subject}: {result.question.estimator.name} searchlight, "
        f"{name_contrast(result)} ({write_score(result.settings.scorer)})"
    )


def _legend(result: SearchlightResult, shown: ScoreMap, outlined: bool = True) -> str:
    where = "On the mean volume" if result.recording.anat is None else "On the anatomical image"
    words = f"{shown.unit[0].upper()}{shown.unit[1:]}, mean over folds; white: chance ({shown.chance:.3g})."
    if shown.significant is None:
        words += " Not tested: no p-values."
        return f"{words} {where}; left is left."
    n = int(shown.significant.sum())
    correction = result.settings.correction
    found = describe_correction(n, len(result.spheres), correction)
    words += f" {'Outlined: ' if n and outlined else ''}{found}."
    words += f" {describe_within(correction)}" if n else ""
    return f"{words} {where}; left is left."


def _background(result: SearchlightResult) -> nib.Nifti1Image:
    anat = result.recording.anat
    if anat is not None:
        return read_anatomy(anat)
    # A copy: nilearn replaces values that are not finite in place.
    return nib.Nifti1Image(
        np.nan_to_num(result.samples.grid.mean_volume, posinf=0.0, neginf=0.0), result.samples.grid.affine
    )
