"""Errors that a user can cause, and functions that format messages."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from difflib import SequenceMatcher, get_close_matches

# Control characters except tab and line break, surrogates, and the marks that reverse the order of text.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escape_controls(text: str) -> str:
    r"""Replace control characters by escape sequences, for example ``\x1b``.

    Names from data and from the command line could otherwise control the terminal they are printed on.
    """
    return CONTROLS.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), text)


class HarnessError(Exception):
    """A failure whose message says what was wrong and what to do; it is shown without a traceback.

    Attributes
    ----------
    exit_status : int
        What the command line returns: 1 for a failed run, 2 for a usage error.
    """

    exit_status = 1

    def __str__(self) -> str:
        return escape_controls(super().__str__())


class UsageError(HarnessError):
    """An option, a key or a value that does not exist or is not allowed."""

    exit_status = 2


class DataError(HarnessError):
    """A file that is missing, damaged, or inconsistent with the other files of its subject."""


class DesignError(HarnessError):
    """Sound data that do not allow this analysis (no volumes of a condition, one class in a fold)."""


class TrackingError(HarnessError):
    """The run store cannot be opened or written."""


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or its type if it has none."""
    return (escape_controls(str(error)).strip() or type(error).__name__).splitlines()[0]


def format_error(error: BaseException) -> str:
    """Return the whole message of a `HarnessError`; of other exceptions the type and the first line."""
    if isinstance(error, HarnessError):
        return str(error).strip()
    name, line = type(error).__name__, first_line(error)
    return line if line == name else f"{name}: {line}"


def suggest(word: str, allowed: Iterable[str], form: str = "{!r}") -> str:
    """Return " Did you mean 'x'?" for the allowed word closest to `word`, or "" if none is close."""
    names = list(allowed)
    # First the same parts in another order: cat_vs_face is face_vs_cat.
    near = [name for name in names if sorted(name.split("_")) == sorted(word.split("_"))]
    near = near or get_close_matches(word, [name for name in names if _has_near_parts(word, name)], n=1)
    return f" Did you mean {form.format(near[0])}?" if near else ""


def _has_near_parts(word: str, name: str) -> bool:
    """Return whether two names are similar part by part; face_vs_dog and face_vs_shoe are not.

    Parts are separated by slashes, or by underscores; names with different numbers of parts are not compared.
    """
    for separator in "/_":
        parts, others = word.split(separator), name.split(separator)
        if len(parts) == len(others) and not all(map(_is_near, parts, others)):
            return False
    return True


def _is_near(part: str, other: str) -> bool:
    return max(len(part), len(other)) < 3 or SequenceMatcher(None, other, part).ratio() >= 0.6


def pluralise(number: int, noun: str, plural: str | None = None) -> str:
    """Return a noun for a number of things; its plural ends in "s" if none is given."""
    return noun if number == 1 else plural or f"{noun}s"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: ``1 block``, ``2 blocks``."""
    return f"{number} {pluralise(number, noun, plural)}"


def format_unknown(full: str, key: str, allowed: Collection[str], what: str = "key") -> str:
    """Return the message on an unknown word: which are allowed, and which one is closest.

    Parameters
    ----------
    full : str
        The word with its place, as it is shown.
    key : str
        The word itself, which is compared with the allowed ones.
    what : str
        What kind of word it is.
    """
    if not allowed:
        return f"unknown {what} {full!r}: this option takes none"
    return f"unknown {what} {full!r}; expected one of: {', '.join(allowed)}.{suggest(key, allowed)}"
