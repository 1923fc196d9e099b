"""The files of searchlight maps over subjects: images, peaks, a figure and a summary."""

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.inference.corrections import ALPHA
from harness.report.canvas import new_figure, quiet
from harness.report.captions import draw_caption
from harness.report.map_peaks import ALIGNED, HIGHEST_PERCENTILE, find_peaks, label_image
from harness.report.report_page import write_score
from harness.report.run_files import draw_pictures
from harness.report.score_map import ScoreMap, draw_score_maps
from harness.report.spreadsheets import write_csv
from harness.searchlight.descriptions import describe_within

if TYPE_CHECKING:
    from harness.comparison.group_maps import GroupMaps

TEMPLATE = "MNI152"  # how names of the spaces begin that nilearn has an image of
MNI_CODE = 4  # of affines in NIfTI-1: a coordinate system of the MNI


def write_group_maps(maps: "GroupMaps", directory: Path) -> None:
    """Write the files of maps over subjects into an existing directory; CONTRAST is the contrast.

    =============================================  ==========================================================
    file                                           content
    =============================================  ==========================================================
    ``group_mean_CONTRAST.nii.gz``                 mean score; 0 elsewhere
    ``group_z_CONTRAST.nii.gz``                    standardised mean of the statistic
    ``group_p_CONTRAST.nii.gz``                    permutation of means: p, not corrected; 1 elsewhere
    ``group_p_fwe_CONTRAST.nii.gz``                p, corrected over voxels by the maximum statistic
    ``group_p_cluster_size_CONTRAST.nii.gz``       p of the cluster
    ``group_thresholded_CONTRAST.nii.gz``          mean score where ``group_p_fwe`` is at most .05, else 0
    ``group_p_global_CONTRAST.nii.gz``,            prevalence: corrected p of the global and of the majority
    ``group_p_majority_CONTRAST.nii.gz``           null hypothesis; 1 elsewhere
    ``group_gamma0_CONTRAST.nii.gz``               share of the population above which the effect is present,
                                                   corrected over voxels; 0 where nothing is rejected
    ``group_p_sign_flip_CONTRAST.nii.gz``,         changes of sign: p corrected by the largest z and by the
    ``group_p_sign_flip_tfce_CONTRAST.nii.gz``     largest TFCE
    ``group_peaks.csv``                            peaks
    ``group_maps.csv``                             one row per subject
    ``group_maps.json``                            counts, thresholds, settings and notes
    ``group_CONTRAST.png``                         mean score on the template; outlined: ``group_p_fwe``
    =============================================  ==========================================================

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    from harness.comparison.group_map_record import maps_to_json

    contrast = str(maps.settings["contrast"])
    for name, image in make_group_images(maps).items():
        nib.save(image, directory / f"{name}_{contrast}.nii.gz")
    write_csv(find_group_peaks(maps), directory / "group_peaks.csv")
    write_csv(maps.subjects, directory / "group_maps.csv")
    (directory / "group_maps.json").write_text(maps_to_json(maps), encoding="utf-8")
    failed = draw_pictures({f"group_{contrast}.png": partial(draw_group_map, maps)}, directory)
    if failed:
        (directory / "warnings.txt").write_text("\n".join(failed) + "\n", encoding="utf-8")


def make_group_images(maps: "GroupMaps") -> dict[str, nib.Nifti1Image]:
    """Return the maps as images, by the name of their file without contrast and suffix."""
    chance = float(maps.settings["chance"])
    image = partial(_make_image, maps)
    images = {"group_mean": image(maps.mean, "mean score over subjects", (chance, float(maps.mean.max())))}
    if (test := maps.mean_test) is not None:
        images |= {
            "group_z": image(test.z, "standardised mean of the statistic", (0.0, float(test.z.max()))),
            "group_p": image(test.p, "permutation of means: p, not corrected", (0.0, ALPHA), 1.0),
            "group_p_fwe": image(test.p_fwe, "permutation of means: p, corrected", (0.0, ALPHA), 1.0),
            "group_thresholded": image(
                np.where(test.p_fwe <= ALPHA, maps.mean, 0.0),
                "mean score where p, corrected, <= .05",
                (chance, float(maps.mean.max())),
            ),
        }
        if test.clusters is not None:
            images["group_p_cluster_size"] = image(
                test.clusters.p, f"p of clusters above z {test.clusters.threshold:g}", (0.0, ALPHA), 1.0
            )
    if (found := maps.prevalence) is not None:
        images |= {
            "group_p_global": image(found.p_global_corrected, "prevalence: global null", (0.0, ALPHA), 1.0),
            "group_p_majority": image(
                found.p_majority_corrected, "prevalence: majority null", (0.0, ALPHA), 1.0
            ),
            "group_gamma0": image(
                np.nan_to_num(found.gamma0_corrected), "prevalence: gamma0, corrected", (0.0, 1.0)
            ),
        }
    if (flipped := maps.sign_flip) is not None:
        images |= {
            "group_p_sign_flip": image(flipped.p_fwe, "sign flip: p, corrected", (0.0, ALPHA), 1.0),
            "group_p_sign_flip_tfce": image(flipped.p_tfce, "sign flip: p of TFCE", (0.0, ALPHA), 1.0),
        }
    return images


def _unmask(maps: "GroupMaps", values: NDArray[Any], outside: float = 0.0) -> NDArray[np.float64]:
    volume = np.full(maps.grid.mask.shape, outside, dtype=np.float64)
    volume[maps.grid.mask] = values
    return volume


def _make_image(
    maps: "GroupMaps", values: NDArray[Any], words: str, shown: tuple[float, float], outside: float = 0.0
) -> nib.Nifti1Image:
    image = nib.Nifti1Image(_unmask(maps, values, outside), maps.grid.affine)
    return label_image(
        image, (MNI_CODE if maps.grid.space.startswith(TEMPLATE) else ALIGNED, 0), words, shown
    )


def find_group_peaks(maps: "GroupMaps") -> pd.DataFrame:
    """Return the peaks of the standardised mean, or of the mean score where there is no test.

    See `harness.report.map_peaks.find_peaks`.

    Returns
    -------
    peaks : DataFrame, one row per peak, the highest of every cluster first
        ``cluster, x_mm, y_mm, z_mm, mean_score``; ``z, p, p_fwe, p_majority, gamma0`` and
        ``p_sign_flip_tfce`` of those that were computed; ``cluster_mm3``, NaN for further peaks of a cluster.
    """
    test = maps.mean_test
    if test is not None:
        values, threshold = test.z, math.inf if test.clusters is None else test.clusters.threshold
    else:
        values, threshold = maps.mean, float(np.percentile(maps.mean, HIGHEST_PERCENTILE))
    threshold = min(threshold, float(values.max()))  # without any cluster, the highest voxel is listed
    found = find_peaks(values, maps.grid.mask, maps.grid.affine, threshold, maps.settings["radius"])
    voxels = found["voxel"].to_numpy()
    columns: dict[str, object] = {name: found[name] for name in ("cluster", "x_mm", "y_mm", "z_mm")}
    columns["mean_score"] = maps.mean[voxels]
    if test is not None:
        columns |= {"z": test.z[voxels], "p": test.p[voxels], "p_fwe": test.p_fwe[voxels]}
    if maps.prevalence is not None:
        columns["p_majority"] = maps.prevalence.p_majority_corrected[voxels]
        columns["gamma0"] = maps.prevalence.gamma0_corrected[voxels]
    if maps.sign_flip is not None:
        columns["p_sign_flip_tfce"] = maps.sign_flip.p_tfce[voxels]
    columns["cluster_mm3"] = found["cluster_mm3"]
    return pd.DataFrame(columns)


def draw_group_map(maps: "GroupMaps", file: Path) -> None:
    """Draw the mean score on the template, or on nothing where there is none, as a PNG."""
    significant = maps.significant
    shown = ScoreMap(
        scores=_unmask(maps, maps.mean),
        centres=maps.grid.mask,
        affine=maps.grid.affine,
        significant=None if significant is None else _unmask(maps, significant) > 0,
        chance=float(maps.settings["chance"]),
        unit=write_score(str(maps.settings["scorer"])),
    )
    flat = 1 in shown.scores.shape
    width, height = (8.0, 4.9) if flat else (9.5, 6.0)
    with new_figure(file, (width, height)) as figure:
        draw_caption(figure, *_describe_figure(maps, shown))
        draw_score_maps(figure, shown, _read_background(maps), top=0.68 / height, bottom=0.5 / height)


def _describe_figure(maps: "GroupMaps", shown: ScoreMap) -> tuple[str, str, str]:
    """Return title, method and legend."""
    params = maps.params
    title = (
        f"{params.get('dataset', '')}: {params.get('estimator', '')} searchlight of {maps.n} subjects, "
        f"{maps.settings['contrast']} (mean {shown.unit})"
    )
    method = (
        f"{len(maps.mean)} voxels that all subjects have, {maps.grid.space}; radius "
        f"{maps.settings['radius']:g} mm; cv={params.get('cv', '')}; signal: "
        f"{params.get('signal', '')}"
    )
    legend = f"Mean over subjects; white: chance ({shown.chance:.3g})."
    if shown.significant is None:
        return title, method, f"{legend} Not tested: no p-values. Left is left."
    n = int(shown.significant.sum())
    outlined = "Outlined: " if n else ""
    statistic = write_score(str(maps.settings["statistic"]))
    legend += (
        f" {outlined}{n} of {len(maps.mean)} voxels with p <= .05, corrected over voxels (permutation of "
        f"means of {statistic}, maximum statistic). {describe_within()} Left is left."
    )
    return title, method, legend


def _read_background(maps: "GroupMaps") -> nib.Nifti1Image | None:
    if not maps.grid.space.startswith(TEMPLATE):
        return None
    from nilearn.datasets import load_mni152_template

    with quiet():
        return load_mni152_template(resolution=2)
