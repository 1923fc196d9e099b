"""How fast a searchlight is, with and without a test, against nilearn's on the same spheres.

    python benchmarks/searchlight.py                        # 32 000 spheres: half an hour on two cores
    python benchmarks/searchlight.py --spheres 2000         # a random subset of the centres
    python benchmarks/searchlight.py --parts map,2048 --estimators ridge1 --processes 1

Simulated brains: 216 volumes (12 scanner runs, a block of 9 volumes per class), voxels of 3.5 x 3.75 x 3.75
mm in an ellipsoid, noise that is smooth over neighbouring voxels, a pattern in one octant; spheres of 8 mm
radius, leave one scanner run out. ridge1 has one alpha, ridge8 chooses among 8 in every training set. Every
row is one call of `run_searchlight` with all its stages: seconds by the clock, CPU seconds of all processes,
and memory: the largest resident set of the parent and of a worker. A clock on a busy machine says little; CPU
seconds over the number of processes are what an idle one needs. The first row is what processes take to start
and to import the package; "32 000" extrapolates the CPU seconds that exceed it.

nilearn's SearchLight runs on some of the spheres in one process, with the same scikit-learn estimator, on
samples that need no standardisation inside the folds; its time for all spheres is EXTRAPOLATED from CPU
seconds. Next to it are the largest difference of its scores to ours, and how many spheres differ at all:
accuracies differ where a decision value is a tie, 0 but for rounding.
"""

import argparse
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402  the variables above are read on import
from joblib import Parallel, delayed  # noqa: E402
from joblib.externals.loky import get_reusable_executor  # noqa: E402
from nibabel.nifti1 import Nifti1Image  # noqa: E402
from nilearn.decoding import SearchLight  # noqa: E402
from scipy.ndimage import gaussian_filter  # noqa: E402
from sklearn.base import ClassifierMixin  # noqa: E402
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # noqa: E402
from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV  # noqa: E402
from sklearn.model_selection import LeaveOneGroupOut  # noqa: E402
from sklearn.svm import LinearSVC  # noqa: E402

from harness.decoding.estimator import Estimator  # noqa: E402
from harness.decoding.question import Question  # noqa: E402
from harness.decoding.splitters import Scheme  # noqa: E402
from harness.inference.settings import PermutationSettings  # noqa: E402
from harness.samples.blocks import find_blocks  # noqa: E402
from harness.samples.contrasts import make_contrast  # noqa: E402
from harness.samples.samples import FoldPreprocessing, RecordedSamples, VoxelGrid  # noqa: E402
from harness.searchlight.run import run_searchlight  # noqa: E402
from harness.searchlight.settings import Searchlight  # noqa: E402
from harness.solvers.estimators import (  # noqa: E402
    DECADES,
    ExactLDA,
    ExactLinearSVC,
    ExactRidgeClassifierCV,
)

T = TypeVar("T")

