"""``python -m harness`` as a user starts it, in another directory; results are read through MLflow."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from harness.app.entry import run as run_in_process
from processes import harness, is_running, read_runs


@pytest.fixture(scope="module")
def one_run(tmp_path_factory):
    """The README's first command, in an empty directory."""
    folder = tmp_path_factory.mktemp("first command")
    process = harness(folder, "estimator=svc", "cv=logo")
    client, (run,) = read_runs(folder)
    return folder, process, client, run


def test_first_command_is_tracked_as_finished(one_run):
    _, _, client, run = one_run
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "sub-2 face_vs_cat vt svc logo"
    assert client.get_experiment(run.info.experiment_id).name == "simulated decoding"


def test_metrics_have_one_step_per_fold_and_summaries(one_run):
    _, _, client, run = one_run
    for key in ("test/accuracy", "test/balanced_accuracy", "test/roc_auc", "selected/roc_auc", "best_C"):
        assert [item.step for item in client.get_metric_history(run.info.run_id, key)] == list(
            range(1, 13)
        ), key
    history = [item.value for item in client.get_metric_history(run.info.run_id, "test/accuracy")]
    assert run.data.metrics["test_accuracy_mean"] == pytest.approx(np.mean(history))
    assert run.data.metrics["test_accuracy_std"] == pytest.approx(np.std(history, ddof=1))
    assert run.data.metrics["train_accuracy"] == 1.0
    assert {f"system/seconds_{stage}" for stage in ("data", "decoding", "figures")} <= set(run.data.metrics)


def test_means_come_before_the_last_fold(one_run):
    """The UI shows metrics in the order in which they were logged, which SQLite returns."""
    _, _, _, run = one_run
    names = list(run.data.metrics)
    assert names[0] == "test_accuracy_mean"
    assert max(map(names.index, ("test_roc_auc_std", "train_accuracy"))) < names.index("test/accuracy")


def test_picture_of_the_weights_is_in_the_note_and_in_the_panel_of_several_runs(one_run):
    _, _, client, run = one_run
    image = f"get-artifact?path=weights_face_vs_cat.png&run_uuid={run.info.run_id}"
    assert f"({image})" in run.data.tags["mlflow.note.content"], "relative: the UI may be below a path"
    pictures = [item.path for item in client.list_artifacts(run.info.run_id, "images")]
    assert all("weights" in path for path in pictures)
    assert {path.rpartition(".")[2] for path in pictures} == {"png", "webp"}
    assert run.data.tags["mlflow.loggedImages"] == "True"


def test_params_hold_choices_and_configuration(one_run):
    _, _, _, run = one_run
    params = run.data.params
    requested = {
        "dataset": "simulated",
        "subject": "2",
        "contrast": "face_vs_cat",
        "roi": "vt",
        "estimator": "svc",
    }
    assert {name: params[name] for name in requested} == requested
    assert params["value.estimator.grid.C"] == "[1.0, 10.0, 100.0]"
    assert params["value.signal.zscore"] == "own"
    shown_by_choices = ("subject", "seed", "engine", "roi.mask", "scoring.select", "cv._target_")
    assert not {f"value.{key}" for key in shown_by_choices} & set(params)


def test_tags_and_input_hold_the_provenance(one_run):
    _, _, _, run = one_run
    tags = run.data.tags
    for name in ("nilearn", "scikit-learn", "numpy", "python"):
        assert tags[f"harness.version.{name}"]
    assert all(len(tags[f"harness.digest.{file}"]) == 64 for file in ("bold", "labels", "mask"))
    assert tags["harness.weights.positive"] == "face"
    assert tags["harness.warnings"] == "0"
    assert tags["harness.audit"] in ("caution", "leak"), "of logo and the default signal, whatever the data"
    assert "SIMULATED" in tags["mlflow.note.content"]
    (dataset,) = [item.dataset for item in run.inputs.dataset_inputs]
    assert dataset.name == "simulated subject 2"
    assert tags["harness.digest.bold"].startswith(dataset.digest)


