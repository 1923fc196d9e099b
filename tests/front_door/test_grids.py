"""Sweeps as real processes: skipped, resumed, killed, stopped, without disk space; no run is lost."""

import json
import os
import random
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import pytest

from harness.app.entry import run as run_in_process
from processes import harness, is_running, read_runs

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals to send")
QUICK = ["cv=logo", "scoring.inner_folds=2", "figures=off"]


@pytest.fixture
def requested(tiny_subject):
    """Overrides for a data set that is decoded in an instant."""
    return ["dataset=haxby", f"dataset.data_dir={tiny_subject()}", "subject=1", *QUICK]


def start(folder, *arguments, name="", **environment):
    """Start a sweep in a process group of its own."""
    # Files, not pipes: reading a pipe to its end waits for the orphans of a killed process, too.
    with (folder / "out.txt").open("a") as out, (folder / f"errors{name}.txt").open("w") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "harness", "-m", *arguments],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            stdout=out,
            stderr=errors,
            start_new_session=True,
        )


def end(folder, process, seconds=240, name=""):
    """Wait for a sweep, and return its standard error."""
    process.wait(timeout=seconds)
    return (folder / f"errors{name}.txt").read_text()


def results(folder):
    """Return the metrics of every finished run by its fingerprint; equal fingerprints have equal metrics."""
    _, runs = read_runs(folder)
    found = {}
    for run in runs:
        if run.info.status == "FINISHED":
            numbers = {key: value for key, value in run.data.metrics.items() if not key.startswith("system/")}
            assert found.setdefault(run.data.tags["harness.identity"], numbers) == numbers
    return found


def statuses(folder):
    return Counter(run.info.status for run in read_runs(folder)[1])


def ledger(folder):
    """Return the files of the newest sweep."""
    sweeps = sorted((folder / "mlruns" / "sweeps").glob("*/jobs"))
    return sweeps[-1] if sweeps else folder / "none"


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def grid(tmp_path_factory, tiny_subject):
    """A sweep of three runs, the same again, and one with a new run."""
    folder = tmp_path_factory.mktemp("a grid")
    data = tiny_subject()
    requested = ["dataset=haxby", f"dataset.data_dir={data}", "subject=1", *QUICK]
    processes = [
        harness(folder, "-m", *requested, f"estimator={names}")
        for names in ("dummy,svc,ridge", "dummy,svc,ridge", "svc,lda")
    ]
    return folder, data, requested, processes


@pytest.mark.slow
def test_results_are_shown_the_best_first_with_mean_and_sd(grid):
    folder, _, _, (first, _, _) = grid
    _, runs = read_runs(folder)
    shown = [
        line.split() for line in first.stdout.splitlines() if line.startswith(("│ dummy", "│ svc", "│ ridge"))
    ]
    assert len(shown) == 3
    means = [float(cells[3]) for cells in shown]
    assert means == sorted(means, reverse=True)
    for cells in shown:
        run = next(run for run in runs if run.data.params["estimator"] == cells[1])
        assert cells[3:6] == [
            f"{run.data.metrics['test_accuracy_mean']:.3f}",
            "±",
            f"{run.data.metrics['test_accuracy_std']:.3f}",
        ]
    assert "3 done, 0 failed, 0 skipped, 0 remaining" in first.stderr


@pytest.mark.slow
def test_finished_runs_are_skipped_and_reported(grid):
    folder, _, _, (_, again, more) = grid
    assert "0 done, 0 failed, 3 skipped, 0 remaining" in again.stderr
    assert "3 skipped" in again.stdout
    assert "1 done, 0 failed, 1 skipped, 0 remaining" in more.stderr
    assert statuses(folder) == {"FINISHED": 4}
    assert len(results(folder)) == 4


@pytest.mark.slow
def test_a_run_belongs_to_every_sweep_that_includes_it(grid):
    folder, _, _, _ = grid
    client, runs = read_runs(folder)
    sweeps = {run.data.params["estimator"]: run.data.tags["harness.sweep"].split() for run in runs}
    assert {name: len(ids) for name, ids in sweeps.items()} == {"dummy": 2, "svc": 3, "ridge": 2, "lda": 1}
    assert sweeps["svc"] == sorted(sweeps["svc"])
    tags = client.get_experiment(runs[0].info.experiment_id).tags
    notes = [json.loads(tags[f"harness.sweep.{sweep}"]) for sweep in sweeps["svc"]]
    assert [(note["total"], note["finished"], note["skipped"]) for note in notes] == [
        (3, 3, 0),
        (3, 0, 3),
        (2, 1, 1),
    ]
    assert all(note["ended"] >= note["started"] for note in notes)
    assert notes[0]["command"].startswith("python -m harness -m dataset=haxby")


