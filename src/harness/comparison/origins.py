"""What a result comes from: settings, data, versions, code, machine, relabellings and folds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from harness.errors import TrackingError
from harness.tracking.provenance import DISTRIBUTION
from harness.tracking.queries import COMPARED_PARAMS
from harness.tracking.stored_run import StoredRun
from harness.tracking.tags import CODE_TAG, COMMIT_TAG, RELABELLINGS_TAG

COUNTS = ("n_samples", "n_voxels", "n_folds", "n_folds_skipped")
Prepare = Callable[[dict[str, Any]], tuple[Any, tuple[str, ...]]]
"""From a configuration to one in which equal settings are written in one way, and to `Origin.places`."""


@dataclass(frozen=True, eq=False)
class Origin:
    """What a result comes from; a part that is not known is empty, and `missing` says why.

    Attributes
    ----------
    choices : mapping of str to str
        The option of every group with its changes, and what else distinguishes runs.
    settings : mapping of str to object
        The configuration on one level, by dotted key.
    digests : mapping of str to str
        SHA-256 of the input files by role.
    versions : mapping of str to str
        Of Python and every installed package.
    code : mapping of str to str
        ``commit``, and digests of the code that computes by package.
    machine : mapping of str to str
        Platform, processor, BLAS and threads.
    relabellings : str
        Digest of the relabellings of a permutation test.
    folds : mapping of int to tuple of int
        Held-out volumes of every fold.
    places : tuple of str
        Keys of the configuration that say where the files of the data set are.
    """

    choices: Mapping[str, str]
    settings: Mapping[str, Any]
    digests: Mapping[str, str]
    versions: Mapping[str, str]
    code: Mapping[str, str]
    machine: Mapping[str, str]
    relabellings: str = ""
    counts: Mapping[str, str] = field(default_factory=dict)
    folds: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    places: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def read_origin(stored: StoredRun, prepare: Prepare) -> Origin:
    """Return what a stored run comes from; files that cannot be used are named in `Origin.missing`."""
    missing = []

    def attempt(read: Callable[[], Any], empty: Any) -> Any:
        try:
            return read()
        except TrackingError as error:
            missing.append(str(error))
            return empty

    settings, places = attempt(lambda: prepare(stored.read_config()), ({}, ()))
    environment = attempt(lambda: stored.read_file("environment.txt").decode(errors="replace"), "")
    # A searchlight has no predictions: its folds follow from the settings.
    predictions = None
    if not stored.is_searchlight:
        predictions = attempt(lambda: stored.read_table("predictions.csv"), None)
    packages, machine = parse_environment(environment)
    code = {
        key.removeprefix(CODE_TAG).lstrip(".") or "harness": value
        for key, value in stored.tags.items()
        if key == CODE_TAG or key.startswith(f"{CODE_TAG}.")
    }
    code |= {"commit": stored.tags[COMMIT_TAG]} if COMMIT_TAG in stored.tags else {}
    return Origin(
        choices={name: stored.params[name] for name in COMPARED_PARAMS if name in stored.params},
        settings=flatten(settings) if settings else {},
        digests=stored.digests,
        versions=packages | stored.versions,
        code=code,
        machine=machine,
        relabellings=stored.tags.get(RELABELLINGS_TAG, ""),
        counts={name: stored.params[name] for name in COUNTS if name in stored.params},
        folds={} if predictions is None else list_held_out(predictions),
        places=places,
        missing=tuple(dict.fromkeys(missing)),
    )


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Return a configuration on one level of dotted keys; lists stay values."""
    if isinstance(node, Mapping) and node:
        flat: dict[str, Any] = {}
        for name, child in node.items():
            flat |= flatten(child, f"{prefix}.{name}" if prefix else str(name))
        return flat
    return {prefix: node}


def parse_environment(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the versions of the packages, and the machine, of an ``environment.txt``.

    This package is ``harness``, as in the tags of a run, under both names that its distribution has had.
    """
    lines = text.splitlines()
    packages = dict(line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))
    if DISTRIBUTION in packages:
        packages["harness"] = packages.pop(DISTRIBUTION)
    machine = {}
    for line in (line.removeprefix("# ") for line in lines if line.startswith("# ")):
        name, colon, value = line.partition(": ")
        if colon:
            machine[name] = value
        elif not line.startswith("Python "):
            machine["platform"] = line
    return packages, machine


def list_held_out(predictions: pd.DataFrame) -> dict[int, tuple[int, ...]]:
    """Return the held-out volumes of every fold; empty where a table of predictions lacks them."""
    if not {"fold", "volume"} <= set(predictions.columns):
        return {}
    folds: dict[int, list[int]] = {}
    for fold, volume in zip(predictions["fold"].tolist(), predictions["volume"].tolist(), strict=True):
        folds.setdefault(int(fold), []).append(int(volume))
    return {fold: tuple(sorted(volumes)) for fold, volumes in folds.items()}
