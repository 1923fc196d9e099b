"""Figures of an inspection; every function writes one PNG."""

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine

from harness.checks.inspection import Inspection
from harness.report.canvas import literal, new_figure, quiet, read_anatomy, standalone_page

SMOOTHING = 3  # mm; the introduction to decoding smooths nilearn's template by this much
TEMPLATE_FILES = ("template.png", f"template_smoothed_{SMOOTHING}mm.nii.gz")
# An interactive view beyond this size (bytes) is left out, and the picture is shown instead.
MAX_VIEW = 1_500_000
PAGE_WIDTH = 1080  # pixels
REST_COLOUR = "#d9d9d9"
# Okabe and Ito's colours, which people with any colour vision can distinguish, and four more.
COLOURS = (
    "#E69F00 #56B4E9 #009E73 #D55E00 #0072B2 #CC79A7 #F0E442 #000000 #8C564B #7F7F7F #9467BD #17BECF".split()
)


def draw_template(directory: Path) -> tuple[Path, Path]:
    """Smooth the MNI152 template, write it, read it back, and draw it below the raw one.

    Returns
    -------
    picture, image : Path
        PNG and NIfTI.
    """
    from nilearn.datasets import MNI152_FILE_PATH
    from nilearn.image import smooth_img
    from nilearn.plotting import plot_img

    picture, image = (directory / name for name in TEMPLATE_FILES)
    with quiet():
        smooth_img(MNI152_FILE_PATH, fwhm=SMOOTHING).to_filename(image)
    with new_figure(picture, (9.5, 6.2)) as figure:
        for source, name, bottom in (
            (MNI152_FILE_PATH, "raw", 0.5),
            (image, f"smoothed, FWHM {SMOOTHING} mm", 0.0),
        ):
            plot_img(
                nib.load(source),
                cmap="gray",
                vmin=0,
                figure=figure,
                axes=(0, bottom, 1, 0.46),
                cut_coords=(-30, -55, -10),
                draw_cross=False,
                annotate=False,
                black_bg=True,
                colorbar=False,
            )
            figure.text(0.01, bottom + 0.465, name, fontsize=10)
    return picture, image


def draw_anatomy(inspection: Inspection, file: Path) -> Path | None:
    """Draw the anatomical image; return None where there is none."""
    anat = inspection.recording.anat
    if anat is None:
        return None
    _draw_image(read_anatomy(anat), file, _centre(inspection))
    return file


def draw_mean_volume(inspection: Inspection, file: Path) -> Path:
    """Draw the mean over all volumes."""
    _draw_image(_mean_image(inspection), file, _centre(inspection))
    return file


def draw_roi(inspection: Inspection, file: Path) -> Path | None:
    """Draw the region of interest on the anatomy, or on the mean volume where there is none."""
    from nilearn.plotting import plot_roi

    if inspection.volumes.roi_mask is None:
        return None
    anat = inspection.recording.anat
    mask = nib.Nifti1Image(inspection.volumes.roi_mask.astype(np.int8), inspection.volumes.affine)
    mode, cuts, size = _views(mask, _centre(inspection))
    with new_figure(file, size) as figure:
        background = "the mean volume" if anat is None else "the anatomy"
        n_voxels = inspection.volumes.roi_mask.sum()
        name = literal(f"{inspection.roi.name} ({n_voxels} voxels) on {background}")
        figure.text(0.01, 0.94, name, fontsize=10)
        plot_roi(
            mask,
            bg_img=_mean_image(inspection) if anat is None else read_anatomy(anat),
            display_mode=mode,
            cut_coords=cuts,
            figure=figure,
            axes=(0, 0, 1, 0.91),
            draw_cross=False,
            black_bg=True,
            cmap="autumn",
            alpha=0.75,
            colorbar=False,
        )
    return file


def draw_design(inspection: Inspection, file: Path) -> Path:
    """Draw the condition of every volume, one strip per run."""
    labels, runs = inspection.recording.labels, inspection.design.conditions.index.tolist()
    colours = _condition_colours(inspection)
    selected = np.zeros(len(labels), dtype=bool)
    selected[inspection.design.selected] = True
    shown = labels["condition"].to_numpy(dtype=str)
    height = min(0.32 * len(runs), 12) + 1.3
    with new_figure(file, (9.8, height)) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        for row, run in enumerate(runs):
            rows = np.flatnonzero(labels["run"].to_numpy() == run)
            for condition, colour in colours.items():
                spans = _spans(shown[rows] == condition)
                axes.broken_barh(spans, (row - 0.4, 0.62), facecolors=colour)
            axes.broken_barh(_spans(selected[rows]), (row + 0.28, 0.14), facecolors="black")
        # Bars of length 0: one entry of the legend per condition.
        for condition, colour in colours.items():
            axes.barh(0, 0, color=colour, label=literal(condition))
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


