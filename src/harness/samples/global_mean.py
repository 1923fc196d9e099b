"""The global mean: the mean of every volume over the voxels that are decoded."""

import warnings
from dataclasses import replace

import numpy as np

from harness.samples.cache import SampleCache
from harness.samples.choices import ZScore
from harness.samples.samples import RecordedSamples, read_volumes
from harness.samples.signal import Signal, clean_runs


def read_global_mean(
    samples: RecordedSamples, signal: Signal, cache: SampleCache | None = None
) -> np.ndarray:
    """Return the mean over the voxels of samples of every volume of their recording.

    It is smoothed and cleaned as the voxels are, and not standardised. Cleaning is linear, so that the mean
    of cleaned voxels is the cleaned mean of the voxels.

    Parameters
    ----------
    signal : Signal
        That of the samples.
    cache : SampleCache, optional
        Where masked volumes are kept; without it, the image is read again.

    Returns
    -------
    means : ndarray of shape (n_volumes,), float64
    """
    sources = samples.sources
    data = read_volumes(sources, signal, cache, single_precision=True).data
    means: np.ndarray = data[:, samples.grid.mask[sources.mask]].mean(axis=1, dtype=np.float64)
    cleaning = replace(signal, zscore=ZScore.none.value)
    if not cleaning.cleans_runs:
        return means
    runs = sources.recording.labels["run"].to_numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the samples have warned of the same
        cleaned = clean_runs(means[:, np.newaxis], runs, cleaning, sources.recording, sources.confounds)
    return cleaned[:, 0]
