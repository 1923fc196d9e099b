"""The files that one run leaves behind."""

from pathlib import Path
from typing import Literal

import nibabel as nib

from harness.decoding import Decoding
from harness.figures import draw_confusion, draw_weights, write_weights_view
from harness.provenance import describe_environment

Figures = Literal["full", "light", "off"]


def write_artifacts(decoding: Decoding, folder: Path, config: str, figures: Figures) -> list[Path]:
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
        draws one picture; ``off`` draws nothing. Weight images are always written.

    Returns
    -------
    files : list of Path
        What was written.
    """
    decoding.folds.to_csv(folder / "folds.csv", index=False)
    decoding.predictions.to_csv(folder / "predictions.csv", index=False)
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    (folder / "environment.txt").write_text(describe_environment(), encoding="utf-8")
    if decoding.warnings:
        (folder / "warnings.txt").write_text("\n".join(decoding.warnings) + "\n", encoding="utf-8")
    for weights in decoding.weights:
        nib.save(weights.mean, folder / f"weights_{weights.name}.nii.gz")
        nib.save(weights.sd, folder / f"weights_sd_{weights.name}.nii.gz")
    if figures == "full":
        draw_confusion(decoding, folder / "confusion.png")
        for weights in decoding.weights:
            draw_weights(decoding, weights, folder / f"weights_{weights.name}.png")
            write_weights_view(decoding, weights, folder / f"weights_{weights.name}.html")
    elif figures == "light":
        if decoding.weights:
            first = decoding.weights[0]
            draw_weights(decoding, first, folder / f"weights_{first.name}.png")
        else:
            draw_confusion(decoding, folder / "confusion.png")
    return sorted(folder.iterdir())
