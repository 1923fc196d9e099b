"""Decoders as MLflow models: complete or not there, and usable without the harness."""

import json
import subprocess
import sys
from dataclasses import replace

import mlflow.pyfunc
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

import harness.tracking.model_export as model_export
from harness.decoding.served_decoder import ServedDecoder
from harness.decoding.stored_decoder import StoredDecoder, pack_decoder, unpack_decoder
from harness.errors import DesignError, TrackingError, UsageError
from harness.tracking.model_export import (
    export_to_directory,
    find_model,
    list_requirements,
    log_model,
)
from harness.tracking.run_writer import TrackedRun

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
RUN_ID = "0123456789abcdef" * 2


@pytest.fixture
def decoder():
    """A decoder of two voxels that sums the first and subtracts the second, not standardised."""
    mask = np.zeros((2, 2, 2), dtype=bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    settings = {
        "kind": "linear",
        "reason": "",
        "guesses": False,
        "classes": ["cat", "face"],
        "contrast": {"face": ["face"], "cat": ["cat"]},
        "columns": ["decision_value"],
        "zscore": "none",
        "cleaning": {"detrend": False, "smoothing_fwhm": None, "high_pass": None, "low_pass": None},
        "selection": {"lag": 0, "trim_first": 0, "trim_last": 0, "average_blocks": False},
        "confounds": [],
        "dtype": "float32",
        "t_r": None,
        "shape": [2, 2, 2],
        "estimator": "svc",
    }
    arrays = {
        "coef": np.array([[1.0, -1.0]]),
        "intercept": np.array([0.5]),
        "mask": np.packbits(mask),
        "affine": AFFINE,
    }
    files = pack_decoder(StoredDecoder(settings, arrays))
    return unpack_decoder(files["decoder.json"], files["decoder.npz"])


@pytest.fixture
def image(tmp_path):
    """Three volumes, whose decision values are 1.5, -1.5 and 0.5."""
    volumes = np.zeros((2, 2, 2, 3), dtype=np.int16)
    volumes[0, 0, 0] = [1, 0, 2]
    volumes[1, 1, 1] = [0, 2, 2]
    nib.save(nib.Nifti1Image(volumes, AFFINE), tmp_path / "new.nii.gz")
    return tmp_path / "new.nii.gz"


EXPECTED = [1.5, -1.5, 0.5]


@pytest.fixture
def sys_path(monkeypatch):
    """Restore the search path, to which MLflow adds the code of every model that it loads."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if name.startswith("harness_decoder_"):
            del sys.modules[name]


def test_model_in_a_directory_predicts(decoder, image, tmp_path, sys_path):
    export_to_directory(decoder, RUN_ID, tmp_path / "deep" / "model")
    model = mlflow.pyfunc.load_model(str(tmp_path / "deep" / "model"))
    table = model.predict(pd.DataFrame({"image": [str(image), str(image)]}))
    assert table["decision_value"].tolist() == EXPECTED * 2
    assert table["predicted"].tolist() == ["face", "cat", "face"] * 2
    assert table["volume"].tolist() == [0, 1, 2] * 2
    assert model.metadata.run_id == RUN_ID
    assert table.columns.tolist() == model.metadata.get_output_schema().input_names()
    with pytest.raises(MlflowException, match="image"):
        model.predict(pd.DataFrame({"picture": [str(image)]}))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model"]


@pytest.mark.slow
def test_model_needs_no_harness(decoder, image, tmp_path):
    export_to_directory(decoder, RUN_ID, tmp_path / "model")
    script = (
        "import sys, json; sys.modules['harness'] = None\n"
        "import mlflow.pyfunc, pandas as pd\n"
        "table = mlflow.pyfunc.load_model('model').predict(pd.DataFrame({'image': ['new.nii.gz']}))\n"
        "print(json.dumps([table['decision_value'].tolist(), sorted(sys.modules)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    values, modules = json.loads(done.stdout.splitlines()[-1])
    assert values == EXPECTED
    assert not {"nilearn", "sklearn.linear_model"} & set(modules)


@pytest.mark.slow
def test_mlflow_predicts_from_a_table(decoder, image, tmp_path):
    export_to_directory(decoder, RUN_ID, tmp_path / "model")
    (tmp_path / "images.csv").write_text(f"image\n{image}\n")
    command = [sys.executable, "-m", "mlflow", "models", "predict", "-m", "model", "-i", "images.csv"]
    done = subprocess.run(
        [*command, "-t", "csv", "-o", "out.json", "--env-manager", "local"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out.json").read_text())["predictions"]
    assert [row["decision_value"] for row in rows] == EXPECTED


def test_requirements_are_explicit(decoder):
    names = [line.partition("==")[0] for line in list_requirements(decoder)]
    assert names == ["mlflow", "numpy", "nibabel", "pandas"]
    cleaned = StoredDecoder(decoder.settings | {"zscore": "run"}, decoder.arrays)
    assert list_requirements(cleaned)[-1].startswith("nilearn==")


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_something_in_the_place_of_the_model_is_refused_and_kept(kind, decoder, tmp_path):
    target = tmp_path / "model"
    if kind == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"--out .*model exists and is not an empty directory"):
        export_to_directory(decoder, RUN_ID, target)
    assert (target if kind == "file" else target / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_empty_directory_is_used(decoder, tmp_path):
    (tmp_path / "model").mkdir()
    export_to_directory(decoder, RUN_ID, tmp_path / "model")
    assert (tmp_path / "model" / "MLmodel").is_file()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_model_that_cannot_be_completed_leaves_nothing(error, decoder, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        (tmp_path / "begun").touch()
        raise error

    monkeypatch.setattr(model_export, "list_requirements", fail)
    with pytest.raises((UsageError, KeyboardInterrupt)):
        export_to_directory(decoder, RUN_ID, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["begun"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"confounds": ["motion"]}, "motion were regressed out .* given images alone"),
        ({"selection": {"average_blocks": True}}, "averages of blocks .* given images alone"),
        ({"kind": "none", "reason": "a reason"}, "cannot be exported: a reason"),
    ],
)
def test_decoder_that_needs_more_than_images_is_refused(change, message, decoder, tmp_path):
    changed = replace(decoder, settings=decoder.settings | change)
    with pytest.raises(DesignError, match=message):
        export_to_directory(changed, RUN_ID, tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def store(make_store, tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "mlruns")


@pytest.fixture
def finished(store):
    run = TrackedRun(store, "a run cv.seed='1'", {"estimator": "svc"}, {})
    store.client.set_terminated(run.run_id, "FINISHED")
    run._release()
    return store.client.get_run(run.run_id)


def test_model_is_logged_to_a_finished_run(decoder, image, store, finished, sys_path):
    run_id, before = finished.info.run_id, mlflow.get_tracking_uri()
    assert find_model(run_id, store.uri) is None
    model_id = log_model(decoder, run_id, store.uri)
    run = store.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.end_time == finished.info.end_time
    assert run.data == finished.data or run.data.to_dictionary() == finished.data.to_dictionary()
    assert find_model(run_id, store.uri) == model_id
    logged = store.client.get_logged_model(model_id)
    assert (logged.name, logged.source_run_id, logged.status.value) == (
        "decoder a run cv-seed=-1-",
        run_id,
        "READY",
    )
    assert logged.experiment_id == finished.info.experiment_id
    model = mlflow.pyfunc.load_model(logged.artifact_location)
    table = model.predict(pd.DataFrame({"image": [str(image)]}))
    assert table["decision_value"].tolist() == EXPECTED
    assert model.metadata.model_id == model_id
    assert mlflow.get_tracking_uri() == before
    assert mlflow.active_run() is None


def test_model_whose_upload_fails_is_not_listed(decoder, store, finished, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_export.MlflowClient, "log_model_artifacts", fail)
    with pytest.raises(TrackingError, match="No space left on device"):
        log_model(decoder, finished.info.run_id, store.uri)
    assert find_model(finished.info.run_id, store.uri) is None
    listed = store.client.search_logged_models([finished.info.experiment_id])
    assert not [model for model in listed if model.source_run_id == finished.info.run_id]


def test_edited_model_is_refused_when_it_is_loaded(decoder, tmp_path, sys_path):
    export_to_directory(decoder, RUN_ID, tmp_path / "model")
    with (tmp_path / "model" / "data" / "decoder" / "decoder.npz").open("ab") as file:
        file.write(b" ")
    with pytest.raises(ValueError, match=r"decoder\.npz is not the file that belongs to decoder\.json"):
        mlflow.pyfunc.load_model(str(tmp_path / "model"))


def test_a_file_in_the_place_of_a_directory_is_one_message(decoder, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match=r"--out .* cannot be written"):
        export_to_directory(decoder, RUN_ID, tmp_path / "file" / "model")
    assert (tmp_path / "file").read_text() == "mine"


def test_served_images_must_be_series(decoder, tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), AFFINE), tmp_path / "one.nii")
    with pytest.raises(ValueError, match=r"one\.nii: has shape \(2, 2, 2\), but expected 4D"):
        ServedDecoder(decoder).predict(pd.DataFrame({"image": [str(tmp_path / "one.nii")]}))
