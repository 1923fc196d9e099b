"""Which searchlight maps of several subjects can be compared, and the voxels that they share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import DesignError
from harness.tracking.stored_map import StoredMap

NO_SPACE = (
    "the maps of subjects are compared voxel by voxel, and these are not in a common space: normalise the "
    "images to a template, and name it, for example dataset.space=MNI152NLin2009cAsym with dataset=nifti or "
    "dataset=bids. Without one, tables over subjects compare regions: analysis=decoding with roi="
)


@dataclass(frozen=True, eq=False)
class GroupGrid:
    """The voxels that all subjects have.

    Attributes
    ----------
    mask : ndarray of shape (x, y, z), bool
    affine : ndarray of shape (4, 4)
    space : str
    n_partial : int
        Voxels of some subjects that others lack, which are left out.
    """

    mask: NDArray[np.bool_]
    affine: NDArray[np.float64]
    space: str
    n_partial: int


def check_comparable(subjects: Sequence[StoredMap]) -> None:
    """Raise DesignError unless maps are of different subjects in one space, and of equal searchlights."""
    first = subjects[0]
    for item in subjects:
        if not item.space:
            raise DesignError(
                f"no maps over subjects: run {item.run.title} is in its subject's own space; {NO_SPACE}"
            )
    names = [item.subject for item in subjects]
    for place, item in enumerate(subjects[1:], start=1):
        if item.subject in names[:place]:
            other = subjects[names.index(item.subject)]
            raise DesignError(
                f"no maps over subjects: runs {other.run.title} and {item.run.title} are both of subject "
                f"{item.subject}; select one run per subject"
            )
        for what, value, of_other in _list_compared(first, item):
            if not _are_equal(value, of_other):
                raise DesignError(
                    f"no maps over subjects: {what} is {_show(value)} in run {first.run.title} and "
                    f"{_show(of_other)} in run {item.run.title}; repeat one of them with the other's"
                )


def _list_compared(first: StoredMap, item: StoredMap) -> list[tuple[str, Any, Any]]:
    compared: list[tuple[str, Any, Any]] = [
        ("the space", first.space, item.space),
        ("the shape of the volume", first.shape, item.shape),
        ("the affine of the volume", first.affine, item.affine),
        ("the contrast", first.contrast, item.contrast),
        ("the classes", first.record["classes"], item.record["classes"]),
    ]
    names = dict.fromkeys([*first.settings, *item.settings])
    compared += [(f"analysis.{name}", first.settings.get(name), item.settings.get(name)) for name in names]
    return [*compared, ("cv", first.run.params.get("cv"), item.run.params.get("cv"))]


def _are_equal(value: Any, other: Any) -> bool:
    if isinstance(value, np.ndarray):
        return bool(np.allclose(value, other, rtol=0, atol=1e-4))  # mm
    return bool(value == other)


def _show(value: Any) -> str:
    return str(np.round(value, 4).tolist()) if isinstance(value, np.ndarray) else str(value)


def find_shared_voxels(subjects: Sequence[StoredMap]) -> tuple[GroupGrid, list[NDArray[np.intp]]]:
    """Return the voxels in which all subjects have finite values, and their columns in every subject's maps.

    Raises
    ------
    DesignError
        If there is no such voxel.
    """
    usable = []
    for item in subjects:
        finite = np.isfinite(item.scores)
        if item.kept is not None:
            finite &= np.isfinite(item.kept).all(axis=0)
        usable.append(item.voxels[finite])
    shared, union = usable[0], usable[0]
    for voxels in usable[1:]:
        shared, union = np.intersect1d(shared, voxels), np.union1d(union, voxels)
    if not len(shared):
        sizes = ", ".join(f"{len(item.voxels)} in run {item.run.title}" for item in subjects)
        raise DesignError(
            f"no maps over subjects: no voxel is in the maps of all of them ({sizes}); choose roi= so that "
            "the regions overlap, for example roi=brain"
        )
    mask = np.zeros(subjects[0].shape, dtype=bool)
    mask.ravel()[shared] = True
    grid = GroupGrid(mask, subjects[0].affine, subjects[0].space, len(union) - len(shared))
    return grid, [np.searchsorted(item.voxels, shared) for item in subjects]
