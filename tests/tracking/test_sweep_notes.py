"""Sweeps are recorded in the tags of experiments and runs, and read back from them."""

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from harness.errors import TrackingError, UsageError
from harness.tracking.ledger import Sweep
from harness.tracking.run_writer import FinishedRun
from harness.tracking.store import open_store
from harness.tracking.sweep_notes import begin_sweep, close_sweep, find_sweep, join_sweep, list_sweeps
from harness.tracking.tags import SWEEP_TAG

FIRST, SECOND = "20261121-000000-abcdef01", "20261122-000000-abcdef02"


@pytest.fixture
def store(make_store, tmp_path):
    return make_store(tmp_path / "mlruns")


def test_sweep_that_begins_is_listed_as_not_ended(store):
    begin_sweep(store, FIRST, "python -m harness -m subject=1,2", 2)
    (sweep,) = list_sweeps(store.uri)
    assert (sweep.identifier, sweep.command) == (FIRST, "python -m harness -m subject=1,2")
    assert (sweep.counts, sweep.experiments, sweep.ended) == ({"total": 2}, ("tests",), None)
    assert abs(sweep.started - datetime.now(UTC)) < timedelta(minutes=10)


def test_sweep_of_several_experiments_is_one_record(store):
    other = open_store(None, store.directory, "other")
    for opened in (store, other):
        begin_sweep(opened, FIRST, "python -m harness -m dataset=haxby,bids", None)
    begin_sweep(store, SECOND, "python -m harness -m", None)
    second, first = list_sweeps(store.uri)
    assert (second.identifier, second.experiments) == (SECOND, ("tests",))
    assert (first.identifier, first.experiments, first.counts) == (FIRST, ("other", "tests"), {})
    assert [sweep.identifier for sweep in list_sweeps(store.uri, "other")] == [FIRST]


def test_command_that_a_tag_cannot_hold_is_left_out(store):
    begin_sweep(store, FIRST, "x" * 10_000, 2)
    (sweep,) = list_sweeps(store.uri)
    assert sweep.command == "(too long to be stored)"
    assert sweep.counts == {"total": 2}


def test_sweep_without_a_job_is_forgotten_when_it_is_closed(store, tmp_path):
    sweep = Sweep.begin(tmp_path / "sweeps")
    begin_sweep(store, sweep.id, "python -m harness -m subject=nine", 1)
    close_sweep(store, sweep)
    assert list_sweeps(store.uri) == []


@pytest.mark.parametrize("text", ["not JSON", "[1]", '{"started": "yesterday", "finished": "many"}'])
def test_damaged_record_hides_no_other_sweep(store, text):
    begin_sweep(store, SECOND, "python -m harness -m", None)
    store.client.set_experiment_tag(store.experiment_id, f"{SWEEP_TAG}.{FIRST}", text)
    second, first = list_sweeps(store.uri)
    assert (second.identifier, first.identifier) == (SECOND, FIRST)
    assert (first.started, first.counts) == (None, {})


def test_sweep_is_searched_for_where_there_is_none():
    with pytest.raises(UsageError, match=r"no sweeps .* yet; start one with python -m harness -m"):
        find_sweep("latest", [], "sqlite:///mlflow.db")


def test_run_joins_a_sweep_once_a_lock_is_released(store, monkeypatch):
    run = store.client.create_run(store.experiment_id).info.run_id
    set_tag, refused = store.client.set_tag, []

    def refuse_once(*arguments):
        if not refused:
            refused.append(True)
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error
        set_tag(*arguments)

    store.running.mkdir()
    monkeypatch.setattr(store.client, "set_tag", refuse_once)
    for identifier in (FIRST, SECOND, FIRST):
        join_sweep(store, FinishedRun(run, "a run", {}, {}), identifier)
    assert refused == [True]
    assert store.client.get_run(run).data.tags[SWEEP_TAG] == f"{FIRST} {SECOND}"


def test_joining_a_run_that_is_gone_is_one_message(store):
    store.running.mkdir()
    with pytest.raises(TrackingError, match=r"the run store .* cannot be used"):
        join_sweep(store, FinishedRun("0" * 32, "a run that is gone", {}, {}), FIRST)