@pytest.mark.slow
def test_runs_are_skipped_by_the_content_of_the_data_not_by_their_path(tmp_path, requested, tiny_subject):
    (data,) = [Path(word.partition("=")[2]) for word in requested if "data_dir" in word]
    harness(tmp_path, "-m", *requested, "estimator=svc")
    there = [word.replace(str(data), str(tmp_path / "moved")) for word in requested]
    shutil.copytree(data, tmp_path / "moved")
    process = harness(tmp_path, "-m", *there, "estimator=svc", "figures=light")
    assert "1 skipped" in process.stderr
    other = [word.replace(str(data), str(tiny_subject(seed=8))) for word in requested]
    process = harness(tmp_path, "-m", *other, "estimator=svc")
    assert "1 done" in process.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "named",
    [
        ["-cn", "estimators"],
        ["--config-name=estimators"],
        ["-cd", "../elsewhere", "-cn", "more"],
        ["-m", "--config-dir=../elsewhere", "--config-name", "more"],
    ],
)
def test_a_study_is_found_by_its_name_and_a_swept_key_can_be_overridden(tmp_path, requested, named):
    study = "defaults: [config, _self_]\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      {}\n"
    here = tmp_path / "here"
    for folder, name in ((here / "experiments", "estimators"), (tmp_path / "elsewhere", "more")):
        folder.mkdir(parents=True)
        (folder / f"{name}.yaml").write_text(study.format("estimator: svc,ridge,dummy"))
    process = harness(here, *named, *requested, "estimator=dummy,lda")
    assert "2 done, 0 failed, 0 skipped, 0 remaining" in process.stderr
    _, runs = read_runs(here)
    assert {run.data.params["estimator"] for run in runs} == {"dummy", "lda"}
    assert len({run.data.tags["harness.sweep"] for run in runs}) == 1


@pytest.mark.slow
def test_all_files_are_written_to_the_tracking_directory(tmp_path, requested):
    here = tmp_path / "here"
    here.mkdir()
    harness(here, *requested, "estimator=svc", "tracking.folder=../there")
    harness(here, "-m", *requested, "estimator=dummy,svc", "tracking.folder=../there")
    harness(here, *requested, "tracking=off", "tracking.folder=../off")
    (tmp_path / "options").mkdir()
    (tmp_path / "options" / "mine.yaml").write_text(
        "defaults: [config, _self_]\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n"
        "      estimator: dummy,ridge\n      tracking.folder: ../there\n"
    )
    harness(here, "-cd", "../options", "-cn", "mine", *requested)
    assert not list(here.iterdir())
    assert {path.name for path in (tmp_path / "there").iterdir()} >= {"mlflow.db", "hydra", "sweeps"}
    assert len(list((tmp_path / "there" / "sweeps").iterdir())) == 2
    assert list((tmp_path / "off").glob("hydra/**/folds.csv"))


@pytest.mark.slow
def test_without_a_store_the_commands_for_failed_runs_name_the_study(tmp_path, requested):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.yaml").write_text(
        "defaults: [config, _self_]\nestimator: {grid: {C: [1.0]}}\nhydra:\n  mode: MULTIRUN\n"
        "  sweeper:\n    params:\n      contrast: face_vs_cat,face_vs_shoe,cat_vs_house\n"
    )
    process = harness(tmp_path, "-cn", "mine", *requested, "tracking=off", check=False)
    assert process.returncode == 1, process.stderr
    assert "2 done, 1 failed" in process.stderr
    command = process.stderr.partition("to run only these again:\n")[2].strip()
    assert command.startswith("python -m harness -cn mine ")
    again = harness(tmp_path, *shlex.split(command)[3:], check=False)
    assert "0 done, 1 failed" in again.stderr
    assert "'shoe' has no volumes" in again.stderr


