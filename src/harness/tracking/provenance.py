"""Where a result comes from: the code, the packages, the files."""

import hashlib
import platform
import re
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

# The packages whose version can change a number or a picture.
PACKAGES = (
    "harness",
    "numpy",
    "scipy",
    "scikit-learn",
    "nilearn",
    "nibabel",
    "pandas",
    "mlflow",
    "hydra-core",
    "matplotlib",
)
# Those of them that compute, and our own packages that do.
COMPUTING_PACKAGES = ("numpy", "scipy", "scikit-learn", "nilearn", "nibabel", "pandas")
COMPUTING_MODULES = ("datasets", "samples", "solvers", "decoding")


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a result.

    Returns
    -------
    versions : dict of str to str
    """
    # harness itself has none when it is run from a checkout that is not installed
    found = {name: version for name in PACKAGES if (version := _installed_version(name))}
    return {"python": platform.python_version()} | found


@cache
def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@cache
def git_commit() -> str | None:
    """Return the commit of this package: of the checkout it runs from, or that it was built from.

    Asked once per process: a checkout that changes later is not the code that runs.

    Returns
    -------
    commit : str or None
        With ``+changes`` behind it where tracked files of a checkout differ from the commit; shortened where
        it comes from the version of an installed package; None if nobody knows.
    """
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(here), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # An installed package inside somebody else's checkout is not of that checkout.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        commit = git("rev-parse", "HEAD")
        return f"{commit}+changes" if git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        built_from = re.search(r"\+g([0-9a-f]{7,40})", package_versions().get("harness", ""))
        return built_from.group(1) if built_from else None


def describe_environment() -> str:
    """Return every installed package with its version, in the format of a requirements file.

    Returns
    -------
    environment : str
        Comments name Python and the platform.
    """
    lines = [f"{name}=={version}" for name, version in _list_packages(tuple(sys.path))]
    head = [f"# Python {sys.version.split()[0]}", f"# {platform.platform()}"]
    return "\n".join([*head, *lines]) + "\n"


@cache
def digest_code() -> str:
    """Digest the code that computes: the packages from data to decoding, and the packages that they use.

    The packages that compose, draw and track are left out: they change how a result looks, not what it is.
    The files themselves are read, so that a checkout with changes counts as what it is.

    Returns
    -------
    digest : str
        SHA-256 (hexadecimal).
    """
    here = Path(__file__).resolve().parents[1]
    summed = hashlib.sha256()
    for package in COMPUTING_MODULES:
        path = here / package
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            summed.update(file.relative_to(here).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    versions = package_versions()
    for name in COMPUTING_PACKAGES:
        summed.update(f"{name} {versions.get(name)}\n".encode())
    return summed.hexdigest()


@cache
def _list_packages(path: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return name and version of what is installed on a search path, which means hundreds of files."""
    found = set()
    for distribution in metadata.distributions(path=list(path)):
        # What a broken installation leaves behind has no metadata, or no name in it.
        with suppress(FileNotFoundError):
            read = distribution.metadata  # the file is read anew at every use
            if read["Name"]:
                found.add((read["Name"], read["Version"]))
    return sorted(found, key=lambda item: item[0].lower())
