"""Published values, which runs are compared with: read from a file, and checked."""

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness.comparison.run_quantities import FOLD_COLUMN, QUANTITIES, SCORES
from harness.errors import UsageError, first_line, format_unknown
from harness.tracking.choices import COMPARED_PARAMS

PRECISIONS = ("decimals", "tolerance", "relative")
KEYS = ("source", "settings", "sections")
MAX_DECIMALS = 15
MAX_SHOWN = 60  # characters of a wrong value in a message
FORM = '{"source": TEXT, "settings": {"dataset": NAME, ...}, "sections": {SECTION: {QUANTITY: {"value": V}}}}'

Item = float | str


@dataclass(frozen=True)
class PublishedValue:
    """One number or text, or several in the order of the folds or voxels.

    Attributes
    ----------
    quantity : str
        See `harness.comparison.run_quantities.read_quantity`.
    values : tuple of float or str, or None
        None if no value was published.
    is_list : bool
        Whether the file gives a list; one value may be a list of length 1.
    decimals : int or None
        Numbers are equal if they are after rounding.
    tolerance, relative : float or None
        Numbers are equal if they differ by at most this; `relative` in units of the published number. Without
        any of the three, they are compared exactly.
    """

    quantity: str
    values: tuple[Item, ...] | None
    is_list: bool = False
    decimals: int | None = None
    tolerance: float | None = None
    relative: float | None = None

    def matches(self, place: int, obtained: Item) -> bool:
        """Whether a value is the published one at a place, at the precision of the publication."""
        assert self.values is not None
        published = self.values[place]
        if isinstance(published, str) or isinstance(obtained, str):
            return published == obtained
        if not math.isfinite(obtained):
            return False
        if self.decimals is not None:
            return round(obtained, self.decimals) == round(published, self.decimals)
        allowed = self.tolerance if self.relative is None else self.relative * abs(published)
        return abs(obtained - published) <= (allowed or 0.0)


@dataclass(frozen=True)
class PublishedValues:
    """The values of one publication.

    Attributes
    ----------
    source : str
        In words.
    settings : mapping of str to str
        The parameters that runs must have to be comparable, such as ``dataset``, where they are not those
        of the studies.
    sections : mapping of str to tuple of PublishedValue
    """

    source: str
    settings: Mapping[str, str]
    sections: Mapping[str, tuple[PublishedValue, ...]]


def read_published(content: str, name: str, sections: Collection[str]) -> PublishedValues:
    """Read published values from JSON.

    Parameters
    ----------
    content : str
        ``source`` in words, ``settings`` and ``sections``; in these, by quantity, ``value`` (a number, a
        text, a list of either, or null) and the precision of numbers: ``decimals``, ``tolerance`` or
        ``relative``.
    name : str
        Of the file, for messages.
    sections : collection of str
        The sections that exist.

    Raises
    ------
    UsageError
        If the content is not JSON or not of this form.
    """
    try:
        read = json.loads(content, object_pairs_hook=partial(_collect_keys, name))
    except ValueError as error:
        raise UsageError(f"{name} is not JSON: {first_line(error)}; expected {FORM}") from error
    except RecursionError as error:
        raise UsageError(f"{name} has too many levels of lists or objects; expected {FORM}") from error
    if not isinstance(read, dict) or not read:
        raise UsageError(f"{name} holds no published values; expected {FORM}")
    _check_names(read, KEYS, name, "key")
    source = read.get("source")
    if not isinstance(source, str) or not source.strip():
        raise UsageError(f"{name} has no source; name in words where its values were published")
    return PublishedValues(source.strip(), _read_settings(read, name), _read_sections(read, name, sections))


def read_published_file(file: Path, sections: Collection[str]) -> PublishedValues:
    """Read published values from a file; errors as in `read_published`."""
    try:
        content = file.read_text(encoding="utf-8-sig")  # editors of Windows write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UsageError(f"{file} cannot be read: {reason}; expected a JSON file: {FORM}") from error
    return read_published(content, str(file), sections)


