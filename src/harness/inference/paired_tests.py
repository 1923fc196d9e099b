"""Tests of paired differences: over the folds of one subject, and over subjects; Holm's correction.

References
----------
.. [1] Nadeau, Bengio (2003), Inference for the generalization error, Machine Learning 52:239-281,
   doi:10.1023/A:1024068626366.
.. [2] Hartigan (1969), Using subsample values as typical values, Journal of the American Statistical
   Association 64:1303-1317, doi:10.1080/01621459.1969.10501057.
.. [3] Holm (1979), A simple sequentially rejective multiple test procedure, Scandinavian Journal of
   Statistics 6:65-70.
.. [4] Hedges (1981), Distribution theory for Glass's estimator of effect size, Journal of Educational
   Statistics 6:107-128, doi:10.3102/10769986006002107.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import gammaln

from harness.errors import DesignError
from harness.inference.corrections import TOLERANCE, reaches

Array = NDArray[np.float64]

MIN_FOLDS = 3  # two folds leave one degree of freedom
MAX_ENUMERATED = 16  # differences, whose 65 536 patterns of signs are all computed
N_DRAWS = 10_000  # random patterns of signs for more differences
TAIL = 0.025  # on either side of an interval


@dataclass(frozen=True)
class CorrectedT:
    """A paired t-test over folds, corrected for the volumes that their training sets share.

    Attributes
    ----------
    difference : float
        Mean of first minus second.
    p : float
        Two-sided.
    ratio : float
        Held-out volumes per training volume.
    interval : tuple of float
        95 % confidence interval of the difference.
    """

    n_folds: int
    difference: float
    t: float
    df: int
    p: float
    ratio: float
    interval: tuple[float, float]

    @property
    def p_greater(self) -> float:
        """One-sided p-value of first > second."""
        return float(stats.t.sf(self.t, self.df))


def corrected_t(
    first: ArrayLike, second: ArrayLike, n_train: ArrayLike, n_test: ArrayLike, min_folds: int = MIN_FOLDS
) -> CorrectedT:
    """Compare two estimators on the same folds of one subject by the corrected resampled t-test [1]_.

    t = mean(d) / sqrt((1/J + n_test/n_train) var(d)), with J - 1 degrees of freedom, for J differences d

    The correlation of the folds is set to n_test / (n_test + n_train), not estimated. The test concerns other
    volumes of this subject and this session; it is not a test against chance.

    Parameters
    ----------
    first, second : array of shape (n_folds,)
        Scores of the same folds.
    n_train, n_test : array of shape (n_folds,), or int
        Volumes of every fold; their ratio is that of the sums.
    min_folds : int
        Fewer folds are refused.

    Raises
    ------
    DesignError
        For too few folds, undefined scores, and differences that are all equal but not zero.
    """
    differences = _subtract(first, second)
    n_folds = len(differences)
    if n_folds < max(min_folds, 2):
        raise DesignError(
            f"the corrected t-test needs {max(min_folds, 2)} folds or more, and there "
            f"{'is' if n_folds == 1 else 'are'} {n_folds}; choose a scheme with more, such as cv=logo"
        )
    sizes_train, sizes_test = (
        np.broadcast_to(np.asarray(sizes, dtype=np.float64), (n_folds,)) for sizes in (n_train, n_test)
    )
    if not (sizes_train > 0).all() or not (sizes_test > 0).all():
        raise DesignError("every fold needs training volumes and held-out volumes; a number is not positive")
    ratio = float(sizes_test.sum() / sizes_train.sum())
    df = n_folds - 1
    if np.abs(differences).max() <= TOLERANCE:
        return CorrectedT(n_folds, 0.0, 0.0, df, 1.0, ratio, (0.0, 0.0))
    if np.ptp(differences) <= TOLERANCE:
        raise DesignError(
            f"the scores differ by {differences[0]:.3g} in every one of the {n_folds} folds: without any "
            "variation there is no standard error, and the t-test is not defined"
        )
    mean = float(differences.mean())
    error = float(np.sqrt((1 / n_folds + ratio) * differences.var(ddof=1)))
    t = mean / error
    half = float(stats.t.ppf(1 - TAIL, df)) * error
    p = float(2 * stats.t.sf(abs(t), df))
    return CorrectedT(n_folds, mean, t, df, p, ratio, (mean - half, mean + half))


@dataclass(frozen=True)
class SignFlip:
    """A test of paired differences, usually one per subject, under all patterns of signs.

    Attributes
    ----------
    difference : float
        Their mean.
    p, p_greater : float
        Two-sided, and one-sided for a mean above 0.
    n_patterns : int
        Patterns of signs that were computed, the observed one included.
    is_exact : bool
        Whether these are all 2^n.
    d_z : float
        Mean divided by SD; NaN where the differences do not vary.
    hedges_g : float
        `d_z` times Hedges' factor for small samples [4]_.
    interval : tuple of float or None
        Confidence interval of at least 95 % [2]_. None for fewer than 6 differences: none is finite.
    coverage : float or None
        Exact coverage of the interval for a symmetric continuous distribution.
    """

    n: int
    difference: float
    p: float
    p_greater: float
    n_patterns: int
    is_exact: bool
    d_z: float
    hedges_g: float
    interval: tuple[float, float] | None
    coverage: float | None


def sign_flip(differences: ArrayLike, seed: int = 0) -> SignFlip:
    """Test whether differences are symmetric about 0 [2]_.

    p = (patterns of signs whose sum is at least as large as the observed one) / (all patterns)

    For more than 16 differences 10 000 random patterns take the place of all, and p = (b + 1) / (m + 1).
    Differences of two estimators are symmetric if neither is better. Scores minus chance are so only if the
    scheme has no bias; see `harness.inference.group_tests` for tests that need no value of chance.

    Parameters
    ----------
    differences : array of shape (n,)
    seed : int
        Of the random patterns.

    Raises
    ------
    DesignError
        Without differences, and for undefined ones.
    """
    d = _require_defined(np.atleast_1d(np.asarray(differences, dtype=np.float64)), "differences")
    n, observed = len(d), float(d.sum())
    is_exact = n <= MAX_ENUMERATED
    if is_exact:
        sums, means, n_patterns = _sum_all_patterns(d), _list_subset_means(d), 2**n
        p, p_greater = (
            float(reaches(values, at).mean())
            for values, at in ((np.abs(sums), abs(observed)), (sums, observed))
        )
    else:
        rng, n_patterns = np.random.default_rng(seed), N_DRAWS + 1
        sums = rng.choice([-1.0, 1.0], (N_DRAWS, n)) @ d
        p, p_greater = (
            (int(reaches(values, at).sum()) + 1) / n_patterns
            for values, at in ((np.abs(sums), abs(observed)), (sums, observed))
        )
        chosen = rng.random((N_DRAWS, n)) < 0.5
        # An empty subset has no mean; its probability is below 1e-5.
        means = np.where(chosen.any(axis=1), chosen @ d / np.maximum(chosen.sum(axis=1), 1), d.mean())
    rank = int(TAIL * n_patterns)
    ordered = np.sort(means)
    d_z = _divide_by_sd(d)
    return SignFlip(
        n=n,
        difference=float(d.mean()),
        p=p,
        p_greater=p_greater,
        n_patterns=n_patterns,
        is_exact=is_exact,
        d_z=d_z,
        hedges_g=d_z * hedges_factor(n - 1) if n > 1 else np.nan,
        interval=(float(ordered[rank - 1]), float(ordered[-rank])) if rank else None,
        coverage=1 - 2 * rank / n_patterns if rank else None,
    )


def smallest_sign_flip_p(n: int, n_tests: int = 1) -> float:
    """Return the smallest two-sided p-value that `sign_flip` of n differences can have.

    Parameters
    ----------
    n_tests : int
        Tests among which Holm's correction multiplies the smallest p-value.
    """
    smallest = 2 / 2**n if n <= MAX_ENUMERATED else 1 / (N_DRAWS + 1)
    return min(1.0, n_tests * smallest)


def holm(p_values: ArrayLike) -> Array:
    """Return p-values corrected for their number by Holm's step-down procedure [3]_.

    adjusted p_(i) = max over j <= i of min(1, (m - j + 1) p_(j)), for m sorted p-values

    Parameters
    ----------
    p_values : array of shape (n_tests,)
        NaN for a test that was not computed: it stays NaN, and does not count.

    Returns
    -------
    adjusted : ndarray of shape (n_tests,)
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    computed = np.flatnonzero(~np.isnan(p))
    order = computed[np.argsort(p[computed], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, factors * p[order]))
    return adjusted


