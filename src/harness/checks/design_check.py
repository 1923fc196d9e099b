"""The design check: which design variables predict the classes, and what follows from it."""

from dataclasses import dataclass

import pandas as pd

from harness.checks.design_variables import GLOBAL_MEAN, ORDER
from harness.samples.class_order import UNBALANCED_ORDER, OrderBalance

LEVEL = 0.05  # of the corrected p-values
OPPOSITE = 0.25  # accuracy of the order alone, in two classes, from which it predicts the opposite


@dataclass(frozen=True, eq=False)
class DesignCheck:
    """Scores of the design variables of an analysis, and the order of its classes.

    Attributes
    ----------
    table : DataFrame, one row per variable
        ``variable, accuracy, roc_auc, null_mean, null_low, null_high, p, p_corrected, description``; see
        `harness.inference.design_test.DesignTest`. NaN where a variable is the same for all samples.
    balances : list of OrderBalance
        Of every pair of classes, the least balanced first.
    positions : DataFrame
        See `harness.samples.class_order.describe_positions`.
    n_relabellings : int
        The true classes included.
    is_enumerated : bool
        Whether the p-values are from all distinct relabellings.
    notices : tuple of str
        Warnings and restrictions.
    """

    title: str
    table: pd.DataFrame
    balances: list[OrderBalance]
    positions: pd.DataFrame
    n_relabellings: int
    is_enumerated: bool
    notices: tuple[str, ...] = ()

    @property
    def findings(self) -> list[str]:
        """What speaks against the design, one sentence per finding; empty if nothing does.

        - A variable predicts the classes, or the opposite of them: corrected p of at most .05.
        - Two classes are shown in an unbalanced order: the imbalance itself counts, not its p-value, because
          tests of classes that are alike reject too often from there on. Of more than two classes, some pair
          is usually as unbalanced by chance, so that its probability counts as well.
        - The order alone predicts the opposite class: a balanced order in leave-one-run-out, where the
          majority of the training runs always has the other order.
        """
        return [*self._significant(), *self._unbalanced(), *self._opposite()]

    @property
    def conclusion(self) -> str:
        """One sentence: whether the classes can be predicted from the design."""
        if not self.findings:
            n = int(self.table["p"].notna().sum())
            return (
                f"None of the {n} design variables predicts the classes better or worse than those of "
                "relabelled blocks; this does not prove that none has an effect."
            )
        return (
            f"Design variables alone carry information about the classes ({len(self.findings)} "
            f"finding{'' if len(self.findings) == 1 else 's'}): compare the score of the analysis with those "
            "below before you interpret it."
        )

    def _significant(self) -> list[str]:
        sentences = []
        for _, row in self.table[self.table["p_corrected"] <= LEVEL].iterrows():
            above = row["accuracy"] > row["null_mean"]
            sentence = (
                f"{row['variable']} alone predicts the {'class' if above else 'opposite of the class'} with "
                f"accuracy {row['accuracy']:.3f}, where relabelled blocks have {row['null_mean']:.3f} on "
                f"average (corrected p = {row['p_corrected']:.4f})"
            )
            if row["variable"] == GLOBAL_MEAN:
                sentence += (
                    ". It is a mean of the data, not a property of the sequence: the classes differ in their "
                    "mean signal, so that a decoder needs no pattern to reach this accuracy"
                )
            sentences.append(f"{sentence}.")
        return sentences

    def _unbalanced(self) -> list[str]:
        sentences = []
        remedy = ""
        if len(self.positions) == 2:
            remedy = " Test the score with inference=permutation inference.relabel=order_preserving."
        for balance in self.balances:
            if balance.is_fixed:
                sentences.append(
                    f"{describe_balance(balance)}: order and class cannot be distinguished, and a "
                    "permutation test is refused."
                )
            elif balance.is_unbalanced:
                sentences.append(
                    f"{describe_balance(balance)}: the imbalance |2k/R - 1| is {balance.imbalance:.2f}, and "
                    f"from {UNBALANCED_ORDER} on an effect of order can pass for one of the classes.{remedy}"
                )
        return sentences

    def _opposite(self) -> list[str]:
        order = self.table[(self.table["variable"] == ORDER) & (self.table["p_corrected"] > LEVEL)]
        if len(self.positions) > 2 or not (order["accuracy"] <= OPPOSITE).any():
            return []
        accuracy = float(order["accuracy"].iloc[0])
        return [
            f"order alone predicts the opposite of the class, with accuracy {accuracy:.3f}: the order is "
            "balanced, so that the scanner runs that a decoder is trained on have the other order more often "
            "than those that are held out. Effects of order push accuracies below chance; a significant "
            "score is not explained by them."
        ]

    def to_dict(self) -> dict[str, object]:
        """Return the check as plain values, as it is written to ``design.json``; NaN becomes None."""
        rows = self.table.astype(object).where(self.table.notna(), None).to_dict("records")
        balances = [
            {
                "first": balance.first,
                "second": balance.second,
                "k": balance.k,
                "n_runs": balance.n_runs,
                "imbalance": balance.imbalance,
                "probability": balance.probability,
            }
            for balance in self.balances
        ]
        return {
            "variables": rows,
            "order": balances,
            "positions": self.positions.astype(object).to_dict("records"),
            "n_relabellings": self.n_relabellings,
            "relabellings": "enumerated" if self.is_enumerated else "random",
            "findings": self.findings,
            "conclusion": self.conclusion,
            "notices": list(self.notices),
        }


def describe_balance(balance: OrderBalance) -> str:
    """Return the order of two classes in words."""
    return (
        f"{balance.first!r} comes before {balance.second!r} in {balance.k} of {balance.n_runs} scanner runs "
        f"(random orders are as unbalanced in {100 * balance.probability:.3g} % of cases)"
    )
