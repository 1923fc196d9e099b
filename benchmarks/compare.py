"""How long comparisons and a report of a large run store take.

    python benchmarks/compare.py [--runs 1000]

makes a temporary store: one real run, and copies of it with their files, of four estimators, ten regions and
as many subjects as the number of runs needs. It then times ``compare``, ``compare by=estimator``, ``compare
--pivot estimator,roi``, ``compare --chance`` and ``report`` of all runs as processes, and reading the runs
from MLflow alone. At most 10 s on the wall of an idle machine for each; on a busy one, see processor times.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ESTIMATORS = ("svc", "ridge", "lda", "logistic")
REGIONS = 10
MAX_SECONDS = 10.0
OVERRIDES = ("subject=1", "estimator=ridge", "cv=logo", "figures=off")
ALL = ("--most", "10000")
COMMANDS = (
    ("compare", *ALL),
    ("compare", "by=estimator", *ALL),
    ("compare", "--pivot", "estimator,roi", *ALL),
    ("compare", "--chance", *ALL),
    ("report", "cv=logo", "--no-log", "--out", "report", *ALL),
)


def read_clocks() -> tuple[float, float]:
    """Return seconds on the wall, and of the processor in this process and those that have ended."""
    times = os.times()
    return time.perf_counter(), times.user + times.system + times.children_user + times.children_system


def subtract(end: tuple[float, float], start: tuple[float, float]) -> tuple[float, float]:
    """Return the seconds between two readings of the clocks."""
    return end[0] - start[0], end[1] - start[1]


def harness(folder: Path, *arguments: str) -> tuple[float, float]:
    """Run the program in a directory and return the seconds that it took, see `read_clocks`."""
    start = read_clocks()
    process = subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{process.stderr}")
    return subtract(read_clocks(), start)


def copy_run(folder: Path, count: int) -> None:
    """Add copies of the only run of a store, each with its files."""
    from mlflow.entities import Param
    from mlflow.tracking import MlflowClient

    from harness.tracking.relocation import location_path
    from harness.tracking.store import local_uri

    client = MlflowClient(tracking_uri=local_uri(folder / "mlruns"))
    experiments = [item.experiment_id for item in client.search_experiments()]
    (source,) = client.search_runs(experiments)
    files = location_path(source.info.artifact_uri)
    metrics = [
        metric for key in source.data.metrics for metric in client.get_metric_history(source.info.run_id, key)
    ]
    tags = {key: value for key, value in source.data.tags.items() if key != "mlflow.runName"}
    for number in range(count):
        subject, place = divmod(number, len(ESTIMATORS) * REGIONS)
        region, estimator = divmod(place, len(ESTIMATORS))
        own = {"subject": str(100 + subject), "roi": f"region{region}", "estimator": ESTIMATORS[estimator]}
        digest = {"harness.digest.bold": f"{subject:064x}"}
        start = source.info.start_time + 1000 * (number + 1)
        run = client.create_run(source.info.experiment_id, start, tags | digest, f"copy {number}").info
        params = [Param(key, value) for key, value in (dict(source.data.params) | own).items()]
        client.log_batch(run.run_id, metrics, params)
        shutil.copytree(files, location_path(run.artifact_uri), dirs_exist_ok=True)
        client.set_terminated(run.run_id, end_time=start + 1000)


def time_search(folder: Path) -> tuple[float, float]:
    """Return the seconds that MLflow takes to read all runs, see `read_clocks`."""
    from mlflow.tracking import MlflowClient

    from harness.tracking.store import local_uri

    client = MlflowClient(tracking_uri=local_uri(folder / "mlruns"))
    experiments = [item.experiment_id for item in client.search_experiments()]
    start = read_clocks()
    client.search_runs(experiments, max_results=50_000)
    return subtract(read_clocks(), start)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="harness-compare-"))
    try:
        harness(folder, *OVERRIDES)
        copy_run(folder, arguments.runs - 1)
        print(f"{arguments.runs} runs{'':27}{'wall, s':>10}{'processor, s':>14}")
        wall, processor = time_search(folder)
        print(f"  {'MLflow reads them':34}{wall:10.2f}{processor:14.2f}")
        slowest = 0.0
        for words in COMMANDS:
            wall, processor = harness(folder, *words)
            slowest = max(slowest, wall)
            print(f"  {' '.join(words[:-2])[:34]:34}{wall:10.2f}{processor:14.2f}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    met = slowest <= MAX_SECONDS
    print(f"\nthe slowest took {slowest:.1f} s; at most {MAX_SECONDS:.0f}   {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
