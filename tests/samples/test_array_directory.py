"""A directory of arrays: what is read is what was written, or it is an error."""

import os
import time

import numpy as np
import pytest

from harness.samples.array_directory import ABANDONED_AFTER, ArrayDirectory, DamagedEntryError


@pytest.fixture
def directory(tmp_path):
    return ArrayDirectory(tmp_path / "arrays")


def entry_file(directory, key="key"):
    (file,) = directory.path.glob(f"{key}.*")
    return file


def age(file, seconds):
    os.utime(file, (time.time() - seconds,) * 2)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(7.0),
        np.asfortranarray(np.arange(15, dtype=np.float32).reshape(3, 5)),
        np.array(3, dtype=">i2"),
        np.zeros((0, 4), dtype=bool),
        np.array([np.nan, -np.inf]),
    ],
    ids=["vector", "Fortran order", "scalar", "empty", "not finite"],
)
def test_arrays_come_back_aligned_and_read_only(directory, array):
    directory.write("key", [np.ones(3, np.uint8), array, array], {})
    for found in directory.read("key")[1:]:
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype
        assert found.flags.aligned
        assert not found.flags.writeable


def test_metadata_come_back_as_json(directory):
    directory.write("key", [], {"names": ("é", "\n"), "size": 0.1})
    (entry,) = directory.entries()
    assert entry.metadata == {"names": ["é", "\n"], "size": 0.1}
    assert entry.n_bytes == entry_file(directory).stat().st_size
    assert abs(entry.last_used - time.time()) < 60


def test_keys_match_a_pattern(directory):
    for key in ("a-1", "a-2", "b-1"):
        directory.write(key, [], {})
    assert sorted(directory.keys("a-*")) == ["a-1", "a-2"]
    directory.rename("a-1", "c-1")
    directory.remove("a-2")
    assert sorted(directory.keys()) == ["b-1", "c-1"]
    assert directory.read("a-1") is None


def test_entry_is_replaced(directory):
    for value in (1, 2):
        directory.write("key", [np.array(value)], {"value": value})
    assert directory.read("key")[0] == 2
    assert [entry.metadata for entry in directory.entries()] == [{"value": 2}]


def test_arrays_in_use_remain_when_the_entry_is_replaced_or_removed(directory):
    directory.write("key", [np.arange(1000)], {})
    (first,) = directory.read("key")
    directory.write("key", [np.zeros(1000)], {})
    (second,) = directory.read("key")
    directory.remove("key")
    np.testing.assert_array_equal(first, np.arange(1000))
    assert not second.any()


def test_every_flipped_byte_and_every_truncation_is_detected(directory):
    directory.write("key", [np.arange(5.0)], {"name": "value"})
    file = entry_file(directory)
    content = file.read_bytes()
    damaged = [content[:size] for size in range(len(content))] + [content + b"\0"]
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 0x08
        damaged.append(bytes(flipped))
    for bad in damaged:
        file.write_bytes(bad)
        with pytest.raises(DamagedEntryError, match=r"key\.arrays is damaged: "):
            directory.read("key")
        (entry,) = directory.entries()
        assert entry.metadata in ({"name": "value"}, {})
    file.write_bytes(content)
    np.testing.assert_array_equal(directory.read("key")[0], np.arange(5.0))


def test_check_removes_damaged_entries_only(directory):
    for key in ("whole", "damaged"):
        directory.write(key, [np.arange(5.0)], {})
    with entry_file(directory, "damaged").open("ab") as file:
        file.write(b"\0")
    assert list(directory.check()) == ["damaged"]
    assert directory.keys() == ["whole"]
    assert directory.check() == {}


def test_trim_removes_the_least_recently_used(directory):
    for number in range(4):
        directory.write(str(number), [np.zeros(1000)], {})
        age(entry_file(directory, number), 100 - number)
    directory.read("0")  # used again: now 1 is the least recently used
    size = directory.entries()[0].n_bytes
    assert directory.trim(4 * size) == []
    assert sorted(directory.trim(2 * size + size // 2)) == ["1", "2"]
    assert [entry.key for entry in directory.entries()] == ["0", "3"]
    assert directory.trim(0) == ["0", "3"]


def test_failed_write_leaves_the_previous_entry(directory, monkeypatch):
    directory.write("key", [np.array(1)], {})

    def fail(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        directory.write("key", [np.array(2)], {})
    assert directory.read("key")[0] == 1
    assert list(directory.path.glob("unfinished/*")) == []


def test_only_old_unfinished_files_and_locks_are_removed(directory):
    directory.write("key", [], {})
    for name in ("unfinished", "locks"):
        (directory.path / name).mkdir(exist_ok=True)
        (directory.path / name / "new").touch()
        (directory.path / name / "old").touch()
        age(directory.path / name / "old", ABANDONED_AFTER + 60)
    directory.trim(10**6)
    for name in ("unfinished", "locks"):
        assert [file.name for file in (directory.path / name).iterdir()] == ["new"]
    assert directory.keys() == ["key"]
