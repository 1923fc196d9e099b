"""The map of a searchlight, read back from its run."""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import TrackingError, first_line
from harness.searchlight.choices import Correction
from harness.tracking.fingerprint import LEFT_OUT, OF_MAP_TESTS
from harness.tracking.stored_run import StoredRun

RECORD, CENTRES, KEPT = "searchlight.json", "centres.npz", "relabelled_maps.npz"
REQUIRED = ("settings", "contrast", "classes", "chance", "scores", "n_spheres")
REQUIRED_SETTINGS = ("radius", "min_voxels", "scorer", "statistic", "correction", "cluster_z")
# Maps over subjects are tests of the statistic, so that it has to be equal.
FREE_SETTINGS = {*LEFT_OUT["analysis"], *OF_MAP_TESTS} - {"statistic"}


@dataclass(frozen=True, eq=False)
class StoredMap:
    """The score map of a finished searchlight; p-values and relabelled maps are read when they are needed.

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
        NaN where the score is not defined.
    """

    run: StoredRun
    record: Mapping[str, Any]
    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    space: str
    voxels: NDArray[np.intp]
    scores: NDArray[np.float64]

    @property
    def subject(self) -> str:
        """The subject of the run."""
        return self.run.params.get("subject", "")

    @property
    def contrast(self) -> str:
        """The contrast, which the names of the images contain."""
        return str(self.record["contrast"])

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the searchlight that have to be equal in all subjects."""
        found = self.record["settings"]
        return {name: value for name, value in found.items() if name not in FREE_SETTINGS}

    @cached_property
    def p(self) -> NDArray[np.float64] | None:
        """The p of the chosen correction, (n_spheres,); None without a test. Errors as in `read_map`."""
        if "test" not in self.record:
            return None
        correction = self.record["settings"]["correction"]
        short = "fwe" if correction == Correction.maximum else correction
        name = f"searchlight_p_{short}_{self.contrast}.nii.gz"
        image = self.run.read_image(name)
        if image.shape != self.shape:
            raise _damaged(self.run, name, ValueError(f"its shape {image.shape} is not that of the map"))
        return np.asarray(image.dataobj, dtype=np.float64).ravel()[self.voxels]

    @cached_property
    def kept(self) -> NDArray[np.float32] | None:
        """The statistic under relabellings, (n_kept, n_spheres), the true labelling first; None without.

        Errors as in `read_map`.
        """
        if not self.run.has_file(KEPT):
            return None
        stored = _read_arrays(self.run, KEPT, ("maps", "voxels"))
        maps: NDArray[np.float32] = stored["maps"]
        if maps.ndim != 2 or maps.shape[1:] != self.voxels.shape or any(stored["voxels"] != self.voxels):
            raise _damaged(self.run, KEPT, ValueError("its maps do not fit the centres"))
        return maps if len(maps) else None

    def to_volume(self, values: NDArray[Any], outside: float = 0.0) -> NDArray[Any]:
        """Return values of centres, (n_spheres,), as a volume."""
        volume = np.full(int(np.prod(self.shape)), outside, dtype=values.dtype)
        volume[self.voxels] = values
        return volume.reshape(self.shape)


def read_map(run: StoredRun) -> StoredMap:
    """Read the map of a searchlight.

    Raises
    ------
    TrackingError
        If the run has not finished, lacks a file, or a file was edited or cannot be read.
    """
    run.require_finished()
    record = read_record(run)
    stored = _read_arrays(run, CENTRES, ("voxels", "scores", "shape", "affine", "space"))
    voxels, scores, shape = stored["voxels"], stored["scores"], tuple(stored["shape"].tolist())
    n_places = int(np.prod(shape, dtype=np.int64))
    fits = voxels.ndim == 1 and scores.shape == voxels.shape and stored["affine"].shape == (4, 4)
    if not fits or not len(voxels) or not 0 <= voxels[0] <= voxels[-1] < n_places or any(np.diff(voxels) < 1):
        raise _damaged(run, CENTRES, ValueError("its scores do not fit its voxels"))
    if record["n_spheres"] != len(voxels):
        problem = f"it has {len(voxels)} centres, and {RECORD} counts {record['n_spheres']}"
        raise _damaged(run, CENTRES, ValueError(problem))
    return StoredMap(
        run=run,
        record=record,
        shape=shape,
        affine=stored["affine"].astype(np.float64),
        space=str(stored["space"]),
        voxels=voxels.astype(np.intp),
        scores=scores.astype(np.float64),
    )


def read_record(run: StoredRun) -> dict[str, Any]:
    """Return the content of a run's ``searchlight.json``: counts, thresholds and settings.

    Raises
    ------
    TrackingError
        As in `StoredRun.read_file`, or if the content cannot be read or lacks a key.
    """
    content = run.read_file(RECORD)
    try:
        record = json.loads(content)
    except ValueError as error:
        raise _damaged(run, RECORD, error) from error
    if not isinstance(record, dict) or not isinstance(record.get("settings"), dict):
        raise _damaged(run, RECORD, ValueError("it has no settings"))
    missing = [name for name in REQUIRED if name not in record]
    missing += [f"settings.{name}" for name in REQUIRED_SETTINGS if name not in record["settings"]]
    if missing:
        raise _damaged(run, RECORD, ValueError(f"it lacks {', '.join(missing)}"))
    if record["settings"]["correction"] not in list(Correction):
        raise _damaged(run, RECORD, ValueError(f"it has no correction {record['settings']['correction']}"))
    return record


def _read_arrays(run: StoredRun, name: str, arrays: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    content = run.read_file(name)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            return {array: stored[array] for array in arrays}
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise _damaged(run, name, error) from error


def _damaged(run: StoredRun, name: str, error: Exception) -> TrackingError:
    return TrackingError(
        f"{name} of run {run.title} cannot be read: {first_line(error)}; repeat the run with resume=false"
    )
