"""Published values against obtained ones, as a table for the terminal, for files and for pages."""

import math
from collections import Counter
from collections.abc import Sequence

import pandas as pd
from rich.table import Table

from harness.comparison.published import Item
from harness.comparison.published_cells import Cell, CellVerdict
from harness.report.console import PlainConsole
from harness.report.report_page import write_score

MAX_FOLDS = 20  # values in a row of all folds
MAX_WRITTEN = 4  # values in a cell; of more, their number is written
COLUMNS = ("section", "quantity", "fold", "published", "obtained", "comparison")


def is_applicable(cells: Sequence[Cell]) -> bool:
    """Whether published values are of the data and the settings of any of the cells."""
    return any(cell.verdict != CellVerdict.not_applicable for cell in cells)


def find_common_reason(cells: Sequence[Cell]) -> str:
    """Return why no cell is applicable, if it is one reason for all; else an empty text."""
    reasons = {(cell.verdict, cell.reason) for cell in cells}
    verdict, reason = next(iter(reasons)) if len(reasons) == 1 else (None, "")
    return reason if verdict == CellVerdict.not_applicable else ""


def tabulate_cells(cells: Sequence[Cell], known: str = "") -> pd.DataFrame:
    """Return one row per cell: `section, quantity, fold, published, obtained, comparison`, as texts.

    The reason `known` is left out of them.
    """
    rows = [
        (
            cell.section,
            write_score(cell.quantity),
            "" if cell.fold is None else str(cell.fold),
            write_values(cell.published, cell.decimals),
            write_values(cell.obtained, None),
            describe_cell(cell, known),
        )
        for cell in cells
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def list_cells(cells: Sequence[Cell]) -> pd.DataFrame:
    """Return one row per cell for CSV: numbers as they are, several values as one text with spaces."""
    return pd.DataFrame(
        {
            "section": [cell.section for cell in cells],
            "quantity": [cell.quantity for cell in cells],
            "fold": pd.array([cell.fold for cell in cells], dtype="Int64"),
            "published": [" ".join(map(str, cell.published)) for cell in cells],
            "obtained": [" ".join(map(str, cell.obtained)) for cell in cells],
            "verdict": [cell.verdict.value for cell in cells],
            "difference": pd.array([cell.difference for cell in cells], dtype="Float64"),
            "reason": [cell.reason for cell in cells],
        }
    )


def write_values(values: Sequence[Item], decimals: int | None) -> str:
    """Write values; of long lists, such as coefficients, their number; ``-`` if there is none."""
    if not values:
        return "-"
    if len(values) > MAX_WRITTEN:
        return f"{len(values)} values"
    return " ".join(_write(value, decimals) for value in values)


def _write(value: Item, decimals: int | None, digits: int = 6) -> str:
    if isinstance(value, str | int):
        return str(value)
    if not math.isfinite(value):
        return "not defined"
    if decimals is not None:
        return f"{value:.{decimals}f}"
    return f"{value:.{digits}g}" if value != int(value) else f"{value:.1f}"


def describe_cell(cell: Cell, known: str = "") -> str:
    """Describe a comparison in words: ``equal``, ``differs by ...``, ``not applicable`` with the reason.

    The reason `known`, which is printed once for all cells, is left out.
    """
    if cell.verdict == CellVerdict.equal:
        return "equal"
    if cell.verdict != CellVerdict.differs and cell.reason == known:
        return cell.verdict.value
    if cell.verdict != CellVerdict.differs:
        return f"{cell.verdict}: {cell.reason}"
    parts = [] if cell.difference is None else [f"by {cell.difference:+.2g}"]
    parts += [f"({cell.reason})"] if cell.reason else []
    return " ".join(["differs", *parts])


def count_verdicts(cells: Sequence[Cell]) -> str:
    """Count the cells by their verdict: ``31 equal, 2 differ, 3 not applicable``."""
    counts = Counter(cell.verdict for cell in cells)
    words = {
        CellVerdict.differs: "differ",
        CellVerdict.missing: "without a run",
        CellVerdict.absent: "without a value",
    }
    return ", ".join(
        f"{counts[verdict]} {words.get(verdict, verdict.value)}" for verdict in CellVerdict if counts[verdict]
    )


def tabulate_obtained(cells: Sequence[Cell]) -> pd.DataFrame:
    """Return one row per quantity, as texts: `section, quantity, obtained`, with three digits."""
    folds: dict[tuple[str, str], list[Item]] = {}
    for cell in cells:
        folds.setdefault((cell.section, cell.quantity), []).extend(cell.obtained)
    rows = [
        (
            section,
            write_score(quantity),
            write_values(values, None)
            if len(values) > MAX_FOLDS
            else " ".join(_write(value, None, 3) for value in values) or "-",
        )
        for (section, quantity), values in folds.items()
    ]
    return pd.DataFrame(rows, columns=["section", "quantity", "obtained"])


def print_cells(cells: Sequence[Cell], source: str) -> None:
    """Print published against obtained values, with the source of the former.

    Of sections to which no published value applies, the obtained ones alone.
    """
    console = PlainConsole()
    sections = {
        name: [cell for cell in cells if cell.section == name]
        for name in dict.fromkeys(cell.section for cell in cells)
    }
    compared = [cell for chosen in sections.values() if is_applicable(chosen) for cell in chosen]
    others = [cell for chosen in sections.values() if not is_applicable(chosen) for cell in chosen]
    if compared:
        console.print(_make_table("Published and obtained values", tabulate_cells(compared)))
    if others:
        console.print(_make_table("Obtained values, without comparison", tabulate_obtained(others)))
    common = find_common_reason(cells)
    for reason in () if common else dict.fromkeys(cell.reason for cell in others):
        names = dict.fromkeys(cell.section for cell in others if cell.reason == reason)
        console.print(f"{', '.join(names)}: not applicable: {reason}")
    if compared:
        console.print(f"source   {source}")
    console.print(f"cells    {count_verdicts(cells)}" + (f": {common}" if common else ""))


def _make_table(title: str, shown: pd.DataFrame) -> Table:
    """Return a table for the terminal, in which a section and a quantity stand once."""
    table = Table(title=title, title_justify="left")
    one_per_fold = "fold" in shown
    for name in shown:
        is_number = one_per_fold and name in ("fold", "published", "obtained")
        table.add_column(str(name), overflow="fold", justify="right" if is_number else "left")
    before = ("", "")
    for row in shown.itertuples(index=False):
        section, quantity, *rest = map(str, row)
        repeated = (section == before[0], (section, quantity) == before)
        table.add_row("" if repeated[0] else section, "" if repeated[1] else quantity, *rest)
        before = (section, quantity)
    return table
