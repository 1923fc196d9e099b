"""Tests over subjects, from the null distributions of every subject.

Every subject carries a null distribution of its own, so that no value of chance is assumed.

References
----------
.. [1] Stelzer, Chen, Turner (2013), NeuroImage 65:69-82, doi:10.1016/j.neuroimage.2012.09.063.
.. [2] Allefeld, Goergen, Haynes (2016), Valid population inference for information-based imaging,
   NeuroImage 141:378-392, doi:10.1016/j.neuroimage.2016.07.040.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import DesignError
from harness.inference.corrections import ALPHA, TOLERANCE, reaches

Array = NDArray[np.float64]

MAX_REGIONS = 10  # of more, combinations are drawn
N_DRAWS = 10_000
CHUNK_NUMBERS = 4_000_000  # scores of combinations that are held at a time


@dataclass(frozen=True, eq=False)
class MeanTest:
    """The mean score over subjects under combinations of one relabelling per subject.

    Attributes
    ----------
    n : int
        Subjects.
    mean : float
        Of the true labelling.
    p : float
        One-sided, of the global null hypothesis that no subject's labels are related to the data.
    n_draws : int
        Combinations besides the true one, so that p = (b + 1) / (n_draws + 1).
    is_exact : bool
        Whether these are all combinations.
    null : ndarray of shape (n_draws + 1,)
        Mean of every combination, the true one first.
    """

    n: int
    mean: float
    p: float
    n_draws: int
    is_exact: bool
    null: Array


def permutation_of_means(nulls: Sequence[ArrayLike], n_draws: int = N_DRAWS, seed: int = 0) -> MeanTest:
    """Test the mean over subjects, relabelling every subject independently of the others [1]_.

    p = (b + 1) / (m + 1), where b of m combinations have a mean at least as high as the true labellings

    Parameters
    ----------
    nulls : sequence of array of shape (n_relabellings,)
        Scores of a subject under relabelling, the true labelling first; the numbers may differ.
    n_draws : int
        Combinations to draw; all are enumerated if there are no more.
    seed : int
        Of the draws.

    Raises
    ------
    DesignError
        Without subjects, and for a score that is not defined.
    """
    subjects = _read_nulls(nulls)
    n_combinations = prod(len(null) for null in subjects)
    is_exact = n_combinations - 1 <= n_draws
    if is_exact:
        sums = np.zeros(1)
        for null in subjects:
            sums = np.add.outer(sums, null).ravel()  # the true labellings remain first
    else:
        rng = np.random.default_rng(seed)
        sums = np.zeros(n_draws + 1)
        for null in subjects:
            sums += null[np.concatenate([[0], rng.integers(len(null), size=n_draws)])]
    means = sums / len(subjects)
    p = float(reaches(means, means[0]).mean())
    return MeanTest(len(subjects), float(means[0]), p, len(means) - 1, is_exact, means)


@dataclass(frozen=True)
class Prevalence:
    """In how many people an effect is present: inference with the minimum over subjects [2]_.

    Attributes
    ----------
    n : int
        Subjects.
    p_global : float
        Of the null hypothesis that it is present in no one.
    p_majority : float
        Of the null hypothesis that it is present in at most half of the population.
    gamma0 : float or None
        The largest share gamma for which "present in at most gamma of the population" is rejected; None
        where not even the global null hypothesis is.
    largest_gamma0 : float or None
        The largest `gamma0` that these numbers of subjects and relabellings allow.
    minimum : float
        The lowest score of a subject, which is the test statistic.
    smallest_p_global, smallest_p_majority : float
        The smallest p-values that these numbers allow.
    """

    n: int
    p_global: float
    p_majority: float
    gamma0: float | None
    largest_gamma0: float | None
    minimum: float
    smallest_p_global: float
    smallest_p_majority: float


def prevalence(nulls: Sequence[ArrayLike], alpha: float = ALPHA) -> Prevalence:
    """Infer the prevalence of an effect in the population from one region.

    p_global = product over subjects of (relabellings that reach the minimum) / (relabellings),
    p(gamma) = ((1 - gamma) p_global^(1/n) + gamma)^n

    The product is the share of all combinations of one relabelling per subject, so that no combinations need
    to be drawn. The subjects should be comparable, with the same number of scanner runs: the one with the
    noisiest scores sets the minimum.

    Parameters
    ----------
    nulls : sequence of array of shape (n_relabellings,)
        Scores of a subject under relabelling, the true labelling first; the numbers may differ.

    Raises
    ------
    DesignError
        Without subjects, and for a score that is not defined.
    """
    subjects = _read_nulls(nulls)
    n, minimum = len(subjects), min(float(null[0]) for null in subjects)
    p = prod(float(reaches(null, minimum).mean()) for null in subjects)
    both = np.array([p, prod(1 / len(null) for null in subjects)])
    p_majority, smallest_p_majority = _share_p(both, n, 0.5).tolist()
    gamma0, largest = map(_none_if_nan, _reject_up_to(both, n, np.full(2, alpha)))
    return Prevalence(
        n=n,
        p_global=p,
        p_majority=p_majority,
        gamma0=gamma0,
        largest_gamma0=largest,
        minimum=minimum,
        smallest_p_global=float(both[1]),
        smallest_p_majority=smallest_p_majority,
    )


@dataclass(frozen=True)
class RegionPrevalence:
    """The prevalence in one of several regions; see `Prevalence`.

    Attributes
    ----------
    p_global_corrected, p_majority_corrected, gamma0_corrected
        Corrected for the number of regions by the maximum statistic.
    """

    minimum: float
    p_global: float
    p_majority: float
    gamma0: float | None
    p_global_corrected: float
    p_majority_corrected: float
    gamma0_corrected: float | None


def prevalence_regions(
    tables: Sequence[Sequence[ArrayLike]], alpha: float = ALPHA, n_draws: int = N_DRAWS, seed: int = 0
) -> list[RegionPrevalence]:
    """Infer the prevalence of an effect in several regions, corrected for their number.

    p* = share of combinations whose maximum over regions of the minimum over subjects reaches the minimum;
    corrected p(gamma) = p* + (1 - p*) p(gamma), and gamma0 at alpha* = (alpha - p*) / (1 - p*)

    Equations 21 to 23 of [2]_. A single region is not corrected.

    Parameters
    ----------
    tables : sequence of sequence of array of shape (n_relabellings,)
        Per region, per subject: the scores, the true labelling first; a position is the same relabelling in
        all regions of a subject.
    n_draws : int
        Combinations to draw for more than 10 regions; up to 10, p* is exact.
    seed : int
        Of the draws.

    Raises
    ------
    DesignError
        For regions with other subjects or relabellings, and for a score that is not defined.
    """
    regions = [_read_nulls(nulls) for nulls in tables]
    sizes = [[len(null) for null in region] for region in regions]
    if not regions or any(of_region != sizes[0] for of_region in sizes):
        raise DesignError("all regions need the same subjects, each with the same relabellings")
    subjects = [np.column_stack([region[k] for region in regions]) for k in range(len(sizes[0]))]
    found = prevalence_arrays(subjects, alpha, n_draws, seed)
    return [
        RegionPrevalence(
            minimum=float(found.minimum[place]),
            p_global=float(found.p_global[place]),
            p_majority=float(found.p_majority[place]),
            gamma0=_none_if_nan(found.gamma0[place]),
            p_global_corrected=float(found.p_global_corrected[place]),
            p_majority_corrected=float(found.p_majority_corrected[place]),
            gamma0_corrected=_none_if_nan(found.gamma0_corrected[place]),
        )
        for place in range(len(regions))
    ]


@dataclass(frozen=True, eq=False)
class PrevalenceArrays:
    """The prevalence in many regions, or voxels; see `RegionPrevalence`.

    Attributes
    ----------
    minimum, p_global, p_majority, gamma0 : ndarray of shape (n_regions,)
        gamma0 is NaN where not even the global null hypothesis is rejected.
    p_global_corrected, p_majority_corrected, gamma0_corrected : ndarray of shape (n_regions,)
    n : int
        Subjects.
    largest_gamma0 : float
        The largest `gamma0_corrected` that these numbers of subjects and relabellings allow; NaN if none.
    smallest_p_majority : float
        The smallest `p_majority_corrected` that they allow.
    """

    minimum: Array
    p_global: Array
    p_majority: Array
    gamma0: Array
    p_global_corrected: Array
    p_majority_corrected: Array
    gamma0_corrected: Array
    n: int
    largest_gamma0: float
    smallest_p_majority: float


def prevalence_arrays(
    subjects: Sequence[ArrayLike],
    alpha: float = ALPHA,
    n_draws: int = N_DRAWS,
    seed: int = 0,
    tolerance: float = TOLERANCE,
) -> PrevalenceArrays:
    """Infer the prevalence of an effect in many regions; see `prevalence_regions`.

    Memory is that of the arguments and of some 10 million further numbers.

    Parameters
    ----------
    subjects : sequence of ndarray of shape (n_relabellings, n_regions)
        Per subject; row 0 is the true labelling. The numbers of relabellings may differ.
    tolerance : float
        Scores that differ by no more are equal.
    """
    tables = [np.asarray(table) for table in subjects]
    n, n_regions = len(tables), tables[0].shape[1]
    minimum = np.min([table[0] for table in tables], axis=0).astype(np.float64)
    p = np.prod([_reach(table, minimum, tolerance).mean(axis=0) for table in tables], axis=0)
    smallest = smallest_corrected = prod(1 / len(table) for table in tables)
    corrected, levels, limit = p, np.full(n_regions, alpha), np.array([alpha])
    p_majority, least = _share_p(p, n, 0.5), float(_share_p(np.array([smallest]), n, 0.5)[0])
    p_majority_corrected = p_majority
    if n_regions > 1:
        if n_regions > MAX_REGIONS:
            maxima = np.sort(_draw_maxima(tables, n_draws, seed))
            corrected = (n_draws - maxima.searchsorted(minimum - tolerance) + 1) / (n_draws + 1)
            smallest_corrected = max(smallest, 1 / (n_draws + 1))
        else:
            corrected = np.array([_share_of_maxima(tables, value, tolerance) for value in minimum])
        levels, limit = _level_left(alpha, corrected), _level_left(alpha, np.array([smallest_corrected]))
        p_majority_corrected = corrected + (1 - corrected) * p_majority
        least = smallest_corrected + (1 - smallest_corrected) * least
    return PrevalenceArrays(
        minimum=minimum,
        p_global=p,
        p_majority=p_majority,
        gamma0=_reject_up_to(p, n, np.full(n_regions, alpha)),
        p_global_corrected=corrected,
        p_majority_corrected=p_majority_corrected,
        gamma0_corrected=_reject_up_to(p, n, levels),
        n=n,
        largest_gamma0=float(_reject_up_to(np.array([smallest]), n, limit)[0]),
        smallest_p_majority=least,
    )


def _none_if_nan(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _reach(table: NDArray[np.floating], observed: ArrayLike, tolerance: float) -> NDArray[np.bool_]:
    """Return which scores are at least the observed ones, ties included; undefined scores count as such."""
    return ~(table < np.asarray(observed) - tolerance)


def _level_left(alpha: float, corrected: Array) -> Array:
    """Return alpha* of equation 22 of [2]_, which a corrected global p-value leaves; -1 if nothing."""
    below = corrected < 1
    return np.where(below, (alpha - corrected) / np.where(below, 1 - corrected, 1.0), -1.0)


def _draw_maxima(tables: Sequence[NDArray[np.floating]], n_draws: int, seed: int) -> Array:
    """Return the maximum over regions of the lowest score of drawn combinations, (n_draws,)."""
    rng = np.random.default_rng(seed)
    chosen = [rng.integers(len(table), size=n_draws) for table in tables]
    n_together = max(CHUNK_NUMBERS // tables[0].shape[1], 1)
    maxima = np.empty(n_draws)
    for start in range(0, n_draws, n_together):
        rows = slice(start, start + n_together)
        lowest = tables[0][chosen[0][rows]]
        for table, numbers in zip(tables[1:], chosen[1:], strict=True):
            # Undefined scores count as reached: fmin leaves them out, and only all of them remain undefined.
            np.fmin(lowest, table[numbers[rows]], out=lowest)
        maxima[rows] = np.where(np.isnan(lowest), np.inf, lowest).max(axis=1)
    return maxima


def _share_of_maxima(tables: Sequence[NDArray[np.floating]], minimum: float, tolerance: float) -> float:
    """Return the share of combinations in which any region's lowest score reaches `minimum`."""
    # Sets of regions as bits, with the share of combinations of the subjects so far that have each set.
    powers = 1 << np.arange(tables[0].shape[1])
    shares = {int(powers.sum()): 1.0}
    for table in tables:
        sets, counts = np.unique(_reach(table, minimum, tolerance) @ powers, return_counts=True)
        added: dict[int, float] = {}
        for before, share in shares.items():
            for chosen, count in zip(sets.tolist(), counts.tolist(), strict=True):
                both = before & chosen
                added[both] = added.get(both, 0.0) + share * count / len(table)
        shares = added
    return sum(share for chosen, share in shares.items() if chosen)


def _share_p(p: Array, n: int, gamma: float) -> Array:
    """Return the p-values of "present in at most the share gamma of the population"."""
    share: Array = ((1 - gamma) * p ** (1 / n) + gamma) ** n
    return share


def _reject_up_to(p: Array, n: int, alpha: Array) -> Array:
    """Return the largest shares for which `_share_p` is at most alpha, of the same shape; NaN if none is."""
    rejects = (alpha >= 0) & (p <= alpha + TOLERANCE * alpha) & (p < 1)
    found = np.full(p.shape, np.nan)
    root = p[rejects] ** (1 / n)
    found[rejects] = np.maximum(0.0, (alpha[rejects] ** (1 / n) - root) / (1 - root))
    return found


def _read_nulls(nulls: Sequence[ArrayLike]) -> list[Array]:
    subjects = [np.atleast_1d(np.asarray(null, dtype=np.float64)) for null in nulls]
    if not subjects:
        raise DesignError("there are no subjects to test")
    for place, null in enumerate(subjects, start=1):
        if not len(null) or not np.isfinite(null[0]):
            raise DesignError(f"the score of subject number {place} of {len(subjects)} is not defined")
    return subjects