@pytest.mark.slow
def test_a_combination_that_cannot_be_composed_does_not_affect_the_others(tmp_path, requested):
    own = tmp_path / "own" / "estimator"
    (own / "made_for").mkdir(parents=True)
    (own / "picky.yaml").write_text("# For one scheme only.\ndefaults:\n  - made_for@_here_: ${cv}\n")
    (own / "made_for" / "logo.yaml").write_text("_target_: sklearn.svm.LinearSVC\ngrid:\n  C: [1.0]\n")
    grid = ["-m", "-cd", "own", *requested, "cv=logo,stratified5", "estimator=dummy,picky"]
    process = harness(tmp_path, *grid, check=False)
    assert process.returncode == 2, process.stderr
    assert "3 done, 1 failed" in process.stderr
    assert "Traceback" not in process.stderr
    assert statuses(tmp_path) == {"FINISHED": 3}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-m", "estimator=svc,svn"], "Did you mean 'svc'?"),
        (["-m", "tracking=local,off"], "one store"),
        (["-m", "--cfg", "job"], "leave out -m"),
        (["-cd", "nowhere", "-cn", "study"], "is not a directory"),
        (["--config-name=study"], "study"),
        (["-m", "hydra.sweeper._target_=hydra_plugins.optuna.OptunaSweeper"], "basic sweeper"),
        (["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=0"], "n_jobs=0: expected"),
    ],
)
def test_a_usage_error_is_one_message_and_starts_no_sweep(tmp_path, monkeypatch, capsys, arguments, text):
    monkeypatch.chdir(tmp_path)
    assert run_in_process(arguments) == 2
    errors = capsys.readouterr().err
    assert text in errors
    assert "Traceback" not in errors
    assert "remaining" not in errors
    if (tmp_path / "mlruns" / "mlflow.db").exists():
        client, _ = read_runs(tmp_path)
        assert not any("harness.sweep" in tag for found in client.search_experiments() for tag in found.tags)


@pytest.mark.slow
def test_resume_can_be_disabled_and_enabled(tmp_path, requested):
    harness(tmp_path, *requested, "estimator=dummy")
    harness(tmp_path, *requested, "estimator=dummy")
    assert statuses(tmp_path) == {"FINISHED": 2}, "one run is always computed"
    process = harness(tmp_path, *requested, "estimator=dummy", "resume=true")
    assert "has finished before" in process.stdout
    assert statuses(tmp_path) == {"FINISHED": 2}
    harness(tmp_path, "-m", *requested, "estimator=dummy", "resume=false")
    assert statuses(tmp_path) == {"FINISHED": 3}
    assert len(results(tmp_path)) == 1


@pytest.mark.slow
def test_the_same_run_twice_in_a_grid_is_computed_once(tmp_path, requested):
    process = harness(tmp_path, "-m", *requested, "estimator=dummy,dummy")
    assert "1 done, 0 failed, 1 skipped" in process.stderr
    assert statuses(tmp_path) == {"FINISHED": 1}


@pytest.mark.slow
def test_a_failed_run_is_the_only_one_that_the_printed_command_computes(tmp_path, requested):
    process = harness(
        tmp_path, "-m", *requested, "estimator=dummy,svc", "estimator.strategy=prior", check=False
    )
    assert process.returncode == 2, "svc has no strategy: a usage error"
    assert "to run only these again:\npython -m harness -m dataset=haxby" in process.stderr
    assert "unknown key 'estimator.strategy'" in process.stderr
    again = harness(
        tmp_path, "-m", *requested, "estimator=dummy,svc", "estimator.strategy=prior", check=False
    )
    assert "0 done, 1 failed, 1 skipped" in again.stderr


@pytest.mark.slow
def test_an_unexpected_exception_fails_its_run_alone(tmp_path, requested):
    own = tmp_path / "own" / "estimator"
    own.mkdir(parents=True)
    (tmp_path / "breaks.py").write_text(
        "from sklearn.svm import LinearSVC\n\n\nclass Breaks(LinearSVC):\n"
        "    def fit(self, X, y):\n        raise ZeroDivisionError('in the middle')\n"
    )
    (own / "breaks.yaml").write_text("# One that breaks.\n_target_: breaks.Breaks\ngrid: {C: [1]}\n")
    allowed = {"HARNESS_TARGETS": "breaks", "PYTHONPATH": str(tmp_path)}
    process = harness(
        tmp_path, "-m", "-cd", "own", *requested, "estimator=breaks,dummy", check=False, **allowed
    )
    assert process.returncode == 1
    assert "ZeroDivisionError: in the middle" in process.stderr
    client, runs = read_runs(tmp_path)
    assert statuses(tmp_path) == {"FINISHED": 1, "FAILED": 1}
    failed = next(run for run in runs if run.info.status == "FAILED")
    path = client.download_artifacts(failed.info.run_id, "error.txt", str(tmp_path))
    assert "Traceback" in Path(path).read_text()


