"""Python and the packages: installed, of a version that is required, and importable."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from traceback import walk_tb
from typing import Any

from harness.app.doctor.installation import (
    find_checkout,
    format_extra,
    format_install,
    format_reinstall,
    quote,
    read_installation,
)
from harness.app.doctor.selection import Selection
from harness.checks.diagnosis import Diagnosis, Status
from harness.errors import first_line
from harness.tracking.provenance import DISTRIBUTION

# Names of modules, where they are not those of the distributions.
MODULES = {"scikit-learn": "sklearn", "hydra-core": "hydra", "pyyaml": "yaml"}
# Python that every release of harness supports; used where the metadata cannot be read.
LOWEST_PYTHON, TOO_NEW_PYTHON = (3, 11), (3, 14)


def is_python_supported() -> bool:
    """Return whether harness can run with this Python at all."""
    return LOWEST_PYTHON <= sys.version_info[:2] < TOO_NEW_PYTHON


def check_python(selection: Selection) -> Iterator[Diagnosis]:
    """Compare the version of Python with the allowed ones."""
    version = ".".join(map(str, sys.version_info[:3]))
    allowed = read_installation().python or f">={_join(LOWEST_PYTHON)},<{_join(TOO_NEW_PYTHON)}"
    facts = {"version": version, "required": allowed, "executable": sys.executable}
    if is_python_supported():
        yield Diagnosis(
            "python", "version", Status.ok, f"{version} ({allowed}), {sys.executable}", None, facts
        )
        return
    newest = f"3.{TOO_NEW_PYTHON[1] - 1}"
    start, python = (
        (f"py -{newest}", r"harness-env\Scripts\python")
        if sys.platform == "win32"
        else (f"python{newest}", "harness-env/bin/python")
    )
    target = quote(find_checkout() or DISTRIBUTION)
    yield Diagnosis(
        "python",
        "version",
        Status.fault,
        f"{version} cannot run harness, which needs {allowed} (install it first if there is none)",
        f"{start} -m venv harness-env && {python} -m pip install {target}",
        facts,
    )


def _join(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def check_harness(selection: Selection) -> Iterator[Diagnosis]:
    """Check that harness is installed, and that its configuration can be found."""
    version, place = read_installation().version, Path(__file__).resolve().parents[2]
    facts = {"version": version, "directory": str(place)}
    has_options = find_spec("harness.conf") is not None
    if version is not None and has_options:
        yield Diagnosis("packages", "harness", Status.ok, f"{version}, {place}", None, facts)
        return
    lacks = "its distribution has no metadata" if has_options else "its options (harness.conf) are not found"
    text = f"imported from {place}, but not installed: {lacks}"
    status = Status.caution if has_options or not is_python_supported() else Status.fault
    repair = format_reinstall() if is_python_supported() else None
    yield Diagnosis("packages", "harness", status, text, repair, facts)


def check_requirements(selection: Selection) -> Iterator[Diagnosis]:
    """Compare the installed packages with the required versions."""
    installation = read_installation()
    if not installation.requirements:
        if is_python_supported():
            text = "unknown: harness is not installed, and its pyproject.toml cannot be read"
            yield Diagnosis("packages", "requirements", Status.fault, text, format_reinstall())
        else:
            yield Diagnosis("packages", "requirements", Status.caution, "not compared with this Python")
        return
    try:
        from packaging.requirements import Requirement
    except ImportError:
        for text in installation.requirements:
            if ";" not in text:
                yield _check_presence(text)
        return
    for text in installation.requirements:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _check_requirement(requirement)


def _check_presence(text: str) -> Diagnosis:
    """Check a requirement without `packaging`: presence alone."""
    name = _name_distribution(text)
    version = _read_version(name)
    if version is None:
        return _missing(name, text)
    unchecked = f"{version} (not compared with {text[len(name) :]}, because packaging cannot be imported)"
    return Diagnosis(
        "packages", name, Status.caution, unchecked, None, {"version": version, "required": text}
    )


def _check_requirement(requirement: Any) -> Diagnosis:
    """Check a requirement whose marker applies."""
    name, required = requirement.name, str(requirement.specifier)
    text = f"{name}{required}"
    version = _read_version(name)
    if version is None:
        return _missing(name, text)
    facts = {"version": version, "required": required}
    if not _contains(requirement.specifier, version):
        wrong = f"{version} is installed, but {required} is required"
        return Diagnosis("packages", name, Status.fault, wrong, format_install(text, upgrade=True), facts)
    return Diagnosis(
        "packages", name, Status.ok, f"{version} ({required})" if required else version, None, facts
    )


def _missing(name: str, text: str) -> Diagnosis:
    facts = {"version": None, "required": text[len(name) :]}
    return Diagnosis(
        "packages", name, Status.fault, "is required, but not installed", format_install(text), facts
    )


def _contains(specifier: Any, version: str) -> bool:
    from packaging.version import InvalidVersion

    try:
        return bool(specifier.contains(version, prereleases=True))
    except InvalidVersion:
        return False


def _read_version(name: str) -> str | None:
    """Return the version of an installed package; None where it or its metadata are missing."""
    try:
        version: str | None = metadata.version(name)
    except (metadata.PackageNotFoundError, KeyError, OSError, TypeError):  # damaged metadata lack the key
        return None
    return version or None


def check_extras(selection: Selection) -> Iterator[Diagnosis]:
    """Check which extras are installed, and whether their versions are right."""
    from packaging.requirements import Requirement

    found: dict[str, list[Any]] = {}
    for text in read_installation().requirements:
        requirement = Requirement(text)
        for extra in re.findall(r"extra == ['\"]([\w-]+)['\"]", text):
            if requirement.name != DISTRIBUTION and (
                requirement.marker is None or requirement.marker.evaluate({"extra": extra})
            ):
                found.setdefault(extra, []).append(requirement)
    complete, absent = [], []
    for extra, requirements in found.items():
        versions = {str(item.name): _read_version(item.name) for item in requirements}
        wrong = [
            f"{item.name} {version} ({item.specifier})"
            for item in requirements
            if (version := versions[item.name]) is not None and not _contains(item.specifier, version)
        ]
        if wrong:
            text = f"{', '.join(wrong)}: another version is required"
            yield Diagnosis("packages", f"extra {extra}", Status.caution, text, format_extra(extra), versions)
        elif None in versions.values():
            absent.append(extra)
        else:
            complete.append(extra)
    text = (
        f"installed: {', '.join(complete) or 'none'}; not installed (optional): {', '.join(absent) or 'none'}"
    )
    facts = {"installed": complete, "not_installed": absent}
    yield Diagnosis("packages", "extras", Status.ok, text, None, facts)


def check_imports(selection: Selection) -> Iterator[Diagnosis]:
    """Import every required package that is installed, and check that no file of the user hides it."""
    required = [text for text in read_installation().requirements if "extra ==" not in text]
    # The requirement of every module, such as {"sklearn": "scikit-learn>=1.8"}.
    modules = {_name_module(text): re.split(r"\s*;", text)[0] for text in required}
    hiding = [
        item for module, text in modules.items() for item in _check_shadow(_name_distribution(text), module)
    ]
    yield from hiding
    if hiding:
        text = "not checked, because files of the current directory hide packages"
        yield Diagnosis("packages", "imports", Status.caution, text, None, {"imported": []})
        return
    imported, errors = [], {}
    for module, text in modules.items():
        name = _name_distribution(text)
        if _read_version(name) is None:
            continue
        try:
            import_module(module)
        except (Exception, SystemExit) as error:
            errors[module] = error
        else:
            imported.append(name)
    for module in errors:
        yield _describe_import(module, errors, modules)
    text = f"{len(imported)} required packages can be imported"
    yield Diagnosis("packages", "imports", Status.ok, text, None, {"imported": imported})


def _describe_import(module: str, errors: dict[str, BaseException], modules: dict[str, str]) -> Diagnosis:
    """Describe a failed import: of the package itself, or of another one that it needs."""
    error, text = errors[module], modules[module]
    name = _name_distribution(text)
    reason = f"{type(error).__name__}: {first_line(error)}"
    culprit = _find_culprit(error, modules)
    if culprit is not None and culprit != module:
        failed = f"cannot be imported because of {_name_distribution(modules[culprit])}: {reason}"
        again = format_install("--force-reinstall", "--no-deps", modules[culprit])
        # Otherwise the diagnosis of that package has the command.
        repair = again if culprit not in errors else None
        return Diagnosis("packages", f"import {name}", Status.fault, failed, repair)
    other = (getattr(error, "name", None) or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and other and modules.get(other) != text:
        needed = modules.get(other, other)
        failed = f"cannot be imported without {_name_distribution(needed)}: {reason}"
        return Diagnosis("packages", f"import {name}", Status.fault, failed, format_install(needed))
    failed = f"is installed, but cannot be imported: {reason}"
    again = format_install("--force-reinstall", "--no-deps", text)
    return Diagnosis("packages", f"import {name}", Status.fault, failed, again)


def _find_culprit(error: BaseException, modules: dict[str, str]) -> str | None:
    """Return the installed package in whose file the traceback of a failed import ends, or that it names."""
    found = [getattr(error, "name", None) or ""] if isinstance(error, ImportError) else []
    frames = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    if not isinstance(error, ModuleNotFoundError):
        found += reversed(frames)
    tops = (name.partition(".")[0] for name in found)
    installed = (top for top in tops if top in modules and _read_version(_name_distribution(modules[top])))
    return next(installed, None)


def _name_distribution(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def _name_module(requirement: str) -> str:
    name = _name_distribution(requirement)
    return MODULES.get(name.lower(), name.replace("-", "_"))


def _check_shadow(name: str, module: str) -> Iterator[Diagnosis]:
    """Find a file of the current directory that Python imports instead of a package."""
    here = Path.cwd()
    if not {"", str(here)} & set(sys.path):  # the console script does not import from the current directory
        return
    for path in (here / f"{module}.py", here / module / "__init__.py"):
        if path.is_file() and "site-packages" not in path.parts:
            text = f"{path} is imported instead of the package {name}; rename it"
            target = path if path.name != "__init__.py" else path.parent
            renamed = target.with_name(f"my_{target.name}")
            yield Diagnosis(
                "packages", f"file {module}", Status.fault, text, f"mv {quote(target)} {quote(renamed)}"
            )
