"""The results of a design check: a page, tables in files, and what is printed."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from harness.checks.design_check import LEVEL, DesignCheck, describe_balance
from harness.report.canvas import literal, new_figure
from harness.report.console import PlainConsole
from harness.report.html import render_page, table_content
from harness.report.spreadsheets import write_csv

PAGE, PICTURE, TABLE, RECORD = "index.html", "accuracies.png", "design.csv", "design.json"
MAX_BALANCES = 10  # pairs of classes that the page shows
PREDICTS, NEUTRAL = "#D55E00", "#0072B2"
COLUMNS = ("variable", "accuracy", "roc_auc", "null_mean", "null_low", "null_high", "p", "p_corrected")
HEADINGS = {
    "null_mean": "relabelled: mean",
    "null_low": "2.5 %",
    "null_high": "97.5 %",
    "p_corrected": "p corrected",
    "mean_position": "mean position",
}


def write_check(check: DesignCheck, directory: Path, command: str) -> list[Path]:
    """Write the page, its picture and the tables of a design check.

    Files of an older check are replaced when all new ones are complete.

    Parameters
    ----------
    directory : Path
        Made if it does not exist.
    command : str
        Command line of the analysis.

    Returns
    -------
    files : list of Path
        The page first.
    """
    directory.mkdir(parents=True, exist_ok=True)
    names = [TABLE, RECORD, PICTURE, PAGE]
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=directory) as unfinished:
        home = Path(unfinished)
        write_csv(check.table, home / TABLE)
        record = json.dumps(check.to_dict(), indent=2, default=str) + "\n"
        (home / RECORD).write_text(record, encoding="utf-8", errors="backslashreplace")
        draw_accuracies(check, home / PICTURE)
        page = render_page(
            "design.html.j2", **describe_check(check), accuracies=home / PICTURE, command=command
        )
        (home / PAGE).write_text(page, encoding="utf-8", errors="backslashreplace")
        for name in names:
            (home / name).replace(directory / name)
    return [directory / name for name in reversed(names)]


def describe_check(check: DesignCheck) -> dict[str, Any]:
    """Return the texts and tables of the page, by the names that its template uses."""
    shown = check.table[list(COLUMNS)].rename(columns=HEADINGS)
    return {
        "title": f"Design check: {check.title}",
        "conclusion": check.conclusion,
        "findings": check.findings,
        "variables": table_content(shown),
        "how": describe_relabellings(check),
        "descriptions": dict(zip(check.table["variable"], check.table["description"], strict=True)),
        "positions": table_content(check.positions.rename(columns=HEADINGS)),
        "balances": [f"{describe_balance(balance)}." for balance in check.balances[:MAX_BALANCES]],
        "n_hidden": max(0, len(check.balances) - MAX_BALANCES),
        "notices": check.notices,
    }


def describe_relabellings(check: DesignCheck) -> str:
    """Return which relabellings the p-values are from."""
    n = check.n_relabellings
    if check.is_enumerated:
        return f"All {n} distinct relabellings; the smallest possible p is {1 / n:.2g}."
    return (
        f"The true classes and {n - 1} random relabellings: a p-value of .05 has a standard error of "
        f"{(0.05 * 0.95 / n) ** 0.5:.3f}; inference=permutation inference.n=N takes N."
    )


def draw_accuracies(check: DesignCheck, file: Path) -> None:
    """Draw the accuracy of every variable on its null distribution."""
    table = check.table[check.table["accuracy"].notna()]
    rows = range(len(table))
    with new_figure(file, (7.5, 1.3 + 0.42 * max(len(table), 1))) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        axes.hlines(rows, table["null_low"], table["null_high"], color="#bbbbbb", linewidth=6, zorder=1)
        axes.plot(table["null_mean"], rows, "|", color="#555555", markersize=14, zorder=2)
        colours = [PREDICTS if p <= LEVEL else NEUTRAL for p in table["p_corrected"]]
        axes.scatter(table["accuracy"], rows, color=colours, zorder=3)
        axes.set_title(
            literal(f"{check.title}: design variables, orange: corrected p <= {LEVEL}"), fontsize=9
        )
        axes.set_yticks(list(rows), [literal(name) for name in table["variable"]])
        axes.set_ylim(len(table) - 0.4, -0.6)
        axes.set_xlim(-0.03, 1.03)
        axes.set_xlabel("accuracy (mean over folds); grey: mean and 95 % interval under relabelled blocks")
        axes.spines[["top", "right"]].set_visible(False)


def print_check(check: DesignCheck, files: Sequence[Path]) -> None:
    """Print the table, the order of the classes, the conclusion and the files."""
    console = PlainConsole()
    table = Table(title=f"Design check: {check.title}", title_justify="left")
    for name in COLUMNS:
        table.add_column(HEADINGS.get(name, name), justify="left" if name == "variable" else "right")
    for values in check.table[list(COLUMNS)].itertuples(index=False):
        table.add_row(*(_format_value(value) for value in values))
    console.print(table)
    console.print(
        f"relabelled: accuracies of relabelled blocks. {describe_relabellings(check)}", soft_wrap=True
    )
    for balance in check.balances[:1]:
        console.print(f"order    {describe_balance(balance)}", soft_wrap=True)
    for text in check.notices:
        console.print(text, style="yellow", soft_wrap=True)
    console.print(check.conclusion, style="bold", soft_wrap=True)
    for finding in check.findings:
        console.print(f"- {finding}", style="yellow", soft_wrap=True)
    page, *others = files
    for file in others:
        console.print(f"file     {file}", soft_wrap=True)
    console.print(f"page     {page}", soft_wrap=True)


def _format_value(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return "-" if pd.isna(value) else f"{value:.3f}" if value >= 0.001 or value == 0 else f"{value:.2g}"
