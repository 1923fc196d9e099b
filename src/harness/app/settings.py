"""Settings of a run: which are equal, which differ from those of an option, and how they are written."""

import hashlib
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.app.allowed_targets import locate_class
from harness.errors import UsageError

# Beyond, a float no longer has every whole number.
EXACT_INTEGERS = 2**53
# Of a data set: directories of what can be made again, which are no part of the question.
NOT_NAMED = ("cache_dir",)
MAX_WORD = 100  # characters of what is chosen of one group
# What YAML and Hydra read as something else than text.
NOT_PLAIN = re.compile(
    r"[-+]?(\d[\d_]*\.?\d*|\.\d+)(e[-+]?\d+)?|[-+]?(inf|nan)|true|false|yes|no|on|off|null|~|", re.IGNORECASE
)


def normalise(node: Any) -> Any:
    """Return plain settings in which what means the same is the same.

    Whole numbers are integers, and what a ``_target_`` has by itself (the default of an argument, an empty
    grid) is left out.

    Parameters
    ----------
    node : mapping, list or value
        Plain, resolved configuration.

    Returns
    -------
    normalised : dict, list or value
        Fit for JSON with sorted keys.
    """
    if isinstance(node, Mapping):
        defaults = _defaults(node)
        return {
            _write_key(key): normalise(value)
            for key, value in node.items()
            if key not in defaults or not _are_equal(value, defaults[key])
        }
    if isinstance(node, list | tuple):
        return [normalise(value) for value in node]
    if isinstance(node, float) and node.is_integer() and abs(node) <= EXACT_INTEGERS:
        return int(node)
    return node


def list_changes(settings: Any, usual: Any, apart: tuple[str, ...] = ()) -> list[str]:
    """List what settings differ in from those of an option as it is.

    Parameters
    ----------
    settings, usual : mapping
        Plain, resolved configuration of one group; `usual` is that of its option without any override.
    apart : tuple of str
        Keys that are left out.

    Returns
    -------
    changes : list of str
        Sorted, such as ``["grid.C=[1,10]", "tol=0.001"]``; ``~KEY`` for what is not set any more.
    """
    if not isinstance(settings, Mapping) or not isinstance(usual, Mapping):
        return []
    both = [{key: value for key, value in node.items() if key not in apart} for node in (settings, usual)]
    return sorted(_iterate_changes(both[0], both[1]))


def name_option(option: str, changes: list[str]) -> str:
    """Name an option with its changes: ``kfold5[n_splits=10]``; what is too long ends in a digest.

    Parameters
    ----------
    option : str
    changes : list of str
        See `list_changes`.

    Returns
    -------
    name : str
    """
    return shorten(f"{option}[{','.join(changes)}]" if changes else option, MAX_WORD)


def shorten(text: str, length: int) -> str:
    """Return the text, or, if it is longer than `length`, its beginning and a digest of all of it."""
    return text if len(text) <= length else f"{text[: length - 9]}...{_digest(text)}"


def find_locations(settings: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return where the data lie, as far as the option does not say it itself.

    Parameters
    ----------
    settings, usual : mapping
        As `list_changes` takes them, of a data set. A location is an argument of its ``_target_`` that is
        annotated with `Path`.

    Returns
    -------
    locations : dict
        Paths, or lists or mappings of them, by argument, in the order of the class.
    """
    return {
        name: settings[name]
        for name, parameter in _parameters(settings).items()
        if "Path" in str(parameter.annotation)
        and name not in NOT_NAMED
        and settings.get(name) is not None
        and not _are_equal(settings[name], usual.get(name))
    }


def label_location(location: Any) -> str:
    """Name a place on disk without its path: the last part of it, and a digest of all.

    Parameters
    ----------
    location : str, or list or mapping of them
        One directory has one name, whether its path is absolute, relative or has links.

    Returns
    -------
    label : str
        Such as ``haxby2001-3f2a91``, or ``vt-3f2a91`` for an image.
    """
    first = next(_iterate_texts(location), "")
    parts = [part for part in re.split(r"[/\\]", first) if part not in ("", ".", "..")]
    word = parts[-1].removesuffix(".gz").removesuffix(".nii") if parts else ""
    word = re.sub(r"[^\w.-]+", "-", word)[:30].strip("-.")
    return "-".join(filter(None, [word, _digest(_text(_absolute(location)))]))


def is_path(text: str) -> bool:
    """Return whether a text is a path of several parts, or an image."""
    return bool(re.search(r"[/\\]", text)) or text.endswith((".nii", ".nii.gz"))


def _shows_a_place(text: str) -> bool:
    """Return whether a text can only be a path. One such as ``auditory/left`` can be a condition."""
    return bool(re.match(r"~|\.{0,2}[/\\]|[A-Za-z]:[/\\]", text)) or text.endswith((".nii", ".nii.gz"))


def _iterate_changes(
    settings: Mapping[str, Any], usual: Mapping[str, Any], prefix: str = ""
) -> Iterator[str]:
    # What neither says is the same in both, even where the class is another.
    defaults, usual_defaults = _defaults(settings), _defaults(usual)
    for key in {**usual, **settings}:
        name = f"{prefix}{_write_key(key)}"
        is_set = key in settings or key in defaults
        value, before = settings.get(key, defaults.get(key)), usual.get(key, usual_defaults.get(key))
        if isinstance(value, Mapping) and isinstance(before, Mapping) and value and before:
            yield from _iterate_changes(value, before, f"{name}.")
        elif not is_set:
            yield f"~{name}"
        elif not _are_equal(value, before):
            yield f"{name}={_write(normalise(value))}"


def _defaults(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain defaults of the class that a node names, and of the grid beside its arguments."""
    if "_target_" not in node:
        return {}
    plain = bool | int | float | str | tuple | None
    parameters = _parameters(node)
    return {"grid": {}} | {
        name: parameter.default
        for name, parameter in parameters.items()
        if isinstance(parameter.default, plain)
    }


def _parameters(node: Mapping[str, Any]) -> Mapping[str, inspect.Parameter]:
    # A class that is not allowed is refused where it is built; one written in C may have no signature.
    with suppress(UsageError, ValueError):
        return inspect.signature(locate_class("_target_", str(node.get("_target_", "")))).parameters
    return {}


def _are_equal(a: Any, b: Any) -> bool:
    return _text(a) == _text(b)


def _text(node: Any) -> str:
    # As text, because Python's own True == 1.
    return json.dumps(normalise(node), sort_keys=True, default=str)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:6]


def _write(value: Any) -> str:
    """Write a normalised value as a person would type it; of a path, its label."""
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{_write(value[key])}' for key in sorted(value))}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_write, value))}]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if not isinstance(value, str):
        return str(value)
    if _shows_a_place(value):
        return label_location(value)
    plain = value.isprintable() and not NOT_PLAIN.fullmatch(value) and not re.search(r"[\[\]{},:='\"]", value)
    return value if plain else repr(value)


def _write_key(key: Any) -> str:
    return key if isinstance(key, str) else _write(key)


def _absolute(location: Any) -> Any:
    if isinstance(location, Mapping):
        return {key: _absolute(value) for key, value in location.items()}
    if isinstance(location, list | tuple):
        return [_absolute(value) for value in location]
    if isinstance(location, str):
        # Such as a home of nobody, or a path with a zero byte: it is refused where it is opened.
        with suppress(RuntimeError, ValueError, OSError):
            return str(Path(location).expanduser().resolve())
    return location


def _iterate_texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping | list | tuple):
        for value in node.values() if isinstance(node, Mapping) else node:
            yield from _iterate_texts(value)
