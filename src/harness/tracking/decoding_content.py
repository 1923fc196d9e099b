"""What a decoding logs to its MLflow run: metrics, tags, and a note in Markdown."""

import math
import time
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.entities import Metric

from harness.checks.findings import worst_verdict
from harness.decoding.scores import nominal_chance
from harness.inference.corrections import format_p
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
from harness.tracking.tags import (
    INFERENCE_TAG,
    NOTE_TAG,
    POSITIVE_TAG,
    PRIMARY_TAG,
    RELABELLINGS_TAG,
)

if TYPE_CHECKING:
    from harness.decoding.decode import Decoding
    from harness.inference.run_inference import Inference
    from harness.tracking.run_result import RunResult


def describe_decoding(
    result: "RunResult", artifacts: Path, seconds: Mapping[str, float], run_id: str = ""
) -> RunContent:
    """Return what a decoding logs.

    Parameters
    ----------
    artifacts : Path
        Directory with the files of the run.
    seconds : mapping of str to float
        Wall time of the stages.
    run_id : str
        Of the run whose page shows the figure.
    """
    decoding = result.decoding
    figure = _find_figure(decoding, artifacts)
    image = None if figure is None else image_link(run_id, figure.name)
    return RunContent(
        params=count_params(decoding.samples, len(decoding.folds), len(decoding.skipped)),
        metrics=(*summary_metrics(result, seconds), *fold_metrics(decoding)),
        tags=_result_tags(result) | {NOTE_TAG: describe_run(result, image)},
        dataset=dataset_input(decoding.samples),
        figure=figure,
    )


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

    Test scores come first. MLflow's tables show the last fold of a stepped metric, which is why the mean has
    a name of its own.
    """
    decoding = result.decoding
    scores = decoding.flat_scores()
    values = {key: scores[key] for key in sorted(scores, key=lambda key: not key.startswith("test_"))}
    values |= decoding.optimism | {"train_accuracy": decoding.train_accuracy}
    if result.inference is not None:
        values |= inference_metrics(result.inference)
    return list_metrics(values, seconds)


def _find_figure(decoding: "Decoding", artifacts: Path) -> Path | None:
    """Return the figure that stands for a run, that of the first weights, if it was drawn."""
    files = [artifacts / f"weights_{weights.name}.png" for weights in decoding.weights[:1]]
    return next((file for file in files if file.is_file()), None)


def _result_tags(result: "RunResult") -> dict[str, str]:
    """Return the tags that are known only after the data were read, without the note."""
    decoding = result.decoding
    tags = common_tags(decoding.samples, result.findings, decoding.notices, len(decoding.warnings))
    if decoding.weights:
        tags[POSITIVE_TAG] = ", ".join(weights.positive for weights in decoding.weights)
    if result.inference is not None:
        tags[INFERENCE_TAG] = result.inference.test.method
        tags[PRIMARY_TAG] = result.inference.test.primary
        if not result.inference.test.sequential:  # other tests with the same rows can be corrected together
            tags[RELABELLINGS_TAG] = result.inference.test.relabellings.digest
    return tags


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
        lines += ["", *list_verdicts(result.findings)]
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
