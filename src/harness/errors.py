"""The errors a user can cause, each one message: what, which value, what was expected, what to do."""

import re
from collections.abc import Sequence
from difflib import get_close_matches

# Control characters but tab and line break, surrogates, and the marks that reverse the order of text.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escape_controls(text: str) -> str:
    r"""Return a text whose control characters are written out, such as ``\x1b``.

    Names come from data and from the command line; printed as they are, they could steer the terminal.

    Parameters
    ----------
    text : str

    Returns
    -------
    escaped : str
    """
    return CONTROLS.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), text)


class HarnessError(Exception):
    """A failure that the message explains in full, so that no traceback is shown.

    Control characters of the message are written out, wherever it is shown.

    Attributes
    ----------
    exit_status : int
        What the command line returns: 1 for a run that failed, 2 for a request that makes no sense.
    """

    exit_status = 1

    def __str__(self) -> str:
        return escape_controls(super().__str__())


class UsageError(HarnessError):
    """The request itself is wrong: an option, a key or a value that is not in the vocabulary."""

    exit_status = 2


class DataError(HarnessError):
    """A file is missing, damaged, or does not fit the other files of its subject."""


class DesignError(HarnessError):
    """The data are sound, but the question cannot be asked of them (no volumes, one class in a fold)."""


class TrackingError(HarnessError):
    """The run store cannot be opened or written."""


def describe_error(error: BaseException) -> str:
    """Say in one line what went wrong.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    description : str
        The message of what a user can mend; of anything else its type, too.
    """
    text = escape_controls(str(error)).strip()
    if isinstance(error, HarnessError):
        return text
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


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
    # First the same parts in another order: cat_vs_face is face_vs_cat.
    near = [name for name in allowed if sorted(name.split("_")) == sorted(key.split("_"))]
    near = near or get_close_matches(key, allowed, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    if not allowed:
        return f"unknown {what} {full!r}: this option takes none"
    return f"unknown {what} {full!r}; expected one of: {', '.join(allowed)}.{hint}"