def draw_volumes(inspection: Inspection, file: Path) -> Path:
    """Draw one slice of some single volumes."""
    labels = inspection.recording.labels
    slices, across = {}, ""
    for index, volume in sorted(inspection.volumes.examples.items()):
        slices[index], across = _slice(volume, inspection)
    aspect = _aspect(inspection)
    bright = np.percentile(np.stack(list(slices.values())), 99.8)
    rows, columns = next(iter(slices.values())).shape
    width = 9.8 / len(slices) - 0.05
    with new_figure(file, (9.8, max(width * rows * aspect / columns, 0.6) + 0.85)) as figure:
        figure.set_layout_engine("constrained")
        for place, (index, picture) in enumerate(slices.items(), start=1):
            axes = figure.add_subplot(1, len(slices), place)
            axes.imshow(picture, cmap="gray", origin="lower", vmin=0, vmax=bright or 1, aspect=aspect)
            axes.set_axis_off()
            label = labels.iloc[index]
            condition = literal(label["condition"])
            axes.set_title(f"volume {index}\nrun {label['run']}, {condition}", fontsize=8)
        figure.supxlabel(across, fontsize=8)
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


def _draw_image(image: nib.Nifti1Image, file: Path, centre: Sequence[float] | None = None) -> None:
    from nilearn.plotting import plot_img

    mode, cuts, size = _views(image, centre)
    with new_figure(file, size) as figure:
        plot_img(
            image,
            cmap="gray",
            vmin=0,
            vmax=_bright(image),
            display_mode=mode,
            cut_coords=cuts,
            figure=figure,
            axes=(0, 0, 1, 1),
            draw_cross=False,
            black_bg=True,
            colorbar=False,
        )


def _views(
    image: nib.Nifti1Image, centre: Sequence[float] | None
) -> tuple[str, Sequence[float] | None, tuple[float, float]]:
    """Return display mode, cuts and size: three views, or one for an image of a single slice."""
    flat = [axis for axis, n in enumerate(image.shape[:3]) if n == 1]
    if not flat:
        return "ortho", centre, (9.5, 3.6)
    place = apply_affine(image.affine, (0, 0, 0)) if centre is None else centre
    return "xyz"[flat[0]], [place[flat[0]]], (5.5, 3.6)


def _bright(image: nib.Nifti1Image) -> float:
    values = np.asarray(image.dataobj)
    return float(np.percentile(values[values > 0], 99.5)) if (values > 0).any() else 1.0


def _mean_image(inspection: Inspection) -> nib.Nifti1Image:
    return nib.Nifti1Image(inspection.volumes.mean, inspection.volumes.affine)


def _densest(inspection: Inspection) -> list[int]:
    """Return, for every axis, the slice with the most voxels of the ROI, or of the brain without a ROI."""
    mask = (
        inspection.volumes.quality_mask
        if inspection.volumes.roi_mask is None
        else inspection.volumes.roi_mask
    )
    return [
        int(mask.sum(axis=tuple(other for other in range(3) if other != axis)).argmax()) for axis in range(3)
    ]


def _centre(inspection: Inspection) -> tuple[float, ...]:
    return tuple(float(mm) for mm in apply_affine(inspection.volumes.affine, _densest(inspection)))


def _thin_axis(inspection: Inspection) -> int:
    """Return the axis across which slices are taken: the one of size 1, else the one closest to z."""
    flat = [axis for axis, n in enumerate(inspection.volumes.mean.shape) if n == 1]
    return flat[0] if flat else int(np.abs(inspection.volumes.affine[2, :3]).argmax())


def _slice(volume: np.ndarray, inspection: Inspection) -> tuple[np.ndarray, str]:
    """Return a slice, its rows upwards, and its name."""
    axis = _thin_axis(inspection)
    index = _densest(inspection)[axis]
    return np.take(volume, index, axis=axis).T, f"slice {index} of voxel axis {'ijk'[axis]}, as stored"


def _aspect(inspection: Inspection) -> float:
    sizes = np.delete(nib.affines.voxel_sizes(inspection.volumes.affine), _thin_axis(inspection))
    return float(sizes[1] / sizes[0])


def _spans(chosen: np.ndarray) -> list[tuple[int, int]]:
    """Return start and length of every stretch of True."""
    edges = np.flatnonzero(np.diff(np.r_[False, chosen, False].astype(int)))
    return [(int(start), int(stop - start)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def _condition_colours(inspection: Inspection) -> dict[str, str]:
    names = inspection.design.conditions.columns.tolist()
    shown = [name for name in names if name != "rest"]
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(shown)}
    return colours | ({"rest": REST_COLOUR} if "rest" in names else {})


def render_mean_view(inspection: Inspection) -> str | None:
    """Return a page of the mean volume, or None where it has few slices, or the page is too large."""
    from nilearn.plotting import view_img

    if min(inspection.volumes.mean.shape) < 4 or not inspection.volumes.mean.any():
        return None
    image = _mean_image(inspection)
    with quiet():
        view = view_img(
            image,
            bg_img=False,
            cmap="gray",
            symmetric_cmap=False,
            vmin=0,
            vmax=_bright(image),
            threshold=None,
            cut_coords=_centre(inspection),
            black_bg=True,
            colorbar=False,
            width_view=PAGE_WIDTH - 150,
        )
        page = standalone_page(view)
    return page if len(page) <= MAX_VIEW else None
