"""The figure of the scores of every value of a grid."""

from pathlib import Path

import pandas as pd

from harness.decoding.decode import Decoding
from harness.report.canvas import new_figure
from harness.report.captions import describe_data, describe_method, draw_caption
from harness.report.score_figures import MAX_COLUMNS, draw_grid_scores


def can_draw_grid(table: pd.DataFrame) -> bool:
    """Return whether a table of `Decoding.grid_scores` has a picture: several values, all numbers above 0."""
    values = table["value"]
    return values.nunique() > 1 and pd.api.types.is_numeric_dtype(values) and bool((values > 0).all())


def draw_grid(decoding: Decoding, file: Path) -> None:
    """Draw the score of every value of the grid, of every fold and their mean, as a PNG.

    One panel for two classes, one per class for more.
    """
    table = decoding.grid_scores
    n_panels = table["class"].nunique() if "class" in table else 1
    size = (7.5, 4.6)
    if n_panels > 1:
        size = (3.0 * min(n_panels, MAX_COLUMNS) + 0.6, 2.5 * -(-n_panels // MAX_COLUMNS) + 1.4)
    with new_figure(file, size) as figure:
        figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - 0.7 / size[1]))
        parameter, scorer = (table[name].iloc[0] for name in ("parameter", "scorer"))
        title = f"{describe_data(decoding)}: score of every {parameter} ({scorer})"
        draw_caption(figure, title, describe_method(decoding))
        draw_grid_scores(figure, table)
