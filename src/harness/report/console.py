"""The console that tables and messages are printed on, and how numbers and times are written there."""

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from harness.errors import escape_controls

if TYPE_CHECKING:
    from harness.tracking.store import Store

FILE_WIDTH = 160  # columns, where the output is not a terminal


class PlainConsole(Console):
    """A console without markup: a path or a condition may hold brackets, ``:cat:``, or control characters."""

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)
        if not self.is_terminal:
            self.width = FILE_WIDTH

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as rich's text; rich calls this for every string that it prints."""
        return super().render_str(escape_controls(text), **options)


def plus_minus() -> str:
    """Return the sign between a mean and its SD in characters that standard output can encode."""
    try:
        "±".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return "+/-"
    return "±"


def format_score(mean: float | None, sd: float | None) -> str:
    """Write a mean with its SD over folds; empty without a mean, and without SD where there is one fold."""
    if mean is None or pd.isna(mean):
        return ""
    return f"{mean:.3f}" if sd is None or pd.isna(sd) else f"{mean:.3f} {plus_minus()} {sd:.3f}"


def format_moment(moment: datetime) -> str:
    """Write a date and time, to the minute, with the year only where it is not this one."""
    text = moment.isoformat(sep=" ", timespec="minutes")[:16]
    return text[5:] if moment.year == datetime.now().year else text


def format_duration(seconds: float | None) -> str:
    """Write a duration in seconds, minutes or hours; ``-`` where it is unknown."""
    if seconds is None or pd.isna(seconds):
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def print_store_commands(console: Console, store: "Store", which: str = "") -> None:
    """Print the commands that compare and show the runs of a store."""
    console.print(f"compare  python -m harness compare{store.argument}{which}", soft_wrap=True)
    if store.directory is not None:
        console.print(f"browse   python -m harness ui{store.argument}{which}", soft_wrap=True)
