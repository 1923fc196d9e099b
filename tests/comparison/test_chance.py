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


def test_the_newest_run_counts_and_an_older_permutation_test_is_named(make_stored):
    runs = [
        write_tested(make_stored, 0.75, 0.02, inference="permutation[n=99]"),
        make_stored(metrics={"test_accuracy_mean": 0.75}),
        write_tested(make_stored, 0.75, 0.02, inference="permutation", subject="2"),
        write_tested(make_stored, 0.75, 0.04, inference="permutation[n=99]", subject="2"),
    ]
    (found,) = compare_with_chance(runs)
    assert found.runs["run_id"].tolist() == [runs[1].run_id, runs[3].run_id]
    assert found.runs["p"].isna().tolist() == [True, False]
    assert found.notes == (
        "2 repeated: the newest counts; 1 older with a permutation test: 'inference=permutation[n=99]' "
        "selects them",
    )


def test_subjects_with_other_permutation_settings_are_one_group(make_stored):
    runs = [
        write_tested(make_stored, 0.75, 0.1, subject=str(s), inference="permutation" + "[n=500]" * (s > 2))
        for s in range(1, 5)
    ]
    runs.append(make_stored(metrics={"test_accuracy_mean": 0.5}, subject="5"))
    (found,) = compare_with_chance(runs[:4])
    assert found.groups["n"].tolist() == [4]
    assert found.groups["p_means"].notna().all()
    (found,) = compare_with_chance(runs)
    assert found.groups["n"].tolist() == [5]
    assert "subject 5 has no permutation test" in found.groups["note"].iloc[0]


@pytest.mark.parametrize("kind", ["random", "enumerated"])
def test_the_null_mean_leaves_out_random_tests_true_labelling_and_undefined_scores(make_stored, kind):
    nulls = [0.75, 0.5, 0.25, math.nan, 0.375]  # the true labelling first
    runs = [
        make_stored(
            metrics={"test_accuracy_mean": 0.75, "p_value/test_accuracy": 0.1},
            tags={"harness.relabellings": "r", "harness.inference": kind},
            nulls=nulls,
            subject=str(subject),
        )
        for subject in (1, 2)
    ]
    (found,) = compare_with_chance(runs)
    counted = [score for score in nulls[kind == "random" :] if not math.isnan(score)]
    assert found.runs["baseline"].tolist() == pytest.approx([sum(counted) / len(counted)] * 2)
    # All combinations of both subjects, the true labellings among them.
    pairs = [(a + b) / 2 for a in nulls for b in nulls if not math.isnan(a + b)]
    assert found.groups["baseline"].tolist() == pytest.approx([sum(pairs) / len(pairs)])


def test_a_sequential_test_has_no_null_mean(make_stored):
    (found,) = compare_with_chance([write_tested(make_stored, 0.75, 0.02, relabelled=False)])
    assert "a sequential test (inference.stop_early=true) has no null mean" in found.runs["note"].iloc[0]
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
