"""Queries over the runs of a store: by sweep, status and parameters."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient

from harness.errors import UsageError, format_unknown
from harness.tracking.choices import COMPARED_PARAMS, EARLIER_PARAMS, STATUSES
from harness.tracking.store import find_experiments
from harness.tracking.store_errors import translate_errors
from harness.tracking.stored_run import StoredRun, read_stored_run
from harness.tracking.sweep_notes import LATEST, find_sweep, read_sweeps, sweep_filter

UNSUCCESSFUL = ("FAILED", "KILLED")
OPTIONS = ("status", "sweep", "experiment")  # which are not parameters, but have an option of their own
RUNS_NAMED = 5  # in a message
MAX_SEARCHES = 200  # for one query, of some 20 ms each
MAX_RUNS = 10_000  # in one listing; MLflow takes about 10 ms to read one


@dataclass(frozen=True)
class RunQuery:
    """A query over the runs of a store; an empty field selects all.

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
class SelectedRuns:
    """The newest runs that match a query.

    Attributes
    ----------
    has_more : bool
        Whether older runs match, too. MLflow cannot count them without reading them.
    sweep : str or None
        Identifier of the sweep of the query, also for ``latest``.
    """

    runs: tuple[Run, ...]
    has_more: bool
    sweep: str | None


