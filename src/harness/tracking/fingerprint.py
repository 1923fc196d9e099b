"""What defines the result of a run: two runs with the same identity find the same numbers."""

import hashlib
import inspect
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.datasets.recording import Recording
from harness.samples.cache import SampleCache
from harness.samples.samples import Roi, digest_sources
from harness.samples.signal import Signal
from harness.tracking.provenance import digest_code

# Where data are found, where runs are remembered and what is drawn say nothing about the numbers. The options
# of a data set count by the recording that they lead to.
NOT_COUNTED = ("dataset", "tracking", "figures", "cache", "resume")
COUNTED_BY_CONTENT = {"roi": ("mask",), "signal": ("confounds_file",)}
# Packages whose version `digest_code` counts; classes of others count by their files.
KNOWN_PACKAGES = ("harness", "sklearn", "nilearn", "numpy", "scipy", "builtins", "abc", "typing")
CODE_SUFFIXES = (".py", ".so", ".pyd")


def identify(
    config: Mapping[str, Any],
    recording: Recording,
    roi: Roi,
    signal: Signal,
    classes: Iterable[type] = (),
    cache: SampleCache | None = None,
) -> str:
    """Digest what defines a run's result: what is asked, the data, and the code that computes.

    Parameters
    ----------
    config : mapping
        The resolved configuration, plain and normalised, so that equal settings are written in one way.
    recording : Recording
    roi, signal
        What the configuration means by these groups.
    classes : iterable of type
        Those that the configuration names.
    cache : SampleCache, optional
        What knows the digests of images that were read before.

    Returns
    -------
    identity : str
        SHA-256 (hexadecimal). It does not depend on folders, file names, the order of keys, how a value is
        written, or the run store.

    Raises
    ------
    DataError
        If a file is missing.
    """
    asked = {key: value for key, value in config.items() if key not in NOT_COUNTED}
    for group, keys in COUNTED_BY_CONTENT.items():
        asked[group] = {key: value for key, value in asked.get(group, {}).items() if key not in keys}
    shown = recording.labels.to_csv(index=False).encode()
    parts = {
        "asked": asked,
        "dataset": recording.dataset,
        "t_r": recording.t_r,
        "shown": hashlib.sha256(shown).hexdigest(),
        # The labels count by what they say, volume by volume: the data set's options have a part in that.
        "digests": {
            name: digest
            for name, digest in digest_sources(recording, roi, signal, cache).items()
            if name != "labels"
        },
        "code": [digest_code(), *_foreign_sources(classes)],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _foreign_sources(classes: Iterable[type]) -> Iterator[str]:
    """Digest the code of every class of other packages, such as a user's own estimator."""
    for named in classes:
        for kind in inspect.getmro(named):
            package = kind.__module__.partition(".")[0]
            if package not in KNOWN_PACKAGES:
                yield _digest_package(package)


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