def _collect_keys(name: str, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, which otherwise keeps the last of several values without a message."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise UsageError(f"{name}: the key {_show(key)} occurs twice in one object; leave one out")
        found[key] = value
    return found


def _check_names(found: Mapping[str, Any], allowed: Collection[str], place: str, what: str) -> None:
    for key in found:
        if key not in allowed:
            raise UsageError(f"{place}: {format_unknown(key, key, list(allowed), what)}")


def _read_settings(read: Mapping[str, Any], name: str) -> dict[str, str]:
    settings = read.get("settings")
    if not isinstance(settings, dict) or not {"dataset", "subject"} <= set(settings):
        raise UsageError(
            f"{name}: settings must name the data that the values are of, such as "
            '"settings": {"dataset": "haxby", "subject": "2"}'
        )
    _check_names(settings, COMPARED_PARAMS, f"{name}, settings", "parameter")
    for key, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise UsageError(
                f"{name}, settings, {key}: {value!r} is not a text, such as the name of an option"
            )
    return {key: str(value) for key, value in settings.items()}


def _read_sections(
    read: Mapping[str, Any], name: str, sections: Collection[str]
) -> dict[str, tuple[PublishedValue, ...]]:
    found = read.get("sections")
    if not isinstance(found, dict) or not found:
        raise UsageError(f"{name} has no sections; expected some of: {', '.join(sections)}")
    _check_names(found, sections, name, "section")
    for section, values in found.items():
        if not isinstance(values, dict) or not values:
            raise UsageError(
                f"{name}, {section}: expected quantities, such as "
                '{"test_accuracy": {"value": [0.767], "decimals": 3}}'
            )
    return {
        section: tuple(
            _read_value(quantity, entry, f"{name}, {section}, {quantity}")
            for quantity, entry in values.items()
        )
        for section, values in found.items()
    }


def _read_value(quantity: str, entry: Any, place: str) -> PublishedValue:
    if quantity not in QUANTITIES and re.fullmatch(FOLD_COLUMN, quantity) is None:
        known = [*QUANTITIES, *SCORES, "best_PARAMETER"]
        raise UsageError(f"{place}: {format_unknown(quantity, quantity, known, 'quantity')}")
    if not isinstance(entry, dict) or "value" not in entry:
        raise UsageError(f'{place}: expected {{"value": ...}}, but it is {_show(entry)}')
    _check_names(entry, ("value", *PRECISIONS), place, "key")
    precision = {key: entry[key] for key in PRECISIONS if key in entry}
    if len(precision) > 1:
        raise UsageError(f"{place}: {' and '.join(precision)} are two precisions; give one of them")
    for key, value in precision.items():
        is_number = _is_finite_number(value)
        is_decimals = is_number and value == int(value) and value <= MAX_DECIMALS
        if not is_number or value < 0 or (key == "decimals" and not is_decimals):
            expected = (
                f"a whole number from 0 to {MAX_DECIMALS}" if key == "decimals" else "a number of 0 or above"
            )
            raise UsageError(f"{place}: {key}={_show(value)}; expected {expected}")
    given = entry["value"]
    if given is None:
        return PublishedValue(quantity, None)
    items = given if isinstance(given, list) else [given]
    if not items:
        raise UsageError(f"{place}: the list is empty; give the values, or null if none was published")
    for item in items:
        if not _is_finite_number(item) and not isinstance(item, str):
            raise UsageError(f"{place}: {_show(item)} is neither a finite number nor a text")
        if isinstance(item, str) and precision:
            raise UsageError(f"{place}: {item!r} is a text, for which {next(iter(precision))} has no meaning")
    return PublishedValue(quantity, tuple(items), isinstance(given, list), **precision)


def _is_finite_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the range of floats
        return False


def _show(value: Any) -> str:
    """Return a value for a message, in the words of the file."""
    try:
        text = json.dumps(value)
    except RecursionError:
        text = "nested too deeply to be shown"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
