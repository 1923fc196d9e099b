"""The family-wise error rate of tested maps on smooth null brains, a small version of the benchmark."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter
from scipy.stats import binom

from harness.inference.settings import PermutationSettings
from harness.searchlight.run import run_searchlight
from harness.searchlight.settings import Searchlight
from small_brains import ask, make_brain

N_BRAINS = 40
SHAPE = (4, 4, 4)
CORRECTED = {"accuracy": "cluster_size", "roc_auc": "tfce", "decision_value": "tfce"}


def make_null_brain(seed):
    """Return smooth, autocorrelated noise with an offset per scanner run, and labels in random order."""
    rng = np.random.default_rng([seed, 42])
    orders = [("AB", "BA")[rng.integers(2)] for _ in range(8)]
    if len(set(orders)) == 1:
        orders[0] = orders[0][::-1]  # the same order in all scanner runs is refused
    samples = make_brain(SHAPE, orders, block=4)
    noise = []
    for _ in orders:
        white = rng.standard_normal((8 + 20, *SHAPE))
        data = lfilter([1.0], [1.0, -0.6], white, axis=0)[20:] + rng.standard_normal(SHAPE)
        for axis in (1, 2, 3):
            data = gaussian_filter1d(data, 1.0, axis=axis)
        noise.append(data.reshape(8, -1))
    return replace(samples, X=np.concatenate(noise).astype(np.float32))


@pytest.mark.slow
def test_corrected_maps_of_noise_are_rarely_significant():
    """At most as often as a rate of .05 allows, in 99.9 % of such tests; uncorrected maps nearly always."""
    found = []
    for seed in range(N_BRAINS):
        samples, smallest = make_null_brain(seed), {}
        for statistic, correction in CORRECTED.items():
            settings = Searchlight(radius=6.0, statistic=statistic, correction=correction, cluster_z=2.0)
            test = run_searchlight(samples, samples.grid.mask, ask(), settings, PermutationSettings()).test
            smallest[f"{statistic} uncorrected"] = test.p.min()
            for name, corrected in test.corrected.items():
                smallest[f"{statistic} {name}"] = corrected.p.min()
        found.append(smallest)
    limit = binom.ppf(0.999, N_BRAINS, 0.05)
    counts = {name: sum(each[name] <= 0.05 for each in found) for name in found[0]}
    assert len(counts) == 9
    for name, count in counts.items():
        if name.endswith("uncorrected"):
            assert count > limit, counts
        else:
            assert count <= limit, counts
