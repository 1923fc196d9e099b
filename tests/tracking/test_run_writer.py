"""The run store: made once however many processes start, and honest about runs that do not end well."""

import html
import multiprocessing
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import LeaveOneGroupOut

from harness.datasets.haxby import read_subject
from harness.decoding.decode import decode
from harness.decoding.decoder import Estimator
from harness.decoding.evaluation import Scheme, Scoring
from harness.decoding.question import Question
from harness.errors import DataError, TrackingError
from harness.samples.contrasts import make_contrast
from harness.tracking.comparison import compare_runs, open_local_store
from harness.tracking.endings import Ending, EndingNote
from harness.tracking.ledger import Sweep
from harness.tracking.queries import Selection
from harness.tracking.run_writer import (
    MAX_TAG,
    FinishedRun,
    TrackedRun,
    claim_run,
    close_sweep,
    describe_decoding,
    join_sweep,
    track_run,
)
from harness.tracking.store import SWEEP_TAG, local_uri, open_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return open_store(None, tmp_path_factory.mktemp("store") / "mlruns", "tests")


def fetch(store, run):
    return store.client.get_run(run.run_id)


def test_local_store_lives_in_its_folder(store):
    assert (store.folder / "mlflow.db").is_file()
    experiment = store.client.get_experiment(store.experiment_id)
    assert experiment.name == "tests"
    assert experiment.artifact_location == (store.folder / "artifacts").as_uri()


def test_opening_again_finds_the_same_experiment(store):
    assert open_store(None, store.folder, "tests").experiment_id == store.experiment_id


def open_and_start(folder, results):
    store = open_store(None, folder, "together")
    run = TrackedRun(store, "one of many", {}, {})
    store.client.set_terminated(run.run_id, "FINISHED")
    results.put(store.experiment_id)


@pytest.mark.slow
def test_processes_that_start_together_on_a_fresh_store_lose_no_run(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=open_and_start, args=(tmp_path / "mlruns", results)) for _ in range(6)]
    for worker in workers:
        worker.start()
    experiments = {results.get(timeout=120) for _ in workers}
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    (experiment,) = experiments
    runs = MlflowClient(tracking_uri=local_uri(tmp_path / "mlruns")).search_runs([experiment])
    assert len(runs) == 6


def test_run_is_running_until_it_is_finished(store):
    run = TrackedRun(store, "a name", {"estimator": "svc"}, {"harness.overrides": "x"})
    started = fetch(store, run)
    assert started.info.status == "RUNNING"
    assert started.info.run_name == "a name"
    assert started.data.tags["mlflow.source.name"] == "harness"
    assert started.data.tags["mlflow.user"]
    store.client.set_terminated(run.run_id, "FINISHED")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DataError("a file is broken"), "FAILED"),
        (ZeroDivisionError("a bug"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
    ],
)
def test_run_that_does_not_end_well_says_so_and_why(store, error, status):
    with pytest.raises(type(error)), track_run(store, "bad", {"estimator": "svc"}, {}) as run:
        raise error
    ended = fetch(store, run)
    assert ended.info.status == status
    assert ended.data.params == {"estimator": "svc"}
    assert ended.data.tags["harness.error"] == (str(error) or "KeyboardInterrupt")
    text = store.client.download_artifacts(run.run_id, "error.txt")
    with open(text, encoding="utf-8") as stream:  # noqa: PTH123  MLflow returns a str
        assert type(error).__name__ in stream.read()


def test_more_metrics_than_a_batch_holds_are_all_logged(store):
    run = TrackedRun(store, "many", {f"p{n}": "x" for n in range(250)}, {})
    metrics = [Metric("score", float(step), 0, step) for step in range(1005)]
    run._log(metrics, {}, {})
    assert len(store.client.get_metric_history(run.run_id, "score")) == 1005
    assert len(fetch(store, run).data.params) == 250


def test_long_tags_are_cut_rather_than_refused(store):
    run = TrackedRun(store, "long", {}, {"harness.long": "x" * 20_000})
    assert len(fetch(store, run).data.tags["harness.long"]) <= MAX_TAG


def test_store_that_cannot_be_made_is_one_message(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrackingError, match=r"tracking\.folder=.*tracking=off"):
        open_store(None, tmp_path / "file" / "mlruns", "tests")


