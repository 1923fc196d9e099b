"""Allowed values of the options of tracking.

The schema reads them at start-up, so this module imports nothing else.
"""

from enum import StrEnum


class TrackingKind(StrEnum):
    """Where runs are stored."""

    local = "local"
    server = "server"
    off = "off"


class StoreState(StrEnum):
    """The state of a local store's database.

    "older" is migrated at its next use, "incomplete" and "interrupted" are repaired then; "newer", "foreign"
    and "damaged" cannot be used.
    """

    absent = "absent"
    current = "current"
    older = "older"
    newer = "newer"
    incomplete = "incomplete"
    interrupted = "interrupted"
    foreign = "foreign"
    locked = "locked"
    damaged = "damaged"


# The parameters in which runs can differ, in the order of the tables' columns.
COMPARED_PARAMS = (
    *("dataset", "location", "subject", "analysis", "contrast", "roi", "signal", "estimator", "cv"),
    "scoring",
    *("inference", "engine", "seed"),
)
# What a run of a version that lacked a parameter has.
EARLIER_PARAMS = {"analysis": "decoding"}
STORE_LOCK = "store.lock"  # held by the process that creates, migrates or relocates the store
DATABASE = "mlflow.db"  # in the directory of a local store
STATUSES = ("FINISHED", "FAILED", "KILLED", "RUNNING")
