"""Stored scores against chance."""

import math

import numpy as np
import pytest

from harness.comparison.chance import compare_with_chance
from harness.errors import DesignError, UsageError

NULLS = (0.75, 0.5, 0.25, 0.75, 0.5, 0.25, 0.5, 0.5)


def write_tested(make_stored, score, p, relabelled=True, **changed):
    tags = {"harness.inference.primary": "test_accuracy"} | (
        {"harness.relabellings": "r", "harness.inference": "enumerated"} if relabelled else {}
    )
    metrics = {"test_accuracy_mean": score, "p_value/test_accuracy": p}
    return make_stored(metrics=metrics, tags=tags, nulls=(score, *NULLS[1:]), **changed)


def test_runs_have_their_own_p_value_baseline_and_holms_correction(make_stored):
    runs = [
        write_tested(make_stored, 0.75, 0.02),
        write_tested(make_stored, 0.5, 0.04, estimator="lda"),
        make_stored(metrics={"test_accuracy_mean": 1.0}, estimator="ridge"),
    ]
    (found,) = compare_with_chance(runs)
    table = found.runs.set_index("estimator")
    assert table.loc[["svc", "lda"], "p_holm"].tolist() == [0.04, 0.04]
    assert table.loc["svc", "baseline"] == pytest.approx(np.mean(NULLS))
    assert math.isnan(table.loc["ridge", "p"])
    assert "inference=permutation" in table.loc["ridge", "note"]
    assert (found.score, found.fixed["cv"]) == ("test_accuracy", "logo")
    assert found.groups.empty


def test_the_run_with_a_permutation_test_counts_before_a_newer_one_without(make_stored):
    runs = [
        write_tested(make_stored, 0.75, 0.02, inference="permutation"),
        make_stored(metrics={"test_accuracy_mean": 0.75}),
    ]
    (found,) = compare_with_chance(runs)
    assert found.runs["p"].tolist() == [0.02]
    assert found.notes == ("1 repeated: the newest with a permutation test count",)


def test_a_test_that_ended_early_has_no_baseline(make_stored):
    (found,) = compare_with_chance([write_tested(make_stored, 0.75, 0.02, relabelled=False)])
    assert found.runs["p"].tolist() == [0.02]
    assert found.runs["baseline"].isna().all()


def test_an_edited_null_distribution_has_no_p_value(make_stored, tmp_path):
    run = write_tested(make_stored, 0.75, 0.02)
    with (tmp_path / "run0" / "null_distribution.csv").open("a") as file:
        file.write("0.1\n")
    (found,) = compare_with_chance([run])
    assert found.runs["p"].isna().all()
    assert "null_distribution.csv of run 00000000 (run 0) is not the file" in found.runs["note"].iloc[0]


def test_subjects_have_one_row_per_configuration(make_stored):
    config = {
        "contrast": {"conditions": ["a", "b"]},
        "cv": {"_target_": "sklearn.model_selection.LeaveOneGroupOut"},
    }
    runs = [
        write_tested(make_stored, 0.75, 0.1, subject=str(s), estimator=name, config=config)
        for s in (1, 2)
        for name in ("svc", "lda")
    ]
    (found,) = compare_with_chance(runs)
    assert found.groups[["estimator", "n", "mean"]].to_numpy().tolist() == [
        ["svc", 2, 0.75],
        ["lda", 2, 0.75],
    ]
    reached = np.mean([a + b >= 1.5 for a in NULLS for b in NULLS])
    assert found.groups["p_means"].tolist() == pytest.approx([reached] * 2)
    assert found.groups["p_holm"].tolist() == pytest.approx([2 * reached] * 2)
    assert found.groups["p_half"].isna().all(), "two subjects cannot be significant"


def test_without_runs_or_scores_there_is_one_message(make_stored):
    with pytest.raises(DesignError, match=r"no finished run .* 1 run left out: 1 FAILED"):
        compare_with_chance([make_stored(status="FAILED")])
    with pytest.raises(UsageError, match="Did you mean 'test_accuracy'"):
        compare_with_chance([write_tested(make_stored, 0.75, 0.1)], ["test_acuracy"])
