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
    smallest = prod(1 / len(null) for null in subjects)
    return Prevalence(
        n=n,
        p_global=p,
        p_majority=_share_p(p, n, 0.5),
        gamma0=_reject_up_to(p, n, alpha),
        largest_gamma0=_reject_up_to(smallest, n, alpha),
        minimum=minimum,
        smallest_p_global=smallest,
        smallest_p_majority=_share_p(smallest, n, 0.5),
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
    n = len(sizes[0])
    found = []
    for region in regions:
        single = prevalence(region, alpha)
        p = single.p_global
        if len(regions) == 1:
            corrected = p, single.p_majority, single.gamma0
        else:
            highest = _share_of_maxima(regions, single.minimum, n_draws, seed)
            left = (alpha - highest) / (1 - highest) if highest < 1 else -1.0
            corrected = (
                highest,
                highest + (1 - highest) * single.p_majority,
                _reject_up_to(p, n, left),
            )
        found.append(RegionPrevalence(single.minimum, p, single.p_majority, single.gamma0, *corrected))
    return found


def _share_of_maxima(regions: Sequence[Sequence[Array]], minimum: float, n_draws: int, seed: int) -> float:
    """Return the share of combinations in which any region's lowest score reaches `minimum`."""
    n_subjects = len(regions[0])
    # Per subject and relabelling, which regions reach it.
    reached = [np.array([reaches(region[k], minimum) for region in regions]) for k in range(n_subjects)]
    if len(regions) > MAX_REGIONS:
        rng = np.random.default_rng(seed)
        together = np.ones((len(regions), n_draws), dtype=bool)
        for of_subject in reached:
            together &= of_subject[:, rng.integers(of_subject.shape[1], size=n_draws)]
        return (int(together.any(axis=0).sum()) + 1) / (n_draws + 1)
    # Sets of regions as bits, with the share of combinations of the subjects so far that have each set.
    powers = 1 << np.arange(len(regions))
    shares = {int(powers.sum()): 1.0}
    for of_subject in reached:
        sets, counts = np.unique(powers @ of_subject, return_counts=True)
        added: dict[int, float] = {}
        for before, share in shares.items():
            for chosen, count in zip(sets.tolist(), counts.tolist(), strict=True):
                both = before & chosen
                added[both] = added.get(both, 0.0) + share * count / of_subject.shape[1]
        shares = added
    return sum(share for chosen, share in shares.items() if chosen)


def _share_p(p: float, n: int, gamma: float) -> float:
    """Return the p-value of "present in at most the share gamma of the population"."""
    return float(((1 - gamma) * p ** (1 / n) + gamma) ** n)


def _reject_up_to(p: float, n: int, alpha: float) -> float | None:
    """Return the largest share for which `_share_p` is at most alpha."""
    if alpha < 0 or p > alpha + TOLERANCE * alpha or p >= 1:
        return None
    root = p ** (1 / n)
    return max(0.0, float((alpha ** (1 / n) - root) / (1 - root)))


def _read_nulls(nulls: Sequence[ArrayLike]) -> list[Array]:
    subjects = [np.atleast_1d(np.asarray(null, dtype=np.float64)) for null in nulls]
    if not subjects:
        raise DesignError("there are no subjects to test")
    for place, null in enumerate(subjects, start=1):
        if not len(null) or not np.isfinite(null[0]):
            raise DesignError(f"the score of subject number {place} of {len(subjects)} is not defined")
    return subjects
