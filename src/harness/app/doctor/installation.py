"""How harness and what it requires are installed, read from the metadata of the installed distribution."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.tracking.provenance import DISTRIBUTION

LAUNCHER_EXTRAS = {"joblib": "joblib", "submitit": "slurm"}  # the extra of an option of hydra/launcher


@dataclass(frozen=True)
class Installation:
    """The requirements of harness, and where they were read.

    Attributes
    ----------
    version : str or None
        None for a source checkout that is not installed.
    python : str
        The versions of Python that are allowed, such as ``>=3.11,<3.14``; empty if unknown.
    requirements : tuple of str
        As in metadata: ``numpy>=2``, ``submitit>=1.5; extra == "slurm"``.
    """

    version: str | None
    python: str
    requirements: tuple[str, ...]


def read_installation() -> Installation:
    """Return what the installed distribution requires; of a source checkout, what its pyproject.toml does."""
    try:
        found = metadata.metadata(DISTRIBUTION)
        requirements = tuple(metadata.requires(DISTRIBUTION) or ())
        if found["Version"]:
            return Installation(found["Version"], found["Requires-Python"] or "", requirements)
    except metadata.PackageNotFoundError:
        pass
    project = _read_project()
    optional = project.get("optional-dependencies", {})
    extras = [_add_extra(text, extra) for extra, texts in optional.items() for text in texts]
    return Installation(None, project.get("requires-python", ""), (*project.get("dependencies", ()), *extras))


def find_requirement(name: str) -> str:
    """Return what harness requires of a package, such as ``mlflow<4,>=3.4``; its name alone if unknown."""
    for text in read_installation().requirements:
        if re.match(rf"{re.escape(name)}(?![\w.-])", text):
            return text.partition(";")[0].strip()
    return name


def _add_extra(text: str, extra: str) -> str:
    requirement, _, marker = text.partition(";")
    condition = f'extra == "{extra}"'
    return f"{requirement}; ({marker.strip()}) and {condition}" if marker else f"{requirement}; {condition}"


def _read_project() -> dict[str, Any]:
    """Return the table [project] of the source checkout's pyproject.toml; nothing if it cannot be read."""
    directory = find_checkout()
    if directory is None or sys.version_info < (3, 11):
        return {}
    import tomllib

    found: dict[str, Any] = tomllib.loads((directory / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    return found


def find_checkout() -> Path | None:
    """Return the source checkout that this package is imported from, if there is one."""
    directory = Path(__file__).resolve().parents[4]
    file = directory / "pyproject.toml"
    if file.is_file() and DISTRIBUTION in file.read_text(encoding="utf-8", errors="replace"):
        return directory
    return None


def name_python() -> str:
    """Return the word that starts this Python in a shell: ``python`` where that is the same one."""
    found = shutil.which("python")
    if found is not None and sys.executable and Path(found).parent == Path(sys.executable).parent:
        return "python"
    return quote(sys.executable or "python")


def format_command(*words: str) -> str:
    """Return the command that runs ``python -m`` with this Python; the first word is the module."""
    return " ".join([name_python(), "-m", *map(quote, words)])


def format_install(*requirements: str, upgrade: bool = False) -> str:
    """Return the pip command that installs or upgrades packages."""
    return format_command("pip", "install", *(["--upgrade"] if upgrade else []), *requirements)


def format_reinstall() -> str:
    """Return the pip command that installs harness and what it requires."""
    checkout = find_checkout()
    return format_install(*([DISTRIBUTION] if checkout is None else ["-e", str(checkout)]))


def format_extra(extra: str) -> str:
    """Return the pip command that installs the packages of an extra, by their own names.

    The name of harness with the extra in brackets would need an index that has harness.
    """
    ends = [f"extra == {mark}{extra}{mark}" for mark in "'\""]
    found = [text for text in read_installation().requirements if any(end in text for end in ends)]
    own = [text.partition(";")[0].strip() for text in found]
    return format_install(*(text for text in own if not text.startswith(DISTRIBUTION)))


def format_launcher_install(launcher: str) -> str:
    """Return the pip command that installs a launcher."""
    if not read_installation().requirements:  # neither metadata nor a pyproject.toml that can be read
        return format_install(name_plugin(launcher))
    return format_extra(LAUNCHER_EXTRAS[launcher])


def name_plugin(launcher: str) -> str:
    """Return the distribution that has a launcher."""
    return f"hydra-{launcher}-launcher"


def quote(word: object) -> str:
    """Quote a word for a shell, if it needs that."""
    text = str(word)
    if os.name == "nt":
        return f'"{text}"' if re.search(r"[\s<>&|^]", text) else text
    return shlex.quote(text)
