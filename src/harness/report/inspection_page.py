"""The page of an inspection: one HTML file with its figures inside."""

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from harness.checks.inspection import Inspection
from harness.datasets.recording import describe_files
from harness.report.html import render_page, table_content
from harness.report.inspection_charts import draw_design, draw_quality
from harness.report.inspection_figures import (
    PAGE_WIDTH,
    SMOOTHING,
    draw_anatomy,
    draw_mean_volume,
    draw_roi,
    draw_template,
    draw_volumes,
    find_centre,
    render_mean_view,
)
from harness.report.inspection_index import INDEX, PAGE, PAGE_PARTS, PagePart, list_parts, write_index
from harness.report.orientation import describe_orientation, name_cuts

N_LABEL_ROWS = 12
DRAWN = ("anatomy", "mean_volume", "roi", "design", "volumes", "quality")
"""Ids of the figures that are drawn from the recording."""

PAGE_FILES = tuple(
    dict.fromkeys([PAGE, INDEX, *(part.file for part in PAGE_PARTS), *(p.data for p in PAGE_PARTS if p.data)])
)
UNFINISHED = ".unfinished-"  # prefix of the directory in which a page is drawn
MAX_AGE = 3600  # seconds, after which such a directory was left by a killed process
QUALITY_COLUMNS = {"mean": "mean signal", "sd": "SD over time", "tsnr": "tSNR", "dvars": "DVARS (%)"}


@dataclass(frozen=True)
class WrittenPage:
    """A page that is written.

    Attributes
    ----------
    files : list of Path
        The page, the index of its parts, the template and its smoothed image, and the figures.
    parts : list of PagePart
        What the index lists.
    """

    files: list[Path]
    parts: list[PagePart]


def write_page(inspection: Inspection, directory: Path, command: str) -> WrittenPage:
    """Draw an inspection, and write its page.

    The files of an older page are replaced when the new ones are complete; other files stay.

    Parameters
    ----------
    directory : Path
        Made if it does not exist.
    command : str
        Command line that decodes this recording.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for left in directory.glob(f"{UNFINISHED}*"):
        if time.time() - left.stat().st_mtime > MAX_AGE:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=directory) as unfinished:
        drawn = _draw_page(inspection, Path(unfinished), command)
        page, *others = drawn.files
        # The page last: it contains its figures, so that it is complete at every moment.
        for file in [*others, page]:
            file.replace(directory / file.name)
    names = [file.name for file in (page, *others)]
    for name in PAGE_FILES:
        if name not in names:
            (directory / name).unlink(missing_ok=True)
    return WrittenPage([directory / name for name in names], drawn.parts)


def _draw_page(inspection: Inspection, directory: Path, command: str) -> WrittenPage:
    """Draw everything into an empty directory."""
    template, smoothed, image = draw_template(directory)
    draw = (draw_anatomy, draw_mean_volume, draw_roi, draw_design, draw_volumes, draw_quality)
    drawn = {
        name: draw_one(inspection, directory / f"{name}.png")
        for name, draw_one in zip(DRAWN, draw, strict=True)
    }
    figures = {"template": template, "template_smoothed": smoothed}
    figures |= {name: file for name, file in drawn.items() if file is not None}
    files = [image, *figures.values()]
    ids = {"orientation", "labels", *figures}
    view = render_mean_view(inspection)
    if view is not None:
        ids.add("mean_volume_interactive")
        files.append(directory / "mean_volume.html")
        files[-1].write_text(view, encoding="utf-8")
    if not inspection.design.shapes.empty:
        ids.add("shapes")
    parts = list_parts(ids)
    write_index(parts, directory / INDEX)
    content = describe_inspection(inspection) | {
        "figures": figures,
        "template_name": image.name,
        "smoothing": SMOOTHING,
        "view": view,
        "command": command,
        "parts": parts,
    }
    page = directory / PAGE
    page.write_text(render_page("inspection.html.j2", **content), encoding="utf-8")
    return WrittenPage([page, directory / INDEX, *files], parts)


def describe_inspection(inspection: Inspection) -> dict[str, Any]:
    """Return the texts and tables of the page, by the names that its template uses."""
    recording, design = inspection.recording, inspection.design
    conditions = design.conditions
    per_condition = conditions.sum().rename("volumes").to_frame().rename_axis("condition").reset_index()
    in_roi = {"tsnr_roi": f"tSNR in {inspection.roi.name}"}
    quality = inspection.quality.per_run.rename(columns=QUALITY_COLUMNS | in_roi)
    voxels = inspection.volumes
    x, y, z = np.array(voxels.mean.shape) * nib.affines.voxel_sizes(voxels.affine)
    return {
        "title": f"{recording.dataset} subject {recording.subject}",
        "facts": _list_facts(inspection),
        "orientation": describe_orientation(inspection),
        "affine": [[f"{value:g}" for value in row] for row in inspection.volumes.affine],
        "cuts": name_cuts(find_centre(inspection)),
        "notices": inspection.notices,
        "files": [_describe_file(row) for _, row in inspection.files.iterrows()],
        # The view has the planes y-z, x-z and x-y in a row.
        "view_height": round(PAGE_WIDTH * max(y, z) / (y + 2 * x)) + 40,
        "labels": table_content(recording.labels.head(N_LABEL_ROWS).rename_axis("volume").reset_index()),
        "n_volumes": len(recording.labels),
        "unique_conditions": ", ".join(str(name) for name in conditions.columns),
        "volumes_per_condition": table_content(per_condition),
        "contrast": inspection.contrast.name,
        "conditions": table_content(conditions.assign(all=conditions.sum(axis=1)).reset_index()),
        "shapes": table_content(design.shapes),
        "quality": table_content(quality.reset_index()),
        "quality_voxels": f"{voxels.quality_mask.sum()} voxels: {voxels.quality_mask_name}",
        "outliers": _list_outliers(inspection),
    }


def _list_facts(inspection: Inspection) -> dict[str, str]:
    recording, volumes = inspection.recording, inspection.volumes
    shape = " x ".join(str(n) for n in volumes.mean.shape)
    sizes = " x ".join(f"{size:.3g}" for size in nib.affines.voxel_sizes(volumes.affine))
    header = _format_seconds(inspection.header_t_r)
    return {
        "image": describe_files(recording.bold),
        "volumes": f"{len(recording.labels)} of {shape} voxels, {sizes} mm each",
        "runs": f"{len(inspection.design.conditions)}",
        "repetition time": f"{_format_seconds(recording.t_r)} (in the image's header: {header})",
        "anatomy": "none" if recording.anat is None else str(recording.anat),
        "masks": ", ".join(recording.masks) or "none",
    }


def _format_seconds(t_r: float | None) -> str:
    return "not known" if t_r is None else f"{t_r:g} s"


def _describe_file(row: pd.Series) -> dict[str, Any]:
    size = f"{row['bytes'] / 1e6:.1f} MB" if row["bytes"] >= 1e5 else f"{row['bytes'] / 1e3:.1f} kB"
    text = [row["what"], Path(row["file"]).name, row["shape"], row["voxel_mm"], row["dtype"]]
    return {"text": text, "size": size, "sha256": row["sha256"]}


def _list_outliers(inspection: Inspection) -> str:
    """Return the outlier volumes of every run that has some."""
    runs: pd.Series = inspection.recording.labels["run"]
    outliers = pd.Series(np.flatnonzero(inspection.quality.outliers))
    groups = outliers.groupby(runs.to_numpy()[outliers])
    return "; ".join(f"run {run}: {', '.join(map(str, indices))}" for run, indices in groups)
