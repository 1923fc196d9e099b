"""Contrasts: the classes that are decoded, the positive one first, and the volumes of each."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import DesignError, UsageError, suggest

MAX_NAME = 100  # bytes; names of classes and contrasts are parts of file names, which are limited to 255


def file_word(name: str) -> str:
    """Replace characters that are invalid in file or metric names with hyphens."""
    return re.sub(r"[^\w.-]+", "-", name)


def _shorten(name: str) -> str:
    """Return a name of at most `MAX_NAME` bytes: of a longer one, its start and a digest."""
    if len(name.encode(errors="replace")) <= MAX_NAME:
        return name
    encoded = name.encode(errors="replace")
    start = encoded[: MAX_NAME - 9].decode(errors="ignore")
    return f"{start}-{hashlib.sha256(encoded).hexdigest()[:8]}"


@dataclass(frozen=True)
class Contrast:
    """Two or more classes of conditions that are decoded.

    Attributes
    ----------
    members : mapping of str to tuple of str
        The conditions of each class. The first class is the positive one: weights and decision values above
        zero are evidence for it.
    option : str, optional
        What the user types for it, for example ``all8``; it names contrasts of more than three classes.
    """

    members: Mapping[str, tuple[str, ...]]
    option: str | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, the positive one first."""
        return tuple(self.members)

    @property
    def conditions(self) -> tuple[str, ...]:
        """All conditions, class by class."""
        return tuple(condition for members in self.members.values() for condition in members)

    @property
    def name(self) -> str:
        """Short name for files and runs: ``face_vs_cat``, or the option of more than three classes."""
        if self.option is not None and len(self.classes) > 3:
            return _shorten(file_word(self.option))
        return _shorten("_vs_".join(file_word(name) for name in self.classes))


def make_contrast(
    conditions: Sequence[str | Mapping[str, Sequence[str]]], option: str | None = None
) -> Contrast:
    """Build a contrast from the values of the option `contrast`.

    Parameters
    ----------
    conditions : sequence of str or mapping
        A name is a class of one condition, a mapping names the conditions of a class:
        ``["face", "house"]``, or ``[{"animate": ["face", "cat"]}, {"inanimate": ["house", "chair"]}]``.
    option : str, optional
        See `Contrast`.

    Raises
    ------
    UsageError
        If there are fewer than two classes, an empty class, or a condition that is named twice.
    """
    example = "contrast.conditions=[face,house]"
    if isinstance(conditions, str | Mapping):
        raise UsageError(
            f"contrast.conditions={conditions!r} is not a list; expected a list, for example {example}"
        )
    named: list[tuple[str, tuple[str, ...]]] = []
    for item in conditions:
        groups = item if isinstance(item, Mapping) else {_check_name(item): [item]}
        for name, group in groups.items():
            members_of = group if isinstance(group, list | tuple) else [] if group is None else [group]
            named.append((_check_name(name), tuple(_check_name(member) for member in members_of)))
    members = dict(named)
    if repeated := _find_repeated([name for name, _ in named]):
        raise UsageError(
            f"contrast.conditions={[name for name, _ in named]} names {repeated!r} twice; name each one once"
        )
    if len(members) < 2:
        raise UsageError(
            f"contrast.conditions={list(members)} has {len(members)} class(es); expected at least two, "
            f"for example {example}"
        )
    _check_class_names(members)
    for name, group in members.items():
        if not group:
            raise UsageError(f"contrast.conditions: class {name!r} has no conditions; name at least one")
        if repeated := _find_repeated(group):
            raise UsageError(
                f"contrast.conditions: class {name!r} names {repeated!r} twice; name each one once"
            )
    contrast = Contrast(members, option)
    if repeated := _find_repeated(contrast.conditions):
        raise UsageError(
            f"contrast.conditions: {repeated!r} is in more than one class; a volume can belong to only one"
        )
    return contrast


def _find_repeated(names: Sequence[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _check_name(given: object) -> str:
    """Return the name of a condition or a class; numbers are names, too."""
    if isinstance(given, bool) or not isinstance(given, str | int | float) or not str(given).strip():
        raise UsageError(
            f"contrast.conditions: {given!r} is not the name of a condition; expected, for example, "
            "[face,house] or [{animate:[face,cat]},{inanimate:[house,chair]}]"
        )
    return str(given)


def _check_class_names(members: Mapping[str, Sequence[str]]) -> None:
    """Refuse names of classes that cannot be part of the names of files and columns."""
    seen: dict[str, str] = {}
    for name in members:
        if len(name.encode(errors="replace")) > MAX_NAME:
            raise UsageError(
                f"contrast.conditions: the class {name[:20]!r}... has a name of {len(name)} characters; give "
                f"it a shorter one, for example [{{short:[{name[:20]}...]}},...]"
            )
        other = seen.setdefault(file_word(name), name)
        if other != name:
            raise UsageError(
                f"contrast.conditions: the classes {other!r} and {name!r} would both be called "
                f"{file_word(name)!r} in files and tables; give one another name, for "
                "example [{NAME:[CONDITION]},...]"
            )


def select_volumes(contrast: Contrast, conditions: np.ndarray, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the volumes of a contrast and the class of each.

    Parameters
    ----------
    conditions : ndarray of shape (n_volumes,), str
        Of all volumes of the recording.
    source : str
        Name of the labels in messages, for example their file.

    Returns
    -------
    volumes : ndarray of shape (n_samples,), int
        Indices, in the order of the recording.
    y : ndarray of shape (n_samples,), str

    Raises
    ------
    DesignError
        If a condition of the contrast has no volumes.
    """
    present = sorted(set(conditions.tolist()))
    for condition in contrast.conditions:
        if condition not in present:
            hint = suggest(condition, present)
            raise DesignError(
                f"contrast.conditions: {condition!r} has no volumes in {source}; "
                f"conditions there: {', '.join(present)}.{hint}"
            )
    class_of = {condition: name for name, group in contrast.members.items() for condition in group}
    classes = np.array([class_of.get(condition, "") for condition in conditions.tolist()])
    volumes = np.flatnonzero(classes != "")
    return volumes, classes[volumes]