def test_artifacts_are_complete(one_run):
    folder, _, client, run = one_run
    files = {item.path: item.file_size for item in client.list_artifacts(run.info.run_id)}
    assert set(files) == {
        "folds.csv",
        "predictions.csv",
        "audit.json",
        "config.yaml",
        "environment.txt",
        "files.json",
        "decoder.npz",
        "decoder.json",
        "confusion.png",
        "weights_face_vs_cat.nii.gz",
        "weights_sd_face_vs_cat.nii.gz",
        "weights_face_vs_cat.png",
        "weights_face_vs_cat.html",
        "pattern_face_vs_cat.nii.gz",
        "pattern_face_vs_cat.png",
        "pattern_face_vs_cat.html",
        "grid_scores.csv",
        "grid_scores.png",
        "predicted_volumes.png",
        "images",
    }
    assert all(size > 0 for name, size in files.items() if name != "images")
    home = folder / "mlruns" / "artifacts" / run.info.run_id / "artifacts"
    folds = pd.read_csv(home / "folds.csv")
    assert folds["fold"].tolist() == list(range(1, 13))
    assert folds["runs_held_out"].tolist() == list(range(12))
    assert (folds["n_train"] + folds["n_test"] == 216).all()
    predictions = pd.read_csv(home / "predictions.csv")
    assert len(predictions) == 216
    right = (predictions["predicted"] == predictions["class"]).groupby(predictions["fold"]).mean()
    np.testing.assert_allclose(right, folds["test_accuracy"])
    says_face = predictions["decision_value"] > 0
    assert (predictions["predicted"][says_face] == "face").all()
    weights = nib.load(home / "weights_face_vs_cat.nii.gz")
    cache = Path(os.environ["HARNESS_CACHE"])
    mask = nib.load(next(cache.glob("simulated-*/haxby2001/subj2/mask4_vt.nii.gz")))
    np.testing.assert_array_equal(weights.affine, mask.affine)
    np.testing.assert_array_equal(np.asarray(weights.dataobj) != 0, np.asarray(mask.dataobj) != 0)


def test_nothing_is_written_outside_mlruns(one_run):
    folder, _, _, _ = one_run
    assert [path.name for path in folder.iterdir()] == ["mlruns"]


def test_terminal_shows_scores_files_and_the_next_commands(one_run):
    _, process, _, run = one_run
    for text in ("sub-2 face_vs_cat vt svc logo", "mean", "SIMULATED", "dataset=haxby", "harness compare"):
        assert text in process.stdout, text
    assert f"{run.data.metrics['test_accuracy_mean']:.3f}" in process.stdout
    assert "data     simulated subject 2: face vs cat; vt, 551 voxels, 216 volumes" in process.stdout
    assert f"audit    {run.data.tags['harness.audit']} (" in process.stdout
    assert f"python -m harness ui --run {run.info.run_id}" in process.stdout
    assert "http://127.0.0.1" not in process.stdout, "no server runs yet"
    assert process.stderr == ""


@pytest.mark.slow
def test_a_sweep_continues_after_a_failed_run(tmp_path, tiny_subject):
    requested = ["dataset=haxby", f"dataset.data_dir={tiny_subject()}", "cv=logo", "scoring.inner_folds=3"]
    process = harness(
        tmp_path,
        "-m",
        *requested,
        "subject=1",
        "contrast.conditions=[face,cat],[face,shoe],[cat,house]",
        check=False,
    )
    assert process.returncode == 1
    client, runs = read_runs(tmp_path)
    status = {run.data.params["contrast"]: run.info.status for run in runs}
    assert status == {"face_vs_cat": "FINISHED", "face_vs_shoe": "FAILED", "cat_vs_house": "FINISHED"}
    failed = next(run for run in runs if run.info.status == "FAILED")
    assert [item.path for item in client.list_artifacts(failed.info.run_id)] == ["error.txt"]
    assert "'shoe' has no volumes" in failed.data.tags["harness.error"]
    assert not failed.data.metrics
    assert "2 done, 1 failed, 0 skipped, 0 remaining" in process.stderr
    assert "[face,shoe]" in process.stderr.partition("1 failed or killed")[2]
    assert "Traceback" not in process.stderr
    finished = next(run for run in runs if run.info.status == "FINISHED")
    files = {item.path for item in client.list_artifacts(finished.info.run_id)}
    assert not any(name.endswith(".html") for name in files), "a sweep draws light figures"


