"""Sections that the reports of runs of every analysis have: audit, methods, and files."""

from collections.abc import Callable

import pandas as pd

from harness.checks.findings import count_verdicts, sort_findings
from harness.errors import TrackingError
from harness.report.methods_facts import MethodFacts, Methods
from harness.report.report_page import Block, DataTable, Text, write_words
from harness.report.run_record import RunRecord
from harness.tracking.stored_run import StoredRun
from harness.tracking.tags import COMMIT_TAG


def describe_audit(record: RunRecord) -> list[Block]:
    """Return the verdicts of the audit with evidence, the worst first."""
    findings = sort_findings(record.run.read_findings())
    if not findings:
        return [Text("This run was not audited: it is of an earlier version.")]
    table = pd.DataFrame(
        {
            "verdict": [str(finding.verdict) for finding in findings],
            "rule": [write_words(finding.rule) for finding in findings],
            "evidence": [finding.evidence for finding in findings],
            "reference": [finding.reference for finding in findings],
        }
    )
    return [Text(f"{count_verdicts(findings)}."), DataTable(table, "All rules.")]


def describe_methods(write: Callable[[MethodFacts], Methods], record: RunRecord) -> list[Block]:
    """Return the methods text of a run, to be copied.

    Parameters
    ----------
    write : callable
        Writes the text of runs of this analysis.
    """
    return show_methods(lambda: write(record.method_facts()))


def show_methods(write: Callable[[], Methods]) -> list[Block]:
    """Return a methods text, to be copied."""
    methods = write()
    text = "\n\n".join(methods.paragraphs)
    references = "\n".join(methods.references)
    return [
        Text("Generated from the configuration of the run; one click selects a box for copying.", "note"),
        Text(text, "copy"),
        Text("References", "lead"),
        Text(references, "copy"),
        Text(f"To be added, because no configuration knows it: {'; '.join(methods.missing)}.", "notice"),
    ]


def list_run_files(run: StoredRun) -> list[Block]:
    """Return the digests of input and result files, and versions."""
    inputs = pd.DataFrame({"file": list(run.digests), "SHA-256": list(run.digests.values())})
    blocks: list[Block] = []
    if run.digests:
        blocks.append(DataTable(inputs, "Input files."))
    results = run.file_digests
    if results:
        states = [_check_file(run, name) for name in results]
        table = pd.DataFrame({"file": list(results), "SHA-256": list(results.values()), "now": states})
        blocks.append(DataTable(table, f"Files of the run, in {run.artifact_uri}."))
        changed = [name for name, state in zip(results, states, strict=True) if state != "the same"]
        if changed:
            text = f"Edited, damaged or deleted since the run: {', '.join(changed)}."
            blocks.append(Text(text, "notice"))
    else:
        blocks.append(Text("The run is of an earlier version and has no digests of its files.", "notice"))
    versions = pd.DataFrame({"package": list(run.versions), "version": list(run.versions.values())})
    if run.versions:
        blocks.append(DataTable(versions, "Versions."))
    commit = run.tags.get(COMMIT_TAG)
    return [*blocks, Text(f"Commit {commit}.", "note")] if commit else blocks


def _check_file(run: StoredRun, name: str) -> str:
    """Return whether a file of the run is the one that it wrote."""
    try:
        run.read_file(name)
    except TrackingError:
        return "changed"
    return "the same"
