"""Options that have no effect with others. They are refused, because whoever sets one expects an effect."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import UsageError

# Hydra's keys that have an effect only on several runs, and only on one run.
FOR_SEVERAL_RUNS = ("hydra/launcher", "hydra.launcher", "hydra/sweeper", "hydra.sweeper", "hydra.sweep")
FOR_ONE_RUN = ("hydra.run",)


def check_tracking(tracking: Mapping[str, Any], resume: bool | None = None) -> None:
    """Raise a UsageError if an option of tracking, or `resume`, has no effect, or a server has no address."""
    kind, uri = tracking["kind"], tracking["uri"]
    if uri == "" or (kind == "server" and not uri):
        raise UsageError(
            f"tracking.uri={uri!r} is not the address of a server; expected, for example, "
            "tracking=server tracking.uri=http://127.0.0.1:5000; tracking=local needs none"
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


def check_launching(overrides: Sequence[str], multirun: bool) -> None:
    """Raise a UsageError if one of Hydra's keys has no effect on one run, or on several (`multirun`)."""
    keys = FOR_ONE_RUN if multirun else FOR_SEVERAL_RUNS
    for override in overrides:
        typed = override.lstrip("+~").partition("=")[0]
        if any(typed == key or typed.startswith(f"{key}.") for key in keys):
            number, remedy = (
                ("several runs", "leave out -m") if multirun else ("one run", "-m launches several")
            )
            raise UsageError(f"{override!r} has no effect on {number}; leave it out, or {remedy}")
