"""Tables in several layouts, of which the first that fits the terminal is printed."""

from collections.abc import Collection, Sequence

import pandas as pd
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

RIGHT = ("test ", "selected ", "took")  # the beginnings of headings of columns of numbers


def print_first_that_fits(
    console: Console,
    candidates: Sequence[pd.DataFrame],
    wrapping: str = "",
    sections: Collection[int] = (),
    right: Sequence[str] = RIGHT,
) -> int:
    """Print the first table that fits without breaking a word, else the last one; return its place.

    Parameters
    ----------
    candidates : sequence of DataFrame of str
        The same rows in several layouts, the widest first.
    wrapping : str
        The column that wraps, between words only.
    sections : collection of int
        Rows that have a line above them.
    right : sequence of str
        The beginnings of headings of columns that are aligned to the right.
    """
    fits = [_needed_width(cells, wrapping) <= console.width for cells in candidates]
    chosen = fits.index(True) if any(fits) else len(fits) - 1
    table = Table()
    for name in map(str, candidates[chosen]):
        is_right = name.replace("\n", " ").startswith(tuple(right))
        table.add_column(
            name, justify="right" if is_right else "left", no_wrap=name != wrapping, overflow="fold"
        )
    for number, row in enumerate(candidates[chosen].itertuples(index=False)):
        if number in sections:
            table.add_section()
        table.add_row(*row)
    console.print(table)
    return chosen


def _needed_width(cells: pd.DataFrame, wrapping: str) -> int:
    """Return the width in columns of a table in which only one column wraps, between words."""
    width = 1
    for name, column in cells.items():
        parts = "\n".join([str(name), *column])
        width += 3 + max(
            cell_len(part) for part in (parts.split() if name == wrapping else parts.splitlines())
        )
    return width
