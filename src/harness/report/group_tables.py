"""What is printed of scores over subjects, and the files of a group summary."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from harness.inference.corrections import format_p
from harness.report.console import format_score, plus_minus
from harness.report.spreadsheets import write_csv

if TYPE_CHECKING:
    from harness.comparison.group import GroupSummary

WIDTH_OF_COLUMNS = 100  # characters of a terminal below which all options share a column

EXPLAINED = {
    "null mean": "null mean: of the subjects' null distributions.",
    "p means": "p means: permutation of means; null hypothesis: in no subject.",
    "majority": "majority: prevalence; null hypothesis: in at most half of the population.",
    "more than": "more than: the share of the population above which the effect is present (5 % level).",
    "sign flip": "sign flip: one-sided, against 0.5, global null.",
}


def print_groups(console: Console, groups: Sequence["GroupSummary"]) -> None:
    """Print a table per score with one row per group, and the notes, each of them once."""
    if not groups:
        return
    params = pd.DataFrame([dict(group.params) for group in groups]).fillna("")
    varying = [str(name) for name in params if params[name].nunique() > 1]
    for score in dict.fromkeys(group.score for group in groups):
        _print_score(console, score, [group for group in groups if group.score == score], varying)
    n_groups = len({tuple(group.params.items()) for group in groups})
    rows = [_make_row(group, n_groups) for group in groups]
    explained = [text for title, text in EXPLAINED.items() if any(row.get(title) for row in rows)]
    if any("-" in row.values() for row in rows):
        explained.append("-: cannot be significant.")
    if n_groups > 1 and explained:
        explained.append(f"P-values are corrected over {n_groups} groups (Holm), the shares are not.")
    console.print(" ".join([f"mean {plus_minus()} SD over subjects (ddof=1).", *explained]))
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
    table = Table(title=f"{score.replace('_', ' ')} over subjects{several}", title_justify="left")
    rows = [_make_row(group, len(groups)) for group in groups]
    filled = [name for name in rows[0] if any(row[name] for row in rows)]
    merged = len(varying) > 1 and console.width < WIDTH_OF_COLUMNS
    for name in ["options"] if merged else varying:
        table.add_column(name, overflow="fold")
    for name in filled:
        # A heading may wrap between its words; numbers may not.
        least = max(cell_len(part) for part in (*name.split(), *(row[name] for row in rows)))
        table.add_column(name, justify="right", min_width=least)
    for group, row in zip(groups, rows, strict=True):
        options = [group.params.get(name, "") for name in varying]
        table.add_row(*([" ".join(options)] if merged else options), *(row[name] for name in filled))
    console.print(table)


def _make_row(group: "GroupSummary", n_groups: int) -> dict[str, str]:
    """Return the cells of a group."""
    cells = {"n": str(group.n), f"mean {plus_minus()} SD": format_score(group.mean, group.sd)}
    cells["null mean"] = "" if group.mean_test is None else f"{group.null_mean:.3f}"
    for test, title in (
        ("means", "p means"),
        ("prevalence_majority", "majority"),
        ("sign_flip", "sign flip"),
    ):
        if title == "sign flip":
            found = group.prevalence
            cells["more than"] = "" if found is None or found.gamma0 is None else f"{found.gamma0:.2f}"
        p = group.p_holm.get(test, group.p_values.get(test))
        # A p-value that could not have been small would be read as evidence for the null hypothesis.
        cells[title] = "" if p is None else format_p(p) if group.can_be_significant(test, n_groups) else "-"
    return cells


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
