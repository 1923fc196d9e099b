"""What the rules on samples and folds see: the samples, their blocks, and the folds of the scheme."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.decoding.decoder import MIN_VOXELS_FOR_SCREENING
from harness.decoding.question import Question
from harness.decoding.splitters import split_samples
from harness.samples.block_table import NEAR_SECONDS, NEAR_VOLUMES, BlockTable, tabulate_blocks
from harness.samples.samples import RecordedSamples, Samples

MAX_NUMBERS_SHOWN = 6  # folds, runs or classes that a sentence lists


@dataclass(frozen=True, eq=False)
class AuditedSplit:
    """Samples, the question that they are decoded for, and the folds of its scheme.

    Attributes
    ----------
    folds : dict of int to (train, test) index arrays
        The folds that are fitted and scored, by their number in the scheme, from 1. A splitter that draws
        folds at random without a seed scores others than these.
    """

    samples: Samples
    question: Question
    folds: Mapping[int, tuple[np.ndarray, np.ndarray]]
    blocks: BlockTable

    @classmethod
    def of(cls, samples: Samples, question: Question) -> "AuditedSplit":
        """Split samples as decoding does.

        Raises
        ------
        DesignError
            If the scheme does not fit the samples.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # decoding, which makes the same folds, warns of skipped ones
            folds = split_samples(samples, question.scheme).folds
        return cls(samples, question, folds, tabulate_blocks(samples))

    @cached_property
    def split_blocks(self) -> dict[int, np.ndarray]:
        """Blocks with volumes on both sides, as indices into `blocks`, of every fold that has any."""
        return self._on_both_sides(self.blocks.of_sample)

    @cached_property
    def split_runs(self) -> dict[int, np.ndarray]:
        """Scanner runs with volumes on both sides, of every fold that has any."""
        runs, codes = np.unique(self.samples.runs, return_inverse=True)
        return {number: runs[found] for number, found in self._on_both_sides(codes).items()}

    @cached_property
    def near_volumes(self) -> int:
        """Volumes of one scanner run at most so many apart have overlapping haemodynamic responses."""
        t_r = self.samples.sources.recording.t_r if isinstance(self.samples, RecordedSamples) else None
        return NEAR_VOLUMES if not t_r else max(1, int(NEAR_SECONDS / t_r + 1e-9))

    @cached_property
    def screens(self) -> bool:
        """Whether every training set chooses voxels of its own."""
        percentile = self.samples.preparation.screening_percentile
        return percentile < 100 and self.samples.n_voxels > MIN_VOXELS_FOR_SCREENING

    @cached_property
    def class_codes(self) -> np.ndarray:
        """The class of every sample as its place in the contrast, (n_samples,)."""
        classes = np.array(self.samples.contrast.classes)
        order = np.argsort(classes)
        return order[np.searchsorted(classes, self.samples.y, sorter=order)]

    def count_classes(self, rows: np.ndarray) -> np.ndarray:
        """Return the number of samples of each class among some rows, (n_classes,)."""
        return np.bincount(self.class_codes[rows], minlength=len(self.samples.contrast.classes))

    def nearest_training(self, train: np.ndarray, test: np.ndarray) -> np.ndarray:
        """Return how far each held-out sample is from the nearest training sample of its scanner run.

        Returns
        -------
        distances : ndarray of shape (n_test,), int
            In volumes; where the volumes of a block were averaged, in blocks of the recording: 1 means blocks
            without rest between them. The largest integer if the scanner run has no training sample.
        """
        keys, apart = self._places
        trained = np.sort(keys[train])
        after = np.searchsorted(trained, keys[test])
        left = trained[np.maximum(after - 1, 0)]
        right = trained[np.minimum(after, len(trained) - 1)]
        distances = np.minimum(np.abs(keys[test] - left), np.abs(right - keys[test]))
        return np.where(distances < apart, distances, np.iinfo(np.int64).max)

    @cached_property
    def _places(self) -> tuple[np.ndarray, int]:
        """Return a place in time of every sample, and a distance that only different scanner runs have."""
        places = self.samples.blocks if self.question.signal.average_blocks else self.samples.volumes
        codes = np.unique(self.samples.runs, return_inverse=True)[1]
        apart = int(places.max()) + 1
        return codes * 2 * apart + places, apart

    def _on_both_sides(self, groups: np.ndarray) -> dict[int, np.ndarray]:
        n_groups = int(groups.max()) + 1
        found = {
            number: np.flatnonzero(
                (np.bincount(groups[train], minlength=n_groups) > 0)
                & (np.bincount(groups[test], minlength=n_groups) > 0)
            )
            for number, (train, test) in self.folds.items()
        }
        return {number: groups_of for number, groups_of in found.items() if len(groups_of)}


def list_folds(numbers: Mapping[int, object]) -> str:
    """Write numbers of folds: ``fold 3``, or ``folds 1, 2 and 4``; of many the first, and how many more."""
    shown = [str(number) for number in sorted(numbers)[:MAX_NUMBERS_SHOWN]]
    more = len(numbers) - len(shown)
    if more:
        return f"folds {', '.join(shown)} and {more} more"
    if len(shown) == 1:
        return f"fold {shown[0]}"
    return f"folds {', '.join(shown[:-1])} and {shown[-1]}"
