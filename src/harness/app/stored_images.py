"""The images of a stored run, read again from the files that its configuration names."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from harness.errors import DataError, HarnessError, format_error

if TYPE_CHECKING:
    from harness.report.map_figures import StoredImages
    from harness.tracking.stored_run import StoredRun


def read_stored_images(run: "StoredRun", volumes: Collection[int]) -> "StoredImages | str":
    """Read the mean volume, the anatomy and some volumes of the recording of a run.

    Parameters
    ----------
    volumes : collection of int
        Indices of volumes to keep.

    Returns
    -------
    images : StoredImages or str
        Why they cannot be read, if they are missing, or are not the files that the run read.
    """
    try:
        return _read_images(run, volumes)
    except HarnessError as error:
        return str(error)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return f"the recording cannot be read: {format_error(error)}"


def _read_images(run: "StoredRun", volumes: Collection[int]) -> "StoredImages":
    import nibabel as nib
    import numpy as np

    from harness.app.allowed_targets import build_object, check_targets
    from harness.datasets.images import digest_files, read_mask, stream_volumes
    from harness.report.canvas import read_anatomy
    from harness.report.map_figures import StoredImages
    from harness.samples.samples import find_mask

    config = run.read_config()
    check_targets("dataset", config["dataset"], "dataset")
    recording = build_object("dataset", config["dataset"]).load(config["subject"])
    for role, files in (("bold", recording.bold), ("labels", recording.labels_file)):
        known = run.digests.get(role)
        if known is None:
            raise DataError(f"run {run.title} does not record the digest of its {role} file")
        if digest_files(files) != known:
            raise DataError(f"the {role} file is not the one that run {run.title} read: its digest differs")
    _, affine = read_mask(find_mask(recording, config["roi"]["mask"]))
    total, n, kept = None, 0, {}
    for n, volume in enumerate(stream_volumes(recording.bold), start=1):
        total = np.zeros(volume.shape) if total is None else total
        total += np.nan_to_num(volume)
        if n - 1 in volumes:
            kept[n - 1] = np.array(volume, dtype=np.float32)
    if total is None or len(kept) < len(set(volumes)):
        raise DataError(f"the image has {n} volumes, fewer than run {run.title} predicted")
    mean = nib.Nifti1Image((total / n).astype(np.float32), affine)
    anatomy = None if recording.anat is None else read_anatomy(recording.anat)
    return StoredImages(mean, anatomy, kept, recording.t_r)