@pytest.mark.slow
def test_skipped_folds_are_in_the_terminal_the_run_and_its_files(tmp_path, tiny_subject):
    data = tiny_subject()
    file = data / "haxby2001" / "subj1" / "labels.txt"
    file.write_text(file.read_text().replace("face 2", "house 2"))
    requested = [
        "dataset=haxby",
        f"dataset.data_dir={data}",
        "subject=1",
        "scoring.inner_folds=3",
        "figures=off",
    ]
    process = harness(tmp_path, *requested, check=False)
    assert process.returncode == 1
    assert "cv.incomplete=skip" in process.stderr
    process = harness(tmp_path, *requested, "cv.incomplete=skip")
    assert "warning: cv=logo" in process.stdout
    assert "1 of 4 folds are skipped" in process.stdout
    client, (run, refused) = read_runs(tmp_path)
    assert refused.info.status == "FAILED"
    assert (run.data.params["n_folds"], run.data.params["n_folds_skipped"]) == ("3", "1")
    assert "1 of 4 folds are skipped" in run.data.tags["harness.notices"]
    assert "1 of 4 folds are skipped" in run.data.tags["mlflow.note.content"]
    history = client.get_metric_history(run.info.run_id, "test/accuracy")
    assert sorted(metric.step for metric in history) == [1, 2, 4]
    mean = np.mean([metric.value for metric in history])
    np.testing.assert_allclose(run.data.metrics["test_accuracy_mean"], mean)
    table = pd.read_csv(client.download_artifacts(run.info.run_id, "folds.csv", str(tmp_path)))
    assert table["fold"].tolist() == [1, 2, 3, 4]
    assert table["test_accuracy"].isna().tolist() == table["skipped"].notna().tolist()
    assert table["skipped"].notna().tolist() == [False, False, True, False]


def test_unknown_option_is_a_usage_error_and_leaves_no_run(tmp_path):
    process = harness(tmp_path, "estimator=svm", check=False)
    assert process.returncode == 2
    assert process.stderr.startswith("error: unknown option 'estimator=svm'")
    assert "Did you mean 'svc'?" in process.stderr
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "mlruns" / "mlflow.db").exists()


@pytest.mark.slow
def test_a_directory_with_markup_in_its_name_is_printed_unchanged(tmp_path, tiny_subject):
    folder = tmp_path / "[old] study [red]"
    folder.mkdir()
    requested = ["dataset=haxby", f"dataset.data_dir={tiny_subject()}", "subject=1", "scoring.inner_folds=3"]
    process = harness(folder, *requested, "figures=off", "estimator=dummy")
    assert str(folder / "mlruns" / "artifacts") in process.stdout


@pytest.mark.slow
def test_a_file_in_the_place_of_mlruns_is_one_message(tmp_path):
    (tmp_path / "mlruns").write_text("in the way")
    process = harness(tmp_path, "estimator=dummy", check=False)
    assert process.returncode == 1
    assert "mlruns" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.slow
def test_estimator_arguments_that_scikit_learn_rejects_are_one_message(tmp_path, tiny_subject):
    requested = ["dataset=haxby", f"dataset.data_dir={tiny_subject()}", "subject=1", "scoring.inner_folds=3"]
    process = harness(tmp_path, *requested, "estimator.tol=-1", "estimator=svc_liblinear", check=False)
    assert process.returncode == 2
    assert "estimator=svc_liblinear[tol=-1]: The 'tol' parameter of LinearSVC" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.slow
def test_tracking_off_keeps_files_and_no_store(tmp_path, tiny_subject):
    process = harness(
        tmp_path,
        "dataset=haxby",
        f"dataset.data_dir={tiny_subject()}",
        "subject=1",
        "scoring.inner_folds=3",
        "tracking=off",
        "figures=off",
        "estimator=dummy",
    )
    assert not (tmp_path / "mlruns" / "mlflow.db").exists()
    (folds,) = tmp_path.glob("mlruns/hydra/**/folds.csv")
    assert str(folds.parent) in process.stdout
    table = pd.read_csv(folds)
    assert not [name for name in table if name.startswith("best_")], "a dummy has no C"
    assert not list(folds.parent.glob("weights*"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals to send")
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_run_is_killed_not_running(tmp_path, sent, status):
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "estimator=logistic_liblinear", "contrast=all8"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not is_running(tmp_path / "mlruns" / "mlflow.db"):
        time.sleep(0.5)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    _, (run,) = read_runs(tmp_path)
    assert run.info.status == "KILLED"


def test_help_answers_without_the_heavy_packages(tmp_path):
    code = (
        "import sys; from harness.app.entry import run\n"
        "try:\n    run(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'nilearn', 'sklearn', 'mlflow', 'matplotlib', 'pandas', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 0, process.stderr
    for text in ("estimator: dummy, lda, logistic", "python -m harness compare", "subject: 2"):
        assert text in process.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["compar"], 2, "Did you mean 'compare'?"),
        (["compare"], 1, "no runs yet"),
        (["ui"], 1, "no runs yet"),
        (["inspect", "roi=vtt"], 2, "Did you mean 'vt'?"),
        (["fetch", "dataset=haxby", "subject=7"], 1, "subjects 1 to 6"),
        (["compare", "--mots", "3"], 2, "unrecognized arguments"),
    ],
)
def test_errors_of_verbs_are_one_message(tmp_path, arguments, status, text):
    process = harness(tmp_path, *arguments, check=False)
    assert process.returncode == status
    assert text in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.slow