SHAPE = (36, 50, 41)
AFFINE = np.diag([3.5, 3.75, 3.75, 1.0])
N_RUNS, N_VOLUMES = 12, 9
ALL = 32_000
SETTINGS = Searchlight(radius=8.0, min_voxels=10, keep_maps=100)
ESTIMATORS = {
    "ridge1": (ExactRidgeClassifierCV([1.0]), RidgeClassifier(1.0)),
    "ridge8": (ExactRidgeClassifierCV(), RidgeClassifierCV(DECADES)),
    "lda": (ExactLDA(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")),
    "svc": (ExactLinearSVC(), LinearSVC(tol=1e-8, max_iter=1_000_000, random_state=0)),
}
TESTS = {
    "2048": ("all 2048 relabellings", PermutationSettings()),
    "1000": ("1000 random relabellings", PermutationSettings(n=1000, limit=1000)),
}


def simulate(rng: np.random.Generator) -> RecordedSamples:
    """Return smooth noise with an offset per scanner run, and a pattern in one octant."""
    names = np.array(["cat", "face"])
    y = np.concatenate([np.repeat(rng.permutation(names), N_VOLUMES) for _ in range(N_RUNS)])
    runs = np.repeat(np.arange(N_RUNS), 2 * N_VOLUMES)
    places = np.moveaxis(np.indices(SHAPE), 0, -1) - (np.array(SHAPE) - 1) / 2
    mask = ((places / (np.array([17.0, 24.0, 19.5]))) ** 2).sum(axis=-1) <= 1
    pattern = rng.normal(size=SHAPE) * (places > 0).all(axis=-1)
    sign = np.where(y == "face", 0.15, -0.15)
    X = np.empty((len(y), np.count_nonzero(mask)), dtype=np.float32)
    for row, strength in enumerate(sign):
        X[row] = (gaussian_filter(rng.normal(size=SHAPE), 0.6) / 0.4 + strength * pattern)[mask]
    X += rng.normal(size=(N_RUNS, X.shape[1]))[runs].astype(np.float32)
    volumes = np.arange(len(y))
    return RecordedSamples(
        X=X,
        y=y,
        runs=runs,
        conditions=y,
        volumes=volumes,
        blocks=find_blocks(y, runs),
        contrast=make_contrast(["face", "cat"]),
        preparation=FoldPreprocessing("own"),
        grid=VoxelGrid(mask, AFFINE, np.zeros(SHAPE, dtype=np.float32)),
        sources=None,  # type: ignore[arg-type]  no file is read
        image_digest="",
    )


def choose_centres(samples: RecordedSamples, n: int | None, rng: np.random.Generator) -> np.ndarray:
    """Return a random part of the mask."""
    mask = samples.grid.mask
    voxels = np.flatnonzero(mask)
    centres = np.zeros(mask.size, dtype=bool)
    centres[voxels if n is None else rng.choice(voxels, min(n, len(voxels)), replace=False)] = True
    return centres.reshape(mask.shape)


def imports_package() -> bool:
    """Import what a worker needs."""
    return "harness.searchlight.run" in sys.modules or bool(__import__("harness.searchlight.run"))


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of all workers that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def measure(task: Callable[[], T]) -> tuple[T, float, float]:
    """Return a result, its seconds by the clock, and CPU seconds of all processes."""
    get_reusable_executor().shutdown(wait=True)
    clock, cpu = time.perf_counter(), cpu_seconds()
    result = task()
    clock = time.perf_counter() - clock
    get_reusable_executor().shutdown(wait=True)
    return result, clock, cpu_seconds() - cpu


def report(what: str, n_spheres: int, clock: float, cpu: float, start: float, processes: int) -> None:
    unit = 1 / 1024**2 if sys.platform == "darwin" else 1 / 1024
    memory = [
        resource.getrusage(who).ru_maxrss * unit for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    each = max(0.0, cpu - start) / n_spheres
    print(
        f"{what:44s} {n_spheres:7d} {clock:8.1f} {cpu:8.1f} {1e3 * each:8.2f} "
        f"{(start + ALL * each) / processes:9.0f} {memory[0]:7.0f} + {memory[1]:4.0f}",
        flush=True,
    )


def make_question(samples: RecordedSamples, name: str) -> Question:
    return Question(
        samples.contrast, Estimator(name, ESTIMATORS[name][0]), Scheme("logo", LeaveOneGroupOut())
    )


def time_ours(
    samples: RecordedSamples, centres: np.ndarray, parts: list[str], estimators: list[str], processes: int
) -> None:
    """Print what maps and their tests take."""
    print(
        f"{'run_searchlight, ' + str(processes) + ' process(es)':44s} {'spheres':>7s} {'clock s':>8s} "
        f"{'CPU s':>8s} {'ms each':>8s} {'32000: s':>9s} {'parent + worker MB':>14s}"
    )
    _, clock, start = measure(
        lambda: Parallel(processes)(delayed(imports_package)() for _ in range(processes))
    )
    print(f"{'processes that start':44s} {0:7d} {clock:8.1f} {start:8.1f}", flush=True)
    rows: list[tuple[str, str, PermutationSettings | None]] = []
    if "map" in parts:
        rows += [(name, "map", None) for name in estimators]
    for part, (words, permutation) in TESTS.items():
        if part in parts:
            rows += [(name, words, permutation) for name in estimators if name.startswith("ridge")]
    for name, words, permutation in rows:
        question = make_question(samples, name)
        result, clock, cpu = measure(
            lambda question=question, permutation=permutation: run_searchlight(  # type: ignore[misc]
                samples, centres, question, SETTINGS, permutation, processes=processes
            )
        )
        report(f"{name}: {words}", len(result.spheres), clock, cpu, start, processes)


def run_nilearn(samples: RecordedSamples, centres: np.ndarray, model: ClassifierMixin) -> np.ndarray:
    """Return nilearn's accuracy of every centre, in C order."""
    mask = samples.grid.mask
    volumes = np.zeros((*mask.shape, len(samples.y)), dtype=np.float32)
    volumes[mask] = samples.X.T
    search = SearchLight(
        Nifti1Image(mask.astype(np.int8), AFFINE),
        process_mask_img=Nifti1Image(centres.astype(np.int8), AFFINE),
        radius=SETTINGS.radius,
        estimator=model,
        cv=LeaveOneGroupOut(),
        scoring="accuracy",
        n_jobs=1,
    )
    search.fit(Nifti1Image(volumes, AFFINE), samples.y, groups=samples.runs)
    return np.asarray(search.scores_)[centres]


def compare_with_nilearn(
    samples: RecordedSamples, n: int, rng: np.random.Generator, estimators: list[str], processes: int
) -> None:
    """Print nilearn's time on some spheres, the ratio to ours on the same, and the differences of scores."""
    samples = replace(samples, preparation=FoldPreprocessing())
    centres = choose_centres(samples, n, rng)
    print(
        f"\n{'accuracy maps of ' + str(n) + ' spheres, one process, CPU s':44s} {'nilearn':>8s} "
        f"{'harness':>8s} {'ratio':>7s} {'nilearn, 32 000 EXTRAPOLATED':>29s} {'largest difference':>19s} "
        f"{'spheres':>8s}"
    )
    for name in estimators:
        _, reference = ESTIMATORS[name]
        question = make_question(samples, name)
        settings = replace(SETTINGS, min_voxels=1)
        run_searchlight(samples, choose_centres(samples, 8, rng), question, settings)
        start = time.process_time()
        ours = run_searchlight(samples, centres, question, settings)
        by_us, start = time.process_time() - start, time.process_time()
        theirs = run_nilearn(samples, centres, reference)
        by_nilearn = time.process_time() - start
        difference = np.abs(ours.scores["accuracy"] - theirs)
        minutes = by_nilearn / n * ALL / processes / 60
        print(
            f"{name:44s} {by_nilearn:8.1f} {by_us:8.2f} {by_nilearn / by_us:6.0f}x "
            f"{minutes:20.1f} min on {processes} {difference.max():19.1e} {np.sum(difference > 1e-10):8d}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--spheres", type=int, help="a random subset of this size")
    parser.add_argument("--parts", default="map,1000,2048,nilearn", help="what is measured")
    parser.add_argument("--estimators", default=",".join(ESTIMATORS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--nilearn-spheres", type=int, default=100)
    options = parser.parse_args()
    parts, estimators = options.parts.split(","), options.estimators.split(",")
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    samples = simulate(rng)
    time_ours(samples, choose_centres(samples, options.spheres, rng), parts, estimators, options.processes)
    if "nilearn" in parts:
        compare_with_nilearn(samples, options.nilearn_spheres, rng, estimators, options.processes)


if __name__ == "__main__":
    main()