def test_damaged_store_is_one_message(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"this is not a database, and long enough not to be empty" * 100)
    with pytest.raises(TrackingError, match="cannot be used"):
        open_store(None, tmp_path, "tests")


def test_server_that_is_not_there_is_one_message_at_once(tmp_path):
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1:9"):
        open_store("http://127.0.0.1:9", tmp_path, "tests")


def test_deleted_experiment_is_named_with_its_remedy(tmp_path):
    store = open_store(None, tmp_path / "mlruns", "gone")
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(TrackingError, match="mlflow experiments restore"):
        open_store(None, tmp_path / "mlruns", "gone")


def test_store_that_fails_while_a_run_is_written_is_one_message(store):
    with pytest.raises(TrackingError, match="disk is full"), track_run(store, "full", {}, {}) as run:
        raise MlflowException("disk is full")
    assert fetch(store, run).info.status == "FAILED"


def test_comparison_of_an_empty_folder_says_how_to_start(tmp_path):
    with pytest.raises(TrackingError, match="python -m harness"):
        open_local_store(tmp_path)


def test_comparison_refuses_an_unknown_experiment(store):
    with pytest.raises(TrackingError, match=r"there are: .*tests"):
        compare_runs(store.uri, Selection("tset"))


def test_store_that_was_moved_with_its_folder_is_mended(tmp_path, capsys):
    """MLflow stores absolute paths: without mending, new runs would go to the old place."""
    before, after = tmp_path / "before", tmp_path / "after %_"
    store = open_store(None, before / "mlruns", "tests")
    old = TrackedRun(store, "old", {}, {})
    store.client.log_text(old.run_id, "kept", "note.txt")
    store.client.set_terminated(old.run_id, "FINISHED")
    old._release()
    before.rename(after)
    moved = open_store(None, after / "mlruns", "tests")
    assert moved.experiment_id == store.experiment_id
    new = TrackedRun(moved, "new", {}, {})
    assert Path(new.where) == after / "mlruns" / "artifacts" / new.run_id / "artifacts"
    assert Path(moved.client.download_artifacts(old.run_id, "note.txt")).read_text() == "kept"
    assert not before.exists()
    assert "mended" in capsys.readouterr().err
    open_store(None, after / "mlruns", "tests")
    assert capsys.readouterr().err == ""


def start_and_die(folder, results):
    run = TrackedRun(open_store(None, folder, "tests"), "dies", {"estimator": "svc"}, {})
    results.put(run.run_id)
    results.close()
    results.join_thread()
    os._exit(9)