def test_compare_prints_and_exports_the_runs(one_run):
    folder, _, _, run = one_run
    process = harness(folder, "compare", "--csv", "table.csv")
    assert f"{run.data.metrics['test_accuracy_mean']:.3f}" in process.stdout
    table = pd.read_csv(folder / "table.csv")
    (folder / "table.csv").unlink()
    assert table["estimator"].tolist() == ["svc"]
    np.testing.assert_allclose(table["test_accuracy_mean"], run.data.metrics["test_accuracy_mean"])


@pytest.mark.slow
def test_cache_lists_checks_and_clears(tmp_path, tiny_subject):
    requested = ["dataset=haxby", f"dataset.data_dir={tiny_subject()}", "subject=1", "scoring.inner_folds=3"]
    kept = {"HARNESS_CACHE": str(tmp_path / "kept")}
    harness(tmp_path, *requested, "tracking=off", "figures=off", **kept)
    listed = harness(tmp_path, "cache", **kept)
    assert "1 set(s)" in listed.stdout
    assert "bold.nii.gz" in listed.stdout
    (samples,) = (tmp_path / "kept").rglob("*.arrays")
    damaged = bytearray(samples.read_bytes())
    damaged[-1] ^= 1
    samples.write_bytes(damaged)
    checked = harness(tmp_path, "cache", "check", check=False, **kept)
    assert checked.returncode == 1
    assert "removed" in checked.stdout
    harness(tmp_path, "cache", "clear", **kept)
    assert "0 set(s)" in harness(tmp_path, "cache", **kept).stdout


@pytest.mark.slow
def test_inspect_writes_a_page(tmp_path, tiny_subject):
    requested = ["dataset=haxby", f"dataset.data_dir={tiny_subject()}", "subject=1"]
    process = harness(tmp_path, "inspect", *requested, "--out", "look")
    page = tmp_path / "look" / "index.html"
    assert f"page     {page}" in process.stdout
    assert process.stderr == ""
    assert "python -m harness" in page.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["look"]


# Commands for a directory with one run, and how many runs each adds.
COMMANDS = {
    "runs": (["runs"], 0),
    "sweeps": (["runs", "--sweeps"], 0),
    "compare": (["compare"], 0),
    "cache": (["cache"], 0),
    "relocate": (["relocate"], 0),
    "help of a verb": (["runs", "--help"], 0),
    "inspect": (["inspect", "OVERRIDES", "--out", "page"], 0),
    "fetch": (["fetch", "OVERRIDES"], 0),
    "version": (["--version"], 0),
    "help": (["--help"], 0),
    "configuration": (["--cfg", "job", "OVERRIDES"], 0),
    "run": (["OVERRIDES", "estimator=dummy"], 1),
    "sweep": (["-m", "OVERRIDES", "estimator=dummy,ridge", "resume=false"], 2),
    "joblib": (["-m", "OVERRIDES", "estimator=dummy,ridge", "resume=false", "hydra/launcher=joblib"], 2),
}
EVERY_COMMAND = [
    pytest.param(
        *command,
        id=name,
        marks=[] if name == "runs" else pytest.mark.slow,
    )
    for name, command in COMMANDS.items()
]


@pytest.fixture(scope="module")
def start_command(tmp_path_factory, tiny_subject):
    """Return a directory, whose name is not ASCII, and a function that starts a command in it.

    The directory has one finished run. The function returns exit status, output (None if it is written to a
    file), and standard error.
    """
    folder = tmp_path_factory.mktemp("Übung")
    requested = [f"dataset.data_dir={tiny_subject()}", "dataset=haxby", "subject=1", "figures=off"]
    requested += ["cv=logo", "scoring.inner_folds=2"]
    harness(folder, *requested, "estimator=dummy")

    def start(arguments, stdout=subprocess.PIPE, **environment):
        words = [word for name in arguments for word in (requested if name == "OVERRIDES" else [name])]
        # Buffered, as outside of tests: then some errors come as late as when Python ends.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        process = subprocess.run(
            [sys.executable, "-m", "harness", *words],
            cwd=folder,
            env=inherited | {"OMP_NUM_THREADS": "1"} | environment,
            stdout=stdout,
            stderr=subprocess.PIPE,
            check=False,
            timeout=300,
        )
        return process.returncode, process.stdout, process.stderr.decode()

    return folder, start


