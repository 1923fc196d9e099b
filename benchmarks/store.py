"""What a tracked run costs when the store is small and when it is large, and how long reading it takes.

    python benchmarks/store.py                       # 1000 runs written, 10 000 read (many minutes, 1 GB)
    python benchmarks/store.py --written 200 --read 1000

One small decoding of simulated data is made once. It is written again and again as a run of its own, as a job
writes it, artifacts included. For reading, the store is filled up with copies of such runs without artifacts.
All files are in a temporary directory, which is removed. Processor times, which a busy machine disturbs less,
decide.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median

EXPERIMENT = "benchmark"
GROUP = "benchmark.group"  # a tag with one value per hundred runs, as that of a sweep
SIZE_OF_GROUP = 100
MOST_GROWTH = 1.5  # times the cost of the first runs


def read_clocks() -> tuple[float, float]:
    """Return the seconds on the wall and of the processor."""
    return time.perf_counter(), time.process_time()


def write_runs(folder: Path, count: int) -> list[tuple[float, float]]:
    """Write runs into a new store, and return the seconds of each, on the wall and of the processor."""
    from harness.app.composition import compose_request
    from harness.app.run_spec import decode_request
    from harness.report.artifacts import write_artifacts
    from harness.tracking.decoding_content import describe_decoding
    from harness.tracking.run_result import RunResult
    from harness.tracking.run_writer import track_run
    from harness.tracking.store import open_store
    from harness.tracking.tags import OVERRIDES_TAG

    request = compose_request(["subject=2", "estimator=svc", "cv=logo"])
    decoding = decode_request(request)
    artifacts = folder / "artifacts-of-each"
    artifacts.mkdir()
    result = write_artifacts(RunResult(decoding), artifacts, request.to_yaml(), "light")
    store = open_store(None, folder / "mlruns", EXPERIMENT)
    seconds = []
    for number in range(count):
        start = read_clocks()
        tags = {OVERRIDES_TAG: "", GROUP: str(number // SIZE_OF_GROUP)}
        with track_run(store, request.name, request.params, tags) as run:
            run.finish(describe_decoding(result, artifacts, decoding.seconds, run.run_id), artifacts)
        end = read_clocks()
        seconds.append((end[0] - start[0], end[1] - start[1]))
    return seconds


def report_written(seconds: list[tuple[float, float]]) -> float:
    """Print the mean cost of a run by the size of the store, and return how it grew."""
    edges = [edge for edge in (0, 10, 30, 100, 300, 1000, 3000, 10_000) if edge < len(seconds)]
    print(f"\n{'ms per run, at runs':24}{'wall':>10}{'processor':>11}{'fastest':>10}")
    for first, last in zip(edges, [*edges[1:], len(seconds)], strict=True):
        wall, processor = zip(*seconds[first:last], strict=True)
        row = f"{1e3 * mean(wall):10.1f}{1e3 * mean(processor):11.1f}{1e3 * min(processor):10.1f}"
        print(f"{first + 1:10} to {last:<10}{row}")
    # The first run of all also makes MLflow's tables known to the process.
    tenth = max(len(seconds) // 10, 10)
    processor = [of_run for _, of_run in seconds[1:]]
    return median(processor[-tenth:]) / median(processor[:tenth])


def copy_runs(folder: Path, count: int, first: int) -> None:
    """Add copies of the newest run to a store, without artifacts, numbered from `first`, a second apart."""
    from mlflow.entities import Param
    from mlflow.tracking import MlflowClient

    from harness.tracking.store import local_uri

    client = MlflowClient(tracking_uri=local_uri(folder))
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    (newest,) = client.search_runs([experiment], max_results=1)
    histories = [client.get_metric_history(newest.info.run_id, key) for key in newest.data.metrics]
    metrics = [metric for history in histories for metric in history]
    params = [Param(key, value) for key, value in newest.data.params.items()]
    for number in range(first, first + count):
        tags = newest.data.tags | {GROUP: str(number // SIZE_OF_GROUP)}
        start = newest.info.start_time + 1000 * number
        run = client.create_run(experiment, start, tags, newest.info.run_name).info.run_id
        client.log_batch(run, metrics, params)
        client.log_inputs(run, newest.inputs.dataset_inputs)
        client.set_terminated(run, end_time=start + 1000)


def time_best(work: Callable[[], int], repeats: int = 3) -> tuple[float, float, int]:
    """Return wall and processor seconds, each of the fastest repetition, and what it returned."""
    walls, processors = [], []
    for _ in range(repeats):
        wall, processor = read_clocks()
        found = work()
        end = read_clocks()
        walls.append(end[0] - wall)
        processors.append(end[1] - processor)
    return min(walls), min(processors), found


def report_read(folder: Path, count: int) -> None:
    """Print how long listing and filtering take."""
    from mlflow.tracking import MlflowClient

    from harness.tracking.queries import RunQuery
    from harness.tracking.run_tables import compare_runs
    from harness.tracking.store import local_uri

    uri = local_uri(folder / "mlruns")
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    middle = count // SIZE_OF_GROUP // 2
    tagged = f"tags.`{GROUP}` = '{middle}'"
    scored = f"{tagged} and metrics.test_accuracy_mean > 0.5"

    def search(filter_string: str) -> int:
        return len(client.search_runs([experiment], filter_string, max_results=1000))

    everything = min(count, 50_000)  # MLflow's limit
    questions: list[tuple[str, Callable[[], int]]] = [
        ("the newest 100, as `harness compare`", lambda: len(compare_runs(uri, RunQuery(EXPERIMENT)).runs)),
        ("all, as `harness compare`", lambda: len(compare_runs(uri, RunQuery(EXPERIMENT), everything).runs)),
        ("by a tag", lambda: search(tagged)),
        ("by a tag and a score", lambda: search(scored)),
    ]
    print(f"\nof {count} runs{'':30}{'found':>8}{'wall, s':>10}{'processor':>11}")
    for words, work in questions:
        wall, processor, found = time_best(work)
        print(f"  {words:41}{found:8}{wall:10.3f}{processor:11.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--written", type=int, default=1000, help="runs that are written, at least 30")
    parser.add_argument("--read", type=int, default=10_000, help="runs in the store when it is read")
    arguments = parser.parse_args()
    if arguments.written < 30:
        parser.error("--written needs at least 30 runs to compare the first with the last")
    folder = Path(tempfile.mkdtemp(prefix="harness-store-"))
    try:
        print(f"writing {arguments.written} runs ...", flush=True)
        growth = report_written(write_runs(folder, arguments.written))
        missing = max(arguments.read - arguments.written, 0)
        copy_runs(folder / "mlruns", missing, arguments.written)
        report_read(folder, arguments.written + missing)
        size = (folder / "mlruns" / "mlflow.db").stat().st_size / 1e6
        print(f"  the database has {size:.0f} MB")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    met = growth <= MOST_GROWTH
    target = f"at most {MOST_GROWTH}   {'met' if met else 'MISSED'}"
    print(f"\nthe last runs cost {growth:.2f} times the first ones (median of a tenth); {target}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
