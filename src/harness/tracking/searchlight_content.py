"""What a searchlight logs to its MLflow run: metrics, tags, and a note in Markdown."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.checks.findings import Finding, worst_verdict
from harness.decoding.scores import nominal_chance
from harness.inference.corrections import format_p
from harness.searchlight.descriptions import describe_correction, describe_within
from harness.tracking.run_content import (
    RunContent,
    common_tags,
    count_params,
    dataset_input,
    image_link,
    list_metrics,
    list_verdicts,
    quote_markdown,
)
from harness.tracking.tags import INFERENCE_TAG, NOTE_TAG, RELABELLINGS_TAG

if TYPE_CHECKING:
    from harness.searchlight.result import SearchlightResult


def describe_searchlight(
    result: "SearchlightResult",
    findings: Sequence[Finding],
    artifacts: Path,
    seconds: Mapping[str, float],
    run_id: str = "",
) -> RunContent:
    """Return what a searchlight logs.

    Parameters
    ----------
    findings : sequence of Finding
        Of the audit.
    artifacts : Path
        Directory with the files of the run.
    seconds : mapping of str to float
        Wall time of the stages.
    run_id : str
        Of the run whose page shows the figure.
    """
    samples = result.samples
    tags = common_tags(samples, findings, list_notices(result), len(result.warnings))
    if result.test is not None:
        relabellings = result.test.relabellings
        tags[INFERENCE_TAG] = "enumerated" if relabellings.enumerated else "random"
        tags[RELABELLINGS_TAG] = relabellings.digest
    figure = _find_figure(result, artifacts)
    image = None if figure is None else image_link(run_id, figure.name)
    return RunContent(
        params=count_params(samples, result.n_folds, len(result.skipped)),
        metrics=tuple(list_metrics(summarise_map(result), seconds)),
        tags=tags | {NOTE_TAG: describe_map(result, findings, image)},
        dataset=dataset_input(samples),
        figure=figure,
    )


def summarise_map(result: "SearchlightResult") -> dict[str, float]:
    """Return the numbers that searchlights are compared by.

    Returns
    -------
    values : dict of str to float
        ``max_score, median_score, n_spheres``; with a test ``max_z, median_null_mean, n_corrected``
        (voxels with p <= .05 by the chosen correction), ``n_corrected/NAME`` and ``threshold/NAME`` of every
        correction, ``smallest_p_fwe`` (by the maximum statistic), ``smallest_p_fwe/NAME`` and
        ``n_relabellings``. Undefined ones are left out.
    """
    scores = result.score_map[np.isfinite(result.score_map)]
    values = {"n_spheres": float(len(result.spheres))}
    if len(scores):
        values = {"max_score": float(scores.max()), "median_score": float(np.median(scores))} | values
    if (test := result.test) is None:
        return values
    chosen = test.corrected[result.settings.correction]
    values["max_z"] = float(test.z.max())
    values["median_null_mean"] = test.median_null_mean
    values["n_corrected"] = float(chosen.n_significant)
    for name, corrected in test.corrected.items():
        values[f"n_corrected/{name}"] = float(corrected.n_significant)
        values[f"smallest_p_fwe/{name}"] = corrected.smallest_p
        if corrected.threshold is not None:
            values[f"threshold/{name}"] = float(corrected.threshold)
    values["smallest_p_fwe"] = test.corrected["maximum"].smallest_p
    if test.relabellings.n_distinct.bit_length() < 1000:  # a larger one is no float
        values["n_relabellings"] = float(test.relabellings.n_distinct)
    return {name: value for name, value in values.items() if math.isfinite(value)}


def list_notices(result: "SearchlightResult") -> list[str]:
    """Return the notice of the data set, if it has one, the cautions of the test, and all warnings."""
    notice = result.recording.notice
    cautions = () if result.test is None else result.test.cautions
    return [
        *([] if notice is None else [notice]),
        *(f"caution: {text}" for text in cautions),
        *(f"warning: {text}" for text in result.warnings),
    ]


def describe_map(result: "SearchlightResult", findings: Sequence[Finding], image: str | None = None) -> str:
    """Return the Markdown text that the MLflow UI shows above a run: question, answer and figure first.

    Parameters
    ----------
    image : str, optional
        Link to a figure of the map.
    """
    samples, settings, question = result.samples, result.settings, result.question
    tested = None if result.test is None else settings.correction
    words = (
        f"{' vs '.join(samples.contrast.classes)}, centres in {question.roi.name}, radius "
        f"{settings.radius:g} mm, {question.estimator.name}, cv={question.scheme.name}"
    )
    lines = [
        f"**Question:** where does a sphere around a voxel of "
        f"{quote_markdown(result.recording.dataset)} subject {result.recording.subject} distinguish "
        f"{quote_markdown(words)}? {len(samples.y)} volumes, {len(result.spheres)} spheres.",
        "",
        f"**Answer:** {quote_markdown(_describe_answer(result, findings))}",
        "",
        *([f"![map on slices of the brain]({image})", ""] if image else []),
        f"A voxel has the score of the sphere around it. {describe_within(tested)}",
    ]
    if result.test is not None:
        lines += ["", *(f"- {quote_markdown(text)}" for text in result.test.cautions)]
    if result.recording.notice:
        lines += ["", f"**{quote_markdown(result.recording.notice)}**"]
    if findings:
        lines += ["", *list_verdicts(findings)]
    if result.warnings:
        lines += ["", *(f"- warning: {quote_markdown(text)}" for text in result.warnings)]
    return "\n".join(lines)


def _describe_answer(result: "SearchlightResult", findings: Sequence[Finding]) -> str:
    """Return in a sentence the highest score, nominal chance, what the test found, and the worst verdict."""
    values, scorer = summarise_map(result), result.settings.scorer
    chance = nominal_chance(f"test_{scorer}", len(result.samples.contrast.classes))
    words = [f"highest {scorer} {values.get('max_score', math.nan):.3f} (nominal chance {chance:.3f})"]
    if result.test is None:
        words.append("not tested, so no p-value")
    else:
        n = int(values["n_corrected"])
        words.append(describe_correction(n, len(result.spheres), result.settings.correction))
        words.append(f"smallest p corrected by the maximum {format_p(values['smallest_p_fwe'])}")
    if findings:
        words.append(f"audit: {worst_verdict(findings).value}")
    return "; ".join(words) + "."


def _find_figure(result: "SearchlightResult", artifacts: Path) -> Path | None:
    """Return the figure that stands for a run, if it was drawn."""
    file = artifacts / f"searchlight_{result.samples.contrast.name}.png"
    return file if file.is_file() else None
