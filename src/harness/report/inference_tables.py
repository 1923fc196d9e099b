"""What is printed of the audit of a run, and of its tests."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from harness.checks.findings import Finding, Verdict, count_verdicts, sort_findings, worst_verdict
from harness.inference.corrections import format_p

if TYPE_CHECKING:
    from harness.inference.run_inference import Inference
    from harness.tracking.sweep_correction import CorrectedTests


def print_audit(console: Console, findings: Sequence[Finding]) -> None:
    """Print the first sentence of every caution and leak, the worst first, and how many rules are ok."""
    if not findings:
        return
    for finding in sort_findings(findings):
        if finding.verdict != Verdict.ok:
            style = "red" if finding.verdict == Verdict.leak else "yellow"
            console.print(f"{finding.verdict.value:8} {finding.rule}: {finding.fact}", style=style)
    console.print(f"audit    {worst_verdict(findings).value} ({count_verdicts(findings)}); audit.json")


def print_corrected_tests(console: Console, family: "CorrectedTests") -> None:
    """Print the p-values of runs that were tested with the same relabellings, corrected for their number."""
    table = Table(
        title=f"subject {family.subject}: {len(family.table)} tests corrected by the maximum statistic",
        title_justify="left",
    )
    for name in ("run", family.score.replace("_", " "), "p", "p corrected"):
        table.add_column(name, justify="left" if name == "run" else "right", overflow="fold")
    for row in family.table.sort_values("p_fwe").to_dict("records"):
        numbers = f"{row['score']:.3f}", format_p(row["p"]), format_p(row["p_fwe"])
        table.add_row(str(row["name"]), *numbers)
    console.print(table)


def print_inference(console: Console, inference: "Inference") -> None:
    """Print the p-value of every score, what was found of the maps, and cautions."""
    test = inference.test
    table = Table(title=f"permutation test, {test.n_computed} relabellings of the blocks ({test.method})")
    for name in ("score", "", "p", "null mean", "null 95 %"):
        table.add_column(name, justify="left" if name == "score" else "right")
    for score, p in test.p_values.items():
        band = test.band(score)
        shown = ["-", "-"] if band is None else [f"{value:.3f}" for value in band]
        note = "" if score == test.primary else " (not corrected)"
        table.add_row(score.replace("_", " "), f"{test.observed[score]:.3f}", format_p(p) + note, *shown)
    console.print(table)
    for line in (test.statement, *inference.describe_maps()):
        console.print(line)
    for text in (*test.cautions, *inference.notices):
        console.print(f"caution: {text}", style="yellow")
