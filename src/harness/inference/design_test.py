"""The design test: whether design variables predict the classes better, or worse, than relabelled blocks.

The classes, folds, estimator and standardisation are those of the analysis; a variable takes the place of the
voxels [1]_. Labels of blocks are exchanged within scanner runs, also between blocks of different lengths: the
null hypothesis is that the order of the classes was random in every scanner run. A variable is a property of
the blocks that exchanged labels leave as it is.

References
----------
.. [1] Görgen, Hebart, Allefeld, Haynes (2018), NeuroImage 180:19-30, doi:10.1016/j.neuroimage.2017.12.083.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from harness.decoding.question import Question
from harness.errors import DesignError, UsageError
from harness.inference.design_decoder import DesignDecoder
from harness.inference.strata import Arrangements
from harness.samples.block_table import tabulate_blocks
from harness.samples.samples import Samples

LIMIT = 2048  # up to so many distinct relabellings are enumerated
N_RANDOM = 999  # otherwise, of two classes
N_RANDOM_MORE = 499  # of more classes, each of which is a problem of its own
N_SLOW = 99  # of both, for estimators and schemes that take every relabelling by itself
TOLERANCE = 1e-10  # of accuracies: sums in another order differ by rounding

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class DesignTest:
    """Scores of design variables, and their p-values.

    Attributes
    ----------
    table : DataFrame, one row per variable
        ``variable, accuracy, roc_auc, null_mean, null_low, null_high, p, p_corrected``: mean test scores
        over folds; mean, 2.5th and 97.5th percentile of the accuracies under relabelling; p-values, see
        `compute_two_sided_p`. NaN where a variable is the same for all samples.
    n_relabellings : int
        The true classes included.
    is_enumerated : bool
        Whether these are all distinct relabellings; otherwise they are the true classes and random ones.
    notices : tuple of str
        How the test differs from the analysis, where it does.
    """

    table: pd.DataFrame
    n_relabellings: int
    is_enumerated: bool
    notices: tuple[str, ...] = ()


def run_design_test(
    samples: Samples,
    variables: Mapping[str, np.ndarray],
    question: Question,
    *,
    n: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> DesignTest:
    """Decode every design variable, and compare its accuracy with those under relabelling.

    Parameters
    ----------
    samples : Samples
        Those of the analysis; their voxels are not used.
    variables : mapping of str to ndarray of shape (n_samples, n_columns)
    question : Question
        The analysis: estimator, scheme and standardisation; see
        `harness.inference.design_decoder.DesignDecoder`.
    n, limit : int, optional
        Random relabellings, unless there are at most `limit` distinct ones, which are enumerated. By default
        999 (of more than two classes 499) and 2048; 99 of both where the estimator or the scheme takes every
        relabelling by itself.
    progress : callable, optional
        Called with the name of a variable, the relabellings done and their number.

    Raises
    ------
    UsageError
        If the estimator is a dummy, which uses no samples.
    DesignError
        If the scheme does not fit the samples, or there is one way to arrange the classes.
    """
    if question.estimator.is_dummy:
        raise UsageError(
            f"estimator={question.estimator.name} predicts from the labels alone, so that no design variable "
            "can be decoded with it; choose another, for example, estimator=svc"
        )
    decoder = DesignDecoder.of(samples, question)
    arrangements, of_sample = _arrange_blocks(samples)
    tried, _ = _relabel(arrangements, 9, 0, seed)
    slow = not decoder.is_fast or decoder.depends_on_classes(tried[:, of_sample])
    many = N_RANDOM if len(samples.contrast.classes) == 2 else N_RANDOM_MORE
    default, most = (N_SLOW, N_SLOW) if slow else (many, LIMIT)
    codes, is_enumerated = _relabel(arrangements, n or default, limit or most, seed)
    codes = codes[:, of_sample]
    null = np.full((len(codes), len(variables)), np.nan)
    areas = np.full(len(variables), np.nan)
    for column, (name, values) in enumerate(variables.items()):
        if (np.ptp(values, axis=0) > 0).any():
            report = partial(_report, progress, name, len(codes))
            null[:, column], areas[column] = decoder.score(values, codes, report)
    table = _tabulate(list(variables), null, areas)
    return DesignTest(table, len(codes), is_enumerated, decoder.notices)


def _report(progress: Progress | None, name: str, total: int, done: int) -> None:
    if progress is not None:
        progress(name, done, total)


def _arrange_blocks(samples: Samples) -> tuple[Arrangements, np.ndarray]:
    """Return the exchanges of classes between the blocks of a scanner run, and the block of every sample."""
    table = tabulate_blocks(samples)
    _, codes = np.unique(table.classes, return_inverse=True)
    runs = [np.flatnonzero(table.runs == run) for run in np.unique(table.runs)]
    arrangements = Arrangements(codes, runs)
    if arrangements.n_distinct == 1:
        shown = f"{len(runs)} scanner run{'' if len(runs) == 1 else 's'}"
        raise DesignError(
            f"the design of {samples.contrast.name} cannot be checked: its {len(codes)} blocks in {shown} "
            "have no other order of the classes to compare with; expected several scanner runs with blocks "
            "of both classes, or several blocks of each class in a scanner run"
        )
    return arrangements, table.of_sample


def _relabel(arrangements: Arrangements, n: int, limit: int, seed: int) -> tuple[np.ndarray, bool]:
    """Return the classes of all blocks under relabellings, the true ones first, and whether these are all."""
    if arrangements.n_distinct <= limit:
        return arrangements.enumerate(), True
    drawn = [arrangements.draw(np.random.default_rng([seed, i])) for i in range(n)]
    return np.array([arrangements.codes, *drawn]), False


def compute_two_sided_p(null: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two-sided p-values, for single variables and corrected over all of them.

    The extremeness of an accuracy is the smaller of the shares of relabellings that score at least, and at
    most, as high. `p` is the share of relabellings that are at least as extreme as the true classes,
    `p_corrected` that of relabellings whose most extreme variable is: the maximum statistic on the scale of
    tail probabilities [1]_.

    Standardised accuracies would not do. Where leave-one-run-out meets a balanced order, accuracies under
    relabelling are 0 or above .5; in 12 scanner runs, an accuracy of 11/12 is then nearer to their mean than
    0 is, although 11/12 has a probability of .006 and 0 one of .226.

    Parameters
    ----------
    null : ndarray of shape (n_relabellings, n_variables)
        Accuracies, in the first row those of the true classes.

    Returns
    -------
    p, p_corrected : ndarray of shape (n_variables,)

    References
    ----------
    .. [1] Westfall, Young (1993), Resampling-Based Multiple Testing, section 2.3: single-step minP.
    """
    tails = np.empty(null.shape, dtype=int)
    for column, scores in enumerate(null.T):
        ordered = np.sort(scores)
        at_least = len(null) - np.searchsorted(ordered, scores - TOLERANCE, side="left")
        at_most = np.searchsorted(ordered, scores + TOLERANCE, side="right")
        tails[:, column] = np.minimum(at_least, at_most)
    most_extreme = tails.min(axis=1)[:, np.newaxis]
    return (tails <= tails[0]).mean(axis=0), (most_extreme <= tails[0]).mean(axis=0)


def _tabulate(names: Sequence[str], null: np.ndarray, areas: np.ndarray) -> pd.DataFrame:
    varies = ~np.isnan(null[0])
    low, high = np.percentile(null, [2.5, 97.5], axis=0)
    p = np.full((2, len(names)), np.nan)
    if varies.any():
        p[:, varies] = compute_two_sided_p(null[:, varies])
    return pd.DataFrame(
        {
            "variable": names,
            "accuracy": null[0],
            "roc_auc": areas,
            "null_mean": null.mean(axis=0),
            "null_low": low,
            "null_high": high,
            "p": p[0],
            "p_corrected": p[1],
        }
    )
