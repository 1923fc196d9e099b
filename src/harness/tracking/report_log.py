"""Logging a report to the MLflow run that it is about."""

from pathlib import Path

from mlflow.tracking import MlflowClient

from harness.tracking.locks import retry_while_locked
from harness.tracking.store import GROUPS, find_experiments
from harness.tracking.store_errors import translate_errors
from harness.tracking.stored_run import StoredRun, read_stored_runs
from harness.tracking.sweep_notes import sweep_filter
from harness.tracking.tags import KIND_TAG

REPORT = "report"  # directory among the artifacts of a run
MAX_TARGETS = 10  # group runs of a sweep that get a copy of its report


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


def find_group_runs(uri: str, sweep: str) -> list[StoredRun]:
    """Return the stored group summaries of a sweep, the newest `MAX_TARGETS`; without any, an empty list."""
    with translate_errors(uri):
        client = MlflowClient(tracking_uri=uri)
        found = find_experiments(client, uri, None, with_groups=True)
        groups = [item.experiment_id for item in found if item.tags.get(KIND_TAG) == GROUPS]
        if not groups:
            return []
        newest = ["attributes.start_time DESC"]
        runs = client.search_runs(groups, sweep_filter(sweep), max_results=MAX_TARGETS, order_by=newest)
    return [run for run in read_stored_runs(runs, uri) if run.status == "FINISHED"]