@pytest.mark.slow
def test_processes_that_create_a_store_together_lose_no_run(tmp_path, requested):
    processes = [
        start(tmp_path, *requested, f"estimator={name}", "contrast=face_vs_cat,cat_vs_house")
        for name in ("dummy", "svc", "ridge", "lda")
    ]
    for process in processes:
        errors = end(tmp_path, process)
        assert process.returncode == 0, errors
    client, runs = read_runs(tmp_path)
    assert statuses(tmp_path) == {"FINISHED": 8}
    assert {client.get_experiment(run.info.experiment_id).name for run in runs} == {"haxby decoding"}


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_stopped_sweep_is_resumed(tmp_path, requested, sent, status, launcher):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    grid = [
        *requested,
        "estimator=svc_liblinear,dummy,logistic_liblinear",
        "contrast.conditions=[face,cat],[cat,house]",
    ]
    grid += [f"hydra/launcher={launcher}"]
    process = start(tmp_path, *grid)
    wait_for(lambda: len(list(ledger(tmp_path).glob("*.finished"))) >= 1)
    wait_for(lambda: is_running(tmp_path / "mlruns" / "mlflow.db") or process.poll() is not None)
    os.killpg(process.pid, sent)
    errors = end(tmp_path, process, seconds=30)
    assert process.returncode == status, errors
    assert "RUNNING" not in statuses(tmp_path)
    finished = results(tmp_path)
    assert "remaining" in errors
    harness(tmp_path, "-m", *grid)
    assert len(results(tmp_path)) == 6
    assert finished.items() <= results(tmp_path).items()


FAULTS = ["estimator=svc,ridge,lda,dummy", "cv=logo,stratified5"]
FAULTS += ["contrast.conditions=[face,cat],[cat,house],[face,house]"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_subject):
    """24 runs without a disturbance."""
    folder = tmp_path_factory.mktemp("undisturbed")
    requested = ["dataset=haxby", f"dataset.data_dir={tiny_subject()}", "subject=1", *QUICK, *FAULTS]
    harness(folder, "-m", *requested)
    found = results(folder)
    assert len(found) == 24
    return requested, found


@pytest.mark.slow
@POSIX
def test_a_main_process_killed_ten_times_loses_no_run(tmp_path, undisturbed):
    requested, expected = undisturbed
    moments = random.Random(5)
    groups = []
    for trial in range(10):
        process = start(tmp_path, *requested, *(["hydra/launcher=joblib"] if trial % 2 else []))
        if trial % 3:  # else in the middle of starting
            wait_for_new_job(tmp_path, process)
        time.sleep(moments.uniform(0, 1.5))
        process.kill()
        process.wait()
        groups.append(process.pid)
        if trial % 4 == 1:  # else its workers finish their jobs
            kill_group(process.pid)
    for group in groups:
        kill_group(group)
    harness(tmp_path, "-m", *requested)
    assert results(tmp_path) == expected
    assert set(statuses(tmp_path)) <= {"FINISHED", "KILLED"}


def kill_group(group):
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def wait_for_new_job(folder, process):
    taken = len(list(folder.glob("mlruns/sweeps/*/jobs/*.taken")))
    wait_for(
        lambda: len(list(folder.glob("mlruns/sweeps/*/jobs/*.taken"))) > taken or process.poll() is not None
    )


