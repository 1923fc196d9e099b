"""Placeholder until fix/stats is merged."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.inference.group_tests import MeanTest, Prevalence
from harness.tracking.stored_run import StoredRun


@dataclass(frozen=True)
class GroupSummary:
    params: Any
    score: str
    mean_test: MeanTest | None
    prevalence: Prevalence | None


def summarise_groups(runs: Sequence[StoredRun]) -> list[GroupSummary]:
    return []
