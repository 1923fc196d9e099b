"""``predict``, ``export`` and ``model=true`` as a user starts them, from another directory."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from harness.app.verbs import run_verb
from processes import harness, read_runs


@pytest.fixture(scope="module")
def subject(tiny_subject):
    return tiny_subject(planted={"face": (1, 1, 1)}) / "haxby2001" / "subj1"


@pytest.fixture(scope="module")
def study(tmp_path_factory, subject):
    """A directory with one run of the subject, its decoder logged as a model."""
    folder = tmp_path_factory.mktemp("study")
    overrides = [f"dataset.data_dir={subject.parents[1]}", "subject=1", "scoring.inner=runs", "figures=off"]
    harness(folder, "dataset=haxby", *overrides, "model=true")
    return folder


@pytest.mark.slow
def test_new_volumes_are_predicted_from_another_directory(study, subject, tmp_path):
    arguments = [str(subject / "bold.nii.gz"), "--labels", str(subject / "labels.txt")]
    done = harness(
        tmp_path, "predict", "latest", *arguments, "--folder", str(study / "mlruns"), "--csv", "out.csv"
    )
    table = pd.read_csv(tmp_path / "out.csv")
    labels = pd.read_csv(subject / "labels.txt", sep=" ")
    chosen = labels[labels["labels"].isin(["face", "cat"])]
    assert table["volume"].tolist() == chosen.index.tolist()
    assert table["class"].tolist() == chosen["labels"].tolist()
    assert ((table["decision_value"] > 0) == (table["predicted"] == "face")).all()
    accuracy = (table["predicted"] == table["class"]).mean()
    assert accuracy > 0.9  # an effect of ten standard deviations
    assert f"accuracy {accuracy:.3f} over 32 rows" in done.stdout
    assert "the decoder was trained on this image" in done.stdout
    assert done.stderr == ""
    _, (run,) = read_runs(study)
    train = run.data.metrics["train_accuracy"]
    assert accuracy == train


@pytest.mark.slow
def test_json_is_all_that_is_printed(study, subject, tmp_path):
    image = str(subject / "bold.nii.gz")
    arguments = ["predict", "latest", image, "--folder", str(study / "mlruns"), "--json", "--csv", "out.csv"]
    done = harness(tmp_path, *arguments)
    content = json.loads(done.stdout)
    assert [row["volume"] for row in content["predictions"]] == list(range(60))
    assert content["accuracy"] is None
    assert "equal shares" in " ".join(content["notices"])
    values = [row["decision_value"] for row in content["predictions"]]
    assert pd.read_csv(tmp_path / "out.csv")["decision_value"].tolist() == values


@pytest.mark.slow
def test_models_are_logged_listed_and_written(study, subject, tmp_path):
    client, (run,) = read_runs(study)
    assert [output.step for output in run.outputs.model_outputs] == [0]  # model=true
    assert run.info.status == "FINISHED"
    assert "system/seconds_model" in run.data.metrics
    folder = ["--folder", str(study / "mlruns")]
    assert "models:/m-" in harness(tmp_path, "export", run.info.run_id[:8], *folder).stdout
    assert len(client.get_run(run.info.run_id).outputs.model_outputs) == 2
    harness(tmp_path, "export", "latest", *folder, "--out", "model")
    image = subject / "bold.nii.gz"
    (tmp_path / "images.csv").write_text(f"image\n{image}\n")
    command = [sys.executable, "-m", "mlflow", "models", "predict", "-m", "model", "-i", "images.csv"]
    subprocess.run(
        [*command, "-t", "csv", "-o", "out.json", "--env-manager", "local"], cwd=tmp_path, check=True
    )
    rows = json.loads((tmp_path / "out.json").read_text())["predictions"]
    verb = json.loads(harness(tmp_path, "predict", "latest", str(image), *folder, "--json").stdout)
    assert [row["decision_value"] for row in rows] == [row["decision_value"] for row in verb["predictions"]]


@pytest.mark.slow
def test_resumed_run_without_a_model_gets_one(tmp_path, subject):
    overrides = [f"dataset.data_dir={subject.parents[1]}", "subject=1", "scoring.inner=runs", "figures=off"]
    for model in ("false", "true", "true"):
        harness(tmp_path, "dataset=haxby", *overrides, "resume=true", f"model={model}")
    _, (run,) = read_runs(tmp_path)
    assert len(run.outputs.model_outputs) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["predict", "nosuch", "new.nii.gz"], 2, "'nosuch' is not a run of"),
        (["predict", "latest", "missing.nii.gz"], 1, "missing.nii.gz: no such file"),
        (["predict", "latest", "other.nii"], 1, "resample the image"),
        (["predict", "latest", "other.nii", "--folder", "nowhere"], 1, "no runs yet"),
        (["export", "nosuch"], 2, "'nosuch' is not a run of"),
        (["export", "latest", "--out", "."], 2, "is not an empty directory"),
    ],
)
def test_errors_are_one_message(study, monkeypatch, capsys, arguments, status, text):
    monkeypatch.chdir(study)
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3, 2), np.float32), np.eye(4)), study / "other.nii")
    assert run_verb(arguments) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert text in captured.err
    assert "Traceback" not in captured.err
