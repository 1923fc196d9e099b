"""The peaks of a searchlight's map."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from harness.decoding.scores import nominal_chance
from harness.report.canvas import quiet
from harness.searchlight.choices import Correction
from harness.searchlight.result import SearchlightResult

HIGHEST = 95  # percentile above which scores of a map without a test make clusters
BELOW = 1e-9  # so that a value that equals a threshold is above it


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


def find_peaks(result: SearchlightResult) -> Peaks:
    """Return the peaks of a map.

    Peaks of one cluster are at least two radii apart: their spheres share no voxel. Voxels of a cluster have
    common faces. See `nilearn.reporting.get_clusters_table`, which finds them.
    """
    from nilearn.reporting import get_clusters_table

    test, settings = result.test, result.settings
    if test is not None:
        values, quantity, threshold = test.z, "z", settings.cluster_z
        rule = f"z of at least {threshold:g} (analysis.cluster_z)"
        corrected = test.corrected[Correction.maximum].threshold
        if corrected is not None and corrected < threshold:
            threshold = corrected + 2 * BELOW  # a value that equals it has a p above .05
            rule = f"z above {corrected:.4g} (p <= .05, maximum statistic)"
    else:
        values, quantity = result.score_map, "score"
        chance = nominal_chance(settings.scorer, len(result.samples.contrast.classes))
        threshold = max(float(np.nanpercentile(values, HIGHEST)), chance + 2 * BELOW)
        rule = f"{settings.scorer} of at least {threshold:.3f} (the highest {100 - HIGHEST} %, above chance)"
    # Undefined scores, of folds without one of the classes, are no peaks.
    values = np.where(np.isfinite(values), values, np.nanmin(values, initial=0.0))
    highest = float(values.max())
    if highest < threshold:
        rule = f"no sphere has {rule}; the highest is listed"
        threshold = highest
    # nilearn takes values above the threshold, and only positive ones.
    lift = max(0.0, 1.0 - threshold)
    image = result.to_image(values + lift)
    with quiet():
        found = get_clusters_table(image, threshold + lift - BELOW, min_distance=2 * settings.radius)
    return Peaks(_describe_peaks(result, found), quantity, threshold, rule)


def _describe_peaks(result: SearchlightResult, found: pd.DataFrame) -> pd.DataFrame:
    """Return the maps at the peaks that nilearn's table names."""
    millimetres = found[["X", "Y", "Z"]].to_numpy(dtype=np.float64)
    numbers = _find_spheres(result, millimetres)
    columns: dict[str, object] = {
        "cluster": found["Cluster ID"].astype(str).to_numpy(),
        **{f"{axis}_mm": millimetres[:, place].round(3) for place, axis in enumerate("xyz")},
        "score": result.score_map[numbers],
    }
    if result.test is not None:
        columns |= {"z": result.test.z[numbers], "p": result.test.p[numbers]}
        for name, corrected in result.test.corrected.items():
            columns["p_fwe" if name == Correction.maximum else f"p_{name}"] = corrected.p[numbers]
    columns["n_voxels"] = result.spheres.sizes[numbers]
    columns["cluster_mm3"] = pd.to_numeric(found["Cluster Size (mm3)"], errors="coerce").to_numpy(float)
    return pd.DataFrame(columns)


def _find_spheres(result: SearchlightResult, millimetres: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the spheres whose centres are nearest to positions, (n_positions,)."""
    centres = np.argwhere(result.samples.grid.mask)[result.spheres.centres]
    places = apply_affine(result.samples.grid.affine, centres)
    return np.array(
        [np.square(places - position).sum(axis=1).argmin() for position in millimetres], dtype=np.intp
    )