@pytest.mark.slow
def test_run_whose_process_is_gone_is_killed_when_the_store_is_opened_next(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    worker = context.Process(target=start_and_die, args=(tmp_path, results))
    worker.start()
    dead = results.get(timeout=120)
    worker.join(30)
    client = MlflowClient(tracking_uri=local_uri(tmp_path))
    assert client.get_run(dead).info.status == "RUNNING"
    assert client.get_run(dead).data.params == {"estimator": "svc"}
    (lock,) = (tmp_path / "running").glob("*.lock")
    os.utime(lock, (time.time() - 60,) * 2)  # one that is new may be about to be held
    store = open_store(None, tmp_path, "tests")
    assert client.get_run(dead).info.status == "KILLED"
    alive = TrackedRun(store, "alive", {}, {})
    open_store(None, tmp_path, "tests")
    assert client.get_run(alive.run_id).info.status == "RUNNING"


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "[x](javascript:1)",
        "**x**",
        "a|b",
        "`x`",
        "_x_",
        "\\*x*",
        "~~x~~",
        "&lt;",
        "a_b",
    ],
)
def test_the_note_shows_names_as_they_are(tiny_subject, name):
    """Rendered with markdown-it, HTML allowed and tables on, as a page would that protects nobody."""
    data = tiny_subject(conditions=(name, "house"))
    decoding = decode(
        read_subject(data / "haxby2001", 1, dataset="haxby"),
        Question(
            make_contrast([name, "house"]),
            Estimator(f"lda[{name}]", LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")),
            Scheme(f"logo[{name}]", LeaveOneGroupOut()),
            scoring=Scoring(inner_folds=2),
        ),
    )
    decoding = replace(decoding, warnings=(f"few volumes of {name}",))
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(describe_decoding(decoding))
    elements = set(re.findall(r"<(\w+)", page))
    assert elements <= {"p", "strong", "em", "code", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}
    text = html.unescape(re.sub(r"<[^>]*>", "", page))
    for words in (
        f"{name} vs house, lda[{name}], cv=logo[{name}]; 32 volumes",
        f"warning: few volumes of {name}",
    ):
        assert words in text, text


REFUSALS = [
    f"CREATE TRIGGER full_{table}_{verb} BEFORE {verb} ON {table} "
    "BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
    for table in ("runs", "tags", "params", "latest_metrics")
    for verb in ("INSERT", "UPDATE")
]


@contextmanager
def refusing(store):
    """Let a store's database refuse what is written, in the words of SQLite on a full disk."""
    with closing(sqlite3.connect(store.folder / "mlflow.db")) as connection:
        for statement in REFUSALS:
            connection.execute(statement)
        try:
            yield
        finally:
            for statement in REFUSALS:
                connection.execute(f"DROP TRIGGER {statement.split()[2]}")


def read_end(store, run_id):
    """Open the store, as the next command does, and return status and reason of a run."""
    for lock in store.running.glob("*.lock"):
        os.utime(lock, (time.time() - 60,) * 2)  # one that is new may be about to be held
    open_store(None, store.folder, "tests")
    found = store.client.get_run(run_id)
    return found.info.status, found.data.tags.get("harness.error", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (DataError("a file is broken " + 4000 * "ß"), "FAILED", "a file is broken"),
        (KeyboardInterrupt(), "KILLED", "KeyboardInterrupt"),
    ],
)
def test_end_that_the_store_refuses_is_entered_when_it_is_opened_next(
    tmp_path, make_store, error, status, reason
):
    store = make_store(tmp_path)
    with pytest.raises(TrackingError, match="disk is full"), ExitStack() as stack:
        with track_run(store, "unlucky", {}, {}) as run:
            stack.enter_context(refusing(store))
            raise error
    assert store.client.get_run(run.run_id).info.status == "RUNNING"
    ended, said = read_end(store, run.run_id)
    assert ended == status
    assert reason in said
    assert not list(store.running.iterdir())


@pytest.mark.slow
def test_finish_that_the_store_refuses_makes_the_run_failed_with_the_reason(tmp_path, make_store):
    store = make_store(tmp_path)
    with pytest.raises(TrackingError, match="disk is full"), ExitStack() as stack:
        with track_run(store, "unlucky", {}, {}) as run:
            stack.enter_context(refusing(store))
            run._log([Metric("test_accuracy_mean", 0.5, 0, 0)], {}, {})
    ended, said = read_end(store, run.run_id)
    assert (ended, "disk is full" in said) == ("FAILED", True)


def close_refused(store, sweep):
    with pytest.raises(TrackingError, match="disk is full"):
        close_sweep(store, sweep)


@pytest.mark.slow
def test_sweep_that_ends_on_a_full_disk_leaves_its_runs_to_the_next_opening(tmp_path, make_store):
    store = make_store(tmp_path)
    sweep = Sweep.begin(tmp_path / "sweeps")
    with pytest.raises(TrackingError), ExitStack() as stack:
        with track_run(store, "unlucky", {}, {SWEEP_TAG: sweep.id}) as run:
            stack.enter_context(refusing(store))
            stack.callback(close_refused, store, sweep)
            raise DataError("a file is broken")
    assert read_end(store, run.run_id) == ("FAILED", "a file is broken")


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk, as root")
def test_run_on_a_disk_that_fills_is_failed_with_the_reason(tmp_path, make_store):
    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)]
    if subprocess.run(command, check=False).returncode:
        pytest.skip("this machine lets nobody mount a disk")
    try:
        store = make_store(small)
        with pytest.raises(TrackingError, match="disk is full"), track_run(store, "unlucky", {}, {}) as run:
            with (small / "rest").open("wb", buffering=0) as rest:
                while True:
                    rest.write(bytes(1024))
        assert store.client.get_run(run.run_id).info.status == "RUNNING"
        (small / "rest").unlink()
        status, reason = read_end(store, run.run_id)
        assert status == "FAILED"
        assert "No space left on device" in reason
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def test_room_for_the_end_is_taken_before_the_run_and_returned_after_it(tmp_path, make_store):
    store = make_store(tmp_path)
    run = TrackedRun(store, "a run", {}, {})
    (note,) = store.running.glob("*.end")
    size = note.stat().st_size
    for letter in ("\x00", "\U0001f600", "a"):  # JSON writes one of them as 6, as 12 and as 1 byte
        EndingNote(note).write(Ending("FAILED", 10_000 * letter))
        assert note.stat().st_size == size
        written = EndingNote(note).read()
        assert written.status == "FAILED"
        assert len(written.reason) > 300
        assert set(written.reason) == {letter}
    run.stop("FAILED", DataError("a file is broken"))
    assert not list(store.running.iterdir())


