"""Figures without pyplot: opened, saved, and kept quiet."""

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from harness.datasets.images import read_volume
from harness.errors import escape_controls

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110
PRINT_DPI = 300


@contextmanager
def new_figure(file: Path, size: tuple[float, float]) -> "Iterator[Figure]":
    """Open a figure of a size in inches, and save it at the end.

    pyplot is not used: it would keep the figure in memory, and change the backend of a notebook.
    """
    logging.getLogger("matplotlib.font_manager").setLevel(logging.WARNING)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DPI)
    FigureCanvasAgg(figure)
    with quiet():
        yield figure
        # Strong compression takes as long as drawing, and saves a tenth of the size.
        options: dict[str, Any] = {"pil_kwargs": {"compress_level": 1}} if file.suffix == ".png" else {}
        figure.savefig(file, dpi=DPI, facecolor="white", **options)


def save_publication(
    files: Sequence[Path], size: tuple[float, float], draw: "Callable[[Figure], None]"
) -> None:
    """Draw a figure of a size in inches, and save it as PNG at 300 dpi and as SVG with text as text."""
    logging.getLogger("matplotlib.font_manager").setLevel(logging.WARNING)
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A fixed salt gives equal figures equal files.
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "harness", "font.size": 8, "axes.linewidth": 0.6}
    with matplotlib.rc_context(settings), quiet():
        figure = Figure(figsize=size, dpi=PRINT_DPI)
        FigureCanvasAgg(figure)
        draw(figure)
        for file in files:
            metadata = {"Date": None} if file.suffix == ".svg" else {"Software": None}
            figure.savefig(file, dpi=PRINT_DPI, facecolor="white", metadata=metadata)
            figure.set_layout_engine("none")  # what was placed once stays there


def lay_out(figure: "Figure") -> None:
    """Let matplotlib arrange the axes of a figure, unless its caller has reserved space for words."""
    if figure.get_layout_engine() is None:
        figure.set_layout_engine("constrained")


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the warnings of the plotting packages, which do not concern the result."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def standalone_page(view: Any) -> str:
    """Return the HTML of nilearn's interactive view, without the icon that it would load from the network."""
    return re.sub(r"<link[^>]*favicon[^>]*>", "", str(view.get_standalone()))


def literal(text: str) -> str:
    """Return a text that matplotlib draws as it is, without mathematics and control characters."""
    return escape_controls(text).replace("$", r"\$")


def read_anatomy(file: Path) -> nib.Nifti1Image:
    """Read an anatomical image as float32; see `harness.datasets.images.read_volume` for its errors."""
    values, affine = read_volume(file)
    return nib.Nifti1Image(values.astype(np.float32), affine)
