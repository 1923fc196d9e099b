"""Time courses: smoothed, detrended, filtered, freed of confounds, and standardised, as nilearn does it.

References
----------
.. [1] Bright, Murphy (2015), NeuroImage 114:158-169, doi:10.1016/j.neuroimage.2015.03.070: as many random
   regressors remove as much of the signal as nuisance regressors do.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from nilearn.signal import clean
from scipy.linalg import qr

from harness.datasets.locations import expand_path
from harness.datasets.recording import Recording
from harness.errors import DataError, DesignError, UsageError
from harness.samples.choices import ZScore

DEPENDENT = 1e-8  # share of a confound's norm below which what others leave of it is rounding error


@dataclass(frozen=True)
class Signal:
    """How the voxels' time courses are prepared.

    Everything but `zscore` "own" and "train" and `average_blocks` is done over all volumes of a run, those
    that are not decoded included, before any volume is selected.

    Parameters
    ----------
    zscore : {"own", "run", "train", "none"}
        Whose mean and standard deviation (ddof=1) standardise a voxel.

        - ``"own"``: every set of volumes by its own, as nilearn's Decoder does: all selected volumes before
          the folds are made, and the held-out volumes by themselves when they are predicted.
        - ``"run"``: every run by its own, over all of its volumes, before any are selected.
        - ``"train"``: the training volumes', applied to the volumes that are held out.
        - ``"none"``: nobody's.
    detrend : bool
        Remove the linear trend of every voxel in every run.
    smoothing_fwhm : float, optional
        Full width at half maximum of a Gaussian that smooths every volume, in mm.
    high_pass, low_pass : float, optional
        Cut-off frequencies of a Butterworth filter, in Hz.
    confounds : sequence of str, optional
        Columns of the confounds that are regressed out; all of `confounds_file` by default, and none without
        it. Columns that depend linearly on others in a run change nothing there.
    confounds_file : str, optional
        Table (TSV) with one row per volume; ``{subject}`` in its path stands for the subject's number.
        Without it, the columns are looked up among the confounds that the data set comes with.
    lag : int
        Volumes by which the haemodynamic response lags behind what is shown.
    trim_first, trim_last : int
        Volumes that are left out at the edges of every block.
    average_blocks : bool
        Make one sample of every block: the mean of its volumes.
    """

    zscore: str = ZScore.own
    detrend: bool = False
    smoothing_fwhm: float | None = None
    high_pass: float | None = None
    low_pass: float | None = None
    confounds: Sequence[str] | None = None
    confounds_file: str | None = None
    lag: int = 0
    trim_first: int = 0
    trim_last: int = 0
    average_blocks: bool = False

    def __post_init__(self) -> None:
        if self.zscore not in list(ZScore):
            raise UsageError(f"signal.zscore={self.zscore!r} is unknown; expected one of {', '.join(ZScore)}")
        for name in ("smoothing_fwhm", "high_pass", "low_pass"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"signal.{name}={value} must be a finite number above 0, or null for none")
        if self.confounds_file is not None:
            expand_path("signal.confounds_file", self.confounds_file)
        if self.high_pass and self.low_pass and self.high_pass >= self.low_pass:
            raise UsageError(
                f"signal.high_pass={self.high_pass} must be below signal.low_pass={self.low_pass}, "
                "or nothing passes"
            )
        for name in ("lag", "trim_first", "trim_last"):
            if getattr(self, name) < 0:
                raise UsageError(f"signal.{name}={getattr(self, name)} is negative; expected volumes, from 0")
        self._check_confounds()

    def _check_confounds(self) -> None:
        if self.confounds is None:
            return
        if isinstance(self.confounds, str):
            raise UsageError(
                f"signal.confounds={self.confounds!r} is not a list; type signal.confounds=[{self.confounds}]"
            )
        names = [str(name) for name in self.confounds]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise UsageError(f"signal.confounds names {twice[0]!r} twice; expected every column once")
        if not names and self.confounds_file is not None:
            raise UsageError(
                f"signal.confounds_file={self.confounds_file} has no effect with signal.confounds=[], which "
                "chooses no column; type signal.confounds=null for all of them, or leave out the file"
            )

    @property
    def cleans_runs(self) -> bool:
        """Whether time courses are changed run by run."""
        asked = (self.detrend, self.high_pass, self.low_pass, self.confounds, self.confounds_file)
        return self.zscore == "run" or any(asked)

    @property
    def before_masking(self) -> Mapping[str, Any]:
        """What is done to whole volumes; with the image and the mask it decides on the masked volumes."""
        return {} if self.smoothing_fwhm is None else {"smoothing_fwhm": self.smoothing_fwhm}


def zscore(X: np.ndarray) -> np.ndarray:
    """Standardise every voxel over the given samples, as nilearn's ``zscore_sample`` does.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)

    Returns
    -------
    Z : ndarray of shape (n_samples, n_voxels), of the dtype of `X`
        Mean 0 and standard deviation 1 (ddof=1); 0 where a voxel is constant.
    """
    return clean(X, detrend=False, standardize="zscore_sample", filter=False)


def clean_runs(
    data: np.ndarray,
    runs: np.ndarray,
    signal: Signal,
    recording: Recording,
    confounds: pd.DataFrame | None = None,
) -> np.ndarray:
    """Detrend, filter, regress confounds out of and standardise every run, with `nilearn.signal.clean`.

    Parameters
    ----------
    data : ndarray of shape (n_volumes, n_voxels)
        All volumes of the recording.
    runs : ndarray of shape (n_volumes,), int
    signal : Signal
    recording : Recording
    confounds : DataFrame with one row per volume, optional
        See `select_confounds`.

    Returns
    -------
    cleaned : ndarray of shape (n_volumes, n_voxels), of the dtype of `data`

    Raises
    ------
    DesignError
        If a run is too short for the filter, or no degree of freedom is left in it.
    DataError
        If the confounds do not fit the recording, or a filter needs a repetition time that is unknown.

    Warns
    -----
    UserWarning
        If few degrees of freedom are left in a run.
    """
    ids, counts = np.unique(runs, return_counts=True)
    if counts.min() < 2:
        raise DesignError(
            f"run {ids[counts.argmin()]} has {counts.min()} volume; detrending, filtering and z-scoring by "
            "run need at least 2 in every run: use signal=tutorial or signal=train_only"
        )
    _check_filter(signal, recording)
    steps = {
        "detrend": signal.detrend,
        "filter": "butterworth" if signal.high_pass or signal.low_pass else False,
        "high_pass": signal.high_pass,
        "low_pass": signal.low_pass,
        "t_r": recording.t_r,
    }
    table = None if confounds is None else confounds.to_numpy(dtype=float)
    # Run by run: with `runs`, nilearn returns them in the order of their numbers, not in that of `data`.
    places = {run: runs == run for run in ids.tolist()}
    cleaned = np.empty_like(data)
    try:
        regressors = {
            run: None if table is None else _independent(table[place], steps) for run, place in places.items()
        }
        _check_degrees(dict(zip(ids.tolist(), counts.tolist(), strict=True)), steps, confounds, regressors)
        for run, place in places.items():
            cleaned[place] = clean(
                data[place],
                standardize="zscore_sample" if signal.zscore == "run" else None,
                confounds=regressors[run],
                **steps,
            )
    except ValueError as error:  # a filter that is longer than the run
        raise DesignError(
            f"the signal of {recording.dataset} subject {recording.subject} cannot be cleaned as asked "
            f"(runs of {counts.min()} to {counts.max()} volumes, TR {recording.t_r} s): {error}"
        ) from error
    return cleaned


def degrees_of_freedom(n_volumes: int, steps: Mapping[str, Any], confounds: np.ndarray | None) -> float:
    """Return how many degrees of freedom cleaning leaves of a run, its mean not counted.

    ``||C S||_F^2``: `S` is what `nilearn.signal.clean` makes of the unit matrix, one impulse per volume, and
    `C` subtracts the mean. Without a filter: the volumes less the rank of constant, trend and confounds.

    Parameters
    ----------
    n_volumes : int
    steps : mapping
        Arguments of `nilearn.signal.clean`, but for `standardize`.
    confounds : ndarray of shape (n_volumes, n_confounds) or None

    Returns
    -------
    degrees : float
        Expected sum of squares of white noise of variance 1 after cleaning.
    """
    impulses = clean(np.eye(n_volumes), standardize=None, confounds=confounds, **steps)
    return float(np.square(impulses - impulses.mean(axis=0)).sum())


def _independent(confounds: np.ndarray, steps: Mapping[str, Any]) -> np.ndarray | None:
    """Return the confounds of a run that are linearly independent after detrending and filtering.

    nilearn scales what detrending leaves of a confound, and what the others leave of it, to unit norm: of a
    confound that depends on others, this is rounding error, and a direction of noise would be removed.
    """
    constant = np.ptp(confounds, axis=0) <= 10 * np.finfo(float).eps * np.abs(confounds).max(axis=0)
    varying = confounds[:, ~constant]
    if not varying.shape[1]:
        return None
    prepared = clean(varying, standardize=None, **steps)
    prepared = prepared - prepared.mean(axis=0)
    norm = np.linalg.norm(varying - varying.mean(axis=0), axis=0)
    R, order = qr(prepared / norm, mode="r", pivoting=True)
    kept = np.sort(order[: np.count_nonzero(np.abs(np.diag(R)) > DEPENDENT)])
    return varying[:, kept] if len(kept) else None


def _check_degrees(
    counts: Mapping[int, int],
    steps: Mapping[str, Any],
    confounds: pd.DataFrame | None,
    regressors: Mapping[int, np.ndarray | None],
) -> None:
    """Refuse runs in which cleaning leaves no degree of freedom; warn where it leaves fewer than half.

    Half of those that the filter leaves: any confounds, also random ones, then remove more of the signal than
    they leave [1]_.
    """
    words = [] if confounds is None else [f"{confounds.shape[1]} confounds"]
    words += ["detrending"] if steps["detrend"] else []
    words += ["filtering"] if steps["filter"] else []
    if not words:
        return
    verb = "leave" if len(words) > 1 or confounds is not None else "leaves"
    what = f"{' and '.join([', '.join(words[:-1]), words[-1]] if len(words) > 1 else words)} {verb}"
    few = []
    for run, n_volumes in counts.items():
        possible = n_volumes - 1.0
        if steps["filter"]:
            possible = degrees_of_freedom(n_volumes, {**steps, "detrend": False}, None)
        left = degrees_of_freedom(n_volumes, steps, regressors[run])
        if left < 1 - 1e-6:
            raise DesignError(
                f"run {run} has {n_volumes} volumes: {what} no degree of freedom, nothing of the signal "
                "remains; choose fewer columns with signal.confounds=[...], or detrend or filter less"
            )
        if left < possible / 2 - 1e-6:
            few.append(f"{what} {left:.0f} of {possible:.0f} degrees of freedom in run {run}")
    if few:
        more = f", and fewer than half in {len(few) - 1} more runs" if len(few) > 1 else ""
        warnings.warn(
            f"{few[0]}{more}: more of the signal is removed than is left; choose fewer columns with "
            "signal.confounds=[...]",
            stacklevel=3,
        )


def _check_filter(signal: Signal, recording: Recording) -> None:
    """Refuse a filter without a repetition time, or beyond the Nyquist frequency, where nilearn lowers it."""
    for name in ("high_pass", "low_pass"):
        frequency = getattr(signal, name)
        if frequency is None:
            continue
        if recording.t_r is None:
            raise DataError(
                f"signal.{name}={frequency} needs the repetition time, which {recording.dataset} does not "
                "say; give it in seconds, such as dataset.t_r=2"
            )
        if frequency >= 0.5 / recording.t_r:
            raise DesignError(
                f"signal.{name}={frequency} Hz is beyond what a TR of {recording.t_r} s can show; "
                f"expected less than {0.5 / recording.t_r:g} Hz"
            )
