"""The parts of an inspection's page, with the anchors and files by which other pages link them."""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

PAGE = "index.html"
INDEX = "contents.json"


@dataclass(frozen=True)
class PagePart:
    """A part of the page.

    Attributes
    ----------
    id : str
        Its anchor in the page; it never changes.
    file : str
        Its file in the directory of the page; of a table, the page itself.
    what : str
        What it shows.
    data : str
        The image that was drawn, where that is written, too.
    """

    id: str
    file: str
    what: str
    data: str = ""


PAGE_PARTS = (
    PagePart("orientation", PAGE, "axis codes and affine of the image, and where left is in the figures"),
    PagePart("template", "template.png", "nilearn's MNI152 template"),
    PagePart(
        "template_smoothed",
        "template_smoothed.png",
        "the template smoothed with FWHM 3 mm, written as NIfTI and loaded again",
        "template_smoothed_3mm.nii.gz",
    ),
    PagePart("anatomy", "anatomy.png", "the anatomical image"),
    PagePart("mean_volume", "mean_volume.png", "the mean over all volumes"),
    PagePart("mean_volume_interactive", "mean_volume.html", "the same, to move through"),
    PagePart("roi", "roi.png", "the mask on the anatomy, or on the mean volume where there is none"),
    PagePart("labels", PAGE, "the label table and the unique conditions"),
    PagePart("design", "design.png", "the condition of every volume, and which the contrast selects"),
    PagePart("volumes", "volumes.png", "single volumes, by index or condition (volumes=0,17,face)"),
    PagePart("shapes", PAGE, "shapes before and after the selection of volumes"),
    PagePart("quality", "quality.png", "global signal and DVARS over time, and their outliers"),
)
"""In the order of the page, which may lack ``anatomy``, ``mean_volume_interactive``, ``roi``, ``shapes``."""


def list_parts(ids: Collection[str]) -> list[PagePart]:
    """Return the parts of these ids, in the order of the page."""
    return [part for part in PAGE_PARTS if part.id in ids]


def write_index(parts: Collection[PagePart], file: Path) -> None:
    """Write the parts of a page as JSON: a list of objects with ``id``, ``file``, ``what`` and ``data``."""
    file.write_text(json.dumps([asdict(part) for part in parts], indent=1) + "\n", encoding="utf-8")
