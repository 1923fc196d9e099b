"""Hydra's and OmegaConf's errors as one message that names the key and what is allowed."""

import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from enum import Enum, EnumType
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)
from yaml import YAMLError

from harness.app.doctor.installation import format_launcher_install
from harness.app.schema import RunSchema
from harness.errors import HarnessError, UsageError, format_error, format_unknown


@contextmanager
def explaining(words: Sequence[str] = (), passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn every exception of a composition into a UsageError, except for those in `passing`.

    Exceptions of Hydra never pass, although that of a missing option is an OSError, too.
    """
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:  # Hydra and OmegaConf also raise AssertionError, TypeError and others
        too_long = isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG
        if isinstance(error, passing) and not isinstance(error, HydraException) and not too_long:
            raise
        raise UsageError(format_hydra_error(error, words)) from error


def format_hydra_error(error: BaseException, words: Sequence[str] = ()) -> str:
    """Return one message for an error of Hydra or OmegaConf; `words` are the overrides, if known."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        own = " Classes of your own: contrast.conditions=[face,house]" if group == "contrast" else ""
        return format_unknown(f"{group}={option}", option, sorted(error.options), "option") + own
    if isinstance(error, OverrideParseException):
        typed = str(error.override).removeprefix("++")
        if re.fullmatch(r"[\w/.@-]+", typed):
            return (
                f"{typed!r} cannot be read as GROUP=OPTION or KEY=VALUE, for example, subject=2; --help "
                "shows what can be typed"
            )
        return (
            f"{typed!r} cannot be read as GROUP=OPTION or KEY=VALUE. A value with special characters is "
            "quoted twice, for the shell and for Hydra: \"KEY='VALUE'\""
        )
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    for cause in causes:
        if isinstance(cause, YAMLError):
            reason = " ".join(str(cause).split())
            return f"a configuration file cannot be read: {reason}; correct its YAML"
        if isinstance(cause, OmegaConfBaseException) and getattr(cause, "full_key", None):
            return _format_key_error(cause, str(error).splitlines()[0])
    if isinstance(error, HydraException):
        return _format_composition_error(str(error))
    typed = " ".join(word.removeprefix("++") for word in words)
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{typed!r} names an option that no file can have: its name is too long"
    if isinstance(error, UnicodeDecodeError):
        return f"{typed!r}: a configuration file is not UTF-8 text ({error.reason}); save it as UTF-8"
    return (
        f"{typed or 'the configuration'!r} cannot be composed; check that its keys exist and that their "
        "values are of the right type (HYDRA_FULL_ERROR=1 shows where this was found)"
    )


def _format_key_error(error: OmegaConfBaseException, first: str) -> str:
    """Return why a key cannot have its value; `first` is the first line of Hydra's own message."""
    key, parent = str(error.full_key), error.parent_node
    if isinstance(error, ConfigAttributeError | ConfigKeyError) and isinstance(parent, DictConfig):
        return format_unknown(key, key.rpartition(".")[2], sorted({str(name) for name in parent} - {"hydra"}))
    expected = _expected_type(key) or "a value of another type"
    typed = first.partition("Error merging override ")[2].removeprefix("++") or f"{key}={error.value}"
    if isinstance(error, MissingMandatoryValue):
        return f"{key} has no value; give one, for example {key}=VALUE"
    if isinstance(error, InterpolationResolutionError):
        reason = re.sub(r"(While dereferencing interpolation .*?\}'): .*", r"\1", str(error).splitlines()[0])
        return f"{key}: {reason}; expected ${{KEY}}, with another key whose value is {expected}"
    if typed.startswith("~"):
        return f"{typed!r} cannot be used: {key} cannot be removed; give it another value"
    return f"{typed!r} cannot be used; {key} takes {expected}"


def _format_composition_error(text: str) -> str:
    """Return a message for a composition that Hydra rejects."""
    for pattern, message in (
        (r"Could not override '(.*)'", "{0!r} is not a key or a group; see python -m harness --help"),
        (
            r"Could not delete '?(.*?)'?\.? (No match|from config)",
            "~{0} removes nothing: there is no such option",
        ),
        (r"Could not delete from config. (.*) does not exist", "~{0} removes nothing: there is no such key"),
        (r"Could not append to config. An item is already at '(.*)'", "{0!r} exists; leave out the +"),
        (r"(.*) appears more than once in the final", "{0!r} is chosen twice; leave out the +"),
        (r"Error merging override (?:\+\+)?(.*)", "{0!r} cannot be used; that key takes another value"),
        (
            r"Ambiguous value for argument '(\+\+)?(.*)'",
            "{1!r} has several values: -m makes a run of each; KEY=[A,B] is a list, \"KEY='A,B'\" a text",
        ),
    ):
        found = re.match(pattern, text)
        if found is not None:
            return message.format(*found.groups())
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _expected_type(key: str) -> str | None:
    """Return what a key of the schema takes; None for keys of the open groups and of Hydra."""
    hint: Any = RunSchema
    for part in re.sub(r"\[.*", "", key).split("."):
        hints = get_type_hints(hint) if is_dataclass(hint) else {}
        if part not in hints:
            return None
        hint = hints[part]
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return " or ".join(_expected_kind(kind) for kind in kinds)


def _expected_kind(kind: Any) -> str:
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        return "a list" if item is Any else f"a list of {_expected_kind(item)}"
    if isinstance(kind, EnumType):
        members: list[Enum] = list(kind)
        return f"one of {', '.join(str(member.value) for member in members)}"
    if is_dataclass(kind) or get_origin(kind) is dict:
        return "the name of an option"
    named = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}
    return named[kind]


def format_launcher_error(error: RuntimeError) -> HarnessError:
    """Return the error of a launcher that is not installed, or gave up."""
    missing = re.search(
        r"Unknown plugin class : 'hydra_plugins\.hydra_(joblib|submitit)_launcher", str(error)
    )
    if missing is not None:
        name = missing.group(1)
        return UsageError(
            f"hydra/launcher={name} is not installed; install it: {format_launcher_install(name)}"
        )
    return HarnessError(f"the launcher gave up: {format_error(error)}. The same command resumes the sweep")
