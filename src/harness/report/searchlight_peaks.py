"""The peaks of a searchlight's map."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.decoding.scores import nominal_chance
from harness.report.map_peaks import HIGHEST_PERCENTILE, MARGIN, find_peaks
from harness.searchlight.choices import Correction
from harness.searchlight.result import SearchlightResult


@dataclass(frozen=True, eq=False)
class Peaks:
    """The peaks of a map.

    Attributes
    ----------
    table : DataFrame, one row per peak, the highest of every cluster first
        ``cluster``: a number, with a letter for further peaks of the cluster; ``x_mm``, ``y_mm``, ``z_mm``;
        ``score``; of a tested map ``z``, ``p`` (not corrected), ``p_fwe`` and the p of the chosen correction;
        ``n_voxels`` of the sphere; ``cluster_mm3``, NaN for further peaks.
    quantity : {"z", "score"}
        What has the peaks.
    threshold : float
        Voxels with a value of at least that much make clusters.
    rule : str
        Where the threshold comes from, in words.
    """

    table: pd.DataFrame
    quantity: str
    threshold: float
    rule: str


def list_peaks(result: SearchlightResult) -> Peaks:
    """Return the peaks of a map; see `harness.report.map_peaks.find_peaks`."""
    test, settings = result.test, result.settings
    if test is not None:
        values, quantity, threshold = test.z, "z", settings.cluster_z
        rule = f"z of at least {threshold:g} (analysis.cluster_z)"
        corrected = test.corrected[Correction.maximum].threshold
        if corrected is not None and corrected < threshold:
            threshold = corrected + 2 * MARGIN  # a value that equals it has a p above .05
            rule = f"z above {corrected:.4g} (p <= .05, maximum statistic)"
    else:
        values, quantity = result.score_map, "score"
        chance = nominal_chance(settings.scorer, len(result.samples.contrast.classes))
        threshold = max(float(np.nanpercentile(values, HIGHEST_PERCENTILE)), chance + 2 * MARGIN)
        share = f"the highest {100 - HIGHEST_PERCENTILE} %, above chance"
        rule = f"{settings.scorer} of at least {threshold:.3f} ({share})"
    # Undefined scores, of folds without one of the classes, are no peaks.
    values = np.where(np.isfinite(values), values, np.nanmin(values, initial=0.0))
    highest = float(values.max())
    if highest < threshold:
        rule = f"no sphere has {rule}; the highest is listed"
        threshold = highest
    found = find_peaks(values, result.centres, result.samples.grid.affine, threshold, settings.radius)
    return Peaks(_describe_peaks(result, found), quantity, threshold, rule)


def _describe_peaks(result: SearchlightResult, found: pd.DataFrame) -> pd.DataFrame:
    """Return the maps at the peaks."""
    numbers = found["voxel"].to_numpy()
    columns: dict[str, object] = {name: found[name] for name in ("cluster", "x_mm", "y_mm", "z_mm")}
    columns["score"] = result.score_map[numbers]
    if result.test is not None:
        columns |= {"z": result.test.z[numbers], "p": result.test.p[numbers]}
        for name, corrected in result.test.corrected.items():
            columns["p_fwe" if name == Correction.maximum else f"p_{name}"] = corrected.p[numbers]
    columns |= {"n_voxels": result.spheres.sizes[numbers], "cluster_mm3": found["cluster_mm3"]}
    return pd.DataFrame(columns)
