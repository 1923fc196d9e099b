"""What a decoding logs to its MLflow run: metrics, tags, a note in Markdown, and its data set."""

import html
import json
import math
import re
import time
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric

from harness.checks.findings import Verdict, count_verdicts, sort_findings, worst_verdict
from harness.datasets.images import list_files
from harness.decoding.scores import nominal_chance
from harness.errors import escape_controls
from harness.inference.corrections import format_p
from harness.tracking.tags import (
    AUDIT_TAG,
    DIGEST_TAG,
    INFERENCE_TAG,
    NOTE_TAG,
    NOTICES_TAG,
    POSITIVE_TAG,
    PRIMARY_TAG,
    RELABELLINGS_TAG,
    WARNINGS_TAG,
)

if TYPE_CHECKING:
    from harness.decoding.decode import Decoding
    from harness.inference.run_inference import Inference
    from harness.tracking.run_result import RunResult

ALWAYS_DESCRIBED = ("standardisation",)  # rules whose finding states an assumption also where it is ok

# The panel of figures of several runs; the UI makes a section of what is before the slash.
FIGURES = "maps/weights"


def fold_metrics(decoding: "Decoding") -> list[Metric]:
    """Return one metric per fold and score, with the number of the fold, from 1, as its step.

    They are ``selected/<scorer>``, ``test/<scorer>`` and ``best_<parameter>``, without undefined values.
    """
    now = int(time.time() * 1000)
    metrics = []
    for column in decoding.folds.columns:
        kind, _, rest = column.partition("_")
        if kind not in ("selected", "test", "best"):
            continue
        key = column if kind == "best" else f"{kind}/{rest}"
        for fold, value in zip(decoding.folds["fold"], decoding.folds[column], strict=True):
            if isinstance(value, int | float) and math.isfinite(value):
                metrics.append(Metric(key, float(value), now, int(fold)))
    return metrics


def summary_metrics(result: "RunResult", seconds: Mapping[str, float]) -> list[Metric]:
    """Return mean and standard deviation over folds, optimism, train accuracy, and seconds per stage.

    Test scores come first: the page of a run shows metrics in the order in which they were logged.

    MLflow's tables show the last fold of a stepped metric, which is why the mean has a name of its own. Its
    pages of runs show metrics below ``system/`` apart from the scores.
    """
    now = int(time.time() * 1000)
    decoding = result.decoding
    scores = decoding.flat_scores()
    values = {key: scores[key] for key in sorted(scores, key=lambda key: not key.startswith("test_"))}
    values |= decoding.optimism | {"train_accuracy": decoding.train_accuracy}
    if result.inference is not None:
        values |= inference_metrics(result.inference)
    values |= {f"system/seconds_{stage}": value for stage, value in seconds.items()}
    return [Metric(key, float(value), now, 0) for key, value in values.items() if math.isfinite(value)]


def find_figure(decoding: "Decoding", artifacts: Path) -> Path | None:
    """Return the figure that stands for a run, that of the first weights, if it was drawn."""
    files = [artifacts / f"weights_{weights.name}.png" for weights in decoding.weights[:1]]
    return next((file for file in files if file.is_file()), None)


def result_tags(result: "RunResult", image: str | None = None) -> dict[str, str]:
    """Return the tags that are known only after the data were read; see `describe_run` for `image`."""
    decoding = result.decoding
    tags = {f"{DIGEST_TAG}.{name}": digest for name, digest in decoding.samples.digests.items()}
    tags[WARNINGS_TAG] = str(len(decoding.warnings))
    if result.findings:
        tags[AUDIT_TAG] = worst_verdict(result.findings).value
    if decoding.notices:
        tags[NOTICES_TAG] = "\n".join(decoding.notices)
    if decoding.weights:
        tags[POSITIVE_TAG] = ", ".join(weights.positive for weights in decoding.weights)
    if result.inference is not None:
        tags[INFERENCE_TAG] = result.inference.test.method
        tags[PRIMARY_TAG] = result.inference.test.primary
        if not result.inference.test.sequential:  # other tests with the same rows can be corrected together
            tags[RELABELLINGS_TAG] = result.inference.test.relabellings.digest
    tags[NOTE_TAG] = describe_run(result, image)
    return tags


def image_link(run_id: str, name: str) -> str:
    """Return the link to an image of a run, relative to the MLflow UI, which may be below a path."""
    return f"get-artifact?{urlencode({'path': name, 'run_uuid': run_id})}"


