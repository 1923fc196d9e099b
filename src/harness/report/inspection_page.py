"""The page on which an inspection is looked at: one HTML file that needs nothing else, and its pictures."""

import base64
import html
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.affines import apply_affine

from harness.checks.inspection import Inspection
from harness.datasets.recording import describe_files
from harness.report.figures import literal, new_figure, quiet, read_anatomy, standalone_page

SMOOTHING = 3  # mm; the introduction to decoding smooths nilearn's template by this much
N_LABEL_ROWS = 12
PICTURES = ("anatomy", "mean_volume", "roi", "design", "volumes", "quality")
TEMPLATE_FILES = ("template.png", f"template_smoothed_{SMOOTHING}mm.nii.gz")
PAGE_FILES = ("index.html", *TEMPLATE_FILES, *(f"{name}.png" for name in PICTURES))
UNFINISHED = ".unfinished-"  # begins the name of a directory in which a page is being drawn
LEFT_SECONDS = 3600  # after which such a directory was left behind by a process that was killed
# An interactive view beyond this size (bytes) is left out, and the picture stands alone.
MAX_VIEW = 1_500_000
PAGE_WIDTH = 1080  # pixels
RESTING = "#d9d9d9"
# Okabe and Ito's colours, which people with any colour vision tell apart, and four more.
COLOURS = (
    "#E69F00 #56B4E9 #009E73 #D55E00 #0072B2 #CC79A7 #F0E442 #000000 #8C564B #7F7F7F #9467BD #17BECF".split()
)

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; }
body { max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .3rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; }
img { max-width: 100%; display: block; margin: .5rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; margin: .5rem 0; }
th, td { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid #e4e4e4; white-space: nowrap; }
th { color: #555; font-weight: 600; } td.text, th.text { text-align: left; }
td.path { white-space: normal; overflow-wrap: anywhere; text-align: left; }
code, .digest { font-family: ui-monospace, monospace; font-size: 12px; }
.notice { background: #fff3cd; border-left: 4px solid #e0a800; padding: .5rem .8rem; margin: .5rem 0; }
.note { color: #555; font-size: 13px; max-width: 52rem; }
.beside { display: flex; gap: 3rem; flex-wrap: wrap; }
iframe { border: 0; width: 100%; }
"""


def write_page(inspection: Inspection, folder: Path, command: str) -> list[Path]:
    """Draw an inspection, and lay it out on one page.

    The files of an older page are replaced when the new ones are complete; other files stay.

    Parameters
    ----------
    inspection : Inspection
    folder : Path
        Directory for the page, its pictures and the smoothed template; made if it does not exist.
    command : str
        What to type to decode this recording.

    Returns
    -------
    files : list of Path
        What was written, the page first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{UNFINISHED}*"):
        if time.time() - left.stat().st_mtime > LEFT_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=folder) as place:
        page, *others = _draw_page(inspection, Path(place), command)
        # The page last: it holds all of its pictures, so that it is whole at every moment.
        for file in [*others, page]:
            file.replace(folder / file.name)
    names = [file.name for file in (page, *others)]
    for name in PAGE_FILES:
        if name not in names:
            (folder / name).unlink(missing_ok=True)
    return [folder / name for name in names]


def _draw_page(inspection: Inspection, folder: Path, command: str) -> list[Path]:
    """Draw everything into an empty directory; return the files, the page first."""
    recording = inspection.recording
    title = f"{recording.dataset} subject {recording.subject}"
    template = draw_template(folder)
    drawn = {
        name: draw(inspection, folder / f"{name}.png")
        for name, draw in zip(
            PICTURES,
            (draw_anatomy, draw_mean_volume, draw_roi, draw_design, draw_strip, draw_quality),
            strict=True,
        )
    }
    pictures = {name: file for name, file in drawn.items() if file is not None}
    view = _interactive_mean(inspection)

    parts = [f"<h1>{html.escape(title)}</h1>", _facts(inspection)]
    parts += [f'<div class="notice">{html.escape(notice)}</div>' for notice in inspection.notices]
    parts += ["<h2>Files</h2>", _files_table(inspection.files)]
    parts += [
        "<h2>The template, raw and smoothed</h2>",
        _picture(template[0], "nilearn's MNI152 template, raw and smoothed"),
        f'<p class="note">nilearn\'s MNI152 template, smoothed by {SMOOTHING} mm (FWHM), written to '
        f"<code>{template[1].name}</code> and read back from there.</p>",
    ]
    if "anatomy" in pictures:
        parts += ["<h2>Anatomy</h2>", _picture(pictures["anatomy"], "the anatomical image")]
    parts += ["<h2>Mean volume</h2>"]
    if view is None:
        parts += [_picture(pictures["mean_volume"], "mean over all volumes")]
    else:
        x, y, z = np.array(inspection.mean_volume.shape) * nib.affines.voxel_sizes(inspection.affine)
        height = round(PAGE_WIDTH * max(y, z) / (y + 2 * x)) + 40  # y-z, x-z and x-y stand in a row
        parts += [
            f'<iframe title="mean volume" height="{height}" scrolling="no" '
            f'srcdoc="{html.escape(view)}"></iframe>',
            '<p class="note">Mean over all volumes; click to move through it.</p>',
        ]
    if "roi" in pictures:
        parts += ["<h2>Region of interest</h2>", _picture(pictures["roi"], "the region of interest")]
    parts += ["<h2>Labels</h2>", _labels_tables(inspection)]
    parts += [
        "<h2>Design</h2>",
        _picture(pictures["design"], "condition of every volume of every run"),
        '<p class="note">Every volume in the colour of its condition; the black line marks the volumes that '
        f"the contrast {html.escape(inspection.contrast.name)} selects.</p>",
        "<h3>Volumes per run and condition</h3>",
        _table(inspection.conditions.assign(all=inspection.conditions.sum(axis=1)).reset_index()),
    ]
    parts += ["<h2>Single volumes</h2>", _picture(pictures["volumes"], "single volumes")]
    if not inspection.shapes.empty:
        parts += ["<h2>Shapes before and after selection</h2>", _table(inspection.shapes)]
    parts += ["<h2>Signal quality</h2>", _picture(pictures["quality"], "global signal and DVARS")]
    parts += [_quality_table(inspection)]
    parts += ["<h2>Decode it</h2>", f"<p><code>{html.escape(command)}</code></p>"]

    page = folder / PAGE_FILES[0]
    page.write_text(
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n",
        encoding="utf-8",
    )
    return [page, *template, *pictures.values()]


# Pictures ---------------------------------------------------------------------------------------------------


def draw_template(folder: Path) -> tuple[Path, Path]:
    """Smooth the MNI152 template, write it, read it back, and draw it under the raw one.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    picture, image : Path
        PNG and NIfTI.
    """
    from nilearn.datasets import MNI152_FILE_PATH
    from nilearn.image import smooth_img
    from nilearn.plotting import plot_img

    picture, image = (folder / name for name in TEMPLATE_FILES)
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
    """Draw the anatomical image, where there is one; see `write_page`."""
    anat = inspection.recording.anat
    if anat is None:
        return None
    _draw_image(read_anatomy(anat), file, _centre(inspection))
    return file


def draw_mean_volume(inspection: Inspection, file: Path) -> Path:
    """Draw the mean over all volumes; see `write_page`."""
    _draw_image(_mean_image(inspection), file, _centre(inspection))
    return file


def draw_roi(inspection: Inspection, file: Path) -> Path | None:
    """Draw the region of interest on the anatomy, or on the mean volume where there is none."""
    from nilearn.plotting import plot_roi

    if inspection.roi_mask is None:
        return None
    anat = inspection.recording.anat
    mask = nib.Nifti1Image(inspection.roi_mask.astype(np.int8), inspection.affine)
    mode, cuts, size = _views(mask, _centre(inspection))
    with new_figure(file, size) as figure:
        background = "the mean volume" if anat is None else "the anatomy"
        n_voxels = inspection.roi_mask.sum()
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
    """Draw the condition of every volume, one strip per run; see `write_page`."""
    labels, runs = inspection.recording.labels, inspection.conditions.index.tolist()
    colours = _condition_colours(inspection)
    selected = np.zeros(len(labels), dtype=bool)
    selected[inspection.selected] = True
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
        # Bars of no length: one entry of the legend per condition.
        for condition, colour in colours.items():
            axes.barh(0, 0, color=colour, label=literal(condition))
        axes.set_yticks(range(len(runs)), [f"run {run}" for run in runs])
        axes.set_ylim(len(runs) - 0.4, -0.6)
        axes.set_xlim(0, int(inspection.conditions.sum(axis=1).max()))
        t_r = inspection.recording.t_r
        axes.set_xlabel("volume of the run" + (f" (one every {t_r:g} s)" if t_r else ""))
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.tick_params(left=False)
        figure.legend(loc="outside right upper", fontsize=9, frameon=False)
    return file


def draw_strip(inspection: Inspection, file: Path) -> Path:
    """Draw one slice of some single volumes; see `write_page`."""
    labels = inspection.recording.labels
    slices, across = {}, ""
    for index, volume in sorted(inspection.strip.items()):
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
    """Draw global signal and DVARS over the volumes, and mark the outliers; see `write_page`."""
    runs = inspection.recording.labels["run"].to_numpy()
    volumes = np.arange(len(runs))
    begins = np.flatnonzero(np.r_[True, runs[1:] != runs[:-1]])
    with new_figure(file, (9.8, 4.2)) as figure:
        figure.set_layout_engine("constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        for axes, values, name in (
            (upper, inspection.global_signal, "global signal"),
            (lower, inspection.dvars, "DVARS (%)"),
        ):
            for start, stop in zip(begins, [*begins[1:], len(runs)], strict=True):
                axes.plot(volumes[start:stop], values[start:stop], color="#0072B2", linewidth=0.8)
                axes.axvline(start - 0.5, color="#cccccc", linewidth=0.6, zorder=0)
            out = inspection.outliers
            axes.plot(volumes[out], values[out], "o", color="#D55E00", markersize=3.5, label="outlier")
            axes.set_ylabel(name)
            axes.margins(x=0.005)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
        if inspection.outliers.any():
            figure.legend(
                *upper.get_legend_handles_labels(), loc="outside upper right", frameon=False, fontsize=9
            )
        lower.set_xlabel("volume; grey lines: a run begins")
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
    """Return display mode, cuts and size: three views, or the only one that a single slice has."""
    flat = [axis for axis, n in enumerate(image.shape[:3]) if n == 1]
    if not flat:
        return "ortho", centre, (9.5, 3.6)
    place = apply_affine(image.affine, (0, 0, 0)) if centre is None else centre
    return "xyz"[flat[0]], [place[flat[0]]], (5.5, 3.6)


def _bright(image: nib.Nifti1Image) -> float:
    values = np.asarray(image.dataobj)
    return float(np.percentile(values[values > 0], 99.5)) if (values > 0).any() else 1.0


def _mean_image(inspection: Inspection) -> nib.Nifti1Image:
    return nib.Nifti1Image(inspection.mean_volume, inspection.affine)


def _densest(inspection: Inspection) -> list[int]:
    """Return, for every axis, the slice with the most voxels of the ROI, or of the brain without a ROI."""
    mask = inspection.quality_mask if inspection.roi_mask is None else inspection.roi_mask
    return [
        int(mask.sum(axis=tuple(other for other in range(3) if other != axis)).argmax()) for axis in range(3)
    ]


def _centre(inspection: Inspection) -> tuple[float, ...]:
    return tuple(float(mm) for mm in apply_affine(inspection.affine, _densest(inspection)))


def _thin_axis(inspection: Inspection) -> int:
    """Return the axis that a slice is cut across: that of a single slice, else the one closest to z."""
    flat = [axis for axis, n in enumerate(inspection.mean_volume.shape) if n == 1]
    return flat[0] if flat else int(np.abs(inspection.affine[2, :3]).argmax())


def _slice(volume: np.ndarray, inspection: Inspection) -> tuple[np.ndarray, str]:
    """Cut a slice, its rows upwards, with what to call it."""
    axis = _thin_axis(inspection)
    index = _densest(inspection)[axis]
    return np.take(volume, index, axis=axis).T, f"slice {index} of voxel axis {'ijk'[axis]}, as stored"


def _aspect(inspection: Inspection) -> float:
    sizes = np.delete(nib.affines.voxel_sizes(inspection.affine), _thin_axis(inspection))
    return float(sizes[1] / sizes[0])


def _spans(chosen: np.ndarray) -> list[tuple[int, int]]:
    """Return start and length of every stretch of True."""
    edges = np.flatnonzero(np.diff(np.r_[False, chosen, False].astype(int)))
    return [(int(start), int(stop - start)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def _condition_colours(inspection: Inspection) -> dict[str, str]:
    names = inspection.conditions.columns.tolist()
    shown = [name for name in names if name != "rest"]
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(shown)}
    return colours | ({"rest": RESTING} if "rest" in names else {})


def _interactive_mean(inspection: Inspection) -> str | None:
    """Return a page of the mean volume, or None where it is one slice, or too large to carry."""
    from nilearn.plotting import view_img

    if min(inspection.mean_volume.shape) < 4 or not inspection.mean_volume.any():
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


# Words and tables -------------------------------------------------------------------------------------------


def _picture(file: Path, alternative: str) -> str:
    content = base64.b64encode(file.read_bytes()).decode("ascii")
    return f'<img alt="{html.escape(alternative)}" src="data:image/png;base64,{content}">'


def _facts(inspection: Inspection) -> str:
    recording = inspection.recording
    shape = inspection.mean_volume.shape
    sizes = " x ".join(f"{size:.3g}" for size in nib.affines.voxel_sizes(inspection.affine))
    header = _seconds(inspection.header_t_r)
    facts = {
        "image": describe_files(recording.bold),
        "volumes": f"{len(recording.labels)} of {' x '.join(str(n) for n in shape)} voxels, {sizes} mm each",
        "runs": f"{len(inspection.conditions)}",
        "repetition time": f"{_seconds(recording.t_r)} (in the image's header: {header})",
        "anatomy": "none" if recording.anat is None else str(recording.anat),
        "masks": ", ".join(recording.masks) or "none",
    }
    rows = "".join(
        f'<tr><th class="text">{name}</th><td class="path">{html.escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    return f"<table>{rows}</table>"


def _seconds(t_r: float | None) -> str:
    return "not known" if t_r is None else f"{t_r:g} s"


def _files_table(files: pd.DataFrame) -> str:
    rows = []
    for _, row in files.iterrows():
        size = f"{row['bytes'] / 1e6:.1f} MB" if row["bytes"] >= 1e5 else f"{row['bytes'] / 1e3:.1f} kB"
        cells = [row["what"], Path(row["file"]).name, row["shape"], row["voxel_mm"], row["dtype"]]
        rows.append(
            "<tr>"
            + "".join(f'<td class="text">{html.escape(str(cell))}</td>' for cell in cells)
            + f'<td>{size}</td><td class="text digest">{row["sha256"]}</td></tr>'
        )
    names = ["", "file", "shape", "voxel (mm)", "type", "size", "SHA-256"]
    head = "".join(f'<th class="text">{name}</th>' for name in names)
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _table(table: pd.DataFrame) -> str:
    body = table.rename_axis(columns=None).to_html(
        index=False, border=0, na_rep="-", float_format=lambda value: f"{value:.4g}"
    )
    return f'<div class="scroll">{body}</div>'


def _labels_tables(inspection: Inspection) -> str:
    labels = inspection.recording.labels
    counts = inspection.conditions.sum().rename("volumes").to_frame().rename_axis("condition").reset_index()
    first = labels.head(N_LABEL_ROWS).rename_axis("volume").reset_index()
    return (
        f'<div class="beside"><div><p class="note">The first {len(first)} of {len(labels)} rows</p>'
        f'{_table(first)}</div><div><p class="note">Volumes per condition</p>'
        f"{_table(counts)}</div></div>"
    )


def _quality_table(inspection: Inspection) -> str:
    names = {
        "mean": "mean signal",
        "sd": "SD over time",
        "tsnr": "tSNR",
        "tsnr_roi": f"tSNR in {inspection.roi.name}",
        "dvars": "DVARS (%)",
    }
    quality = inspection.quality.rename(columns=names)
    runs = inspection.recording.labels["run"].to_numpy()
    outliers = np.flatnonzero(inspection.outliers)
    listed = "; ".join(
        f"run {run}: {', '.join(str(index) for index in outliers[runs[outliers] == run])}"
        for run in np.unique(runs[outliers])
    )
    mask = f"{inspection.quality_mask.sum()} voxels: {html.escape(inspection.quality_mask_name)}"
    return (
        f'{_table(quality.reset_index())}<p class="note">Over {mask}. tSNR: mean over SD of a voxel\'s time '
        "course, trends included; SD and tSNR are medians over voxels. DVARS: root mean square change since "
        "the volume before, in percent of the run's mean signal; it also jumps where volumes were left out "
        "of the file. Outliers: modified z-score above 3.5 within the run, of DVARS (upwards) or of the "
        "global signal (both ways). Nothing is left out of a run because of it.</p>"
        f'<p class="note">Outlier volumes: {listed or "none"}.</p>'
    )
