"""Samples of one recording: masked, selected and standardised volumes."""

import hashlib
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from harness.datasets.images import digest_files, read_mask
from harness.datasets.locations import expand_path
from harness.datasets.recording import Recording, describe_files
from harness.errors import DataError, DesignError, UsageError
from harness.samples.blocks import average_blocks, find_blocks, shift_conditions, trim_blocks
from harness.samples.cache import SampleCache
from harness.samples.confounds import select_confounds
from harness.samples.contrasts import Contrast, select_volumes
from harness.samples.signal import Signal, clean_runs
from harness.samples.smoothing import mask_smoothed
from harness.samples.volumes import MaskedVolumes, read_masked

MNI152_BRAIN_VOLUME = 1_882_989.0  # mm^3, the whole brain that nilearn's screening refers to


@dataclass(frozen=True)
class Roi:
    """Which voxels are decoded.

    Parameters
    ----------
    mask : str
        Name of one of the recording's masks, or the path of a mask image.
    screening_percentile : float
        Keep, inside every training set, the voxels with the highest F values: this percentage of a whole
        brain's volume, as nilearn's Decoder counts it. A mask smaller than that is used whole.
    """

    mask: str = "vt"
    screening_percentile: float = 20.0

    def __post_init__(self) -> None:
        expand_path("roi.mask", self.mask)
        if not 0 < self.screening_percentile <= 100:
            raise UsageError(
                f"roi.screening_percentile={self.screening_percentile} is not a percentage; "
                "expected more than 0 and at most 100 (100 keeps every voxel)"
            )

    @property
    def name(self) -> str:
        """Short name for files and run names."""
        return Path(self.mask).name.removesuffix(".gz").removesuffix(".nii")


@dataclass(frozen=True)
class FoldPreprocessing:
    """What the decoder does to the voxels inside the folds.

    Attributes
    ----------
    zscore : {"own", "train"} or None
        Whose mean and standard deviation standardise them; see `Signal`.
    screening_percentile : int
        Percentage of the voxels of the mask that is kept; 100 keeps all.
    """

    zscore: str | None = None
    screening_percentile: int = 100


@dataclass(frozen=True, eq=False)
class Samples:
    """One row per selected volume, one column per feature, usually a voxel.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_voxels), float32 or float64
        Standardised but for what `preparation` leaves to the decoder.
    y : ndarray of shape (n_samples,), str
        Class of every sample.
    runs : ndarray of shape (n_samples,), int
        Scanner run of every sample.
    conditions : ndarray of shape (n_samples,), str
        Condition of every sample; differs from `y` where a class groups several conditions.
    volumes : ndarray of shape (n_samples,), int
        Index of every sample in the recording, from 0.
    blocks : ndarray of shape (n_samples,), int
        Stimulation block of every sample: consecutive volumes of one condition in one scanner run, also of
        conditions that are not decoded, are one block. Numbers are ascending, not consecutive.
    """

    X: np.ndarray
    y: np.ndarray
    runs: np.ndarray
    conditions: np.ndarray
    volumes: np.ndarray
    blocks: np.ndarray
    contrast: Contrast
    preparation: FoldPreprocessing

    @property
    def n_voxels(self) -> int:
        """Number of voxels that every sample has."""
        return int(self.X.shape[1])


@dataclass(frozen=True, eq=False)
class VoxelGrid:
    """The image grid of the voxels of samples.

    Attributes
    ----------
    mask : ndarray of shape (x, y, z), bool
        Voxels that are columns of `Samples.X`, in C order; dropped voxels are False.
    affine : ndarray of shape (4, 4)
        Voxel indices to millimetres.
    mean_volume : ndarray of shape (x, y, z), float32
        Mean over all volumes of the recording.
    """

    mask: np.ndarray
    affine: np.ndarray
    mean_volume: np.ndarray


@dataclass(frozen=True, eq=False)
class Sources:
    """What samples are made from, the image itself not yet read.

    Attributes
    ----------
    mask : ndarray of shape (x, y, z), bool
    affine : ndarray of shape (4, 4)
    centres_file : Path or None
        The mask of the centres of a searchlight; None for all other analyses.
    """

    recording: Recording
    mask_file: Path
    mask: np.ndarray
    affine: np.ndarray
    confounds: pd.DataFrame | None
    centres_file: Path | None = None

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the labels and mask files, also of centres, and of confounds that are regressed out."""
        digests = {"labels": digest_files(self.recording.labels_file), "mask": digest_files(self.mask_file)}
        if self.centres_file is not None:
            digests["centres"] = digest_files(self.centres_file)
        if self.confounds is not None:
            table = self.confounds.to_csv(index=False).encode()
            digests["confounds"] = hashlib.sha256(table).hexdigest()
        return digests


@dataclass(frozen=True, eq=False)
class RecordedSamples(Samples):
    """Samples of one recording.

    Attributes
    ----------
    image_digest : str
        SHA-256 of the image; see `harness.datasets.images.digest_files`.
    """

    grid: VoxelGrid
    sources: Sources
    image_digest: str

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the image, the labels, the mask and the confounds."""
        return {"bold": self.image_digest, **self.sources.digests}


