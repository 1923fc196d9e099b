"""Searchlight maps over subjects: computed from stored runs, and stored as runs of their own."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.comparison.group_maps import GroupMaps, RefusedGroup
    from harness.tracking.store import Store
    from harness.tracking.stored_run import StoredRun


@dataclass(frozen=True)
class StoredGroupMaps:
    """The maps over subjects of some runs.

    Attributes
    ----------
    groups : list of GroupMaps
        One per configuration.
    refused : list of RefusedGroup
        Configurations whose maps cannot be compared.
    pages : list of str
        How the run of each configuration is opened.
    """

    groups: "list[GroupMaps]" = field(default_factory=list)
    refused: "list[RefusedGroup]" = field(default_factory=list)
    pages: list[str] = field(default_factory=list)


def store_group_maps(
    store: "Store", runs: "Sequence[StoredRun]", n_planned: int | None = None, sweep: str = ""
) -> StoredGroupMaps:
    """Compute the maps over subjects of searchlights, and store each configuration as a run.

    A run that cannot be stored is reported on standard error; the maps are returned all the same.

    Parameters
    ----------
    store : Store
        That of the runs.
    runs : sequence of StoredRun
        See `harness.comparison.group_maps.map_groups`.
    n_planned : int, optional
        Subjects of the sweep.
    sweep : str
        Identifier of the sweep; empty for runs of several.
    """
    from harness.comparison.group_map_record import describe_maps
    from harness.comparison.group_maps import map_groups
    from harness.report.group_map_files import write_group_maps
    from harness.tracking.group_run import store_group

    chosen = [run for run in runs if run.is_searchlight]
    if not chosen:
        return StoredGroupMaps()
    if n_tested := sum(run.has_complete_test for run in chosen):
        print(f"maps over subjects: reading and combining {n_tested} tested maps", file=sys.stderr)
    groups, refused = map_groups(chosen, n_planned)
    found = StoredGroupMaps(groups, refused)
    for maps in groups:
        try:
            record = describe_maps(maps, n_planned)
            found.pages.append(store_group(store, record, partial(write_group_maps, maps), sweep).page)
        except HarnessError as error:
            print(f"error: the maps over subjects are not stored: {error}", file=sys.stderr)
    return found
