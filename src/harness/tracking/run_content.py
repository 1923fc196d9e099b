"""What a run logs to MLflow, whatever its analysis: metrics, tags, a note in Markdown, and its data set."""

import html
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric

from harness.checks.findings import Finding, Verdict, count_verdicts, sort_findings, worst_verdict
from harness.datasets.images import list_files
from harness.errors import escape_controls
from harness.samples.samples import RecordedSamples
from harness.tracking.tags import AUDIT_TAG, DIGEST_TAG, NOTICES_TAG, WARNINGS_TAG

ALWAYS_DESCRIBED = ("standardisation",)  # rules whose finding states an assumption also where it is ok

# The panel of figures of several runs; the UI makes a section of what is before the slash.
FIGURES = "maps/weights"


@dataclass(frozen=True, eq=False)
class RunContent:
    """What a run logs when it finishes, besides its files.

    Attributes
    ----------
    params : mapping of str to str
        Counts that are known only after the data were read.
    metrics : tuple of Metric
        The page of a run shows them in this order.
    figure : Path or None
        The file that stands for the run.
    """

    params: Mapping[str, str]
    metrics: tuple[Metric, ...]
    tags: Mapping[str, str]
    dataset: DatasetInput
    figure: Path | None


def list_metrics(values: Mapping[str, float], seconds: Mapping[str, float]) -> list[Metric]:
    """Return metrics without a step, undefined values left out, and the seconds per stage.

    The MLflow UI shows metrics below ``system/`` apart from the scores.
    """
    now = int(time.time() * 1000)
    named = {**values, **{f"system/seconds_{stage}": value for stage, value in seconds.items()}}
    return [Metric(key, float(value), now, 0) for key, value in named.items() if math.isfinite(value)]


def count_params(samples: RecordedSamples, n_folds: int, n_skipped: int) -> dict[str, str]:
    """Return the counts that runs of every analysis have."""
    counts = {
        "n_samples": len(samples.y),
        "n_voxels": samples.n_voxels,
        "n_folds": n_folds,
        "n_folds_skipped": n_skipped,
    }
    return {name: str(value) for name, value in counts.items()}


def common_tags(
    samples: RecordedSamples, findings: Sequence[Finding], notices: Sequence[str], n_warnings: int
) -> dict[str, str]:
    """Return the tags that runs of every analysis have."""
    tags = {f"{DIGEST_TAG}.{name}": digest for name, digest in samples.digests.items()}
    tags[WARNINGS_TAG] = str(n_warnings)
    if findings:
        tags[AUDIT_TAG] = worst_verdict(findings).value
    if notices:
        tags[NOTICES_TAG] = "\n".join(notices)
    return tags


def image_link(run_id: str, name: str) -> str:
    """Return the link to an image of a run, relative to the MLflow UI, which may be below a path."""
    return f"get-artifact?{urlencode({'path': name, 'run_uuid': run_id})}"


def list_verdicts(findings: Sequence[Finding]) -> list[str]:
    """Return the cautions and leaks in Markdown, the worst first, and what the standardisation assumes."""
    ordered = sort_findings(findings)
    lines = [
        f"**audit: {worst_verdict(ordered).value}** ({count_verdicts(ordered)}; all in audit.json)",
        "",
    ]
    lines += [
        f"- {finding.verdict.value}, {quote_markdown(finding.rule)}: {quote_markdown(finding.evidence)}"
        for finding in ordered
        if finding.verdict != Verdict.ok or finding.rule in ALWAYS_DESCRIBED
    ]
    return lines


def quote_markdown(text: str) -> str:
    """Escape a text so that Markdown shows it as it is: no HTML, links, code, table cells or emphasis."""
    line = escape_controls(text).replace("\n", " ")
    marked = re.sub(r"[\\`*\[\]|!~]|(?<!\w)_|_(?!\w)", r"\\\g<0>", line)
    return html.escape(marked, quote=False)


def dataset_input(samples: RecordedSamples) -> DatasetInput:
    """Return the data set that MLflow shows as the input of the run."""
    recording = samples.sources.recording
    profile = {
        "volumes": len(recording.labels),
        "samples": len(samples.y),
        "voxels": samples.n_voxels,
        "classes": list(samples.contrast.classes),
    }
    dataset = Dataset(
        name=f"{recording.dataset} subject {recording.subject}",
        digest=samples.digests["bold"][:32],  # MLflow takes at most 36 characters
        source_type="local",
        source=json.dumps({"uri": list_files(recording.bold)[0].resolve().as_uri()}),
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "decoding")])
