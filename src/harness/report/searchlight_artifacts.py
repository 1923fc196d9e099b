"""The files that a searchlight writes; CONTRAST is the name of the contrast.

================================================  =======================================  ===========
file                                              content                                  figures
================================================  =======================================  ===========
``searchlight_CONTRAST.nii.gz``                   score of every sphere, in its centre;    all
                                                  0 elsewhere, as nilearn's SearchLight
``centres.npz``                                   places of the centres in the volume, in  all
                                                  C order, and their scores
``searchlight_z_CONTRAST.nii.gz``                 of a tested map: the statistic,          all
                                                  standardised by its own null
``searchlight_null_mean_CONTRAST.nii.gz``         mean of the statistic under relabelling  all
``searchlight_p_CONTRAST.nii.gz``                 p, not corrected; 1 outside of centres   all
``searchlight_p_fwe_CONTRAST.nii.gz``             p, corrected over voxels by the maximum  all
                                                  statistic
``searchlight_p_tfce_CONTRAST.nii.gz``,           p of the chosen correction               all
``searchlight_p_cluster_size_CONTRAST.nii.gz``
``searchlight_thresholded_CONTRAST.nii.gz``       score where p of the chosen correction   all
                                                  is at most .05, else 0
``searchlight_maxima.csv``                        maximum over the map of every            all
                                                  relabelling, the true one first
``relabelled_maps.npz``                           statistic under some relabellings, for   all
                                                  tests over subjects
``peaks.csv``                                     peaks; see `find_peaks`                  all
``searchlight.json``                              counts, thresholds, settings             all
``searchlight_CONTRAST.png``                      map on the anatomy                       full, light
``searchlight_maxima.png``                        null distributions of the maximum        full
``searchlight_CONTRAST.html``,                    interactive views                        full
``searchlight_thresholded_CONTRAST.html``
``audit.json``, ``config.yaml``,                  as in other runs                         all
``environment.txt``, ``warnings.txt``
================================================  =======================================  ===========
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray

from harness.checks.findings import Finding
from harness.datasets.images import list_files
from harness.decoding.choices import Scorer
from harness.decoding.scores import nominal_chance
from harness.inference.corrections import ALPHA
from harness.report.map_peaks import ALIGNED, label_image
from harness.report.run_files import draw_pictures, write_settings, write_warnings
from harness.report.searchlight_figures import (
    draw_maxima,
    draw_score_map,
    show_scores,
    write_score_view,
    write_thresholded_view,
)
from harness.report.searchlight_peaks import Peaks, list_peaks
from harness.report.spreadsheets import write_csv
from harness.searchlight.choices import Correction
from harness.searchlight.map_test import MapTest
from harness.searchlight.result import SearchlightResult
from harness.tracking.fingerprint import LEFT_OUT
from harness.tracking.stored_map import CENTRES, KEPT, RECORD

PEAKS, MAXIMA = "peaks.csv", "searchlight_maxima.csv"


def write_searchlight(
    result: SearchlightResult, findings: Sequence[Finding], directory: Path, config: str, figures: str
) -> SearchlightResult:
    """Write the files of a searchlight into an existing directory.

    Parameters
    ----------
    config : str
        The resolved configuration, as YAML.
    figures : {"full", "light", "off"}

    Returns
    -------
    result : SearchlightResult
        With a warning for every picture that could not be drawn; everything else is written all the same.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    write_settings(findings, config, directory)
    for name, image in make_images(result).items():
        nib.save(image, directory / f"{name}.nii.gz")
    peaks = list_peaks(result)
    write_csv(peaks.table, directory / PEAKS)
    _write_arrays(result, directory)
    if result.test is not None:
        write_csv(result.test.maxima, directory / MAXIMA)
    record = json.dumps(make_record(result, peaks), indent=1)
    (directory / RECORD).write_text(record + "\n", encoding="utf-8")
    failed = draw_pictures(_list_pictures(result, figures), directory)
    result = replace(result, warnings=(*result.warnings, *failed))
    write_warnings(result.warnings, directory)
    return result


def make_images(result: SearchlightResult) -> dict[str, Nifti1Image]:
    """Return the maps as images, by name of their file without suffix.

    Their values are float64: in single precision a p of .05 would be above .05.
    """
    contrast, test = result.samples.contrast.name, result.test
    scorer, codes = result.settings.scorer, _read_codes(result)
    n_classes = len(result.samples.contrast.classes)
    limits = (nominal_chance(scorer, n_classes), float(np.nanmax(result.score_map)))

    def image(
        values: NDArray[Any], words: str, shown: tuple[float, float], outside: float = 0.0
    ) -> Nifti1Image:
        return label_image(result.to_image(values, outside), codes, words, shown)

    scores = np.nan_to_num(result.score_map)
    maps = {f"searchlight_{contrast}": image(scores, f"searchlight: {scorer}", limits)}
    if test is None:
        return maps
    chosen = test.corrected[result.settings.correction]
    high_z = max(float(test.z.max()), result.settings.cluster_z + 1)
    maps[f"searchlight_z_{contrast}"] = image(test.z, f"z of {test.statistic}", (0.0, high_z))
    null_means = np.nan_to_num(test.null_mean)
    words, shown = f"mean {test.statistic} under relabelling", (null_means.min(), null_means.max())
    maps[f"searchlight_null_mean_{contrast}"] = image(null_means, words, shown)
    maps[f"searchlight_p_{contrast}"] = image(test.p, "p, not corrected", (0.0, ALPHA), 1.0)
    for name, corrected in test.corrected.items():
        short = "fwe" if name == Correction.maximum else name
        words = f"p, corrected over voxels: {name.replace('_', ' ')}"
        maps[f"searchlight_p_{short}_{contrast}"] = image(corrected.p, words, (0.0, ALPHA), 1.0)
    significant = np.where(chosen.p <= ALPHA, scores, 0.0)
    words = f"{scorer} where p({result.settings.correction}) <= .05"
    maps[f"searchlight_thresholded_{contrast}"] = image(significant, words, limits)
    return maps


