"""Classes that a configuration may name: they exist, belong to a trusted package and take the arguments."""

import importlib
import inspect
import os
import re
from collections.abc import Mapping, Sequence
from inspect import Parameter
from typing import Any

from harness.errors import HarnessError, UsageError, format_error, format_unknown

# Hydra's `_target_` calls anything that can be imported: a configuration from elsewhere is code. Only classes
# of these packages are built, and of those that the user names in HARNESS_TARGETS ("mylab. otherlab.").
ALLOWED_TARGETS = ("sklearn.", "nilearn.", "harness.")
TRUSTED_PACKAGES = tuple(prefix.rstrip(".") for prefix in ALLOWED_TARGETS)
TARGET = "_target_"
# The method that an object of each group must have.
METHODS = {"dataset": "load", "estimator": "fit", "cv": "split"}
# The group `analysis` has settings, and so a list of classes instead.
ANALYSES = ("harness.decoding.analysis.RegionDecoding", "harness.searchlight.settings.Searchlight")
# Arguments of scikit-learn's and nilearn's classes by which a configuration could run code.
_PICKLES = "joblib's cache loads pickles, which can run any code, from the directory that it names"
REFUSED_ARGUMENTS = {
    "memory": _PICKLES,
    "memory_level": _PICKLES,
    "cachedir": _PICKLES,
    "cache_dir": _PICKLES,
}


def check_keys(where: str, node: Mapping[Any, Any], allowed: Sequence[str]) -> None:
    """Raise a UsageError if a node, whose dotted key is `where`, has a key that is not allowed."""
    for key in node:
        if key not in allowed:
            full = f"{where}.{key}" if where else str(key)
            raise UsageError(format_unknown(full, str(key), allowed))


