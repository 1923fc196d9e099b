"""A report: sections of texts, tables and figures, written as one page and the files of its figures."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.errors import HarnessError, UsageError, escape_controls, format_error
from harness.report.canvas import save_publication
from harness.report.html import encode_figure, render_page, table_content

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, RECORD = "index.html", "report.json"
LINE = 50  # characters; longer texts in tables are broken into lines, other than digests


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Attributes
    ----------
    kind : {"", "lead", "note", "notice", "copy"}
        How it is shown; ``copy``: selected as a whole with one click.
    """

    text: str
    kind: str = ""
    tag: str = "text"


@dataclass(frozen=True, eq=False)
class DataTable:
    """A table with a caption; its numbers are written with four significant digits."""

    table: pd.DataFrame
    caption: str = ""
    tag: str = "table"

    @property
    def content(self) -> dict[str, Sequence[Any]]:
        """Columns and rows for the template."""
        return table_content(self.table)

    @property
    def sentence_columns(self) -> list[bool]:
        """Which columns hold sentences, which are broken into lines."""
        return [
            is_text and bool((self.table.iloc[:, place].astype(str).str.len() > LINE).any())
            for place, is_text in enumerate(self.text_columns)
        ]

    @property
    def text_columns(self) -> list[bool]:
        """Which columns hold text, which is aligned at the left."""
        return [not pd.api.types.is_numeric_dtype(dtype) for dtype in self.table.dtypes]


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure that is drawn when the report is written, as PNG and as SVG.

    Attributes
    ----------
    name : str
        Of its files, without suffix.
    size : tuple of float
        Width and height in inches.
    draw : callable
        Draws on an empty matplotlib figure.
    alternative : str
        What the figure shows, for readers who do not see it.
    caption : str
    """

    name: str
    size: tuple[float, float]
    draw: "Callable[[Figure], None]"
    alternative: str
    caption: str


@dataclass(frozen=True, eq=False)
class WrittenFigure:
    """A figure whose files are written."""

    png: Path
    svg: Path
    alternative: str
    caption: str
    width: float
    tag: str = "figure"


@dataclass(frozen=True, eq=False)
class StoredFigure:
    """A PNG that a run has stored, which the page contains."""

    content: bytes
    alternative: str
    caption: str
    tag: str = "stored_figure"

    @property
    def source(self) -> str:
        """The figure as a data URI."""
        return encode_figure(self.content)


@dataclass(frozen=True)
class Links:
    """A list of links to files next to the page.

    Attributes
    ----------
    items : sequence of mapping of str to str
        Of every item the paths, relative to the page, by the texts of the links.
    """

    text: str
    items: Sequence[Mapping[str, str]]
    tag: str = "links"


@dataclass(frozen=True)
class Frame:
    """A page inside the page, such as an interactive view of a brain.

    Attributes
    ----------
    render : callable
        Returns a whole HTML page that loads nothing, when the report is written.
    aspect : float
        Height over width of what it shows.
    """

    title: str
    render: Callable[[], str]
    aspect: float


@dataclass(frozen=True)
class WrittenFrame:
    """A page inside the page as HTML."""

    title: str
    content: str
    aspect: float
    tag: str = "frame"


Block = Text | DataTable | Drawing | Frame | StoredFigure | Links
Written = Text | DataTable | WrittenFigure | WrittenFrame | StoredFigure | Links


@dataclass(frozen=True)
class Section:
    """A heading and what follows it."""

    anchor: str
    heading: str
    blocks: Sequence[Block] = field(default_factory=tuple)


def make_section(anchor: str, heading: str, build: Callable[[], Sequence[Block]]) -> Section:
    """Return a section; if its content cannot be read, it says why."""
    try:
        return Section(anchor, heading, tuple(build()))
    except HarnessError as error:
        return Section(anchor, heading, (Text(f"This section is missing: {error}", "notice"),))


def write_report(title: str, subtitle: str, sections: Sequence[Section], directory: Path) -> list[Path]:
    """Write a report, its page last; sections without content are left out.

    When all new files are complete, those of an older report in this directory are replaced, and those that
    the new one lacks are removed. Other files stay.

    Parameters
    ----------
    directory : Path
        Made if it does not exist.

    Returns
    -------
    files : list of Path
        The page first.

    Raises
    ------
    UsageError
        If the directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=directory) as unfinished:
            names = _write_files(title, subtitle, sections, Path(unfinished))
            older = _read_record(directory)
            for name in names:
                (Path(unfinished) / name).replace(directory / name)
        for name in older:
            if name not in names:
                (directory / name).unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"the report cannot be written to {directory}: {error}; choose another directory with --out"
        ) from error
    return [directory / name for name in reversed(names) if name != RECORD]


def _write_files(title: str, subtitle: str, sections: Sequence[Section], home: Path) -> list[str]:
    """Write all files into an empty directory; return their names, the page last."""
    names: list[str] = []
    shown = []
    for section in sections:
        written = [_write_block(block, home) for block in section.blocks]
        if written:
            shown.append({"anchor": section.anchor, "heading": section.heading, "blocks": written})
        figures = [block for block in written if isinstance(block, WrittenFigure)]
        names += [file.name for figure in figures for file in (figure.png, figure.svg)]
    page = render_page("report.html.j2", title=title, subtitle=subtitle, sections=shown)
    (home / PAGE).write_text(page, encoding="utf-8", errors="backslashreplace")
    names += [RECORD, PAGE]
    (home / RECORD).write_text(json.dumps({"files": names}, indent=1) + "\n", encoding="utf-8")
    return names


def _write_block(block: Block, home: Path) -> Written:
    if isinstance(block, Frame):
        try:
            return WrittenFrame(block.title, block.render(), block.aspect)
        except Exception as error:  # the plotting packages document none
            return Text(f"The {block.title} could not be made: {format_error(error)}", "notice")
    if not isinstance(block, Drawing):
        return block
    files = [home / f"{block.name}{suffix}" for suffix in (".png", ".svg")]
    try:
        save_publication(files, block.size, block.draw)
    except OSError:
        raise
    except Exception as error:  # the plotting packages document none
        for file in files:
            file.unlink(missing_ok=True)
        return Text(f"The figure {block.name} could not be drawn: {format_error(error)}", "notice")
    png, svg = files
    return WrittenFigure(png, svg, block.alternative, block.caption, block.size[0])


def _read_record(directory: Path) -> list[str]:
    """Return the names of the files of an older report; none where there is no report."""
    try:
        names = json.loads((directory / RECORD).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [name for name in names if isinstance(name, str) and _is_report_file(name)]


def _is_report_file(name: str) -> bool:
    """Return whether a name can be that of a file of a report, in the same directory."""
    return Path(name).name == name and Path(name).suffix in (".png", ".svg", ".html", ".json")


def write_number(value: float, digits: int = 3) -> str:
    """Write a score; ``not defined`` for NaN."""
    return "not defined" if pd.isna(value) else f"{value:.{digits}f}"


def write_words(text: object) -> str:
    """Write a value of the data as plain words."""
    return escape_controls(str(text)).replace("_", " ")


def write_score(name: object) -> str:
    """Write the name of a score as words: ``test ROC AUC``."""
    return write_words(name).replace("roc auc", "ROC AUC")
