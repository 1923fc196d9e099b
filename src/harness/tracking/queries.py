"""Which runs of a store are asked for: of which sweep, with which status and parameters, and how many."""

import json
import re
import shlex
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from mlflow.entities import Experiment, Run, ViewType
from mlflow.tracking import MlflowClient

from harness.errors import HarnessError, TrackingError, UsageError, format_unknown, suggest
from harness.tracking.store import SWEEP_TAG, explain_store_error

if TYPE_CHECKING:
    from collections.abc import Iterator

# What tells runs apart, in the order in which people ask.
COMPARED_PARAMS = (
    *("dataset", "location", "subject", "contrast", "roi", "signal", "estimator", "cv", "scoring", "engine"),
    "seed",
)
STATUSES = ("FINISHED", "FAILED", "KILLED", "RUNNING")
# What has ended without a result.
UNSUCCESSFUL = ("FAILED", "KILLED")
# What runs are selected by with an option of its own.
OPTIONS = ("status", "sweep", "experiment")
LATEST = "latest"
SWEEPS_NAMED = RUNS_NAMED = 5  # in a message
MAX_QUESTIONS = 200  # to the store for one listing, of some 20 ms each
MAX_RUNS = 10_000  # in one listing; a store reads some 10 ms long on each


@dataclass(frozen=True)
class Selection:
    """Which runs are asked for; an empty field asks for all.

    Attributes
    ----------
    experiment : str or None
        Name of an experiment.
    sweep : str or None
        Identifier of a sweep, or ``latest``.
    statuses : tuple of str
        Any of these, see `STATUSES`.
    params : mapping of str to tuple of str
        Per parameter (see `COMPARED_PARAMS`), any of these values.
    """

    experiment: str | None = None
    sweep: str | None = None
    statuses: tuple[str, ...] = ()
    params: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepRecord:
    """A multirun, as its experiments remember it.

    Attributes
    ----------
    identifier : str
        Sortable by time, such as ``20261121-023015-ab12cd34``.
    started, ended : datetime or None
        With zone; no end means that it still runs, or was killed outright.
    command : str
    counts : mapping of str to int
        ``total, finished, skipped, failed, killed``, as far as they are known.
    experiments : tuple of str
        Names of the experiments that its runs are in.
    """

    identifier: str
    started: datetime | None
    ended: datetime | None
    command: str
    counts: Mapping[str, int]
    experiments: tuple[str, ...]


@dataclass(frozen=True)
class SelectedRuns:
    """The newest of the runs that were asked for.

    Attributes
    ----------
    runs : tuple of Run, the newest first
    n_more : int or None
        How many older ones there are; None if there are some, and the store cannot count them.
    experiment_ids : mapping of str to str
        Identifiers of the experiments that were read, by name.
    sweep : str or None
        Identifier of the sweep, where ``latest`` was asked for, too.
    """

    runs: tuple[Run, ...]
    n_more: int | None
    experiment_ids: Mapping[str, str]
    sweep: str | None


