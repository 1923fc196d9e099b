"""The page of an interactive map: nilearn's view with a title, details and a legend."""

import html
import json
from collections.abc import Callable
from pathlib import Path

from harness.errors import escape_controls

STYLE = 'style="font: 14px/1.4 sans-serif; margin: 8px; max-width: 70em; overflow-wrap: anywhere"'
TITLE_PLACE = "the-title-of-this-page"  # placeholder until the page is written


def write_view(
    render: Callable[..., str], file: Path, *, short: str, title: str, details: str, legend: str
) -> None:
    """Write a standalone HTML page on which a map can be browsed slice by slice.

    Parameters
    ----------
    render : callable
        Returns nilearn's page, given arguments of `nilearn.plotting.view_img`.
    short : str
        What is written into the view itself, which has little space.
    """
    # A cross would cover the largest value, at which the view opens.
    page = render(title=TITLE_PLACE, draw_cross=False, black_bg=True)
    # nilearn inserts the title into the page and into a script without escaping it.
    page = page.replace(f'"{TITLE_PLACE}"', _quote_for_script(escape_controls(short)))
    title, details, legend = (html.escape(escape_controls(text)) for text in (title, details, legend))
    page = page.replace(f"Nilearn - {TITLE_PLACE}", title).replace(TITLE_PLACE, title)
    above = f"<div {STYLE}><b>{title}</b><br>{details}</div>"
    page = page.replace("<body>", f"<body>\n{above}", 1)
    help_text = "Opens at the largest value. Click into a slice to move all three."
    before, end, after = page.rpartition("</body>")
    page = f"{before}<div {STYLE}>{legend} {help_text}</div>\n{end}{after}"
    file.write_text(page, encoding="utf-8")


def _quote_for_script(text: str) -> str:
    """Return a text as a JavaScript string, without characters that could end the script element."""
    quoted = json.dumps(text)
    for sign in "<>&":
        quoted = quoted.replace(sign, f"\\u{ord(sign):04x}")
    return quoted
