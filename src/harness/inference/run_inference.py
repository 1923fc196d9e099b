"""What a run infers from relabellings: p-values of its scores, tests of its maps, and their stability."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.decoding.decode import choose_engine
from harness.decoding.evaluation import FitDecoder, Progress
from harness.decoding.question import Question
from harness.errors import DesignError
from harness.inference.corrections import ALPHA, format_p
from harness.inference.map_stability import MapStability, choose_rows, measure_stability
from harness.inference.pattern_maps import PatternPMap, map_pattern_p
from harness.inference.permutation import PermutationTest, run_permutation_test
from harness.inference.settings import PermutationSettings
from harness.samples.samples import RecordedSamples

STAGE = "stability of the maps"


@dataclass(frozen=True, eq=False)
class Inference:
    """The permutation test of a run, and what the same relabellings say about its maps.

    Attributes
    ----------
    patterns : tuple of PatternPMap
        Empty where the maps were not tested.
    stability : MapStability or None
        Likewise None.
    notices : tuple of str
        Why maps were not tested.
    """

    test: PermutationTest
    patterns: tuple[PatternPMap, ...] = ()
    stability: MapStability | None = None
    notices: tuple[str, ...] = ()

    def describe_maps(self) -> list[str]:
        """Return what was found of the maps, a sentence each."""
        lines = []
        for pattern in self.patterns:
            found = int((np.asarray(pattern.p_fwe.dataobj) <= ALPHA).sum())
            lines.append(
                f"pattern {pattern.name}: {found} voxel(s) covary with the decoder's output (p <= {ALPHA}, "
                "two-sided, corrected over voxels)"
            )
        if self.stability is not None:
            shown = ", ".join(
                f"{name} {value:.2f} (p = {format_p(p)})"
                for name, (value, p) in self.stability.summarise().items()
            )
            n = len(self.stability.weights)
            lines.append(
                f"correlation between maps of disjoint halves of the scanner runs, {n} labellings: {shown}"
            )
        return lines


def run_inference(
    samples: RecordedSamples,
    question: Question,
    settings: PermutationSettings,
    observed: Mapping[str, float] | None = None,
    *,
    fit: FitDecoder | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    processes: int = 1,
) -> Inference:
    """Test the scores and, unless `settings.maps` is False, the maps of a run.

    Parameters and errors are those of `harness.inference.permutation.run_permutation_test`.
    """
    fit = fit or choose_engine(samples, question)
    test = run_permutation_test(
        samples,
        question,
        settings,
        observed,
        fit=fit,
        progress=progress,
        checkpoint=checkpoint,
        processes=processes,
    )
    if not settings.maps:
        return Inference(test)
    if settings.stop_early:
        return Inference(test, notices=("maps are not tested with inference.stop_early",))
    relabellings = test.relabellings
    n_renamings = relabellings.n_total // relabellings.n_distinct
    merged = n_renamings > 1
    if merged and n_renamings != math.factorial(len(question.contrast.classes)):
        reason = "maps are not tested: some of the classes have other numbers of blocks than others"
        return Inference(test, notices=(reason,))
    labels = np.stack([relabellings.labels(row) for row in range(len(relabellings))])
    patterns = map_pattern_p(samples, test.decisions, labels, renamings_merged=merged)
    rows = choose_rows(len(relabellings))

    def report(done: int) -> None:
        if progress is not None:
            progress(STAGE, done, len(rows))

    try:
        stability = measure_stability(
            samples,
            labels[rows],
            question.estimator,
            question.scoring.select,
            fit=fit,
            progress=report,
        )
    except DesignError as error:
        return Inference(test, tuple(patterns), notices=(f"the stability is not measured: {error}",))
    return Inference(test, tuple(patterns), stability)
