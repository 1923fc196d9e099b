"""The permutation test of a run: its scores against those of the complete analysis under relabellings."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.decoding.decode import choose_engine
from harness.decoding.decoder import fit_decoder
from harness.decoding.evaluation import FitDecoder, Progress
from harness.decoding.question import Question
from harness.decoding.splitters import split_samples
from harness.errors import DesignError, HarnessError
from harness.inference.checkpoint import Arrays, Checkpoint, digest_work
from harness.inference.chunked_work import ProgressClock, compute_chunks
from harness.inference.corrections import TOLERANCE, besag_clifford, drop_observed, format_p, reaches
from harness.inference.null_scores import NullScores, RelabelledAnalysis, strip_samples
from harness.inference.relabelling import Relabellings, plan_relabellings
from harness.inference.settings import PermutationSettings
from harness.samples.block_table import tabulate_blocks
from harness.samples.samples import RecordedSamples, Samples
from harness.solvers.estimators import ExactLinearSVC, ExactRidgeClassifierCV

EXCEEDANCES = 10
"""Relabellings with at least the observed score that end a test with `stop_early`."""

STAGE = "permutation test"


@dataclass(frozen=True, eq=False)
class PermutationTest:
    """Scores under relabellings, and p-values.

    Attributes
    ----------
    scores : DataFrame, one row per relabelling
        Mean over folds of every score of the run, without the scores of single classes. Row 0 is the true
        labelling.
    p_values : dict of str to float
        One-sided, by column of `scores`. Enumerated: the share of distinct relabellings, the true one
        included, that score at least as high as the true one; random: (b + 1) / (m + 1), where b of m random
        relabellings do.
    lower_shares : dict of str to float
        The share that scores at most as high. Small values mean a score far below chance. Empty for
        a sequential test.
    relabellings : Relabellings
        Those that the rows of `scores` are of, in their order unless the test is sequential.
    primary : str
        The score whose p-value needs no correction for several scores.
    sequential : bool
        Whether the test was to end as soon as enough relabellings score as high.
    decisions : ndarray of shape (n_computed, n_problems, n_samples)
        Decision values of the selected decoder, the mean over folds, on all samples; for two classes above
        zero for the class that comes second in alphabetical order.
    """

    scores: pd.DataFrame
    p_values: Mapping[str, float]
    lower_shares: Mapping[str, float]
    relabellings: Relabellings
    primary: str
    cautions: tuple[str, ...]
    decisions: NDArray[np.float64]
    sequential: bool

    @property
    def method(self) -> str:
        """``"enumerated"`` or ``"random"``."""
        return "enumerated" if self.relabellings.enumerated else "random"

    @property
    def n_distinct(self) -> int:
        """Distinct relabellings that the design has, the true one included."""
        return self.relabellings.n_distinct

    @property
    def n_computed(self) -> int:
        """Rows of `scores`, the true labelling included."""
        return len(self.scores)

    @property
    def observed(self) -> Mapping[str, float]:
        """The scores of the true labelling."""
        return {str(name): float(score) for name, score in self.scores.iloc[0].items()}

    @property
    def statement(self) -> str:
        """The result of the primary score in one sentence."""
        if self.primary not in self.p_values:
            return f"{self.primary} is not defined, and has no p-value."
        kind = "distinct" if self.method == "enumerated" else "random"
        reached = int(reaches(self.scores[self.primary].to_numpy()[1:], self.observed[self.primary]).sum())
        ended = ", where the test ended" if self.sequential else ""
        return (
            f"{self.primary} {self.observed[self.primary]:.3f}: {reached} of {self.n_computed - 1} other "
            f"{kind} relabellings of the blocks score at least as high{ended}; p = "
            f"{format_p(self.p_values[self.primary])} (one-sided)."
        )

    def band(self, column: str) -> tuple[float, float] | None:
        """Return the mean and the 95th percentile of a score under the null hypothesis.

        None for a sequential test: how many relabellings it computes depends on their scores.
        """
        if self.sequential:
            return None
        null = drop_observed(self.scores[column].to_numpy(), self.relabellings.enumerated)
        return float(np.nanmean(null)), float(np.nanpercentile(null, 95))


def run_permutation_test(
    samples: Samples,
    question: Question,
    settings: PermutationSettings,
    observed: Mapping[str, float] | None = None,
    *,
    fit: FitDecoder | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    processes: int = 1,
) -> PermutationTest:
    """Repeat the complete analysis under relabellings of the blocks, and compare the scores.

    Everything that depends on labels is repeated: the choice of parameters, screening, inner folds, and outer
    folds of stratified schemes [1]_.

    Parameters
    ----------
    observed : mapping of str to float, optional
        Mean scores of the run by the names of `PermutationTest.scores`; they have to be reproduced.
    fit : callable, optional
        The engine; by default that of the question.
    progress : callable, optional
        Called with the stage, which includes the time left, the relabellings computed and those in all.
    checkpoint : Path, optional
        Directory where computed relabellings are stored, and read again.
    processes : int
        Processes that share the work. The result does not depend on their number.

    Raises
    ------
    HarnessError
        If the design does not allow the test, the estimator is a dummy, the observed scores cannot be
        reproduced, or a worker process was killed.

    References
    ----------
    .. [1] Phipson, Smyth (2010), Statistical Applications in Genetics and Molecular Biology 9:39,
       doi:10.2202/1544-6115.1585: permutation p-values are never zero.
    """
    if question.estimator.is_dummy:
        raise DesignError(
            f"estimator={question.estimator.name} predicts from the labels alone, so that no permutation "
            "test of it has a meaning; leave out inference=permutation"
        )
    if fit is None:
        fit = choose_engine(samples, question) if isinstance(samples, RecordedSamples) else fit_decoder
    analysis = RelabelledAnalysis(strip_samples(samples), question, fit)
    relabellings = plan_relabellings(samples, settings)
    if not analysis.is_symmetric and not analysis.treats_classes_alike(relabellings):
        relabellings = plan_relabellings(samples, settings, symmetric=False)
    store = Checkpoint(checkpoint, "" if checkpoint is None else _digest_test(analysis, relabellings))
    order = _order_rows(relabellings, settings)
    size = analysis.chunk_size
    chunks = [order[start : start + size] for start in range(0, len(order), size)]
    parts: list[NullScores] = []
    clock = ProgressClock(progress, STAGE, len(order))
    for chunk in compute_chunks(partial(_compute_rows, analysis, relabellings), chunks, store, processes):
        found = chunk.arrays
        part = NullScores(found["scores"], found["decisions"], int(found["unconverged"]))
        parts.append(part)
        if len(parts) == 1 and observed is not None:
            _check_observed(analysis.columns, part.scores[0], observed)
        clock.report(len(chunk.rows), chunk.is_new)
        if settings.stop_early and _have_enough(parts):
            break
    table = pd.DataFrame(np.concatenate([part.scores for part in parts]), columns=analysis.columns)
    defined = [name for name in analysis.columns if math.isfinite(table[name].iloc[0])]
    return PermutationTest(
        scores=table,
        p_values={name: _p_value(table[name].to_numpy(), settings) for name in defined},
        lower_shares={}
        if settings.stop_early
        else {name: _lower_share(table[name].to_numpy()) for name in defined},
        relabellings=relabellings,
        primary=_choose_primary(question),
        cautions=(
            *relabellings.cautions,
            *_caution_split_blocks(samples, question),
            *_caution_convergence(parts),
        ),
        decisions=np.concatenate([part.decisions for part in parts]),
        sequential=settings.stop_early,
    )


def estimate_seconds(
    samples: Samples,
    question: Question,
    settings: PermutationSettings,
    decoding_seconds: float | None = None,
    processes: int = 1,
) -> tuple[int, float]:
    """Return how many relabellings a test has, and about how many seconds it takes.

    Parameters
    ----------
    decoding_seconds : float, optional
        Duration of the decoding of the run, which is scaled. Without it, one relabelling is computed.

    Raises
    ------
    HarnessError
        If the design does not allow the test.
    """
    relabellings = plan_relabellings(samples, settings)
    analysis = RelabelledAnalysis(strip_samples(samples), question)
    n = len(relabellings)
    if decoding_seconds is None:
        rows = range(min(n, 16 if analysis.is_batched else 1))
        start = time.perf_counter()
        analysis.compute(relabellings, rows)
        return n, (time.perf_counter() - start) / len(rows) * n / processes
    return n, decoding_seconds * _relative_cost(analysis) * n / processes


def _relative_cost(analysis: RelabelledAnalysis) -> float:
    """Return the time of one of many relabellings, relative to that of a run by itself."""
    if not analysis.is_batched:
        return 1.0
    # Measured on 216 volumes of 577 voxels: factorisations are shared, Newton steps are not.
    match analysis.question.estimator.model:
        case ExactRidgeClassifierCV():
            return 0.03
        case ExactLinearSVC():
            return 0.45
    return 0.9


# The work ---------------------------------------------------------------------------------------------------


def _order_rows(relabellings: Relabellings, settings: PermutationSettings) -> list[int]:
    """Return the rows in the order in which they are computed: a random one for a test that ends early."""
    rows = np.arange(1, len(relabellings))
    if settings.stop_early and relabellings.enumerated:
        rows = np.random.default_rng(np.random.SeedSequence([settings.seed, 0])).permutation(rows)
    return [0, *rows.tolist()]


def _digest_test(analysis: RelabelledAnalysis, relabellings: Relabellings) -> str:
    """Return what identifies the scores of a test: samples, question, relabellings and code."""
    samples = analysis.samples
    arrays = (samples.X, samples.y, samples.runs, samples.conditions, samples.preparation)
    return digest_work(analysis.question, arrays, analysis.is_batched, relabellings.digest)


def _compute_rows(analysis: RelabelledAnalysis, relabellings: Relabellings, rows: Sequence[int]) -> Arrays:
    """Return the scores of some relabellings as arrays."""
    found = analysis.compute(relabellings, rows)
    return {name: np.asarray(value) for name, value in vars(found).items()}


def _check_observed(
    columns: Sequence[str], scores: NDArray[np.float64], observed: Mapping[str, float]
) -> None:
    """Raise unless the true labelling has the scores of the run."""
    for name, score in zip(columns, scores.tolist(), strict=True):
        other = float(observed[name])
        if not math.isclose(score, other, rel_tol=0, abs_tol=1e-9) and not (
            math.isnan(score) and math.isnan(other)
        ):
            raise HarnessError(
                f"the permutation test computes {name} = {score!r} for the true labels, but the run has "
                f"{other!r}; scores have to be reproducible. If the estimator or the scheme draws random "
                "numbers, give it a random_state"
            )


# P-values ---------------------------------------------------------------------------------------------------


def _have_enough(parts: Sequence[NullScores]) -> bool:
    """Return whether every score has been reached often enough for a sequential p-value."""
    scores = np.concatenate([part.scores for part in parts])
    return bool((reaches(scores[1:], scores[0]).sum(axis=0) >= EXCEEDANCES).all())


def _p_value(scores: NDArray[np.float64], settings: PermutationSettings) -> float:
    """Return the p-value of the first score; the others are those of relabellings.

    (b + 1) / (m + 1) is the share of distinct relabellings where all were enumerated.
    """
    if settings.stop_early:
        return besag_clifford(float(scores[0]), scores[1:], EXCEEDANCES).p
    return float(reaches(scores, scores[0]).mean())


def _lower_share(scores: NDArray[np.float64]) -> float:
    """Return the share of relabellings, the true one included, that score at most as high as the true one."""
    return float((~(scores > scores[0] + TOLERANCE)).mean())


def _choose_primary(question: Question) -> str:
    scoring = question.scoring
    return f"test_{scoring.select if scoring.select in scoring.report else scoring.report[0]}"


def _caution_split_blocks(samples: Samples, question: Question) -> list[str]:
    """Return a caution if blocks have volumes on both sides of a split."""
    table = tabulate_blocks(samples)
    sizes = np.bincount(table.of_sample)
    for _, held_out in split_samples(samples, question.scheme).folds.values():
        counts = np.bincount(table.of_sample[held_out], minlength=len(sizes))
        if ((counts > 0) & (counts < sizes)).any():
            return [
                f"cv={question.scheme.name} splits blocks: p is valid, but the score is not an "
                "estimate of generalisation; compare it with the mean of the null distribution"
            ]
    return []


def _caution_convergence(parts: Sequence[NullScores]) -> list[str]:
    n = sum(part.unconverged for part in parts)
    return [f"up to {n} relabellings have decoders that did not converge"] if n else []
