"""Standalone HTML pages, rendered from the templates of this package."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined


def render_page(template: str, **content: Any) -> str:
    """Render a template; every value is escaped.

    Parameters
    ----------
    template : str
        Name of a file in ``templates/``; it extends ``page.html.j2``, which has the style.
    **content
        Values by the names that the template uses.
    """
    environment = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"image_uri": encode_image, "cell": format_cell}
    return environment.get_template(template).render(**content)


def encode_image(file: Path) -> str:
    """Return a PNG as a data URI, so that the page needs no other file."""
    return encode_figure(file.read_bytes())


def encode_figure(content: bytes) -> str:
    """Return the content of a PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def format_cell(value: object) -> str:
    """Write a cell of a table: four significant digits, ``-`` for NaN."""
    if not isinstance(value, float):
        return str(value)
    return "-" if pd.isna(value) else f"{value:.4g}"


def table_content(table: pd.DataFrame) -> dict[str, Sequence[Any]]:
    """Return the columns and rows of a table, without its index, for the macro ``table``."""
    return {"columns": [str(name) for name in table.columns], "rows": list(table.itertuples(index=False))}
