"""The settings of a searchlight: what can be chosen with ``analysis=searchlight``."""

import math
from dataclasses import dataclass

from harness.datasets.locations import expand_path
from harness.decoding.choices import Scorer
from harness.errors import UsageError
from harness.searchlight.choices import Correction, Statistic


@dataclass(frozen=True)
class Searchlight:
    """A sphere around every voxel of a region, whose voxels are decoded.

    Parameters
    ----------
    radius : float
        Of the spheres, in mm: voxels whose centres are at most that far from the centre of the sphere.
    min_voxels : int
        Spheres with fewer voxels in the brain mask are left out.
    mask : str
        The voxels that spheres may take: the name of a mask of the data set, or the path of a mask image. The
        region (`roi.mask`) is the set of centres.
    scorer : {"accuracy", "balanced_accuracy", "roc_auc"}
        The score of the map: the mean over folds of test scores.
    statistic : {"roc_auc", "decision_value", "accuracy", "balanced_accuracy"}
        What a test of the map computes under relabelling. ``"decision_value"`` is the difference between the
        mean decision values of the classes, half of it, per fold.
    correction : {"maximum", "tfce", "cluster_size"}
        Which family-wise correction thresholds the map. The maximum statistic is computed in any case.
    cluster_z : float
        Standardised statistic above which voxels make clusters, for ``"cluster_size"``.
    keep_maps : int
        Relabelled maps that are stored with a tested map, for tests over subjects; that of the true labelling
        is one of them.
    batch_size : int, optional
        Spheres that a process computes, holds in memory under all labellings, and stores together, so that a
        killed run loses at most so many per process. By default few where a sphere takes long, so that this
        is less than about a minute. Results do not depend on it.
    processes : int, optional
        Processes that share the spheres; by default one per core for a single run, and one in a sweep.

    Raises
    ------
    UsageError
        For a value that cannot be used.
    """

    radius: float = 8.0
    min_voxels: int = 10
    mask: str = "brain"
    scorer: str = Scorer.accuracy.value
    statistic: str = Statistic.roc_auc.value
    correction: str = Correction.maximum.value
    cluster_z: float = 3.09
    keep_maps: int = 100
    batch_size: int | None = None
    processes: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.mask, str) or not self.mask:
            raise UsageError(
                f"analysis.mask={self.mask!r} cannot be used; expected the name of a mask or a path"
            )
        expand_path("analysis.mask", self.mask)
        for name in ("radius", "cluster_z"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise UsageError(f"analysis.{name}={value} cannot be used; expected a number above 0")
        for name, least in (("min_voxels", 1), ("keep_maps", 0), ("batch_size", 1), ("processes", 1)):
            value = getattr(self, name)
            if value is None and name in ("batch_size", "processes"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(
                    f"analysis.{name}={value} cannot be used; expected a whole number, from {least}"
                )
        kinds = (("scorer", Scorer), ("statistic", Statistic), ("correction", Correction))
        for name, kind in kinds:
            if getattr(self, name) not in list(kind):
                raise UsageError(
                    f"analysis.{name}={getattr(self, name)!r} is unknown; expected one of {', '.join(kind)}"
                )