def describe_run(result: "RunResult", image: str | None = None) -> str:
    """Return the Markdown text that the MLflow UI shows above a run.

    Question, answer, verdict and figure come first, because the UI folds a long text.

    Parameters
    ----------
    image : str, optional
        Link to a figure of the weights.
    """
    decoding = result.decoding
    samples = decoding.samples
    estimator, scheme, roi = decoding.question.estimator, decoding.question.scheme, decoding.question.roi
    question = f"{' vs '.join(samples.contrast.classes)}, {roi.name}, {estimator.name}, cv={scheme.name}"
    lines = [
        f"**Question:** {quote_markdown(decoding.recording.dataset)} subject {decoding.recording.subject}: "
        f"{quote_markdown(question)}; {len(samples.y)} volumes, {samples.n_voxels} voxels.",
        "",
        f"**Answer:** {quote_markdown(describe_answer(result))}",
        "",
        *([f"![weights on slices of the brain]({image})", ""] if image else []),
        "| score | mean over folds | SD |",
        "|---|---|---|",
    ]
    for score, row in decoding.summarise().iterrows():
        lines.append(f"| {quote_markdown(str(score))} | {row['mean']:.3f} | {row['sd']:.3f} |")
    lines += [
        "",
        "*selected*: parameters chosen on the fold that is scored (nilearn's `cv_scores_`); "
        "*test*: volumes that took part in no choice.",
    ]
    lines += [f"- {quote_markdown(text)}" for text in decoding.describe_optimism()]
    if result.inference is not None:
        lines += ["", *_describe_inference(result.inference)]
    if decoding.recording.notice:
        lines += ["", f"**{quote_markdown(decoding.recording.notice)}**"]
    if result.findings:
        lines += ["", *_describe_audit(result)]
    if decoding.warnings:
        lines += ["", *(f"- warning: {quote_markdown(text)}" for text in decoding.warnings)]
    return "\n".join(lines)


def describe_answer(result: "RunResult") -> str:
    """Return in a sentence the mean test score, nominal chance, the p-value and the worst verdict."""
    decoding, test = result.decoding, None if result.inference is None else result.inference.test
    summary = decoding.summarise()
    scores = [str(score) for score in summary.index if str(score).startswith("test_")] or list(summary.index)
    primary = f"test_{decoding.question.scoring.select}" if test is None else test.primary
    score = primary if primary in summary.index else scores[0]
    mean, sd = (summary[column].to_dict()[score] for column in ("mean", "sd"))
    words = [f"{score} {mean:.3f}" + (f" (SD over folds {sd:.3f})" if math.isfinite(sd) else "")]
    if test is None or score not in test.p_values:
        words += _describe_chance(score, Counter(decoding.samples.y).values())
        words.append("not tested, so no p-value")
    else:
        band = test.band(score)
        words += [] if band is None else [f"mean of the null distribution {band[0]:.3f}"]
        words.append(f"p = {format_p(test.p_values[score])}")
    if result.findings:
        words.append(f"audit: {worst_verdict(result.findings).value}")
    return "; ".join(words) + "."


def _describe_chance(score: str, counts: Collection[int]) -> list[str]:
    """Return nominal chance, and what accuracy the largest class alone reaches where it has more volumes."""
    words = [f"nominal chance {nominal_chance(score, len(counts)):.3f}"]
    if score == "test_accuracy" and max(counts) > min(counts):
        words.append(f"always the largest class: {max(counts) / sum(counts):.3f}")
    return words


def inference_metrics(inference: "Inference") -> dict[str, float]:
    """Return p-values, the number of distinct relabellings, and the stability of the maps."""
    values = {f"p_value/{score}": p for score, p in inference.test.p_values.items()}
    n_distinct = inference.test.relabellings.n_distinct
    if n_distinct.bit_length() < 1000:  # a larger one is no float
        values["n_relabellings"] = n_distinct
    if inference.stability is not None:
        for name, (value, p) in inference.stability.summarise().items():
            values |= {f"stability_{name}": value, f"p_value/stability_{name}": p}
    return values


def _describe_inference(inference: "Inference") -> list[str]:
    """Return the table of p-values and, in words, what they mean."""
    test = inference.test
    lines = ["| score | p | mean of the null distribution | its 95th percentile |", "|---|---|---|---|"]
    for score, p in test.p_values.items():
        note = "" if score == test.primary else " (not corrected)"
        band = test.band(score)
        shown = ["-", "-"] if band is None else [f"{value:.3f}" for value in band]
        lines.append(f"| {quote_markdown(score)} | {format_p(p)}{note} | {shown[0]} | {shown[1]} |")
    described = [test.statement, *inference.describe_maps()]
    lines += ["", *(quote_markdown(text) for text in described)]
    return [*lines, "", *(f"- {quote_markdown(text)}" for text in (*test.cautions, *inference.notices))]


def _describe_audit(result: "RunResult") -> list[str]:
    """Return the cautions and leaks in Markdown, the worst first, and what the standardisation assumes."""
    findings = sort_findings(result.findings)
    lines = [
        f"**audit: {worst_verdict(findings).value}** ({count_verdicts(findings)}; all in audit.json)",
        "",
    ]
    lines += [
        f"- {finding.verdict.value}, {quote_markdown(finding.rule)}: {quote_markdown(finding.evidence)}"
        for finding in findings
        if finding.verdict != Verdict.ok or finding.rule in ALWAYS_DESCRIBED
    ]
    return lines


def quote_markdown(text: str) -> str:
    """Escape a text so that Markdown shows it as it is: no HTML, links, code, table cells or emphasis."""
    line = escape_controls(text).replace("\n", " ")
    marked = re.sub(r"[\\`*\[\]|!~]|(?<!\w)_|_(?!\w)", r"\\\g<0>", line)
    return html.escape(marked, quote=False)


def dataset_input(decoding: "Decoding") -> DatasetInput:
    """Return the data set that MLflow shows as the input of the run."""
    recording, samples = decoding.recording, decoding.samples
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
