"""The options of a data set, checked against the types that its class declares.

pydantic's `TypeAdapter` was tried: importing it takes 0.35 s, and for ``dataset.bold=3`` its message has
eleven lines that name the validators of every alternative. A message here names the key, the value and the
types in the words of a configuration file.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from harness.datasets.locations import expand_path
from harness.errors import UsageError

_NAMES = {str: "text", Path: "a path", int: "a whole number", float: "a number", NoneType: "null"}


def check_options(dataset: Any) -> None:
    """Check the fields of a dataclass: texts, paths, numbers, null, lists and mappings of them, or unions.

    Raises
    ------
    UsageError
        If a value has another type, a number is not finite, or a path is one that no file can have.
    """
    for name, hint in get_type_hints(type(dataset)).items():
        key, value = f"dataset.{name}", getattr(dataset, name)
        if not _matches(value, hint):
            raise UsageError(f"{key}={value!r} cannot be used; expected {' or '.join(_describe(hint))}")
        if _takes_path(hint):
            for path in _list_texts(value):
                expand_path(key, path)


def _matches(value: Any, hint: Any) -> bool:
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return any(_matches(value, each) for each in inner)
    if kind is Mapping:
        return isinstance(value, Mapping) and all(
            _matches(key, inner[0]) and _matches(item, inner[1]) for key, item in value.items()
        )
    if kind is Sequence:
        return isinstance(value, list | tuple) and all(_matches(item, inner[0]) for item in value)
    if isinstance(value, bool):
        return False
    if kind is float:
        return isinstance(value, int | float) and -math.inf < value < math.inf
    return isinstance(value, kind)


def _takes_path(hint: Any) -> bool:
    return hint is Path or any(_takes_path(inner) for inner in get_args(hint))


def _list_texts(value: Any) -> list[str | Path]:
    """Return the texts and paths in a value, in lists and mappings too."""
    if isinstance(value, str | Path):
        return [value]
    if isinstance(value, Mapping):
        return _list_texts(list(value.values()))
    return [text for item in value for text in _list_texts(item)] if isinstance(value, list | tuple) else []


def _describe(hint: Any) -> list[str]:
    """Return names of the types that a hint allows."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        # In a configuration a path is text.
        return [name for each in inner if each is not str or Path not in inner for name in _describe(each)]
    if kind is Mapping:
        return [f"a mapping of names to {' or '.join(_describe(inner[1]))}"]
    if kind is Sequence:
        return [f"a list of {' or '.join(_describe(inner[0]))}"]
    return [_NAMES[hint]]
