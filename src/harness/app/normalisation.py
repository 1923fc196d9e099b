"""Normalised settings: two configurations that mean the same are equal."""

import inspect
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from harness.app.allowed_targets import import_allowed_class
from harness.errors import UsageError

EXACT_INTEGERS = 2**53  # above, not every whole number is a float


def normalise(node: Any) -> Any:
    """Return plain, resolved settings in a form that does not depend on how they were written.

    Whole numbers become integers, and arguments that equal the default of their ``_target_`` (and an empty
    grid) are left out. The result is fit for JSON with sorted keys.
    """
    if isinstance(node, Mapping):
        defaults = list_defaults(node)
        return {
            key if isinstance(key, str) else json.dumps(key, default=str): normalise(value)
            for key, value in node.items()
            if key not in defaults or not are_equal(value, defaults[key])
        }
    if isinstance(node, list | tuple):
        return [normalise(value) for value in node]
    if isinstance(node, float) and node.is_integer() and abs(node) <= EXACT_INTEGERS:
        return int(node)
    return node


def are_equal(a: Any, b: Any) -> bool:
    """Return whether two settings mean the same."""
    return to_text(a) == to_text(b)


def to_text(node: Any) -> str:
    """Return normalised settings as JSON, in which, unlike in Python, true is not 1."""
    return json.dumps(normalise(node), sort_keys=True, default=str)


def list_defaults(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain defaults of a node's ``_target_``, and of the grid next to its arguments."""
    if "_target_" not in node:
        return {}
    plain = bool | int | float | str | tuple | None
    defaults = {name: parameter.default for name, parameter in list_parameters(node).items()}
    return {"grid": {}} | {name: default for name, default in defaults.items() if isinstance(default, plain)}


def list_parameters(node: Mapping[str, Any]) -> Mapping[str, inspect.Parameter]:
    """Return the signature of a node's ``_target_``; empty if it has none or may not be imported."""
    # A class that is not allowed is refused where it is built; one written in C may have no signature.
    with suppress(UsageError, ValueError):
        found = import_allowed_class("_target_", str(node.get("_target_", "")))
        return inspect.signature(found).parameters
    return {}
