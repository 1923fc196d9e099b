"""The scorer of an estimator, for all labellings of a searchlight."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.decoding.choices import Engine
from harness.decoding.nilearn_decoder import find_nilearns_own
from harness.decoding.question import Question
from harness.decoding.splitters import split_samples
from harness.errors import DesignError
from harness.inference.batched_scores import is_blind
from harness.inference.null_scores import strip_samples
from harness.samples.samples import RecordedSamples, Samples, VoxelGrid
from harness.searchlight.fold_samples import Folds, FoldSamples, prepare_fold_samples
from harness.searchlight.fold_scores import list_problems, plan_fold
from harness.searchlight.iterative_scorer import (
    IterativeDecoder,
    IterativeScorer,
    check_inner_folds,
    make_classifier,
    plan_training,
)
from harness.searchlight.linear_scorer import (
    BatchDecoder,
    BatchedScorer,
    make_discriminant,
    make_ridge,
)
from harness.searchlight.nilearn_scorer import NilearnScorer
from harness.searchlight.parameters import fix_parameters
from harness.searchlight.settings import Searchlight
from harness.searchlight.sphere_scores import SphereScorer, SphereScores
from harness.searchlight.spheres import Spheres
from harness.solvers.estimators import (
    ExactLDA,
    ExactLinearSVC,
    ExactLogisticRegressionCV,
    ExactRidgeClassifierCV,
)
from harness.solvers.validation import check_penalties

Labels = NDArray[np.str_]

EXACT = (ExactLinearSVC, ExactLogisticRegressionCV, ExactRidgeClassifierCV, ExactLDA)


@dataclass(frozen=True, eq=False)
class JoinedScorer:
    """Scores labellings in parts, where a scheme makes other folds for other labels.

    Attributes
    ----------
    rows : sequence of ndarray of int
        Labellings of every part; the first one of the first part is the true one.
    """

    rows: Sequence[NDArray[np.intp]]
    parts: Sequence[SphereScorer]

    def score(self, numbers: NDArray[np.intp]) -> SphereScores:
        """Return the scores of the spheres of these numbers; no sphere's depend on the others'."""
        found = [part.score(numbers) for part in self.parts]
        statistics = np.empty((sum(len(rows) for rows in self.rows), len(numbers)))
        for rows, one in zip(self.rows, found, strict=True):
            statistics[rows] = one.statistics
        return SphereScores(found[0].scores, statistics, sum(one.unconverged for one in found))


def make_scorer(
    samples: Samples, question: Question, settings: Searchlight, spheres: Spheres, labels: Labels
) -> SphereScorer:
    """Return what scores spheres under all labellings.

    Parameters
    ----------
    samples : Samples
        `samples.y` is the true labelling.
    labels : ndarray of shape (n_labellings, n_samples), str
        The first is the true labelling.

    Raises
    ------
    DesignError
        If the scheme does not fit the samples under one of the labellings.
    UsageError
        If the estimator cannot be used.
    """
    grid = samples.grid if isinstance(samples, RecordedSamples) else None
    samples = strip_samples(samples)
    groups = group_folds(samples, question, labels)
    shared = prepare_fold_samples(samples, groups[0][1])
    parts = [
        _make_part(replace(shared, folds=folds), question, settings, spheres, labels[rows], grid)
        for rows, folds in groups
    ]
    if len(parts) == 1:
        return parts[0]
    return JoinedScorer([rows for rows, _ in groups], parts)


def _make_part(
    samples: FoldSamples,
    question: Question,
    settings: Searchlight,
    spheres: Spheres,
    labels: Labels,
    grid: VoxelGrid | None,
) -> SphereScorer:
    """Return what scores spheres under labellings that share their folds."""
    model, _ = fix_parameters(question.estimator)
    if question.engine == Engine.nilearn or not isinstance(model, EXACT):
        return _make_nilearn_scorer(samples, question, settings, spheres, labels, grid)
    classes, codes = np.unique(labels, return_inverse=True)
    codes = codes.reshape(labels.shape)
    folds = [plan_fold(codes, len(classes), *fold) for fold in samples.folds]
    true = [plan_fold(codes[:1], len(classes), *fold) for fold in samples.folds]
    decoder: BatchDecoder
    if isinstance(model, ExactRidgeClassifierCV):
        alphas = check_penalties(model.alphas, "alpha")
        vectors = list_problems(codes, len(classes))
        decoder = make_ridge(samples, folds, vectors, alphas, vectors.shape[1] // len(codes))
    elif isinstance(model, ExactLDA):
        decoder = make_discriminant(samples, folds, len(classes))
    else:
        classifier = make_classifier(model)
        check_inner_folds(folds, classifier)
        plan = plan_training(codes, len(classes), samples, folds)
        decoder = IterativeDecoder(samples, folds, classifier, plan)
        return IterativeScorer(BatchedScorer(spheres, decoder, folds, true, settings.statistic))
    return BatchedScorer(spheres, decoder, folds, true, settings.statistic)


def _make_nilearn_scorer(
    samples: FoldSamples,
    question: Question,
    settings: Searchlight,
    spheres: Spheres,
    labels: Labels,
    grid: VoxelGrid | None,
) -> NilearnScorer:
    if grid is None:
        raise ValueError("nilearn's SearchLight needs samples of an image, RecordedSamples")
    model, _ = fix_parameters(question.estimator)
    if question.engine == Engine.nilearn:
        model = find_nilearns_own(model)
    return NilearnScorer(
        X=samples.X,
        grid=grid,
        folds=samples.folds,
        zscore=samples.zscore,
        labels=labels,
        spheres=spheres,
        radius=settings.radius,
        model=model,
        statistic=settings.statistic,
        name=question.estimator.name,
    )


def group_folds(samples: Samples, question: Question, labels: Labels) -> list[tuple[NDArray[np.intp], Folds]]:
    """Return the folds of every labelling, and which labellings share them.

    Returns
    -------
    groups : list of (rows, folds)
        The first row of the first group is the true labelling.
    """
    with warnings.catch_warnings():
        # The run itself has warned of folds that are skipped.
        warnings.simplefilter("ignore")
        split = split_samples(samples, question.scheme)
        folds = list(split.folds.values())
        if is_blind(question.scheme.splitter) and split.skipped.empty and _are_complete(labels, folds):
            return [(np.arange(len(labels)), folds)]
        groups: dict[bytes, tuple[list[int], Folds]] = {}
        for row, y in enumerate(labels):
            found = folds if row == 0 else _split_again(samples, question, y, row)
            key = b"|".join(part.astype(np.intp).tobytes() for fold in found for part in fold)
            groups.setdefault(key, ([], found))[0].append(row)
    return [(np.array(rows), found) for rows, found in groups.values()]


def _split_again(samples: Samples, question: Question, y: Labels, row: int) -> Folds:
    try:
        return list(split_samples(replace(samples, y=y), question.scheme).folds.values())
    except DesignError as error:
        raise DesignError(
            f"under relabelling {row} of the labels: {error}; cv.incomplete=skip leaves such folds out"
        ) from error


def _are_complete(labels: Labels, folds: Folds) -> bool:
    """Return whether all training sets hold all classes, and all held-out sets two of them."""
    classes, codes = np.unique(labels, return_inverse=True)
    codes = codes.reshape(labels.shape)
    for part, least in [(train, len(classes)) for train, _ in folds] + [(test, 2) for _, test in folds]:
        present = sum((codes[:, part] == code).any(axis=1).astype(int) for code in range(len(classes)))
        if (np.asarray(present) < least).any():
            return False
    return True