def count_finished(folder):
    return sum(run.info.status == "FINISHED" for run in read_runs(folder)[1])


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "_"), EVERY_COMMAND)
def test_output_is_escaped_if_the_encoding_is_ascii(start_command, arguments, _):
    _, start = start_command
    status, output, errors = start(arguments, LC_ALL="C", PYTHONIOENCODING="ascii:strict")
    assert "Error" not in errors
    assert status == 0, errors
    output.decode("ascii")
    if arguments in (["runs"], ["compare"]):
        assert b" +/- " in output


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(("arguments", "n_runs"), EVERY_COMMAND)
def test_output_to_a_full_device_is_one_message_and_the_runs_are_stored(start_command, arguments, n_runs):
    folder, start = start_command
    before = count_finished(folder)
    with Path("/dev/full").open("wb") as full:
        status, _, errors = start(arguments, stdout=full)
    assert status == 1
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    (message,) = [line for line in errors.splitlines() if line.startswith("error:")]
    assert "standard output cannot be written: No space left on device" in message
    assert count_finished(folder) == before + n_runs


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "n_runs"), EVERY_COMMAND)
def test_output_to_a_closed_pipe_is_dropped_silently_and_the_runs_are_stored(
    start_command, arguments, n_runs
):
    folder, start = start_command
    before = count_finished(folder)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        status, _, errors = start(arguments, stdout=writer)
    finally:
        os.close(writer)
    assert status == 1
    assert "error" not in errors.lower()
    assert "Exception ignored" not in errors
    assert count_finished(folder) == before + n_runs


@pytest.mark.slow
def test_a_sweep_whose_output_is_not_read_is_computed(start_command, tiny_subject):
    folder, _ = start_command
    before = count_finished(folder)
    words = ["-m", "dataset=haxby", f"dataset.data_dir={tiny_subject()}", "subject=1", "figures=off"]
    words += ["scoring.inner_folds=2", "cv=logo", "estimator=dummy,ridge", "resume=false"]
    command = [sys.executable, "-m", "harness", *words]
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(command, cwd=folder, stdout=writer, stderr=writer, check=False, timeout=300)
    os.close(writer)
    assert process.returncode == 1
    assert count_finished(folder) == before + 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk, as root")
@pytest.mark.parametrize("free", [4, 12])  # KiB: for the directory and little else, for half of the files
@pytest.mark.parametrize("multirun", [False, True])
def test_a_full_temporary_directory_is_one_message_and_the_run_is_failed(
    tmp_path, tiny_subject, free, multirun
):
    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)]
    if subprocess.run(command, check=False).returncode:
        pytest.skip("this machine does not allow mounting a disk")
    words = ["dataset=haxby", f"dataset.data_dir={tiny_subject()}", "subject=1", "scoring.inner_folds=2"]
    words += ["cv=logo", "figures=light", *(["-m"] if multirun else [])]
    try:
        (small / "rest").write_bytes(bytes((256 - free) * 1024))
        process = harness(tmp_path, *words, check=False, TMPDIR=str(small))
        assert process.returncode == 1
        assert "Traceback" not in process.stderr
        assert "No space left on device" in process.stderr
        assert "TMPDIR" in process.stderr
        _, (run,) = read_runs(tmp_path)
        assert run.info.status == "FAILED"
        assert "No space left on device" in run.data.tags["harness.error"]
        (small / "rest").unlink()
        harness(tmp_path, *words, TMPDIR=str(small))
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


@pytest.mark.slow
def test_without_a_temporary_directory_a_run_fails_with_one_message(
    tmp_path, tiny_subject, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "removed"))
    words = ["dataset=haxby", f"dataset.data_dir={tiny_subject()}", "subject=1", "scoring.inner_folds=2"]
    assert run_in_process([*words, "cv=logo", "figures=off", "estimator=dummy"]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("error: the files of this run cannot be written to a temporary directory")
    assert "TMPDIR" in errors
    assert "Traceback" not in errors
    _, (run,) = read_runs(tmp_path)
    assert run.info.status == "FAILED"
