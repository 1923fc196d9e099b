"""How well maps that were fitted to disjoint halves of the scanner runs agree.

Folds of a cross-validation share most of their training volumes, so that their maps correlate highly on noise
alone; disjoint halves share none. What correlation noise gives is measured by relabelled data.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from harness.decoding.decoder import fit_decoder
from harness.decoding.estimator import Estimator
from harness.decoding.evaluation import FitDecoder, Scoring, split_inner
from harness.decoding.patterns import compute_patterns, standardise_samples
from harness.errors import DesignError
from harness.inference.corrections import share_reaching
from harness.samples.samples import Samples

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

N_SPLITS = 4
"""Splits of the scanner runs into halves."""

MIN_RUNS = 4
"""In every half, one scanner run is left out to choose parameters."""

MAX_LABELLINGS = 200
"""How many labellings have their maps fitted: with svc one takes 0.07 s (216 volumes, 577 voxels)."""


@dataclass(frozen=True, eq=False)
class MapStability:
    """Correlation between maps of disjoint halves, of the true labelling and of relabellings.

    Attributes
    ----------
    weights, patterns : ndarray of shape (n_relabellings,)
        Mean over splits and problems of the correlation over voxels. Row 0 is the true labelling.
    n_splits : int
    """

    weights: Array
    patterns: Array
    n_splits: int

    def summarise(self) -> dict[str, tuple[float, float]]:
        """Return the correlation of the true labelling, and its p-value, for ``weights`` and ``patterns``."""
        return {
            "weights": (float(self.weights[0]), self.p_weights),
            "patterns": (float(self.patterns[0]), self.p_patterns),
        }

    @property
    def p_weights(self) -> float:
        """Share of labellings, the true one included, whose weights agree at least as well."""
        return float(share_reaching(self.weights, self.weights[:1])[0])

    @property
    def p_patterns(self) -> float:
        """Share of labellings, the true one included, whose patterns agree at least as well."""
        return float(share_reaching(self.patterns, self.patterns[:1])[0])


def measure_stability(
    samples: Samples,
    labellings: Iterable[NDArray[np.str_]],
    estimator: Estimator,
    scorer: str,
    *,
    n_splits: int = N_SPLITS,
    fit: FitDecoder = fit_decoder,
    progress: Callable[[int], None] | None = None,
) -> MapStability:
    """Correlate the maps of disjoint halves of the scanner runs, under every labelling.

    Every labelling has the same analysis: in each half, the decoder is fitted with leave-one-run-out folds,
    which choose its parameters, as `harness.decoding.evaluation.split_inner` makes them.

    Parameters
    ----------
    labellings : iterable of ndarray of shape (n_samples,)
        Classes of the samples; the first is the true labelling.
    scorer : str
        Chooses parameters.
    progress : callable, optional
        Called with the number of labellings that are done.

    Raises
    ------
    DesignError
        If there are fewer than four scanner runs, or a half does not have the classes that it needs.
    """
    if estimator.is_dummy:
        raise DesignError(f"estimator={estimator.name} has no weights, so that its maps cannot be compared")
    halves = split_runs(samples.runs, n_splits)
    found = []
    for number, y in enumerate(labellings, start=1):
        found.append(_correlate_halves(samples, y, halves, estimator, scorer, fit))
        if progress is not None:
            progress(number)
    if not found:
        raise ValueError("no labelling was given; expected the true one first")
    weights, patterns = np.array(found).T
    return MapStability(weights, patterns, len(halves))


def choose_rows(n_rows: int, limit: int = MAX_LABELLINGS) -> list[int]:
    """Return the rows of a list of relabellings for which the stability is measured, the true one, 0, first.

    All of them up to `limit`; else row 0 and others that are drawn without replacement with a fixed seed. The
    first rows of an enumeration would be no substitute: they differ in a few scanner runs only.
    """
    if n_rows <= limit:
        return list(range(n_rows))
    drawn = np.random.default_rng(0).permutation(n_rows - 1)[: limit - 1] + 1
    return [0, *sorted(drawn.tolist())]


def split_runs(runs: NDArray[np.integer], n_splits: int = N_SPLITS) -> list[tuple[Rows, Rows]]:
    """Return splits of samples into two halves of the scanner runs, each half in one split only.

    All splits if there are no more than `n_splits`; else odd against even scanner runs, then others that are
    drawn with a fixed seed. Of an odd number of scanner runs one half has one more.

    Returns
    -------
    halves : list of (ndarray, ndarray)
        Indices of the samples.

    Raises
    ------
    DesignError
        If there are fewer than four scanner runs.
    """
    numbers = np.unique(runs)
    n_runs = len(numbers)
    if n_runs < MIN_RUNS:
        raise DesignError(
            f"the stability of maps needs at least {MIN_RUNS} scanner runs, two per half, but there are "
            f"{n_runs}"
        )
    size = n_runs // 2
    # With an even number of scanner runs, a half and its complement are one split.
    n_possible = comb(n_runs, size) // (2 if n_runs % 2 == 0 else 1)
    if n_possible <= n_splits:
        chosen = [half for half in combinations(range(n_runs), size) if n_runs % 2 or 0 in half]
    else:
        rng = np.random.default_rng(0)
        chosen = [tuple(range(1, 2 * size, 2)) if n_runs % 2 else tuple(range(0, n_runs, 2))]
        while len(chosen) < n_splits:
            half = tuple(sorted(rng.permutation(n_runs)[:size].tolist()))
            if n_runs % 2 == 0 and 0 not in half:
                half = tuple(sorted(set(range(n_runs)) - set(half)))
            if half not in chosen:
                chosen.append(half)
    masks = [np.isin(runs, numbers[list(half)]) for half in chosen]
    return [(np.flatnonzero(mask), np.flatnonzero(~mask)) for mask in masks]


def _correlate_halves(
    samples: Samples,
    y: NDArray[np.str_],
    halves: list[tuple[Rows, Rows]],
    estimator: Estimator,
    scorer: str,
    fit: FitDecoder,
) -> tuple[float, float]:
    """Return the mean correlations of weights and of patterns under one labelling."""
    of_weights, of_patterns = [], []
    for pair in halves:
        maps = [_fit_half(samples, rows, y[rows], estimator, scorer, fit) for rows in pair]
        (weights, patterns), (other_weights, other_patterns) = maps
        of_weights.append(_correlate(weights, other_weights))
        of_patterns.append(_correlate(patterns, other_patterns))
    return float(np.mean(of_weights)), float(np.mean(of_patterns))


def _fit_half(
    samples: Samples,
    rows: Rows,
    y: NDArray[np.str_],
    estimator: Estimator,
    scorer: str,
    fit: FitDecoder,
) -> tuple[Array, Array]:
    """Return weights and patterns of some of the scanner runs, (n_problems, n_voxels) each."""
    X, runs = samples.X[rows], samples.runs[rows]
    where = f"the stability of maps: run {', '.join(map(str, np.unique(runs)))}"
    missing = sorted({*samples.contrast.classes} - {*y.tolist()})
    if missing:
        raise DesignError(
            f"{where}: this half of the scanner runs has no {missing[0]!r}; every half needs all classes"
        )
    folds = split_inner(y, runs, Scoring(inner="runs"), where)
    decoder = fit(X, y, folds, estimator, scorer, samples.preparation)
    assert decoder.coef is not None
    return decoder.coef, compute_patterns(standardise_samples(X, samples.preparation), decoder.coef)


def _correlate(a: Array, b: Array) -> Array:
    """Return the correlation of every row of a with that of b; 0 where one is constant."""
    a, b = (rows - rows.mean(axis=1, keepdims=True) for rows in (a, b))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = np.einsum("kv,kv->k", a, b)
    return np.divide(products, norms, out=np.zeros(len(a)), where=norms > 0)
