"""Which stored runs may enter one test."""

import re
from dataclasses import replace

import pytest

from harness.comparison.comparability import check_key, group_runs, sort_values
from harness.comparison.paired import compare_by
from harness.errors import DesignError, TrackingError, UsageError

OTHER_VOLUME = [(1, 0, 10), (1, 0, 11), (2, 1, 20), (2, 1, 22)]
SAME_VOLUMES = [(1, 0, 10), (1, 0, 11), (2, 1, 20), (2, 1, 21)]
OTHER_FOLDS = [(1, 0, 10), (2, 0, 11), (1, 1, 20), (2, 1, 21)]


@pytest.mark.parametrize("key", ["cv", "contrast", "subject", "dataset", "inference", "cv.n_splits"])
def test_keys_without_common_volumes_are_refused_with_what_to_use_instead(key):
    with pytest.raises(UsageError, match=rf"by={key} is refused: .*--(pivot|chance)"):
        check_key(key)


@pytest.mark.parametrize(
    ("key", "meant"), [("estimatr", "'estimator'"), ("sginal", "'signal'"), ("by", "expected one of: roi")]
)
def test_an_unknown_key_is_named_with_those_there_are(key, meant):
    with pytest.raises(UsageError, match=meant):
        check_key(key)


def refusal(runs, key="estimator"):
    with pytest.raises(DesignError) as caught:
        compare_by(runs, key)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        (
            {"digests": {"bold": "c" * 64}},
            r"lda \(00000001\) and svc \(00000000\) used different data: SHA-256 of bold c{8} and b{8}",
        ),
        ({"digests": {"mask": "c" * 64}}, "SHA-256 of mask cccccccc and mmmmmmmm"),
        ({"volumes": OTHER_VOLUME}, "4 and 4 volumes; volume 21 of scanner run 1 is held out by one alone"),
        ({"volumes": OTHER_FOLDS}, "volume 20 of scanner run 1 is in fold 1 of the first alone"),
        ({"volumes": SAME_VOLUMES, "sizes": (4, 2)}, "n_train of fold 1 is 4 and 6"),
    ],
    ids=["images", "mask", "volumes", "folds", "training volumes"],
)
def test_unlike_runs_are_refused_with_both_values(make_stored, changed, cause):
    two = (0.5, 0.75)
    runs = [
        make_stored(two, volumes=SAME_VOLUMES),
        make_stored(two, estimator="lda", **({"volumes": SAME_VOLUMES} | changed)),
    ]
    found = refusal(runs)
    assert re.search(cause, found), found


def test_other_numbers_of_folds_are_refused(make_stored):
    volumes = [(fold, 0, volume) for fold, volume in ((1, 1), (1, 2), (2, 3), (2, 4))]
    three = [(1, 0, 1), (2, 0, 2), (3, 0, 3), (3, 0, 4)]
    runs = [
        make_stored((0.5, 0.5), volumes=volumes),
        make_stored((0.5, 0.5, 1), volumes=three, estimator="lda"),
    ]
    assert "3 and 2 folds" in refusal(runs)


def test_masks_may_differ_between_regions(make_stored):
    runs = [make_stored(roi="vt"), make_stored((0.5, 0.5, 1, 1), roi="face", digests={"mask": "c" * 64})]
    (comparison,) = compare_by(runs, "roi")
    assert comparison.table["n"].tolist() == [4]


def test_runs_that_differ_in_more_than_the_key_are_named_with_both_values(make_stored):
    runs = [make_stored(), make_stored(estimator="lda", scoring="accuracy")]
    assert (
        "The most alike, lda (00000001) and svc (00000000), differ in scoring (accuracy and roc_auc), too"
        in refusal(runs)
    )


def test_one_value_is_refused(make_stored):
    assert "all of them have estimator=svc" in refusal([make_stored(), make_stored(cv="kfold5")])


def test_runs_without_results_are_left_out_with_a_note(make_stored):
    runs = [
        make_stored(),
        make_stored(estimator="lda"),
        make_stored(estimator="ridge", status="FAILED", files=False),
        make_stored(estimator="dummy", status="RUNNING", files=False),
        make_stored(estimator="logistic", files=False),
    ]
    found = group_runs(runs, "estimator")
    assert [run.value for run in found.groups[0].runs] == ["svc", "lda"]
    assert "2 runs left out: 1 FAILED, 1 RUNNING" in found.notes
    (note,) = [note for note in found.notes if "00000004" in note]
    assert "has no folds.csv" in note


def test_a_run_without_folds_is_the_cause_where_nothing_else_remains(make_stored):
    message = refusal([make_stored(), make_stored(estimator="lda", files=False)])
    assert "run 00000001 (run 1) has no folds.csv" in message