def _read_codes(result: SearchlightResult) -> tuple[int, int]:
    """Return the codes of the space (sform, qform) of the recording's image."""
    header = nib.load(list_files(result.recording.bold)[0]).header
    if not isinstance(header, nib.Nifti1Header):
        return ALIGNED, 0
    return int(header["sform_code"]), int(header["qform_code"])


def _write_arrays(result: SearchlightResult, directory: Path) -> None:
    """Write the places of the centres with their scores, and of a tested map the relabelled maps."""
    places: dict[str, Any] = {
        "voxels": np.flatnonzero(result.centres),
        "shape": np.array(result.centres.shape),
        "affine": result.samples.grid.affine,
        "space": np.array(result.recording.space or ""),
    }
    np.savez_compressed(directory / CENTRES, scores=result.score_map, **places)
    if (test := result.test) is not None:
        statistic = np.array(test.statistic)
        np.savez_compressed(
            directory / KEPT, maps=test.kept, rows=test.kept_rows, statistic=statistic, **places
        )


def make_record(result: SearchlightResult, peaks: Peaks) -> dict[str, Any]:
    """Return the counts, thresholds and settings of a searchlight, for ``searchlight.json``."""
    samples, sizes = result.samples, result.spheres.sizes
    # A replay compares this file: the mask counts by its content, and processes change no number.
    left_out = LEFT_OUT["analysis"]
    settings = {name: value for name, value in asdict(result.settings).items() if name not in left_out}
    content: dict[str, Any] = {
        "settings": settings,
        "contrast": samples.contrast.name,
        "classes": list(samples.contrast.classes),
        "class_sizes": {name: int((samples.y == name).sum()) for name in samples.contrast.classes},
        "chance": nominal_chance(result.settings.scorer, len(samples.contrast.classes)),
        "space": result.recording.space,
        "n_samples": len(samples.y),
        "n_voxels": samples.n_voxels,
        "n_folds": result.n_folds,
        "n_folds_skipped": len(result.skipped),
        "n_spheres": len(result.spheres),
        "n_small": result.spheres.n_small,
        "sphere_sizes": {
            "smallest": int(sizes.min()),
            "median": float(np.median(sizes)),
            "largest": int(sizes.max()),
        },
        "scores": {
            name: {
                "max": float(np.nanmax(result.scores[name])),
                "median": float(np.nanmedian(result.scores[name])),
            }
            for name in map(str, Scorer)
            if name in result.scores
        },
        "peaks": {"of": peaks.quantity, "threshold": peaks.threshold, "rule": peaks.rule},
    }
    if result.test is not None:
        content["test"] = _describe_test(result.test)
    return content


def _describe_test(test: MapTest) -> dict[str, Any]:
    return {
        "statistic": test.statistic,
        "n_relabellings": len(test.maxima),
        "enumerated": test.relabellings.enumerated,
        "max_z": float(test.z.max()),
        "median_null_mean": _finite(test.median_null_mean),
        "smallest_p": 1 / len(test.maxima),
        "corrections": {
            name: {
                "threshold": _finite(corrected.threshold),
                "observed_maximum": _finite(float(corrected.values.max())),
                "n_corrected": corrected.n_significant,
                "smallest_p": corrected.smallest_p,
            }
            for name, corrected in test.corrected.items()
        },
        "n_kept": len(test.kept),
        "cautions": list(test.cautions),
    }


def _finite(value: float | None) -> float | None:
    """Return a number that JSON can hold; None for an infinite one, of relabellings without a statistic."""
    return value if value is not None and np.isfinite(value) else None


def _list_pictures(result: SearchlightResult, figures: str) -> dict[str, Callable[[Path], None]]:
    """Return the function that draws each picture, by file name."""
    if figures == "off":
        return {}
    contrast = result.samples.contrast.name
    pictures: dict[str, Callable[[Path], None]] = {
        f"searchlight_{contrast}.png": partial(draw_score_map, result),
    }
    if figures == "light":
        return pictures
    pictures[f"searchlight_{contrast}.html"] = partial(write_score_view, result)
    if result.test is not None:
        pictures["searchlight_maxima.png"] = partial(draw_maxima, result, result.test)
        if show_scores(result).significant is not None:
            pictures[f"searchlight_thresholded_{contrast}.html"] = partial(write_thresholded_view, result)
    return pictures
