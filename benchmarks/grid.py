"""A grid of 54 full-size runs compared with the plain nilearn script of the tutorial, as ratios in one run.

    python benchmarks/grid.py FOLDER                 # the plain script once per estimator and scheme
    python benchmarks/grid.py FOLDER --whole         # the plain script 54 times, too (a quarter of an hour)
    python benchmarks/grid.py FOLDER --no-baseline   # the harness alone

Six subjects, the estimators svc, logistic and dummy, the schemes holdout30, kfold5 and logo. FOLDER gets
subjects of 40 x 64 x 64 voxels and 1452 volumes in Haxby's file layout (int16, 300 MB each), or has them from
before. Both sides run as processes that start from nothing, on the same images in the system's page cache,
and leave scores, the best C, and the weights as NIfTI and PNG behind. *Cold* is a grid without cache and
without run store, *warm* one with the cache of masked samples and a new run store. Two workers need the
package hydra-joblib-launcher.
"""

import argparse
import importlib.util
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path

SHAPE = (40, 64, 64)
AFFINE = (
    (-3.5, 0, 0, 68.25),
    (0, 3.75, 0, -118.1),
    (0, 0, 3.75, -118.1),
    (0, 0, 0, 1),
)  # as in Haxby's files
ANAT_SHAPE = (124, 256, 256)
ANAT_AFFINE = ((-1.2, 0, 0, 73.0), (0, 0.9375, 0, -119.5), (0, 0, 0.9375, -119.5), (0, 0, 0, 1))
N_ROI = 464  # the VT mask of subject 2
EFFECT = 0.12  # SD of a pattern, in SD of the noise: face and cat are distinguished in 9 volumes of 10

SUBJECTS = (1, 2, 3, 4, 5, 6)
ESTIMATORS = ("svc", "logistic", "dummy")
SCHEMES = ("holdout30", "kfold5", "logo")
N_RUNS = len(SUBJECTS) * len(ESTIMATORS) * len(SCHEMES)

# What follows nilearn's "A introduction tutorial to fMRI decoding", with the weights saved besides.
PLAIN_SCRIPT = '''\
"""One run: python plain.py HOME ESTIMATOR SCHEME OUT"""
import json, sys
from pathlib import Path
import numpy as np
import pandas as pd
from nilearn.decoding import Decoder
from nilearn.image import index_img
from nilearn.plotting import plot_stat_map
from sklearn.model_selection import KFold, LeaveOneGroupOut

home, estimator, scheme, out = Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])
estimator = {"dummy": "dummy_classifier"}.get(estimator, estimator)
behavioral = pd.read_csv(home / "labels.txt", delimiter=" ")
condition_mask = behavioral["labels"].isin(["face", "cat"])
fmri = index_img(str(home / "bold.nii.gz"), condition_mask)
conditions = behavioral["labels"][condition_mask].to_numpy()
runs = behavioral["chunks"][condition_mask].to_numpy()
options = {"estimator": estimator, "mask": str(home / "mask4_vt.nii.gz"), "standardize": "zscore_sample"}

scores = {}
n = len(conditions)
if scheme == "holdout30":
    cv = [(np.arange(n - 30), np.arange(n - 30, n))]
elif scheme == "kfold5":
    cv = KFold(n_splits=5)
else:
    cv = LeaveOneGroupOut()
if scheme != "logo":  # the tutorial's own loops: a decoder per fold, and its accuracy
    folds = cv if scheme == "holdout30" else cv.split(conditions)
    for fold, (train, test) in enumerate(folds):
        decoder = Decoder(**options)
        decoder.fit(index_img(fmri, train), conditions[train])
        predicted = decoder.predict(index_img(fmri, test))
        scores[f"accuracy_{fold}"] = float((predicted == conditions[test]).mean())
decoder = Decoder(**options, cv=cv, scoring="roc_auc")
decoder.fit(fmri, conditions, groups=runs)
scores["cv_scores"] = [float(score) for score in decoder.cv_scores_["face"]]
scores["best"] = {name: np.ravel(values).tolist() for name, values in decoder.cv_params_["face"].items()}
(out / "scores.json").write_text(json.dumps(scores))
if estimator != "dummy_classifier":
    weights = decoder.coef_img_["face"]
    weights.to_filename(out / "weights.nii.gz")
    plot_stat_map(
        weights, bg_img=str(home / "anat.nii.gz"), title="weights", output_file=out / "weights.png"
    )
'''


@dataclass(frozen=True)
class Cost:
    """What a process and those that it started took, in seconds."""

    wall: float
    processor: float


