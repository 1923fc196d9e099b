"""The figures of the course pages, drawn while the site is built.

This module is a Sphinx extension: it writes one PNG file per function of `FIGURES` into ``generated/``,
which git ignores. All figures are deterministic, need no download, have English words only (no Chinese font
is needed) and a white background. ``python docs/course/figures.py`` draws them without Sphinx.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from nibabel.affines import apply_affine
from nibabel.nifti1 import Nifti1Image
from nilearn.datasets import load_mni152_template
from nilearn.image import load_img, smooth_img
from nilearn.masking import apply_mask
from nilearn.plotting import plot_anat
from scipy.ndimage import gaussian_filter
from scipy.signal import lfilter
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import KFold, LeaveOneGroupOut, StratifiedKFold, cross_val_score
from threadpoolctl import threadpool_limits

from harness import Recording, Simulated

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DIRECTORY = Path(__file__).parent / "generated"
# 5 inches at 160 dots per inch: letters of 10 points are legible when the figure is 400 pixels wide.
WIDTH = 5.0
DPI = 160
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
# Okabe and Ito's colours, which people with any colour vision can distinguish.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#BBBBBB"
COLOURS = (ORANGE, "#56B4E9", GREEN, BLUE, RED, "#CC79A7", "#999999", "#F0E442")
FWHM_TO_SIGMA = 1 / np.sqrt(8 * np.log(2))
PEAK = (35, -49, -15)  # MNI mm, in the right fusiform gyrus


def draw_nifti_file() -> Figure:
    """Draw the parts of a NIfTI file, and three volumes of a 4D image."""
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(WIDTH, 3.6), height_ratios=(1, 2))
    parts = [
        ("header\n348 bytes", 1.5, BLUE),
        ("4+", 0.45, GREY),
        ("vol. 0", 1.0, ORANGE),
        ("vol. 1", 1.0, ORANGE),
    ]
    parts += [("...", 0.5, "#F7E0B0"), ("vol. T-1", 1.15, ORANGE)]
    left = 0.0
    for label, width, colour in parts:
        top.add_patch(Rectangle((left, 0), width, 1, facecolor=colour, edgecolor="white", linewidth=2))
        text_colour = "white" if colour == BLUE else "black"
        top.text(left + width / 2, 0.5, label, ha="center", va="center", color=text_colour)
        left += width
    top.set(xlim=(0, left), ylim=(-0.6, 1.05))
    top.axis("off")
    top.text(0, -0.15, "byte 0", va="top")
    top.text(1.95, -0.15, "vox_offset (352)", va="top")

    recording = _recording()
    data = load_img(recording.bold).dataobj
    bottom.axis("off")
    for place, volume in enumerate((0, 1, data.shape[3] - 1)):
        axes = bottom.inset_axes(((0, 0.3, 0.7)[place], 0.0, 0.3, 0.85))
        axes.imshow(np.asarray(data[:, :, 3, volume]).T, origin="lower", cmap="gray", aspect="equal")
        axes.set_title(f"volume {volume}", fontsize=10)
        axes.set_axis_off()
    bottom.text(0.65, 0.4, ". . .", ha="center", fontsize=14, transform=bottom.transAxes)
    return figure


def draw_nifti_affine() -> Figure:
    """Draw one slice, stored in two voxel orders, by array index and by millimetre."""
    template = load_mni152_template(resolution=4)
    slice_index = round(apply_affine(np.linalg.inv(template.affine), (0, 0, 0))[2])
    ras = template.get_fdata()[:, :, slice_index].copy()
    ras[apply_affine(template.affine, _grid(template, slice_index))[..., 0] < -45] *= 0.35  # a dark left side
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 5.2), layout="constrained")
    las_first = template.affine[0, 3] + 4 * (ras.shape[0] - 1)  # x of the first voxel, mm
    orders = (("RAS", ras, 1, template.affine[0, 3]), ("LAS", ras[::-1], -1, las_first))
    for column, (name, array, sign, x) in enumerate(orders):
        axes[0, column].imshow(array.T, origin="lower", cmap="gray")
        axes[0, column].set(title=f"array stored as {name}", xlabel="i", ylabel="j")
        first = x - sign * 2
        last = first + sign * 4 * array.shape[0]
        low = template.affine[1, 3] - 2
        high = low + 4 * array.shape[1]
        axes[1, column].imshow(array.T, origin="lower", cmap="gray", extent=(first, last, low, high))
        axes[1, column].set(xlim=(-100, 100), xlabel="x (mm)", ylabel="y (mm)")
        axes[1, column].set_title(f"x = {4 * sign:+d} i {'-' if x < 0 else '+'} {abs(x):.0f}")
        for side, place in (("L", 0.06), ("R", 0.88)):
            axes[1, column].text(
                place, 0.9, side, color="white", weight="bold", transform=axes[1, column].transAxes
            )
        axes[1, column].set_facecolor("black")
    return figure


def draw_mni_planes() -> Figure:
    """Draw three planes of the MNI152 template through one point of the right hemisphere."""
    figure = plt.figure(figsize=(WIDTH, 2.1))
    _plot_planes(load_mni152_template(resolution=2), figure, (0, 0, 1, 1))
    return figure


def draw_native_space() -> Figure:
    """Draw the same coordinates in the template and in a brain of another size and position."""
    template = load_mni152_template(resolution=2)
    angle = np.deg2rad(12)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    place = np.eye(4)
    place[:3, :3] = turn * 0.85
    place[:3, 3] = (4, 14, -10)
    native = Nifti1Image(template.get_fdata(), place @ template.affine)
    figure = plt.figure(figsize=(WIDTH, 4.8))
    for bottom, image, title in ((0.5, template, "MNI152 template"), (0, native, "a head in native space")):
        _plot_planes(image, figure, (0, bottom, 1, 0.44))
        figure.text(0.5, bottom + 0.455, f"{title}: {PEAK} mm", ha="center")
    return figure


def _plot_planes(image: Nifti1Image, figure: Figure, place: tuple[float, float, float, float]) -> None:
    """Plot the three planes of an image through `PEAK`, with marks of left and right."""
    axes = figure.add_axes(place)
    display = plot_anat(
        image,
        cut_coords=PEAK,
        axes=axes,
        figure=figure,
        draw_cross=False,
        vmin=0,
        vmax=1,
        dim=0,
        colorbar=False,
    )
    display.draw_cross(color=ORANGE, linewidth=1.5)


def draw_smoothing_kernel() -> Figure:
    """Draw a Gaussian kernel with its full width at half maximum and its standard deviation."""
    fwhm = 6.0
    sigma = fwhm * FWHM_TO_SIGMA
    x = np.linspace(-12, 12, 481)
    figure, axes = plt.subplots(figsize=(WIDTH, 2.9), layout="constrained")
    axes.plot(x, np.exp(-0.5 * (x / sigma) ** 2), color="black")
    axes.bar(
        np.arange(-12, 13, 4),
        np.exp(-0.5 * (np.arange(-12, 13, 4) / sigma) ** 2),
        width=3.7,
        color=GREY,
        zorder=0,
    )
    axes.annotate(
        "", (-fwhm / 2, 0.5), (fwhm / 2, 0.5), arrowprops={"arrowstyle": "<->", "color": BLUE, "lw": 2}
    )
    axes.text(fwhm / 2 + 0.4, 0.5, f"FWHM = {fwhm:.0f} mm", color=BLUE, va="center")
    height = float(np.exp(-0.5))
    axes.annotate("", (0, height), (sigma, height), arrowprops={"arrowstyle": "<->", "color": RED, "lw": 2})
    axes.text(sigma + 0.8, height + 0.06, f"sigma = {sigma:.2f} mm", color=RED)
    axes.set(xlabel="distance (mm); bars: voxels of 4 mm", ylabel="weight (peak = 1)", ylim=(0, 1.05))
    return figure


def draw_smoothing_template() -> Figure:
    """Draw one axial slice of the template without smoothing and smoothed with 4 and 8 mm."""
    template = load_mni152_template(resolution=2)
    index = round(apply_affine(np.linalg.inv(template.affine), PEAK)[2])
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.4), layout="constrained")
    for panel, fwhm in zip(axes, (None, 4, 8), strict=True):
        image = smooth_img(template, fwhm)
        panel.imshow(image.get_fdata()[8:-8, 8:-8, index].T, origin="lower", cmap="gray", vmin=0, vmax=1)
        panel.set_title("not smoothed" if fwhm is None else f"FWHM {fwhm} mm", fontsize=10)
        panel.text(0.03, 0.9, "L", color="white", weight="bold", transform=panel.transAxes)
        panel.text(0.88, 0.9, "R", color="white", weight="bold", transform=panel.transAxes)
        panel.set_axis_off()
    return figure


def draw_smoothing_recovery() -> Figure:
    """Draw how well a coarse and a fine pattern are recovered from noise, by smoothing width."""
    widths = np.arange(0, 25, 2.0)
    voxel = 2.0
    figure, axes = plt.subplots(figsize=(WIDTH, 3.0), layout="constrained")
    for name, extent, colour, style in (("coarse (16 mm)", 16, BLUE, "-"), ("fine (4 mm)", 4, RED, "--")):
        rng = np.random.default_rng(14)
        curves = []
        for _ in range(8):
            truth = gaussian_filter(
                rng.standard_normal((96, 96)), extent * FWHM_TO_SIGMA / voxel, mode="wrap"
            )
            noisy = truth / truth.std() + 3 * rng.standard_normal(truth.shape)
            smoothed = [
                gaussian_filter(noisy, width * FWHM_TO_SIGMA / voxel, mode="wrap") for width in widths
            ]
            curves.append([np.corrcoef(truth.ravel(), image.ravel())[0, 1] for image in smoothed])
        axes.plot(widths, np.mean(curves, axis=0), style, color=colour, marker="o", markersize=4, label=name)
    axes.set(xlabel="FWHM of the smoothing kernel (mm)", ylabel="correlation with the truth", ylim=(0, 1))
    axes.legend(title="extent of the pattern", frameon=False)
    return figure


def draw_haxby_design() -> Figure:
    """Draw the stimulation blocks of the first three scanner runs of the simulated subject."""
    labels = _recording().labels
    names = sorted(set(labels["condition"]) - {"rest"})
    figure, axes = plt.subplots(figsize=(WIDTH, 3.1), layout="constrained")
    for run in range(3):
        conditions = labels.loc[labels["run"] == run, "condition"].to_numpy()
        for start, stop in _blocks(conditions):
            name = conditions[start]
            if name != "rest":
                span = (2.5 * start, 2.5 * (stop - start))
                axes.broken_barh([span], (run - 0.35, 0.7), facecolor=COLOURS[names.index(name)])
    for name, colour in zip(names, COLOURS, strict=True):
        axes.barh(0, 0, color=colour, label=name)
    axes.set(yticks=range(3), ylim=(2.6, -0.6), xlim=(0, 121 * 2.5), xlabel="time (s)", ylabel="scanner run")
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
    recording = _recording()
    samples = apply_mask(str(recording.bold), str(recording.masks["vt"]))
    labels = recording.labels
    names = sorted(set(labels["condition"]) - {"rest"})
    halves = []
    for parity in (1, 0):
        chosen = labels["run"].to_numpy() % 2 == parity
        patterns = np.array(
            [samples[chosen & (labels["condition"] == name).to_numpy()].mean(axis=0) for name in names]
        )
        halves.append(patterns - patterns.mean(axis=0))
    return np.corrcoef(*halves)[:8, 8:], names


def draw_series() -> Figure:
    """Draw mean volume, tSNR and a time course of the simulated subject."""
    recording = _recording()
    image = load_img(recording.bold)
    labels = recording.labels
    first = image.slicer[..., :121]
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
        panel.text(0.03, 0.9, "L", color="white", weight="bold", transform=panel.transAxes)
        panel.text(0.88, 0.9, "R", color="white", weight="bold", transform=panel.transAxes)
        panel.set_axis_off()
        figure.colorbar(shown, ax=panel, shrink=0.8)
    course_axes = figure.add_subplot(grid[1, :])
    course = data[house].mean(axis=0)
    conditions = labels["condition"].to_numpy()[:121]
    for start, stop in _blocks(conditions):
        if conditions[start] != "rest":
            colour = ORANGE if conditions[start] == "house" else GREY
            course_axes.axvspan(2.5 * start, 2.5 * stop, color=colour, alpha=0.5, linewidth=0)
    course_axes.plot(2.5 * np.arange(121), 100 * (course / course.mean() - 1), color="black", linewidth=1.2)
    course_axes.set(
        xlabel="time (s); orange: houses, grey: other blocks", ylabel="signal change (%)", xlim=(0, 302.5)
    )
    return figure


def draw_outliers() -> Figure:
    """Draw DVARS and global signal of one scanner run with one artificial jump of the head."""
    recording = _recording()
    samples = apply_mask(load_img(recording.bold).slicer[..., :121], str(recording.masks["brain"]))
    moved = samples.copy()
    moved[60] = np.roll(moved[60], 1) * 1.02  # one volume: displaced by about one voxel and brighter
    change = np.diff(moved, axis=0, prepend=moved[:1])
    dvars = 100 * np.sqrt((change**2).mean(axis=1)) / moved.mean()
    dvars[0] = np.nan
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(WIDTH, 3.4), sharex=True, layout="constrained")
    top.plot(100 * (moved.mean(axis=1) / moved.mean() - 1), color=BLUE)
    top.set(ylabel="global\nsignal (%)")
    bottom.plot(dvars, color=RED)
    bottom.set(ylabel="DVARS (%)", xlabel="volume")
    bottom.annotate(
        "two high values:\nto and from volume 60", (61, np.nanmax(dvars) * 0.95), (72, np.nanmax(dvars) * 0.6)
    )
    return figure


def draw_folds() -> Figure:
    """Draw which volumes three schemes hold out in their first fold."""
    labels = _recording().labels
    chosen = labels["condition"].isin(["face", "cat"]).to_numpy()
    y, runs = labels["condition"].to_numpy()[chosen], labels["run"].to_numpy()[chosen]
    schemes = {
        "leave one\nrun out": LeaveOneGroupOut().split(y, y, runs),
        "5-fold": KFold(5).split(y),
        "5-fold,\nshuffled": KFold(5, shuffle=True, random_state=0).split(y),
    }
    figure, axes = plt.subplots(figsize=(WIDTH, 3.2), layout="constrained")
    rows = [
        ("class", np.where(y == "face", BLUE, ORANGE)),
        ("scanner\nrun", np.where(runs % 2, "#777777", GREY)),
    ]
    for name, splits in schemes.items():
        _, test = next(iter(splits))
        rows.append((name, np.where(np.isin(np.arange(len(y)), test), RED, "#E8E8E8")))
    for row, (_, colours) in enumerate(rows):
        axes.bar(np.arange(72), 0.8, bottom=row - 0.4, width=1.0, align="edge", color=colours[:72])
    axes.set(yticks=range(len(rows)), yticklabels=[name for name, _ in rows], xlim=(0, 72), ylim=(4.6, -0.6))
    axes.set_xlabel("volumes of 4 scanner runs (blue: face, orange: cat; red: held out)")
    axes.xaxis.label.set_size(9)
    axes.tick_params(left=False)
    axes.spines["left"].set_visible(False)
    return figure


def draw_leakage() -> Figure:
    """Draw the accuracy of decoding noise, for four schemes."""
    scores = decode_noise()
    figure, axes = plt.subplots(figsize=(WIDTH, 2.7), layout="constrained")
    means = [values.mean() for values in scores.values()]
    errors = [values.std(ddof=1) / np.sqrt(len(values)) for values in scores.values()]
    colours = [GREEN, ORANGE, ORANGE, RED]
    axes.barh(list(scores), means, xerr=errors, color=colours, height=0.65)
    for row, mean in enumerate(means):
        axes.text(0.03, row, f"{mean:.2f}", va="center", color="black")
    axes.axvline(0.5, color="black", linestyle="--")
    axes.invert_yaxis()
    axes.set(xlabel="accuracy on noise (true value: 0.5)", xlim=(0, 1))
    return figure


def decode_noise(n_repetitions: int = 10) -> dict[str, np.ndarray]:
    """Return accuracies of decoding autocorrelated noise, by scheme: arrays of shape (n_repetitions,).

    Labels are those of face and cat in the simulated subject; 300 voxels of noise, AR(1) with a coefficient
    of .7.
    """
    labels = _recording().labels
    chosen = labels["condition"].isin(["face", "cat"]).to_numpy()
    y, runs = labels["condition"].to_numpy()[chosen], labels["run"].to_numpy()[chosen]
    rng = np.random.default_rng(2001)
    schemes = {
        "leave one run out": LeaveOneGroupOut(),
        "5-fold": KFold(5),
        "stratified 5-fold": StratifiedKFold(5),
        "shuffled 5-fold": KFold(5, shuffle=True, random_state=0),
    }
    scores: dict[str, list[float]] = {name: [] for name in schemes}
    for _ in range(n_repetitions):
        X = lfilter([1], [1, -0.7], rng.standard_normal((len(labels), 300)), axis=0)[chosen]
        for name, scheme in schemes.items():
            groups = runs if isinstance(scheme, LeaveOneGroupOut) else None
            accuracies = cross_val_score(RidgeClassifier(), X, y, groups=groups, cv=scheme)
            scores[name].append(float(accuracies.mean()))
    return {name: np.array(values) for name, values in scores.items()}


def draw_weights_patterns() -> Figure:
    """Draw weights and patterns of two voxels that share noise, of which one responds."""
    rng = np.random.default_rng(7)
    y = np.repeat([-1.0, 1.0], 150)
    shared = 1.5 * rng.standard_normal(300)
    X = np.column_stack([y + shared, shared]) + 0.2 * rng.standard_normal((300, 2))
    weights = RidgeClassifier(alpha=1e-3).fit(X, y).coef_.ravel()
    pattern = np.cov(X.T) @ weights
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(WIDTH, 3.0), width_ratios=(1.25, 1), layout="constrained"
    )
    for label, colour, marker in ((-1, ORANGE, "o"), (1, BLUE, "^")):
        left.scatter(*X[y == label].T, s=10, color=colour, marker=marker, label=f"class {label:+d}")
    left.set(xlabel="voxel 1 (signal + noise)", ylabel="voxel 2 (the same noise)", aspect="equal")
    left.legend(frameon=False, fontsize=8, handletextpad=0, loc="upper left", borderpad=0)
    places = np.arange(2)
    right.bar(places - 0.2, weights / np.abs(weights).max(), 0.4, color=GREY, label="weight")
    right.bar(places + 0.2, pattern / np.abs(pattern).max(), 0.4, color=GREEN, label="pattern")
    right.axhline(0, color="black", linewidth=0.8)
    right.set_xticks(places, ["voxel 1", "voxel 2"])
    right.set(ylim=(-1.15, 1.7), ylabel="value (largest = 1)")
    right.legend(frameon=False, fontsize=9, loc="upper right")
    return figure


def draw_encoding_decoding() -> Figure:
    """Draw the directions of encoding and decoding models between stimulus and voxels."""
    figure, axes = plt.subplots(figsize=(WIDTH, 2.2), layout="constrained")
    for x, text in ((0.12, "stimulus,\ntask"), (0.5, "brain"), (0.88, "voxels\n(measured)")):
        axes.text(
            x,
            0.5,
            text,
            ha="center",
            va="center",
            bbox={"boxstyle": "round,pad=0.6", "fc": "#EEEEEE", "ec": "black"},
        )
    for start, end in ((0.22, 0.42), (0.58, 0.76)):
        axes.annotate("", (end, 0.5), (start, 0.5), arrowprops={"arrowstyle": "-|>", "color": "black"})
    for height, start, end, text, colour in (
        (0.86, 0.12, 0.88, "encoding (forward) model", BLUE),
        (0.14, 0.88, 0.12, "decoding (backward) model", RED),
    ):
        axes.annotate(
            "", (end, height), (start, height), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2}
        )
        axes.text(0.5, height, text, ha="center", va="center", color=colour, backgroundcolor="white")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.axis("off")
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "nifti_file": draw_nifti_file,
    "nifti_affine": draw_nifti_affine,
    "mni_planes": draw_mni_planes,
    "native_space": draw_native_space,
    "smoothing_kernel": draw_smoothing_kernel,
    "smoothing_template": draw_smoothing_template,
    "smoothing_recovery": draw_smoothing_recovery,
    "haxby_design": draw_haxby_design,
    "haxby_correlation": draw_haxby_correlation,
    "series": draw_series,
    "outliers": draw_outliers,
    "folds": draw_folds,
    "leakage": draw_leakage,
    "weights_patterns": draw_weights_patterns,
    "encoding_decoding": draw_encoding_decoding,
}


def write_figures(directory: Path = DIRECTORY) -> list[Path]:
    """Write the figures that are missing or older than this module, and return the paths of all."""
    directory.mkdir(parents=True, exist_ok=True)
    changed = Path(__file__).stat().st_mtime
    paths = []
    for name, draw in FIGURES.items():
        path = directory / f"{name}.png"
        paths.append(path)
        if path.is_file() and path.stat().st_mtime > changed:
            continue
        # The matrices are small: with more threads, the figures take several times as long.
        with plt.rc_context(STYLE), threadpool_limits(1, user_api="blas"):
            figure = draw()
            temporary = path.with_suffix(
                ".unfinished.png"
            )  # an interrupted build leaves no half-written figure
            figure.savefig(temporary, dpi=DPI, metadata={"Software": None})
            plt.close(figure)
        temporary.replace(path)
    return paths


def setup(app: "Sphinx") -> dict[str, bool]:
    """Draw the figures before pages are read, and give the Chinese pages their language."""
    app.connect("builder-inited", lambda _: write_figures())
    app.connect("html-page-context", _set_language)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _set_language(app: "Sphinx", pagename: str, templatename: str, context: dict, doctree: object) -> None:
    """Set ``lang`` of a Chinese page, by which browsers choose fonts and screen readers voices."""
    if pagename.startswith("course/zh/"):
        context["language"] = "zh-CN"


def _recording() -> Recording:
    """Return the simulated subject 2."""
    return Simulated().load(2)


def _blocks(conditions: np.ndarray) -> list[tuple[int, int]]:
    """Return start and end (exclusive) of consecutive equal conditions."""
    borders = np.flatnonzero(conditions[1:] != conditions[:-1]) + 1
    return list(zip([0, *borders.tolist()], [*borders.tolist(), len(conditions)], strict=True))


def _grid(image: Nifti1Image, index: int) -> np.ndarray:
    """Return the voxel indices of one axial slice, of shape (x, y, 3)."""
    i, j = np.meshgrid(*map(np.arange, image.shape[:2]), indexing="ij")
    return np.stack([i, j, np.full_like(i, index)], axis=-1)


if __name__ == "__main__":
    for path in write_figures():
        print(path)
