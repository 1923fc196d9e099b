"""The signal options of a run, and the cleaning of time courses with `nilearn.signal.clean`.

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
    """How the time courses of the voxels are prepared.

    Except for `zscore` "own" and "train" and for `average_blocks`, this is done over all volumes of a run,
    including those that are not decoded, before volumes are selected.

    Parameters
    ----------
    zscore : {"own", "run", "train", "none"}
        The volumes whose mean and standard deviation (ddof=1) standardise a voxel:

        - ``"own"``: those that are standardised. For test scores and in searchlights: the training and the
          held-out volumes of a fold, each by themselves. For selected scores and maps of a decoding, as in
          nilearn's Decoder: all selected volumes together before the folds are made, then the held-out
          volumes by themselves when they are predicted.
        - ``"run"``: all volumes of the same run, before volumes are selected.
        - ``"train"``: the training volumes of the fold, also for the held-out volumes.
        - ``"none"``: no standardisation.
    detrend : bool
        Remove the linear trend of every voxel in every run.
    smoothing_fwhm : float, optional
        Full width at half maximum of the Gaussian that smooths every volume, in mm.
    high_pass : float, optional
        Cut-off frequency of a Butterworth filter that removes slower changes, in Hz.
    low_pass : float, optional
        Cut-off frequency of a Butterworth filter that removes faster changes, in Hz.
    confounds : sequence of str, optional
        Columns that are regressed out; by default all of `confounds_file`, and none without it. Columns that
        depend linearly on others in a run have no effect there.
    confounds_file : str, optional
        Table (TSV) with one row per volume; ``{subject}`` in its path stands for the number of the subject.
        Without it, the columns are those of the confounds of the data set.
    lag : int
        Delay of the haemodynamic response, in volumes.
    trim_first : int
        Number of volumes that are left out at the beginning of every block.
    trim_last : int
        Number of volumes that are left out at the end of every block.
    average_blocks : bool
        Average the volumes of every block to one sample.
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
                raise UsageError(f"signal.{name}={value} must be finite and above 0, or null for none")
        if self.confounds_file is not None:
            expand_path("signal.confounds_file", self.confounds_file)
        if self.high_pass and self.low_pass and self.high_pass >= self.low_pass:
            raise UsageError(
                f"signal.high_pass={self.high_pass} must be below signal.low_pass={self.low_pass}; "
                "otherwise the filter removes all of the signal"
            )
        for name in ("lag", "trim_first", "trim_last"):
            if getattr(self, name) < 0:
                raise UsageError(
                    f"signal.{name}={getattr(self, name)} is negative; expected a number of volumes"
                )
        self._check_confounds()

    def _check_confounds(self) -> None:
        if self.confounds is None:
            return
        if isinstance(self.confounds, str):
            raise UsageError(
                f"signal.confounds={self.confounds!r} is not a list; type signal.confounds=[{self.confounds}]"
            )
        names = [str(name) for name in self.confounds]
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise UsageError(f"signal.confounds names {repeated[0]!r} twice; name every column once")
        if not names and self.confounds_file is not None:
            raise UsageError(
                f"signal.confounds_file={self.confounds_file} has no effect with signal.confounds=[], which "
                "selects no column; type signal.confounds=null for all columns, or leave out the file"
            )

    @property
    def cleans_runs(self) -> bool:
        """Whether `clean_runs` changes the time courses."""
        steps = (self.detrend, self.high_pass, self.low_pass, self.confounds, self.confounds_file)
        return self.zscore == "run" or any(steps)

    @property
    def before_masking(self) -> Mapping[str, Any]:
        """The steps that are applied to whole volumes, before they are masked."""
        return {} if self.smoothing_fwhm is None else {"smoothing_fwhm": self.smoothing_fwhm}


def zscore(X: np.ndarray) -> np.ndarray:
    """Standardise every voxel (column) of samples to mean 0 and SD 1 (ddof=1); constant voxels become 0."""
    return clean(X, detrend=False, standardize="zscore_sample", filter=False)