@pytest.mark.parametrize(
    ("status", "reason"), [(143, "stopped by SIGTERM"), (129, "stopped by SIGHUP"), (3, "3")]
)
def test_a_run_that_a_signal_ends_names_the_signal(tmp_path, make_store, status, reason):
    store = make_store(tmp_path)
    with pytest.raises(SystemExit), track_run(store, "a run", {}, {}) as run:
        raise SystemExit(status)
    ended = store.client.get_run(run.run_id)
    assert (ended.info.status, ended.data.tags["harness.error"]) == ("KILLED", reason)


@pytest.mark.parametrize(
    "content",
    [
        bytes(4096),  # what a power cut leaves
        b'{"status": "FAILED", "reas',
        b'{"status": "FAILED", "color": "red"}',
        b"[1, 2]",
        b'"FAILED"',
        b'{"status": "WON", "reason": "x"}',
        b"\xff\xfe",
        b"{" * 4000,
    ],
    ids=["nul", "cut short", "other keys", "a list", "a text", "other status", "not text", "nested"],
)
def test_an_ending_that_cannot_be_read_leaves_the_run_killed_and_the_store_open(
    tmp_path, make_store, content
):
    store = make_store(tmp_path)
    run = TrackedRun(store, "a run", {}, {})
    (note,) = store.running.glob("*.end")
    note.write_bytes(content)
    run._alive.release()
    assert read_end(store, run.run_id)[0] == "KILLED"
    assert not list(store.running.iterdir())


def test_a_sweep_joins_a_run_once_a_lock_is_released(tmp_path, make_store, monkeypatch):
    store = make_store(tmp_path)
    run = TrackedRun(store, "a run", {}, {})
    found = FinishedRun(run.run_id, "a run", {}, {})
    set_tag, refused = store.client.set_tag, []

    def refuse_once(*arguments):
        if not refused:
            refused.append(True)
            raise locked_error()
        set_tag(*arguments)

    monkeypatch.setattr(store.client, "set_tag", refuse_once)
    join_sweep(store, found, "20261121-000000-abcdef01")
    assert store.client.get_run(run.run_id).data.tags[SWEEP_TAG] == "20261121-000000-abcdef01"


def test_a_sweep_that_cannot_join_a_run_is_one_message(tmp_path, make_store, monkeypatch):
    store = make_store(tmp_path)
    found = FinishedRun("0" * 32, "a run that is gone", {}, {})
    with pytest.raises(TrackingError, match=r"the run store .* cannot be used"):
        join_sweep(store, found, "20261121-000000-abcdef01")


def locked_error():
    """Return what SQLite raises where another process has locked the database."""
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


def test_claim_is_held_by_one_at_a_time_and_per_identity(tmp_path, make_store):
    store = make_store(tmp_path)
    order = []

    def claim_second():
        with claim_run(store, "identity", lambda: order.append("second waits")):
            order.append("second")

    second = threading.Thread(target=claim_second)
    with pytest.raises(DataError), claim_run(store, "identity", lambda: order.append("first waits")):
        second.start()
        while not order:
            time.sleep(0.05)
        with claim_run(store, "another", lambda: order.append("another waits")):
            pass
        order.append("first")
        raise DataError("a run that fails gives its claim back")
    second.join(60)
    assert order == ["second waits", "first", "second"]
    assert not list((store.running / "claims").iterdir())


def test_claim_that_cannot_be_written_is_one_message(tmp_path, make_store):
    store = make_store(tmp_path)
    store.running.mkdir(exist_ok=True)
    (store.running / "claims").write_text("in the way")
    with pytest.raises(TrackingError, match="claims"), claim_run(store, "identity", print):
        pass
