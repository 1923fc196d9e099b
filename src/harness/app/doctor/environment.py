"""The digest of the environment, and what of the user's surroundings programs depend on."""

from __future__ import annotations

import hashlib
import json
import locale
import platform
from collections.abc import Iterator
from pathlib import Path

from harness.app.doctor.selection import Selection
from harness.checks.diagnosis import Diagnosis, Status


def check_digest(selection: Selection) -> Iterator[Diagnosis]:
    """Digest the versions, the machine and the code, each of which every run records.

    The digest itself is stored in no run; it compares two machines. A run's fingerprint is another one.
    """
    # Before the libraries are listed, those that a run loads have to be loaded.
    import scipy.linalg  # noqa: F401
    import sklearn  # noqa: F401

    from harness.tracking.provenance import describe_machine, digest_code, git_commit, package_versions

    code, commit = digest_code(), git_commit()
    parts = {"versions": package_versions(), "machine": describe_machine(), "code": code}
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    text = f"{digest[:16]} (versions, machine, code); code {code[:12]}"
    text += "" if commit is None else f", commit {commit[:12]}{'+changes' * commit.endswith('+changes')}"
    facts = {"digest": digest, **parts, "commit": commit}
    yield Diagnosis("environment", "digest", Status.ok, text, None, facts)


def check_system(selection: Selection) -> Iterator[Diagnosis]:
    """Name the operating system and the encoding."""
    encoding = locale.getpreferredencoding(False)
    text = f"{platform.platform()}, {encoding}"
    facts = {"platform": platform.platform(), "encoding": encoding}
    yield Diagnosis("environment", "system", Status.ok, text, None, facts)


def check_directory(selection: Selection) -> Iterator[Diagnosis]:
    """Check that the current directory exists; it is that of ``mlruns`` and of a user's own options."""
    try:
        directory = Path.cwd()
    except OSError as error:
        text = f"the current directory cannot be used: {error.strerror}; it may have been deleted"
        yield Diagnosis("environment", "directory", Status.fault, text, "cd ~", {"directory": None})
        return
    facts = {"directory": str(directory)}
    yield Diagnosis("environment", "directory", Status.ok, str(directory), None, facts)


def check_home() -> Iterator[Diagnosis]:
    """Check that there is a home directory, in which data and cache are by default."""
    try:
        home = Path("~").expanduser()
    except RuntimeError:
        home = Path("~")
    facts = {"home": str(home), "exists": home.is_dir()}
    if home.is_dir() and home != Path("~"):
        yield Diagnosis("environment", "home", Status.ok, str(home), None, facts)
        return
    text = f"{home} is not a directory: data and cache need HARNESS_CACHE and NILEARN_DATA"
    command = 'export HARNESS_CACHE="$PWD/cache" NILEARN_DATA="$PWD/nilearn_data"'
    yield Diagnosis("environment", "home", Status.caution, text, command, facts)
