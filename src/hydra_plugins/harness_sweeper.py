"""Hydra's own sweeper, but for how it checks a grid beforehand. Hydra finds its plugins in this package."""

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class GridSweeper(BasicSweeper):
    """Composes, before the first job, no more combinations than show every value once.

    Hydra's own composes all of them, 0.1 s each, one after the other, and every job composes its own again.
    A value that is wrong is found all the same before anything runs; two values that are wrong only together
    are found by their job.
    """

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Check that every value of the grid can be composed.

        Parameters
        ----------
        batch : sequence of sequence of str
            The overrides of every job.
        """
        seen: set[str] = set()
        for overrides in batch:
            if not seen.issuperset(overrides):
                super().validate_batch_is_legal([overrides])
                seen.update(overrides)
