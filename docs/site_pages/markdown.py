"""Markdown of generated pages: tables and code."""

import re
from collections.abc import Iterable, Sequence


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; bars in its cells are escaped, and line ends become spaces."""
    lines = [header, ["---"] * len(header), *([_escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def format_code(value: object) -> str:
    """Return a value as inline code; nothing for an empty one."""
    text = str(value)
    return f"`{text}`" if text else ""


def to_markdown(text: str) -> str:
    """Return the text of a docstring or of ``--help`` as Markdown: one paragraph, or a list.

    Double backticks become single ones, None becomes null. Angle brackets, but for line breaks, and
    asterisks outside of code are escaped.
    """
    text = re.sub(r"``(.+?)``", r"`\1`", text)
    text = re.sub(r"\bNone\b", "`null`", text)
    parts = re.split(r"(`[^`]*`|<br>|\[[^\]]*\]\([^)]*\))", text)
    return "".join(
        part if part.startswith(("`", "<br>", "[")) else re.sub(r"([<>*])", r"\\\1", part) for part in parts
    )


def _escape(cell: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(cell.split()))
