"""Volumes that an inspection shows: every entry of ``volumes=`` is found, or refused in one message."""

from dataclasses import replace

import numpy as np
import pytest

from harness.checks.shown_volumes import MAX_SHOWN, find_shown_volumes, parse_volumes
from harness.datasets.haxby import Haxby
from harness.errors import UsageError
from harness.samples.contrasts import make_contrast
from harness.samples.signal import Signal

FACE_CAT = make_contrast(["face", "cat"])


@pytest.fixture(scope="module")
def recording(tiny_subject):
    """Four scanner runs of three blocks of four volumes, each block after one volume of rest."""
    return Haxby(tiny_subject(shape=(3, 3, 3))).load(1)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("volumes=0,17,face", (0, 17, "face")),
        ("volumes=[0,17]", (0, 17)),
        ("volumes=[ 0 , face ]", (0, "face")),
        ('volumes="a,b",1', ("a,b", 1)),
        ("volumes=face_1", ("face_1",)),
        ("volumes=nan", ("nan",)),
    ],
)
def test_lists_are_parsed(word, expected):
    assert parse_volumes(word) == expected


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("volumes=-1", "-1 is negative"),
        ("volumes=1.5", "1.5 is not a whole number"),
        ("volumes=1e3", "1e3 is not a whole number"),
        ("volumes=", "empty entry"),
        ("volumes=[]", "empty entry"),
        ("volumes=1,,2", "empty entry"),
        ("volumes=3,03", "lists 03 twice"),
        ("volumes=face,face", "lists face twice"),
        ("volumes=1\n2", "cannot be read|unknown"),
    ],
)
def test_malformed_lists_are_usage_errors(word, text, recording):
    with pytest.raises(UsageError, match=text) as error:
        find_shown_volumes(parse_volumes(word), recording, FACE_CAT, Signal())
    assert error.value.exit_status == 2


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ((60,), "60 is out of range; the recording has 60 volumes, 0 to 59"),
        (parse_volumes(f"volumes={'9' * 20}"), f"{'9' * 20} is out of range; the recording has 60 volumes"),
        (("fcae",), "unknown condition 'fcae'; .*cat, face, house, rest. Did you mean 'face'"),
        (tuple(range(MAX_SHOWN + 1)), "37 volumes are too many"),
    ],
)
def test_volumes_that_do_not_exist_are_usage_errors(recording, entries, text):
    with pytest.raises(UsageError, match=text):
        find_shown_volumes(entries, recording, FACE_CAT, Signal())


def test_a_condition_is_the_first_selected_volume_of_four_blocks(recording):
    shown = recording.labels["condition"].to_numpy()
    # A block of the tiny subject begins after a volume of rest.
    faces = [row for row in np.flatnonzero(shown == "face") if shown[row - 1] == "rest"]
    assert len(faces) == 4
    assert find_shown_volumes(["face"], recording, FACE_CAT, Signal()) == faces
    trimmed = find_shown_volumes(["face"], recording, FACE_CAT, Signal(trim_first=1))
    assert trimmed == [row + 1 for row in faces]
    # Nothing of house is selected, so that its blocks begin where they begin.
    houses = find_shown_volumes(["house"], recording, FACE_CAT, Signal(trim_first=1))
    assert houses == [row for row in np.flatnonzero(shown == "house") if shown[row - 1] == "rest"]
    assert len(find_shown_volumes(["rest"], recording, FACE_CAT, Signal())) == 4


def test_a_volume_is_shown_once_in_the_order_of_the_list(recording):
    (first, *_) = faces = find_shown_volumes(["face"], recording, FACE_CAT, Signal())
    assert find_shown_volumes([7, "face", 0], recording, FACE_CAT, Signal()) == [7, *faces, 0]
    assert find_shown_volumes([first, "face"], recording, FACE_CAT, Signal()) == faces


def test_a_contrast_that_would_fail_does_not_matter(recording):
    expected = find_shown_volumes(["face"], recording, FACE_CAT, Signal())
    assert find_shown_volumes(["face"], recording, make_contrast(["face", "shoe"]), Signal()) == expected


def test_by_default_volumes_from_the_first_to_the_last_are_shown(recording):
    assert find_shown_volumes((), recording, FACE_CAT, Signal()) == [0, 12, 24, 35, 47, 59]
    short = replace(recording, labels=recording.labels.iloc[:2])
    assert find_shown_volumes((), short, FACE_CAT, Signal()) == [0, 1]
