"""The cross-validation schemes that scikit-learn lacks."""

from collections.abc import Iterator
from numbers import Integral

import numpy as np
from sklearn.model_selection import BaseCrossValidator


class HoldOutLast(BaseCrossValidator):
    """Hold out the last volumes of the recording, once.

    This is the first scheme of nilearn's introduction to decoding: train on all but the last 30 volumes.

    Parameters
    ----------
    n_volumes : int
        How many volumes are held out, counted among the selected volumes in their recorded order.
    """

    n_volumes: int

    def __init__(self, n_volumes: int = 30) -> None:
        if isinstance(n_volumes, bool) or not isinstance(n_volumes, Integral):
            raise ValueError(f"n_volumes={n_volumes!r} is not a whole number; expected such as 30")
        self.n_volumes = n_volumes

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Return 1: there is one fold."""
        return 1

    def _iter_test_indices(
        self, X: np.ndarray, y: object = None, groups: object = None
    ) -> Iterator[np.ndarray]:
        n_samples = len(X)
        if not 0 < self.n_volumes < n_samples:
            raise ValueError(
                f"n_volumes={self.n_volumes} of {n_samples} selected volumes cannot be held out; "
                f"expected 1 to {n_samples - 1}"
            )
        yield np.arange(n_samples - self.n_volumes, n_samples)