def make_subjects(folder: Path) -> None:
    """Write the subjects that are not there yet."""
    for subject in SUBJECTS:
        home = folder / "haxby2001" / f"subj{subject}"
        if home.is_dir():
            continue
        print(f"making subject {subject} of {len(SUBJECTS)} ...", flush=True)
        unfinished = home.with_name(f".subj{subject}-unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        write_subject(unfinished, subject)
        unfinished.rename(home)


def write_subject(folder: Path, subject: int) -> None:
    """Write image, labels, mask and anatomy of one subject into an existing folder.

    Ventral temporal voxels answer every category with a pattern of its own, in noise that lasts.
    """
    import gzip
    import zlib

    import nibabel as nib
    import numpy as np

    from harness.datasets.simulated import BLOCK_STARTS, BLOCK_VOLUMES, CONDITIONS, RUN_VOLUMES
    from harness.datasets.simulated import N_RUNS as N_RECORDED

    rng = np.random.default_rng([2001, subject])
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    brain = radius < 0.84
    # A slab low in the brain, left and right: half of its voxels, which makes a mask in many pieces.
    slab = brain & (np.abs(axes[2] + 0.3) < 0.12) & (np.abs(axes[0]) > 0.25) & (np.abs(axes[1] + 0.2) < 0.4)
    vt = np.zeros(SHAPE, dtype=np.uint8)
    vt.flat[rng.choice(np.flatnonzero(slab), N_ROI, replace=False)] = 1
    inside = np.flatnonzero(vt.ravel(order="F"))

    labels, shown = ["labels chunks"], []
    for run in range(N_RECORDED):
        course = ["rest"] * RUN_VOLUMES
        for start, condition in zip(BLOCK_STARTS, rng.permutation(CONDITIONS), strict=True):
            course[start : start + BLOCK_VOLUMES] = [str(condition)] * BLOCK_VOLUMES
        shown += course
        labels += [f"{condition} {run}" for condition in course]
    (folder / "labels.txt").write_text("\n".join(labels) + "\n")
    patterns = {name: EFFECT * rng.normal(size=N_ROI) for name in CONDITIONS} | {"rest": np.zeros(N_ROI)}

    anatomy = np.where(brain, 1200 - 500 * radius + rng.normal(scale=80, size=SHAPE), 0)
    anatomy = anatomy.ravel(order="F").astype(np.float32)
    header = nib.Nifti1Image(np.broadcast_to(np.int16(0), (*SHAPE, len(shown))), np.array(AFFINE)).header
    header.set_data_offset(352)
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    noise = rng.normal(size=N_ROI)
    with (folder / "bold.nii.gz").open("wb") as file:
        file.write(packer.compress(header.binaryblock + bytes(4)))
        for condition in shown:
            noise = 0.6 * noise + 0.8 * rng.normal(size=N_ROI)
            # Rician, as magnitude images are: Gaussian noise in the brain, Rayleigh noise around it.
            volume = anatomy + 35 * rng.standard_normal(anatomy.size, dtype=np.float32)
            volume[inside] = anatomy[inside] + 35 * (noise + patterns[condition])
            volume = np.hypot(volume, 35 * rng.standard_normal(anatomy.size, dtype=np.float32))
            file.write(packer.compress(volume.astype("<i2").tobytes()))
        file.write(packer.flush())
    nib.save(nib.Nifti1Image(vt, np.array(AFFINE)), folder / "mask4_vt.nii.gz")
    axes = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in ANAT_SHAPE], indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    head = np.where(radius < 0.84, 900 - 500 * radius + 40 * rng.standard_normal(ANAT_SHAPE), 0)
    image = nib.Nifti1Image(head.astype(np.int16), np.array(ANAT_AFFINE))
    with gzip.open(folder / "anat.nii.gz", "wb", compresslevel=1) as file:
        file.write(image.to_bytes())


