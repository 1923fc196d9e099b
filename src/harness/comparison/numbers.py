"""The numbers of two results compared bit for bit: tables, images, arrays and metrics."""

import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from harness.errors import TrackingError, first_line
from harness.tracking.stored_run import StoredRun

# Of these files every number is compared; the others describe the run, or only show its numbers.
COMPARED = (".csv", ".nii.gz", ".npz", ".json")
NOT_COMPARED = ("files.json",)
DURATIONS = ("seconds/", "system/")  # metrics that are not results
OF_SWEEPS = "p_fwe/"  # metrics that a sweep adds when all of its runs have finished
ROW_KEYS = ("fold", "volume", "class", "parameter", "value")  # columns that say which row it is
Place = tuple[np.intp, ...]  # the index of an element of an array
UNREADABLE = (
    *(ValueError, OSError, EOFError, KeyError, zlib.error, zipfile.BadZipFile),
    *(ImageFileError, HeaderDataError, WrapStructError),
)


@dataclass(frozen=True)
class NumberChange:
    """What differs in one part of two results.

    Attributes
    ----------
    file : str
        Name of the file, or ``metrics``.
    part : str
        Column, array, entry or metric; empty for a whole file.
    n_changed, n_compared : int
        Values that differ, of how many.
    largest : float or None
        Largest absolute difference; None for text, infinite where only one of the values is defined.
    where : str
        Where that difference is, such as ``fold 3, volume 120``; of text, where the first one is.
    first, second : str
        The two values there.
    """

    file: str
    part: str
    n_changed: int = 1
    n_compared: int = 1
    largest: float | None = None
    where: str = ""
    first: str = ""
    second: str = ""


@dataclass(frozen=True, eq=False)
class Results:
    """The numbers of a run: its files with data, and its metrics without durations.

    Attributes
    ----------
    files : mapping of str to bytes
        By name.
    unreadable : mapping of str to str
        Why a file that the run should have cannot be used.
    metrics : mapping of str to float
        Of several values of a metric the last, as MLflow's tables show it.
    """

    files: Mapping[str, bytes]
    metrics: Mapping[str, float]
    unreadable: Mapping[str, str] = field(default_factory=dict)


def read_results(stored: StoredRun) -> Results:
    """Read the numbers of a stored run; a file that is missing or was edited is named, not used.

    Raises
    ------
    TrackingError
        If the list of the files itself cannot be used.
    """
    files, unreadable = {}, {}
    for name in filter(is_compared, stored.list_files()):
        try:
            files[name] = stored.read_file(name)
        except TrackingError as error:
            unreadable[name] = str(error)
    return Results(files, select_metrics(stored.metrics), unreadable)


def is_compared(name: str) -> bool:
    """Return whether a file of a run holds numbers; those of an exported model repeat them."""
    return name.endswith(COMPARED) and name not in NOT_COMPARED and "/" not in name