def parse_conditions(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read what runs are to be selected by.

    Parameters
    ----------
    words : sequence of str
        Such as ``subject=1,2``: any of these values. A comma inside brackets belongs to the value.

    Returns
    -------
    params : dict of str to tuple of str

    Raises
    ------
    UsageError
        If a word is no ``NAME=VALUE``, or names no parameter that runs are told apart by.
    """
    params: dict[str, tuple[str, ...]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        values = tuple(value.strip() for value in _split_values(text))
        if not equals or not all(values):
            raise UsageError(
                f"{word!r} selects no runs; expected NAME=VALUE or NAME=VALUE,VALUE, such as estimator=svc"
            )
        if name.lower() in OPTIONS:
            raise UsageError(
                f"{word!r}: {name.lower()} is an option, not a parameter of a run; write: "
                f"--{name.lower()} {shlex.quote(text)}"
            )
        if name not in COMPARED_PARAMS:
            raise UsageError(format_unknown(word, name, COMPARED_PARAMS, "parameter"))
        if name in params:
            raise UsageError(f"{name} is given twice; ask for any of several values with {name}=VALUE,VALUE")
        params[name] = tuple(dict.fromkeys(values))
    return params


def _split_values(text: str) -> list[str]:
    """Split at the commas outside of brackets, however deep these are."""
    depth, values = 0, [""]
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth <= 0:
            values.append("")
        else:
            values[-1] += letter
    return values


def parse_statuses(text: str) -> tuple[str, ...]:
    """Read which statuses are asked for.

    Parameters
    ----------
    text : str
        One of `STATUSES`, or several with commas, in upper or lower case.

    Returns
    -------
    statuses : tuple of str

    Raises
    ------
    UsageError
        If there is no such status.
    """
    statuses = tuple(dict.fromkeys(word.strip().upper() for word in text.split(",")))
    for status in statuses:
        if status not in STATUSES:
            raise UsageError(format_unknown(f"--status {status}", status, STATUSES, "status"))
    return statuses


def select_runs(uri: str, selection: Selection, most: int) -> SelectedRuns:
    """Read the newest of the runs that are asked for; the store selects, so that a large one is no slower.

    Parameters
    ----------
    uri : str
        Tracking URI.
    selection : Selection
    most : int
        How many runs at the most.

    Returns
    -------
    SelectedRuns

    Raises
    ------
    UsageError
        If there is no such sweep, or a value cannot be asked for.
    TrackingError
        If the store cannot be read, or has no such experiment.
    """
    with _explained(uri):
        client = MlflowClient(tracking_uri=uri)
        experiments = _find_experiments(client, uri, selection.experiment)
        sweep = None
        if selection.sweep is not None:
            sweep = find_sweep(selection.sweep, _read_sweeps(experiments), uri).identifier
        identifiers = [str(item.experiment_id) for item in experiments]
        filters = _filters(selection, sweep)
        runs = [
            run
            for text in filters
            for run in client.search_runs(
                identifiers,
                text,
                run_view_type=ViewType.ACTIVE_ONLY,
                max_results=most + 1,  # one more tells whether there are more
                order_by=["attributes.start_time DESC"],
            )
        ]
        runs.sort(key=lambda run: run.info.start_time or 0, reverse=True)
        n_more: int | None = 0
        if len(runs) > most:
            total = _count_runs(uri, identifiers, selection, sweep)
            n_more = None if total is None else total - most
    names = {item.name: str(item.experiment_id) for item in experiments}
    return SelectedRuns(tuple(runs[:most]), n_more, names, sweep)


def seen_values(uri: str, selection: Selection, most: int = 50) -> dict[str, tuple[str, ...]]:
    """Return the values that the newest runs have of the parameters that are selected by.

    Parameters
    ----------
    uri : str
        Tracking URI.
    selection : Selection
    most : int
        How many runs are looked at.

    Returns
    -------
    values : dict of str to tuple of str
        Of the parameters none of whose values was seen.
    """
    newest = select_runs(uri, Selection(selection.experiment, selection.sweep), most).runs
    values = {
        name: tuple(sorted({run.data.params[name] for run in newest if name in run.data.params}))
        for name in selection.params
    }
    return {name: seen for name, seen in values.items() if not set(seen) & set(selection.params[name])}


def list_experiments(uri: str) -> dict[str, str]:
    """Read which experiments there are.

    Parameters
    ----------
    uri : str
        Tracking URI.

    Returns
    -------
    experiments : dict of str to str
        Identifiers by name, without MLflow's own "Default".

    Raises
    ------
    TrackingError
        If the store cannot be read.
    """
    with _explained(uri):
        found = _find_experiments(MlflowClient(tracking_uri=uri), uri, None)
    return {item.name: str(item.experiment_id) for item in found if item.name != "Default"}


def list_sweeps(uri: str, experiment: str | None = None) -> list[SweepRecord]:
    """Read which sweeps were started.

    Parameters
    ----------
    uri : str
        Tracking URI.
    experiment : str, optional
        Name of the experiment; by default all of them.

    Returns
    -------
    sweeps : list of SweepRecord, the newest first

    Raises
    ------
    TrackingError
        If the store cannot be read, or has no such experiment.
    """
    with _explained(uri):
        return _read_sweeps(_find_experiments(MlflowClient(tracking_uri=uri), uri, experiment))


def find_sweep(asked: str, sweeps: Sequence[SweepRecord], uri: str) -> SweepRecord:
    """Return the sweep of an identifier.

    Parameters
    ----------
    asked : str
        Identifier, or ``latest``.
    sweeps : sequence of SweepRecord, the newest first
    uri : str
        Where they were looked for, for the message.

    Returns
    -------
    SweepRecord

    Raises
    ------
    UsageError
        If there is no such sweep.
    """
    if not sweeps:
        raise UsageError(
            f"--sweep {asked}: there are no sweeps in {uri} yet; "
            "start one with python -m harness -m estimator=svc,logistic"
        )
    if asked == LATEST:
        return sweeps[0]
    known = {sweep.identifier: sweep for sweep in sweeps}
    if asked in known:
        return known[asked]
    hint = suggest(asked, [*known, LATEST])
    newest = ", ".join(list(known)[:SWEEPS_NAMED])
    raise UsageError(
        f"--sweep {asked}: no such sweep in {uri}; the newest are {newest}.{hint} "
        f"python -m harness runs --sweeps lists them all, and --sweep {LATEST} is the newest"
    )


def find_run(asked: str, uri: str) -> Run:
    """Return the run of an identifier.

    Parameters
    ----------
    asked : str
        Identifier, or its first letters, as ``runs`` prints them.
    uri : str
        Tracking URI.

    Returns
    -------
    Run

    Raises
    ------
    UsageError
        If no run has it, or several have.
    TrackingError
        If the store cannot be read.
    """
    found: list[Run] = []
    if re.fullmatch("[0-9a-f]{1,32}", asked):
        with _explained(uri):
            client = MlflowClient(tracking_uri=uri)
            experiments = [item.experiment_id for item in _find_experiments(client, uri, None)]
            named = f"attributes.run_id LIKE '{asked}%'"
            found = list(client.search_runs(experiments, named, max_results=RUNS_NAMED))
    if not found:
        raise UsageError(f"--run {asked}: no such run in {uri}; python -m harness runs lists them")
    if len(found) > 1:
        several = ", ".join(run.info.run_id for run in found)
        raise UsageError(f"--run {asked}: several runs begin with it, such as {several}; give more letters")
    return found[0]


@contextmanager
def _explained(uri: str) -> "Iterator[None]":
    """Turn whatever a store's driver raises into one message."""
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:
        raise TrackingError(explain_store_error(uri, error)) from error


def _find_experiments(client: MlflowClient, uri: str, name: str | None) -> list[Experiment]:
    found = list(client.search_experiments())
    if name is None:
        return found
    names = sorted(item.name for item in found)
    if name not in names:
        listed = f"{', '.join(names) or 'none'}.{suggest(name, names)}"
        raise TrackingError(f"no experiment {name!r} in {uri}; there are: {listed}")
    return [item for item in found if item.name == name]


def _read_sweeps(experiments: Sequence[Experiment]) -> list[SweepRecord]:
    """Read the sweeps' tags; a sweep over several data sets has one in each of their experiments."""
    tags: dict[str, dict[str, str]] = {}
    for experiment in experiments:
        for key, value in experiment.tags.items():
            if key.startswith(f"{SWEEP_TAG}."):
                tags.setdefault(key.removeprefix(f"{SWEEP_TAG}."), {})[experiment.name] = value
    return [
        _parse_sweep(identifier, tuple(sorted(tags[identifier])), tuple(tags[identifier].values()))
        for identifier in sorted(tags, reverse=True)
    ]


def _parse_sweep(identifier: str, experiments: tuple[str, ...], texts: tuple[str, ...]) -> SweepRecord:
    facts: dict[str, object] = {}
    for text in texts:
        # A tag that somebody edited must not hide the other sweeps.
        with suppress(json.JSONDecodeError):
            found = json.loads(text)
            facts |= found if isinstance(found, dict) else {}
    counts = {
        name: value
        for name in ("total", "finished", "skipped", "failed", "killed")
        if isinstance(value := facts.get(name), int)
    }
    started, ended = _parse_time(facts.get("started")), _parse_time(facts.get("ended"))
    return SweepRecord(identifier, started, ended, str(facts.get("command", "")), counts, experiments)


def _parse_time(text: object) -> datetime | None:
    with suppress(ValueError):
        return datetime.fromisoformat(str(text)).astimezone()
    return None


def _filters(selection: Selection, sweep: str | None) -> list[str]:
    """Return MLflow filters whose results, together, are the runs asked for: its language has no OR."""
    clauses = [
        [f"params.`{name}` = {_quoted(value)}" for value in values]
        for name, values in selection.params.items()
    ]
    if selection.statuses:
        clauses.append([f"attributes.status = '{status}'" for status in selection.statuses])
    if sweep is not None:
        clauses.append([sweep_filter(sweep)])
    filters = [" AND ".join(parts) for parts in product(*clauses)]
    if len(filters) > MAX_QUESTIONS:
        raise UsageError(
            f"these values make {len(filters)} combinations, each of which is one question to the store; "
            f"expected at most {MAX_QUESTIONS}: leave out some values, or a parameter of which you name all"
        )
    return filters


def sweep_filter(sweep: str) -> str:
    """Return the MLflow filter for the runs of a sweep.

    Parameters
    ----------
    sweep : str
        Identifier.

    Returns
    -------
    filter : str
    """
    return f"tags.`{SWEEP_TAG}` LIKE '%{sweep}%'"


def _quoted(value: str) -> str:
    """Quote a value for MLflow, whose language knows two quotes and no way to escape them."""
    mark = '"' if "'" in value else "'"
    if mark in value:
        raise UsageError(f"{value!r} holds both kinds of quotes, which MLflow cannot search for")
    return f"{mark}{value}{mark}"


def _count_runs(uri: str, identifiers: Sequence[str], selection: Selection, sweep: str | None) -> int | None:
    """Count the runs of a selection in a local store.

    MLflow has no count, and reads 10 ms long on each run: listing 10 000 to count them takes minutes.
    """
    if not uri.startswith("sqlite:///"):
        return None
    clauses = ["lifecycle_stage = 'active'", f"experiment_id IN ({_marks(identifiers)})"]
    values = [*identifiers]
    if selection.statuses:
        clauses.append(f"status IN ({_marks(selection.statuses)})")
        values += selection.statuses
    for name, wanted in selection.params.items():
        clauses.append(
            f"run_uuid IN (SELECT run_uuid FROM params WHERE key = ? AND value IN ({_marks(wanted)}))"
        )
        values += [name, *wanted]
    if sweep is not None:
        clauses.append("run_uuid IN (SELECT run_uuid FROM tags WHERE key = ? AND value LIKE ?)")
        values += [SWEEP_TAG, f"%{sweep}%"]
    database = f"file:{quote(unquote(uri.removeprefix('sqlite:///')))}?mode=ro"
    try:
        with closing(sqlite3.connect(database, uri=True)) as connection:
            query = f"SELECT COUNT(*) FROM runs WHERE {' AND '.join(clauses)}"
            return int(connection.execute(query, values).fetchone()[0])
    except sqlite3.Error:  # tables of another MLflow
        return None


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))
