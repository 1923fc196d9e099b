"""Family-wise error rates and power of tested searchlights, on simulated brains.

    python benchmarks/searchlight_calibration.py                             # everything
    python benchmarks/searchlight_calibration.py --parts random,haxby --brains 300
    python benchmarks/searchlight_calibration.py --results found.jsonl       # resumes

Noise of every voxel is AR(1) (rho = .5) over the 121 volumes of a scanner run, smoothed over neighbouring
voxels (Gaussian, sigma of 1 voxel), with a slow drift (three cosines per scanner run and voxel, random
amplitudes) and an offset per scanner run and voxel. Volumes are those of face and cat in the labels of Haxby
subject 1 (HARNESS_TEST_DATA, or ../shared/data next to the checkout), where face comes first in 9 of 12
scanner runs (part `haxby`); in part `random` the order is drawn anew for every brain and scanner run.
Spheres have a radius of 2 voxels, the decoder is ridge with one penalty (--alpha), 199 random relabellings
are compared with the true labels.

Null brains (6 x 6 x 6 voxels): the share of brains with any voxel whose corrected p is at most .05, and the
one-sided 99.9 % limit of the binomial distribution for a rate of .05. Planted brains (8 x 8 x 8 voxels): a
pattern over a cube of 3 x 3 x 3 voxels whose sign is that of the class; the share of its voxels that are
found (power), the share of found centres that are farther than the radius from every voxel of the cube, and
the share of brains with such a centre, which a strong control of the error rate limits to .05, too.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402  the variables above are read on import
from joblib import Parallel, delayed  # noqa: E402
from scipy.ndimage import distance_transform_edt, gaussian_filter1d  # noqa: E402
from scipy.signal import lfilter  # noqa: E402
from scipy.stats import binom  # noqa: E402
from sklearn.model_selection import LeaveOneGroupOut  # noqa: E402

from calibration import ALPHA, CONTRAST, Design, read_design  # noqa: E402
from harness.decoding.estimator import Estimator  # noqa: E402
from harness.decoding.question import Question  # noqa: E402
from harness.decoding.splitters import Scheme  # noqa: E402
from harness.inference.settings import PermutationSettings  # noqa: E402
from harness.samples.blocks import find_blocks  # noqa: E402
from harness.samples.contrasts import select_volumes  # noqa: E402
from harness.samples.samples import FoldPreprocessing, RecordedSamples, VoxelGrid  # noqa: E402
from harness.searchlight.run import run_searchlight  # noqa: E402
from harness.searchlight.settings import Searchlight  # noqa: E402
from harness.solvers.estimators import ExactRidgeClassifierCV  # noqa: E402

RHO = 0.5
RADIUS = 2.0  # voxels of 1 mm
CLUSTER_Z = 2.33
STATISTICS = ("accuracy", "roc_auc", "decision_value")
CORRECTIONS = ("maximum", "tfce", "cluster_size")
EFFECTS = (0.15, 0.25, 0.5)
CUBE = (slice(1, 4),) * 3
PARTS = ("random", "haxby", *(f"planted {effect}" for effect in EFFECTS))


def draw_orders(design: Design, rng: np.random.Generator) -> Design:
    """Return the design with the labels of face and cat exchanged in random scanner runs."""
    conditions = design.conditions.copy()
    for run in np.unique(design.runs):
        rows = np.flatnonzero(design.runs == run)
        face, cat = (rows[design.conditions[rows] == name] for name in ("face", "cat"))
        if rng.random() < 0.5:
            conditions[face], conditions[cat] = "cat", "face"
    return Design(conditions, design.runs)


def make_noise(rng: np.random.Generator, runs: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return noise of shape (n_volumes, x, y, z)."""
    data = np.empty((len(runs), *shape))
    for run in np.unique(runs):
        rows = np.flatnonzero(runs == run)
        white = rng.standard_normal((len(rows) + 50, *shape))
        noise = lfilter([np.sqrt(1 - RHO**2)], [1, -RHO], white, axis=0)[50:]
        for axis in (1, 2, 3):
            noise = gaussian_filter1d(noise, 1.0, axis=axis)
        time = np.arange(len(rows)) / len(rows)
        waves = np.stack([np.cos(np.pi * j * time) for j in (1, 2, 3)], axis=1)
        drift = np.tensordot(waves, rng.standard_normal((3, *shape)), axes=1)
        data[rows] = noise / noise.std() + 0.5 * drift + rng.standard_normal(shape)
    return data


def make_brain(part: str, seed: int) -> RecordedSamples:
    """Return the samples of one simulated brain."""
    rng = np.random.default_rng([seed, PARTS.index(part), 13])
    design = read_design()
    if part != "haxby":
        design = draw_orders(design, rng)
    shape = (8, 8, 8) if part.startswith("planted") else (6, 6, 6)
    data = make_noise(rng, design.runs, shape)
    if part.startswith("planted"):
        sign = (design.conditions == "face") * 1.0 - (design.conditions == "cat")
        pattern = rng.standard_normal((3, 3, 3))
        data[(slice(None), *CUBE)] += float(part.split()[1]) * sign[:, None, None, None] * pattern
    volumes, y = select_volumes(CONTRAST, design.conditions, "the design")
    return RecordedSamples(
        X=data.reshape(len(data), -1)[volumes].astype(np.float32),
        y=y,
        runs=design.runs[volumes],
        conditions=y,
        volumes=volumes,
        blocks=find_blocks(design.conditions, design.runs)[volumes],
        contrast=CONTRAST,
        preparation=FoldPreprocessing("own"),
        grid=VoxelGrid(np.ones(shape, dtype=bool), np.eye(4), np.zeros(shape, dtype=np.float32)),
        sources=None,
        image_digest="",
    )