def find_moments(X: np.ndarray, axis: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and SD (ddof=1) of every voxel, the latter 1 for voxels that are constant but for rounding.

    Parameters
    ----------
    X : ndarray
    axis : int
        Of the samples; kept, with length 1.

    Returns
    -------
    location, scale : ndarray, float64
    """
    location = X.mean(axis=axis, keepdims=True, dtype=np.float64)
    scale = X.std(axis=axis, ddof=1, keepdims=True, dtype=np.float64)
    # Sums of n equal values are rounded n times, so that their mean may differ from them.
    rounding = max(10, X.shape[axis]) * np.finfo(np.float64).eps
    scale[scale < rounding * np.maximum(1.0, np.abs(location))] = 1.0
    return location, scale


def clean_runs(
    data: np.ndarray,
    runs: np.ndarray,
    signal: Signal,
    recording: Recording,
    confounds: pd.DataFrame | None = None,
) -> np.ndarray:
    """Detrend, filter, regress out confounds and standardise, run by run, with `nilearn.signal.clean`.

    Parameters
    ----------
    data : ndarray of shape (n_volumes, n_voxels)
        All volumes of the recording.
    runs : ndarray of shape (n_volumes,), int
    confounds : DataFrame with one row per volume, optional
        See `harness.samples.confounds.select_confounds`.

    Raises
    ------
    DesignError
        If a run is too short for the filter, or no degree of freedom is left in it.
    DataError
        If a filter needs a repetition time that is unknown.
    """
    counts = dict(zip(*(array.tolist() for array in np.unique(runs, return_counts=True)), strict=True))
    _check_lengths(counts)
    _check_filter(signal, recording)
    steps = {
        "detrend": signal.detrend,
        "filter": "butterworth" if signal.high_pass or signal.low_pass else False,
        "high_pass": signal.high_pass,
        "low_pass": signal.low_pass,
        "t_r": recording.t_r,
    }
    table = None if confounds is None else confounds.to_numpy(dtype=float)
    # Not with the argument `runs` of nilearn, which returns the runs in the order of their numbers.
    rows_of_run = {run: runs == run for run in counts}
    cleaned = np.empty_like(data)
    try:
        regressors = {
            run: None if table is None else _independent_columns(table[rows], steps)
            for run, rows in rows_of_run.items()
        }
        _check_degrees(counts, steps, confounds, regressors)
        for run, rows in rows_of_run.items():
            cleaned[rows] = clean(
                data[rows],
                standardize="zscore_sample" if signal.zscore == "run" else None,
                confounds=regressors[run],
                **steps,
            )
    except ValueError as error:  # a filter that is longer than the run
        lengths = f"runs of {min(counts.values())} to {max(counts.values())} volumes"
        raise DesignError(
            f"the signal of {recording.dataset} subject {recording.subject} cannot be cleaned with these "
            f"options ({lengths}, TR {recording.t_r} s): {error}"
        ) from error
    return cleaned


def degrees_of_freedom(n_volumes: int, steps: Mapping[str, Any], confounds: np.ndarray | None) -> float:
    """Return the degrees of freedom of a run after cleaning, without that of its mean.

    ``||C S||_F^2``, where `S` is the cleaned unit matrix (one impulse per volume) and `C` subtracts the mean:
    the expected sum of squares of cleaned white noise of variance 1. Without a filter, it is the number of
    volumes minus the rank of constant, trend and confounds.

    Parameters
    ----------
    steps : mapping
        Arguments of `nilearn.signal.clean` except `standardize`.
    confounds : ndarray of shape (n_volumes, n_confounds) or None
    """
    impulses = clean(np.eye(n_volumes), standardize=None, confounds=confounds, **steps)
    return float(np.square(impulses - impulses.mean(axis=0)).sum())


def _independent_columns(confounds: np.ndarray, steps: Mapping[str, Any]) -> np.ndarray | None:
    """Return the confounds of a run that are linearly independent after detrending and filtering.

    nilearn scales the remainder of a confound after detrending, and after the other confounds, to unit norm.
    The remainder of a dependent confound is rounding error, so that a direction of noise would be removed.
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

    Half of those that the filter leaves: below, even random confounds remove more of the signal than remains
    [1]_.
    """
    causes = [] if confounds is None else [f"{confounds.shape[1]} confounds"]
    causes += ["detrending"] if steps["detrend"] else []
    causes += ["filtering"] if steps["filter"] else []
    if not causes:
        return
    listed = ", ".join(causes[:-1]) + " and " + causes[-1] if len(causes) > 1 else causes[0]
    cause = f"{listed} {'leave' if len(causes) > 1 or confounds is not None else 'leaves'}"
    few = []
    for run, n_volumes in counts.items():
        possible = n_volumes - 1.0
        if steps["filter"]:
            possible = degrees_of_freedom(n_volumes, {**steps, "detrend": False}, None)
        left = degrees_of_freedom(n_volumes, steps, regressors[run])
        if left < 1 - 1e-6:
            raise DesignError(
                f"run {run} has {n_volumes} volumes: {cause} no degree of freedom, so that no signal "
                "remains; select fewer columns with signal.confounds=[...], or detrend or filter less"
            )
        if left < possible / 2 - 1e-6:
            few.append(f"{cause} {left:.0f} of {possible:.0f} degrees of freedom in run {run}")
    if few:
        more = f", and fewer than half in {len(few) - 1} more runs" if len(few) > 1 else ""
        warnings.warn(
            f"{few[0]}{more}: cleaning removes more of the signal than it leaves; select fewer columns with "
            "signal.confounds=[...]",
            stacklevel=3,
        )


def _check_lengths(counts: Mapping[int, int]) -> None:
    run = min(counts, key=counts.__getitem__)
    if counts[run] < 2:
        raise DesignError(
            f"run {run} has {counts[run]} volume; detrending, filtering and z-scoring by run need at least 2 "
            "in every run: type signal=tutorial or signal=train_only"
        )


def _check_filter(signal: Signal, recording: Recording) -> None:
    """Refuse filters without a repetition time, or above the Nyquist frequency, which nilearn would lower."""
    for name in ("high_pass", "low_pass"):
        frequency = getattr(signal, name)
        if frequency is None:
            continue
        if recording.t_r is None:
            raise DataError(
                f"signal.{name}={frequency} needs the repetition time, which {recording.dataset} does not "
                "contain; give it in seconds, for example dataset.t_r=2"
            )
        if frequency >= 0.5 / recording.t_r:
            raise DesignError(
                f"signal.{name}={frequency} Hz is not below the Nyquist frequency of a TR of "
                f"{recording.t_r} s; expected less than {0.5 / recording.t_r:g} Hz"
            )
