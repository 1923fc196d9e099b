"""Sweeps in a run store: a tag of the experiment records each, a tag of every run names the run's sweeps."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from mlflow.entities import Experiment
from mlflow.tracking import MlflowClient

from harness.errors import UsageError, suggest
from harness.tracking.endings import end_dead_run, is_alive
from harness.tracking.ledger import Sweep
from harness.tracking.locks import lock_file, retry_while_locked
from harness.tracking.run_writer import MAX_TAG, FinishedRun
from harness.tracking.store import Store, find_experiments
from harness.tracking.store_errors import translate_errors
from harness.tracking.tags import SWEEP_TAG

LATEST = "latest"
COUNTS = ("finished", "skipped", "failed", "killed")  # statuses of a sweep's jobs
MAX_SWEEPS = 150  # ids in a run's tag
SWEEPS_NAMED = 5  # in a message


@dataclass(frozen=True)
class SweepRecord:
    """A sweep, as its experiments record it.

    Attributes
    ----------
    identifier : str
        Sortable by time, for example ``20261121-023015-ab12cd34``.
    started, ended : datetime or None
        With zone; no end means that it is still running, or was killed.
    counts : mapping of str to int
        ``total, finished, skipped, failed, killed``, as far as they are known.
    experiments : tuple of str
        Names of the experiments of its runs.
    """

    identifier: str
    started: datetime | None
    ended: datetime | None
    command: str
    counts: Mapping[str, int]
    experiments: tuple[str, ...]


def sweep_filter(identifier: str) -> str:
    """Return the MLflow filter for the runs of a sweep."""
    return f"tags.`{SWEEP_TAG}` LIKE '%{identifier}%'"


def begin_sweep(store: Store, identifier: str, command: str, total: int | None) -> None:
    """Record in the experiment that a sweep begins, with its command and, if known, its number of runs."""
    with translate_errors(store.uri):
        _write_note(store, identifier, {"started": _now(), "ended": None, "command": command, "total": total})


def close_sweep(store: Store, sweep: Sweep) -> None:
    """Record the end of a sweep in the experiment, and end the runs whose processes were killed."""
    client = store.client

    def end_dead_runs() -> None:
        unfinished = f"{sweep_filter(sweep.id)} AND attributes.status = 'RUNNING'"
        for run in client.search_runs([store.experiment_id], unfinished):
            if not is_alive(store.running, run.info.run_id):
                end_dead_run(client, store.running, run.info.run_id, "its process was killed")

    with translate_errors(store.uri):
        retry_while_locked(end_dead_runs)
        counts = sweep.count()
        if not sweep.ever_claimed() and not counts:  # a usage error: no job was begun
            tag = f"{SWEEP_TAG}.{sweep.id}"
            retry_while_locked(lambda: client.delete_experiment_tag(store.experiment_id, tag))
            return
        experiment = retry_while_locked(lambda: client.get_experiment(store.experiment_id))
        note = _read_note(experiment.tags.get(f"{SWEEP_TAG}.{sweep.id}", ""))
        note |= {status: counts[status] for status in COUNTS}
        _write_note(store, sweep.id, note | {"ended": _now()})


def join_sweep(store: Store, run: FinishedRun, identifier: str) -> None:
    """Add a run that had finished before to a sweep that would have computed it again."""

    def add_identifier() -> None:
        sweeps = store.client.get_run(run.run_id).data.tags.get(SWEEP_TAG, "").split()
        if identifier not in sweeps:
            store.client.set_tag(run.run_id, SWEEP_TAG, " ".join([*sweeps, identifier][-MAX_SWEEPS:]))

    # Concurrent sweeps add their ids one after the other.
    with translate_errors(store.uri), lock_file(store.running / "joining"):
        retry_while_locked(add_identifier)


def list_sweeps(uri: str, experiment: str | None = None) -> list[SweepRecord]:
    """Return the sweeps of a store, or of one of its experiments, the newest first."""
    with translate_errors(uri):
        return read_sweeps(find_experiments(MlflowClient(tracking_uri=uri), uri, experiment))


def find_sweep(identifier: str, sweeps: Sequence[SweepRecord], uri: str) -> SweepRecord:
    """Return the sweep of an identifier, or for ``latest`` the first; raise UsageError if there is none.

    Parameters
    ----------
    uri : str
        Of their store, for the message.
    """
    if not sweeps:
        raise UsageError(
            f"--sweep {identifier}: there are no sweeps in {uri} yet; "
            "start one with python -m harness -m estimator=svc,logistic"
        )
    if identifier == LATEST:
        return sweeps[0]
    known = {sweep.identifier: sweep for sweep in sweeps}
    if identifier in known:
        return known[identifier]
    hint = suggest(identifier, [*known, LATEST])
    newest = ", ".join(list(known)[:SWEEPS_NAMED])
    raise UsageError(
        f"--sweep {identifier}: no such sweep in {uri}; the newest are {newest}.{hint} "
        f"python -m harness runs --sweeps lists them all, and --sweep {LATEST} is the newest"
    )


def read_sweeps(experiments: Sequence[Experiment]) -> list[SweepRecord]:
    """Return the sweeps that experiments record, the newest first.

    A sweep over several data sets is recorded in the experiment of each.
    """
    notes: dict[str, dict[str, object]] = {}
    names: dict[str, list[str]] = {}
    for experiment in sorted(experiments, key=lambda item: str(item.name)):
        for tag, text in experiment.tags.items():
            prefix, _, identifier = tag.rpartition(".")
            if prefix == SWEEP_TAG:
                notes.setdefault(identifier, {}).update(_read_note(text))
                names.setdefault(identifier, []).append(str(experiment.name))
    return [
        SweepRecord(
            identifier,
            _parse_time(note.get("started")),
            _parse_time(note.get("ended")),
            str(note.get("command", "")),
            {name: n for name in ("total", *COUNTS) if isinstance(n := note.get(name), int)},
            tuple(names[identifier]),
        )
        for identifier, note in sorted(notes.items(), reverse=True)
    ]


def _read_note(text: str) -> dict[str, object]:
    with suppress(json.JSONDecodeError):  # a tag that was edited must not hide the other sweeps
        note = json.loads(text)
        return note if isinstance(note, dict) else {}
    return {}


def _write_note(store: Store, identifier: str, note: Mapping[str, object]) -> None:
    content = json.dumps(note)
    if len(content) > MAX_TAG:
        content = json.dumps({**note, "command": "(too long to be stored)"})
    tag = f"{SWEEP_TAG}.{identifier}"
    retry_while_locked(lambda: store.client.set_experiment_tag(store.experiment_id, tag, content))


def _parse_time(text: object) -> datetime | None:
    with suppress(ValueError):
        return datetime.fromisoformat(str(text)).astimezone()
    return None


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
