"""What a configuration may name: keys that exist, and classes of packages that are trusted."""

import importlib
import inspect
import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from harness.errors import UsageError

# Hydra's `_target_` calls anything that can be imported: a configuration from elsewhere is code. Only classes
# of these packages are built, and of those that the user names in HARNESS_TARGETS ("mylab. otherlab.").
ALLOWED_TARGETS = ("sklearn.", "nilearn.", "harness.")


def check_keys(where: str, node: Mapping[Any, Any], allowed: Sequence[str]) -> None:
    """Refuse keys that are not in the vocabulary.

    Parameters
    ----------
    where : str
        Dotted place of the node; empty for the whole configuration.
    node : mapping
    allowed : sequence of str

    Raises
    ------
    UsageError
        If the node has another key.
    """
    for key in node:
        if key not in allowed:
            full = f"{where}.{key}" if where else str(key)
            raise UsageError(describe_unknown(full, str(key), allowed))


def describe_unknown(full: str, key: str, allowed: Sequence[str], what: str = "key") -> str:
    """Say that a word is not in the vocabulary, which words are, and which one may have been meant.

    Parameters
    ----------
    full : str
        The word with its place, as it is shown.
    key : str
        The word itself, to be compared with those that are allowed.
    allowed : sequence of str
    what : str
        What kind of word it is.

    Returns
    -------
    message : str
    """
    near = get_close_matches(key, allowed, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    if not allowed:
        return f"unknown {what} {full!r}: this option takes none"
    return f"unknown {what} {full!r}; expected one of: {', '.join(allowed)}.{hint}"


def check_grid(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the grid of an estimator's node, if its parameters exist and have values to try.

    Parameters
    ----------
    node : mapping
        ``_target_``, arguments and ``grid`` of an estimator.

    Returns
    -------
    grid : dict of str to list or mapping

    Raises
    ------
    UsageError
        If a parameter does not exist, is fixed as well, or has no list of values.
    """
    grid = node.get("grid") or {}
    if not isinstance(grid, Mapping):
        raise UsageError(
            f"estimator.grid={grid!r} is not a mapping; expected such as estimator.grid.C=[1,10]"
        )
    known = sorted(inspect.signature(locate_class("estimator", str(node.get("_target_", "")))).parameters)
    for parameter, values in grid.items():
        if parameter not in known:
            raise UsageError(describe_unknown(f"estimator.grid.{parameter}", parameter, known))
        if parameter in node:
            raise UsageError(
                f"estimator.{parameter}={node[parameter]} is given, and estimator.grid.{parameter}={values} "
                f"is to be tried; for one value write estimator.grid.{parameter}=[{node[parameter]}]"
            )
        if not isinstance(values, Mapping | list) or not values:
            raise UsageError(
                f"estimator.grid.{parameter}={values!r} is not a list of values; "
                f"expected such as estimator.grid.{parameter}=[0.1,1,10]"
            )
    return dict(grid)


def check_targets(where: str, node: Any) -> None:
    """Refuse every ``_target_``, however deep, that is not a class of an allowed package.

    Parameters
    ----------
    where : str
        Dotted place of the node.
    node : mapping, list or value

    Raises
    ------
    UsageError
        See `locate_class`.
    """
    if isinstance(node, Mapping):
        if "_target_" in node:
            locate_class(where, str(node["_target_"]))
        for key, value in node.items():
            check_targets(f"{where}.{key}", value)
    elif isinstance(node, list):
        for value in node:
            check_targets(where, value)


def locate_class(where: str, target: str) -> type:
    """Import the class that a ``_target_`` names, if it may be built.

    Parameters
    ----------
    where : str
        Dotted place of the node.
    target : str
        Dotted name of a class.

    Returns
    -------
    found : type

    Raises
    ------
    UsageError
        If it is not of an allowed package, cannot be imported, or is no class.
    """
    allowed = (*ALLOWED_TARGETS, *os.environ.get("HARNESS_TARGETS", "").split())
    prefixes = tuple(prefix if prefix.endswith(".") else f"{prefix}." for prefix in allowed)
    if not target.startswith(prefixes):
        raise UsageError(
            f"{where}._target_={target!r} is not of an allowed package ({', '.join(prefixes)}). "
            "A configuration is code: if you trust this one, name its package in the environment variable "
            "HARNESS_TARGETS"
        )
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{where}._target_={target!r} cannot be imported: {error}") from error
    # Through an allowed module any other can be reached (sklearn.os.system): the home of the class counts.
    if not inspect.isclass(found) or not f"{found.__module__}.".startswith(prefixes):
        raise UsageError(f"{where}._target_={target!r} is not a class of an allowed package")
    return found
