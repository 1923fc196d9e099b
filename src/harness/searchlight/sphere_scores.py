"""What is scored in spheres: the interface between estimators and the map."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class SphereScores:
    """Scores of some spheres: means over folds of test scores.

    Attributes
    ----------
    scores : ndarray of shape (n_scorers, n_spheres)
        Of the first labelling, the true one, in the order of `harness.decoding.choices.Scorer`.
    statistics : ndarray of shape (n_labellings, n_spheres)
        The statistic of the test under every labelling; the first is the true one.
    unconverged : int
        Decoders whose solver did not converge.
    """

    scores: NDArray[np.float64]
    statistics: NDArray[np.float64]
    unconverged: int = 0


class SphereScorer(Protocol):
    """Decodes spheres under one or many labellings. It is pickled; large arrays are shared."""

    def score(self, numbers: NDArray[np.intp]) -> SphereScores:
        """Return the scores of the spheres of these numbers; no sphere's depend on the others'."""
        ...
