"""A searchlight of one recording: the map, its test, and the corrections of the test."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.datasets.recording import Recording
from harness.decoding.choices import Engine, Scorer
from harness.decoding.decode import choose_engine, collect_warnings, count_messages, timed
from harness.decoding.evaluation import Progress
from harness.decoding.question import Question
from harness.decoding.splitters import split_samples
from harness.errors import DesignError, UsageError
from harness.inference.checkpoint import PACKAGES, Checkpoint, digest_work
from harness.inference.corrections import ALPHA, TOLERANCE
from harness.inference.map_stability import choose_rows
from harness.inference.null_scores import (
    RelabelledAnalysis,
    rename_classes,
    scores_are_equal,
    strip_samples,
)
from harness.inference.relabelling import Relabellings, plan_relabellings
from harness.inference.settings import PermutationSettings
from harness.samples.cache import SampleCache
from harness.samples.samples import RecordedSamples
from harness.searchlight.choices import Correction
from harness.searchlight.map_corrections import ZMaps, correct_by_maxima, correct_z_maps, open_z_maps
from harness.searchlight.map_test import CorrectedMap, MapTest
from harness.searchlight.parameters import fix_parameters
from harness.searchlight.result import SearchlightResult
from harness.searchlight.scorers import make_scorer
from harness.searchlight.settings import Searchlight
from harness.searchlight.sphere_maps import NullMaps, SphereMaps, compute_maps
from harness.searchlight.sphere_samples import find_centres, open_sphere_sources, read_sphere_samples
from harness.searchlight.sphere_work import SphereWork
from harness.searchlight.spheres import Spheres, find_spheres
from harness.solvers.estimators import ExactLDA, ExactLinearSVC, ExactRidgeClassifierCV

LARGEST_BATCH = 512
SCORES_OF_BATCH = {"ridge": 2**18, "direct": 2**15, "other": 2**9}
"""Spheres times labellings of a batch: it takes less than a minute, or is a single sphere.

