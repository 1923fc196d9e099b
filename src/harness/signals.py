"""Time courses: smoothed, detrended, filtered, freed of confounds, and standardised, as nilearn does it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import nibabel as nib
import numpy as np
import pandas as pd
from nilearn.signal import clean

from harness.datasets.recording import Recording
from harness.errors import DataError, DesignError, UsageError
from harness.locations import expand_path
from harness.volumes import MaskedVolumes, digest_files, list_files

ZScore = Literal["own", "run", "train", "none"]


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
        Columns of the confounds that are regressed out; all of `confounds_file` by default.
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

    zscore: ZScore = "own"
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
        if self.zscore not in get_args(ZScore):
            raise UsageError(
                f"signal.zscore={self.zscore!r} is unknown; expected one of {', '.join(get_args(ZScore))}"
            )
        for name in ("smoothing_fwhm", "high_pass", "low_pass"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"signal.{name}={value} must be more than 0, or null for none")
        if self.confounds_file is not None:
            expand_path("signal.confounds_file", self.confounds_file)
        if self.confounds_file is not None and self.confounds is not None and not self.confounds:
            raise UsageError(
                f"signal.confounds_file={self.confounds_file} has no effect with signal.confounds=[], which "
                "names no column; name columns, or leave signal.confounds out for all of them"
            )
        if self.high_pass and self.low_pass and self.high_pass >= self.low_pass:
            raise UsageError(
                f"signal.high_pass={self.high_pass} must be below signal.low_pass={self.low_pass}, "
                "or nothing passes"
            )
        for name in ("lag", "trim_first", "trim_last"):
            if getattr(self, name) < 0:
                raise UsageError(f"signal.{name}={getattr(self, name)} is negative; expected volumes, from 0")

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


def mask_smoothed(
    bold: Path | Sequence[Path], mask: np.ndarray, affine: np.ndarray, smoothing_fwhm: float
) -> MaskedVolumes:
    """Smooth whole volumes and mask them, with nilearn's own masker.

    Parameters
    ----------
    bold : Path or sequence of Path
        4D images, in order of time.
    mask : ndarray of shape (x, y, z), bool
    affine : ndarray of shape (4, 4)
        The mask's, which is the images', too.
    smoothing_fwhm : float
        Full width at half maximum, in mm.

    Returns
    -------
    MaskedVolumes
        Its mean volume is not smoothed. Values that are not finite count as 0, as nilearn smooths them.
    """
    # Half a second to import, and few runs smooth.
    from nilearn.image import mean_img
    from nilearn.maskers import NiftiMasker

    files = list_files(bold)
    masker = NiftiMasker(
        nib.Nifti1Image(mask.astype(np.uint8), affine), smoothing_fwhm=smoothing_fwhm, standardize=None
    ).fit()
    parts = [masker.transform(nib.load(file)) for file in files]
    means = [np.asarray(mean_img(nib.load(file), copy_header=True).dataobj) for file in files]
    return MaskedVolumes(
        data=np.ascontiguousarray(np.concatenate(parts), dtype=np.float32),
        mean_volume=np.average(means, axis=0, weights=[len(part) for part in parts]).astype(np.float32),
        digest=digest_files(bold),
        affine=affine,
    )


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
    cleaned : ndarray of shape (n_volumes, n_voxels), float32

    Raises
    ------
    DesignError
        If a run is too short for what is asked.
    DataError
        If the confounds do not fit the recording, or a filter needs a repetition time that nobody says.
    """
    ids, counts = np.unique(runs, return_counts=True)
    if counts.min() < 2:
        raise DesignError(
            f"run {ids[counts.argmin()]} has {counts.min()} volume; detrending, filtering and z-scoring by "
            "run need at least 2 in every run: use signal=tutorial or signal=train_only"
        )
    _check_filter(signal, recording)
    try:
        cleaned = clean(
            data,
            runs=runs,
            detrend=signal.detrend,
            standardize="zscore_sample" if signal.zscore == "run" else None,
            confounds=None if confounds is None else confounds.to_numpy(dtype=float),
            filter="butterworth" if signal.high_pass or signal.low_pass else False,
            high_pass=signal.high_pass,
            low_pass=signal.low_pass,
            t_r=recording.t_r,
        )
    except ValueError as error:  # a filter that is longer than the run
        raise DesignError(
            f"the signal of {recording.dataset} subject {recording.subject} cannot be cleaned as asked "
            f"(runs of {counts.min()} to {counts.max()} volumes, TR {recording.t_r} s): {error}"
        ) from error
    return cleaned.astype(np.float32)


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


def select_confounds(signal: Signal, recording: Recording, runs: np.ndarray) -> pd.DataFrame | None:
    """Return the confounds that are asked for, one row per volume.

    Leading gaps of a run, which fMRIPrep leaves in temporal derivatives, take the next value.

    Parameters
    ----------
    signal : Signal
    recording : Recording
    runs : ndarray of shape (n_volumes,), int

    Returns
    -------
    confounds : DataFrame with one row per volume, or None if none are asked for

    Raises
    ------
    DataError
        If the table cannot be read, lacks a column, has another length than the recording, or gaps.
    """
    if signal.confounds_file is None and not signal.confounds:
        return None
    if signal.confounds_file is not None:
        source = signal.confounds_file.replace("{subject}", str(recording.subject))
        try:
            table = pd.read_csv(expand_path("signal.confounds_file", source), sep="\t", na_values=["n/a"])
        except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
            raise DataError(f"signal.confounds_file: {source} cannot be read as a table: {error}") from error
    elif recording.confounds is not None:
        source, table = f"the confounds of {recording.dataset}", recording.confounds
    else:
        raise DataError(
            f"signal.confounds={list(signal.confounds or [])}: {recording.dataset} comes without confounds; "
            "give a table with signal.confounds_file=PATH"
        )
    names = list(signal.confounds) if signal.confounds else list(table.columns)
    missing = [name for name in names if name not in table]
    if missing:
        raise DataError(
            f"signal.confounds: {source} has no column {missing[0]!r}; "
            f"it has {', '.join(map(str, table.columns[:20]))}"
        )
    if len(table) != len(runs):
        raise DataError(f"{source} has {len(table)} rows, but the recording has {len(runs)} volumes")
    chosen = table[names].reset_index(drop=True)
    leading = ~chosen.notna().groupby(runs).cummax()
    chosen = chosen.mask(leading, chosen.groupby(runs).bfill())
    for name in names:
        numbers = pd.to_numeric(chosen[name], errors="coerce")
        if not np.isfinite(numbers).all():
            row = int((~np.isfinite(numbers)).to_numpy().argmax())
            raise DataError(
                f"{source}, column {name!r}, row {row + 1} is {table[name].iloc[row]!r}; expected a number: "
                "fill it, or leave the column out of signal.confounds"
            )
    return chosen.astype(float)
