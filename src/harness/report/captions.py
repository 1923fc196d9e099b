"""The words of figures: what was decoded, from which data and how, fitted into the width of the figure."""

import textwrap
from dataclasses import fields
from typing import TYPE_CHECKING

from harness.report.canvas import literal
from harness.samples.signal import Signal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from harness.decoding.decode import Decoding
    from harness.searchlight.result import SearchlightResult

POINTS_PER_INCH = 72
LETTER = 0.56  # mean width of a letter, in font sizes
LINE = 1.3  # distance of lines, in font sizes
SMALLEST = 5.5  # font size that can be read in print
# Haufe et al. (2014), NeuroImage 87:96.
NO_ACTIVATION = "Weights show what the decoder uses; they are not activation (Haufe et al. 2014)."


def name_contrast(decoding: "Decoding | SearchlightResult") -> str:
    """Return the contrast as it is written in titles: ``face vs cat``."""
    return decoding.samples.contrast.name.replace("_", " ")


def describe_data(decoding: "Decoding | SearchlightResult") -> str:
    """Return the data set, the subject and the contrast of a decoding or a searchlight."""
    recording = decoding.recording
    return f"{recording.dataset} subject {recording.subject}: {name_contrast(decoding)}"


def describe_size(decoding: "Decoding") -> str:
    """Return the region with the number of its voxels, and the number of samples."""
    question, samples = decoding.question, decoding.samples
    unit = "blocks" if question.signal.average_blocks else "volumes"
    return f"{question.roi.name}, {samples.n_voxels} voxels, {len(samples.y)} {unit}"


def describe_method(decoding: "Decoding") -> str:
    """Return the region, estimator, scheme and signal, with the numbers of voxels and volumes."""
    question = decoding.question
    return (
        f"{describe_size(decoding)}; {question.estimator.name}, cv={question.scheme.name}; "
        f"signal: {describe_signal(question.signal)}"
    )


def describe_signal(signal: Signal) -> str:
    """Return the settings that differ from their defaults, and the standardisation, as keys and values."""
    changed = [
        f"{field.name}={getattr(signal, field.name)}"
        for field in fields(signal)
        if field.name == "zscore" or getattr(signal, field.name) != field.default
    ]
    return ", ".join(changed)


def fit_lines(text: str, width: float, size: float, most: int = 1) -> tuple[list[str], float]:
    """Break a text into lines that fit a width, with a smaller font where they would be too many.

    Widths are estimated, which is enough for words and takes no time to draw.

    Parameters
    ----------
    width : float
        In inches.
    size : float
        Font size in points.
    most : int
        Number of lines. A text that has more at the smallest font size is cut.

    Returns
    -------
    lines : list of str
    size : float
    """
    while True:
        letters = max(int(width * POINTS_PER_INCH / (LETTER * size)), 8)
        lines = textwrap.wrap(text, letters, break_on_hyphens=False)
        if len(lines) <= most:
            return lines, size
        if size <= SMALLEST:
            return [*lines[: most - 1], textwrap.shorten(" ".join(lines[most - 1 :]), letters)], size
        size -= 0.5


def draw_caption(figure: "Figure", title: str, details: str, legend: str = "") -> None:
    """Write a title and details at the top of a figure, and a legend at its bottom."""
    width, height = figure.get_size_inches()
    top = 0.1
    for text, size, most, weight in ((title, 11.0, 1, "bold"), (details, 8.5, 2, "normal")):
        lines, size = fit_lines(text, (0.97 if weight == "normal" else 0.9) * width, size, most)
        for line in lines:
            figure.text(0.02, 1 - top / height, literal(line), fontsize=size, va="top", weight=weight)
            top += LINE * size / POINTS_PER_INCH
    lines, size = fit_lines(legend, 0.97 * width, 8.0, 2) if legend else ([], 8.0)
    for number, line in enumerate(reversed(lines)):
        bottom = 0.08 + number * LINE * size / POINTS_PER_INCH
        figure.text(0.02, bottom / height, literal(line), fontsize=size, va="bottom")
