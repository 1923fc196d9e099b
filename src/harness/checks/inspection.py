"""What one looks at before decoding: the files, the design, the shapes, the quality of the signal.

The order is that of nilearn's introduction to decoding; `harness.report.inspection_page` draws it.

References
----------
.. [1] Power, Barnes, Snyder, Schlaggar, Petersen (2012), NeuroImage 59:2142-2154 (DVARS).
.. [2] Iglewicz, Hoaglin (1993), How to detect and handle outliers (modified z-scores, threshold 3.5).
.. [3] Krueger, Glover (2001), Magnetic Resonance in Medicine 46:631-637 (temporal signal-to-noise ratio).
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from harness.datasets.headers import read_nifti_header
from harness.datasets.images import digest_files, list_files, read_mask, read_volume, stream_volumes
from harness.datasets.locations import expand_path
from harness.datasets.recording import Recording, describe_files
from harness.errors import DataError, HarnessError
from harness.samples.cache import SampleCache
from harness.samples.contrasts import Contrast
from harness.samples.samples import Roi, find_mask, load_samples
from harness.samples.signal import Signal

OUTLIER_Z = 3.5  # Iglewicz and Hoaglin's threshold of a modified z-score
REFUSED = "a run would fail: "
N_STRIP = 6  # volumes that are shown one by one
# Without a brain mask, brain is what lies above this part of the way from dark to bright voxels (FSL FEAT).
BRAIN_FRACTION = 0.1


@dataclass(frozen=True, eq=False)
class Inspection:
    """What is known of one recording before it is decoded.

    Attributes
    ----------
    recording : Recording
        Without the anatomical image where that cannot be read.
    contrast : Contrast
    roi : Roi
    files : DataFrame, one row per file of the recording
        ``what``, ``file``, ``shape``, ``voxel_mm``, ``dtype``, ``bytes``, ``sha256``; shape, voxel size and
        dtype are empty for what is not an image.
    header_t_r : float or None
        Repetition time in seconds as the image's header has it; the recording's own is what counts.
    conditions : DataFrame, one row per run, one column per condition
        Number of volumes.
    selected : ndarray of shape (n_selected,), int
        Volumes that the contrast selects; empty where it cannot be asked of this recording.
    shapes : DataFrame with columns ``what``, ``before``, ``after``
        Shapes of labels, image and samples, before and after the volumes are selected.
    mean_volume : ndarray of shape (x, y, z), float32
        Mean over all volumes.
    affine : ndarray of shape (4, 4)
        Voxel indices to mm.
    roi_mask : ndarray of shape (x, y, z), bool, or None
        None where there is no such mask, or it does not fit the image.
    quality_mask : ndarray of shape (x, y, z), bool
        Voxels that `quality` is about.
    quality_mask_name : str
    strip : mapping of int to ndarray of shape (x, y, z)
        Some volumes by their index, the first and the last among them.
    global_signal : ndarray of shape (n_volumes,)
        Mean over the quality mask, in the image's units.
    dvars : ndarray of shape (n_volumes,)
        Root mean square of the change since the volume before, in percent of the run's mean; NaN where a run
        begins. [1]_
    outliers : ndarray of shape (n_volumes,), bool
        Volumes of which `dvars` is high or `global_signal` is far off; see `find_outliers`.
    quality : DataFrame, one row per run
        ``volumes``; ``mean``, averaged over voxels; ``sd`` over time (ddof=1) and ``tsnr``, mean over SD
        [3]_, without removing any trend, as medians over voxels; ``tsnr_roi``; ``dvars`` (median, percent);
        ``outliers`` (count).
    notices : tuple of str
        What a person should know, the worst first.
    """

    recording: Recording
    contrast: Contrast
    roi: Roi
    files: pd.DataFrame
    header_t_r: float | None
    conditions: pd.DataFrame
    selected: np.ndarray
    shapes: pd.DataFrame
    mean_volume: np.ndarray
    affine: np.ndarray
    roi_mask: np.ndarray | None
    quality_mask: np.ndarray
    quality_mask_name: str
    strip: Mapping[int, np.ndarray]
    global_signal: np.ndarray
    dvars: np.ndarray
    outliers: np.ndarray
    quality: pd.DataFrame
    notices: tuple[str, ...]


def inspect_recording(
    recording: Recording,
    contrast: Contrast,
    roi: Roi,
    signal: Signal,
    cache: SampleCache | None = None,
) -> Inspection:
    """Look at a recording, reading its image once as a stream.

    Parameters
    ----------
    recording : Recording
    contrast : Contrast
    roi : Roi
    signal : Signal
    cache : SampleCache, optional
        Keeps the masked volumes that the shapes are taken from for the run that comes next.

    Returns
    -------
    Inspection
        What cannot be had, for instance a mask that is missing, is said in its notices.

    Raises
    ------
    DataError
        If the image cannot be read, or its volumes and the labels are not equally many.
    """
    notices = [] if recording.notice is None else [recording.notice]
    runs = recording.labels["run"].to_numpy()
    volumes = stream_volumes(recording.bold)
    first = next(volumes, None)
    if first is None:
        raise DataError(f"{describe_files(recording.bold)}: holds no volume")
    header = read_nifti_header(list_files(recording.bold)[0])
    affine = header.affine

    roi_mask = None
    try:
        roi_mask = _fitting_mask(find_mask(recording, roi.mask), first.shape, affine)
    except HarnessError as error:
        notices.append(str(error))
    quality_mask, name = None, ""
    if "brain" in recording.masks:
        try:
            quality_mask = _fitting_mask(recording.masks["brain"], first.shape, affine)
            name = f"the brain mask, {recording.masks['brain'].name}"
        except HarnessError as error:
            notices.append(str(error))
    if quality_mask is None:
        quality_mask = guess_brain(first)
        name = "what is not dark in the first volume, as there is no brain mask"

    reader = _Reader(quality_mask, roi_mask, runs)
    reader.add(first)
    for volume in volumes:
        reader.add(volume)
    if reader.n_volumes != len(runs):
        raise DataError(
            f"{describe_files(recording.labels_file)} has {len(runs)} rows, but "
            f"{describe_files(recording.bold)} has {reader.n_volumes} volumes; expected one row per volume"
        )
    if reader.n_not_finite:
        notices.append(
            f"{reader.n_not_finite} values of the image are NaN or infinite; they count as 0 in the pictures "
            "and in the signal quality"
        )

    global_signal, dvars = np.array(reader.global_signal), reader.dvars_percent()
    outliers = find_outliers(dvars, runs, sides="high") | find_outliers(global_signal, runs, sides="both")
    selected, shapes, more = _select(recording, contrast, roi, signal, cache, first.shape, roi_mask)
    # What a run would say of the mask is the same message.
    notices = [notice for notice in notices if f"{REFUSED}{notice}" not in more]
    anat = recording.anat
    try:
        if anat is not None:
            read_volume(anat)
    except DataError as error:
        notices.append(f"the anatomical image is not shown: {error}")
        anat = None
    conditions = pd.crosstab(recording.labels["run"], recording.labels["condition"])
    return Inspection(
        recording=replace(recording, anat=anat),
        contrast=contrast,
        roi=roi,
        files=_describe_recording(recording, roi),
        header_t_r=header.t_r,
        conditions=conditions,
        selected=selected,
        shapes=shapes,
        mean_volume=(reader.total / reader.n_volumes).astype(np.float32),
        affine=affine,
        roi_mask=roi_mask,
        quality_mask=quality_mask,
        quality_mask_name=name,
        strip=reader.strip,
        global_signal=global_signal,
        dvars=dvars,
        outliers=outliers,
        quality=reader.summarise(dvars, outliers),
        notices=tuple(dict.fromkeys([*notices, *more, *_gaps(conditions, contrast)])),
    )


def find_outliers(values: np.ndarray, runs: np.ndarray, *, sides: str) -> np.ndarray:
    """Find the volumes whose value is far from the others of their run.

    The modified z-score ``0.6745 (x - median) / MAD``, MAD being the median of ``|x - median|`` over the run,
    exceeds 3.5. [2]_

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


