"""Figures of brains in an inspection; every function writes one PNG."""

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine

from harness.checks.inspection import Inspection
from harness.report.canvas import literal, new_figure, quiet, read_anatomy, standalone_page
from harness.report.volume_figures import (
    ShownVolume,
    draw_shown_volumes,
    find_bright,
    find_display,
    place_volume,
)

SMOOTHING = 3  # mm; the introduction to decoding smooths nilearn's template by this much
TEMPLATE_FILES = ("template.png", "template_smoothed.png", f"template_smoothed_{SMOOTHING}mm.nii.gz")
TEMPLATE_CUTS = (-30, -55, -10)  # mm
# An interactive view beyond this size (bytes) is left out, and the figure is shown instead.
MAX_VIEW = 1_500_000
PAGE_WIDTH = 1080  # pixels


def draw_template(directory: Path) -> tuple[Path, Path, Path]:
    """Draw the MNI152 template; smooth it, write it, read it back, and draw what was read.

    Returns
    -------
    raw, smoothed, image : Path
        Two PNGs and the NIfTI file of the second.
    """
    from nilearn.datasets import MNI152_FILE_PATH
    from nilearn.image import smooth_img

    raw, smoothed, image = (directory / name for name in TEMPLATE_FILES)
    with quiet():
        smooth_img(MNI152_FILE_PATH, fwhm=SMOOTHING).to_filename(image)
    for source, file, name in (
        (MNI152_FILE_PATH, raw, "nilearn's MNI152 template"),
        (image, smoothed, f"the template smoothed, FWHM {SMOOTHING} mm, loaded from {image.name}"),
    ):
        _draw_image(nib.load(source), file, TEMPLATE_CUTS, name)
    return raw, smoothed, image


def draw_anatomy(inspection: Inspection, file: Path) -> Path | None:
    """Draw the anatomical image; return None where there is none."""
    anat = inspection.recording.anat
    if anat is None:
        return None
    _draw_image(read_anatomy(anat), file, find_centre(inspection), "anatomical image")
    return file


def draw_mean_volume(inspection: Inspection, file: Path) -> Path:
    """Draw the mean over all volumes."""
    title = f"mean of {len(inspection.recording.labels)} volumes"
    _draw_image(_mean_image(inspection), file, find_centre(inspection), title)
    return file


def draw_roi(inspection: Inspection, file: Path) -> Path | None:
    """Draw the region of interest on the anatomy, or on the mean volume where there is none."""
    from nilearn.plotting import plot_roi

    if inspection.volumes.roi_mask is None:
        return None
    anat = inspection.recording.anat
    mask = nib.Nifti1Image(inspection.volumes.roi_mask.astype(np.int8), inspection.volumes.affine)
    mode, cuts = find_display(mask.shape, mask.affine, find_centre(inspection))
    with new_figure(file, _find_size(mode)) as figure:
        background = "the mean volume" if anat is None else "the anatomy"
        n_voxels = inspection.volumes.roi_mask.sum()
        name = literal(f"{inspection.roi.name} ({n_voxels} voxels) on {background}")
        figure.text(0.01, 0.94, name, fontsize=10)
        display = plot_roi(
            mask,
            bg_img=_mean_image(inspection) if anat is None else read_anatomy(anat),
            display_mode=mode,
            cut_coords=cuts,
            figure=figure,
            axes=(0, 0, 1, 0.91),
            draw_cross=False,
            annotate=False,
            black_bg=True,
            cmap="autumn",
            alpha=0.75,
            colorbar=False,
        )
        display.annotate(size=10.0, decimals=1)
    return file


def draw_volumes(inspection: Inspection, file: Path) -> Path:
    """Draw single volumes in three planes, or in the only one of an image that is a single slice."""
    labels = inspection.recording.labels
    shown = [
        ShownVolume(volume, (f"volume {index}: {condition}, scanner run {run}",))
        for (index, volume), condition, run in zip(
            inspection.volumes.examples.items(),
            labels["condition"].iloc[list(inspection.volumes.examples)],
            labels["run"].iloc[list(inspection.volumes.examples)],
            strict=True,
        )
    ]
    draw_shown_volumes(shown, inspection.volumes.affine, find_centre(inspection), file)
    return file


def _draw_image(image: nib.Nifti1Image, file: Path, centre: Sequence[float], title: str) -> None:
    display = find_display(image.shape, image.affine, centre)
    with new_figure(file, _find_size(display[0])) as figure:
        figure.text(0.01, 0.94, literal(title), fontsize=10)
        place_volume(figure, (0, 0, 1, 0.91), image, display, _bright(image), text_size=10.0)


def _find_size(mode: str) -> tuple[float, float]:
    return (9.5, 3.9) if mode == "ortho" else (5.5, 3.9)


def _bright(image: nib.Nifti1Image) -> float:
    return find_bright([np.asarray(image.dataobj)])


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


def find_centre(inspection: Inspection) -> tuple[float, ...]:
    """Return where the figures are cut, in mm: per axis, the slice with the most voxels of the region."""
    return tuple(float(mm) for mm in apply_affine(inspection.volumes.affine, _densest(inspection)))


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
            cut_coords=find_centre(inspection),
            black_bg=True,
            colorbar=False,
            width_view=PAGE_WIDTH - 150,
        )
        page = standalone_page(view)
    return page if len(page) <= MAX_VIEW else None