Measured per sphere of 33 voxels and 2048 labellings: ridge 3 to 11 ms, lda and svc 0.5 s; logistic with a
choice of C 0.06 s per labelling, and nilearn's SearchLight about as long.
"""


def map_searchlight(
    recording: Recording,
    question: Question,
    settings: Searchlight | None = None,
    permutation: PermutationSettings | None = None,
    *,
    progress: Progress | None = None,
    cache: SampleCache | None = None,
    processes: int = 1,
) -> SearchlightResult:
    """Read a recording, and decode a sphere around every voxel of `question.roi`.

    Parameters
    ----------
    settings : Searchlight, optional
        By default spheres of 8 mm in the brain mask.
    permutation, progress, processes
        As of `run_searchlight`, and so are the errors.
    cache : SampleCache, optional
        Where masked volumes are kept from one run to the next; by default nothing is kept.

    Examples
    --------
    >>> from sklearn.model_selection import LeaveOneGroupOut
    >>> from harness import Estimator, ExactRidgeClassifierCV, PermutationSettings, Question, Scheme
    >>> from harness import Simulated, make_contrast, map_searchlight
    >>> question = Question(
    ...     make_contrast(["face", "cat"]),
    ...     Estimator("ridge_fixed", ExactRidgeClassifierCV([10.0])),
    ...     Scheme("logo", LeaveOneGroupOut()),
    ... )
    >>> result = map_searchlight(
    ...     Simulated().load(2), question, permutation=PermutationSettings()
    ... )  # doctest: +SKIP
    >>> p_fwe = result.to_image(result.test.corrected["maximum"].p, outside=1.0)  # doctest: +SKIP
    """
    settings = settings or Searchlight()
    with collect_warnings() as caught:
        samples = read_sphere_samples(
            open_sphere_sources(recording, question, settings), question, settings, cache
        )
        centres = find_centres(samples)
    result = run_searchlight(
        samples, centres, question, settings, permutation, progress=progress, processes=processes
    )
    return replace(result, warnings=(*count_messages(caught), *result.warnings))


def run_searchlight(
    samples: RecordedSamples,
    centres: NDArray[np.bool_],
    question: Question,
    settings: Searchlight,
    permutation: PermutationSettings | None = None,
    *,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    processes: int = 1,
) -> SearchlightResult:
    """Decode a sphere around every centre, and test the map by relabelling.

    Parameters
    ----------
    samples : RecordedSamples
        All voxels that spheres may take.
    centres : ndarray of shape (x, y, z), bool
    permutation : PermutationSettings, optional
        How the labels are exchanged; by default the map is not tested.
    progress : callable, optional
        Called with the stage, which includes the time left, the spheres computed and those in all.
    checkpoint : Path, optional
        Directory where computed spheres are stored, and read again.
    processes : int
        Processes that share the work. The result does not depend on their number.

    Raises
    ------
    HarnessError
        If there is no sphere, the estimator is a dummy, the design does not allow the test, or a worker
        process was killed.
    """
    check_options(question, permutation)
    seconds: dict[str, float] = {}
    with collect_warnings() as caught:
        with timed(seconds, "spheres"):
            grid = samples.grid
            spheres = find_spheres(grid.mask, grid.affine, centres, settings.radius, settings.min_voxels)
        split = split_samples(samples, question.scheme)
        relabellings = _plan(samples, question, settings, spheres, permutation)
        computation = _Computation(samples, question, settings, spheres, relabellings, checkpoint, processes)
        with computation.open_z_maps() as z_maps:
            with timed(seconds, "searchlight"):
                maps = computation.compute_spheres(z_maps, progress)
            with timed(seconds, "correction"):
                test = None if maps.nulls is None else computation.test_map(maps.nulls, z_maps, progress)
    return SearchlightResult(
        question=question,
        settings=settings,
        samples=samples,
        spheres=spheres,
        scores=dict(zip([str(name) for name in Scorer], maps.scores, strict=True)),
        test=test,
        n_folds=len(split.folds),
        skipped=split.skipped,
        seconds=seconds,
        warnings=(*_note_parameters(question), *count_messages(caught), *_warn_unconverged(maps)),
    )


@dataclass(frozen=True, eq=False)
class _Computation:
    """One searchlight: its spheres, its labellings, and where and by how many processes it is computed."""

    samples: RecordedSamples
    question: Question
    settings: Searchlight
    spheres: Spheres
    relabellings: Relabellings | None
    checkpoint: Path | None
    processes: int

    @property
    def kept_rows(self) -> NDArray[np.intp]:
        """Labellings whose maps are kept: the true one, and others drawn without replacement."""
        assert self.relabellings is not None
        if not self.settings.keep_maps:
            return np.empty(0, dtype=np.intp)
        return np.array(choose_rows(len(self.relabellings), self.settings.keep_maps), dtype=np.intp)

    @property
    def _keeps_z(self) -> bool:
        return self.relabellings is not None and self.settings.correction != Correction.maximum

    def open_z_maps(self) -> AbstractContextManager[ZMaps | None]:
        """Return the array for the maps of all labellings, None where no correction needs them."""
        if self.relabellings is None or not self._keeps_z:
            return nullcontext()
        return open_z_maps(self.checkpoint, len(self.relabellings), len(self.spheres))

    def compute_spheres(self, z_maps: ZMaps | None, progress: Progress | None) -> SphereMaps:
        """Score all spheres under all labellings."""
        tested = self.relabellings is not None
        labels = self.samples.y[np.newaxis]
        if self.relabellings is not None:
            labels = np.stack([self.relabellings.labels(row) for row in range(len(self.relabellings))])
        scorer = make_scorer(self.samples, self.question, self.settings, self.spheres, labels)
        enumerated = self.relabellings is None or self.relabellings.enumerated
        work = SphereWork(scorer, self.kept_rows if tested else None, self._keeps_z, enumerated)
        store = Checkpoint(self.checkpoint, self._digest, "searchlight", "spheres")
        return compute_maps(
            work,
            self.spheres.sizes,
            self.settings.batch_size or choose_batch_size(self.question, len(labels)),
            store,
            processes=self.processes,
            progress=progress,
            z_maps=z_maps,
        )

    def test_map(self, nulls: NullMaps, z_maps: ZMaps | None, progress: Progress | None) -> MapTest:
        """Correct the p-values of the map over voxels."""
        assert self.relabellings is not None
        name, cluster_z = self.settings.correction, self.settings.cluster_z
        corrected = {str(Correction.maximum): correct_by_maxima(nulls.z, nulls.maxima, TOLERANCE)}
        maxima = {str(Correction.maximum): nulls.maxima}
        if z_maps is not None:
            home = None if self.checkpoint is None else self.checkpoint / name
            digest = digest_work(self._digest, name, cluster_z)
            corrected[name], maxima[name] = correct_z_maps(
                z_maps,
                _mark_centres(self.spheres, self.samples.grid.mask),
                name,
                cluster_z,
                Checkpoint(home, digest, "correction over voxels", "relabellings"),
                processes=self.processes,
                progress=progress,
            )
        return MapTest(
            statistic=self.settings.statistic,
            z=nulls.z,
            p=nulls.p,
            null_mean=nulls.null_mean,
            corrected=corrected,
            maxima=pd.DataFrame(maxima),
            relabellings=self.relabellings,
            kept=nulls.kept,
            kept_rows=self.kept_rows,
            cautions=(
                *self.relabellings.cautions,
                *_caution_undefined(nulls),
                *_caution_no_clusters(corrected, maxima, cluster_z),
            ),
        )

    @cached_property
    def _digest(self) -> str:
        """Return what identifies the maps: samples, spheres, question, settings, relabellings and code."""
        if self.checkpoint is None:
            return ""
        samples, spheres, question = self.samples, self.spheres, self.question
        return digest_work(
            (samples.X, samples.y, samples.runs, samples.conditions, samples.preparation),
            (samples.grid.mask, samples.grid.affine, spheres.centres, spheres.columns, spheres.starts),
            (question.contrast, question.estimator, question.scheme, question.signal, question.engine),
            (self.settings.statistic, self.settings.radius),
            None if self.relabellings is None else (self.relabellings.digest, self.kept_rows, self._keeps_z),
            packages=(*PACKAGES, "searchlight"),
        )


# Checks before the work -------------------------------------------------------------------------------------


def check_options(question: Question, permutation: PermutationSettings | None) -> None:
    """Refuse estimators and tests of which no map makes sense."""
    if question.estimator.is_dummy:
        raise DesignError(
            f"estimator={question.estimator.name} predicts from the labels alone, so that all spheres would "
            "score alike; choose another estimator, or leave out analysis=searchlight"
        )
    if permutation is not None and permutation.stop_early:
        raise UsageError(
            "inference.stop_early=true ends a test as soon as one score is not significant, but the maximum "
            "over a map needs all relabellings; leave it out"
        )


def _plan(
    samples: RecordedSamples,
    question: Question,
    settings: Searchlight,
    spheres: Spheres,
    permutation: PermutationSettings | None,
) -> Relabellings | None:
    """Return the relabellings; those that differ by a renaming of classes count once if they score alike."""
    if permutation is None:
        return None
    relabellings = plan_relabellings(samples, permutation)
    analysis = RelabelledAnalysis(strip_samples(samples), question, choose_engine(samples, question))
    if analysis.is_symmetric or _treats_classes_alike(samples, question, settings, spheres, relabellings):
        return relabellings
    return plan_relabellings(samples, permutation, symmetric=False)


def _treats_classes_alike(
    samples: RecordedSamples,
    question: Question,
    settings: Searchlight,
    spheres: Spheres,
    relabellings: Relabellings,
) -> bool:
    """Return whether renaming the classes leaves the statistics of the largest sphere as they are."""
    pairs = [labels for pair in rename_classes(relabellings) for labels in pair]
    scorer = make_scorer(samples, question, settings, spheres, np.stack([samples.y, *pairs]))
    found = scorer.score(np.array([np.argmax(spheres.sizes)])).statistics[1:, 0]
    return scores_are_equal(found[::2], found[1::2])


def choose_batch_size(question: Question, n_labellings: int) -> int:
    """Return how many spheres are computed, and stored, together."""
    model, kind = fix_parameters(question.estimator)[0], "other"
    if question.engine != Engine.nilearn and isinstance(model, ExactRidgeClassifierCV):
        kind = "ridge"
    elif question.engine != Engine.nilearn and isinstance(model, ExactLDA | ExactLinearSVC):
        kind = "direct"
    return int(np.clip(SCORES_OF_BATCH[kind] // n_labellings, 1, LARGEST_BATCH))


def _mark_centres(spheres: Spheres, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the centres of spheres as a volume, (x, y, z)."""
    volume = np.zeros(mask.shape, dtype=bool)
    volume[mask] = np.isin(np.arange(np.count_nonzero(mask)), spheres.centres)
    return volume


