"""Signal quality of a recording: global signal, DVARS, temporal signal-to-noise ratio, outliers.

References
----------
.. [1] Power, Barnes, Snyder, Schlaggar, Petersen (2012), NeuroImage 59:2142-2154 (DVARS).
.. [2] Iglewicz, Hoaglin (1993), How to detect and handle outliers (modified z-scores, threshold 3.5).
.. [3] Krueger, Glover (2001), Magnetic Resonance in Medicine 46:631-637 (temporal signal-to-noise ratio).
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.errors import DataError

OUTLIER_Z = 3.5  # Iglewicz and Hoaglin's threshold of a modified z-score
# Without a brain mask, voxels above this fraction of the way from dark to bright are brain (FSL FEAT).
BRAIN_FRACTION = 0.1


@dataclass(frozen=True, eq=False)
class SignalQuality:
    """Signal quality over the voxels of a mask.

    Attributes
    ----------
    global_signal : ndarray of shape (n_volumes,)
        Mean over the mask, in the image's units.
    dvars : ndarray of shape (n_volumes,)
        Root mean square of the change from the previous volume, in percent of the run's mean; NaN in the
        first volume of a run. [1]_
    outliers : ndarray of shape (n_volumes,), bool
        Volumes with a high `dvars`, or a `global_signal` far from the median; see `find_outliers`.
    per_run : DataFrame, one row per run
        ``volumes``; ``mean``, averaged over voxels; ``sd`` over time (ddof=1) and ``tsnr``, mean over SD
        [3]_, without removing trends, as medians over voxels; ``tsnr_roi``; ``dvars`` (median, percent);
        ``outliers`` (count).
    """

    global_signal: np.ndarray
    dvars: np.ndarray
    outliers: np.ndarray
    per_run: pd.DataFrame


def find_outliers(values: np.ndarray, runs: np.ndarray, *, sides: str) -> np.ndarray:
    """Find the volumes whose modified z-score within their run exceeds 3.5.

    The score is ``0.6745 (x - median) / MAD``, MAD being the median of ``|x - median|`` over the run. [2]_

    Parameters
    ----------
    values : ndarray of shape (n_volumes,)
        NaN is never an outlier.
    runs : ndarray of shape (n_volumes,), int
    sides : {"both", "high"}

    Returns
    -------
    outliers : ndarray of shape (n_volumes,), bool
        False throughout a run whose MAD is 0.

    References
    ----------
    .. [2] Iglewicz, Hoaglin (1993), How to detect and handle outliers.
    """
    outliers = np.zeros(len(values), dtype=bool)
    for run in np.unique(runs):
        rows = np.flatnonzero((runs == run) & np.isfinite(values))
        if not len(rows):
            continue
        deviation = values[rows] - np.median(values[rows])
        mad = np.median(np.abs(deviation))
        if mad > 0:
            z = 0.6745 * deviation / mad
            outliers[rows] = (z if sides == "high" else np.abs(z)) > OUTLIER_Z
    return outliers


def estimate_brain_mask(volume: np.ndarray) -> np.ndarray:
    """Select voxels above a tenth of the way from the 2nd to the 98th percentile, as FSL FEAT does.

    The percentiles are those of the voxels that are not 0, so that in an image that is 0 outside a small
    region, that region is selected.

    Parameters
    ----------
    volume : ndarray of shape (x, y, z)

    Returns
    -------
    brain : ndarray of shape (x, y, z), bool

    Raises
    ------
    DataError
        If every voxel is 0.
    """
    nonzero = np.isfinite(volume) & (volume != 0)
    if not nonzero.any():
        raise DataError("every voxel of the image's first volume is 0: the image cannot be inspected")
    dark, bright = np.percentile(volume[nonzero], [2, 98])
    return nonzero & (volume >= dark + BRAIN_FRACTION * (bright - dark) * (dark < bright))


class QualityAccumulator:
    """Accumulates sums over a stream of volumes, so that the whole image is never in memory.

    Parameters
    ----------
    quality_mask, roi_mask : ndarray of shape (x, y, z), bool
    runs : ndarray of shape (n_volumes,), int
    shown : collection of int
        Indices of the volumes that are kept in `examples`.

    Attributes
    ----------
    n_volumes : int
        Number of volumes that were added; those beyond `runs` are counted only.
    n_not_finite : int
        Number of values that are NaN or infinite; they count as 0.
    examples : dict of int to ndarray of shape (x, y, z)
        The volumes of `shown`, by their index.
    """

    def __init__(
        self,
        quality_mask: np.ndarray,
        roi_mask: np.ndarray | None,
        runs: np.ndarray,
        shown: Collection[int] = (),
    ) -> None:
        self._voxels = quality_mask if roi_mask is None else quality_mask | roi_mask
        self._brain = quality_mask[self._voxels]
        self._roi = None if roi_mask is None else roi_mask[self._voxels]
        self._runs = runs
        self._chosen = frozenset(shown)
        self._previous: np.ndarray | None = None
        # Welford's algorithm: a plain sum of squares would lose the digits that the SD consists of.
        self._count: dict[int, int] = {}
        self._mean: dict[int, np.ndarray] = {}
        self._squares: dict[int, np.ndarray] = {}
        self._change: list[float] = []
        self._global_signal: list[float] = []
        self._total = np.zeros(quality_mask.shape)
        self.n_volumes = 0
        self.n_not_finite = 0
        self.examples: dict[int, np.ndarray] = {}

    def add(self, volume: np.ndarray) -> None:
        """Add the next volume."""
        index = self.n_volumes
        self.n_volumes += 1
        if index >= len(self._runs):
            return  # more volumes than labels; they are counted for the message
        if volume.dtype.kind == "f":
            finite = np.isfinite(volume)
            self.n_not_finite += int(volume.size - finite.sum())
            volume = np.where(finite, volume, 0)
        np.add(self._total, volume, out=self._total)
        if index in self._chosen:
            self.examples[index] = volume.copy()
        values = volume[self._voxels].astype(np.float64)
        brain = values[self._brain]
        run = int(self._runs[index])
        self._global_signal.append(float(brain.mean()))
        first = index == 0 or self._runs[index - 1] != run or self._previous is None
        self._change.append(np.nan if first else float(np.sqrt(np.mean((brain - self._previous) ** 2))))
        self._previous = brain
        n = self._count[run] = self._count.get(run, 0) + 1
        if n == 1:
            self._mean[run], self._squares[run] = values, np.zeros_like(values)
            return
        deviation = values - self._mean[run]
        self._mean[run] = self._mean[run] + deviation / n
        self._squares[run] += deviation * (values - self._mean[run])

    def mean_volume(self) -> np.ndarray:
        """Return the mean over all volumes, of shape (x, y, z), float32."""
        return (self._total / self.n_volumes).astype(np.float32)

    def summarise(self) -> SignalQuality:
        """Return the signal quality of all volumes that were added."""
        global_signal, dvars = np.array(self._global_signal), self._dvars_percent()
        outliers = find_outliers(dvars, self._runs, sides="high")
        outliers |= find_outliers(global_signal, self._runs, sides="both")
        return SignalQuality(global_signal, dvars, outliers, self._summarise_runs(dvars, outliers))

    def _dvars_percent(self) -> np.ndarray:
        means = {run: mean[self._brain].mean() for run, mean in self._mean.items()}
        scale = np.array([means[int(run)] for run in self._runs])
        with np.errstate(divide="ignore", invalid="ignore"):
            return 100 * np.array(self._change) / np.abs(scale)

    def _summarise_runs(self, dvars: np.ndarray, outliers: np.ndarray) -> pd.DataFrame:
        rows = {}
        for run, n in sorted(self._count.items()):
            mean, here = self._mean[run], self._runs == run
            sd = np.sqrt(self._squares[run] / (n - 1)) if n > 1 else np.zeros_like(mean)
            changes = dvars[here][np.isfinite(dvars[here])]
            rows[run] = {
                "volumes": n,
                "mean": mean[self._brain].mean(),
                "sd": np.median(sd[self._brain]),
                "tsnr": _median_tsnr(mean[self._brain], sd[self._brain]),
                "tsnr_roi": np.nan if self._roi is None else _median_tsnr(mean[self._roi], sd[self._roi]),
                "dvars": np.median(changes) if len(changes) else np.nan,
                "outliers": int(outliers[here].sum()),
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("run")


def _median_tsnr(mean: np.ndarray, sd: np.ndarray) -> float:
    """Return the median of mean over SD, over the voxels that vary."""
    varying = sd > 0
    return float(np.median(mean[varying] / sd[varying])) if varying.any() else np.nan
