"""In what the origins of two runs differ, and which of it can move the score."""

from dataclasses import replace

import pytest

from harness.comparison.differences import list_differences, list_ranges
from harness.comparison.origins import Origin, list_held_out, parse_environment
from harness.tracking.provenance import describe_environment, describe_machine, package_versions

ORIGIN = Origin(
    choices={"dataset": "haxby", "estimator": "svc", "roi": "vt"},
    settings={"estimator.C": 1, "roi.mask": "vt", "dataset.data_dir": "/data", "seed": 0},
    digests={"bold": "b" * 64, "labels": "l" * 64, "mask": "m" * 64},
    versions={"python": "3.11.7", "numpy": "2.4.6", "mlflow": "3.17.2", "harness": "0.2", "tqdm": "4.1"},
    code={"commit": "0" * 40, "harness": "c" * 64},
    machine={"platform": "Linux", "BLAS": "openblas 0.3.30 SkylakeX", "threads": "1"},
    folds={1: (3, 4), 2: (8, 9)},
    places=("dataset.data_dir",),
)


def judge(part, **changed):
    """Return name and effect of every difference after some entries of a part have changed."""
    entries = {key.replace("__", "."): value for key, value in changed.items()}
    other = replace(ORIGIN, **{part: getattr(ORIGIN, part) | entries})
    return {item.name: str(item.effect) for item in list_differences(ORIGIN, other)}


def test_equal_origins_have_no_difference():
    assert list_differences(ORIGIN, replace(ORIGIN)) == []


@pytest.mark.parametrize(
    ("key", "effect"),
    [
        ("estimator__C", "yes"),
        ("seed", "yes"),
        ("signal__lag", "yes"),
        ("dataset__t_r", "yes"),
        ("dataset__data_dir", "no"),
        ("roi__mask", "no"),
        ("signal__confounds_file", "no"),
        ("figures", "no"),
        ("tracking__folder", "no"),
        ("cache", "no"),
        ("resume", "no"),
        ("inference__processes", "no"),
        ("inference__n", "p-values only"),
        ("inference__seed", "p-values only"),
    ],
)
def test_effect_of_a_setting(key, effect):
    assert judge("settings", **{key: "another"}) == {key.replace("__", "."): effect}


def test_searchlight_setting_that_was_not_set_is_shown_with_its_default():
    target = {"analysis._target_": "harness.searchlight.settings.Searchlight"}
    usual = replace(ORIGIN, settings=ORIGIN.settings | target)
    changed = replace(usual, settings=usual.settings | {"analysis.radius": 10})
    (found,) = list_differences(usual, changed)
    assert (found.first, found.second) == ("8", "10")


def test_place_of_other_files_can_move_the_score():
    other = replace(
        ORIGIN,
        settings=ORIGIN.settings | {"dataset.data_dir": "/new", "roi.mask": "house"},
        digests=ORIGIN.digests | {"mask": "n" * 64},
    )
    assert {item.name: str(item.effect) for item in list_differences(ORIGIN, other)} == {
        "dataset.data_dir": "yes",
        "roi.mask": "yes",
        "mask": "yes",
    }


def test_place_of_files_without_digests_can_move_the_score():
    first = replace(ORIGIN, digests={})
    other = replace(first, settings=first.settings | {"dataset.data_dir": "/new"})
    assert [str(item.effect) for item in list_differences(first, other)] == ["yes"]


def test_true_is_not_one():
    assert judge("settings", seed=False) == {"seed": "yes"}
    assert judge("settings", seed=0.0) == {}


def test_choice_has_the_effect_of_its_settings():
    assert judge("choices", estimator="mine") == {"estimator": "no"}
    renamed = replace(
        ORIGIN, choices=ORIGIN.choices | {"roi": "copy"}, settings=ORIGIN.settings | {"roi.mask": "copy"}
    )
    assert [str(item.effect) for item in list_differences(ORIGIN, renamed)] == ["no", "no"]
    settings = ORIGIN.settings | {"estimator.C": 100}
    harder = replace(ORIGIN, choices=ORIGIN.choices | {"estimator": "hard"}, settings=settings)
    assert [str(item.effect) for item in list_differences(ORIGIN, harder)] == ["yes", "yes"]


