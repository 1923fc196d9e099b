"""A sweep's folder and its supervision, with launchers that die in every way that real ones do."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import pytest
from hydra import compose
from omegaconf import OmegaConf

from harness.app.composition import composing
from harness.errors import UsageError
from harness.tracking.ledger import (
    MODULES_OF_A_JOB,
    VARIABLE,
    Outcome,
    Sweep,
    current_sweep,
    end_sweep,
    launch_jobs,
    warm_workers,
)


@pytest.fixture
def sweep(tmp_path):
    return Sweep.begin(tmp_path)


def compose_launcher(name, *overrides):
    """Return the options of a launcher."""
    with composing():
        config = compose("config", [f"hydra/launcher={name}", *overrides], return_hydra_config=True)
    return OmegaConf.to_container(config.hydra.launcher)


def do(sweep, job, status="finished"):
    """Do a job as a worker would; returns whether it was there to be taken."""
    with sweep.take(job, [f"subject={job}"]) as taken:
        if taken:
            sweep.record(Outcome(job, status, (f"subject={job}",), f"sub-{job}", f"run-{job}"))
        return taken


def die_with(sweep, job):
    """Take a job in another process, which is then killed as the system kills for memory."""

    def work():
        with sweep.take(job, [f"subject={job}"]) as taken:
            sweep.name_run(job, f"sub-{job}", f"lost-{job}-{os.getpid()}")
            if taken:
                os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    return process.exitcode == -signal.SIGKILL


def test_names_sort_by_time_and_differ(tmp_path):
    first, second = Sweep.begin(tmp_path), Sweep.begin(tmp_path)
    assert first.id != second.id
    assert first.id[:15] <= second.id[:15]
    assert not first.folder.exists(), "nothing is made for a request that turns out to be wrong"


def test_the_environment_names_the_sweep(tmp_path, monkeypatch):
    sweep = Sweep.begin(tmp_path)
    monkeypatch.setenv(VARIABLE, str(sweep.folder))
    assert current_sweep().id == sweep.id


def test_a_job_is_done_once(sweep):
    assert do(sweep, 3)
    assert not do(sweep, 3)
    (outcome,) = sweep.outcomes()
    assert (outcome.job, outcome.status, outcome.overrides, outcome.run_id) == (
        3,
        "finished",
        ("subject=3",),
        "run-3",
    )
    assert sweep.count() == {"finished": 1}


def test_a_job_in_other_hands_is_left_alone(sweep):
    with sweep.take(0, []) as taken:
        assert taken
        assert sweep.in_hand() == [0]
        with multiprocessing.get_context("fork").Pool(1) as other:
            assert other.apply(do, (sweep, 0)) is False
    assert sweep.in_hand() == []
    assert sweep.unfinished(2) == [0, 1]


def test_only_wanted_jobs_are_taken_and_none_after_a_stop(sweep):
    sweep.restrict([1])
    assert not do(sweep, 0)
    assert do(sweep, 1)
    sweep.restrict([0])
    sweep.stop()
    assert not do(sweep, 0)


def test_a_job_that_raises_gives_itself_back(sweep):
    with pytest.raises(ZeroDivisionError), sweep.take(0, []):
        raise ZeroDivisionError
    assert sweep.unfinished() == [0]
    assert do(sweep, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
class TestLaunching:
    def test_jobs_not_begun_by_a_broken_launcher_are_launched_again(self, sweep):
        launches = []

        def launch():
            done = 0
            for job in range(5):
                done += do(sweep, job)
                if done == 2:
                    launches.append(job)
                    raise OSError("the pool broke")

        launch_jobs(sweep, 5, launch)
        assert launches == [1, 3]
        assert [outcome.status for outcome in sweep.outcomes()] == ["finished"] * 5

    def test_a_job_killed_once_is_done_the_second_time(self, sweep, capsys):
        deaths = []

        def launch():
            for job in range(4):
                if job == 1 and not deaths:
                    deaths.append(die_with(sweep, job))
                    raise OSError("a worker was terminated")
                do(sweep, job)

        launch_jobs(sweep, 4, launch)
        assert deaths == [True]
        assert sweep.count() == {"finished": 4}
        assert sweep.outcomes()[1].run_id == "run-1", "of the attempt that came to its end"
        assert "a process died" in capsys.readouterr().err

    def test_a_job_that_always_kills_its_process_costs_itself_alone(self, sweep):
        deaths = []

        def launch():
            for job in range(4):
                if job == 1 and sweep._wants(1):
                    deaths.append(die_with(sweep, job))
                    raise OSError("a worker was terminated")
                do(sweep, job)

        launch_jobs(sweep, 4, launch)
        assert deaths == [True, True]
        assert sweep.count() == {"finished": 3, "killed": 1}
        lost = sweep.outcomes()[1]
        assert lost.status == "killed"
        assert lost.overrides == ("subject=1",)
        assert "a worker was terminated" in lost.error
        assert lost.run_id.startswith("lost-1-")

    def test_two_that_die_together_are_tried_one_at_a_time(self, sweep):
        """The innocent one of two workers that a pool loses together is not called killed."""
        together, alone = [], []

        def launch():
            wanted = [job for job in range(3) if sweep._wants(job) and job in sweep.unfinished(3)]
            if len(wanted) > 1 and {0, 1} <= set(wanted):
                together.append([die_with(sweep, 0), die_with(sweep, 1)])
                raise OSError("workers were terminated")
            for job in wanted:
                alone.append(job)
                if job == 0:
                    die_with(sweep, 0)
                    raise OSError("a worker was terminated")
                do(sweep, job)

        launch_jobs(sweep, 3, launch)
        assert together == [[True, True]]
        assert alone == [2, 0, 1]
        assert {outcome.job: outcome.status for outcome in sweep.outcomes()} == {
            0: "killed",
            1: "finished",
            2: "finished",
        }

    def test_a_launcher_that_never_begins_a_job_says_why(self, sweep):
        def launch():
            raise OSError("sbatch: command not found")

        with pytest.raises(OSError, match="sbatch"):
            launch_jobs(sweep, 4, launch)

    def test_a_launcher_that_breaks_for_good_after_a_while_says_why(self, sweep):
        def launch():
            do(sweep, 0)
            raise OSError("the cluster is gone")

        with pytest.raises(OSError, match="the cluster is gone"):
            launch_jobs(sweep, 4, launch)
        assert sweep.count() == {"finished": 1}

    def test_workers_that_die_before_they_take_a_job_are_launched_again(self, sweep):
        launches = []

        def launch():
            launches.append(None)
            if len(launches) < 3:
                raise BrokenProcessPool("a worker was terminated")
            do(sweep, 0)

        launch_jobs(sweep, 1, launch)
        assert sweep.count() == {"finished": 1}

    def test_workers_that_always_die_before_they_take_a_job_are_given_up(self, sweep):
        launches = []

        def launch():
            launches.append(None)
            raise BrokenProcessPool("a worker was terminated")

        with pytest.raises(BrokenProcessPool):
            launch_jobs(sweep, 1, launch)
        assert len(launches) == 3

    def test_jobs_that_cannot_be_run_are_told_apart_and_the_others_done(self, sweep):
        def launch():
            for job in range(4):
                if job == 1 and 1 in sweep.unfinished(4):
                    raise KeyError("no such option")
                do(sweep, job)

        def check(error, jobs):
            assert isinstance(error, KeyError)
            return [Outcome(job, "failed", error=str(error)) for job in jobs if job == 1]

        launch_jobs(sweep, 4, launch, check)
        assert sweep.count() == {"finished": 3, "failed": 1}

    def test_a_stopped_sweep_is_not_launched_again(self, sweep):
        launches = []

        def launch():
            launches.append(None)
            sweep.stop()

        launch_jobs(sweep, 2, launch)
        assert len(launches) == 1

    def test_jobs_of_other_processes_are_waited_for(self, sweep):
        def work():
            with sweep.take(0, []):
                time.sleep(1.5)
                sweep.record(Outcome(0, "finished"))

        def launch():
            if not sweep.taken():
                multiprocessing.get_context("fork").Process(target=work).start()
                while not sweep.taken():
                    time.sleep(0.05)
                raise OSError("another job was cancelled")

        launch_jobs(sweep, 1, launch)
        assert sweep.count() == {"finished": 1}

    def test_a_launcher_that_does_not_notice_a_death_is_interrupted(self, sweep, monkeypatch):
        monkeypatch.setattr("harness.tracking.ledger.SECONDS_BETWEEN_LOOKS", 0.1)
        launches = []

        def launch():
            launches.append(None)
            do(sweep, 0)
            if len(launches) == 1:
                die_with(sweep, 1)
                time.sleep(60)  # as submitit sleeps between its looks at a queue that says nothing
            do(sweep, 1)

        launch_jobs(sweep, 2, launch)
        assert len(launches) == 2
        assert sweep.count() == {"finished": 2}

    def test_ending_a_sweep_buries_what_was_killed(self, sweep):
        do(sweep, 0)
        assert die_with(sweep, 1)
        end_sweep(sweep)
        assert [outcome.status for outcome in sweep.outcomes()] == ["finished", "killed"]
        assert sweep.outcomes()[1].run_id.startswith("lost-1-")
        assert sweep.stopping
        assert sweep.unfinished(3) == [2], "what was never begun is not called killed"


@pytest.mark.filterwarnings(
    r"ignore:\s*'hydra/launcher/joblib' is validated:UserWarning"
)  # as in harness.app.entry
def test_joblibs_processes_have_imported_what_a_job_needs():
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    joblib = pytest.importorskip("joblib")
    options = compose_launcher("joblib", "hydra.launcher.n_jobs=2")
    with warm_workers(options, 5) as wait:
        wait()
    # As the launcher itself calls it.
    imported = f"(__import__('os').getpid(), {{*{MODULES_OF_A_JOB!r}}} <= {{*__import__('sys').modules}})"
    launcher = {name: value for name, value in options.items() if name != "_target_"} | {
        "backend": "loky",
        "batch_size": 1,
    }
    found = joblib.Parallel(**launcher)(joblib.delayed(eval)(imported) for _ in range(4))
    joblib.externals.loky.get_reusable_executor().shutdown(wait=True)
    assert all(ready for _, ready in found)
    assert os.getpid() not in {process for process, _ in found}


def test_other_launchers_and_wrong_options_warm_nothing():
    joblib = pytest.importorskip("joblib")
    before = joblib.externals.loky.reusable_executor._executor
    with warm_workers(compose_launcher("basic"), 5) as wait:
        wait()
    none = {"_target_": "hydra_plugins.x.JoblibLauncher", "n_jobs": 0}
    with pytest.raises(UsageError, match=r"n_jobs=0: expected"), warm_workers(none, 5):
        pass
    assert joblib.externals.loky.reusable_executor._executor is before


@pytest.mark.skipif(sys.platform == "win32", reason="a process of Windows does not notice its parent's end")
def test_a_worker_with_a_process_in_between_ends_when_the_front_door_does_and_not_before(sweep):
    front_door = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    code = (
        "import time; from harness.tracking.ledger import end_with_front_door; "
        f"end_with_front_door({front_door.pid}); print('watching', flush=True); time.sleep(300)"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {VARIABLE: str(sweep.folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout.readline() == "watching\n"
    time.sleep(1)
    assert worker.poll() is None
    front_door.kill()
    front_door.wait()
    assert worker.communicate(timeout=60) == ("", None)
    assert worker.returncode == 1
    assert not sweep.folder.exists(), "a sweep without jobs has nothing to stop"
