"""Group summaries as MLflow runs of their own, in an experiment ``<experiment> groups``."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from harness.tracking.locks import lock_file, retry_while_locked
from harness.tracking.run_writer import TrackedRun, track_run
from harness.tracking.store import GROUPS, Store, local_uri, open_groups, open_store
from harness.tracking.store_errors import translate_errors
from harness.tracking.sweep_notes import MAX_SWEEPS
from harness.tracking.tags import GROUP_TAG, KIND_TAG, MEMBERS_TAG, NOTE_TAG, PLANNED_TAG, SWEEP_TAG

MAX_MEMBERS = 150  # ids in a tag; all are in group.json


@dataclass(frozen=True)
class GroupRecord:
    """What a group summary logs.

    Attributes
    ----------
    params : mapping of str to str
        The choices that the subjects' runs share.
    metrics : mapping of str to float
        Undefined ones are left out.
    run_ids : tuple of str
        The runs of the subjects.
    n_planned : int
        Subjects that the sweep has; more than there are runs if some have not finished.
    note : str
        Markdown.
    """

    name: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    run_ids: tuple[str, ...]
    n_planned: int
    note: str

    @property
    def digest(self) -> str:
        """Identifies the shared choices."""
        return hashlib.sha256(json.dumps(dict(self.params), sort_keys=True).encode()).hexdigest()


def open_store_of(uri: str | None, directory: Path, experiment_id: str) -> Store:
    """Open the store of an existing experiment to write to; see `harness.tracking.store.open_store`."""
    client = MlflowClient(tracking_uri=uri or local_uri(directory))
    with translate_errors(uri or str(directory)):
        name = retry_while_locked(lambda: client.get_experiment(experiment_id)).name
    return open_store(uri, directory, name)


def store_group(
    store: Store, record: GroupRecord, write_files: Callable[[Path], None], sweep: str
) -> TrackedRun:
    """Store a group summary, and move earlier ones that it replaces to MLflow's trash.

    It replaces those of the same choices that are of the same sweep, of the same runs, or of some of these
    runs where the other subjects had not finished. They are deleted once the new one is complete, which keeps
    the identifiers of their sweeps.

    Parameters
    ----------
    store : Store
        That of the subjects' runs.
    write_files : callable
        Writes the artifacts into a directory.
    sweep : str
        Identifier of the sweep; empty for runs that are of none, or of several.

    Returns
    -------
    run : TrackedRun
        Finished.

    Raises
    ------
    TrackingError
        If the store cannot be read or written.
    """
    client = store.client
    with translate_errors(store.uri):
        member = retry_while_locked(lambda: client.get_run(record.run_ids[0]))
        groups = open_groups(store, member.info.experiment_id)
        # Processes that summarise the same runs at once replace each other's summaries one by one.
        with lock_file(store.running / "groups"), tempfile.TemporaryDirectory(prefix="harness-") as directory:
            replaced = [run for run in _find_earlier(groups, record) if _is_replaced(run, record, sweep)]
            sweeps = [item for run in replaced for item in run.data.tags.get(SWEEP_TAG, "").split()]
            known = list(dict.fromkeys(item for item in sweeps if item != sweep))
            tags = {
                KIND_TAG: GROUPS,
                GROUP_TAG: record.digest,
                MEMBERS_TAG: " ".join(record.run_ids[:MAX_MEMBERS]),
                PLANNED_TAG: str(record.n_planned),
                SWEEP_TAG: " ".join([*sorted(known), *filter(None, [sweep])][-MAX_SWEEPS:]),
                NOTE_TAG: record.note,
            }
            params = {**record.params, "n_subjects": str(len(record.run_ids))}
            write_files(Path(directory))
            with track_run(groups, record.name, params, tags) as run:
                run.finish_summary(record.metrics, Path(directory))
            for earlier in replaced:
                retry_while_locked(partial(client.delete_run, earlier.info.run_id))
    return run


def _find_earlier(groups: Store, record: GroupRecord) -> list[Run]:
    """Return the summaries of the same choices, complete or not, the oldest first."""
    query = f"tags.`{GROUP_TAG}` = '{record.digest}'"
    oldest = ["attributes.start_time ASC"]
    found = retry_while_locked(
        lambda: groups.client.search_runs([groups.experiment_id], query, order_by=oldest)
    )
    return list(found)


def _is_replaced(run: Run, record: GroupRecord, sweep: str) -> bool:
    if run.info.status == "RUNNING":
        return False
    if sweep in run.data.tags.get(SWEEP_TAG, "").split():
        return True
    members = run.data.tags.get(MEMBERS_TAG, "").split()
    was_incomplete = str(len(members)) != run.data.tags.get(PLANNED_TAG)
    current = set(record.run_ids[:MAX_MEMBERS])
    return set(members) == current or (was_incomplete and set(members) < current)
