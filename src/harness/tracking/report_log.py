"""Logging a report to the MLflow run that it is about."""

from pathlib import Path

from mlflow.tracking import MlflowClient

from harness.tracking.locks import retry_while_locked
from harness.tracking.store_errors import translate_errors
from harness.tracking.stored_run import StoredRun

REPORT = "report"  # directory among the artifacts of a run


def log_report(run: StoredRun, files: list[Path]) -> None:
    """Copy the files of a report to a run; its status, scores and the digests of its files stay the same.

    Raises TrackingError if the store cannot be written.
    """
    client = MlflowClient(tracking_uri=run.uri)

    def log_files() -> None:
        # The page last: it is complete without the others.
        for file in sorted(files, key=lambda file: file.suffix == ".html"):
            client.log_artifact(run.run_id, str(file), REPORT)

    with translate_errors(run.uri):
        retry_while_locked(log_files)
