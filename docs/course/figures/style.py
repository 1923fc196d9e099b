"""Size, colours and letters that all figures share."""

from typing import Any

from matplotlib.axes import Axes

from harness.report.inspection_charts import COLOURS

# 5 inches at 160 dots per inch: letters of 10 points are legible when the figure is 400 pixels wide.
WIDTH = 5.0
DPI = 160
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
ORANGE, GREEN, RED, BLUE = (COLOURS[place] for place in (0, 2, 3, 4))
GREY = "#BBBBBB"
PEAK = (35, -49, -15)  # MNI mm, in the right fusiform gyrus


def mark_sides(axes: Axes) -> None:
    """Write L and R into the corners of a slice whose left is on the left."""
    for side, place in (("L", 0.03), ("R", 0.88)):
        axes.text(place, 0.9, side, color="white", weight="bold", transform=axes.transAxes)
