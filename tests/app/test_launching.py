"""Sweeps whose launchers and workers die in every way that real ones do."""

import multiprocessing
import os
import signal
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from harness.app.launching import end_sweep, launch_jobs
from harness.tracking.ledger import Outcome, Sweep

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")


@pytest.fixture
def sweep(tmp_path):
    return Sweep.begin(tmp_path)


def do(sweep, job, status="finished"):
    """Run a job as a worker does; return whether it could be claimed."""
    with sweep.claim(job, [f"subject={job}"]) as claimed:
        if claimed:
            sweep.record(Outcome(job, status, (f"subject={job}",), f"sub-{job}", f"run-{job}"))
        return claimed


def die_with(sweep, job):
    """Claim a job in another process, which is then killed, as the system kills for memory."""

    def work():
        with sweep.claim(job, [f"subject={job}"]) as claimed:
            sweep.note_run(job, f"sub-{job}", f"lost-{job}-{os.getpid()}")
            if claimed:
                os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    return process.exitcode == -signal.SIGKILL


def blame_none(error, jobs):
    return []


def test_jobs_that_a_broken_launcher_did_not_begin_are_launched_again(sweep):
    launches = []

    def launch():
        done = 0
        for job in range(5):
            done += do(sweep, job)
            if done == 2:
                launches.append(job)
                raise OSError("the pool broke")

    launch_jobs(sweep, 5, launch, blame_none)
    assert launches == [1, 3]
    assert [outcome.status for outcome in sweep.outcomes()] == ["finished"] * 5


def test_a_job_whose_process_is_killed_once_runs_again(sweep, capsys):
    deaths = []

    def launch():
        for job in range(4):
            if job == 1 and not deaths:
                deaths.append(die_with(sweep, job))
                raise OSError("a worker was terminated")
            do(sweep, job)

    launch_jobs(sweep, 4, launch, blame_none)
    assert deaths == [True]
    assert sweep.count() == {"finished": 4}
    assert sweep.outcomes()[1].run_id == "run-1", "of the attempt that came to its end"
    assert "a process died" in capsys.readouterr().err


def test_a_job_that_always_kills_its_process_does_not_affect_the_others(sweep):
    deaths = []

    def launch():
        for job in range(4):
            if job == 1 and sweep._is_allowed(1):
                deaths.append(die_with(sweep, job))
                raise OSError("a worker was terminated")
            do(sweep, job)

    launch_jobs(sweep, 4, launch, blame_none)
    assert deaths == [True, True]
    assert sweep.count() == {"finished": 3, "killed": 1}
    lost = sweep.outcomes()[1]
    assert lost.status == "killed"
    assert lost.overrides == ("subject=1",)
    assert "a worker was terminated" in lost.error
    assert lost.run_id.startswith("lost-1-")


def test_two_jobs_that_die_together_are_retried_one_at_a_time(sweep):
    """Of two workers that a pool loses together, only the job that kills its process is marked as killed."""
    together, alone = [], []

    def launch():
        wanted = [job for job in range(3) if sweep._is_allowed(job) and job in sweep.unfinished(3)]
        if len(wanted) > 1 and {0, 1} <= set(wanted):
            together.append([die_with(sweep, 0), die_with(sweep, 1)])
            raise OSError("workers were terminated")
        for job in wanted:
            alone.append(job)
            if job == 0:
                die_with(sweep, 0)
                raise OSError("a worker was terminated")
            do(sweep, job)

    launch_jobs(sweep, 3, launch, blame_none)
    assert together == [[True, True]]
    assert alone == [2, 0, 1]
    assert {outcome.job: outcome.status for outcome in sweep.outcomes()} == {
        0: "killed",
        1: "finished",
        2: "finished",
    }


def test_the_error_of_a_launcher_that_begins_no_job_is_raised(sweep):
    def launch():
        raise OSError("sbatch: command not found")

    with pytest.raises(OSError, match="sbatch"):
        launch_jobs(sweep, 4, launch, blame_none)


def test_the_error_of_a_launcher_that_breaks_for_good_is_raised(sweep):
    def launch():
        do(sweep, 0)
        raise OSError("the cluster is gone")

    with pytest.raises(OSError, match="the cluster is gone"):
        launch_jobs(sweep, 4, launch, blame_none)
    assert sweep.count() == {"finished": 1}


def test_workers_that_die_before_they_claim_a_job_are_launched_again(sweep):
    launches = []

    def launch():
        launches.append(None)
        if len(launches) < 3:
            raise BrokenProcessPool("a worker was terminated")
        do(sweep, 0)

    launch_jobs(sweep, 1, launch, blame_none)
    assert sweep.count() == {"finished": 1}


def test_workers_that_always_die_before_they_claim_a_job_are_given_up(sweep):
    launches = []

    def launch():
        launches.append(None)
        raise BrokenProcessPool("a worker was terminated")

    with pytest.raises(BrokenProcessPool):
        launch_jobs(sweep, 1, launch, blame_none)
    assert len(launches) == 3


def test_jobs_that_cannot_be_composed_fail_and_the_others_run(sweep):
    def launch():
        for job in range(4):
            if job == 1 and 1 in sweep.unfinished(4):
                raise KeyError("no such option")
            do(sweep, job)

    def blame(error, jobs):
        assert isinstance(error, KeyError)
        return [Outcome(job, "failed", error=str(error)) for job in jobs if job == 1]

    launch_jobs(sweep, 4, launch, blame)
    assert sweep.count() == {"finished": 3, "failed": 1}


def test_a_stopped_sweep_is_not_launched_again(sweep):
    launches = []

    def launch():
        launches.append(None)
        sweep.stop()

    launch_jobs(sweep, 2, launch, blame_none)
    assert len(launches) == 1


def test_jobs_of_other_processes_are_waited_for(sweep):
    def work():
        with sweep.claim(0, []):
            time.sleep(1.5)
            sweep.record(Outcome(0, "finished"))

    def launch():
        if not sweep.ever_claimed():
            multiprocessing.get_context("fork").Process(target=work).start()
            while not sweep.ever_claimed():
                time.sleep(0.05)
            raise OSError("another job was cancelled")

    launch_jobs(sweep, 1, launch, blame_none)
    assert sweep.count() == {"finished": 1}


def test_a_launcher_that_does_not_notice_a_death_is_interrupted(sweep, monkeypatch):
    monkeypatch.setattr("harness.app.launching.SECONDS_BETWEEN_CHECKS", 0.1)
    launches = []

    def launch():
        launches.append(None)
        do(sweep, 0)
        if len(launches) == 1:
            die_with(sweep, 1)
            time.sleep(60)  # as submitit sleeps between its readings of the queue
        do(sweep, 1)

    launch_jobs(sweep, 2, launch, blame_none)
    assert len(launches) == 2
    assert sweep.count() == {"finished": 2}


def test_ending_a_sweep_marks_its_jobs_as_killed(sweep):
    do(sweep, 0)
    assert die_with(sweep, 1)
    end_sweep(sweep)
    assert [outcome.status for outcome in sweep.outcomes()] == ["finished", "killed"]
    assert sweep.outcomes()[1].run_id.startswith("lost-1-")
    assert sweep.stopping
    assert sweep.unfinished(3) == [2], "a job that never began is not marked as killed"
