"""A real SLURM of one node: a sweep through submitit, a job of it cancelled, and completed later."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from services import find_programs, start_process, start_slurm, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="SLURM runs on Linux"),
]
SWEEP = [
    *("-m", "hydra/launcher=submitit_slurm", "hydra.launcher.mem_gb=1", "hydra.launcher.timeout_min=5"),
    *("subject=range(1,7)", "estimator=svc,dummy", "cv=logo,kfold5"),
    "figures=off",
]


@pytest.fixture(scope="module")
def slurm():
    with start_slurm() as environment:
        yield os.environ | environment | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def start(slurm, tmp_path):
    """Return a function that starts ``python -m harness`` in an empty directory; ends it after the test."""
    started = []

    def start_harness(*arguments):
        command = [sys.executable, "-m", "harness", *arguments]
        started.append(start_process(command, tmp_path / "output", slurm, cwd=tmp_path))
        return started[-1]

    yield start_harness
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def read_runs(folder, status=None):
    client = MlflowClient(tracking_uri=f"sqlite:///{(folder / 'mlruns' / 'mlflow.db').as_posix()}")
    requested = "" if status is None else f"attributes.status = '{status}'"
    # Without the summaries over subjects, whose experiment has a tag.
    every = [item.experiment_id for item in client.search_experiments() if "harness.kind" not in item.tags]
    return client.search_runs(every, requested, max_results=1000)


def running_jobs(slurm):
    """Return SLURM's ids of the jobs of the sweep that run now."""
    (squeue,) = find_programs("squeue")
    requested = [squeue, "-h", "-t", "RUNNING", "-o", "%F_%K"]
    return subprocess.run(requested, env=slurm, capture_output=True, text=True, check=True).stdout.split()


def find_victims(slurm, folder):
    """Return the jobs of SLURM whose run is in the store and takes a while, by the sweep's own numbers."""
    running = {int(job.rpartition("_")[2]): job for job in running_jobs(slurm)}
    assert len(running) <= 2, "the node has two cores"
    victims = {}
    for file in folder.glob("mlruns/sweeps/*/jobs/*.taken"):
        job = json.loads(file.read_text())
        slow = {"estimator=svc", "cv=logo"} <= set(job["overrides"])
        if (
            int(file.stem) in running
            and job.get("run_ids")
            and slow
            and not list(file.parent.glob(f"{file.stem}.f*"))
        ):
            victims[int(file.stem)] = running[int(file.stem)]
    return victims


def test_sweep_whose_job_is_cancelled_is_completed_by_the_same_command(slurm, start, tmp_path):
    first = start(*SWEEP)
    (scancel,) = find_programs("scancel")
    jobs = []

    def cancel_one():
        """Cancel jobs until one of them did not come to its end before."""
        assert first.poll() is None, (tmp_path / "output").read_text()
        if not list(tmp_path.glob("mlruns/sweeps/*/jobs/*.killed")) and (
            victims := find_victims(slurm, tmp_path)
        ):
            number, job = min(victims.items())
            subprocess.run([scancel, job], env=slurm, check=True)
            jobs.append(number)
            wait_for(
                f"the end of job {number}",
                lambda: any(
                    file.suffix in (".killed", ".finished")
                    for file in tmp_path.glob(f"mlruns/sweeps/*/jobs/{number}.*")
                ),
                30,
            )
        return bool(list(tmp_path.glob("mlruns/sweeps/*/jobs/*.killed")))

    wait_for("a job that is cancelled while it runs", cancel_one, 200, tmp_path / "output")

    # The others continue, and the sweep ends, although SLURM has no accounting that submitit could read.
    assert first.wait(600) == 1, (tmp_path / "output").read_text()
    said = (tmp_path / "output").read_text()
    assert "killed" in said
    assert "Traceback" not in said
    runs = read_runs(tmp_path)
    assert Counter(run.info.status for run in runs) == {"FINISHED": 23, "KILLED": 1}, said

    second = start(*SWEEP)
    assert second.wait(600) == 0, (tmp_path / "output").read_text()
    runs = read_runs(tmp_path)
    assert Counter(run.info.status for run in runs) == {"FINISHED": 24, "KILLED": 1}
    finished = {run.data.tags["harness.identity"] for run in runs if run.info.status == "FINISHED"}
    assert len(finished) == 24
    (killed,) = (run for run in runs if run.info.status == "KILLED")
    assert killed.data.tags["harness.identity"] in finished
    # A process ends some moments after its result is there, and so after the sweep.
    wait_for("the end of the last job", lambda: running_jobs(slurm) == [], 30)


def kill_worker(slurm, number):
    """Kill the process that does a job: scancel sends SIGTERM first."""
    requested = {f"SLURM_CONF={slurm['SLURM_CONF']}".encode(), f"SLURM_ARRAY_TASK_ID={number}".encode()}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            program, *words = (process / "cmdline").read_bytes().split(b"\0")
            ours = requested <= set((process / "environ").read_bytes().split(b"\0"))
            if ours and b"submitit.core._submit" in words and program == sys.executable.encode():
                os.kill(int(process.name), signal.SIGKILL)
                return
    raise AssertionError(f"no process does job {number}")


def test_run_whose_process_is_killed_is_started_again(slurm, start, tmp_path):
    """As when memory runs out: neither the process nor SLURM's accounting reports it."""
    sweep = start(*SWEEP[:4], "subject=1,2", "figures=off")

    def begun():
        """Return the jobs that have a run in the store."""
        assert sweep.poll() is None, (tmp_path / "output").read_text()
        files = tmp_path.glob("mlruns/sweeps/*/jobs/*.taken")
        return [int(file.stem) for file in files if json.loads(file.read_text()).get("run_ids")]

    wait_for("a run in a job of SLURM", lambda: bool(begun()), 120, tmp_path / "output")
    kill_worker(slurm, begun()[0])
    assert sweep.wait(300) == 0, (tmp_path / "output").read_text()
    assert Counter(run.info.status for run in read_runs(tmp_path)) == {"FINISHED": 2, "KILLED": 1}
