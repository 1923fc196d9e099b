"""Figures of the page on smoothing."""

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from nibabel.affines import apply_affine
from nilearn.datasets import load_mni152_template
from nilearn.image import smooth_img
from scipy.ndimage import gaussian_filter

from course.figures.style import BLUE, GREY, PEAK, RED, WIDTH, mark_sides

FWHM_TO_SIGMA = 1 / np.sqrt(8 * np.log(2))


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
        mark_sides(panel)
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
