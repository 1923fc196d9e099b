"""Everything that one run found out: the decoding, its audit and its test."""

from dataclasses import dataclass

from harness.checks.findings import Finding
from harness.decoding.decode import Decoding
from harness.inference.run_inference import Inference


@dataclass(frozen=True, eq=False)
class RunResult:
    """The decoding of a run, the findings of its audit, and its permutation test.

    Attributes
    ----------
    findings : tuple of Finding
        One per rule of the audit.
    inference : Inference or None
        None for a run without ``inference=permutation``.
    """

    decoding: Decoding
    findings: tuple[Finding, ...] = ()
    inference: Inference | None = None
