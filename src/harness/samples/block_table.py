"""The stimulation blocks of samples, and the order of the classes in the scanner runs."""

from dataclasses import dataclass

import numpy as np

from harness.samples.samples import Samples

NEAR_SECONDS = 8.0
"""Distance below which responses to stimuli overlap."""

NEAR_VOLUMES = 3
"""The same in volumes, where the repetition time is unknown."""


@dataclass(frozen=True, eq=False)
class BlockTable:
    """Stimulation blocks that have at least one sample, in the order of the recording.

    Attributes
    ----------
    of_sample : ndarray of shape (n_samples,), int
        Block of every sample, from 0.
    runs : ndarray of shape (n_blocks,), int
        Scanner run.
    conditions, classes : ndarray of shape (n_blocks,), str
    n_volumes : ndarray of shape (n_blocks,), int
        Selected volumes; 1 where the volumes of a block were averaged.
    onsets : ndarray of shape (n_blocks,), int
        Index of the first selected volume in the recording, from 0.
    """

    of_sample: np.ndarray
    runs: np.ndarray
    conditions: np.ndarray
    classes: np.ndarray
    n_volumes: np.ndarray
    onsets: np.ndarray


def tabulate_blocks(samples: Samples) -> BlockTable:
    """Return the blocks of samples."""
    _, first, of_sample = np.unique(samples.blocks, return_index=True, return_inverse=True)
    return BlockTable(
        of_sample=of_sample,
        runs=samples.runs[first],
        conditions=samples.conditions[first],
        classes=samples.y[first],
        n_volumes=np.bincount(of_sample),
        onsets=samples.volumes[first],
    )


def count_first(table: BlockTable, first: str, second: str) -> tuple[int, int]:
    """Count the scanner runs that show one class before another.

    Returns
    -------
    k : int
        Scanner runs whose first block of the class `first` precedes their first block of `second`.
    n_runs : int
        Scanner runs that have blocks of both.
    """
    k = n_runs = 0
    for run in np.unique(table.runs):
        of_run = table.runs == run
        onsets = [table.onsets[of_run & (table.classes == name)] for name in (first, second)]
        if all(len(found) for found in onsets):
            n_runs += 1
            k += bool(onsets[0].min() < onsets[1].min())
    return k, n_runs