def find_mask(recording: Recording, roi: str, key: str = "roi.mask") -> Path:
    """Return the mask file of a ROI: the name of a mask of the recording, or the path of an image.

    Parameters
    ----------
    key : str
        Of the configuration, for messages.
    """
    if roi in recording.masks:
        return recording.masks[roi]
    path = expand_path(key, roi)
    if path.is_file():
        return path
    raise DataError(
        f"{key}={roi!r} is neither a mask of {recording.dataset} subject {recording.subject} "
        f"({', '.join(recording.masks) or 'it has none'}) nor a file; give one of those names or a path"
    )


def open_sources(recording: Recording, roi: Roi, signal: Signal, key: str = "roi.mask") -> Sources:
    """Read the mask and the confounds of a recording; `key` is that of the mask, for messages."""
    mask_file = find_mask(recording, roi.mask, key)
    mask, affine = read_mask(mask_file)
    runs = recording.labels["run"].to_numpy()
    confounds = select_confounds(signal, recording, runs) if signal.cleans_runs else None
    return Sources(recording, mask_file, mask, affine, confounds)


def load_samples(
    recording: Recording,
    contrast: Contrast,
    roi: Roi,
    signal: Signal,
    cache: SampleCache | None = None,
    *,
    single_precision: bool = True,
) -> RecordedSamples:
    """Mask a recording, select the volumes of a contrast and prepare their signal; see `read_samples`."""
    sources = open_sources(recording, roi, signal)
    return read_samples(sources, contrast, roi, signal, cache, single_precision=single_precision)


def read_samples(
    sources: Sources,
    contrast: Contrast,
    roi: Roi,
    signal: Signal,
    cache: SampleCache | None = None,
    *,
    single_precision: bool = True,
) -> RecordedSamples:
    """Mask an image, select the volumes of a contrast and prepare their signal.

    Parameters
    ----------
    sources : Sources
        Those of this `roi` and `signal`.
    cache : SampleCache, optional
        Where masked volumes are kept from one run to the next; by default nothing is kept.
    single_precision : bool, default=True
        Whether samples are float32 whatever the image holds. False gives those of nilearn's masker: float64
        where the image holds float64, or integers with a slope or an intercept.

    Raises
    ------
    DataError
        If the image is missing or damaged, the files do not fit each other, or no voxel is usable.
    HarnessError
        If a condition has no volumes, or screening leaves no voxel.
    """
    recording, mask_file = sources.recording, sources.mask_file
    volumes, y, conditions = choose_volumes(recording, contrast, signal)
    runs = recording.labels["run"].to_numpy()
    masked = read_volumes(sources, signal, cache, single_precision)
    if len(masked.data) != len(conditions):
        raise DataError(
            f"{describe_files(recording.labels_file)} has {len(conditions)} rows, but "
            f"{describe_files(recording.bold)} has {len(masked.data)} volumes; expected one row per volume"
        )
    if signal.smoothing_fwhm is not None:
        _warn_of_gaps(masked.mean_volume)
    usable = _usable_voxels(masked.data, volumes, mask_file)
    mask = sources.mask.copy()
    mask[mask] = usable
    data = masked.data if usable.all() else masked.data[:, usable]
    if signal.cleans_runs:
        data = clean_runs(data, runs, signal, recording, sources.confounds)
    X = np.ascontiguousarray(data[volumes])
    blocks = find_blocks(conditions, runs)
    if signal.average_blocks:
        X, first = average_blocks(X, blocks[volumes])
        volumes, y = volumes[first], y[first]
    zscore = signal.zscore if signal.zscore in ("own", "train") else None
    return RecordedSamples(
        X=X,
        y=y,
        runs=runs[volumes],
        conditions=conditions[volumes],
        volumes=volumes,
        blocks=blocks[volumes],
        contrast=contrast,
        preparation=FoldPreprocessing(zscore, _check_screening(roi, mask, sources)),
        grid=VoxelGrid(mask, sources.affine, masked.mean_volume),
        sources=sources,
        image_digest=masked.digest,
    )