def hedges_factor(df: int) -> float:
    """Return the factor that removes the bias of a standardised mean, for `df` degrees of freedom [4]_."""
    return float(np.exp(gammaln(df / 2) - gammaln((df - 1) / 2)) / np.sqrt(df / 2)) if df > 1 else np.nan


def _subtract(first: ArrayLike, second: ArrayLike) -> Array:
    a, b = (np.atleast_1d(np.asarray(scores, dtype=np.float64)) for scores in (first, second))
    if a.shape != b.shape:
        raise DesignError(f"paired scores need the same folds, and there are {len(a)} and {len(b)}")
    return _require_defined(a - b, "scores of the folds")


def _require_defined(values: Array, what: str) -> Array:
    if not len(values):
        raise DesignError(f"there are no {what} to test")
    undefined = int((~np.isfinite(values)).sum())
    if undefined:
        raise DesignError(f"{undefined} of {len(values)} {what} are not defined; leave them out")
    return values


def _sum_all_patterns(d: Array) -> Array:
    sums = np.zeros(1)
    for value in d:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _list_subset_means(d: Array) -> Array:
    """Return the means of all subsets except the empty one."""
    sums, counts = np.zeros(1), np.zeros(1)
    for value in d:
        sums, counts = np.concatenate([sums, sums + value]), np.concatenate([counts, counts + 1])
    means: Array = sums[1:] / counts[1:]
    return means


def _divide_by_sd(d: Array) -> float:
    if len(d) < 2 or np.ptp(d) <= TOLERANCE:
        return float("nan")
    return float(d.mean() / d.std(ddof=1))
