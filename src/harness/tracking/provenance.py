"""Provenance of a result: versions of the code and of the packages."""

from __future__ import annotations

import hashlib
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

DISTRIBUTION = "fmri-decoding-harness"  # under which pip knows this package
COMPUTING_PACKAGES = ("numpy", "scipy", "scikit-learn", "nilearn", "nibabel", "pandas")
# The packages whose version can change a number or a figure.
PACKAGES = ("harness", *COMPUTING_PACKAGES, "mlflow", "hydra-core", "matplotlib")
# The packages of the harness that compute numbers.
COMPUTING_MODULES = ("datasets", "samples", "solvers", "decoding", "checks", "inference", "searchlight")


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a result."""
    # harness has none in a checkout that is not installed
    found = {name: version for name in PACKAGES if (version := _installed_version(name))}
    return {"python": platform.python_version()} | found


@cache
def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(DISTRIBUTION if name == "harness" else name)
    except metadata.PackageNotFoundError:
        return None


@cache
def git_commit() -> str | None:
    """Return the commit of the checkout that this package is in, or that it was built from.

    Read once per process: a checkout that changes later is not the code that runs.

    Returns
    -------
    commit : str or None
        Followed by ``+changes`` if tracked files of a checkout differ from the commit; shortened if it is
        from the version of an installed package; None if it is unknown.
    """
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(here), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # Fails for a package that is installed inside the checkout of another project.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        commit = git("rev-parse", "HEAD")
        return f"{commit}+changes" if git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        built_from = re.search(r"\+g([0-9a-f]{7,40})", package_versions().get("harness", ""))
        return built_from.group(1) if built_from else None


def describe_environment() -> str:
    """Return every installed package with its version, as a requirements file with comments on Python."""
    lines = [f"{name}=={version}" for name, version in _list_packages(tuple(sys.path))]
    head = [f"# Python {sys.version.split()[0]}", f"# {platform.platform()}"]
    head += [f"# {name}: {value}" for name, value in describe_machine().items()]
    return "\n".join([*head, *lines]) + "\n"


@cache
def describe_machine() -> dict[str, str]:
    """Return what of the processor and of the BLAS libraries can change the last digits of a sum.

    NumPy and the BLAS libraries choose their kernels by the processor. The number of threads is that of the
    libraries as they were loaded; the solvers set it to one (`harness.solvers.threads`).
    """
    import numpy as np  # here, because --version needs the other functions only
    from threadpoolctl import ThreadpoolController

    simd = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    found = {"processor": f"{platform.machine()}, NumPy uses {', '.join(simd) or 'its baseline'}"}
    libraries = ThreadpoolController().info()
    blas = sorted({_name_library(library) for library in libraries if library["user_api"] == "blas"})
    threads = sorted({str(library["num_threads"]) for library in libraries})
    if blas:
        found["BLAS"] = ", ".join(blas)
    if threads:
        found["threads"] = ", ".join(threads)
    return found


def _name_library(library: Mapping[str, Any]) -> str:
    return " ".join(
        str(library[key]) for key in ("internal_api", "version", "architecture") if library.get(key)
    )


@cache
def digest_code() -> str:
    """Return the SHA-256 (hexadecimal) of the code that computes, ours and that of the packages it uses.

    The other packages change how a result is shown, not its numbers. The files are read, so that changes of a
    checkout count.
    """
    summed = hash_sources().copy()
    versions = package_versions()
    for name in COMPUTING_PACKAGES:
        summed.update(f"{name} {versions.get(name)}\n".encode())
    return summed.hexdigest()


def digest_sources() -> str:
    """Return the SHA-256 (hexadecimal) of the harness's own code that computes, without other packages."""
    return hash_sources().hexdigest()


@cache
def hash_sources() -> hashlib._Hash:
    """Hash the harness's own code that computes."""
    here = Path(__file__).resolve().parents[1]
    summed = hashlib.sha256()
    for package in COMPUTING_MODULES:
        path = here / package
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            summed.update(file.relative_to(here).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return summed


@cache
def _list_packages(path: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return name and version of the packages on a search path, cached because it reads hundreds of files."""
    found = set()
    for distribution in metadata.distributions(path=list(path)):
        # A broken installation leaves a directory without metadata, or without a name in it.
        with suppress(FileNotFoundError):
            read = distribution.metadata  # every use reads the file
            if read["Name"]:
                found.add((read["Name"], read["Version"]))
    return sorted(found, key=lambda item: item[0].lower())
