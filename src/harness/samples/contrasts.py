"""Which volumes are decoded, which class each belongs to, and which class is the positive one."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import DesignError, UsageError, suggest

MAX_NAME = 100  # bytes; names of classes and contrasts become parts of names of files, which hold 255


def file_word(name: str) -> str:
    """Replace what a file's or a metric's name cannot hold by a hyphen.

    Parameters
    ----------
    name : str

    Returns
    -------
    word : str
    """
    return re.sub(r"[^\w.-]+", "-", name)


def _shorten(name: str) -> str:
    """Return a name short enough to be part of a file's name; a long one becomes its start and a digest."""
    if len(name.encode(errors="replace")) <= MAX_NAME:
        return name
    encoded = name.encode(errors="replace")
    start = encoded[: MAX_NAME - 9].decode(errors="ignore")
    return f"{start}-{hashlib.sha256(encoded).hexdigest()[:8]}"


@dataclass(frozen=True)
class Contrast:
    """Two or more classes of conditions that are told apart.

    Attributes
    ----------
    members : mapping of str to tuple of str
        For each class, the conditions that belong to it, in the order in which they were asked for. The
        first class is the positive one: weights and decision values above zero are evidence for it.
    option : str, optional
        What the user types for it, such as ``all8``; the name of more than three classes.
    """

    members: Mapping[str, tuple[str, ...]]
    option: str | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, the positive one first."""
        return tuple(self.members)

    @property
    def conditions(self) -> tuple[str, ...]:
        """Every condition that takes part, class by class."""
        return tuple(condition for members in self.members.values() for condition in members)

    @property
    def name(self) -> str:
        """Short name for files and run names: ``face_vs_cat``; of many classes, what the user types."""
        if self.option is not None and len(self.classes) > 3:
            return _shorten(file_word(self.option))
        return _shorten("_vs_".join(file_word(name) for name in self.classes))


def make_contrast(
    conditions: Sequence[str | Mapping[str, Sequence[str]]], option: str | None = None
) -> Contrast:
    """Build a contrast from what the user typed.

    Parameters
    ----------
    conditions : sequence of str or mapping
        A name makes a condition a class of its own; a mapping groups conditions into a named class:
        ``["face", "house"]``, or ``[{"animate": ["face", "cat"]}, {"inanimate": ["house", "chair"]}]``.
    option : str, optional
        What the user types for it.

    Returns
    -------
    Contrast

    Raises
    ------
    UsageError
        If there are fewer than two classes, an empty class, or a condition that is named twice.
    """
    example = "contrast.conditions=[face,house]"
    if isinstance(conditions, str | Mapping):
        raise UsageError(
            f"contrast.conditions={conditions!r} is not a list; expected a list such as {example}"
        )
    named: list[tuple[str, tuple[str, ...]]] = []
    for item in conditions:
        groups = item if isinstance(item, Mapping) else {_check_name(item): [item]}
        for name, group in groups.items():
            members_of = group if isinstance(group, list | tuple) else [] if group is None else [group]
            named.append((_check_name(name), tuple(_check_name(member) for member in members_of)))
    members = dict(named)
    twice = [name for name, count in Counter(name for name, _ in named).items() if count > 1]
    if twice:
        raise UsageError(
            f"contrast.conditions={[name for name, _ in named]} names {twice[0]!r} twice; name each one once"
        )
    if len(members) < 2:
        raise UsageError(
            f"contrast.conditions={list(members)} has {len(members)} class(es); at least two are needed, "
            f"such as {example}"
        )
    _check_classes(members)
    empty = [name for name, group in members.items() if not group]
    if empty:
        raise UsageError(f"contrast.conditions: class {empty[0]!r} has no conditions; name at least one")
    for name, group in members.items():
        repeated = [condition for condition, count in Counter(group).items() if count > 1]
        if repeated:
            raise UsageError(
                f"contrast.conditions: class {name!r} names {repeated[0]!r} twice; name each one once"
            )
    contrast = Contrast(members, option)
    shared = [name for name, count in Counter(contrast.conditions).items() if count > 1]
    if shared:
        raise UsageError(
            f"contrast.conditions: {shared[0]!r} is in more than one class; a volume can belong to only one"
        )
    return contrast


def _check_name(given: object) -> str:
    """Return the name of a condition or a class; numbers are names, too."""
    if isinstance(given, bool) or not isinstance(given, str | int | float) or not str(given).strip():
        raise UsageError(
            f"contrast.conditions: {given!r} is not the name of a condition; expected such as "
            "[face,house] or [{animate:[face,cat]},{inanimate:[house,chair]}]"
        )
    return str(given)


def _check_classes(members: Mapping[str, Sequence[str]]) -> None:
    """Refuse names of classes that cannot be part of names of files and of columns."""
    seen: dict[str, str] = {}
    for name in members:
        if len(name.encode(errors="replace")) > MAX_NAME:
            raise UsageError(
                f"contrast.conditions: the class {name[:20]!r}... has a name of {len(name)} characters; give "
                f"it a shorter one, such as [{{short:[{name[:20]}...]}},...]"
            )
        other = seen.setdefault(file_word(name), name)
        if other != name:
            raise UsageError(
                f"contrast.conditions: the classes {other!r} and {name!r} would both be called "
                f"{file_word(name)!r} in files and tables; give one another name, such as "
                "[{NAME:[CONDITION]},...]"
            )


def select_volumes(contrast: Contrast, conditions: np.ndarray, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Find the volumes of a contrast and the class of each.

    Parameters
    ----------
    contrast : Contrast
    conditions : ndarray of shape (n_volumes,), str
        The condition shown in every volume of the recording.
    source : str
        Where the conditions were read from, for the error message.

    Returns
    -------
    volumes : ndarray of shape (n_samples,), int
        Indices of the selected volumes, in the order of the recording.
    y : ndarray of shape (n_samples,), str
        Class of each selected volume.

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
