"""What a run computes from its specification, before anything is stored; a replay computes the same.

What computes is imported inside the functions, so that ``--help`` and completion answer at once.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.app.run_spec import RunSpec

if TYPE_CHECKING:
    from harness.decoding.decode import Decoding
    from harness.decoding.evaluation import Progress
    from harness.inference.run_inference import Inference
    from harness.inference.settings import PermutationSettings
    from harness.samples.samples import RecordedSamples, Sources
    from harness.tracking.run_result import RunResult


class RunData:
    """The data of a run, each part read once; `seconds` and `warnings` grow as they are read.

    Parameters
    ----------
    cached : bool, optional
        Whether masked volumes are read from the cache; by default as the specification says.
    """

    def __init__(self, spec: RunSpec, cached: bool | None = None) -> None:
        from harness.samples.cache import SampleCache

        self.spec = spec
        cached = spec.config["cache"] if cached is None else cached
        self.cache = SampleCache(enabled=None if cached else False)
        self.seconds: dict[str, float] = {}
        self.warnings: tuple[str, ...] = ()

    @cached_property
    def sources(self) -> "Sources":
        """The recording, its mask and its confounds; the image is not yet read."""
        from harness.samples.samples import open_sources

        question = self.spec.question
        with self._reading():
            recording = self.spec.dataset.load(self.spec.subject)
            return open_sources(recording, question.roi, question.signal)

    @cached_property
    def samples(self) -> "RecordedSamples":
        """The samples that are decoded."""
        from harness.decoding.decode import read_question_samples

        sources = self.sources
        with self._reading():
            return read_question_samples(sources, self.spec.question, self.cache)

    def fingerprint(self) -> str:
        """Fingerprint the run; the image is read unless the cache knows its digest."""
        from harness.app.allowed_targets import list_classes
        from harness.app.normalisation import normalise
        from harness.tracking.fingerprint import fingerprint_run

        config = {key: value for key, value in self.spec.config.items() if key != "dataset"}
        digest = self.cache.find_digest(self.sources.recording.bold) or self.samples.image_digest
        return fingerprint_run(normalise(config), self.sources, digest, list_classes(config))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        from harness.decoding.decode import collect_warnings, count_messages, timed

        with timed(self.seconds, "data"), collect_warnings() as caught:
            yield
        self.warnings += count_messages(caught)


def compute_result(
    data: RunData, progress: "Progress", single: bool, checkpoint: Path | None = None
) -> "RunResult":
    """Decode, test and audit a run; nothing is stored.

    Parameters
    ----------
    single : bool
        Whether it is the only run of its command: a permutation test then uses every core, and its estimated
        duration is printed.
    checkpoint : Path, optional
        Directory in which the relabellings of an interrupted test are kept.

    Raises
    ------
    HarnessError
        If the data cannot be used, or the question does not fit them.
    """
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
    return RunResult(decoding, tuple(findings), inference)


def tag_foreign_code(config: Mapping[str, Any]) -> dict[str, str]:
    """Return tags with the digests of the code that is not the harness's: of a user's own classes."""
    from harness.app.allowed_targets import list_classes
    from harness.tracking.fingerprint import digest_foreign_code
    from harness.tracking.tags import CODE_TAG

    digests = digest_foreign_code(list_classes(config))
    return {f"{CODE_TAG}.{package}": digest for package, digest in digests.items()}


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
