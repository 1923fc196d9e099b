"""The options of a data set: their values must be of the types that its class declares."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from harness.datasets.locations import expand_path
from harness.errors import UsageError

_NAMES = {
    str: "text",
    Path: "a path",
    int: "a whole number",
    float: "a number",
    NoneType: "null",
}


def check_options(dataset: Any) -> None:
    """Check every option of a data set against the type of its field.

    Parameters
    ----------
    dataset : dataclass instance
        Its fields are `str`, `Path`, `int`, `float`, `None`, sequences and mappings of them, or unions.

    Raises
    ------
    UsageError
        If a value has another type, a number is not finite, or a path is one that no file can have.
    """
    hints = get_type_hints(type(dataset))
    for field in fields(dataset):
        key, value, hint = f"dataset.{field.name}", getattr(dataset, field.name), hints[field.name]
        if not _fits(value, hint):
            raise UsageError(f"{key}={value!r} cannot be used; expected {' or '.join(_describe(hint))}")
        if Path in _list_types(hint):
            for path in _list_texts(value):
                expand_path(key, path)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the type that a hint means."""
    return any(_fits_one(value, kind) for kind in _alternatives(hint))


def _fits_one(value: Any, kind: Any) -> bool:
    inside = get_args(kind)
    if get_origin(kind) is Mapping:
        return isinstance(value, Mapping) and all(
            isinstance(key, inside[0]) and _fits(item, inside[1]) for key, item in value.items()
        )
    if get_origin(kind) is Sequence:
        return isinstance(value, list | tuple) and all(_fits(item, inside[0]) for item in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and (kind is not int or not isinstance(value, bool))


def _list_types(hint: Any) -> set[Any]:
    """Return the plain types inside a hint, however deep."""
    return {
        plain
        for kind in _alternatives(hint)
        for plain in (set().union(*map(_list_types, get_args(kind))) if get_args(kind) else {kind})
    }


def _list_texts(value: Any) -> list[str | Path]:
    """Return the texts and paths inside a value that fits its hint, however deep."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [text for item in value for text in _list_texts(item)]
    return [value] if isinstance(value, str | Path) else []


def _describe(hint: Any) -> list[str]:
    """Name the types that a hint allows; a path is typed as text."""
    kinds = _alternatives(hint)
    names = []
    for kind in kinds:
        inside = get_args(kind)
        if get_origin(kind) is Mapping:
            names.append(f"a mapping of names to {' or '.join(_describe(inside[1]))}")
        elif get_origin(kind) is Sequence:
            names.append(f"a list of {' or '.join(_describe(inside[0]))}")
        elif not (kind is str and Path in kinds):
            names.append(_NAMES[kind])
    return names
