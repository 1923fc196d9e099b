"""Inspection of a recording before decoding: its files, design, shapes, and signal quality.

The order is that of nilearn's introduction to decoding; `harness.report.inspection_page` shows the result.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from harness.checks.shown_volumes import find_shown_volumes
from harness.checks.signal_quality import QualityAccumulator, SignalQuality, estimate_brain_mask
from harness.datasets.headers import NiftiHeader, read_nifti_header
from harness.datasets.images import (
    check_same_space,
    digest_files,
    list_files,
    read_mask,
    read_volume,
    stream_volumes,
)
from harness.datasets.locations import expand_path
from harness.datasets.recording import Recording, describe_files
from harness.errors import DataError, HarnessError
from harness.samples.cache import SampleCache
from harness.samples.contrasts import Contrast
from harness.samples.samples import Roi, find_mask, load_samples
from harness.samples.signal import Signal

WOULD_FAIL_PREFIX = "a run would fail: "


@dataclass(frozen=True, eq=False)
class Design:
    """Conditions of a recording, and the volumes that a contrast selects.

    Attributes
    ----------
    conditions : DataFrame, one row per run, one column per condition
        Number of volumes.
    selected : ndarray of shape (n_selected,), int
        Empty where a run with this contrast would fail.
    shapes : DataFrame with columns ``what``, ``before``, ``after``
        Shapes of labels, image and samples, before and after the selection; empty likewise.
    """

    conditions: pd.DataFrame
    selected: np.ndarray
    shapes: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Volumes:
    """Mean volume, masks and some single volumes of a recording.

    Attributes
    ----------
    mean : ndarray of shape (x, y, z), float32
        Mean over all volumes.
    affine : ndarray of shape (4, 4)
        Voxel indices to mm.
    roi_mask : ndarray of shape (x, y, z), bool, or None
        None where the mask is missing, or does not fit the image.
    quality_mask : ndarray of shape (x, y, z), bool
        Voxels of the signal quality.
    quality_mask_name : str
        Where `quality_mask` comes from.
    examples : mapping of int to ndarray of shape (x, y, z)
        Some volumes by their index, in the order in which they are shown.
    """

    mean: np.ndarray
    affine: np.ndarray
    roi_mask: np.ndarray | None
    quality_mask: np.ndarray
    quality_mask_name: str
    examples: Mapping[int, np.ndarray]


@dataclass(frozen=True, eq=False)
class Inspection:
    """What is known of one recording before it is decoded.

    Attributes
    ----------
    recording : Recording
        Without the anatomical image where that cannot be read.
    files : DataFrame, one row per file of the recording
        ``what``, ``file``, ``shape``, ``voxel_mm``, ``dtype``, ``bytes``, ``sha256``; shape, voxel size and
        dtype are empty for other files than images.
    header_t_r : float or None
        Repetition time in seconds in the image's header; a run uses that of the recording.
    is_oriented : bool
        Whether the image's header declares an orientation; otherwise left and right are NIfTI's default.
    notices : tuple of str
        Problems and warnings, the worst first.
    """

    recording: Recording
    contrast: Contrast
    roi: Roi
    files: pd.DataFrame
    header_t_r: float | None
    is_oriented: bool
    design: Design
    volumes: Volumes
    quality: SignalQuality
    notices: tuple[str, ...]


def inspect_recording(
    recording: Recording,
    contrast: Contrast,
    roi: Roi,
    signal: Signal,
    cache: SampleCache | None = None,
    shown: Sequence[int | str] = (),
) -> Inspection:
    """Inspect a recording, reading its image once as a stream.

    Parameters
    ----------
    cache : SampleCache, optional
        Keeps the masked volumes for the next run.
    shown : sequence of int or str, optional
        Single volumes and conditions; see `harness.checks.shown_volumes.find_shown_volumes`.

    Returns
    -------
    Inspection
        What cannot be determined, for example for want of a mask, is listed in its notices.

    Raises
    ------
    DataError
        If the image cannot be read, its affine is singular, or the numbers of its volumes and labels differ.
    UsageError
        If `shown` names a volume or a condition that does not exist.
    """
    indices = find_shown_volumes(shown, recording, contrast, signal)
    notices = [] if recording.notice is None else [recording.notice]
    header = read_nifti_header(list_files(recording.bold)[0])
    if np.linalg.matrix_rank(header.affine[:3, :3]) < 3:
        raise DataError(
            f"{header.path}: its affine is singular, so that no figure can be drawn:\n{header.affine}\n"
            "Correct the header (sform and qform), or convert the image again."
        )
    if not header.is_oriented:
        notices.append(
            f"{header.path.name}: its header declares no orientation (sform_code and qform_code are 0): left "
            "and right are NIfTI's default and may be swapped"
        )
    volumes, quality, of_volumes = _read_volumes(recording, roi, header, indices)
    design, of_design = _inspect_design(recording, contrast, roi, signal, cache, volumes)
    # A problem of the mask is found twice, with the same message.
    notices += [notice for notice in of_volumes if f"{WOULD_FAIL_PREFIX}{notice}" not in of_design]
    anat = recording.anat
    try:
        if anat is not None:
            read_volume(anat)
    except DataError as error:
        notices.append(f"the anatomical image is not shown: {error}")
        anat = None
    return Inspection(
        recording=replace(recording, anat=anat),
        contrast=contrast,
        roi=roi,
        files=_describe_recording(recording, roi),
        header_t_r=header.t_r,
        is_oriented=header.is_oriented,
        design=design,
        volumes=volumes,
        quality=quality,
        notices=tuple(dict.fromkeys([*notices, *of_design])),
    )


def _read_volumes(
    recording: Recording, roi: Roi, header: NiftiHeader, shown: Sequence[int]
) -> tuple[Volumes, SignalQuality, list[str]]:
    """Read the image once; return its summary, its signal quality, and notices."""
    notices: list[str] = []
    runs = recording.labels["run"].to_numpy()
    stream = stream_volumes(recording.bold)
    first = next(stream, None)
    if first is None:
        raise DataError(f"{describe_files(recording.bold)}: has no volumes")

    roi_mask = None
    try:
        roi_mask = _read_fitting_mask(find_mask(recording, roi.mask), header)
    except HarnessError as error:
        notices.append(str(error))
    quality_mask, name = None, ""
    if "brain" in recording.masks:
        try:
            quality_mask = _read_fitting_mask(recording.masks["brain"], header)
            name = f"the brain mask, {recording.masks['brain'].name}"
        except HarnessError as error:
            notices.append(str(error))
    if quality_mask is None:
        quality_mask = estimate_brain_mask(first)
        name = "voxels of the first volume that are not dark, as there is no brain mask"

    accumulator = QualityAccumulator(quality_mask, roi_mask, runs, shown)
    accumulator.add(first)
    for volume in stream:
        accumulator.add(volume)
    if accumulator.n_volumes != len(runs):
        raise DataError(
            f"{describe_files(recording.labels_file)} has {len(runs)} rows, but "
            f"{describe_files(recording.bold)} has {accumulator.n_volumes} volumes; expected one row per "
            "volume"
        )
    if accumulator.n_not_finite:
        notices.append(
            f"{accumulator.n_not_finite} values of the image are NaN or infinite; they count as 0 in the "
            "figures and in the signal quality"
        )
    examples = {index: accumulator.examples[index] for index in shown}
    volumes = Volumes(accumulator.mean_volume(), header.affine, roi_mask, quality_mask, name, examples)
    return volumes, accumulator.summarise(), notices


def _read_fitting_mask(file: Path, header: NiftiHeader) -> np.ndarray:
    mask, affine = read_mask(file)
    check_same_space(header, mask.shape, affine, str(file))
    return mask


def _inspect_design(
    recording: Recording,
    contrast: Contrast,
    roi: Roi,
    signal: Signal,
    cache: SampleCache | None,
    volumes: Volumes,
) -> tuple[Design, list[str]]:
    """Select volumes as a run does; an error that would end a run is a notice here."""
    conditions = pd.crosstab(recording.labels["run"], recording.labels["condition"])
    missing = _list_missing_conditions(conditions, contrast)
    n_volumes = len(recording.labels)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            samples = load_samples(recording, contrast, roi, signal, cache)
    except HarnessError as error:
        nothing = pd.DataFrame(columns=["what", "before", "after"])
        return Design(conditions, np.empty(0, dtype=int), nothing), [f"{WOULD_FAIL_PREFIX}{error}", *missing]
    shape, n_selected = volumes.mean.shape, len(samples.y)
    n_voxels = samples.n_voxels if volumes.roi_mask is None else int(volumes.roi_mask.sum())
    rows = [
        ("labels", (n_volumes,), (n_selected,)),
        ("runs", (n_volumes,), (n_selected,)),
        ("image", (*shape, n_volumes), (*shape, n_selected)),
        (f"voxels of {roi.name}: what is decoded", (n_volumes, n_voxels), samples.X.shape),
    ]
    shapes = pd.DataFrame(rows, columns=["what", "before", "after"])
    messages = [str(warning.message) for warning in caught]
    return Design(conditions, samples.volumes, shapes), [*messages, *missing]


def _list_missing_conditions(conditions: pd.DataFrame, contrast: Contrast) -> list[str]:
    """List the runs that lack a condition of the contrast."""
    messages = []
    for name in contrast.conditions:
        missing = conditions.index[conditions[name] == 0].tolist() if name in conditions else []
        if missing:
            messages.append(f"no volume of {name!r} in run {', '.join(str(run) for run in missing)}")
    return messages


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