@pytest.mark.slow
@POSIX
def test_ten_killed_workers_lose_no_run(tmp_path, undisturbed):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    requested, expected = undisturbed
    moments = random.Random(6)
    killed = 0
    for trial in range(8):
        folder = tmp_path / str(trial)
        folder.mkdir()
        process = start(folder, *requested, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
        while killed < 10 and process.poll() is None:
            time.sleep(moments.uniform(0.2, 2.0))
            workers = find_workers(process.pid)
            if workers and list(ledger(folder).glob("*.taken")):
                os.kill(moments.choice(workers), signal.SIGKILL)
                killed += 1
        errors = end(folder, process)
        assert process.returncode in (0, 1), errors
        assert "Traceback" not in errors
        assert "RUNNING" not in statuses(folder)
        assert results(folder).items() <= expected.items()
        harness(folder, "-m", *requested)
        assert results(folder) == expected
        if killed == 10:
            return
    pytest.fail(f"only {killed} workers could be killed")


def find_workers(parent):
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    return [int(line.split()[0]) for line in listed if "popen_loky_posix" in line]


@pytest.mark.slow
def test_a_sweep_waits_for_a_store_that_is_locked_for_ten_seconds(tmp_path, undisturbed):
    requested, expected = undisturbed
    process = start(tmp_path, *requested)
    wait_for(lambda: len(list(ledger(tmp_path).glob("*.finished"))) >= 3)
    with closing(
        sqlite3.connect(tmp_path / "mlruns" / "mlflow.db", timeout=30, isolation_level=None)
    ) as held:
        held.execute("BEGIN EXCLUSIVE")
        time.sleep(10)
        held.execute("COMMIT")
    errors = end(tmp_path, process)
    assert process.returncode in (0, 1), errors
    assert "RUNNING" not in statuses(tmp_path)
    harness(tmp_path, "-m", *requested)
    assert results(tmp_path) == expected


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk, as root")
def test_a_full_disk_is_reported_and_loses_no_run(tmp_path, undisturbed):
    requested, expected = undisturbed
    small = tmp_path / "mlruns"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1700k", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not allow mounting a disk")
    try:
        process = harness(tmp_path, "-m", *requested, check=False)
        assert process.returncode == 1
        assert "disk is full" in process.stderr or "No space left" in process.stderr
        assert "Traceback" not in process.stderr
        before = results(tmp_path)
        assert 0 < len(before) < len(expected)
        assert before.items() <= expected.items()
        subprocess.run(["mount", "-o", "remount,size=60m", str(small)], check=True)
        harness(tmp_path, "-m", *requested)
        assert results(tmp_path) == expected
        assert set(statuses(tmp_path)) <= {"FINISHED", "FAILED"}
        reasons = [run.data.tags.get("harness.error", "") for run in read_runs(tmp_path)[1]]
        others = [reason for reason in reasons if reason and not re.search("is full|No space left", reason)]
        assert not others
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


PATIENT = """
import os
import time
from pathlib import Path

from sklearn.svm import LinearSVC


class Patient(LinearSVC):
    def fit(self, X, y):
        while not Path(os.environ["GO"]).exists():
            time.sleep(0.05)
        return super().fit(X, y)


class Stubborn(Patient):
    def fit(self, X, y):
        try:
            return super().fit(X, y)
        except SystemExit:
            time.sleep(300)
"""


@pytest.fixture
def patient(tmp_path, requested):
    """Arguments of runs that wait for the file ``go``, and the environment that they need."""
    (tmp_path / "own" / "estimator").mkdir(parents=True)
    (tmp_path / "patience.py").write_text(PATIENT)
    for name in ("Patient", "Stubborn"):
        option = f"# Waits for a file.\n_target_: patience.{name}\ngrid: {{C: [1]}}\n"
        (tmp_path / "own" / "estimator" / f"{name.lower()}.yaml").write_text(option)
    environment = {"HARNESS_TARGETS": "patience", "PYTHONPATH": str(tmp_path), "GO": str(tmp_path / "go")}
    yield [*requested, "-cd", "own", "estimator=patient"], environment
    for name in ("go", "later", "never"):  # what a failed test has left
        (tmp_path / name).touch()


def n_running(folder):
    database = folder / "mlruns" / "mlflow.db"
    return statuses(folder)["RUNNING"] if is_running(database) else 0


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_identical_sweeps_at_the_same_time_compute_every_run_once(tmp_path, patient, launcher):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    arguments, environment = patient
    grid = [*arguments, "contrast=face_vs_cat,cat_vs_house,face_vs_house", f"hydra/launcher={launcher}"]
    processes = [start(tmp_path, *grid, name=str(number), **environment) for number in range(2)]
    wait_for(lambda: len(list(tmp_path.glob("mlruns/sweeps/*/jobs/*.taken"))) >= 2)
    wait_for(lambda: n_running(tmp_path) >= 1)
    (tmp_path / "go").touch()
    said = [end(tmp_path, process, name=str(number)) for number, process in enumerate(processes)]
    assert [process.returncode for process in processes] == [0, 0], said
    assert statuses(tmp_path) == {"FINISHED": 3}
    counted = [re.search(r"(\d) done, 0 failed, (\d) skipped, 0 remaining", text) for text in said]
    done, skipped = zip(*((int(found[1]), int(found[2])) for found in counted), strict=True)
    assert sum(done) == sum(skipped) == 3
    sweeps = {sweep for run in read_runs(tmp_path)[1] for sweep in run.data.tags["harness.sweep"].split()}
    assert len(sweeps) == 2
    assert not list((tmp_path / "mlruns" / "running").glob("claims/*"))


