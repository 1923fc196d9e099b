"""Paths in a configuration: templates with the subject's number, wildcards, and lists of them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from string import Formatter

from harness.datasets.locations import expand_path
from harness.errors import DataError, UsageError

Paths = str | Path | Sequence[str | Path]
_FORMAT = re.compile("(0?[0-9]d)?")  # 02d is two digits


def fill_subject(template: str | Path, subject: object, key: str) -> str:
    """Replace ``{subject}``, or ``{subject:02d}`` for two digits, in the value of `key` by the number.

    Raises
    ------
    UsageError
        If anything else is in braces.
    """
    try:
        parts = list(Formatter().parse(str(template)))
        for _, field, width, conversion in parts:
            if field is not None and (field != "subject" or conversion or not _FORMAT.fullmatch(width or "")):
                raise ValueError(f"{{{field}{f':{width}' if width else ''}}}")
        return str(template).format(subject=subject)
    except ValueError as error:
        raise UsageError(
            f"{key}={str(template)!r} is not a valid template ({error}); expected {{subject}} or, with "
            "leading zeros, {subject:02d} in braces; write {{ and }} for braces of the path itself"
        ) from error


def find_files(key: str, given: Paths, subject: int) -> tuple[Path, ...]:
    """Return a subject's files, given a template, a wildcard, or a list of them; see `fill_subject`.

    The files that match a wildcard are sorted by name, numbers by their value: ``run-2`` before ``run-10``.

    Raises
    ------
    DataError
        If a file does not exist, a wildcard matches none, or a file is listed twice.
    UsageError
        If anything else than the subject is in braces.
    """
    templates = [given] if isinstance(given, str | Path) else list(given)
    files: list[Path] = []
    for template in templates:
        filled = fill_subject(template, subject, key)
        found = _glob(filled, key)
        if not found:
            raise DataError(
                f"{key}: subject {subject} has no file {filled}; {_describe_subjects(template)}"
                "check the path and the permissions of its directory"
            )
        files += found
    if not files:
        raise UsageError(f"{key}=[] is empty; expected a path, or a list of paths in the order of time")
    seen: set[Path] = set()
    for file in files:
        real = file.resolve()
        if real in seen:
            raise DataError(f"{key}: {file} is listed twice for subject {subject}; expected every file once")
        seen.add(real)
    return tuple(files)


def find_file(key: str, given: str | Path, subject: int) -> Path:
    """Return a subject's only file; none, or several, are a `DataError`; see `find_files`."""
    files = find_files(key, given, subject)
    if len(files) > 1:
        raise DataError(
            f"{key}={str(given)!r} matches {len(files)} files, the first {files[0]}; expected one"
        )
    return files[0]


def find_masks(given: Mapping[str, str | Path], subject: int) -> dict[str, Path]:
    """Return the mask files of ``dataset.masks``, by name."""
    return {
        str(name): find_file(f"dataset.masks.{name}", template, subject) for name, template in given.items()
    }


def list_subjects(template: str | Path) -> list[int]:
    """Return the subjects for which a template has a file, in order."""
    candidates = _glob(fill_subject(template, _AnySubject(), "path"), "path")
    return sorted(
        {
            int(digits)
            for path in candidates
            for digits in re.findall(r"[0-9]{1,9}", str(path))
            if fnmatchcase(str(path), str(expand_path("path", fill_subject(template, int(digits), "path"))))
        }
    )


def in_natural_order(names: Iterable[str]) -> list[str]:
    """Sort names, their numbers by value: ``run-2`` before ``run-10``."""
    return sorted(names, key=natural_key)


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts the numbers inside a name by their value."""
    parts = re.split(r"([0-9]+)", name)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part)


class _AnySubject:
    """A subject's number that is formatted as a wildcard."""

    def __format__(self, spec: str) -> str:
        return "*"


def _glob(text: str, key: str) -> list[Path]:
    """Return the file of this name, else the files that match it as a wildcard."""
    path = expand_path(key, text)
    if path.is_file():
        return [path]
    if not re.search(r"[*?\[]", text):
        return []
    start = Path(path.anchor or ".")
    try:
        found = [file for file in start.glob(str(path.relative_to(path.anchor))) if file.is_file()]
    except (ValueError, NotImplementedError, re.error) as error:
        raise UsageError(
            f"{key}={text!r} is not a valid wildcard: {error}; expected *, ? and [...]"
        ) from error
    return sorted(found, key=lambda file: natural_key(str(file)))


def _describe_subjects(template: str | Path) -> str:
    """Return the clause of a message that lists the subjects of a template."""
    if "{subject" not in str(template):
        return ""
    subjects = list_subjects(template)
    if not subjects:
        return f"no subject has a file {template}; "
    return f"available: subject {', '.join(map(str, subjects))}; "
