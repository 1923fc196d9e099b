"""Diagnoses of an environment: what each check of ``doctor`` finds, and the command that repairs it.

This module is imported in environments in which packages are missing or Python is too old, so it needs the
standard library of Python 3.9 only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Status(str, Enum):  # noqa: UP042 - StrEnum needs Python 3.11
    """The status of a diagnosis, from the best to the worst."""

    ok = "ok"
    caution = "caution"
    fault = "fault"

    def __str__(self) -> str:
        return str(self.value)

    def __format__(self, format_spec: str) -> str:
        return format(self.value, format_spec)


@dataclass(frozen=True)
class Diagnosis:
    """What one check finds.

    Attributes
    ----------
    group, name : str
        Both together identify the check; ``packages`` and ``numpy``, for example.
    status : Status
        ``ok``; ``caution``: something works less well, or something optional is damaged; ``fault``: something
        that is required is missing or broken.
    text : str
        What was found.
    command : str or None
        What to type into a shell to repair it, or to install something optional.
    facts : mapping of str to object
        What was found, as values that JSON can hold.
    """

    group: str
    name: str
    status: Status
    text: str
    command: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def find_worst(diagnoses: Iterable[Diagnosis]) -> Status:
    """Return the worst status; ok if there is no diagnosis."""
    return max((diagnosis.status for diagnosis in diagnoses), key=list(Status).index, default=Status.ok)