def test_an_edited_table_is_left_out_with_its_name(make_stored, tmp_path):
    runs = [make_stored(), make_stored(estimator="lda"), make_stored(estimator="ridge")]
    with (tmp_path / "run2" / "folds.csv").open("a") as file:
        file.write("5,6,2,1.0,1.0\n")
    found = group_runs(runs, "estimator")
    assert [run.value for run in found.groups[0].runs] == ["svc", "lda"]
    assert "folds.csv of run 00000002 (run 2) is not the file that the run wrote" in found.notes[0]


def test_an_intact_older_run_counts_where_the_newest_is_damaged(make_stored, tmp_path):
    runs = [make_stored((1, 1, 1, 0)), make_stored(estimator="lda"), make_stored((0, 0, 0, 1))]
    (tmp_path / "run2" / "predictions.csv").write_text("fold\n1\n")
    (comparison,) = compare_by(runs, "estimator")
    assert comparison.units["svc"].tolist() == [1, 1, 1, 0]
    assert any("left out: predictions.csv of run 00000002" in note for note in comparison.notes)


def test_the_newest_of_repeated_runs_counts(make_stored):
    runs = [make_stored((0, 0, 0, 1)), make_stored(estimator="lda"), make_stored((1, 1, 1, 0))]
    for order in (runs, runs[::-1]):
        (comparison,) = compare_by(order, "estimator")
        assert comparison.units["svc"].tolist() == [1, 1, 1, 0]
        assert any("00000002 instead of 00000000" in note for note in comparison.notes)


def test_a_run_whose_audit_was_edited_is_left_out_with_a_note(make_stored, tmp_path):
    runs = [make_stored(), make_stored((1, 0, 1, 1), estimator="lda"), make_stored(estimator="ridge")]
    with (tmp_path / "run2" / "audit.json").open("a") as file:
        file.write(" ")
    (comparison,) = compare_by(runs, "estimator")
    assert comparison.table[["first", "second"]].values.tolist() == [["lda", "svc"]]
    assert any("left out: audit.json of run 00000002" in note for note in comparison.notes)


@pytest.mark.parametrize(("codes", "noted"), [("aa", False), ("ab", True)])
def test_a_commit_that_changed_nothing_that_computes_is_not_noted(make_stored, codes, noted):
    runs = [
        make_stored(
            scores,
            estimator=name,
            tags={"harness.code": code, "mlflow.source.git.commit": commit * 40},
            versions={"harness": f"0.{commit}"},  # an installed package has a version per commit
        )
        for scores, name, code, commit in zip(
            [(0, 1, 1, 1), (1, 0, 1, 1)], ["svc", "lda"], codes, "12", strict=True
        )
    ]
    (comparison,) = compare_by(runs, "estimator")
    for part in ("commit", "harness"):
        assert any(f"change a score: {part} " in note for note in comparison.notes) == noted, part


def test_versions_are_a_note_and_no_refusal(make_stored):
    runs = [make_stored(), make_stored((1, 0, 1, 1), estimator="lda", versions={"numpy": "2.1"})]
    (comparison,) = compare_by(runs, "estimator")
    (note,) = [note for note in comparison.notes if "numpy" in note]
    assert "2.0: svc (00000000); 2.1: lda (00000001)" in note
    assert comparison.table["p"].notna().all()


def test_a_single_setting_is_compared_where_the_rest_of_its_group_is_the_same(make_stored):
    def config(c, tol=0.1):
        return {"estimator": {"C": c, "tol": tol, "grid": {"alpha": [1, 2]}}}

    runs = [
        make_stored(config=config(1), estimator="svc[C=1]"),
        make_stored((1, 1, 0, 0), config=config(10), estimator="svc[C=10]"),
        make_stored((1, 1, 0, 0), config=config(2, tol=0.2), estimator="svc[C=2,tol=0.2]"),
        make_stored(config={"estimator": {"tol": 0.1}}, estimator="lda"),
    ]
    (comparison,) = compare_by(runs, "estimator.C")
    assert comparison.units.columns.tolist() == ["unit", "1", "10"]
    assert comparison.fixed["estimator"] == "svc"
    assert "1 run left out: without estimator.C" in comparison.notes
    with pytest.raises(UsageError, match=r"by=estimator\.toll.*Did you mean 'estimator\.tol'"):
        compare_by(runs, "estimator.toll")
    with pytest.raises(DesignError, match=r"all of them have estimator\.grid\.alpha=\[1, 2\]"):
        compare_by(runs, "estimator.grid.alpha")


def test_values_are_sorted_as_numbers_where_they_are_numbers():
    assert sort_values(["10", "9", "1e2"]) == ["9", "10", "1e2"]
    assert sort_values(["svc", "10"]) == ["10", "svc"]


def test_a_table_without_its_columns_is_one_message(make_stored, tmp_path):
    run = make_stored(files=False)
    (tmp_path / "run0" / "folds.csv").write_text("fold,n_train\n1,2\n")
    run = replace(run, tags={})
    with pytest.raises(TrackingError, match=r"folds\.csv of run 00000000 .* has no column n_test"):
        run.read_folds()
