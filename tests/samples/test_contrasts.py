"""Contrasts: from options to classes and volumes."""

import numpy as np
import pytest

from harness.errors import DesignError, UsageError
from harness.samples.contrasts import make_contrast, select_volumes

CONDITIONS = np.array("rest face face cat rest house chair face cat rest".split())


def test_classes_are_in_the_order_of_the_conditions():
    assert make_contrast(["face", "cat"]).classes == ("face", "cat")
    assert make_contrast(["cat", "face"]).classes == ("cat", "face")


def test_mapping_groups_conditions_into_a_class():
    contrast = make_contrast([{"animate": ["face", "cat"], "inanimate": "house"}])
    assert contrast.classes == ("animate", "inanimate")
    assert contrast.conditions == ("face", "cat", "house")
    assert contrast.members["inanimate"] == ("house",)


@pytest.mark.parametrize(
    "conditions, name",
    [
        (["face", "cat"], "face_vs_cat"),
        (["cat", "face"], "cat_vs_face"),
        (["face", "cat", "house"], "face_vs_cat_vs_house"),
        (["face", "cat", "house", "chair"], "face_vs_cat_vs_house_vs_chair"),
        ([{"animate": ["face", "cat"], "inanimate": ["house", "chair"]}], "animate_vs_inanimate"),
    ],
)
def test_name(conditions, name):
    assert make_contrast(conditions).name == name


@pytest.mark.parametrize(
    "conditions, words",
    [
        ("face", ["'face'", "is not a list", "contrast.conditions=[face,house]"]),
        ([], ["0 class(es)", "at least two"]),
        (["face"], ["['face']", "1 class(es)", "at least two"]),
        ([{"animate": ["face", "cat"]}], ["['animate']", "1 class(es)"]),
        (["face", "cat", "face"], ["'face' twice"]),
        ([{"animate": ["face"], "inanimate": []}], ["'inanimate' has no conditions"]),
        ([{"animate": ["face", "cat"], "pets": ["cat"]}], ["'cat'", "more than one class"]),
        ([{"animate": ["face", "face"], "pets": ["cat"]}], ["'face'", "twice"]),
        ([None, "cat"], ["None", "not the name of a condition"]),
        ([["face"], ["cat"]], ["['face']", "not the name of a condition"]),
        ([True, "cat"], ["True", "not the name of a condition"]),
        (["", "cat"], ["''", "not the name of a condition"]),
        ([{"": ["face"]}, "cat"], ["''", "not the name of a condition"]),
        ([{"animate": {"a": "face"}}, "cat"], ["{'a': 'face'}", "not the name of a condition"]),
        ([{"animate": [["face"]]}, "cat"], ["['face']", "not the name of a condition"]),
        (["x" * 300, "cat"], ["300 characters", "shorter one"]),
        (["a b", "a-b", "c"], ["'a b' and 'a-b'", "'a-b' in files", "another name"]),
    ],
)
def test_invalid_contrasts_are_refused(conditions, words):
    with pytest.raises(UsageError) as raised:
        make_contrast(conditions)
    for word in ["contrast.conditions", *words]:
        assert word in str(raised.value)


def test_name_of_a_contrast_of_long_names_is_shortened():
    letters = "abcdefgh"
    long, other = (
        make_contrast([letter * 90 for letter in chosen]).name for chosen in (letters, letters[:7])
    )
    assert len(long) <= 100
    assert long.startswith("a" * 90)
    assert long != other, "two contrasts that begin alike have different files"


def test_volumes_are_in_the_order_of_the_recording():
    volumes, y = select_volumes(make_contrast(["cat", "face"]), CONDITIONS, "labels.txt")
    assert volumes.tolist() == [1, 2, 3, 7, 8]
    assert y.tolist() == ["face", "face", "cat", "face", "cat"]


def test_volumes_of_a_group_have_the_class_of_the_group():
    contrast = make_contrast([{"animate": ["cat", "face"], "inanimate": ["chair", "house"]}])
    volumes, y = select_volumes(contrast, CONDITIONS, "labels.txt")
    assert volumes.tolist() == [1, 2, 3, 5, 6, 7, 8]
    assert y.tolist() == ["animate"] * 3 + ["inanimate"] * 2 + ["animate"] * 2


def test_class_may_have_the_name_of_a_condition_of_another_class():
    volumes, y = select_volumes(make_contrast([{"face": ["house"], "other": ["cat"]}]), CONDITIONS, "x")
    assert volumes.tolist() == [3, 5, 8]
    assert y.tolist() == ["other", "face", "other"]


@pytest.mark.parametrize("unknown, nearest", [("faces", "face"), ("huose", "house"), ("Cat", "cat")])
def test_message_about_an_unknown_condition_names_the_file_the_conditions_and_the_nearest(unknown, nearest):
    with pytest.raises(DesignError) as raised:
        select_volumes(make_contrast(["chair", unknown]), CONDITIONS, "/data/labels.txt")
    message = str(raised.value)
    assert repr(unknown) in message
    assert "/data/labels.txt" in message
    assert "cat, chair, face, house, rest" in message
    assert message.endswith(f"Did you mean {nearest!r}?")


def test_no_suggestion_for_a_word_unlike_all_conditions():
    with pytest.raises(DesignError) as raised:
        select_volumes(make_contrast(["face", "zzz"]), CONDITIONS, "labels.txt")
    assert "'zzz'" in str(raised.value)
    assert "Did you mean" not in str(raised.value)


def test_conditions_and_groups_can_be_combined():
    contrast = make_contrast(["face", {"small things": ["scissors", "shoe"]}])
    assert contrast.members == {"face": ("face",), "small things": ("scissors", "shoe")}


def test_mapping_instead_of_a_list_is_refused():
    with pytest.raises(UsageError, match="not a list"):
        make_contrast({"face": ["face"], "house": ["house"]})
