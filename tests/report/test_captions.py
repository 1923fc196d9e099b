"""Words of figures fit into them."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.report.captions import describe_signal, draw_caption, fit_lines
from harness.samples.signal import Signal

CLASSES = ("face", "cat", "house", "chair", "bottle", "scissors", "shoe", "scrambledpix")
TITLES = {
    "short": "haxby subject 1: svc weights, face vs cat (positive: face)",
    "long": f"own-data subject 12: logistic_liblinear weights, {' vs '.join(CLASSES)} (positive: scissors)",
}
DETAILS = {
    "short": "vt, 464 voxels, 216 volumes; svc, cv=logo; signal: zscore=own",
    "long": "a_region_of_the_ventral_temporal_cortex_defined_by_a_localiser, 23000 voxels, 1452 volumes; "
    "svc_liblinear[grid.C=[0.001,0.01,0.1,1,10,100,1000],tol=0.0001], cv=stratified5[shuffle=true]; "
    "signal: zscore=run, detrend=True, smoothing_fwhm=4.0, high_pass=0.01, lag=2, trim_first=1",
}


@pytest.mark.parametrize("length", ["short", "long"])
@pytest.mark.parametrize("width", [4.5, 9.5])
def test_captions_fit_into_the_figure(width, length):
    """Widths are measured by matplotlib here, and estimated by the code."""
    figure = Figure(figsize=(width, 3.7))
    canvas = FigureCanvasAgg(figure)
    draw_caption(figure, TITLES[length], DETAILS[length], DETAILS[length])
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in figure.texts]
    assert max(box.x1 for box in boxes) <= figure.bbox.width
    tops = sorted(((box.y0, box.y1) for box in boxes), reverse=True)
    assert all(lower[1] <= upper[0] + 2 for upper, lower in pairwise(tops)), "no overlap"
    assert min(np.ravel(tops)) >= 0
    assert max(np.ravel(tops)) <= figure.bbox.height


def test_text_that_fits_stays_as_it_is():
    assert fit_lines("a few words", 5, 9) == (["a few words"], 9)


def test_long_text_is_broken_then_made_smaller_then_cut():
    words = " ".join(["word"] * 30)
    lines, size = fit_lines(words, 6, 9, most=2)
    assert (" ".join(lines), len(lines), size) == (words, 2, 9)
    (line,), smaller = fit_lines(words, 6, 9, most=1)
    assert smaller < 9
    assert line.startswith("word word")


def test_signal_is_described_by_what_differs_from_the_defaults():
    assert describe_signal(Signal()) == "zscore=own"
    assert describe_signal(Signal(zscore="run", lag=2, detrend=True)) == "zscore=run, detrend=True, lag=2"
