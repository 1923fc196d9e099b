"""The files that a run writes."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel as nib
import pandas as pd

from harness.decoding.decode import Decoding
from harness.decoding.decoder_record import record_decoder
from harness.decoding.stored_decoder import pack_decoder
from harness.report.figures import (
    draw_confusion,
    draw_map,
    draw_slices,
    show_pattern,
    show_tested_pattern,
    show_weights,
    write_map_view,
)
from harness.report.grid_figure import can_draw_grid, draw_grid
from harness.report.null_figures import draw_null_distribution
from harness.report.predicted_volumes import draw_predicted_volumes
from harness.report.run_files import draw_pictures, write_settings, write_warnings
from harness.report.spreadsheets import write_csv
from harness.tracking.run_result import RunResult


def write_artifacts(result: RunResult, directory: Path, config: str, figures: str) -> RunResult:
    """Write the files of a run into an existing directory.

    =============================  ======================================================  ===============
    file                           content                                                 figures
    =============================  ======================================================  ===============
    ``folds.csv``                  scores per fold                                         all
    ``predictions.csv``            one row per held-out volume and fold                    all
    ``audit.json``                 findings of the audit: rule, verdict, evidence,         all
                                   reference
    ``config.yaml``                the resolved configuration                              all
    ``environment.txt``            versions of the packages                                all
    ``decoder.npz``,               the decoder as data: arrays and settings; see           all
    ``decoder.json``               `harness.decoding.stored_decoder`
    ``weights_NAME.nii.gz``        weights, mean over folds                                all
    ``weights_sd_NAME.nii.gz``     their SD over folds (ddof=0, as nilearn's; that of      all
                                   the scores has ddof=1)
    ``weights_NAME.png``           picture of the weights; ``light``: of the first only    full, light
    ``weights_NAME.html``          interactive view of the weights                         full
    ``pattern_NAME.nii.gz``        activation pattern                                      all
    ``pattern_NAME.png``, ``html`` its picture and its interactive view                    full
    ``grid_scores.csv``            score of every value of the grid in every fold, for     all
                                   estimators that keep them
    ``grid_scores.png``            its picture, where there are several values             full
    ``confusion.png``              confusion matrix                                        full
    ``predicted_volumes.png``      single held-out volumes with true and predicted class   full
    ``null_distribution.csv``      a row per relabelling, the true one first, a column      all
                                   per score (``inference=permutation``)
    ``null_distribution.png``      their histograms, with the scores of the run            full, light
    ``pattern_z_NAME.nii.gz``,     the pattern standardised by its null distribution; its     all
    ``pattern_p_NAME.nii.gz``,     p-values, two-sided, not corrected; and corrected over
    ``pattern_p_fwe_NAME.nii.gz``  voxels by the maximum statistic
    ``pattern_z_NAME.png``, html   its picture, voxels with a corrected p <= .05 only         full
    ``warnings.txt``               warnings, if there are any                              all
    =============================  ======================================================  ===============

    Parameters
    ----------
    config : str
        The resolved configuration, as YAML.
    figures : {"full", "light", "off"}

    Returns
    -------
    result : RunResult
        With a warning for every picture that could not be drawn; the scores are written all the same.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    decoding = result.decoding
    write_csv(_list_folds(decoding), directory / "folds.csv")
    write_csv(decoding.predictions, directory / "predictions.csv")
    write_settings(result.findings, config, directory)
    for name, content in pack_decoder(record_decoder(decoding)).items():
        (directory / name).write_bytes(content)
    for weights in decoding.weights:
        nib.save(weights.mean, directory / f"weights_{weights.name}.nii.gz")
        nib.save(weights.sd, directory / f"weights_sd_{weights.name}.nii.gz")
    for pattern in decoding.patterns:
        nib.save(pattern.image, directory / f"pattern_{pattern.name}.nii.gz")
    if not decoding.grid_scores.empty:
        write_csv(decoding.grid_scores, directory / "grid_scores.csv")
    if result.inference is not None:
        write_csv(result.inference.test.scores, directory / "null_distribution.csv")
        for tested in result.inference.patterns:
            nib.save(tested.z, directory / f"pattern_z_{tested.name}.nii.gz")
            nib.save(tested.p, directory / f"pattern_p_{tested.name}.nii.gz")
            nib.save(tested.p_fwe, directory / f"pattern_p_fwe_{tested.name}.nii.gz")
    failed = draw_pictures(_list_pictures(result, figures), directory)
    decoding = replace(decoding, warnings=(*decoding.warnings, *failed))
    write_warnings(decoding.warnings, directory)
    return replace(result, decoding=decoding)


def _list_folds(decoding: Decoding) -> pd.DataFrame:
    """Return one row per fold; skipped folds have a reason instead of scores."""
    if decoding.skipped.empty:
        return decoding.folds
    return pd.concat([decoding.folds, decoding.skipped]).sort_values("fold")


def _list_pictures(result: RunResult, figures: str) -> dict[str, Callable[[Path], None]]:
    """Return the function that draws each picture, by file name."""
    decoding, inference = result.decoding, result.inference
    if figures == "off":
        return {}
    pictures: dict[str, Callable[[Path], None]] = {}
    if inference is not None:
        pictures["null_distribution.png"] = partial(draw_null_distribution, decoding, inference.test)
    if figures == "light":
        for weights in decoding.weights[:1]:
            pictures[f"weights_{weights.name}.png"] = partial(draw_slices, decoding, show_weights(weights))
        return pictures
    pictures["confusion.png"] = partial(draw_confusion, decoding)
    pictures["predicted_volumes.png"] = partial(draw_predicted_volumes, decoding)
    if can_draw_grid(decoding.grid_scores):
        pictures["grid_scores.png"] = partial(draw_grid, decoding)
    maps = {f"weights_{weights.name}": show_weights(weights) for weights in decoding.weights}
    maps |= {f"pattern_{pattern.name}": show_pattern(pattern) for pattern in decoding.patterns}
    for tested in inference.patterns if inference is not None else ():
        maps[f"pattern_z_{tested.name}"] = show_tested_pattern(tested)
    for name, shown in maps.items():
        pictures[f"{name}.png"] = partial(draw_map, decoding, shown)
        pictures[f"{name}.html"] = partial(write_map_view, decoding, shown)
    return pictures
