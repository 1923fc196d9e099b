"""Charts of an inspection: the condition of every volume, and the signal quality over time."""

from pathlib import Path

import numpy as np

from harness.checks.inspection import Inspection
from harness.report.canvas import literal, new_figure

# Okabe and Ito's colours without black, and a brown. The smallest distance of two of them is 17 in CIELAB,
# and that to the other two colours of the figure 24, with normal vision and as people without red-sensitive
# or green-sensitive cones see them (Machado, Oliveira, Fernandes 2009).
COLOURS = "#E69F00 #56B4E9 #009E73 #D55E00 #0072B2 #CC79A7 #F0E442 #5C2E00".split()
HATCHES = ("", "////", "....", "xxxx", "++++")  # more conditions than colours have a pattern, too
REST_COLOUR = "#d9d9d9"
SELECTION_COLOUR = "#000000"


def draw_design(inspection: Inspection, file: Path) -> Path:
    """Draw the condition of every volume, one strip per run."""
    labels, runs = inspection.recording.labels, inspection.design.conditions.index.tolist()
    looks = condition_looks([str(name) for name in inspection.design.conditions.columns])
    selected = np.zeros(len(labels), dtype=bool)
    selected[inspection.design.selected] = True
    shown = labels["condition"].to_numpy(dtype=str)
    height = min(0.32 * len(runs), 12) + 1.3
    with new_figure(file, (9.8, height)) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        for row, run in enumerate(runs):
            rows = np.flatnonzero(labels["run"].to_numpy() == run)
            for condition, (colour, hatch) in looks.items():
                spans = _spans(shown[rows] == condition)
                place = (row - 0.4, 0.62)
                axes.broken_barh(spans, place, facecolors=colour, hatch=hatch, edgecolor="white", lw=0)
            axes.broken_barh(_spans(selected[rows]), (row + 0.28, 0.14), facecolors=SELECTION_COLOUR)
        # Bars of length 0: one entry of the legend per condition.
        for condition, (colour, hatch) in looks.items():
            axes.barh(0, 0, color=colour, hatch=hatch, edgecolor="white", lw=0, label=literal(condition))
        axes.plot([], [], color=SELECTION_COLOUR, linewidth=3, label="selected by the contrast")
        axes.set_yticks(range(len(runs)), [f"run {run}" for run in runs])
        axes.set_ylim(len(runs) - 0.4, -0.6)
        axes.set_xlim(0, int(inspection.design.conditions.sum(axis=1).max()))
        t_r = inspection.recording.t_r
        axes.set_xlabel("volume of the run" + (f" (one every {t_r:g} s)" if t_r else ""))
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.tick_params(left=False)
        figure.legend(loc="outside right upper", fontsize=9, frameon=False)
    return file


def draw_quality(inspection: Inspection, file: Path) -> Path:
    """Draw global signal and DVARS over the volumes, and mark the outliers."""
    runs = inspection.recording.labels["run"].to_numpy()
    volumes = np.arange(len(runs))
    begins = np.flatnonzero(np.r_[True, runs[1:] != runs[:-1]])
    with new_figure(file, (9.8, 4.2)) as figure:
        figure.set_layout_engine("constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        for axes, values, name in (
            (upper, inspection.quality.global_signal, "global signal"),
            (lower, inspection.quality.dvars, "DVARS (%)"),
        ):
            for start, stop in zip(begins, [*begins[1:], len(runs)], strict=True):
                axes.plot(volumes[start:stop], values[start:stop], color="#0072B2", linewidth=0.8)
                axes.axvline(start - 0.5, color="#cccccc", linewidth=0.6, zorder=0)
            out = inspection.quality.outliers
            axes.plot(volumes[out], values[out], "o", color="#D55E00", markersize=3.5, label="outlier")
            axes.set_ylabel(name)
            axes.margins(x=0.005)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
        if inspection.quality.outliers.any():
            figure.legend(
                *upper.get_legend_handles_labels(), loc="outside upper right", frameon=False, fontsize=9
            )
        lower.set_xlabel("volume; grey lines: first volume of a run")
    return file


def _spans(chosen: np.ndarray) -> list[tuple[int, int]]:
    """Return start and length of every stretch of True."""
    edges = np.flatnonzero(np.diff(np.r_[False, chosen, False].astype(int)))
    return [(int(start), int(stop - start)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def condition_looks(names: list[str]) -> dict[str, tuple[str, str]]:
    """Return colour and pattern of every condition; no two are alike among the first forty."""
    looks = {}
    for place, name in enumerate(name for name in names if name != "rest"):
        again, colour = divmod(place, len(COLOURS))
        looks[name] = (COLOURS[colour], HATCHES[again % len(HATCHES)])
    return looks | ({"rest": (REST_COLOUR, "")} if "rest" in names else {})
