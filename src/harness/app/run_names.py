"""Names of runs and of their options, which show every change of a setting but no path."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.app.normalisation import are_equal, list_defaults, list_parameters, normalise, to_text

# Arguments of a data set that do not change its data.
NOT_NAMED = ("cache_dir",)
MAX_OPTION = 100  # characters of an option with its changes
# What YAML and Hydra read as something other than text.
NOT_PLAIN = re.compile(
    r"[-+]?(\d[\d_]*\.?\d*|\.\d+)(e[-+]?\d+)?|[-+]?(inf|nan)|true|false|yes|no|on|off|null|~|", re.IGNORECASE
)


def list_changes(settings: Any, usual: Any, apart: tuple[str, ...] = ()) -> list[str]:
    """List in what the settings of a group differ from `usual`, those of its option without overrides.

    Returns
    -------
    changes : list of str
        Sorted, for example ``["grid.C=[1,10]", "tol=0.001"]``; ``~KEY`` for a key that is removed. Keys in
        `apart` are left out.
    """
    if not isinstance(settings, Mapping) or not isinstance(usual, Mapping):
        return []
    both = [{key: value for key, value in node.items() if key not in apart} for node in (settings, usual)]
    return sorted(_iterate_changes(both[0], both[1]))


def name_option(option: str, changes: list[str]) -> str:
    """Return an option with its changes, such as ``kfold5[n_splits=10]``, shortened to `MAX_OPTION`."""
    return shorten(f"{option}[{','.join(changes)}]" if changes else option, MAX_OPTION)


def shorten(text: str, length: int) -> str:
    """Return the text, or, if it is longer than `length`, its beginning and a digest of all of it."""
    return text if len(text) <= length else f"{text[: length - 9]}...{_digest(text)}"


def find_locations(settings: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return the paths of a data set's settings that differ from its option's, by argument.

    Paths, or lists or mappings of them, are arguments that the class annotates with `Path`.
    """
    return {
        name: settings[name]
        for name, parameter in list_parameters(settings).items()
        if "Path" in str(parameter.annotation)
        and name not in NOT_NAMED
        and settings.get(name) is not None
        and not are_equal(settings[name], usual.get(name))
    }


def label_location(location: Any) -> str:
    """Label a path, or a list or mapping of paths, by its last part and a digest of all of it.

    For example ``haxby2001-3f2a91``, or ``vt-3f2a91`` for an image. A directory has one label, whether its
    path is absolute, relative or contains links.
    """
    first = next(_iterate_texts(location), "")
    parts = [part for part in re.split(r"[/\\]", first) if part not in ("", ".", "..")]
    word = parts[-1].removesuffix(".gz").removesuffix(".nii") if parts else ""
    word = re.sub(r"[^\w.-]+", "-", word)[:30].strip("-.")
    return "-".join(filter(None, [word, _digest(to_text(_absolute(location)))]))


def is_path(text: str) -> bool:
    """Return whether a text is a path of several parts, or an image."""
    return bool(re.search(r"[/\\]", text)) or text.endswith((".nii", ".nii.gz"))


def _can_only_be_path(text: str) -> bool:
    """Return whether a text is a path in any context; ``auditory/left`` can also be a condition."""
    return bool(re.match(r"~|\.{0,2}[/\\]|[A-Za-z]:[/\\]", text)) or text.endswith((".nii", ".nii.gz"))


def _iterate_changes(
    settings: Mapping[str, Any], usual: Mapping[str, Any], prefix: str = ""
) -> Iterator[str]:
    # A key in neither of them is no change, even if their classes have different defaults.
    defaults, usual_defaults = list_defaults(settings), list_defaults(usual)
    for key in {**usual, **settings}:
        name = f"{prefix}{key if isinstance(key, str) else _write(key)}"
        is_set = key in settings or key in defaults
        value, before = settings.get(key, defaults.get(key)), usual.get(key, usual_defaults.get(key))
        if isinstance(value, Mapping) and isinstance(before, Mapping) and value and before:
            yield from _iterate_changes(value, before, f"{name}.")
        elif not is_set:
            yield f"~{name}"
        elif not are_equal(value, before):
            yield f"{name}={_write(normalise(value))}"


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
    if _can_only_be_path(value):
        return label_location(value)
    plain = value.isprintable() and not NOT_PLAIN.fullmatch(value) and not re.search(r"[\[\]{},:='\"]", value)
    return value if plain else repr(value)


def _absolute(location: Any) -> Any:
    if isinstance(location, Mapping):
        return {key: _absolute(value) for key, value in location.items()}
    if isinstance(location, list | tuple):
        return [_absolute(value) for value in location]
    if isinstance(location, str):
        # An unknown user's home or a path with a zero byte is refused where it is opened.
        with suppress(RuntimeError, ValueError, OSError):
            return str(Path(location).expanduser().resolve())
    return location


def _iterate_texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping | list | tuple):
        for value in node.values() if isinstance(node, Mapping) else node:
            yield from _iterate_texts(value)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:6]
