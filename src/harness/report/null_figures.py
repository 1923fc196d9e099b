"""Figures of null distributions."""

from pathlib import Path

import numpy as np

from harness.decoding.decode import Decoding
from harness.inference.corrections import format_p
from harness.inference.permutation import PermutationTest
from harness.report.canvas import new_figure
from harness.report.captions import describe_data, describe_method, draw_caption

# Okabe & Ito's colours, which people with colour blindness can tell apart.
NULL_COLOUR, SCORE_COLOUR, LIMIT_COLOUR = "0.7", "#0072B2", "#D55E00"
BINS = 40


def draw_null_distribution(decoding: Decoding, test: PermutationTest, file: Path) -> None:
    """Draw, for every score, its null distribution with mean and 95th percentile, and the score, as a PNG."""
    columns = list(test.p_values)  # those that are defined
    height = 1.25 + 1.55 * len(columns)
    with new_figure(file, (7.5, height)) as figure:
        figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - 0.7 / height))
        kind = "distinct" if test.method == "enumerated" else "random"
        title = f"{describe_data(decoding)}: {test.n_computed} {kind} relabellings of the blocks"
        draw_caption(figure, title, describe_method(decoding))
        all_axes = figure.subplots(len(columns), 1, squeeze=False)[:, 0]
        low = min(0.0, float(test.scores.to_numpy().min()))
        for axes, column in zip(all_axes, columns, strict=True):
            values = test.scores[column].to_numpy()
            axes.hist(values, bins=np.linspace(low, 1.0, BINS + 1), color=NULL_COLOUR)
            band = test.band(column)
            if band is not None:
                axes.axvline(band[0], color="black", linestyle=":", linewidth=1.2, label="mean of the null")
                axes.axvline(
                    band[1], color=LIMIT_COLOUR, linestyle="--", linewidth=1.2, label="its 95th percentile"
                )
            axes.axvline(values[0], color=SCORE_COLOUR, linewidth=2, label="score of the run")
            note = "" if column == test.primary else ", not corrected"
            words = column.replace("_", " ")
            axes.set_title(
                f"{words} {values[0]:.3f}, p = {format_p(test.p_values[column])}{note}", fontsize=9
            )
            axes.set_xlim(low, 1.0)
            axes.set_ylabel("relabellings", fontsize=8)
            axes.tick_params(labelsize=8)
        all_axes[-1].set_xlabel("mean over folds", fontsize=8)
        figure.legend(
            *all_axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8
        )