def guess_brain(volume: np.ndarray) -> np.ndarray:
    """Take for brain what is not dark: above a tenth of the way from the 2nd to the 98th percentile.

    FSL FEAT tells brain from background in this way.

    The percentiles are those of the voxels that are not 0, so that an image that is 0 outside a small region
    has that region for its brain.

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
    shown = np.isfinite(volume) & (volume != 0)
    if not shown.any():
        raise DataError("every voxel of the image's first volume is 0: there is nothing to look at")
    dark, bright = np.percentile(volume[shown], [2, 98])
    return shown & (volume >= dark + BRAIN_FRACTION * (bright - dark) * (dark < bright))


class _Reader:
    """Gathers sums over the volumes of a stream, run by run.

    Parameters
    ----------
    quality_mask, roi_mask : ndarray of shape (x, y, z), bool
    runs : ndarray of shape (n_volumes,), int
    """

    def __init__(self, quality_mask: np.ndarray, roi_mask: np.ndarray | None, runs: np.ndarray) -> None:
        self._voxels = quality_mask if roi_mask is None else quality_mask | roi_mask
        self._brain = quality_mask[self._voxels]
        self._roi = None if roi_mask is None else roi_mask[self._voxels]
        self._runs = runs
        self._chosen = set(np.linspace(0, len(runs) - 1, N_STRIP).round().astype(int).tolist())
        self._before: np.ndarray | None = None
        # Welford's algorithm: the sum of squares itself would lose the digits that the SD is made of.
        self._count: dict[int, int] = {}
        self._mean: dict[int, np.ndarray] = {}
        self._squares: dict[int, np.ndarray] = {}
        self._change: list[float] = []
        self.n_volumes = 0
        self.n_not_finite = 0
        self.total = np.zeros(quality_mask.shape)
        self.strip: dict[int, np.ndarray] = {}
        self.global_signal: list[float] = []

    def add(self, volume: np.ndarray) -> None:
        """Take one more volume into account."""
        index = self.n_volumes
        self.n_volumes += 1
        if index >= len(self._runs):
            return  # more volumes than labels; they are counted for the message
        if volume.dtype.kind == "f":
            finite = np.isfinite(volume)
            self.n_not_finite += int(volume.size - finite.sum())
            volume = np.where(finite, volume, 0)
        np.add(self.total, volume, out=self.total)
        if index in self._chosen:
            self.strip[index] = volume.copy()
        values = volume[self._voxels].astype(np.float64)
        brain = values[self._brain]
        run = int(self._runs[index])
        self.global_signal.append(float(brain.mean()))
        begins = index == 0 or self._runs[index - 1] != run or self._before is None
        self._change.append(np.nan if begins else float(np.sqrt(np.mean((brain - self._before) ** 2))))
        self._before = brain
        n = self._count[run] = self._count.get(run, 0) + 1
        if n == 1:
            self._mean[run], self._squares[run] = values, np.zeros_like(values)
            return
        deviation = values - self._mean[run]
        self._mean[run] = self._mean[run] + deviation / n
        self._squares[run] += deviation * (values - self._mean[run])

    def dvars_percent(self) -> np.ndarray:
        """Return the change since the volume before, in percent of the run's mean."""
        means = {run: mean[self._brain].mean() for run, mean in self._mean.items()}
        scale = np.array([means[int(run)] for run in self._runs])
        with np.errstate(divide="ignore", invalid="ignore"):
            return 100 * np.array(self._change) / np.abs(scale)

    def summarise(self, dvars: np.ndarray, outliers: np.ndarray) -> pd.DataFrame:
        """Return the quality of every run; see `Inspection`."""
        rows = {}
        for run, n in sorted(self._count.items()):
            mean, here = self._mean[run], self._runs == run
            sd = np.sqrt(self._squares[run] / (n - 1)) if n > 1 else np.zeros_like(mean)
            changes = dvars[here][np.isfinite(dvars[here])]
            rows[run] = {
                "volumes": n,
                "mean": mean[self._brain].mean(),
                "sd": np.median(sd[self._brain]),
                "tsnr": _tsnr(mean[self._brain], sd[self._brain]),
                "tsnr_roi": np.nan if self._roi is None else _tsnr(mean[self._roi], sd[self._roi]),
                "dvars": np.median(changes) if len(changes) else np.nan,
                "outliers": int(outliers[here].sum()),
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("run")


def _tsnr(mean: np.ndarray, sd: np.ndarray) -> float:
    """Return the median of mean over SD, over the voxels that vary."""
    varying = sd > 0
    return float(np.median(mean[varying] / sd[varying])) if varying.any() else np.nan


def _fitting_mask(file: Path, shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    mask, mask_affine = read_mask(file)
    if mask.shape != shape or not np.allclose(mask_affine, affine):
        raise DataError(
            f"{file}: has shape {mask.shape} and the volumes have shape {shape}, or their affines differ; "
            "choose the mask of this subject, or resample it to the image (nilearn.image.resample_to_img)"
        )
    return mask


def _select(
    recording: Recording,
    contrast: Contrast,
    roi: Roi,
    signal: Signal,
    cache: SampleCache | None,
    shape: tuple[int, ...],
    roi_mask: np.ndarray | None,
) -> tuple[np.ndarray, pd.DataFrame, list[str]]:
    """Select volumes as a run would; what a run would refuse is a notice here."""
    n_volumes = len(recording.labels)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            samples = load_samples(recording, contrast, roi, signal, cache)
    except HarnessError as error:
        return (
            np.empty(0, dtype=int),
            pd.DataFrame(columns=["what", "before", "after"]),
            [f"{REFUSED}{error}"],
        )
    n_selected = len(samples.y)
    n_voxels = samples.n_voxels if roi_mask is None else int(roi_mask.sum())
    rows = [
        ("labels", (n_volumes,), (n_selected,)),
        ("runs", (n_volumes,), (n_selected,)),
        ("image", (*shape, n_volumes), (*shape, n_selected)),
        (f"voxels of {roi.name}: what is decoded", (n_volumes, n_voxels), samples.X.shape),
    ]
    shapes = pd.DataFrame(rows, columns=["what", "before", "after"])
    return samples.volumes, shapes, [str(warning.message) for warning in caught]


def _gaps(conditions: pd.DataFrame, contrast: Contrast) -> list[str]:
    """Say in which runs a condition of the contrast was not shown."""
    gaps = []
    for name in contrast.conditions:
        missing = conditions.index[conditions[name] == 0].tolist() if name in conditions else []
        if missing:
            gaps.append(f"no volume of {name!r} in run {', '.join(str(run) for run in missing)}")
    return gaps


def _describe_recording(recording: Recording, roi: Roi) -> pd.DataFrame:
    files = [("image", file) for file in list_files(recording.bold)]
    files += [("labels", file) for file in list_files(recording.labels_file)]
    if recording.anat is not None:
        files.append(("anatomy", recording.anat))
    files += [(f"mask {name}", file) for name, file in recording.masks.items()]
    if roi.mask not in recording.masks and expand_path("roi.mask", roi.mask).is_file():
        files.append((f"mask {roi.name}", expand_path("roi.mask", roi.mask)))
    rows = []
    for what, file in files:
        row = {"what": what, "file": str(file), "shape": "", "voxel_mm": "", "dtype": ""}
        if file.name.endswith((".nii", ".nii.gz")):
            try:
                header = read_nifti_header(file)
            except DataError as error:
                row["shape"] = f"cannot be read: {error}"
            else:
                row["shape"] = str(header.shape)
                row["voxel_mm"] = " x ".join(f"{size:g}" for size in header.voxel_mm)
                row["dtype"] = str(header.dtype)
        rows.append({**row, "bytes": file.stat().st_size, "sha256": digest_files(file)})
    return pd.DataFrame(rows)
