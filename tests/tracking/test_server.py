"""A real ``mlflow server`` on a real PostgreSQL: many processes at once, and a server that goes away."""

import math
import multiprocessing
import os
import sys
import time

import pytest
from mlflow.tracking import MlflowClient

from harness.app.composition import compose_request
from harness.app.run_spec import decode_request
from harness.tracking.decoding_content import describe_decoding, fold_metrics
from harness.tracking.run_result import RunResult
from harness.tracking.run_writer import track_run
from harness.tracking.store import open_store
from services import start_process, start_server, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="PostgreSQL is started as POSIX systems do"),
]
PROCESSES, RUNS = 8, 25


@pytest.fixture(scope="module")
def server():
    with start_server() as server:
        yield server


@pytest.fixture(scope="module")
def decoding():
    return decode_request(compose_request(["estimator=dummy", "cv=kfold5", "scoring.inner_folds=3"]))


def write_runs(uri, folder, worker, decoding, together):
    """Log the same decoding as often as requested, as runs through the front door do."""
    artifacts = folder / f"artifacts-{worker}"
    artifacts.mkdir()
    (artifacts / "folds.csv").write_text(decoding.folds.to_csv(index=False))
    (artifacts / "page.html").write_text(f"<p>{worker}</p>" * 2000)
    together.wait(120)
    store = open_store(uri, folder / "mlruns", "together")
    for number in range(RUNS):
        params = {"worker": str(worker), "number": str(number)} | {f"p{n}": str(n) for n in range(30)}
        with track_run(store, f"{worker}.{number}", params, {"harness.test": "together"}) as run:
            seconds = {"data": float(worker), "decoding": float(number)}
            run.finish(describe_decoding(RunResult(decoding), artifacts, seconds, run.run_id), artifacts)


def test_eight_processes_that_start_together_lose_nothing(server, decoding, tmp_path):
    # The database was made when the server started; the experiment does not exist.
    assert MlflowClient(server.uri).get_experiment_by_name("together") is None
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(PROCESSES)
    workers = [
        context.Process(target=write_runs, args=(server.uri, tmp_path, worker, decoding, together))
        for worker in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
        assert worker.exitcode == 0

    client = MlflowClient(server.uri)
    every = {experiment.experiment_id: experiment.name for experiment in client.search_experiments()}
    runs = client.search_runs(list(every), max_results=1000)
    assert [every[run.info.experiment_id] for run in runs] == ["together"] * PROCESSES * RUNS
    assert {run.info.status for run in runs} == {"FINISHED"}
    written = {(int(run.data.params["worker"]), int(run.data.params["number"])) for run in runs}
    assert written == {(worker, number) for worker in range(PROCESSES) for number in range(RUNS)}
    logged = fold_metrics(decoding)
    for run in runs:
        worker, number = int(run.data.params["worker"]), int(run.data.params["number"])
        assert run.data.params.items() >= {f"p{n}": str(n) for n in range(30)}.items()
        assert run.data.metrics["system/seconds_data"] == worker
        assert run.data.metrics["system/seconds_decoding"] == number
        assert {metric.key for metric in logged} <= set(run.data.metrics)
    for run in runs[:: RUNS + 1]:  # each costs two requests more
        history = client.get_metric_history(run.info.run_id, "test/accuracy")
        expected = {metric.step: metric.value for metric in logged if metric.key == "test/accuracy"}
        assert {item.step: item.value for item in history} == expected
        files = {item.path for item in client.list_artifacts(run.info.run_id)}
        assert files == {"files.json", "folds.csv", "page.html"}
        page = client.download_artifacts(run.info.run_id, "page.html", str(tmp_path))
        with open(page, encoding="utf-8") as stream:  # noqa: PTH123  MLflow returns a str
            assert stream.read() == f"<p>{run.data.params['worker']}</p>" * 2000


def start(folder, *arguments):
    command = [sys.executable, "-m", "harness", *arguments, "tracking=server", "figures=off"]
    return start_process(command, folder / "output", os.environ | {"OMP_NUM_THREADS": "1"}, cwd=folder)


def test_run_through_the_front_door_is_read_back(server, tmp_path):
    process = start(tmp_path, f"tracking.uri={server.uri}", "tracking.experiment=one", "cv=kfold5")
    assert process.wait(300) == 0, (tmp_path / "output").read_text()
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("one")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert experiment.artifact_location.startswith("mlflow-artifacts:")
    assert run.data.params["estimator"] == "svc"
    history = client.get_metric_history(run.info.run_id, "test/accuracy")
    assert len(history) == 5
    assert run.data.metrics["test_accuracy_mean"] == pytest.approx(sum(item.value for item in history) / 5)
    assert {"folds.csv", "predictions.csv"} <= {item.path for item in client.list_artifacts(run.info.run_id)}
    assert f"{server.uri}/#/experiments/{experiment.experiment_id}/runs/{run.info.run_id}" in (
        (tmp_path / "output").read_text()
    )
    assert not (tmp_path / "mlruns" / "mlflow.db").exists()


def test_server_that_is_gone_for_ten_seconds_leaves_no_run_half_logged(server, tmp_path):
    """MLflow's client asks again for four minutes; what it cannot say in the end must not look finished."""
    client = MlflowClient(server.uri)
    process = start(
        tmp_path,
        *("-m", "subject=1,2,3", "estimator=svc,dummy", "cv=kfold5"),
        *(f"tracking.uri={server.uri}", "tracking.experiment=away"),
    )

    def has_begun():
        assert process.poll() is None, (tmp_path / "output").read_text()
        experiment = client.get_experiment_by_name("away")
        return experiment is not None and bool(client.search_runs([experiment.experiment_id]))

    wait_for("the first run", has_begun, 120, tmp_path / "output")
    server.stop()
    time.sleep(10)
    server.start()
    status = process.wait(300)
    said = (tmp_path / "output").read_text()

    runs = client.search_runs([client.get_experiment_by_name("away").experiment_id])
    finished = [run for run in runs if run.info.status == "FINISHED"]
    assert {run.info.status for run in runs} <= {"FINISHED", "FAILED", "KILLED"}, said
    for run in finished:
        assert len(client.get_metric_history(run.info.run_id, "test/accuracy")) == 5
        assert math.isfinite(run.data.metrics["test_accuracy_mean"])
        assert {"folds.csv", "predictions.csv", "config.yaml"} <= {
            item.path for item in client.list_artifacts(run.info.run_id)
        }
        assert run.data.params["n_folds"] == "5"
    # It waited: nothing was lost. Had it not, it would have had to say so.
    assert (status, len(finished)) == (0, 6), said
