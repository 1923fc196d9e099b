"""Figures of matrices: confusions, scores of subjects and contrasts, and dissimilarities of conditions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.report.canvas import lay_out, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

MAX_WRITTEN = 400  # cells; the values of larger matrices are in the table only


def count_confusions(predictions: pd.DataFrame, classes: Sequence[str]) -> NDArray[np.int_]:
    """Return how often volumes of a class (rows) were predicted as each class (columns)."""
    table = pd.crosstab(predictions["class"].astype(str), predictions["predicted"].astype(str))
    names = list(classes)
    counts: NDArray[np.int_] = table.reindex(index=names, columns=names, fill_value=0).to_numpy(dtype=int)
    return counts


def draw_confusions(figure: "Figure", counts: NDArray[np.int_], classes: Sequence[str]) -> None:
    """Draw a confusion matrix: number of volumes, and share of those of the true class."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    texts = [
        [f"{n}\n{share:.0%}" for n, share in zip(*row, strict=True)]
        for row in zip(counts, shares, strict=True)
    ]
    lay_out(figure)
    axes = figure.subplots()
    _draw_cells(axes, shares, texts, (0.0, 1.0), "Blues")
    _name_axes(axes, classes, classes)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")


def tabulate_scores(means: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return the mean of a score by subject (rows) and contrast (columns).

    Parameters
    ----------
    means : DataFrame with columns ``subject``, ``contrast`` and `score`
        One row per subject and contrast.
    """
    table = means.pivot(index="subject", columns="contrast", values=score)
    return table.loc[sorted(table.index, key=_order)]


def draw_scores(figure: "Figure", table: pd.DataFrame, chance: float | None, score: str) -> None:
    """Draw a matrix of scores, subjects by contrasts; combinations without a run are empty."""
    lay_out(figure)
    axes = figure.subplots()
    values = table.to_numpy(dtype=float)
    low = float(np.nanmin(values, initial=1.0))
    bottom = low if chance is None else min(chance, low)
    texts = [["" if np.isnan(value) else f"{value:.2f}" for value in row] for row in values]
    image = _draw_cells(axes, values, texts, (bottom, 1.0), "cividis")
    _name_axes(axes, [name.replace("_", " ") for name in table.columns], list(map(str, table.index)))
    axes.set_ylabel("subject")
    figure.colorbar(image, ax=axes, label=literal(score), shrink=0.8)


def make_dissimilarity(
    means: pd.DataFrame, pairs: dict[str, tuple[str, str]], score: str
) -> pd.DataFrame | None:
    """Return the matrix of conditions whose entries are the mean score of their pairwise decoding.

    Parameters
    ----------
    means : DataFrame with columns ``contrast`` and `score`, one row per run
    pairs : dict
        The two conditions of every contrast that has two classes of one condition each.

    Returns
    -------
    matrix : DataFrame or None
        Symmetric, NaN on the diagonal and where no run decodes the pair; None for fewer than 3 conditions.
    """
    conditions = list(dict.fromkeys(name for pair in pairs.values() for name in pair))
    if len(conditions) < 3:
        return None
    matrix = pd.DataFrame(np.nan, index=conditions, columns=conditions)
    for contrast, value in means.groupby("contrast")[score].mean().items():
        if str(contrast) in pairs:
            first, second = pairs[str(contrast)]
            matrix.loc[first, second] = matrix.loc[second, first] = value
    return matrix


def draw_dissimilarity(figure: "Figure", matrix: pd.DataFrame, score: str) -> None:
    """Draw a matrix of `make_dissimilarity`."""
    lay_out(figure)
    axes = figure.subplots()
    values = matrix.to_numpy(dtype=float)
    texts = [["" if np.isnan(value) else f"{value:.2f}" for value in row] for row in values]
    bottom = min(0.5, float(np.nanmin(values, initial=0.5)))
    image = _draw_cells(axes, values, texts, (bottom, 1.0), "viridis")
    _name_axes(axes, list(map(str, matrix.columns)), list(map(str, matrix.index)))
    figure.colorbar(image, ax=axes, label=literal(score), shrink=0.8)


def matrix_size(n_rows: int, n_columns: int, cell: float = 0.5) -> tuple[float, float]:
    """Return the size in inches of a figure of a matrix, at most the width of a page."""
    return (min(7.0, max(2.6, 1.7 + cell * n_columns)), min(9.0, max(2.0, 1.2 + cell * n_rows)))


def _draw_cells(
    axes: "Axes",
    values: NDArray[np.float64],
    texts: Sequence[Sequence[str]],
    limits: tuple[float, float],
    colours: str,
) -> "AxesImage":
    """Draw cells with their texts, black on light and white on dark ones."""
    from matplotlib import colormaps

    cmap = colormaps[colours].with_extremes(bad="#f0f0f0")
    image = axes.imshow(
        np.ma.masked_invalid(values), cmap=cmap, vmin=limits[0], vmax=limits[1], aspect="auto"
    )
    if values.size <= MAX_WRITTEN:
        size = 8 if max(values.shape) <= 4 else 6.5 if max(values.shape) <= 9 else 5
        for (row, column), value in np.ndenumerate(values):
            shade = (value - limits[0]) / max(limits[1] - limits[0], 1e-9)
            red, green, blue, _ = cmap(shade)
            dark = np.isfinite(value) and 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            colour = "white" if dark else "black"
            axes.text(column, row, texts[row][column], ha="center", va="center", fontsize=size, color=colour)
    axes.spines[:].set_visible(False)
    return image


def _name_axes(axes: "Axes", columns: Sequence[str], rows: Sequence[str]) -> None:
    long = len(columns) > 3 or max((len(name) for name in columns), default=0) > 12
    turn = 0 if not long else 65 if len(columns) > 12 else 40
    axes.set_xticks(
        range(len(columns)),
        [_shorten(name) for name in columns],
        rotation=turn,
        ha="right" if long else "center",
    )
    axes.set_yticks(range(len(rows)), [_shorten(name) for name in rows])
    axes.tick_params(length=0)


def _shorten(name: str) -> str:
    return literal(name if len(name) <= 28 else f"{name[:26]}...")


def _order(value: object) -> tuple[int, float, str]:
    """Order numbers by value, before other words."""
    text = str(value)
    return (0, float(text), "") if text.replace(".", "", 1).isdigit() else (1, 0.0, text)
