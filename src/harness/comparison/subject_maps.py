"""The searchlight maps of one subject, as its run stored them."""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import TrackingError, first_line
from harness.tracking.stored_run import StoredRun

RECORD, KEPT = "searchlight.json", "relabelled_maps.npz"
# Settings of a searchlight that change what is stored of its test, but neither score nor statistic; and the
# path of the mask, which is another file in every subject.
NOT_COMPARED = ("mask", "correction", "cluster_z", "keep_maps", "batch_size", "processes")


@dataclass(frozen=True, eq=False)
class SubjectMaps:
    """The score map of one subject and its relabelled maps.

    Attributes
    ----------
    record : mapping
        The run's ``searchlight.json``.
    shape : tuple of int
        Of the volume.
    affine : ndarray of shape (4, 4)
    space : str
        See `harness.datasets.recording.Recording`; empty for the subject's own.
    voxels : ndarray of shape (n_spheres,), int
        Places of the centres in the volume, in C order; ascending.
    scores : ndarray of shape (n_spheres,)
    statistic : str
        What `kept` holds; empty without a test.
    kept : ndarray of shape (n_kept, n_spheres), or None
        The statistic under relabellings, the true labelling first; None without a test.
    """

    run: StoredRun
    record: Mapping[str, Any]
    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    space: str
    voxels: NDArray[np.intp]
    scores: NDArray[np.float64]
    statistic: str
    kept: NDArray[np.float32] | None

    @property
    def subject(self) -> str:
        """The subject of the run."""
        return self.run.params.get("subject", "")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the searchlight that have to be equal in all subjects."""
        found = self.record.get("settings", {})
        return {name: value for name, value in found.items() if name not in NOT_COMPARED}


def read_subject_maps(run: StoredRun) -> SubjectMaps:
    """Read the maps of a finished searchlight.

    Raises
    ------
    TrackingError
        If the run has not finished, lacks a file, or a file was edited or cannot be read.
    """
    run.require_finished()
    record = _read_record(run)
    contrast = str(record["contrast"])
    image = run.read_image(f"searchlight_{contrast}.nii.gz")
    volume = np.asarray(image.dataobj, dtype=np.float64)
    affine = np.asarray(image.affine, dtype=np.float64)
    if not run.has_file(KEPT):
        voxels = np.flatnonzero(volume)
        space = str(record.get("space") or "")
        return SubjectMaps(run, record, volume.shape, affine, space, voxels, volume.ravel()[voxels], "", None)
    stored = _read_kept(run)
    voxels, kept = stored["voxels"], stored["maps"]
    if tuple(stored["shape"].tolist()) != volume.shape or not np.allclose(
        stored["affine"], affine, atol=1e-4
    ):
        raise TrackingError(
            f"{KEPT} of run {run.title} is on another grid than searchlight_{contrast}.nii.gz; repeat the "
            "run with resume=false"
        )
    return SubjectMaps(
        run=run,
        record=record,
        shape=volume.shape,
        affine=np.asarray(stored["affine"], dtype=np.float64),
        space=str(stored["space"]),
        voxels=voxels.astype(np.intp),
        scores=volume.ravel()[voxels],
        statistic=str(stored["statistic"]),
        kept=kept if len(kept) else None,
    )


def _read_record(run: StoredRun) -> dict[str, Any]:
    content = run.read_file(RECORD)
    try:
        record = json.loads(content)
    except ValueError as error:
        raise _damaged(run, RECORD, error) from error
    if not isinstance(record, dict) or "contrast" not in record:
        raise _damaged(run, RECORD, ValueError("it does not name the contrast"))
    return record


def _read_kept(run: StoredRun) -> dict[str, NDArray[Any]]:
    content = run.read_file(KEPT)
    names = ("maps", "voxels", "shape", "affine", "statistic", "space")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            found = {name: stored[name] for name in names}
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise _damaged(run, KEPT, error) from error
    voxels, maps = found["voxels"], found["maps"]
    n_places = int(np.prod(found["shape"], dtype=np.int64))
    fits = maps.ndim == 2 and voxels.shape == maps.shape[1:] and found["affine"].shape == (4, 4)
    if (
        not fits
        or (len(voxels) and not 0 <= voxels[0] <= voxels[-1] < n_places)
        or (np.diff(voxels) < 1).any()
    ):
        raise _damaged(run, KEPT, ValueError("its maps do not fit its voxels"))
    return found


def _damaged(run: StoredRun, name: str, error: Exception) -> TrackingError:
    return TrackingError(
        f"{name} of run {run.title} cannot be read: {first_line(error)}; repeat the run with resume=false"
    )
