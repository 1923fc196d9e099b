"""Findings of the audit: what each rule concludes about a run, and how rules are written."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

Context = TypeVar("Context")


class Verdict(StrEnum):
    """What a rule concludes, from the best to the worst."""

    ok = "ok"
    caution = "caution"
    leak = "leak"


@dataclass(frozen=True)
class Finding:
    """What one rule of the audit concludes.

    Attributes
    ----------
    rule : str
        Name of the rule, for example ``blocks_split``.
    verdict : {"ok", "caution", "leak"}
    evidence : str
        One sentence with the numbers that the verdict rests on, then what they mean or what to do.
    reference : str
        Where the rule comes from.
    """

    rule: str
    verdict: Verdict
    evidence: str
    reference: str

    @property
    def fact(self) -> str:
        """The first sentence of the evidence, without its full stop."""
        return self.evidence.partition(". ")[0].removesuffix(".")

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


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with the worst verdicts first, otherwise in their own order."""
    order = list(Verdict)
    return sorted(findings, key=lambda finding: -order.index(finding.verdict))


def count_verdicts(findings: Iterable[Finding]) -> str:
    """Write how many findings have each verdict, the worst first: ``1 leak, 3 cautions, 12 ok``."""
    counts = Counter(finding.verdict for finding in findings)
    return ", ".join(
        f"{counts[verdict]} {verdict.value}" + ("s" if counts[verdict] > 1 and verdict != Verdict.ok else "")
        for verdict in reversed(Verdict)
        if counts[verdict]
    )


@dataclass(frozen=True)
class Judgement:
    """The conclusion of a rule.

    Attributes
    ----------
    verdict : {"ok", "caution", "leak"}
    fact : str
        The numbers that the verdict rests on: one short sentence without its full stop.
    advice : str
        What the numbers mean, or what to do; whole sentences, or empty.
    """

    verdict: Verdict
    fact: str
    advice: str = ""


@dataclass(frozen=True)
class Rule(Generic[Context]):
    """A rule of the audit.

    Attributes
    ----------
    name : str
    reference : str
        Where the rule comes from.
    judge : callable
        Returns the judgement on what is audited; it must do so for every design that can be decoded.
    """

    name: str
    reference: str
    judge: Callable[[Context], Judgement]


def apply_rules(rules: Sequence[Rule[Context]], context: Context) -> list[Finding]:
    """Return one finding per rule, in the order of the rules."""
    findings = []
    for rule in rules:
        judgement = rule.judge(context)
        evidence = f"{judgement.fact}. {judgement.advice}".rstrip()
        findings.append(Finding(rule.name, judgement.verdict, evidence, rule.reference))
    return findings
