"""What is printed of scores over subjects, and the files of a group summary."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from harness.report.console import format_score, plus_minus
from harness.report.spreadsheets import write_csv

if TYPE_CHECKING:
    from harness.comparison.group import GroupSummary

WIDTH_OF_COLUMNS = 100  # characters of a terminal below which all options share a column


def print_groups(console: Console, groups: Sequence["GroupSummary"]) -> None:
    """Print a table per score with one row per group, and the notes, each of them once."""
    if not groups:
        return
    from harness.comparison.group_table import explain_columns, format_groups, tabulate_groups

    params = pd.DataFrame([dict(group.params) for group in groups]).fillna("")
    varying = [str(name) for name in params if params[name].nunique() > 1]
    for score in dict.fromkeys(group.score for group in groups):
        _print_score(console, score, [group for group in groups if group.score == score], varying)
    cells = format_groups(tabulate_groups(groups))
    console.print(explain_columns(cells, groups))
    for note, which in _collect_notes(groups, varying).items():
        console.print(f"note: {which}{note}", style="yellow")


def write_group_files(scores: Sequence["GroupSummary"], directory: Path) -> None:
    """Write ``group.csv`` (one row per subject and score) and ``group.json`` of one configuration.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    from harness.comparison.group_record import group_to_json, tabulate_subjects

    write_csv(tabulate_subjects(scores), directory / "group.csv")
    (directory / "group.json").write_text(group_to_json(scores), encoding="utf-8")


def _print_score(
    console: Console, score: str, groups: Sequence["GroupSummary"], varying: Sequence[str]
) -> None:
    several = "" if groups[0].is_primary else " (not corrected for several scores)"
    from harness.comparison.group_table import format_groups, tabulate_groups

    table = Table()
    cells = format_groups(tabulate_groups(groups))
    spread = [format_score(group.mean, group.sd) for group in groups]
    cells.insert(1, f"mean {plus_minus()} SD", spread)
    cells = cells.drop(columns=["mean", "SD"], errors="ignore")
    merged = len(varying) > 1 and console.width < WIDTH_OF_COLUMNS
    for name in ["options"] if merged else varying:
        table.add_column(name, overflow="fold")
    for name in map(str, cells):
        # A heading may wrap between its words; numbers may not.
        least = max(cell_len(part) for part in (*name.split(), *cells[name]))
        table.add_column(name, justify="right", min_width=least)
    for group, row in zip(groups, cells.to_numpy().tolist(), strict=True):
        options = [group.params.get(name, "") for name in varying]
        table.add_row(*([" ".join(options)] if merged else options), *row)
    # Not the table's own title, which a narrow table would wrap.
    console.print(f"{score.replace('_', ' ')} over subjects{several}", style="italic")
    console.print(table)


def _collect_notes(groups: Sequence["GroupSummary"], varying: Sequence[str]) -> dict[str, str]:
    """Return every note once, with the groups that it concerns unless it concerns all."""
    concerned: dict[str, list[GroupSummary]] = {}
    for group in groups:
        for note in group.notes:
            concerned.setdefault(note, []).append(group)
    n_params = len({tuple(group.params.items()) for group in groups})
    described = {}
    for note, those in concerned.items():
        keys = {tuple(group.params.get(name, "") for name in varying): None for group in those}
        described[note] = "" if len(keys) == n_params else "; ".join(" ".join(key) for key in keys) + ": "
    return described
