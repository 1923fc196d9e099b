"""The figures of the course pages, a module for every two pages.

`write_figures` writes one PNG file per function of `FIGURES` into ``generated/``: ``python -m course.figures``
in ``docs/``. The files are in the repository, so that the pages can also be read there; a test draws the figures
and compares them. All figures are deterministic, need no download, have English words only (no Chinese font is needed) and a white
background.
"""

from collections.abc import Callable
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from course.figures import decoding, experiment, images, smoothing
from course.figures.style import DPI, STYLE

DIRECTORY = Path(__file__).parents[1] / "generated"
FIGURES: dict[str, Callable[[], Figure]] = {
    "nifti_file": images.draw_nifti_file,
    "nifti_affine": images.draw_nifti_affine,
    "mni_planes": images.draw_mni_planes,
    "native_space": images.draw_native_space,
    "smoothing_kernel": smoothing.draw_smoothing_kernel,
    "smoothing_template": smoothing.draw_smoothing_template,
    "smoothing_recovery": smoothing.draw_smoothing_recovery,
    "haxby_design": experiment.draw_haxby_design,
    "haxby_correlation": experiment.draw_haxby_correlation,
    "series": experiment.draw_series,
    "outliers": experiment.draw_outliers,
    "folds": decoding.draw_folds,
    "leakage": decoding.draw_leakage,
    "weights_patterns": decoding.draw_weights_patterns,
    "encoding_decoding": decoding.draw_encoding_decoding,
}


def write_figures(directory: Path = DIRECTORY) -> list[Path]:
    """Draw all figures, and return their paths.

    If drawing is interrupted, the former figure is left.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in FIGURES.items():
        path = directory / f"{name}.png"
        temporary = path.with_suffix(".unfinished.png")
        # The matrices are small: with more threads, the figures take several times as long.
        with plt.rc_context(STYLE), threadpool_limits(1, user_api="blas"):
            figure = draw()
            try:
                figure.savefig(temporary, dpi=DPI, metadata={"Software": None})
            finally:
                plt.close(figure)
        temporary.replace(path)
        paths.append(path)
    return paths
