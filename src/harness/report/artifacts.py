"""The files that one run leaves behind."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel as nib
import pandas as pd

from harness.decoding.decode import Decoding
from harness.errors import format_error
from harness.report.figures import draw_confusion, draw_slices, draw_weights, write_weights_view
from harness.report.spreadsheets import write_csv
from harness.tracking.provenance import describe_environment


def write_artifacts(decoding: Decoding, folder: Path, config: str, figures: str) -> Decoding:
    """Write tables, weight images, pictures and all that is needed to repeat the run.

    Parameters
    ----------
    decoding : Decoding
    folder : Path
        Existing folder.
    config : str
        The resolved configuration, as YAML.
    figures : {"full", "light", "off"}
        ``full`` draws a picture and an interactive page per weight image and the confusion matrix; ``light``
        draws the weights alone, quickly; ``off`` draws nothing. Weight images are always written.

    Returns
    -------
    decoding : Decoding
        With a warning for every picture that could not be drawn: a picture must not cost the scores.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    write_csv(_list_folds(decoding), folder / "folds.csv")
    write_csv(decoding.predictions, folder / "predictions.csv")
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    (folder / "environment.txt").write_text(describe_environment(), encoding="utf-8")
    for weights in decoding.weights:
        nib.save(weights.mean, folder / f"weights_{weights.name}.nii.gz")
        nib.save(weights.sd, folder / f"weights_sd_{weights.name}.nii.gz")
    failed = []
    for name, draw in _list_pictures(decoding, figures).items():
        try:
            draw(folder / name)
        except OSError:
            raise
        except Exception as error:  # whatever the plotting packages raise
            failed.append(f"{name} could not be drawn: {format_error(error)}")
    decoding = replace(decoding, warnings=(*decoding.warnings, *failed))
    if decoding.warnings:
        (folder / "warnings.txt").write_text("\n".join(decoding.warnings) + "\n", encoding="utf-8")
    return decoding


def _list_folds(decoding: Decoding) -> pd.DataFrame:
    """Return one row per fold of the scheme; those that were skipped have no scores, but the reason."""
    if decoding.skipped.empty:
        return decoding.folds
    return pd.concat([decoding.folds, decoding.skipped]).sort_values("fold")


def _list_pictures(decoding: Decoding, figures: str) -> dict[str, Callable[[Path], None]]:
    """Return what draws each picture, by the name of its file."""
    pictures: dict[str, Callable[[Path], None]] = {}
    if figures == "full":
        pictures["confusion.png"] = partial(draw_confusion, decoding)
    shown = {"full": decoding.weights, "light": decoding.weights[:1], "off": []}[figures]
    for weights in shown:
        draw = draw_weights if figures == "full" else draw_slices
        pictures[f"weights_{weights.name}.png"] = partial(draw, decoding, weights)
        if figures == "full":
            pictures[f"weights_{weights.name}.html"] = partial(write_weights_view, decoding, weights)
    return pictures
