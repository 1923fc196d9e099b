"""Corrections for several tests, and sequential p-values, from scores under relabellings.

References
----------
.. [1] Besag, Clifford (1991), Biometrika 78:301-304, doi:10.1093/biomet/78.2.301.
.. [2] Nichols, Holmes (2002), Human Brain Mapping 15:1-25, doi:10.1002/hbm.1058.
.. [3] Westfall, Young (1993), Resampling-Based Multiple Testing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

ALPHA = 0.05

TOLERANCE = 1e-10
"""Scores that differ by no more are equal: the smallest true difference is about 1e-3."""


def reaches(scores: ArrayLike, observed: ArrayLike) -> NDArray[np.bool_]:
    """Return which scores are at least the observed one, ties included; undefined scores count as such."""
    return ~(np.asarray(scores, dtype=np.float64) < np.asarray(observed, dtype=np.float64) - TOLERANCE)


def share_reaching(values: ArrayLike, observed: ArrayLike, tolerance: float | Array = TOLERANCE) -> Array:
    """Return the share of values that are at least as high as each observed one; see `reaches`.

    Parameters
    ----------
    values : ndarray of shape (n_values,)
    observed : ndarray of shape (n_observed,)
    tolerance : float or ndarray of shape (n_observed,)
        Values that are lower by no more are ties.
    """
    # NaN is sorted to the end, where it counts as reached; an undefined observed value is reached by all.
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    least = np.asarray(observed, dtype=np.float64) - tolerance
    least = np.where(np.isnan(least), -np.inf, least)
    return (len(ordered) - ordered.searchsorted(least, side="left")) / len(ordered)


def threshold_of_maxima(maxima: ArrayLike, alpha: float = ALPHA) -> float | None:
    """Return the value above which less than a share `alpha` of maxima lies.

    Returns
    -------
    threshold : float or None
        None where so few maxima are given that no value can be significant.
    """
    ordered = np.sort(np.asarray(maxima, dtype=np.float64))[::-1]
    n_above = int(np.floor(alpha * len(ordered) + TOLERANCE))
    return float(ordered[n_above]) if n_above else None


def drop_observed(scores: ArrayLike, enumerated: bool) -> Array:
    """Return the null distribution that scores under relabelling are, those of the true labelling first.

    An enumeration includes the true labelling. Random relabellings are drawn in addition to it, so that their
    null distribution is without it.
    """
    return np.asarray(scores, dtype=np.float64)[0 if enumerated else 1 :]


@dataclass(frozen=True, eq=False)
class MaximumStatistic:
    """P-values of several columns, corrected by the distribution of their maximum.

    Attributes
    ----------
    uncorrected : ndarray of shape (n_columns,)
        Share of rows that score at least as high as the first.
    single_step : ndarray of shape (n_columns,)
        Share of rows whose maximum over columns does [2]_.
    step_down : ndarray of shape (n_columns,)
        Each column compared with the maximum over itself and those with smaller scores, made monotone [3]_.
    threshold : float or None
        Scores above it have a single-step p-value of at most .05. None for fewer than 20 rows.
    """

    uncorrected: Array
    single_step: Array
    step_down: Array
    threshold: float | None


def maximum_statistic(table: ArrayLike, alpha: float = ALPHA) -> MaximumStatistic:
    """Correct the p-values of several columns for the number of columns.

    Parameters
    ----------
    table : ndarray of shape (n_relabellings, n_columns)
        Scores, those of the true labelling in the first row; the relabelling of a row is the same in all
        columns. Columns with different null distributions have to be brought to one scale first, by
        `standardise_nulls`; otherwise the one with the widest sets the maximum.
    alpha : float
        Error rate of the threshold.
    """
    T = np.asarray(table, dtype=np.float64)
    maxima = T.max(axis=1)
    largest_first = np.argsort(-T[0], kind="stable")
    rest = np.maximum.accumulate(T[:, largest_first][:, ::-1], axis=1)[:, ::-1]
    step_down = np.empty(T.shape[1])
    step_down[largest_first] = np.maximum.accumulate(reaches(rest, T[0, largest_first]).mean(axis=0))
    return MaximumStatistic(
        uncorrected=reaches(T, T[0]).mean(axis=0),
        single_step=share_reaching(maxima, T[0]),
        step_down=step_down,
        threshold=threshold_of_maxima(maxima, alpha),
    )


def standardise_nulls(table: ArrayLike, tolerance: float | Array = TOLERANCE) -> Array:
    """Return every column minus its mean, divided by its standard deviation, both over all rows.

    Parameters
    ----------
    table : ndarray of shape (n_relabellings, n_columns)
        Scores, those of the true labelling in the first row.
    tolerance : float or ndarray of shape (n_columns,)
        Standard deviation up to which a column does not vary but for rounding.

    Returns
    -------
    z : ndarray of shape (n_relabellings, n_columns)
        0 in columns that do not vary.
    """
    T = np.asarray(table, dtype=np.float64)
    sd = T.std(axis=0)
    varies = sd > tolerance
    return np.where(varies, (T - T.mean(axis=0)) / np.where(varies, sd, 1.0), 0.0)


@dataclass(frozen=True)
class SequentialP:
    """A p-value from draws that end early.

    Attributes
    ----------
    p : float
    n_drawn : int
        Draws that were needed.
    n_reached : int
        Draws among them that score at least as high as the observed labelling.
    stopped_early : bool
    """

    p: float
    n_drawn: int
    n_reached: int
    stopped_early: bool


def besag_clifford(observed: float, draws: ArrayLike, h: int = 10, n_max: int | None = None) -> SequentialP:
    """Return the sequential p-value of Besag & Clifford [1]_.

    p = h / l if the h-th draw that reaches the observed score is the l-th; else (b + 1) / (n + 1)

    Parameters
    ----------
    draws : array of shape (n_draws,)
        Scores of relabellings in random order, without the true labelling.
    n_max : int, optional
        Draws at most; by default all of them.
    """
    reached = reaches(np.asarray(draws, dtype=np.float64)[:n_max], observed)
    counts = np.cumsum(reached)
    places = np.flatnonzero(counts == h)
    if len(places):
        n_drawn = int(places[0]) + 1
        return SequentialP(h / n_drawn, n_drawn, h, True)
    n_reached = int(counts[-1]) if len(counts) else 0
    return SequentialP((n_reached + 1) / (len(reached) + 1), len(reached), n_reached, False)


def format_p(p: float) -> str:
    """Return a p-value with two significant digits."""
    return f"{p:.2g}"
