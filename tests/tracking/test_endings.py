"""The note of a run's end: of constant size, and read only if it is whole."""

import os
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from harness.tracking.endings import Ending, EndingNote, end_abandoned_runs


@pytest.mark.parametrize("letter", ["\x00", "\U0001f600", "a"])  # 6, 12 and 1 bytes in JSON
def test_note_keeps_the_size_that_was_reserved(tmp_path, letter):
    note = EndingNote(tmp_path / "run.end")
    note.reserve()
    size = note.file.stat().st_size
    note.write(Ending("FAILED", 10_000 * letter))
    assert note.file.stat().st_size == size
    ending = note.read()
    assert ending.status == "FAILED"
    assert len(ending.reason) > 300
    assert set(ending.reason) == {letter}


def test_note_without_reserved_space_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        EndingNote(tmp_path / "run.end").write(Ending("KILLED", "SIGTERM"))


@pytest.mark.parametrize(
    "content",
    [
        bytes(4096),  # what a power cut leaves
        b" " * 4096,  # what a killed process leaves
        b'{"status": "FAILED", "reas',
        b'{"status": "FAILED", "color": "red"}',
        b"[1, 2]",
        b'"FAILED"',
        b'{"status": "WON", "reason": "x"}',
        b"\xff\xfe",
        b"{" * 4000,
    ],
    ids=["nul", "spaces", "cut short", "other keys", "list", "text", "other status", "not text", "nested"],
)
def test_damaged_note_is_read_as_none(tmp_path, content):
    note = EndingNote(tmp_path / "run.end")
    assert note.read() is None, "before there is a file"
    note.file.write_bytes(content)
    assert note.read() is None


class BusyClient:
    """A client of a store that cannot be read the first time."""

    def __init__(self):
        self.requests, self.ended = 0, []

    def get_run(self, run_id):
        self.requests += 1
        if self.requests == 1:
            raise MlflowException("database is locked")
        return SimpleNamespace(info=SimpleNamespace(status="RUNNING"))

    def set_tag(self, run_id, key, value):
        pass

    def set_terminated(self, run_id, status):
        self.ended.append((run_id, status))


def test_killed_run_is_ended_by_a_later_opening_if_the_store_cannot_be_read_now(tmp_path):
    """Its lock has to remain until then; filelock 3.21 to 3.29.4 remove every lock that is released."""
    lock = tmp_path / "0123.lock"
    lock.touch()
    os.utime(lock, (1, 1))
    client = BusyClient()
    end_abandoned_runs(client, tmp_path)
    assert client.ended == []
    os.utime(lock, (1, 1))  # some versions of filelock change the time
    end_abandoned_runs(client, tmp_path)
    assert client.ended == [("0123", "KILLED")]
    assert not lock.exists()
