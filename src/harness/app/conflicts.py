"""Options that have no effect beside others. They are refused: who sets one expects something of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import UsageError

# Hydra's keys that mean something only where several runs are launched, and only where one is.
FOR_SEVERAL_RUNS = ("hydra/launcher", "hydra.launcher", "hydra/sweeper", "hydra.sweeper", "hydra.sweep")
FOR_ONE_RUN = ("hydra.run",)


def check_tracking(tracking: Mapping[str, Any], resume: bool | None = None) -> None:
    """Refuse options of tracking that have no effect with its kind.

    Parameters
    ----------
    tracking : mapping of str to object
        See `harness.app.schema.TrackingSchema`.
    resume : bool, optional
        Whether finished runs are skipped.

    Raises
    ------
    UsageError
        If an option has no effect, or a server has no address.
    """
    kind, uri = tracking["kind"], tracking["uri"]
    if kind == "server" and not uri:
        raise UsageError(
            f"tracking.uri={uri!r} names no server; expected such as tracking.uri=http://127.0.0.1:5000"
        )
    if kind != "server" and uri is not None:
        raise UsageError(
            f"tracking.uri={uri!r} has no effect with tracking={kind}; "
            f"for a server type: tracking=server tracking.uri={uri}"
        )
    if kind == "off" and tracking["experiment"] is not None:
        raise UsageError(
            f"tracking.experiment={tracking['experiment']!r} has no effect with tracking=off, which stores "
            "no runs; choose tracking=local or tracking=server"
        )
    if kind == "off" and resume:
        raise UsageError(
            "resume=true has no effect with tracking=off, which stores no runs; choose tracking=local or "
            "tracking=server"
        )


def check_launching(words: Sequence[str], multirun: bool) -> None:
    """Refuse Hydra's keys that have no effect on one run, or on several.

    Parameters
    ----------
    words : sequence of str
        Overrides.
    multirun : bool
        Whether several runs are launched.

    Raises
    ------
    UsageError
        If there is such a key.
    """
    keys = FOR_ONE_RUN if multirun else FOR_SEVERAL_RUNS
    for word in words:
        typed = word.lstrip("+~").partition("=")[0]
        if any(typed == key or typed.startswith(f"{key}.") for key in keys):
            number, remedy = (
                ("several runs", "leave out -m") if multirun else ("one run", "-m launches several")
            )
            raise UsageError(f"{word!r} has no effect on {number}; leave it out, or {remedy}")