@pytest.mark.slow
@POSIX
def test_a_run_whose_process_is_killed_is_computed_by_the_sweep_that_waits_for_it(tmp_path, patient):
    arguments, environment = patient
    first = start(tmp_path, *arguments, name="first", **environment | {"GO": str(tmp_path / "never")})
    wait_for(lambda: n_running(tmp_path) == 1)
    (tmp_path / "go").touch()
    second = start(tmp_path, *arguments, name="second", **environment)
    wait_for(lambda: len(list(tmp_path.glob("mlruns/sweeps/*/jobs/*.taken"))) == 2)
    # A single run does not resume, and so does not wait.
    harness(tmp_path, *arguments, "tracking.experiment=another", **environment)
    assert statuses(tmp_path) == {"RUNNING": 1, "FINISHED": 1}
    first.kill()
    first.wait()
    errors = end(tmp_path, second, name="second")
    assert "1 done, 0 failed, 0 skipped" in errors
    harness(tmp_path, "-m", *arguments, **environment)  # opening a store marks lost runs as killed
    assert statuses(tmp_path) == {"KILLED": 1, "FINISHED": 2}


@pytest.mark.slow
def test_a_single_run_does_not_wait_for_the_same_run_of_a_sweep(tmp_path, patient):
    arguments, environment = patient
    sweep = start(tmp_path, *arguments, **environment | {"GO": str(tmp_path / "later")})
    wait_for(lambda: n_running(tmp_path) == 1)
    (tmp_path / "go").touch()
    harness(tmp_path, *arguments, **environment)
    assert statuses(tmp_path) == {"RUNNING": 1, "FINISHED": 1}
    (tmp_path / "later").touch()
    end(tmp_path, sweep)
    assert statuses(tmp_path) == {"FINISHED": 2}
    assert len(results(tmp_path)) == 1


def find_group(group):
    """Return the living processes of a group; zombies are dead."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True)
    lines = [line.split(maxsplit=2) for line in listed.stdout.splitlines()]
    return [words for number, state, *words in lines if int(number) == group and state[0] != "Z"]


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize("estimator", ["patient", "stubborn"])
def test_joblib_workers_end_when_the_main_process_is_killed(tmp_path, patient, estimator):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    arguments, environment = patient
    grid = [*arguments, "contrast=face_vs_cat,cat_vs_house,face_vs_house", "hydra/launcher=joblib"]
    grid += ["hydra.launcher.n_jobs=2", f"estimator={estimator}"]
    process = start(tmp_path, *grid, **environment)
    wait_for(lambda: n_running(tmp_path) == 2)
    process.kill()
    process.wait()
    wait_for(lambda: not find_group(process.pid), seconds=30)
    if estimator == "patient":
        assert statuses(tmp_path) == {"KILLED": 2}
    (tmp_path / "go").touch()
    harness(tmp_path, "-m", *grid, **environment)
    assert statuses(tmp_path) == {"KILLED": 2, "FINISHED": 3}


@pytest.mark.slow
@POSIX
def test_an_idle_joblib_worker_ends_when_the_main_process_is_killed(tmp_path, patient):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    arguments, environment = patient
    grid = [*arguments, "estimator=dummy,patient", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    process = start(tmp_path, *grid, **environment)
    wait_for(lambda: len(list(ledger(tmp_path).glob("*.finished"))) == 1 and n_running(tmp_path) == 1)
    assert len(find_workers(process.pid)) == 2
    process.kill()
    process.wait()
    wait_for(lambda: not find_group(process.pid), seconds=30)
    assert statuses(tmp_path) == {"FINISHED": 1, "KILLED": 1}