def test_effect_of_versions():
    assert judge("versions", python="3.12.0", numpy="2.5") == {"python": "yes", "numpy": "yes"}
    (other,) = list_differences(
        ORIGIN, replace(ORIGIN, versions=ORIGIN.versions | {"mlflow": "3.18", "tqdm": "4.2"})
    )
    assert (other.name, other.effect) == ("2 other packages", "no")
    assert "mlflow 3.17.2 / 3.18; tqdm 4.1 / 4.2" in other.reason


def test_commit_and_version_cannot_move_the_score_if_the_computing_code_is_the_same():
    assert judge("code", commit="1" * 40) == {"commit": "no"}
    assert judge("versions", harness="0.3") == {"harness": "no"}
    assert judge("code", commit="1" * 40, harness="d" * 64) == {"commit": "yes", "harness": "yes"}
    assert judge("code", mylab="e" * 64) == {"mylab": "unknown"}
    without = replace(ORIGIN, code={"commit": "1" * 40})
    assert {item.name: str(item.effect) for item in list_differences(ORIGIN, without)} == {
        "commit": "yes",
        "harness": "unknown",
    }


def test_effect_of_the_machine():
    assert judge("machine", BLAS="mkl", platform="Darwin", threads="8") == {
        "platform": "last digits",
        "BLAS": "last digits",
        "threads": "no",
    }


def test_folds_that_hold_out_other_volumes():
    other = replace(ORIGIN, folds={1: (3, 4), 2: (8, 10)})
    (found,) = list_differences(ORIGIN, other)
    assert (found.first, found.second) == ("fold 2: 8-9", "fold 2: 8, 10")
    assert found.reason == "1 of 2 folds hold out other volumes"
    (found,) = list_differences(ORIGIN, replace(ORIGIN, folds={1: (3, 4, 5), 2: (8, 9), 3: (1, 2)}))
    assert (found.first, found.second) == ("2 folds of 2", "3 folds of 2 to 3")


def test_ranges_of_volumes():
    assert list_ranges((1, 2, 3, 7, 9, 10, 20)) == "1-3, 7, 9-10, ..."
    assert list_ranges((5,)) == "5"


def test_environment_is_read_back():
    packages, machine = parse_environment(describe_environment())
    assert packages["numpy"] == package_versions()["numpy"]
    assert {name: machine[name] for name in describe_machine()} == describe_machine()
    assert set(machine) == {"platform", *describe_machine()}
    assert parse_environment("# Python 3.11.7\n# Linux-6.1\nnumpy==2.0\n") == (
        {"numpy": "2.0"},
        {"platform": "Linux-6.1"},
    )
    assert parse_environment("") == ({}, {})


def test_runs_from_before_the_distribution_was_renamed_differ_in_no_package():
    earlier, _ = parse_environment("# Python 3.11.7\nharness==0.1.1\nnumpy==2.0\n")
    later, _ = parse_environment("# Python 3.11.7\nfmri-decoding-harness==0.1.1\nnumpy==2.0\n")
    assert earlier == later == {"harness": "0.1.1", "numpy": "2.0"}


def test_predictions_of_another_form_have_no_folds():
    import pandas as pd

    assert list_held_out(pd.DataFrame({"volume": [1]})) == {}
    table = pd.DataFrame({"fold": [2, 1, 2], "volume": [9, 3, 8]})
    assert list_held_out(table) == {2: (8, 9), 1: (3,)}


def test_data_of_a_run_that_read_none_are_unknown():
    read = replace(ORIGIN, counts={"n_samples": 216})
    choices = ORIGIN.choices | {"inference": "permutation"}
    failed = replace(ORIGIN, settings={}, digests={}, counts={}, choices=choices)
    effects = {item.name: str(item.effect) for item in list_differences(read, failed)}
    assert effects.pop("inference") == "p-values only"
    assert effects == dict.fromkeys(["bold", "labels", "mask", "n_samples"], "unknown")
