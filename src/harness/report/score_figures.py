"""Figures of scores: per fold, per run of a sweep, by a parameter's value, and null distributions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from harness.decoding.grid_scores import DESCRIPTIONS
from harness.report.canvas import lay_out, literal
from harness.report.report_page import write_score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's colours, which people with any deficiency of colour vision can tell apart; and shapes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
BAND, CHANCE, FOLD = "#d9d9d9", "#555555", "#8a8a8a"
MAX_FOLD_LABELS = 24
MAX_COLUMNS = 4  # of panels, one per class


@dataclass(frozen=True)
class ChanceBand:
    """What a score is compared with.

    Attributes
    ----------
    middle : float
        Mean of the null distribution, or nominal chance.
    limits : tuple of float or None
        The 2.5th and 97.5th percentile of the null distribution of the mean over folds.
    highest : float
        Its 95th percentile: a mean above it has p of at most about .05. NaN without a null distribution.
    """

    middle: float
    limits: tuple[float, float] | None
    highest: float = np.nan

    @property
    def label(self) -> str:
        """What the band or the line is, for legends."""
        return "nominal chance" if self.limits is None else "mean under relabelling, 95 % range"


def make_band(null: np.ndarray | None, nominal: float) -> ChanceBand:
    """Return the band of a null distribution, or nominal chance without one.

    Parameters
    ----------
    null : ndarray of shape (n_relabellings,) or None
        Of random relabellings without the true labelling, see `harness.inference.corrections.drop_observed`.
    """
    if null is None or not np.isfinite(null).any():
        return ChanceBand(nominal, None)
    low, highest, high = map(float, np.nanpercentile(null, [2.5, 95, 97.5]))
    return ChanceBand(float(np.nanmean(null)), (low, high), highest)


def draw_folds(
    figure: "Figure",
    folds: pd.DataFrame,
    names: Mapping[str, str],
    bands: Mapping[str, ChanceBand],
    labels: Sequence[str],
    what: str,
) -> None:
    """Draw one panel per score: a point per fold, the mean with its SD, and the chance band.

    Parameters
    ----------
    folds : DataFrame, one row per fold
    names : mapping of str to str
        Columns to draw, with their words.
    labels : sequence of str
        One per fold, such as the held-out scanner run.
    what : str
        What the labels are.
    """
    lay_out(figure)
    n_columns = min(len(names), 2)
    n_rows = -(-len(names) // n_columns)
    panels = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True).ravel()
    x = np.arange(len(folds))
    drawn = [float(value) for value in folds[list(names)].min()]
    drawn += [(bands[column].limits or [bands[column].middle])[0] for column in names]
    lowest = min(0.4, *(value for value in drawn if np.isfinite(value)))
    for axes, (column, words) in zip(panels, names.items(), strict=False):
        values = folds[column].to_numpy(dtype=float)
        edges = (-0.7, len(folds) + 0.9)
        draw_band(axes, bands[column], edges)
        axes.plot(x, values, "o", color=COLOURS[0], markersize=4, label="fold")
        mean, sd = float(pd.Series(values).mean()), float(pd.Series(values).std())
        # A bar of the SD over folds at the right, where it covers no fold.
        axes.errorbar(
            len(folds) + 0.3, mean, yerr=None if np.isnan(sd) else sd, fmt="D", color=COLOURS[1],
            markersize=5, capsize=3, label="mean ± SD over folds",
        )  # fmt: skip
        axes.set_title(literal(words), fontsize=8.5)
        axes.set_xlim(*edges)
        axes.set_ylim(min(0.0, lowest) if lowest < 0.25 else lowest - 0.05, 1.03)
        step = max(1, -(-len(folds) // MAX_FOLD_LABELS))
        axes.set_xticks(x[::step], [literal(label) for label in labels[::step]])
        _trim(axes)
    _name_columns(panels, len(names), n_columns, what)
    figure.supylabel("score", fontsize=8)
    _draw_legend(figure, panels[0])


def draw_band(axes: "Axes", band: ChanceBand, edges: tuple[float, float], across: bool = True) -> None:
    """Draw a chance band along x, or along y."""
    fill, line = (axes.fill_between, axes.hlines) if across else (axes.fill_betweenx, axes.vlines)
    if band.limits is not None:
        fill(edges, *band.limits, color=BAND, linewidth=0, zorder=0, label="95 % range under relabelling")
        line(band.middle, *edges, color=CHANCE, linewidth=0.8, linestyle=":", zorder=1, label="its mean")
    else:
        line(band.middle, *edges, color=CHANCE, linewidth=0.8, linestyle="--", zorder=1, label=band.label)


def draw_grid_scores(figure: "Figure", table: pd.DataFrame) -> None:
    """Draw the score of every value of the grid: every fold, their mean, and the values that were chosen."""
    classes = table["class"].unique().tolist() if "class" in table else [""]
    n_columns = min(len(classes), MAX_COLUMNS)
    n_rows = -(-len(classes) // n_columns)
    lay_out(figure)
    panels = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True).ravel()
    scorer = str(table["scorer"].iloc[0])
    for axes, name in zip(panels, classes, strict=False):
        rows = table[table["class"] == name] if name else table
        for place, (_, fold) in enumerate(rows.groupby("fold")):
            fold = fold.sort_values("value")
            axes.plot(
                fold["value"], fold["score"], color=FOLD, linewidth=0.6, label=None if place else "fold"
            )
        ordered = rows.assign(place=rows.groupby("fold")["value"].rank(method="first"))
        means = ordered.groupby("place").agg(
            value=("value", lambda values: np.exp(np.log(values).mean())), score=("score", "mean")
        )
        axes.plot(
            means["value"],
            means["score"],
            color=COLOURS[0],
            marker="s",
            linewidth=2,
            markersize=4,
            label="mean over folds",
        )
        chosen = rows[rows["chosen"].astype(bool)].groupby(["value", "score"]).size().reset_index(name="n")
        axes.scatter(
            chosen["value"], chosen["score"], s=14 * chosen["n"], color=COLOURS[1], alpha=0.8,
            linewidths=0, zorder=3, label="chosen in a fold (area: number of folds)",
        )  # fmt: skip
        axes.set_xscale("log")
        axes.minorticks_off()
        if name:
            axes.set_title(literal(f"{name} against the rest"), fontsize=8)
        _trim(axes)
    _name_columns(panels, len(classes), n_columns, literal(str(table["parameter"].iloc[0])))
    figure.supylabel(literal(write_score(DESCRIPTIONS.get(scorer, scorer))), fontsize=8)
    _draw_legend(figure, panels[0])


def draw_nulls(
    figure: "Figure", table: pd.DataFrame, names: Mapping[str, str], bands: Mapping[str, ChanceBand]
) -> None:
    """Draw the null distribution of every score with the score of the run.

    Parameters
    ----------
    table : DataFrame, one row per relabelling, the true labelling first
    names : mapping of str to str
        Columns to draw, with their titles.
    bands : mapping of str to ChanceBand
        By column; without limits nothing is drawn of it.
    """
    lay_out(figure)
    all_axes = figure.subplots(len(names), 1, squeeze=False, sharex=True)[:, 0]
    for axes, (column, title) in zip(all_axes, names.items(), strict=True):
        values = table[column].to_numpy(dtype=float)
        finite = values[np.isfinite(values)]
        axes.hist(finite, bins=np.linspace(min(0.0, finite.min(initial=0)), 1, 61), color="#b3b3b3")
        band = bands[column]
        if band.limits is not None:
            axes.axvline(band.highest, color=CHANCE, linestyle="--", linewidth=1, label="95th percentile")
            axes.axvline(band.middle, color="black", linestyle=":", linewidth=1, label="mean")
        axes.axvline(values[0], color=COLOURS[0], linewidth=2, label="score of the run")
        axes.set_title(literal(title), fontsize=8.5)
        axes.set_ylabel("relabellings")
        _trim(axes)
    all_axes[-1].set_xlabel("mean over folds")
    _draw_legend(figure, all_axes[0])


def draw_rows(
    figure: "Figure", rows: pd.DataFrame, score: str, unit: str, bands: Sequence[ChanceBand | None]
) -> None:
    """Draw a row per run or configuration: its units, mean and SD, and its chance band.

    Parameters
    ----------
    rows : DataFrame with columns ``label``, ``group`` and ``values``
        ``values``: array of the scores of its folds or subjects; a group has a colour and a shape.
    score : str
        Words of the score.
    unit : {"fold", "subject"}
    """
    lay_out(figure)
    axes = figure.subplots()
    groups = list(dict.fromkeys(rows["group"]))
    rng = np.random.default_rng(0)
    for place, (row, band) in enumerate(zip(rows.to_dict("records"), bands, strict=True)):
        values = np.asarray(row["values"], dtype=float)
        if band is not None:
            draw_band(axes, band, (place - 0.42, place + 0.42), across=False)
        number = groups.index(row["group"])
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        spread = rng.uniform(-0.22, 0.22, len(values))
        axes.plot(
            values, place + spread, "o", color=FOLD, markersize=2.2, alpha=0.8, markeredgewidth=0, label=unit
        )
        mean, sd = pd.Series(values).mean(), pd.Series(values).std()
        label = f"mean ± SD: {literal(row['group'])}" if len(groups) > 1 else "mean ± SD"
        axes.errorbar(
            mean, place, xerr=None if np.isnan(sd) else sd, fmt=marker, color=colour, markersize=4.5,
            capsize=2, linewidth=1, label=label,
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [literal(label) for label in rows["label"]], fontsize=7)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    everything = np.concatenate([np.asarray(values, dtype=float) for values in rows["values"]])
    lows = [band.limits[0] for band in bands if band is not None and band.limits is not None]
    ends = [pd.Series(values).mean() + pd.Series(values).std() for values in rows["values"]]
    axes.set_xlim(
        min([0.38, *lows, *everything[np.isfinite(everything)]]) - 0.03,
        max([1.02, *(end + 0.01 for end in ends if np.isfinite(end))]),
    )
    axes.set_xlabel(literal(score))
    axes.grid(axis="x", color="#e8e8e8", linewidth=0.5)
    axes.set_axisbelow(True)
    _trim(axes)
    _draw_legend(figure, axes)


def _name_columns(panels: "Iterable[Axes]", n_used: int, n_columns: int, text: str) -> None:
    """Write the x label below the lowest panel of every column, and hide the panels without content."""
    for place, axes in enumerate(panels):
        axes.set_visible(place < n_used)
        if n_used - n_columns <= place < n_used:
            axes.set_xlabel(text)
            axes.tick_params(labelbottom=True)


def _trim(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(width=0.6)


def _draw_legend(figure: "Figure", axes: "Axes") -> None:
    """Draw every label once below the figure."""
    handles, labels = axes.get_legend_handles_labels()
    entries = {
        label: handle
        for label, handle in sorted(
            zip(labels, handles, strict=True), key=lambda one: one[0].startswith("mean")
        )
    }
    columns = 4 if figure.get_size_inches()[0] > 6 else 2
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=columns,
        fontsize=7.5,
        frameon=False,
    )