def test_brain(part: str, seed: int, n_relabellings: int, alpha: float) -> dict:
    """Return how many centres of one brain are found, by statistic and correction.

    Of every one: in all, in the planted cube, and farther than the radius from it.
    """
    samples = make_brain(part, seed)
    everywhere = samples.grid.mask
    cube = np.zeros(everywhere.shape, dtype=bool)
    if part.startswith("planted"):
        cube[CUBE] = True
        far = distance_transform_edt(~cube) > RADIUS + 1e-6
    else:
        far = everywhere
    ridge = Estimator("ridge", ExactRidgeClassifierCV([alpha]))
    question = Question(CONTRAST, ridge, Scheme("logo", LeaveOneGroupOut()))
    permutation = PermutationSettings(n=n_relabellings, limit=1, seed=seed)
    found = {}
    with tempfile.TemporaryDirectory() as home:
        for statistic, correction in product(STATISTICS, ("tfce", "cluster_size")):
            settings = Searchlight(
                radius=RADIUS,
                min_voxels=1,
                statistic=statistic,
                correction=correction,
                cluster_z=CLUSTER_Z,
                keep_maps=0,
            )
            # The second correction of a statistic reads the spheres that the first one has stored.
            kept = Path(home) / statistic
            test = run_searchlight(samples, everywhere, question, settings, permutation, checkpoint=kept).test
            assert test is not None
            for name, corrected in test.corrected.items():
                at = (corrected.p <= ALPHA + 1e-12).reshape(everywhere.shape)
                found[f"{statistic} {name}"] = [int(at.sum()), int(at[cube].sum()), int(at[far].sum())]
    return {"part": part, "seed": seed, "n": n_relabellings, "alpha": alpha, "found": found}


def read_results(file: Path | None, n_relabellings: int, alpha: float) -> dict[tuple[str, int], dict]:
    """Return the brains that were tested before."""
    if file is None or not file.exists():
        return {}
    stored = [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]
    return {
        (each["part"], each["seed"]): each["found"]
        for each in stored
        if (each["n"], each["alpha"]) == (n_relabellings, alpha)
    }


def test_brains(options: argparse.Namespace, part: str) -> list[dict]:
    """Return what was found in every brain of a part; tested brains are stored in a file."""
    known = read_results(options.results, options.relabellings, options.alpha)
    n = options.planted if part.startswith("planted") else options.brains
    missing = [seed for seed in range(n) if (part, seed) not in known]
    work = (delayed(test_brain)(part, seed, options.relabellings, options.alpha) for seed in missing)
    tested: Iterator[dict] = Parallel(options.processes, return_as="generator")(work)
    for count, each in enumerate(tested, start=1):
        known[part, each["seed"]] = each["found"]
        if options.results is not None:
            with options.results.open("a") as stream:
                stream.write(json.dumps(each) + "\n")
        if sys.stderr.isatty():
            print(f"\r{part}: {count} of {len(missing)} brains", end="", file=sys.stderr)
    return [known[part, seed] for seed in range(n)]


def print_errors(part: str, brains: list[dict]) -> None:
    limit = binom.ppf(0.999, len(brains), ALPHA) / len(brains)
    print(f"\nnull brains, {part} order (n={len(brains)}, limit {limit:.3f}): family-wise error rate")
    print(f"{'':16}" + "".join(f"{name:>14}" for name in CORRECTIONS))
    for statistic in STATISTICS:
        rates = [np.mean([brain[f"{statistic} {name}"][0] > 0 for brain in brains]) for name in CORRECTIONS]
        above = " ABOVE THE LIMIT" if max(rates) > limit else ""
        print(f"{statistic:16}" + "".join(f"{rate:14.3f}" for rate in rates) + above, flush=True)


def print_power(part: str, brains: list[dict]) -> None:
    print(f"\n{part} (n={len(brains)}): power / far share of found centres / brains with far centres")
    print(f"{'':16}" + "".join(f"{name:>24}" for name in CORRECTIONS))
    for statistic in STATISTICS:
        shown = ""
        for name in CORRECTIONS:
            every, inside, far = np.array([brain[f"{statistic} {name}"] for brain in brains]).T
            share = far.sum() / max(1, every.sum())
            shown += f"{inside.mean() / 27:10.2f} / {share:.2f} / {(far > 0).mean():.2f}"
        print(f"{statistic:16}{shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS))
    parser.add_argument("--brains", type=int, default=160, help="null brains of each order (default: 160)")
    parser.add_argument("--planted", type=int, default=40, help="brains of each effect (default: 40)")
    parser.add_argument("--relabellings", type=int, default=199)
    parser.add_argument("--alpha", type=float, default=10.0, help="penalty (default: 10, as ridge_fixed)")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--results", type=Path, help="file of tested brains, which are not tested again")
    options = parser.parse_args()
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"unknown part {part!r}; expected among {', '.join(PARTS)}")
    for part in options.parts:
        brains = test_brains(options, part)
        (print_power if part.startswith("planted") else print_errors)(part, brains)


if __name__ == "__main__":
    main()
