"""Paths that a user writes: with the subject's number in them, with wildcards, one or several."""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from string import Formatter

from harness.datasets.locations import expand_path
from harness.errors import DataError, UsageError

Paths = str | Path | Sequence[str | Path]
_WIDTH = re.compile("(0?[0-9]d)?")  # of a number: 02d, two digits


def fill_subject(template: str | Path, subject: object, key: str) -> str:
    """Put the subject's number into a path.

    Parameters
    ----------
    template : str or Path
        With any number of ``{subject}``, or ``{subject:02d}`` for two digits.
    subject : int
    key : str
        The key of the configuration that the template comes from.

    Returns
    -------
    filled : str

    Raises
    ------
    UsageError
        If there is something else in braces.
    """
    try:
        parts = list(Formatter().parse(str(template)))
        for _, field, width, conversion in parts:
            if field is not None and (field != "subject" or conversion or not _WIDTH.fullmatch(width or "")):
                raise ValueError(f"{{{field}{f':{width}' if width else ''}}}")
        return str(template).format(subject=subject)
    except ValueError as error:
        raise UsageError(
            f"{key}={str(template)!r} cannot be filled in ({error}); the braces that are understood are "
            "{subject} and, with leading zeros, {subject:02d}; write {{ and }} for braces of the path itself"
        ) from error


def find_files(key: str, given: Paths, subject: int) -> tuple[Path, ...]:
    """Return the files that a path, a wildcard, or a list of them mean for a subject.

    Parameters
    ----------
    key : str
        The key of the configuration, for messages.
    given : str, Path or sequence of them
        See `fill_subject`. What a wildcard finds is sorted by name, numbers by their value: ``run-2`` comes
        before ``run-10``.
    subject : int

    Returns
    -------
    files : tuple of Path

    Raises
    ------
    DataError
        If one does not exist, a wildcard finds nothing, or a file is there twice.
    UsageError
        If there is something else than the subject in braces.
    """
    templates = [given] if isinstance(given, str | Path) else list(given)
    files: list[Path] = []
    for template in templates:
        filled = fill_subject(template, subject, key)
        found = _glob(filled, key)
        if not found:
            raise DataError(
                f"{key}: subject {subject} has no file {filled}; {_say_subjects(template, key)}"
                "check the path and the permissions of its folder"
            )
        files += found
    if not files:
        raise UsageError(f"{key}=[] is empty; expected a path, or a list of paths in the order of time")
    seen: set[Path] = set()
    for file in files:
        real = file.resolve()
        if real in seen:
            raise DataError(f"{key}: {file} is there twice for subject {subject}; name every file once")
        seen.add(real)
    return tuple(files)


def find_file(key: str, given: str | Path, subject: int) -> Path:
    """Return the one file that a path means for a subject; see `find_files`.

    Raises
    ------
    DataError
        If there is none, or several.
    """
    files = find_files(key, given, subject)
    if len(files) > 1:
        raise DataError(f"{key}={str(given)!r} means {len(files)} files, such as {files[1]}; expected one")
    return files[0]


def find_masks(given: Mapping[str, str | Path], subject: int) -> dict[str, Path]:
    """Return the mask files that ``dataset.masks`` names.

    Parameters
    ----------
    given : mapping of str to str or Path
    subject : int

    Returns
    -------
    masks : dict of str to Path

    Raises
    ------
    DataError
        If one does not exist.
    """
    return {
        str(name): find_file(f"dataset.masks.{name}", template, subject) for name, template in given.items()
    }


def list_subjects(template: str | Path) -> list[int]:
    """Return the subjects for whom a path with ``{subject}`` exists, in order."""
    anybody = _glob(fill_subject(template, _Anybody(), "path"), "path")
    return sorted(
        {
            int(digits)
            for path in anybody
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


class _Anybody:
    """Stands for any subject in a wildcard, whatever the format."""

    def __format__(self, spec: str) -> str:
        return "*"


def _glob(text: str, key: str) -> list[Path]:
    """Return the file of this name, else the files that a wildcard finds."""
    path = expand_path(key, text)
    if path.is_file():
        return [path]
    if not re.search(r"[*?\[]", text):
        return []
    start = Path(path.anchor or ".")
    try:
        found = [file for file in start.glob(str(path.relative_to(path.anchor))) if file.is_file()]
    except (ValueError, NotImplementedError, re.error) as error:
        raise UsageError(f"{key}={text!r} is not a wildcard that is understood: {error}") from error
    return sorted(found, key=lambda file: natural_key(str(file)))


def _say_subjects(template: str | Path, key: str) -> str:
    if "{subject" not in str(template):
        return ""
    subjects = list_subjects(template)
    if not subjects:
        return f"there is no subject at all like {template}; "
    return f"there: subject {', '.join(map(str, subjects))}; "
