"""A run that decodes a region: what it computes, and how it is written, logged and shown."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.app.computation import RunData
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.decoding.decode import Decoding
    from harness.decoding.evaluation import Progress
    from harness.inference.run_inference import Inference
    from harness.inference.settings import PermutationSettings
    from harness.tracking.run_content import RunContent
    from harness.tracking.run_result import RunResult
    from harness.tracking.run_writer import TrackedRun


@dataclass(frozen=True, eq=False)
class ComputedDecoding:
    """A decoding that was computed; see `harness.app.computation.ComputedRun`."""

    result: "RunResult"

    @property
    def seconds(self) -> Mapping[str, float]:
        """Wall time of the stages after reading."""
        return self.result.decoding.seconds

    @property
    def scores(self) -> Mapping[str, float]:
        """Mean and SD over folds of every score."""
        return self.result.decoding.flat_scores()

    @property
    def notices(self) -> list[str]:
        """Notices and warnings."""
        return self.result.decoding.notices

    @property
    def audit(self) -> str:
        """The worst verdict of the audit."""
        from harness.checks.findings import worst_verdict

        return worst_verdict(self.result.findings).value

    def write(self, directory: Path, config: str, figures: str) -> "ComputedDecoding":
        """Write the files; see `harness.report.artifacts.write_artifacts`."""
        from harness.report.artifacts import write_artifacts

        return ComputedDecoding(write_artifacts(self.result, directory, config, figures))

    def describe(self, directory: Path, seconds: Mapping[str, float], run_id: str = "") -> "RunContent":
        """Return what is logged."""
        from harness.tracking.decoding_content import describe_decoding

        return describe_decoding(self.result, directory, seconds, run_id)

    def log_model(self, run_id: str, uri: str) -> None:
        """Log the decoder as an MLflow model."""
        from harness.decoding.decoder_record import record_decoder
        from harness.tracking.model_export import log_model

        log_model(record_decoder(self.result.decoding), run_id, uri)

    def show(self, name: str, where: str, tracked: "TrackedRun | None") -> None:
        """Print the scores."""
        from harness.report.run_summary import print_run

        print_run(self.result, name, where, tracked, _suggest_test(self.result.decoding))


def compute_decoding(
    data: RunData, progress: "Progress", single: bool, checkpoint: Path | None = None
) -> ComputedDecoding:
    """Decode, test and audit a run; see `harness.app.computation.compute_run`."""
    from harness.checks.result_audit import audit_result
    from harness.checks.split_audit import audit_split
    from harness.decoding.decode import decode_samples
    from harness.tracking.run_result import RunResult

    settings, question = _plan_test(data), data.spec.question
    findings = audit_split(data.samples, question)
    decoding = decode_samples(data.samples, question, progress=progress)
    decoding = replace(decoding, warnings=(*data.warnings, *decoding.warnings))
    inference = None
    if settings is not None:
        inference = _infer(data, settings, decoding, progress, single, checkpoint)
    lower = None if inference is None else inference.test.lower_shares
    findings += audit_result(decoding, lower_shares=lower)
    return ComputedDecoding(RunResult(decoding, tuple(findings), inference))


def _plan_test(data: RunData) -> "PermutationSettings | None":
    """Return how the scores are tested, None for no test; refuse before anything is decoded."""
    settings, question = data.spec.permutation, data.spec.question
    if settings is None:
        return None
    if question.estimator.is_dummy:
        notice = f"{question.estimator.name}: no p-value, because a dummy predicts from the labels alone"
        data.warnings += (notice,)
        return None
    from harness.inference.relabelling import plan_relabellings

    plan_relabellings(data.samples, settings)
    return settings


def _infer(
    data: RunData,
    settings: "PermutationSettings",
    decoding: "Decoding",
    progress: "Progress",
    single: bool,
    checkpoint: Path | None,
) -> "Inference":
    """Test scores and maps by permutation."""
    from harness.decoding.decode import timed
    from harness.inference.chunked_work import count_cores
    from harness.inference.run_inference import run_inference

    processes = settings.processes or (count_cores() if single else 1)
    if single:
        print(f"inference: {estimate_test(decoding, settings, processes)}", file=sys.stderr)
    with timed(data.seconds, "inference"):
        return run_inference(
            decoding.samples,
            decoding.question,
            settings,
            decoding.mean_scores(),
            progress=progress,
            checkpoint=checkpoint,
            processes=processes,
        )


def estimate_test(decoding: "Decoding", settings: "PermutationSettings", processes: int) -> str:
    """Return how many relabellings a test has, and about how long they take."""
    from harness.decoding.choices import InnerFolds
    from harness.inference.chunked_work import format_duration
    from harness.inference.permutation import estimate_seconds

    question, seconds = decoding.question, decoding.seconds["decoding"]
    n, duration = estimate_seconds(decoding.samples, question, settings, seconds, processes)
    words = f"{n} relabellings, about {format_duration(duration)}"
    if question.scoring.inner == InnerFolds.runs:
        return words
    by_runs = replace(question, scoring=replace(question.scoring, inner="runs", inner_folds=10))
    _, faster = estimate_seconds(decoding.samples, by_runs, settings, seconds, processes)
    return words if faster > duration / 2 else f"{words} ({format_duration(faster)} with scoring.inner=runs)"


def _suggest_test(decoding: "Decoding") -> str:
    """Return the option that adds a permutation test and how long it would take, or why it is refused."""
    from harness.inference.chunked_work import count_cores
    from harness.inference.settings import PermutationSettings

    if decoding.question.estimator.is_dummy:
        return ""
    try:
        estimate = estimate_test(decoding, PermutationSettings(), count_cores())
    except HarnessError as error:
        return f"test     inference=permutation would be refused: {error}"
    return f"test     add inference=permutation for p-values: {estimate}"