def select_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that are results of a run alone: without durations, and what its sweep added."""
    return {name: value for name, value in metrics.items() if not name.startswith((*DURATIONS, OF_SWEEPS))}


def compare_results(first: Results, second: Results) -> list[NumberChange]:
    """Return in what two results differ; an empty list if every number is identical.

    Equal are numbers with the same bits (0 and -0 differ), and two that are not defined. How a number is
    written, and how a file is compressed, does not count. A file that cannot be read differs.
    """
    changes = []
    for name in sorted({*first.files, *second.files, *first.unreadable, *second.unreadable}):
        unreadable = first.unreadable.get(name) or second.unreadable.get(name)
        if unreadable is not None:
            changes.append(NumberChange(name, "", where=unreadable))
        elif name not in first.files or name not in second.files:
            present = ["present" if name in results.files else "missing" for results in (first, second)]
            changes.append(NumberChange(name, "", first=present[0], second=present[1]))
        elif first.files[name] != second.files[name]:
            changes += compare_file(name, first.files[name], second.files[name])
    return changes + _compare_values("metrics", first.metrics, second.metrics)


def compare_file(name: str, first: bytes, second: bytes) -> list[NumberChange]:
    """Return in what the numbers of two versions of a file differ."""
    compare = next(compare for suffix, compare in _COMPARISONS.items() if name.endswith(suffix))
    try:
        return compare(name, first, second)
    except UNREADABLE as error:
        return [NumberChange(name, "", where=f"cannot be read: {first_line(error)}")]


def compare_tables(name: str, first: pd.DataFrame, second: pd.DataFrame) -> list[NumberChange]:
    """Return in which columns two tables differ; their rows are compared in their order."""
    changes = []
    for column in [*first.columns, *(each for each in second.columns if each not in first)]:
        if column not in first or column not in second:
            present = ["present" if column in table else "missing" for table in (first, second)]
            changes.append(NumberChange(name, str(column), first=present[0], second=present[1]))
    if len(first) != len(second):
        return [*changes, NumberChange(name, "rows", first=str(len(first)), second=str(len(second)))]
    for column in (each for each in first.columns if each in second):
        arrays = first[column].to_numpy(), second[column].to_numpy()
        found = _compare_arrays(name, str(column), *arrays, partial(_describe_row, first, str(column)))
        changes += [] if found is None else [found]
    return changes


def _compare_csv(name: str, first: bytes, second: bytes) -> list[NumberChange]:
    return compare_tables(name, *(_read_csv(content) for content in (first, second)))


def _read_csv(content: bytes) -> pd.DataFrame:
    """Read a table in which only an empty cell is undefined: a condition may be called NA."""
    return pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values=[""])


def _compare_images(name: str, first: bytes, second: bytes) -> list[NumberChange]:
    images = [nib.Nifti1Image.from_bytes(gzip.decompress(content)) for content in (first, second)]
    arrays = [np.asanyarray(image.dataobj) for image in images]
    affines = [np.asarray(image.affine) for image in images]
    found = [
        _compare_arrays(name, "voxels", arrays[0], arrays[1], lambda place: f"voxel {_write_place(place)}"),
        _compare_arrays(name, "affine", affines[0], affines[1], lambda place: f"entry {_write_place(place)}"),
    ]
    return [change for change in found if change is not None]


def _compare_npz(name: str, first: bytes, second: bytes) -> list[NumberChange]:
    with np.load(io.BytesIO(first), allow_pickle=False) as one, np.load(io.BytesIO(second)) as other:
        parts = [{key: arrays[key] for key in arrays.files} for arrays in (one, other)]
    changes = []
    for key in sorted({*parts[0], *parts[1]}):
        if key not in parts[0] or key not in parts[1]:
            present = ["present" if key in part else "missing" for part in parts]
            changes.append(NumberChange(name, key, first=present[0], second=present[1]))
            continue
        arrays = np.asarray(parts[0][key]), np.asarray(parts[1][key])
        found = _compare_arrays(name, key, *arrays, lambda place: f"entry {_write_place(place)}")
        changes += [] if found is None else [found]
    return changes


def _compare_json(name: str, first: bytes, second: bytes) -> list[NumberChange]:
    return _compare_values(name, *(_flatten(json.loads(content)) for content in (first, second)))


def _flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Return a JSON document on one level; entries of a list are named by their rule, else by their place."""
    if isinstance(node, list):
        named = [item.get("rule") if isinstance(item, dict) else None for item in node]
        unique = None not in named and len(set(named)) == len(named)
        node = dict(zip(named if unique else map(str, range(len(node))), node, strict=True))
    if not isinstance(node, dict):
        return {prefix: node}
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _compare_values(file: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> list[NumberChange]:
    """Compare single values by their names."""
    changes = []
    for name in sorted({*first, *second}):
        if name not in first or name not in second:
            shown = [str(values[name]) if name in values else "missing" for values in (first, second)]
            changes.append(NumberChange(file, name, first=shown[0], second=shown[1]))
            continue
        found = _compare_arrays(file, name, _wrap(first[name]), _wrap(second[name]), lambda place: "")
        changes += [] if found is None else [found]
    return changes


def _wrap(value: Any) -> np.ndarray:
    return np.array([value], dtype=type(value) if isinstance(value, int | float) else object)


def _compare_arrays(
    file: str,
    part: str,
    first: np.ndarray,
    second: np.ndarray,
    describe: Callable[[Place], str],
) -> NumberChange | None:
    """Compare two arrays element by element; return None if they are identical.

    Parameters
    ----------
    describe : callable
        From the index of an element to where it is, in words.
    """
    if first.shape != second.shape:
        return NumberChange(file, part, where="shape", first=str(first.shape), second=str(second.shape))
    is_number = first.dtype.kind in "iufb" and second.dtype.kind in "iufb"
    changed = _differ(first, second) if is_number else _are_other_texts(first, second)
    if not changed.any():
        return None
    places = np.argwhere(changed)
    place, largest = tuple(places[0]), None
    if is_number:
        with np.errstate(all="ignore"):
            sizes = np.abs(first[changed].astype(np.float64) - second[changed].astype(np.float64))
        sizes[np.isnan(sizes)] = np.inf
        place, largest = tuple(places[int(sizes.argmax())]), float(sizes.max())
    return NumberChange(
        file, part, len(places), first.size, largest, describe(place), str(first[place]), str(second[place])
    )


def _differ(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return where two numeric arrays have other values, zeros of the other sign included."""
    undefined = np.isnan(first), np.isnan(second)
    same = (first == second) & (np.signbit(first) == np.signbit(second))
    return ~(same | (undefined[0] & undefined[1])) if first.ndim else np.asarray(~same)


def _are_other_texts(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    undefined = pd.isna(first) & pd.isna(second)
    return np.asarray((first.astype(str) != second.astype(str)) & ~undefined)


def _describe_row(table: pd.DataFrame, column: str, place: Place) -> str:
    row = int(place[0])
    keys = [key for key in ROW_KEYS if key in table and key != column]
    return ", ".join(f"{key} {table[key].iloc[row]}" for key in keys) or f"row {row}"


def _write_place(place: Place) -> str:
    return ", ".join(str(int(index)) for index in place)


_COMPARISONS: Mapping[str, Callable[[str, bytes, bytes], list[NumberChange]]] = {
    ".csv": _compare_csv,
    ".nii.gz": _compare_images,
    ".npz": _compare_npz,
    ".json": _compare_json,
}
