"""The order of the classes: how often one class comes before another in a scanner run."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd

from harness.samples.block_table import BlockTable, count_first

UNBALANCED_ORDER = 0.5
"""|2k/R - 1| from which an order is unbalanced: 9 of 12 scanner runs, where a test at the 5 % level that
exchanges blocks at random rejects a true null hypothesis in up to 11 % of cases."""

RUNS_OF_CHANCE = 6
"""Of several pairs of classes, one is often in the same order in all scanner runs, if these are fewer."""

RARE = 0.05
"""Probability, over all pairs of more than two classes, of an imbalance that is a caution."""


@dataclass(frozen=True)
class OrderBalance:
    """The order of two classes.

    Attributes
    ----------
    first, second : str
        Names of the classes, `first` being the one that comes first more often.
    k : int
        Scanner runs whose first block of `first` precedes their first block of `second`.
    n_runs : int
        Scanner runs that have blocks of both.
    probability : float
        Probability that a random order of the blocks of every scanner run is as unbalanced or more.
    n_classes : int
        Classes of the contrast: of the pairs of many, some are unbalanced by chance.
    """

    first: str
    second: str
    k: int
    n_runs: int
    probability: float
    n_classes: int = 2

    @property
    def imbalance(self) -> float:
        """``|2 k / n_runs - 1|``: 0 for a balanced order, 1 where `first` always comes first."""
        return abs(2 * self.k / self.n_runs - 1)

    @property
    def is_fixed(self) -> bool:
        """Whether one class always comes first, so that order and class cannot be distinguished."""
        return self.k == self.n_runs >= (2 if self.n_classes == 2 else RUNS_OF_CHANCE)

    @property
    def is_unbalanced(self) -> bool:
        """Whether the imbalance is a caution; a single scanner run has no order to balance.

        Of two classes the imbalance itself counts, not its probability, which is .146 at 9 of 12 scanner
        runs; of more classes, both do.
        """
        if self.n_runs < 2 or self.imbalance < UNBALANCED_ORDER:
            return False
        return self.n_classes == 2 or self.probability <= RARE / comb(self.n_classes, 2)


def list_balances(table: BlockTable, classes: Sequence[str]) -> list[OrderBalance]:
    """Return the order of every pair of classes that share scanner runs, the least balanced first."""
    balances = []
    for pair in combinations(classes, 2):
        k, n_runs = count_first(table, *pair)
        if n_runs:
            first, second = pair if 2 * k >= n_runs else pair[::-1]
            k = max(k, n_runs - k)
            balances.append(
                OrderBalance(first, second, k, n_runs, _tail(table, first, second, k), len(classes))
            )
    return sorted(balances, key=lambda balance: -balance.imbalance)


def _tail(table: BlockTable, first: str, second: str, k: int) -> float:
    """Return the probability of an imbalance of at least that of `k` in random orders.

    In a scanner run with `a` and `b` blocks of the classes, the first class comes first with probability
    ``a / (a + b)``, independently of the others.
    """
    counts = np.ones(1)  # probability of 0, 1, ... scanner runs with the first class first
    for run in np.unique(table.runs):
        of_run = table.classes[table.runs == run]
        a, b = np.count_nonzero(of_run == first), np.count_nonzero(of_run == second)
        if a and b:
            counts = np.convolve(counts, [b / (a + b), a / (a + b)])
    n_runs = len(counts) - 1
    unbalanced = np.abs(2 * np.arange(n_runs + 1) - n_runs) >= abs(2 * k - n_runs)
    return float(counts[unbalanced].sum())


def describe_positions(table: BlockTable, classes: Sequence[str]) -> pd.DataFrame:
    """Return where the blocks of every class stand among the decoded blocks of their scanner runs.

    Returns
    -------
    positions : DataFrame with columns ``class, blocks, mean_position, first``, one row per class
        Positions count from 1; `first` is the number of scanner runs whose first decoded block is of it.
    """
    position = np.empty(len(table.runs), dtype=int)
    for run in np.unique(table.runs):
        rows = np.flatnonzero(table.runs == run)
        position[rows[np.argsort(table.onsets[rows])]] = np.arange(1, len(rows) + 1)
    members = {name: table.classes == name for name in classes}
    return pd.DataFrame(
        {
            "class": list(classes),
            "blocks": [int(rows.sum()) for rows in members.values()],
            "mean_position": [float(position[rows].mean()) for rows in members.values()],
            "first": [int((position[rows] == 1).sum()) for rows in members.values()],
        }
    )
