"""Figures of the pages on Haxby's experiment and on looking at 4D data.

The figures of `harness.report` are twice as wide: their letters would be illegible on a phone.
"""

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from nilearn.image import load_img
from nilearn.masking import apply_mask

from course.figures.recording import find_spans, list_conditions, load_recording
from course.figures.style import BLUE, GREY, ORANGE, RED, WIDTH, mark_sides
from harness.checks.signal_quality import QualityAccumulator
from harness.report.inspection_charts import condition_looks

RUN_LENGTH = 121  # volumes of a scanner run
T_R = 2.5  # s
MOVED = 60  # the volume with an artificial jump of the head


def draw_haxby_design() -> Figure:
    """Draw the stimulation blocks of the first three scanner runs of the simulated subject."""
    labels = load_recording().labels
    looks = condition_looks(list_conditions(labels))  # the colours of `inspect`
    figure, axes = plt.subplots(figsize=(WIDTH, 3.1), layout="constrained")
    for run in range(3):
        for name, start, length in find_spans(labels.loc[labels["run"] == run, "condition"].to_numpy()):
            axes.broken_barh([(T_R * start, T_R * length)], (run - 0.35, 0.7), facecolor=looks[name][0])
    for name, (colour, _) in looks.items():
        axes.barh(0, 0, color=colour, label=name)
    axes.set(yticks=range(3), ylim=(2.6, -0.6), xlim=(0, RUN_LENGTH * T_R))
    axes.set(xlabel="time (s)", ylabel="scanner run")
    figure.legend(loc="outside upper center", ncols=3, frameon=False, handlelength=1, columnspacing=1)
    return figure


def draw_haxby_correlation() -> Figure:
    """Draw correlations between patterns of odd and even scanner runs, simulated data."""
    correlations, names = correlate_halves()
    figure, axes = plt.subplots(figsize=(WIDTH, 4.2), layout="constrained")
    image = axes.imshow(correlations, cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_xticks(range(8), names, rotation=45, ha="right")
    axes.set_yticks(range(8), names)
    axes.set(xlabel="even scanner runs", ylabel="odd scanner runs", title="simulated subject 2, VT")
    figure.colorbar(image, label="correlation")
    return figure


def correlate_halves() -> tuple[np.ndarray, list[str]]:
    """Return the correlations of Haxby et al. (2001) in the simulated subject, and the conditions.

    The mean of each half over conditions is subtracted from every voxel before patterns are correlated.

    Returns
    -------
    correlations : ndarray of shape (8, 8)
        Rows are patterns of odd, columns of even scanner runs.
    names : list of str
    """
    recording = load_recording()
    samples = apply_mask(str(recording.bold), str(recording.masks["vt"]))
    labels = recording.labels
    names = list_conditions(labels)
    halves = []
    for parity in (1, 0):
        chosen = labels["run"].to_numpy() % 2 == parity
        patterns = np.array(
            [samples[chosen & (labels["condition"] == name).to_numpy()].mean(axis=0) for name in names]
        )
        halves.append(patterns - patterns.mean(axis=0))
    return np.corrcoef(*halves)[:8, 8:], names


def draw_series() -> Figure:
    """Draw mean volume, tSNR and a time course of the simulated subject.

    `harness.checks.signal_quality` has the median of the tSNR over voxels, but not its map.
    """
    recording = load_recording()
    image = load_img(recording.bold)
    first = image.slicer[..., :RUN_LENGTH]
    data = first.get_fdata()
    mean = data.mean(axis=3)
    brain = load_img(recording.masks["brain"]).get_fdata() > 0
    tsnr = np.where(brain, mean / np.where(brain, data.std(axis=3, ddof=1), 1), 0)
    house = load_img(recording.masks["house"]).get_fdata() > 0
    figure = plt.figure(figsize=(WIDTH, 4.4), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(1.25, 1))
    for column, (values, title) in enumerate(((mean, "mean volume"), (tsnr, "tSNR"))):
        panel = figure.add_subplot(grid[0, column])
        shown = panel.imshow(values[:, :, 3].T, origin="lower", cmap="gray" if title != "tSNR" else "viridis")
        panel.set_title(title, fontsize=10)
        mark_sides(panel)
        panel.set_axis_off()
        figure.colorbar(shown, ax=panel, shrink=0.8)
    course_axes = figure.add_subplot(grid[1, :])
    course = data[house].mean(axis=0)
    for name, start, length in find_spans(recording.labels["condition"].to_numpy()[:RUN_LENGTH]):
        colour = ORANGE if name == "house" else GREY
        course_axes.axvspan(T_R * start, T_R * (start + length), color=colour, alpha=0.5, linewidth=0)
    course = 100 * (course / course.mean() - 1)
    course_axes.plot(T_R * np.arange(RUN_LENGTH), course, color="black", linewidth=1.2)
    course_axes.set(xlabel="time (s); orange: houses, grey: other blocks", ylabel="signal change (%)")
    course_axes.set_xlim(0, RUN_LENGTH * T_R)
    return figure


def draw_outliers() -> Figure:
    """Draw DVARS and global signal of one scanner run with one artificial jump of the head."""
    recording = load_recording()
    data = load_img(recording.bold).slicer[..., :RUN_LENGTH].get_fdata()
    brain = load_img(recording.masks["brain"]).get_fdata() > 0
    # Displaced by about one voxel, and brighter.
    data[brain, MOVED] = 1.02 * np.roll(data[brain, MOVED], 1)
    accumulator = QualityAccumulator(brain, None, np.zeros(RUN_LENGTH, dtype=int))
    for volume in np.moveaxis(data, 3, 0):
        accumulator.add(volume)
    quality = accumulator.summarise()
    signal, dvars = quality.global_signal, quality.dvars
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(WIDTH, 3.4), sharex=True, layout="constrained")
    top.plot(100 * (signal / signal.mean() - 1), color=BLUE)
    top.set(ylabel="global\nsignal (%)")
    bottom.plot(dvars, color=RED)
    bottom.set(ylabel="DVARS (%)", xlabel="volume")
    peak = np.nanmax(dvars)
    bottom.annotate(
        f"two high values:\nto and from volume {MOVED}", (MOVED + 1, peak * 0.95), (MOVED + 12, peak * 0.6)
    )
    return figure
