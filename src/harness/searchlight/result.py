"""What one searchlight found out: its maps and their test."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray

from harness.datasets.recording import Recording
from harness.decoding.question import Question
from harness.samples.samples import RecordedSamples
from harness.searchlight.map_test import MapTest
from harness.searchlight.settings import Searchlight
from harness.searchlight.spheres import Spheres


@dataclass(frozen=True, eq=False)
class SearchlightResult:
    """The maps of one searchlight.

    Attributes
    ----------
    question : Question
        Its `roi` is the set of centres.
    samples : RecordedSamples
        All voxels that spheres may take.
    scores : mapping of str to ndarray of shape (n_spheres,)
        Mean over folds of the test scores, by scorer.
    test : MapTest or None
        None without ``inference=permutation``.
    n_folds : int
    skipped : DataFrame, one row per fold that was left out because it lacks a class
        See `harness.decoding.splitters.Split`.
    seconds : mapping of str to float
        Wall time of every stage.
    """

    question: Question
    settings: Searchlight
    samples: RecordedSamples
    spheres: Spheres
    scores: Mapping[str, NDArray[np.float64]]
    test: MapTest | None
    n_folds: int
    skipped: pd.DataFrame
    seconds: Mapping[str, float]
    warnings: tuple[str, ...]

    @property
    def recording(self) -> Recording:
        """The recording that was decoded."""
        return self.samples.sources.recording

    @property
    def score_map(self) -> NDArray[np.float64]:
        """The score of the map, (n_spheres,)."""
        return self.scores[self.settings.scorer]

    @property
    def centres(self) -> NDArray[np.bool_]:
        """The voxels in the centres of the spheres, (x, y, z); in C order those of `spheres`."""
        centres = np.zeros(self.samples.grid.mask.shape, dtype=bool)
        centres.ravel()[np.flatnonzero(self.samples.grid.mask)[self.spheres.centres]] = True
        return centres

    def to_image(self, values: NDArray[np.generic], outside: float = 0.0) -> Nifti1Image:
        """Return values of spheres, (n_spheres,), as an image, in the voxels in their centres.

        Parameters
        ----------
        outside : float
            Of all other voxels.
        """
        volume = np.full(self.samples.grid.mask.shape, outside, dtype=np.float64)
        volume[self.centres] = values
        return Nifti1Image(volume, self.samples.grid.affine)
