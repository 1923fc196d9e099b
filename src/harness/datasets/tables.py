"""Text tables, TSV or CSV, read as text: what pandas would guess is refused."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from harness.errors import DataError, first_line

MISSING = "n/a"  # BIDS's one spelling of a missing value
# How other programs write it. None and null are not among them: they can be the name of a condition.
_OTHER_SPELLINGS = ("", "N/A", "#N/A", "NA", "<NA>", "NaN", "nan")


def is_missing(cell: str) -> bool:
    """Return whether a cell has no value: ``n/a``, an empty cell, or another program's NaN."""
    return cell == MISSING or cell in _OTHER_SPELLINGS


def read_table(file: Path, needed: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table whose first line names the columns.

    Cells are stripped. Columns are separated by tabs if the first line has one, else by commas. A byte order
    mark, any line ends and empty lines are accepted.

    Parameters
    ----------
    needed : sequence of str
        Required columns.

    Returns
    -------
    table : DataFrame of str
        The index, named ``line``, is the row's line in the file.

    Raises
    ------
    DataError
        If it is not such a table, a row has another number of cells than the first line, or a column is
        missing or duplicate.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # a file that is not text raises a ValueError
        raise DataError(
            f"{file} cannot be read as text: {first_line(error)}; expected a table, saved as UTF-8"
        ) from error
    first = next((line for line in text.splitlines() if line.strip()), "")
    tabs = "\t" in first
    # TSV has no quoting: a quotation mark is a character there.
    reader = csv.reader(
        io.StringIO(text),
        delimiter="\t" if tabs else ",",
        quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
        strict=True,
    )
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num} cannot be read as a table: {error}") from error
    rows = [(line, row) for line, row in rows if any(row)]
    header = rows[0][1] if rows else []
    for column in needed:
        if column not in header:
            raise DataError(
                f"{file} has no column {column!r}; its first line has {', '.join(header[:20]) or 'nothing'}, "
                f"but expected {', '.join(needed)}, separated by tabs or commas"
            )
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise DataError(f"{file} has the column {twice[0]!r} twice; expected every column once")
    if len(rows) < 2:
        raise DataError(f"{file} has no rows below its first line; expected at least one")
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise DataError(
                f"{file}, line {line} has {len(row)} cells, but the first line names {len(header)} columns: "
                f"{' | '.join(row)[:60]!r}"
            )
    index = pd.Index([line for line, _ in rows[1:]], name="line")
    return pd.DataFrame([row for _, row in rows[1:]], columns=header, index=index, dtype=str)


def read_confounds(files: Sequence[Path], n_volumes: Sequence[int]) -> pd.DataFrame:
    """Read and concatenate the confounds of every run.

    Parameters
    ----------
    files : sequence of Path
        One table per run, one row per volume, as fMRIPrep writes them.

    Returns
    -------
    confounds : DataFrame with one row per volume
        Columns of floats, or of text if a cell is not a number; NaN if a value is missing, or the run lacks a
        column that another run has. fMRIPrep has one column per outlier volume: it is 0 in the other runs.

    Raises
    ------
    DataError
        If a table cannot be read, or has another number of rows than its run has volumes.
    """
    tables = []
    for file, expected in zip(files, n_volumes, strict=True):
        table = read_table(file)
        if len(table) != expected:
            raise DataError(
                f"{file} has {len(table)} rows, but its run has {expected} volumes; expected one row per "
                "volume"
            )
        tables.append(as_numbers(table))
    columns = list(dict.fromkeys(column for table in tables for column in table.columns))
    whole = []
    for table in tables:
        absent = [column for column in columns if "_outlier" in column and column not in table]
        whole.append(table.reindex(columns=columns).fillna(dict.fromkeys(absent, 0.0)))
    return pd.concat(whole, ignore_index=True)


def as_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Convert columns of numbers to floats, with NaN for missing values; others stay text."""
    return table.apply(_as_floats)


def _as_floats(column: pd.Series) -> pd.Series:
    known = column.mask(column.map(is_missing))
    try:
        pd.to_numeric(known)  # stricter than float(), which reads 1_0 as 10, but not exact to the last digit
    except ValueError:
        return known
    return known.astype(float)
