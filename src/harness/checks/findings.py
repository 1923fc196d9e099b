"""Findings of the audit: what each rule says about a run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """What a rule concludes, from the best to the worst."""

    ok = "ok"
    caution = "caution"
    leak = "leak"


@dataclass(frozen=True)
class Finding:
    """What one rule of the audit says.

    Attributes
    ----------
    rule : str
        Name of the rule, for example ``blocks_split``.
    verdict : {"ok", "caution", "leak"}
    evidence : str
        One sentence with the numbers that the verdict rests on, and what to do about it.
    reference : str
        Where the rule comes from.
    """

    rule: str
    verdict: Verdict
    evidence: str
    reference: str

    def to_dict(self) -> Mapping[str, Any]:
        """Return the finding as it is written to ``audit.json``."""
        return {
            "rule": self.rule,
            "verdict": self.verdict.value,
            "evidence": self.evidence,
            "reference": self.reference,
        }


def worst_verdict(findings: Iterable[Finding]) -> Verdict:
    """Return the worst verdict of findings; ``ok`` if there are none."""
    order = list(Verdict)
    return max((finding.verdict for finding in findings), key=order.index, default=Verdict.ok)
