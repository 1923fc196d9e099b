"""The page of the tutorial: every section with its question, values, figures and how to read them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd

from harness.comparison.published_cells import Cell
from harness.errors import HarnessError
from harness.report.inspection_index import PAGE, PagePart
from harness.report.map_figures import view_aspect
from harness.report.published_table import count_verdicts, find_common_reason, is_applicable, tabulate_cells
from harness.report.report_page import (
    Block,
    DataTable,
    Drawing,
    Frame,
    Links,
    Section,
    StoredFigure,
    Text,
    write_report,
    write_words,
)
from harness.report.run_record import RunRecord
from harness.report.run_report import DecodingBlocks
from harness.tracking.stored_run import StoredRun
from harness.tracking.tags import NOTICES_TAG

CONFUSION = ("holdout30", "kfold5", "stratified5", "leave_one_run_out", "dummy")  # sections that show it
LOOKED_AT = ("roi", "design")  # parts of the inspection's page that this one shows, too
VOLUMES_FIGURE = "predicted_volumes.png"
SUMMARY = "summary"
HEADING = 0.1  # height of the heading of a stored view, in units of its width


@dataclass(frozen=True, eq=False)
class TutorialSection:
    """What the page shows of a section.

    Attributes
    ----------
    command : str
        Runs this section alone.
    of_published : str
        How to read the published values, which is shown where they apply.
    run : StoredRun or str
        Its finished run, or why there is none.
    """

    name: str
    title: str
    question: str
    reading: str
    command: str
    run: StoredRun | str
    cells: Sequence[Cell] = ()
    of_published: str = ""


@dataclass(frozen=True, eq=False)
class LookingSection:
    """What the page shows of the section before decoding.

    Attributes
    ----------
    directory : str
        Of the page of `inspect`, relative to this page.
    parts : sequence of PagePart
        Of that page.
    """

    title: str
    question: str
    reading: str
    command: str
    directory: str
    parts: Sequence[PagePart]


def write_tutorial_page(
    title: str,
    subtitle: str,
    source: str,
    looking: LookingSection,
    sections: Sequence[TutorialSection],
    directory: Path,
) -> list[Path]:
    """Write the page; see `harness.report.report_page.write_report`.

    Parameters
    ----------
    source : str
        Where the values were published.
    """
    blocks = [_summarise(source, sections), _describe_looking(looking, directory)]
    return write_report(title, subtitle, [*blocks, *map(describe_section, sections)], directory)


def _summarise(source: str, sections: Sequence[TutorialSection]) -> Section:
    """Return the counts of the comparison, by section, and the notices of the runs."""
    cells = [cell for section in sections for cell in section.cells]
    notices = {
        notice
        for section in sections
        if isinstance(section.run, StoredRun)
        for notice in section.run.tags.get(NOTICES_TAG, "").splitlines()
    }
    table = pd.DataFrame(
        {
            "section": [section.title for section in sections],
            "published against obtained": [count_verdicts(section.cells) or "-" for section in sections],
            "run": [
                section.run.run_id[:8] if isinstance(section.run, StoredRun) else "no run"
                for section in sections
            ],
        }
    )
    blocks: list[Block] = [Text(f"Published against obtained values: {count_verdicts(cells)}.", "lead")]
    blocks += [Text(notice, "notice") for notice in sorted(notices)]
    blocks += [DataTable(table, "Sections with the same run share it."), Text(f"Source: {source}", "note")]
    return Section(SUMMARY, "Summary", tuple(blocks))


def _describe_looking(looking: LookingSection, page: Path) -> Section:
    """Return the section with the figures to look at first, and links to all of them."""
    blocks: list[Block] = [Text(looking.question, "lead"), Text(looking.command, "copy")]
    home = looking.directory
    items = [{"the page of this subject": f"{home}/{PAGE}"}]
    for part in looking.parts:
        files = [name for name in (part.file, part.data) if name and name != PAGE]
        items.append({part.what: f"{home}/{PAGE}#{part.id}"} | {name: f"{home}/{name}" for name in files})
        if part.id in LOOKED_AT:
            caption = f"{part.what[:1].upper()}{part.what[1:]}."
            try:
                blocks.append(StoredFigure((page / home / part.file).read_bytes(), caption, caption))
            except OSError as error:
                blocks.append(Text(f"The figure is missing: {error}", "notice"))
    blocks.append(Links("What the page shows, and the files:", items))
    return Section("looking", looking.title, (*blocks, Text(f"How to read it. {looking.reading}")))


def describe_section(section: TutorialSection) -> Section:
    """Return a section of the page; what cannot be read says why."""
    blocks: list[Block] = [Text(section.question, "lead"), Text(section.command, "copy")]
    if section.cells:
        reason = find_common_reason(section.cells)
        shown = tabulate_cells(section.cells, reason).drop(columns="section")
        shown = shown.loc[:, [name != "fold" or bool(shown[name].any()) for name in shown]]
        caption = "Published values, and those of this run."
        if reason:
            shown = shown.drop(columns=["published", "comparison"])
            caption = f"Values of this run. Published values are not applicable: {reason}."
        blocks.append(DataTable(shown, caption))
    if isinstance(section.run, StoredRun):
        blocks += _show_run(section.name, section.run)
        which = section.run.run_id[:8]
        blocks.append(Text(f"More on this run: python -m harness report {which}", "note"))
    else:
        blocks.append(Text(f"This section has no run: {section.run}", "notice"))
    blocks.append(Text(f"How to read it. {section.reading}"))
    if section.of_published and is_applicable(section.cells):
        blocks.append(Text(f"In the published values, {section.of_published}"))
    return Section(section.name, section.title, blocks)


def _show_run(name: str, run: StoredRun) -> list[Block]:
    """Return the figures of a section; a note for one that the run lacks."""
    record = RunRecord(run, "not read again")
    try:
        if name in CONFUSION:
            found = DecodingBlocks(record).confusion()
            return [replace(block, name=f"confusion_{name}") for block in found if isinstance(block, Drawing)]
        if name == "coefficients":
            return _show_weights(record)
        if name == "predicted_volumes":
            caption = "Single held-out volumes with their true and predicted class."
            return [StoredFigure(run.read_file(VOLUMES_FIGURE), caption, caption)]
    except HarnessError as error:
        return [
            Text(
                f"The figure is missing: {error}. Figures are drawn with figures=full, and not again for a "
                "run that had finished before; resume=false figures=full draws them.",
                "notice",
            )
        ]
    return []


def _show_weights(record: RunRecord) -> list[Block]:
    """Return the figure of the weights on the anatomy, and their interactive view."""
    blocks: list[Block] = []
    for weights in record.map_names[:1]:
        words = f"Weights of {write_words(weights)}"
        caption = f"{words}, mean over the folds, on the anatomical image, or the mean volume without one."
        image = record.run.read_image(f"weights_{weights}.nii.gz")
        view = record.run.read_file(f"weights_{weights}.html").decode("utf-8")
        blocks += [
            StoredFigure(record.run.read_file(f"weights_{weights}.png"), caption, caption),
            # The page of a run has a heading above its view.
            Frame(f"interactive view: {words}", partial(str, view), view_aspect(image) + HEADING),
        ]
    return blocks
