"""How much faster the Decoder algorithm runs than nilearn's own Decoder, on the same samples in one process.

    python benchmarks/decoder.py            # the real Haxby slice, 216 x 577: selected + test + train scores
    python benchmarks/decoder.py --large    # also 216 x 20 000 and 1000 x 300, two selected folds

Seconds are of the processor (one thread), which a busy machine disturbs less than the clock. The real samples
are looked for in HARNESS_TEST_DATA, or ../shared/data next to the checkout.
"""

import argparse
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402  the variables above are read on import
from sklearn.linear_model import LogisticRegressionCV  # noqa: E402
from sklearn.model_selection import LeaveOneGroupOut  # noqa: E402
from sklearn.svm import LinearSVC  # noqa: E402

from harness.datasets.haxby import Haxby  # noqa: E402
from harness.decoding.decoder import fit_decoder  # noqa: E402
from harness.decoding.estimator import Estimator  # noqa: E402
from harness.decoding.evaluation import Scoring, evaluate  # noqa: E402
from harness.decoding.nilearn_decoder import NilearnEngine  # noqa: E402
from harness.decoding.splitters import Scheme, split_samples  # noqa: E402
from harness.samples.blocks import find_blocks  # noqa: E402
from harness.samples.contrasts import make_contrast  # noqa: E402
from harness.samples.samples import FoldPreprocessing, RecordedSamples, Roi, Samples, VoxelGrid, load_samples  # noqa: E402
from harness.samples.signal import Signal  # noqa: E402
from harness.solvers.estimators import ExactLinearSVC, ExactLogisticRegressionCV  # noqa: E402

LOGO = Scheme("logo", LeaveOneGroupOut())
ESTIMATORS = {
    "svc": (
        Estimator("svc", ExactLinearSVC(), {"C": [1.0, 10.0, 100.0]}),
        Estimator("svc", LinearSVC(max_iter=10_000, random_state=0), {"C": [1.0, 10.0, 100.0]}),
    ),
    "logistic": (
        Estimator("logistic", ExactLogisticRegressionCV()),
        Estimator(
            "logistic",
            LogisticRegressionCV(
                Cs=np.geomspace(1e-3, 1e4, 8),
                l1_ratios=(0,),
                solver="liblinear",
                scoring="neg_log_loss",
                use_legacy_attributes=False,
            ),
        ),
    ),
}


def seconds_of(work: Callable[..., object], *arguments: object) -> float:
    start = time.process_time()
    work(*arguments)
    return time.process_time() - start


def load_real() -> RecordedSamples | None:
    folder = Path(os.environ.get("HARNESS_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "haxby2001-vt").is_dir():
        return None
    recording = Haxby(folder / "haxby2001-vt").load(1)
    return load_samples(recording, make_contrast(["face", "cat"]), Roi("vt", 100), Signal())


def simulate(n_samples: int, n_voxels: int, n_runs: int) -> Samples:
    rng = np.random.default_rng(0)
    runs = np.arange(n_samples) * n_runs // n_samples
    y = np.where(np.arange(n_samples) // (n_samples // n_runs // 2) % 2 == 0, "face", "cat")
    pattern = rng.normal(size=n_voxels) * (rng.random(n_voxels) < 0.1)
    X = rng.normal(size=(n_samples, n_voxels)) + 0.15 * np.where(y == "face", 1, -1)[:, np.newaxis] * pattern
    return Samples(
        X=X.astype(np.float32),
        y=y,
        runs=runs,
        conditions=y,
        volumes=np.arange(n_samples),
        blocks=find_blocks(y, runs),
        contrast=make_contrast(["face", "cat"]),
        preparation=FoldPreprocessing("own"),
    )


def report(what: str, exact: float, nilearn: float) -> None:
    print(f"{what:58s} {exact:9.3f} s {nilearn:9.3f} s {nilearn / exact:8.1f} x", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--large", action="store_true", help="also 216 x 20 000 and 1000 x 300 (minutes)")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{'':58s} {'harness':>11s} {'nilearn':>11s} {'ratio':>10s}")
    real = load_real()
    if real is None:
        print("no real samples: set HARNESS_TEST_DATA")
    else:
        size = f"{real.X.shape[0]} x {real.X.shape[1]} real"
        for name, (ours, theirs) in ESTIMATORS.items():
            evaluate(real, ours, LOGO, Scoring())  # what is imported and compiled at first use
            by_us = min(seconds_of(evaluate, real, ours, LOGO, Scoring()) for _ in range(3))
            engine = NilearnEngine(real.grid, Roi("vt", 100))
            by_nilearn = seconds_of(evaluate, real, theirs, LOGO, Scoring(), engine)
            report(f"{name}, {size}: selected + test + train scores, logo", by_us, by_nilearn)
    if options.large:
        for shape, n_folds in (((216, 20_000, 12), 2), ((1000, 300, 10), 2)):
            samples = simulate(*shape)
            folds = list(split_samples(samples, LOGO).folds.values())[:n_folds]
            side = int(np.ceil(shape[1] ** (1 / 3)))
            mask = (np.arange(side**3) < shape[1]).reshape(side, side, side)
            grid = VoxelGrid(mask, np.diag([3.0, 3.0, 3.0, 1.0]), np.zeros(mask.shape, np.float32))
            engine = NilearnEngine(grid, Roi("vt", 100))
            for name, (ours, theirs) in ESTIMATORS.items():
                requested = (samples.X, samples.y, folds)
                by_us = seconds_of(fit_decoder, *requested, ours, "roc_auc", samples.preparation)
                by_nilearn = seconds_of(engine, *requested, theirs, "roc_auc", samples.preparation)
                size = f"{samples.X.shape[0]} x {samples.X.shape[1]} simulated"
                report(f"{name}, {size}: selected scores, {n_folds} folds", by_us, by_nilearn)


if __name__ == "__main__":
    main()