def parse_conditions(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the values of each parameter that runs are selected by.

    Parameters
    ----------
    words : sequence of str
        For example ``subject=1,2``: any of these values. A comma inside brackets belongs to the value.

    Raises
    ------
    UsageError
        If a word is not ``NAME=VALUE``, or names no parameter in which runs can differ.
    """
    params: dict[str, tuple[str, ...]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        values = tuple(value.strip() for value in _split_values(text))
        if not equals or not all(values):
            raise UsageError(
                f"{word!r} selects no runs; expected NAME=VALUE or NAME=VALUE,VALUE, for example "
                "estimator=svc"
            )
        if name.lower() in OPTIONS:
            raise UsageError(
                f"{word!r}: {name.lower()} is an option, not a parameter of a run; write: "
                f"--{name.lower()} {shlex.quote(text)}"
            )
        if name == "by":
            raise UsageError(f"{word!r} belongs to compare, once: python -m harness compare by=estimator")
        if name not in COMPARED_PARAMS:
            raise UsageError(format_unknown(word, name, COMPARED_PARAMS, "parameter"))
        if name in params:
            raise UsageError(f"{name} is given twice; select any of several values with {name}=VALUE,VALUE")
        params[name] = tuple(dict.fromkeys(values))
    return params


def _split_values(text: str) -> list[str]:
    """Split at the commas outside brackets, however deep these are."""
    depth, values = 0, [""]
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth <= 0:
            values.append("")
        else:
            values[-1] += letter
    return values


def parse_statuses(text: str) -> tuple[str, ...]:
    """Return the statuses in a text: any of `STATUSES` in upper or lower case, separated by commas.

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


def select_runs(uri: str, query: RunQuery, limit: int) -> SelectedRuns:
    """Return the newest runs that match a query; the store selects, so that a large one is no slower.

    Raises
    ------
    UsageError
        If there is no such sweep, or MLflow cannot search for a value.
    TrackingError
        If the store cannot be read, or has no such experiment.
    """
    with translate_errors(uri):
        client = MlflowClient(tracking_uri=uri)
        experiments = find_experiments(client, uri, query.experiment)
        sweep = None
        if query.sweep is not None:
            sweep = find_sweep(query.sweep, read_sweeps(experiments), uri).identifier
        ids = [str(item.experiment_id) for item in experiments]
        runs = [
            run
            for text in _make_filters(query, sweep)
            # One more shows whether there are more.
            for run in _search_newest(client, ids, text, limit + 1, _list_earlier(query))
        ]
    runs.sort(key=lambda run: run.info.start_time or 0, reverse=True)
    return SelectedRuns(tuple(runs[:limit]), len(runs) > limit, sweep)


def _list_earlier(query: RunQuery) -> dict[str, tuple[str, ...]]:
    """Return those parameters of a query whose values match runs of versions without the parameter, too.

    MLflow cannot search for runs without a parameter.
    """
    return {
        name: values
        for name, values in query.params.items()
        if name in EARLIER_PARAMS and EARLIER_PARAMS[name] in values
    }


def _search_newest(
    client: MlflowClient, experiments: list[str], text: str, limit: int, params: Mapping[str, tuple[str, ...]]
) -> Iterator[Run]:
    """Yield the newest runs of a filter, at most `limit`, that have any of the values of every parameter."""
    token, n = None, 0
    while True:
        page = client.search_runs(
            experiments,
            text,
            run_view_type=ViewType.ACTIVE_ONLY,
            max_results=limit,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        for run in page:
            if all(
                run.data.params.get(name, EARLIER_PARAMS[name]) in values for name, values in params.items()
            ):
                yield run
                n += 1
            if n == limit:
                return
        token = page.token
        if not token or not params:
            return


def seen_values(uri: str, query: RunQuery, limit: int = 50) -> dict[str, tuple[str, ...]]:
    """Return the newest runs' values of every queried parameter that has no match among them."""
    newest = select_runs(uri, RunQuery(query.experiment, query.sweep), limit).runs
    found = [EARLIER_PARAMS | run.data.params for run in newest]
    values = {
        name: tuple(sorted({params[name] for params in found if name in params})) for name in query.params
    }
    return {name: seen for name, seen in values.items() if not set(seen) & set(query.params[name])}


def list_experiments(uri: str) -> dict[str, str]:
    """Return the ids of a store's experiments by name, without MLflow's own "Default"."""
    with translate_errors(uri):
        found = find_experiments(MlflowClient(tracking_uri=uri), uri, None)
    return {item.name: str(item.experiment_id) for item in found if item.name != "Default"}


def find_run(word: str, uri: str, with_groups: bool = False) -> Run:
    """Return the run of an identifier or its first characters, of a name, or for ``latest`` the newest.

    Parameters
    ----------
    with_groups : bool
        Whether an identifier or a name may be that of a group summary.

    Raises
    ------
    UsageError
        If there is no such run, or there are several.
    TrackingError
        If the store cannot be read.
    """
    with translate_errors(uri):
        client = MlflowClient(tracking_uri=uri)
        found = _search_runs(client, uri, word, with_groups and word != LATEST)
        is_group = not found and not with_groups and bool(_search_runs(client, uri, word, True))
    if is_group:
        raise UsageError(
            f"{word!r} is the summary of a group of subjects, which only `python -m harness ui --run` shows; "
            "expected one of its runs (its tag harness.group.runs), or report --sweep ID"
        )
    if not found:
        raise UsageError(
            f"{word!r} is not a run of {uri}; expected an identifier, its first characters, a name, or "
            f"{LATEST}. python -m harness runs lists them; runs that were made in another directory are in "
            "its mlruns: change to that directory, or name it with --folder DIR/mlruns"
        )
    if len(found) > 1:
        several = ", ".join(f"{run.info.run_id[:12]} ({run.info.run_name})" for run in found)
        raise UsageError(f"{word!r}: there are several such runs, for example {several}; give an identifier")
    return found[0]


def find_stored_run(word: str, uri: str) -> StoredRun:
    """Return the run that a word names, with its files to read; errors as in `find_run`."""
    return read_stored_run(find_run(word, uri), uri)


def _search_runs(client: MlflowClient, uri: str, word: str, with_groups: bool) -> list[Run]:
    """Return some of the runs that a word can name, the newest first; see `find_run`."""
    experiments = [item.experiment_id for item in find_experiments(client, uri, None, with_groups)]

    def search(query: str) -> list[Run]:
        newest = ["attributes.start_time DESC"]
        return list(client.search_runs(experiments, query, max_results=RUNS_NAMED, order_by=newest))

    if word == LATEST:
        return search("")[:1]
    is_identifier = re.fullmatch("[0-9a-f]{1,32}", word) is not None
    found = search(f"attributes.run_id LIKE '{word}%'") if is_identifier else []
    return found or search(f"attributes.run_name = {_quote(word)}")


def _make_filters(query: RunQuery, sweep: str | None) -> list[str]:
    """Return MLflow filters that together select the runs of a query: MLflow's language has no OR."""
    clauses = [
        [f"params.`{name}` = {_quote(value)}" for value in values]
        for name, values in query.params.items()
        if name not in _list_earlier(query)
    ]
    if query.statuses:
        clauses.append([f"attributes.status = '{status}'" for status in query.statuses])
    if sweep is not None:
        clauses.append([sweep_filter(sweep)])
    filters = [" AND ".join(parts) for parts in product(*clauses)]
    if len(filters) > MAX_SEARCHES:
        raise UsageError(
            f"these values make {len(filters)} combinations, each of which is one search in the store; "
            f"expected at most {MAX_SEARCHES}: leave out some values, or a parameter of which you name all"
        )
    return filters


def _quote(value: str) -> str:
    """Quote a value for MLflow, whose language has two quotes and no way to escape them."""
    mark = '"' if "'" in value else "'"
    if mark in value:
        raise UsageError(f"{value!r} has both kinds of quotes, which MLflow cannot search for")
    return f"{mark}{value}{mark}"
