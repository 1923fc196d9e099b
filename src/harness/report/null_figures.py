"""Figures of null distributions."""

from pathlib import Path

import numpy as np

from harness.decoding.decode import Decoding
from harness.inference.corrections import drop_observed, format_p
from harness.inference.permutation import PermutationTest
from harness.report.canvas import new_figure
from harness.report.captions import describe_data, describe_method, draw_caption
from harness.report.report_page import write_score
from harness.report.score_figures import draw_nulls, make_band


def draw_null_distribution(decoding: Decoding, test: PermutationTest, file: Path) -> None:
    """Draw, for every score, its null distribution with mean and 95th percentile, and the score, as a PNG."""
    names, bands = {}, {}
    is_enumerated = test.method == "enumerated"
    for column, p in test.p_values.items():  # those that are defined
        note = "" if column == test.primary else ", not corrected"
        names[column] = f"{write_score(column)} {test.observed[column]:.3f}, p = {format_p(p)}{note}"
        # A test that was to end early computes more relabellings where they score low.
        null = None if test.sequential else drop_observed(test.scores[column].to_numpy(), is_enumerated)
        bands[column] = make_band(null, np.nan)
    height = 1.25 + 1.55 * len(names)
    with new_figure(file, (7.5, height)) as figure:
        figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - 0.7 / height))
        kind = "distinct" if is_enumerated else "random"
        title = f"{describe_data(decoding)}: {test.n_computed} {kind} relabellings of the blocks"
        draw_caption(figure, title, describe_method(decoding))
        draw_nulls(figure, test.scores, names, bands)
