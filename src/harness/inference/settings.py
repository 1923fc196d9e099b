"""The settings of a permutation test."""

from dataclasses import dataclass

from harness.errors import UsageError
from harness.inference.choices import NullHypothesis, Relabel

MAX_RELABELLINGS = 1_000_000  # of which 200 volumes need 1.6 GB


@dataclass(frozen=True)
class PermutationSettings:
    """How a permutation test relabels, and how much it computes.

    Parameters
    ----------
    relabel : {"blocks", "order_preserving"}
        ``"blocks"`` exchanges the labels of blocks within strata: blocks of one scanner run with equally many
        volumes. ``"order_preserving"`` exchanges the orders of the classes between scanner runs, and keeps
        the number of runs that show each class first: for designs whose order was not balanced.
    null : {"conditions_alike", "partition"}
        What is tested where a class has several conditions: whether the conditions can be distinguished along
        the classes at all, or whether this assignment of conditions to classes is better than others.
    n : int
        Random relabellings, where there are more than `limit` distinct ones.
    limit : int
        Up to twice as many distinct relabellings are enumerated: more than `limit` are drawn at random only
        where that saves at least half of the work.
    stop_early : bool
        End as soon as enough relabellings score at least as high (Besag & Clifford 1991).
    maps : bool
        Also test the activation patterns voxel by voxel, and measure the stability of the maps.
    force : bool
        Test although no p-value below .05 is possible.
    seed : int
        Of the random relabellings.
    processes : int or None
        Processes that share the work; None takes one per core for a single run, and one in a sweep.
    """

    relabel: str = Relabel.blocks.value
    null: str = NullHypothesis.conditions_alike.value
    n: int = 1000
    limit: int = 10_000
    stop_early: bool = False
    maps: bool = True
    force: bool = False
    seed: int = 0
    processes: int | None = None

    def __post_init__(self) -> None:
        for key, kind in (("relabel", Relabel), ("null", NullHypothesis)):
            if getattr(self, key) not in list(kind):
                raise UsageError(
                    f"inference.{key}={getattr(self, key)!r} is unknown; expected one of {', '.join(kind)}"
                )
        for key, least in (("n", 19), ("limit", 1), ("processes", 1)):
            value = getattr(self, key)
            if value is not None and value < least:
                raise UsageError(f"inference.{key}={value} is too few; expected {least} or more")
        for key in ("n", "limit"):
            if getattr(self, key) > MAX_RELABELLINGS:
                raise UsageError(
                    f"inference.{key}={getattr(self, key)} is too many; expected {MAX_RELABELLINGS} or fewer"
                )
        if self.seed < 0:
            raise UsageError(f"inference.seed={self.seed} is negative; expected a whole number from 0")
