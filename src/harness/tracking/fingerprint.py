"""The fingerprint of a run: two runs with the same fingerprint have the same results."""

import hashlib
import inspect
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.samples.samples import Sources
from harness.tracking.provenance import digest_code

# Keys without influence on the numbers. The options of a data set count by the recording that they select.
NOT_COUNTED = ("dataset", "tracking", "figures", "cache", "resume", "model")
LEFT_OUT = {
    "roi": ("mask",),  # counted by its content, and so is the next one
    "signal": ("confounds_file",),
    "inference": ("processes",),  # they share the work
    "analysis": ("mask", "processes", "batch_size"),
}
# Packages whose version `digest_code` counts; classes of others count by their files.
KNOWN_PACKAGES = ("harness", "sklearn", "nilearn", "numpy", "scipy", "builtins", "abc", "typing")
# Settings of a searchlight that its scores do not depend on: they count, because they change its test.
OF_MAP_TESTS = ("statistic", "correction", "cluster_z", "keep_maps")
CODE_SUFFIXES = (".py", ".so", ".pyd")


def fingerprint_run(
    config: Mapping[str, Any], sources: Sources, image_digest: str, classes: Iterable[type] = ()
) -> str:
    """Digest what defines a run's result: the configuration, the data, and the code that computes.

    Parameters
    ----------
    config : mapping
        The resolved configuration, plain and normalised, so that equal settings are written in one way.
    image_digest : str
        See `harness.datasets.images.digest_files`.
    classes : iterable of type
        Those that the configuration names.

    Returns
    -------
    fingerprint : str
        SHA-256 (hexadecimal). It does not depend on directories, file names, the order of keys, how a value
        is written, or the run store.

    Raises
    ------
    DataError
        If a file is missing.
    """
    counted = {key: value for key, value in config.items() if key not in NOT_COUNTED}
    for group, keys in LEFT_OUT.items():
        counted[group] = {key: value for key, value in counted.get(group, {}).items() if key not in keys}
    labels = sources.recording.labels.to_csv(index=False).encode()
    # The file of the labels is not counted: its content, as the data set's options select it, is.
    digests = {name: digest for name, digest in sources.digests.items() if name != "labels"}
    parts = {
        "config": counted,
        "t_r": sources.recording.t_r,
        "space": sources.recording.space,
        "labels": hashlib.sha256(labels).hexdigest(),
        "digests": {"bold": image_digest, **digests},
        "code": [digest_code(), *map(_digest_package, _foreign_packages(classes))],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def digest_foreign_code(classes: Iterable[type]) -> dict[str, str]:
    """Return the digest of the code of every other package that classes are of, such as a user's own."""
    return {package: _digest_package(package) for package in _foreign_packages(classes)}


def _foreign_packages(classes: Iterable[type]) -> Iterator[str]:
    """Name the package of every class, and of those it inherits from, that `digest_code` does not count."""
    for named in classes:
        for kind in inspect.getmro(named):
            package = kind.__module__.partition(".")[0]
            if package not in KNOWN_PACKAGES:
                yield package


def _digest_package(name: str) -> str:
    """Digest every file of code of a package or module: a class may use any of them."""
    home = getattr(sys.modules[name], "__file__", None)
    if home is None:
        return name  # built into Python
    file = Path(home)
    files = sorted(file.parent.rglob("*")) if file.stem == "__init__" else [file]
    summed = hashlib.sha256(name.encode())
    for path in files:
        if path.suffix in CODE_SUFFIXES and path.is_file():
            summed.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return summed.hexdigest()
