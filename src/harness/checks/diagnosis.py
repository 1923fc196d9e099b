"""Diagnoses of an environment: what each check of ``doctor`` finds, and the command that repairs it.

This module is imported in environments in which packages are missing or Python is too old, so it needs the
standard library of Python 3.9 only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

OK, CAUTION, FAULT = STATUSES = ("ok", "caution", "fault")  # from the best to the worst


@dataclass(frozen=True)
class Diagnosis:
    """What one check finds.

    Attributes
    ----------
    group, name : str
        Both together identify the check; ``packages`` and ``numpy``, for example.
    status : str
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
    status: str
    text: str
    command: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def find_worst(diagnoses: Iterable[Diagnosis]) -> str:
    """Return the worst status; ok if there is no diagnosis."""
    return max((diagnosis.status for diagnosis in diagnoses), key=STATUSES.index, default=OK)
