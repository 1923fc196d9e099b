"""A run that maps a searchlight: what it computes, and how it is written, logged and shown."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.app.computation import RunData
from harness.errors import HarnessError, UsageError

if TYPE_CHECKING:
    from harness.checks.findings import Finding
    from harness.decoding.evaluation import Progress
    from harness.decoding.question import Question
    from harness.inference.settings import PermutationSettings
    from harness.searchlight.result import SearchlightResult
    from harness.tracking.run_content import RunContent
    from harness.tracking.run_writer import TrackedRun

LONG_TEST = 60.0  # seconds; for a longer test, a faster estimator is named


@dataclass(frozen=True, eq=False)
class ComputedSearchlight:
    """A searchlight that was computed; see `harness.app.computation.ComputedRun`.

    Attributes
    ----------
    findings : tuple of Finding
        One per rule of the audit.
    hint : str
        The option that adds a test, or why it would be refused; empty for a tested map.
    """

    result: "SearchlightResult"
    findings: tuple["Finding", ...]
    hint: str = ""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Wall time of the stages after reading."""
        return self.result.seconds

    @property
    def scores(self) -> Mapping[str, float]:
        """The highest and the median score of the map, and what the test found."""
        from harness.tracking.searchlight_content import summarise_map

        return summarise_map(self.result)

    @property
    def notices(self) -> list[str]:
        """Notices and warnings."""
        from harness.tracking.searchlight_content import list_notices

        return list_notices(self.result)

    @property
    def audit(self) -> str:
        """The worst verdict of the audit."""
        from harness.checks.findings import worst_verdict

        return worst_verdict(self.findings).value

    def write(self, directory: Path, config: str, figures: str) -> "ComputedSearchlight":
        """Write the files; see `harness.report.searchlight_artifacts.write_searchlight`."""
        from harness.report.searchlight_artifacts import write_searchlight

        result = write_searchlight(self.result, self.findings, directory, config, figures)
        return replace(self, result=result)

    def describe(self, directory: Path, seconds: Mapping[str, float], run_id: str = "") -> "RunContent":
        """Return what is logged."""
        from harness.tracking.searchlight_content import describe_searchlight

        return describe_searchlight(self.result, self.findings, directory, seconds, run_id)

    def log_model(self, run_id: str, uri: str) -> None:
        """Refuse: a searchlight has no decoder of its own."""
        raise UsageError("a searchlight has no decoder of its own to log; leave out model=true")

    def show(self, name: str, where: str, tracked: "TrackedRun | None") -> None:
        """Print the summary of the map."""
        from harness.report.searchlight_summary import print_searchlight

        print_searchlight(self.result, self.findings, name, where, tracked, self.hint)


def compute_searchlight(
    data: RunData, progress: "Progress", single: bool, checkpoint: Path | None = None
) -> ComputedSearchlight:
    """Map, test and audit a searchlight; see `harness.app.computation.compute_run`."""
    from harness.checks.split_audit import audit_split
    from harness.inference.chunked_work import count_cores
    from harness.inference.relabelling import plan_relabellings
    from harness.searchlight.run import check_options, run_searchlight

    settings, question, permutation = data.spec.searchlight, data.spec.question, data.spec.permutation
    assert settings is not None
    check_options(question, permutation)
    samples, centres = data.samples, data.centres
    findings = audit_split(samples, _without_grid(question))
    processes = settings.processes or (count_cores() if single else 1)
    if permutation is not None:
        plan_relabellings(samples, permutation)  # refused before anything is decoded
        if single:
            print(f"inference: {estimate_test(data, permutation, processes)}", file=sys.stderr)
    result = run_searchlight(
        samples,
        centres,
        question,
        settings,
        permutation,
        progress=progress,
        checkpoint=checkpoint,
        processes=processes,
    )
    result = replace(result, warnings=(*data.warnings, *result.warnings))
    hint = _suggest_test(data) if single and permutation is None else ""
    return ComputedSearchlight(result, tuple(findings), hint)


def estimate_test(data: RunData, permutation: "PermutationSettings", processes: int) -> str:
    """Return how many relabellings the test of a map has, about how long they take, and what is faster."""
    from harness.inference.chunked_work import format_duration
    from harness.searchlight.duration import estimate_map_test
    from harness.searchlight.spheres import find_spheres
    from harness.solvers.estimators import ExactRidgeClassifierCV

    settings, question, samples = data.spec.searchlight, data.spec.question, data.samples
    assert settings is not None
    grid = samples.grid
    spheres = find_spheres(grid.mask, grid.affine, data.centres, settings.radius, settings.min_voxels)
    n, seconds = estimate_map_test(samples, spheres, question, settings, permutation, processes)
    words = f"{n} relabellings of {len(spheres)} spheres, about {format_duration(seconds)}"
    model = question.estimator.model
    is_fastest = isinstance(model, ExactRidgeClassifierCV) and len(model.alphas) == 1
    return words if seconds < LONG_TEST or is_fastest else f"{words}; estimator=ridge_fixed takes less"


def _suggest_test(data: RunData) -> str:
    """Return the option that adds a test, or why it would be refused; nothing is decoded for that."""
    from harness.inference.relabelling import plan_relabellings
    from harness.inference.settings import PermutationSettings

    try:
        plan_relabellings(data.samples, PermutationSettings())
    except HarnessError as error:
        return f"test     inference=permutation would be refused: {error}"
    return "test     add inference=permutation for a map corrected over voxels"


def _without_grid(question: "Question") -> "Question":
    """Return the question without a grid: a searchlight chooses nothing on the fold that is scored."""
    return replace(question, estimator=replace(question.estimator, grid={}))
