"""CSV files in which spreadsheets never read text as a formula."""

import re
from pathlib import Path

import pandas as pd

from harness.errors import escape_controls

# A cell that starts with one of these is run as a formula (OWASP, CSV injection), also in full width.
# The apostrophe itself is quoted as well, so that taking one away always gives the text back.
FORMULA_STARTS = tuple("=+-@\t\n\uff1d\uff0b\uff0d\uff20'")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def write_csv(table: pd.DataFrame, file: Path) -> None:
    """Write a table as CSV, without its index.

    Text that starts with ``= + - @``, a tab, a line break or an apostrophe gets an apostrophe in front, and
    control characters are written out. Numbers stay as they are, also where they are text.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    text = [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
    quoted = table.assign(**{name: table[name].map(_quote) for name in text})
    quoted.rename(columns=_quote).to_csv(file, index=False)


def _quote(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = escape_controls(value)  # a carriage return would begin a row
    return f"'{text}" if text.startswith(FORMULA_STARTS) and not NUMBER.fullmatch(text) else text
