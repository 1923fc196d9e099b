"""The decoder of a run as an MLflow model, which needs no harness: logged to the store, or in a directory."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

import harness.decoding
from harness.decoding.stored_decoder import FORMAT, StoredDecoder, pack_decoder
from harness.errors import DesignError, TrackingError, UsageError, first_line
from harness.tracking.store_errors import translate_errors

REFUSED_IN_NAMES = re.compile(r"[/:.%\"']")  # by MLflow, in the names of models
PACKAGE = f"harness_decoder_{FORMAT}"  # of the code in a model; two formats can be loaded by one process
CODE = ("stored_decoder.py", "served_decoder.py")
EXAMPLE_IMAGE = "sub-01_task-objects_bold.nii.gz"


def check_exportable(decoder: StoredDecoder) -> None:
    """Raise DesignError for a decoder that cannot be applied to images alone."""
    settings = decoder.settings
    if settings["kind"] == "none":
        raise DesignError(f"the decoder cannot be exported: {settings['reason']}")
    if settings["confounds"]:
        raise DesignError(
            f"the decoder cannot be exported: {', '.join(settings['confounds'])} were regressed out of its "
            "volumes, and a model is given images alone; python -m harness predict takes --confounds"
        )
    if settings["selection"]["average_blocks"]:
        raise DesignError(
            "the decoder cannot be exported: it was trained on averages of blocks "
            "(signal.average_blocks=true), and a model is given images alone; python -m harness "
            "predict takes --labels"
        )


def export_to_directory(decoder: StoredDecoder, run_id: str, directory: Path) -> None:
    """Write a decoder as an MLflow model into a new or empty directory; all of it or nothing.

    Raises
    ------
    DesignError
        See `check_exportable`.
    UsageError
        If the directory is not empty, or cannot be written.
    """
    check_exportable(decoder)
    target = directory.absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"--out {directory} exists and is not an empty directory; choose another")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Next to the target, so that it can be renamed.
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as made:
            save_model(decoder, run_id, Path(made) / "model")
            with suppress(FileNotFoundError):
                target.rmdir()
            (Path(made) / "model").rename(target)
    except OSError as error:
        raise UsageError(f"--out {directory} cannot be written: {error}; choose another directory") from error


def log_model(decoder: StoredDecoder, run_id: str, uri: str) -> str:
    """Log a decoder to the store of its run as a model of this run, whose status stays the same.

    Returns
    -------
    model_id : str
        The model is at ``models:/<model_id>``.

    Raises
    ------
    DesignError
        See `check_exportable`.
    TrackingError
        If the store cannot be written.
    """
    check_exportable(decoder)
    client = MlflowClient(tracking_uri=uri)
    try:
        with translate_errors(uri), tempfile.TemporaryDirectory(prefix="harness-") as made:
            model = save_model(decoder, run_id, Path(made) / "model")
            run = client.get_run(run_id)
            logged = client.create_logged_model(
                str(run.info.experiment_id),
                name=REFUSED_IN_NAMES.sub("-", f"decoder {run.info.run_name}"),
                source_run_id=run_id,
                params=_params(decoder),
            )
            with _failing_with(client, logged.model_id):
                model.model_id = model.model_uuid = logged.model_id
                model.artifact_path = logged.artifact_location
                model.save(str(Path(made) / "model" / "MLmodel"))
                client.log_model_artifacts(logged.model_id, str(Path(made) / "model"))
                client.finalize_logged_model(logged.model_id, "READY")
                # Last, so that the run never shows a model that is not complete.
                client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    except OSError as error:
        raise TrackingError(f"the model of run {run_id} cannot be written: {error}") from error
    return str(logged.model_id)


def find_model(run_id: str, uri: str) -> str | None:
    """Return the newest model that is logged for a run, None if there is none."""
    client = MlflowClient(tracking_uri=uri)
    with translate_errors(uri):
        outputs = client.get_run(run_id).outputs
        models = [] if outputs is None else outputs.model_outputs or []
        return str(models[-1].model_id) if models else None


def save_model(decoder: StoredDecoder, run_id: str, path: Path) -> Any:
    """Save a decoder as an MLflow model into a directory that does not exist; return MLflow's description.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    outputs = [ColSpec("string", "image"), ColSpec("long", "volume"), ColSpec("string", "predicted")]
    kind = "double" if decoder.settings["kind"] == "linear" else "long"
    outputs += [ColSpec(kind, column) for column in decoder.settings["columns"]]
    model = Model(run_id=run_id)
    with tempfile.TemporaryDirectory(prefix="harness-") as made:
        data, code = Path(made) / "decoder", Path(made) / PACKAGE
        data.mkdir()
        for name, content in pack_decoder(decoder).items():
            (data / name).write_bytes(content)
        code.mkdir()
        (code / "__init__.py").write_text('"""The decoder of this model."""\n', encoding="utf-8")
        for name in CODE:
            shutil.copy(Path(next(iter(harness.decoding.__path__))) / name, code)
        try:
            mlflow.pyfunc.save_model(
                os.fspath(path),
                loader_module=f"{PACKAGE}.served_decoder",
                data_path=os.fspath(data),
                code_paths=[os.fspath(code)],
                mlflow_model=model,
                signature=ModelSignature(Schema([ColSpec("string", "image")]), Schema(outputs)),
                input_example=pd.DataFrame({"image": [EXAMPLE_IMAGE]}),
                pip_requirements=list_requirements(decoder),
            )
        except MlflowException as error:
            raise OSError(first_line(error)) from error
    return model


def list_requirements(decoder: StoredDecoder) -> list[str]:
    """Return the packages that apply a decoder, with the versions that are installed here."""
    settings = decoder.settings
    names = ["mlflow", "numpy", "nibabel", "pandas"]
    if settings["zscore"] == "run" or any(settings["cleaning"].values()):
        names.append("nilearn")  # which smooths and cleans
    return [f"{name}=={metadata.version(name)}" for name in names]


def _params(decoder: StoredDecoder) -> dict[str, str]:
    settings = decoder.settings
    return {
        "estimator": str(settings["estimator"]),
        "contrast": " vs ".join(decoder.contrast),
        "zscore": decoder.zscore,
        "n_voxels": str(decoder.n_voxels),
    }


@contextmanager
def _failing_with(client: MlflowClient, model_id: str) -> Iterator[None]:
    """Mark a model as FAILED and delete it if it could not be written."""
    try:
        yield
    except BaseException:
        with suppress(MlflowException, OSError):
            client.finalize_logged_model(model_id, "FAILED")
            client.delete_logged_model(model_id)
        raise
