"""Files of published values: what they may hold, and the messages on what they may not."""

import json

import pytest

from harness.comparison.published import read_published, read_published_file
from harness.errors import UsageError

SECTIONS = ("holdout30", "dummy")
DATA = {"dataset": "haxby", "subject": 2}


def write(**changes):
    content = {
        "source": "a course",
        "settings": DATA,
        "sections": {"holdout30": {"test_accuracy": {"value": [0.767], "decimals": 3}}},
    }
    return json.dumps({key: value for key, value in (content | changes).items() if value is not None})


def read_value(entry, quantity="test_accuracy"):
    content = write(sections={"holdout30": {quantity: entry}})
    (value,) = read_published(content, "file", SECTIONS).sections["holdout30"]
    return value


def test_source_settings_and_values_are_read():
    published = read_published(write(), "file", SECTIONS)
    assert published.source == "a course"
    assert published.settings == {"dataset": "haxby", "subject": "2"}
    (value,) = published.sections["holdout30"]
    assert (value.quantity, value.values, value.decimals) == ("test_accuracy", (0.767,), 3)


@pytest.mark.parametrize(
    ("entry", "obtained", "is_equal"),
    [
        ({"value": 0.767, "decimals": 3}, 23 / 30, True),
        ({"value": 0.767, "decimals": 3}, 0.7676, False),
        ({"value": 0.767}, 23 / 30, False),
        ({"value": 1, "tolerance": 1e-9}, 1 + 0.9e-9, True),
        ({"value": 1, "tolerance": 1e-9}, 1 + 1.1e-9, False),
        ({"value": -200, "relative": 1e-4}, -200.019, True),
        ({"value": -200, "relative": 1e-4}, -200.021, False),
        ({"value": 216}, 216.0, True),
        ({"value": 1, "tolerance": 5}, float("nan"), False),
        ({"value": "face"}, "face", True),
        ({"value": "face"}, "cat", False),
        ({"value": "1"}, 1, False),
    ],
)
def test_values_are_equal_at_their_precision(entry, obtained, is_equal):
    assert read_value(entry).matches(0, obtained) is is_equal


def test_a_value_that_was_not_published_is_null():
    assert read_value({"value": None}).values is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is not JSON"),
        (write()[:-9], "is not JSON"),
        ("[" * 100_000 + "]" * 100_000, "has too many levels of lists or objects"),
        ('{"source": "a", "source": "b"}', 'the key "source" occurs twice'),
        (write().replace('"decimals"', '"value": 1, "decimals"'), 'the key "value" occurs twice'),
        ("[1]", "holds no published values"),
        ("{}", "holds no published values"),
        (write(source=None), "has no source"),
        (write(source=" "), "has no source"),
        (write(sauce=1), "unknown key 'sauce'; expected one of: source, settings, sections"),
        (write(settings=None), "settings must name the data"),
        (write(settings={"dataset": "haxby"}), "settings must name the data"),
        (write(settings=DATA | {"estimatr": "svc"}), "Did you mean 'estimator'?"),
        (write(settings=DATA | {"roi": ["vt"]}), "is not a text"),
        (write(sections=None), "has no sections"),
        (write(sections={"holdout": {}}), "Did you mean 'holdout30'?"),
        (write(sections={"dummy": {}}), "file, dummy: expected quantities"),
        (write(sections={"dummy": {"accuracy": {"value": 1}}}), "unknown quantity 'accuracy'"),
        (write(sections={"dummy": {"n_voxel": {"value": 1}}}), "Did you mean 'n_voxels'?"),
        (write(sections={"dummy": {"test_acc": {"value": 1}}}), "unknown quantity 'test_acc'"),
        (write(sections={"dummy": {"test_acuracy": {"value": 1}}}), "Did you mean 'test_accuracy'?"),
        (write(sections={"dummy": {"selected_roc": {"value": 1}}}), "unknown quantity 'selected_roc'"),
    ],
)
def test_a_file_of_another_form_is_refused_with_its_reason(content, reason):
    with pytest.raises(UsageError) as error:
        read_published(content, "file", SECTIONS)
    assert reason in str(error.value)
    assert "file" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (0.767, 'expected {"value": ...}'),
        ({"values": 1}, 'expected {"value": ...}'),
        ({"value": 1, "digits": 3}, "unknown key 'digits'"),
        ({"value": 1, "decimals": 3, "tolerance": 0.1}, "decimals and tolerance are two precisions"),
        ({"value": 1, "decimals": -1}, "a whole number from 0 to 15"),
        ({"value": 1, "decimals": 2.5}, "a whole number from 0 to 15"),
        ({"value": 1, "tolerance": "small"}, "a number of 0 or above"),
        ({"value": 1, "tolerance": True}, "a number of 0 or above"),
        ({"value": []}, "the list is empty"),
        ({"value": [1, None]}, "null is neither a finite number nor a text"),
        ({"value": 10**400 - 1}, "999... is neither a finite number nor a text"),
        ({"value": [[[0.5]]]}, "[[0.5]] is neither a finite number nor a text"),
        ({"value": 1, "decimals": 10**400}, "000...; expected a whole number from 0 to 15"),
        ({"value": 1, "tolerance": 10**400}, "000...; expected a number of 0 or above"),
        ({"value": float("nan")}, "NaN is neither a finite number nor a text"),
        ({"value": [True]}, "true is neither"),
        ({"value": ["face"], "decimals": 1}, "is a text, for which decimals has no meaning"),
    ],
)
def test_a_value_of_another_form_is_refused_with_its_place(entry, reason):
    with pytest.raises(UsageError) as error:
        read_value(entry)
    assert str(error.value).startswith("file, holdout30, test_accuracy: ")
    assert reason in str(error.value)


def test_a_file_that_cannot_be_read_is_one_message(tmp_path):
    binary = tmp_path / "values.json"
    binary.write_bytes(b"\xff\xfe\x00")
    for file in (tmp_path / "absent.json", tmp_path, binary):
        with pytest.raises(UsageError, match="cannot be read") as error:
            read_published_file(file, SECTIONS)
        assert str(file) in str(error.value)


def test_a_byte_order_mark_does_not_matter(tmp_path):
    file = tmp_path / "values.json"
    file.write_bytes(b"\xef\xbb\xbf" + write().encode())
    assert read_published_file(file, SECTIONS) == read_published(write(), "file", SECTIONS)