def choose_volumes(
    recording: Recording, contrast: Contrast, signal: Signal
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the volumes of a contrast, their classes, and the condition of every volume of the recording.

    It needs no image, so that a misspelt condition is found before one is read.
    """
    shown = recording.labels["condition"].to_numpy(dtype=str)
    runs = recording.labels["run"].to_numpy()
    select_volumes(contrast, shown, describe_files(recording.labels_file))
    conditions = shift_conditions(shown, runs, signal.lag)
    shifted_out = set(contrast.conditions) - set(conditions.tolist())
    if shifted_out:
        raise DesignError(
            f"signal.lag={signal.lag} moves every volume of {sorted(shifted_out)[0]!r} beyond the end of its "
            f"run; the shortest run has {np.unique(runs, return_counts=True)[1].min()} volumes: choose less"
        )
    volumes, y = select_volumes(contrast, conditions, describe_files(recording.labels_file))
    kept = trim_blocks(conditions, runs, signal.trim_first, signal.trim_last)[volumes]
    volumes, y = volumes[kept], y[kept]
    lost = set(contrast.classes) - set(y.tolist())
    if lost:
        raise DesignError(
            f"signal.trim_first={signal.trim_first}, signal.trim_last={signal.trim_last} leave no volume of "
            f"{sorted(lost)[0]!r}; trim less"
        )
    return volumes, y, conditions


def _check_screening(roi: Roi, mask: np.ndarray, sources: Sources) -> int:
    """Return the percentage of the mask's voxels that screening keeps."""
    screening = screening_of_mask(roi.screening_percentile, mask, sources.affine)
    if screening == 100 > roi.screening_percentile != Roi.screening_percentile:
        warnings.warn(
            f"roi.screening_percentile={roi.screening_percentile:g} has no effect: it is a percentage of a "
            f"whole brain, and the {mask.sum()} voxels of {sources.mask_file} are fewer than that; all are "
            "kept",
            stacklevel=3,
        )
    if mask.sum() * screening < 100:
        raise UsageError(
            f"roi.screening_percentile={roi.screening_percentile} leaves none of the {mask.sum()} voxels of "
            f"{sources.mask_file}; choose a larger percentage (100 keeps every voxel)"
        )
    return screening


def read_volumes(
    sources: Sources, signal: Signal, cache: SampleCache | None, single_precision: bool
) -> MaskedVolumes:
    """Read the mask's voxels of every volume, or find them in the cache."""
    bold, name = sources.recording.bold, str(sources.mask_file)
    mask, affine = sources.mask, sources.affine
    dtype = np.float32 if single_precision else None

    def read() -> MaskedVolumes:
        if signal.smoothing_fwhm is not None:
            return mask_smoothed(bold, mask, affine, signal.smoothing_fwhm, mask_name=name, dtype=dtype)
        return read_masked(bold, mask, affine, mask_name=name, dtype=dtype)

    if cache is None:
        return read()
    precision = {} if single_precision else {"dtype": "as nilearn's masker"}
    return cache.fetch(bold, mask, affine, {**signal.before_masking, **precision}, read)


def _warn_of_gaps(mean_volume: np.ndarray) -> None:
    """Warn of voxels that smoothing has taken for 0, those outside the mask included."""
    # The mean over volumes is not finite where one of them is not.
    n_bad = int((~np.isfinite(mean_volume)).sum())
    if n_bad:
        warnings.warn(
            f"{n_bad} of {mean_volume.size} voxels of the image hold NaN or infinite values; smoothing "
            "counted these values as 0, as nilearn does, which changes the voxels around them",
            stacklevel=3,
        )


def screening_of_mask(percentile: float, mask: np.ndarray, affine: np.ndarray) -> int:
    """Convert a percentage of a whole brain into one of a mask, as nilearn's Decoder does.

    ``min(100, percentile * 1 882 989 mm^3 / volume of the mask)``, truncated to a whole number.

    Parameters
    ----------
    percentile : float
        Percentage of the MNI152 brain's volume.
    """
    if percentile == 100:
        return 100
    volume = abs(np.linalg.det(affine[:3, :3])) * mask.sum()
    return int(min(100.0, percentile * MNI152_BRAIN_VOLUME / volume))


def _usable_voxels(data: np.ndarray, volumes: np.ndarray, mask_file: Path) -> np.ndarray:
    """Return which voxels are finite everywhere and vary over the selected volumes."""
    empty = ~np.isfinite(data).any(axis=1)
    if empty.any():
        raise DataError(
            f"volume {empty.argmax()} (from 0) holds no finite value inside {mask_file}, and so do "
            f"{empty.sum() - 1} more; correct the image, or leave these volumes out of image and labels"
        )
    finite = np.isfinite(data).all(axis=0)
    with np.errstate(invalid="ignore"):
        varying = np.ptp(data[volumes], axis=0) > 0
    n_bad, n_constant = int((~finite).sum()), int((finite & ~varying).sum())
    usable = finite & varying
    if not usable.any():
        raise DataError(
            f"{mask_file}: none of its {len(usable)} voxels is usable ({n_bad} with NaN or infinite values, "
            f"{n_constant} constant over the selected volumes); check that the mask lies inside the brain"
        )
    if n_bad:
        warnings.warn(f"dropped {n_bad} of {len(usable)} voxels with NaN or infinite values", stacklevel=2)
    if n_constant:
        warnings.warn(
            f"dropped {n_constant} of {len(usable)} voxels that are constant over the selected volumes",
            stacklevel=2,
        )
    return usable
