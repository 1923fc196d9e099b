"""Figures of the pages on NIfTI files and on templates."""

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from nibabel.affines import apply_affine
from nibabel.nifti1 import Nifti1Image
from nilearn.datasets import load_mni152_template
from nilearn.image import load_img
from nilearn.plotting import plot_anat

from course.figures.recording import load_recording
from course.figures.style import BLUE, GREY, ORANGE, PEAK, WIDTH


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

    recording = load_recording()
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


def _grid(image: Nifti1Image, index: int) -> np.ndarray:
    """Return the voxel indices of one axial slice, of shape (x, y, 3)."""
    i, j = np.meshgrid(*map(np.arange, image.shape[:2]), indexing="ij")
    return np.stack([i, j, np.full_like(i, index)], axis=-1)
