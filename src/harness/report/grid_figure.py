"""The figure of the scores of every value of a grid."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from harness.decoding.decode import Decoding
from harness.decoding.grid_scores import DESCRIPTIONS
from harness.report.canvas import literal, new_figure
from harness.report.captions import describe_data, describe_method, draw_caption

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours that people with any deficiency of colour vision can tell apart (Okabe & Ito 2008).
FOLD, MEAN, CHOSEN = "#999999", "#0072B2", "#D55E00"
MAX_COLUMNS = 4


def can_draw_grid(table: pd.DataFrame) -> bool:
    """Return whether a table of `Decoding.grid_scores` has a picture: several values, all numbers above 0."""
    values = table["value"]
    return values.nunique() > 1 and pd.api.types.is_numeric_dtype(values) and bool((values > 0).all())


def draw_grid(decoding: Decoding, file: Path) -> None:
    """Draw the score of every value of the grid, of every fold and their mean, as a PNG.

    One panel for two classes, one per class for more. The mean is over folds, for every place in the grid: of
    values that differ between folds (multiples of the smallest C), at their geometric mean.
    """
    table = decoding.grid_scores
    names = table["class"].unique().tolist() if "class" in table else []
    panels = {name: table[table["class"] == name] for name in names} or {"": table}
    n_columns = min(len(panels), MAX_COLUMNS)
    n_rows = -(-len(panels) // n_columns)
    size = (3.0 * n_columns + 0.6, 2.5 * n_rows + 1.4) if len(panels) > 1 else (7.5, 4.6)
    with new_figure(file, size) as figure:
        # A layout engine would draw everything twice.
        width, height = size
        figure.subplots_adjust(
            left=0.9 / width,
            right=1 - 0.15 / width,
            bottom=0.9 / height,
            top=1 - (0.75 if len(panels) == 1 else 1.0) / height,
            wspace=0.08,
            hspace=0.4,
        )
        grid = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True).ravel()
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes, (name, rows) in zip(grid, panels.items(), strict=False):
            _draw_panel(axes, rows)
            axes.set_xlabel(literal(str(table["parameter"].iloc[0])), fontsize=9)
            if name:
                axes.set_title(literal(f"{name} against the rest"), fontsize=9)
        scorer = str(table["scorer"].iloc[0])
        title = f"{describe_data(decoding)}: score of every {table['parameter'].iloc[0]} ({scorer})"
        draw_caption(figure, title, describe_method(decoding))
        figure.supylabel(
            literal(DESCRIPTIONS.get(scorer, scorer.replace("_", " "))), fontsize=9, x=0.08 / width
        )
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=3, fontsize=8, frameon=False)


def _draw_panel(axes: "Axes", rows: pd.DataFrame) -> None:
    folds = [fold.sort_values("value") for _, fold in rows.groupby("fold")]
    values = np.array([fold["value"] for fold in folds], dtype=float)
    scores = np.array([fold["score"] for fold in folds])
    for place, (x, y) in enumerate(zip(values, scores, strict=True)):
        axes.plot(x, y, color=FOLD, linewidth=0.7, label=None if place else "a fold")
    centre = np.exp(np.log(values).mean(axis=0))
    axes.plot(centre, scores.mean(axis=0), color=MEAN, linewidth=2.5, marker="s", label="mean over folds")
    chosen = rows[rows["chosen"]]
    # Folds that chose the same value with the same score would cover each other: the area shows their number.
    counts = chosen.groupby(["value", "score"]).size()
    x, y = (counts.index.get_level_values(level) for level in ("value", "score"))
    label = "chosen in a fold (area: number of folds)"
    axes.scatter(x, y, s=18 * counts, color=CHOSEN, alpha=0.8, linewidths=0, zorder=3, label=label)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.grid(alpha=0.25)
