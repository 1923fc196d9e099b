"""Family-wise errors and power of tests of searchlight maps over subjects, on simulated maps.

    python benchmarks/group_maps.py                          # everything; about half an hour on one core
    python benchmarks/group_maps.py --parts means --groups 300

Maps are smooth random fields (Gaussian, SD one voxel) in a cube, with a mean and an SD of their own in every
voxel and subject, rounded to 1/972 as a mean AUC over twelve folds of nine against nine volumes is. Without
an effect the true labelling is one more draw of the same field. Permutation of means and prevalence take 100
maps per subject; changes of sign take one map per subject, whose SD differs between subjects. A rate is the
share of groups with a corrected p of at most .05 in any voxel; the limit is the one-sided 99.9 % limit of
the binomial distribution for a rate of .05. `majority` draws subjects of whom half have a strong effect, in
every voxel: the statement on the majority is one on a single voxel there, because the correction over voxels
is for those that have information in no one.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402  the variables above are read on import
from joblib import Parallel, delayed  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from scipy.ndimage import gaussian_filter  # noqa: E402
from scipy.stats import binom  # noqa: E402

from harness.inference.group_tests import prevalence_arrays  # noqa: E402
from harness.inference.mean_map import (  # noqa: E402
    MAP_TOLERANCE,
    permutation_of_mean_maps,
    standardise_maps,
)
from harness.inference.sign_flip_map import sign_flip_map  # noqa: E402
from harness.inference.tfce import compute_tfce, find_neighbours  # noqa: E402

Array = NDArray[np.float64]

ALPHA = 0.05
SIDE = 7
N_MAPS, N_DRAWS = 100, 2000
STEP = 1 / 972
MASK = np.ones((SIDE, SIDE, SIDE), dtype=bool)
REGION = np.zeros(MASK.shape, dtype=bool)
REGION[2:5, 2:5, 2:5] = True


def draw_fields(rng: np.random.Generator, n: int) -> Array:
    """Return smooth fields with variance 1, (n, n_voxels)."""
    noise = rng.normal(size=(n, *(size + 8 for size in MASK.shape)))
    smooth = gaussian_filter(noise, (0, 1, 1, 1))[:, 4:-4, 4:-4, 4:-4]
    return smooth[:, MASK] / smooth[:, MASK].std()


def draw_subject(rng: np.random.Generator, effect: Array | float = 0.0) -> NDArray[np.float32]:
    """Return the maps of one subject, the true labelling first; `effect` is in units of the null's SD."""
    sd = 0.06 * np.exp(0.3 * draw_fields(rng, 1)[0]) * rng.uniform(0.7, 1.4)
    mean = 0.5 + 0.02 * draw_fields(rng, 1)[0]
    z = draw_fields(rng, N_MAPS)
    z[0] += effect
    return np.round((mean + sd * z) / STEP).astype(np.float32) * np.float32(STEP)


def test_means(seed: int, n: int, effect: float) -> dict[str, Array]:
    """Return the corrected p-values of the permutation of means."""
    rng = np.random.default_rng([seed, n, 1])
    tables = [standardise_maps(draw_subject(rng, effect * REGION[MASK])) for _ in range(n)]
    found = permutation_of_mean_maps(tables, N_DRAWS, seed, mask=MASK, cluster_z=2.33)
    assert found.clusters is not None
    return {"means, maximum": found.p_fwe, "means, cluster size": found.clusters.p}


def test_prevalence(seed: int, n: int, effect: float) -> dict[str, Array]:
    """Return the corrected p-values of the global and of the majority null hypothesis."""
    rng = np.random.default_rng([seed, n, 2])
    tables = [standardise_maps(draw_subject(rng, effect * REGION[MASK])) for _ in range(n)]
    found = prevalence_arrays(tables, ALPHA, N_DRAWS, seed, MAP_TOLERANCE)
    return {
        "prevalence, global": found.p_global_corrected,
        "prevalence, majority": found.p_majority_corrected,
    }


def test_majority(seed: int, n: int, _: float) -> dict[str, Array]:
    """Return the p-values of the majority null hypothesis where half of the subjects have an effect."""
    rng = np.random.default_rng([seed, n, 3])
    tables = [standardise_maps(draw_subject(rng, 8.0 if rng.random() < 0.5 else 0.0)) for _ in range(n)]
    found = prevalence_arrays(tables, ALPHA, N_DRAWS, seed, MAP_TOLERANCE)
    p = found.p_majority_corrected
    return {"majority, effect in half, one voxel": p[[p.size // 2]], "majority, effect in half, any voxel": p}


def test_sign_flip(seed: int, n: int, effect: float) -> dict[str, Array]:
    """Return the corrected p-values of changes of sign."""
    rng = np.random.default_rng([seed, n, 4])
    spread = rng.uniform(0.5, 2.0, size=(n, 1))
    d = spread * (draw_fields(rng, n) + effect * REGION[MASK])
    found = sign_flip_map(d, partial(compute_tfce, neighbours=find_neighbours(MASK)), N_DRAWS // 2, seed)
    return {"sign flip, maximum": found.p_fwe, "sign flip, TFCE": found.p_tfce}


PARTS = {
    "means": test_means,
    "prevalence": test_prevalence,
    "majority": test_majority,
    "sign_flip": test_sign_flip,
}


def count(
    test: Callable[[int, int, float], dict[str, Array]], n: int, groups: int, effect: float, processes: int
) -> None:
    """Print the share of groups with a significant voxel, or, with an effect, of voxels in its region."""
    found = Parallel(n_jobs=processes)(delayed(test)(seed, n, effect) for seed in range(groups))
    limit = binom.ppf(0.999, groups, ALPHA) / groups
    for name in found[0]:
        if effect:
            shares = np.mean([(item[name][REGION[MASK]] <= ALPHA).mean() for item in found])
            outside = np.mean([(item[name][~REGION[MASK]] <= ALPHA).mean() for item in found])
            print(f"{n:2} subjects, {name:46} region {shares:.2f}, elsewhere {outside:.3f}", flush=True)
        else:
            rate = np.mean([(item[name] <= ALPHA).any() for item in found])
            verdict = "ok" if rate <= limit else "above"
            print(f"{n:2} subjects, {name:46} {rate:.3f} (limit {limit:.3f}) {verdict}", flush=True)


def main() -> None:
    """Print the rates of the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--groups", type=int, default=300, help="per rate (default: 300)")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    for part in options.parts.split(","):
        for n in (12, 16) if part == "sign_flip" else (3, 6):
            count(PARTS[part], n, options.groups, 0.0, options.processes)
        if part != "majority":
            count(PARTS[part], 12 if part == "sign_flip" else 6, 40, 1.5, options.processes)


if __name__ == "__main__":
    main()
