"""The note of a run's end: of constant size, and read only if it is whole."""

import pytest

from harness.tracking.endings import Ending, EndingNote


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