def check_grid(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the grid of an estimator's node, if its parameters exist and have values to try.

    Raises
    ------
    UsageError
        If a parameter does not exist, is fixed as well, or has no list of values.
    """
    grid = node.get("grid") or {}
    if not isinstance(grid, Mapping):
        raise UsageError(
            f"estimator.grid={grid!r} is not a mapping; expected, for example, estimator.grid.C=[1,10]"
        )
    known = sorted(list_arguments(import_allowed_class("estimator", str(node.get(TARGET, "")))))
    for parameter, values in grid.items():
        if parameter not in known:
            raise UsageError(format_unknown(f"estimator.grid.{parameter}", parameter, known))
        if parameter in node:
            raise UsageError(
                f"estimator.{parameter}={node[parameter]} is given, and estimator.grid.{parameter}={values} "
                f"is to be tried; for one value write estimator.grid.{parameter}=[{node[parameter]}]"
            )
        if not isinstance(values, Mapping | list) or not values:
            raise UsageError(
                f"estimator.grid.{parameter}={values!r} is not a list of values; "
                f"expected, for example, estimator.grid.{parameter}=[0.1,1,10]"
            )
    return dict(grid)


def list_arguments(kind: type) -> list[str]:
    """Return the arguments that a class takes by name."""
    named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return [name for name, parameter in inspect.signature(kind).parameters.items() if parameter.kind in named]


def check_targets(where: str, node: Any, group: str | None = None) -> None:
    """Check every class that a node names, at any depth, and its arguments.

    Parameters
    ----------
    where : str
        Dotted key of the node.
    group : str, optional
        The group whose object the node describes; None for a node inside that of a group.

    Raises
    ------
    UsageError
        If a ``_target_`` may not be built (`import_allowed_class`), lacks the method of its group, or is
        given one of `REFUSED_ARGUMENTS`; or if the node has another of Hydra's keys (``_partial_``,
        ``_args_``).
    """
    if group is not None and TARGET not in node:
        raise UsageError(f"{where}._target_ is missing; expected the class of the {group}, or {group}=OPTION")
    if group == "analysis" and node[TARGET] not in ANALYSES:
        raise UsageError(
            f"{where}._target_={str(node[TARGET])!r} is not an analysis; expected {' or '.join(ANALYSES)}"
        )
    _check_node(where, node, (METHODS[group],) if group in METHODS else (), "")


def _check_node(where: str, node: Any, methods: tuple[str, ...], package: str) -> None:
    """Check a node and all inside it; `package` is that of the class that it is an argument of."""
    if isinstance(node, list):
        for value in node:
            _check_node(where, value, (), package)
    if not isinstance(node, Mapping):
        return
    if TARGET in node:
        found = import_allowed_class(where, str(node[TARGET]))
        owner, package = package, found.__module__.partition(".")[0]
        if not methods and {owner, package} <= set(TRUSTED_PACKAGES):
            # Arguments of scikit-learn's objects are estimators and schemes; other classes have no use there.
            methods = ("fit", "split")
        if methods and not any(hasattr(found, method) for method in methods):
            needed = " or ".join(map(repr, methods))
            raise UsageError(
                f"{where}._target_={str(node[TARGET])!r} has no method {needed}, so it cannot be used there"
            )
    for key, value in node.items():
        if re.fullmatch("_.*_", str(key)) and key != TARGET:
            raise UsageError(
                f"{where}.{key} is not an argument; of Hydra's special keys, only _target_ is supported"
            )
        # scikit-learn addresses the arguments of an object inside another as OBJECT__ARGUMENT.
        reason = REFUSED_ARGUMENTS.get(str(key).rpartition("__")[2])
        if reason is not None and package in ("sklearn", "nilearn"):
            raise UsageError(f"{where}.{key}={value!r} is refused: {reason}; leave it out")
        _check_node(f"{where}.{key}", value, (), package)


def build_object(where: str, node: Any) -> Any:
    """Build a node that `check_targets` has accepted: each mapping with a ``_target_`` becomes an object.

    Hydra's `instantiate` would resolve interpolations in the values once more, and so build objects that
    `check_targets` has not seen; here, values are taken literally.

    Raises
    ------
    UsageError
        If a class does not take an argument, or refuses its value.
    """
    if isinstance(node, list):
        return [build_object(where, value) for value in node]
    if not isinstance(node, Mapping):
        return node
    arguments = {key: build_object(f"{where}.{key}", value) for key, value in node.items() if key != TARGET}
    if TARGET not in node:
        return arguments
    kind = import_allowed_class(where, str(node[TARGET]))
    check_keys(where, arguments, list_arguments(kind))
    try:
        return kind(**arguments)
    except HarnessError:
        raise
    except Exception as error:  # constructors raise anything at their arguments
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        reason = str(error).strip() or type(error).__name__
        raise UsageError(
            f"{where}: {node[TARGET]} cannot be built with {given or 'no arguments'}: {reason}"
        ) from error


def list_classes(node: Any) -> list[type]:
    """Return the classes that a node names, at any depth, in the order of its sorted keys."""
    if isinstance(node, list):
        return [kind for value in node for kind in list_classes(value)]
    if not isinstance(node, Mapping):
        return []
    named = [import_allowed_class(TARGET, str(node[TARGET]))] if node.get(TARGET) else []
    return named + [kind for key in sorted(node, key=str) for kind in list_classes(node[key])]


def import_allowed_class(where: str, target: str) -> type:
    """Import the class that a ``_target_`` below the dotted key `where` names.

    Raises
    ------
    UsageError
        If it is not of an allowed package, cannot be imported, or is not a class.
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
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # importing runs the module, which can raise anything
        raise UsageError(f"{where}._target_={target!r} cannot be imported: {format_error(error)}") from error
    if found is None:
        raise UsageError(f"{where}._target_={target!r} cannot be imported: {module} defines no {name!r}")
    # Through an allowed module any other can be reached (sklearn.os.system): the class's own module counts.
    if not inspect.isclass(found) or not f"{found.__module__}.".startswith(prefixes):
        raise UsageError(f"{where}._target_={target!r} is not a class of an allowed package")
    return found