def run_process(command: list[str], cwd: Path, environment: dict[str, str] | None = None) -> Cost:
    """Run a program to its end; one that fails says why, and ends the benchmark."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | (environment or {}), capture_output=True, text=True, check=False
    )
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def measure_plain(folder: Path, scratch: Path, n_runs: int) -> tuple[Cost, str]:
    """Return the cost of 54 plain scripts one after the other, and how it was found."""
    script = scratch / "plain.py"
    script.write_text(PLAIN_SCRIPT)
    # The subject changes fastest, then estimator and scheme: the first nine have every estimator and scheme.
    requested = [
        (SUBJECTS[(number + turn) % len(SUBJECTS)], estimator, scheme)
        for turn in range(len(SUBJECTS))
        for number, (estimator, scheme) in enumerate(product(ESTIMATORS, SCHEMES))
    ][:n_runs]
    costs: dict[tuple[str, str], list[Cost]] = {}
    for subject, estimator, scheme in requested:
        out = scratch / "plain-out"
        out.mkdir(exist_ok=True)
        home = folder / "haxby2001" / f"subj{subject}"
        cost = run_process([sys.executable, str(script), str(home), estimator, scheme, str(out)], scratch)
        costs.setdefault((estimator, scheme), []).append(cost)
        seconds = f"{cost.wall:6.2f} s, of the processor {cost.processor:6.2f} s"
        print(f"  plain sub-{subject} {estimator:9} {scheme:10} {seconds}", flush=True)
    wall, processor = (
        sum(len(SUBJECTS) * sum(getattr(cost, of) for cost in each) / len(each) for each in costs.values())
        for of in ("wall", "processor")
    )
    how = f"all {N_RUNS} measured" if n_runs == N_RUNS else f"EXTRAPOLATED from {n_runs} of {N_RUNS}"
    return Cost(wall, processor), how


def run_grid(folder: Path, place: Path, workers: int) -> tuple[Cost, Path]:
    """Run the grid with the cache of `place` and a new run store, and return its cost and the store."""
    store = Path(tempfile.mkdtemp(dir=place, prefix="mlruns-"))
    command = [
        *(sys.executable, "-m", "harness", "-m"),
        *("dataset=haxby", f"dataset.data_dir={folder}", f"subject={','.join(map(str, SUBJECTS))}"),
        *(f"estimator={','.join(ESTIMATORS)}", f"cv={','.join(SCHEMES)}", f"tracking.folder={store}"),
        *([] if workers == 1 else ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={workers}"]),
    ]
    return run_process(command, place, {"HARNESS_CACHE": str(place / "cache")}), store


def read_stages(store: Path, began: float | None = None) -> dict[str, float]:
    """Return the mean seconds of a run per stage, from what the runs say of themselves."""
    runs = read_runs(store)
    if not runs:
        sys.exit(f"no finished run in {store}")
    names = sorted({name for run in runs for name in run["metrics"] if name.startswith("system/seconds_")})
    stages = {
        name.removeprefix("system/seconds_"): sum(run["metrics"].get(name, 0.0) for run in runs) / len(runs)
        for name in names
    }
    inside = sum(seconds for stage, seconds in stages.items() if stage not in ("startup", "tracking"))
    lasted = sum(run["end"] - run["start"] for run in runs) / len(runs)
    stages.setdefault("tracking", 0.0)
    stages["tracking"] = max(stages["tracking"], lasted - inside)
    return stages


def read_runs(store: Path) -> list[dict]:
    """Return start, end and metrics of every finished run of a store, in order of time."""
    from mlflow.tracking import MlflowClient

    from harness.tracking.store import local_uri

    client = MlflowClient(tracking_uri=local_uri(store))
    runs = [
        run
        for experiment in client.search_experiments()
        for run in client.search_runs([experiment.experiment_id], max_results=1000)
        if run.info.status == "FINISHED"
    ]
    return sorted(
        (
            {
                "start": run.info.start_time / 1e3,
                "end": run.info.end_time / 1e3,
                "metrics": run.data.metrics,
            }
            for run in runs
        ),
        key=lambda run: run["start"],
    )


def report_stages(store: Path, cost: Cost, began: float) -> None:
    """Print where the wall time of a grid with one worker went; the rows add up to it."""
    runs = read_runs(store)
    stages = read_stages(store)
    first, last = runs[0]["start"], runs[-1]["end"]
    between = sum(after["start"] - before["end"] for before, after in pairwise(runs))
    between /= max(len(runs) - 1, 1)
    rows = {"compose and start the run (between two runs)": between} | {
        stage: seconds for stage, seconds in stages.items() if stage not in ("startup", "tracking")
    }
    rows["tracking"] = stages["tracking"]
    whole = sum(rows.values())
    print(f"\n{'mean of a run, one worker, warm':48}{'seconds':>9}{'share':>8}")
    for name, seconds in sorted(rows.items(), key=lambda row: -row[1]):
        print(f"  {name:46}{seconds:9.3f}{seconds / whole:8.0%}")
    print(f"  {'together':46}{whole:9.3f}")
    before, after = first - began, cost.wall - (last - began)
    print(f"  once: before the first run {before:.2f} s, after the last {after:.2f} s")


def measure_overhead(place: Path) -> float:
    """Return the seconds that Hydra and MLflow add to a run: those of many small runs, less what computes."""

    def run_many(count: int) -> tuple[float, float]:
        store = Path(tempfile.mkdtemp(dir=place, prefix="mlruns-"))
        command = [
            *(sys.executable, "-m", "harness", "-m", "subject=2", "estimator=dummy", "cv=holdout30"),
            *("figures=off", f"seed=range({count})", f"tracking.folder={store}"),
        ]
        cost = run_process(command, place, {"HARNESS_CACHE": str(place / "cache")})
        stages = read_stages(store)
        computing = sum(stages.get(name, 0.0) for name in ("data", "decoding", "figures"))
        shutil.rmtree(store)
        return cost.wall, computing

    run_many(2)  # makes the simulated subject
    few, many = 5, 35
    (wall_few, _), (wall_many, computing) = run_many(few), run_many(many)
    return (wall_many - wall_few) / (many - few) - computing


def touch(folder: Path) -> None:
    """Read the images, so that every process finds them in the page cache."""
    for path in sorted(folder.glob("haxby2001/subj?/*.nii.gz")):
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass


def measure(folder: Path, baseline_runs: int, workers: int, repeats: int) -> bool:
    """Print every figure with its target, and return whether all were met."""
    folder = folder.absolute()
    make_subjects(folder)
    touch(folder)
    counts = [1]
    if workers > 1 and importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher") is None:
        print("hydra-joblib-launcher is not installed: one worker alone")
    elif workers > 1:
        counts.append(workers)
    costs: dict[tuple[int, str], Cost] = {}
    with tempfile.TemporaryDirectory(dir=folder, prefix="grid-") as name:
        scratch = Path(name)
        plain, how = None, "left out"
        if baseline_runs:
            plain, how = measure_plain(folder, scratch, baseline_runs)
        for count in counts:
            shutil.rmtree(scratch / "cache", ignore_errors=True)
            costs[count, "cold"], store = run_grid(folder, scratch, count)
            shutil.rmtree(store)
            tries = []
            for _ in range(repeats):
                began = time.time()
                cost, store = run_grid(folder, scratch, count)
                tries.append((cost, began, store))
            # What else the machine does can only add, so that the best of several comes closest to the truth.
            costs[count, "warm"], began, store = min(tries, key=lambda one: one[0].wall)
            if len(read_runs(store)) != N_RUNS:
                sys.exit(f"{len(read_runs(store))} runs finished instead of {N_RUNS}")
            if count == 1:
                report_stages(store, costs[1, "warm"], began)
            for _, _, each in tries:
                shutil.rmtree(each)
        overhead = measure_overhead(scratch)

    print(
        f"\n{N_RUNS} runs{'':24}{'wall':>9}{'processor':>11}{'per run':>9}{'times less wall, processor':>28}"
    )
    sides = {} if plain is None else {f"plain scripts ({how})": plain}
    for (count, state), cost in costs.items():
        sides[f"harness, {state}, {count} worker{'s' * (count > 1)}"] = cost
    for words, cost in sides.items():
        row = f"{cost.wall:9.1f}{cost.processor:11.1f}{cost.wall / N_RUNS:9.2f}"
        if plain is not None:
            row += f"{plain.wall / cost.wall:17.1f}{plain.processor / cost.processor:11.1f}"
        print(f"  {words:28}{row}" if len(words) <= 28 else f"  {words}\n{'':30}{row}")
    most = max(counts)
    rows = [("Hydra and MLflow add to a run (s)", overhead, "at most 0.2", overhead <= 0.2)]
    if plain is not None:
        for state, least in (("cold", 15), ("warm", 25)):
            ratio = plain.wall / costs[most, state].wall
            rows.append((f"{state}, times less wall time", ratio, f"at least {least}", ratio >= least))
    if most > 1:
        scaling = costs[1, "warm"].wall / costs[most, "warm"].wall
        print(f"\nfrom 1 to {most} workers, warm: {scaling:.2f} times faster")
    print()
    for name, value, target, met in rows:
        print(f"{name:44}{value:8.2f}   {target:16}{'met' if met else 'MISSED'}")
    return all(met for *_, met in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the subjects (1.8 GB)")
    parser.add_argument("--baseline-runs", type=int, default=9, help="plain scripts that are run, of 54")
    parser.add_argument("--whole", action="store_true", help="run the plain script all 54 times")
    parser.add_argument("--no-baseline", action="store_true", help="run no plain script")
    parser.add_argument("--workers", type=int, default=2, help="of the joblib launcher")
    parser.add_argument("--repeats", type=int, default=2, help="warm grids; the best counts")
    arguments = parser.parse_args()
    least = len(ESTIMATORS) * len(SCHEMES)
    if not least <= arguments.baseline_runs <= N_RUNS:
        parser.error(f"--baseline-runs is from {least}, one per estimator and scheme, to {N_RUNS}")
    n_plain = 0 if arguments.no_baseline else N_RUNS if arguments.whole else arguments.baseline_runs
    return 0 if measure(arguments.folder, n_plain, arguments.workers, arguments.repeats) else 1


if __name__ == "__main__":
    sys.exit(main())