def _caution_undefined(nulls: NullMaps) -> list[str]:
    n = int((nulls.n_undefined > 0).sum())
    if not n:
        return []
    return [
        f"{n} spheres have labellings without a defined statistic, which count as if they reached every "
        "observed value: their p-values are too large rather than too small"
    ]


def _caution_no_clusters(
    corrected: Mapping[str, CorrectedMap], maxima: Mapping[str, NDArray[np.float64]], cluster_z: float
) -> list[str]:
    """Return a caution where nearly all labellings have no cluster, so that any cluster is significant."""
    name = str(Correction.cluster_size)
    if name not in corrected:
        return []
    n, total = int((maxima[name] == 0).sum()), len(maxima[name])
    if n < total * (1 - ALPHA):
        return []
    return [
        f"no voxel is above z {cluster_z:g} under {n} of {total} labellings, so that cluster size tests "
        "hardly more than whether any voxel is; choose a smaller analysis.cluster_z before looking at the map"
    ]


def _note_parameters(question: Question) -> list[str]:
    """Return which values of the grid are used, if there are several."""
    _, notice = fix_parameters(question.estimator)
    return [] if notice is None else [notice]


def _warn_unconverged(maps: SphereMaps) -> list[str]:
    return [f"{maps.unconverged} decoders of spheres did not converge"] if maps.unconverged else []
