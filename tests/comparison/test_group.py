"""Group summaries of stored runs, whose scores and null distributions are known."""

import io
import json
from datetime import UTC, datetime, timedelta
from itertools import product

import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console

from harness.comparison.group import summarise_groups
from harness.comparison.group_record import describe_group, group_to_json, split_groups, tabulate_subjects
from harness.report.group_tables import print_groups, write_group_files
from harness.tracking.file_digests import write_digests
from harness.tracking.stored_run import StoredRun
from harness.tracking.tags import FILES_TAG, INFERENCE_TAG, PRIMARY_TAG, RELABELLINGS_TAG

START = datetime(2026, 11, 21, tzinfo=UTC)
LOGO = {"_target_": "sklearn.model_selection.LeaveOneGroupOut"}
NULL = (0.5, 0.25, 0.625, 0.375, 0.5, 0.75, 0.4375)


@pytest.fixture
def make_run(tmp_path):
    """Return a function that writes a run's files and returns the run."""
    made = []

    def make(subject, score=0.875, null=NULL, status="FINISHED", tested=True, sequential=False, **changed):
        number = len(made)
        directory = tmp_path / f"run{number}"
        directory.mkdir()
        config = {"cv": changed.pop("scheme", LOGO), "contrast": {"conditions": ["face", "cat"]}}
        config["contrast"] = {"conditions": changed.pop("conditions", ["face", "cat"])}
        (directory / "config.yaml").write_text(yaml.safe_dump(config))
        classes = changed.pop("classes", ["face", "cat"] * 6)
        pd.DataFrame({"class": classes}).to_csv(directory / "predictions.csv", index=False)
        findings = changed.pop("findings", [])
        (directory / "audit.json").write_text(json.dumps(findings))
        tags = {PRIMARY_TAG: "test_accuracy"}
        metrics = {} if score is None else {"test_accuracy_mean": score}
        if tested:
            tags |= {INFERENCE_TAG: "enumerated"} | ({} if sequential else {RELABELLINGS_TAG: f"{subject}"})
            table = pd.DataFrame({"test_accuracy": [score, *null]})
            table.to_csv(directory / "null_distribution.csv", index=False)
        params = {
            "subject": str(subject),
            "estimator": "svc",
            "cv": "logo",
            "n_folds": "6",
            "n_samples": "12",
        }
        made.append(
            StoredRun(
                uri="sqlite:///none.db",
                artifact_uri=directory.as_uri(),
                run_id=f"{number:032x}",
                name=f"sub-{subject}",
                status=status,
                experiment_id="1",
                started=START + timedelta(minutes=number),
                params=params | changed,
                metrics=metrics,
                tags=tags | {FILES_TAG: write_digests(directory)},
            )
        )
        return made[-1]

    return make


def test_mean_sd_and_tests_are_those_of_the_subjects(make_run):
    scores = (0.875, 0.6875, 0.75)
    (group,) = summarise_groups([make_run(subject, score) for subject, score in enumerate(scores, start=1)])
    assert (group.n, group.score, group.mean) == (3, "test_accuracy", np.mean(scores))
    assert group.sd == pytest.approx(np.std(scores, ddof=1))
    assert group.subjects["subject"].tolist() == ["1", "2", "3"]
    assert group.subjects["score"].tolist() == list(scores)
    nulls = [(score, *NULL) for score in scores]
    combinations = list(product(*nulls))
    assert group.mean_test.p == np.mean([sum(chosen) >= sum(scores) for chosen in combinations])
    assert group.prevalence.p_global == pytest.approx(
        np.mean([min(chosen) >= 0.6875 for chosen in combinations])
    )
    assert group.sign_flip.p_greater == 1 / 8
    assert group.params == {"estimator": "svc", "cv": "logo"}


def test_runs_that_differ_in_more_than_the_subject_are_several_groups_corrected_by_holm(make_run):
    runs = [
        make_run(subject, score, estimator=name)
        for name, score in (("svc", 0.875), ("ridge", 0.625), ("lda", 0.5))
        for subject in (1, 2)
    ]
    groups = {group.params["estimator"]: group for group in summarise_groups(runs)}
    p = {name: group.mean_test.p for name, group in groups.items()}
    assert groups["svc"].p_holm["means"] == pytest.approx(3 * p["svc"])
    assert groups["ridge"].p_holm["means"] == pytest.approx(max(3 * p["svc"], 2 * p["ridge"]))
    assert groups["lda"].p_holm["means"] == pytest.approx(max(3 * p["svc"], 2 * p["ridge"], p["lda"]))


def holm_by_hand(p):
    """Return Holm's p-values: the largest of (tests that are left) x p, over this and the smaller ones."""
    return [min(1.0, max(sum(other >= q for other in p) * q for q in p if q <= own)) for own in p]


def test_the_correction_is_over_the_groups_that_have_the_test(make_run):
    other = {"scheme": {"_target_": "sklearn.model_selection.KFold"}, "cv": "kfold5"}
    runs = [make_run(subject, **changed) for changed in ({}, other) for subject in range(1, 6)]
    logo, kfold = summarise_groups(runs)
    assert (logo.n_tests["sign_flip"], logo.n_tests["means"]) == (1, 2)
    assert "sign_flip" not in kfold.n_tests
    # Five subjects above .5: 1 of 32 patterns of signs.
    assert logo.corrected_p("sign_flip") == 1 / 32
    assert not any("sign-flip" in note and "cannot" in note for note in logo.notes)
    ((scores), _) = split_groups([logo, kfold])
    assert "sign flip: 1" in describe_group(scores).note


def test_a_larger_group_does_not_keep_a_smaller_one_from_significance(make_run):
    runs = [make_run(subject, estimator="svc") for subject in range(1, 11)]
    runs += [make_run(subject, estimator="lda") for subject in range(1, 6)]
    groups = {group.params["estimator"]: group for group in summarise_groups(runs)}
    expected = holm_by_hand([1 / 2**10, 1 / 2**5])
    found = [groups[name].smallest_p_holm["sign_flip"] for name in ("svc", "lda")]
    assert found == pytest.approx(expected)
    assert groups["lda"].corrected_p("sign_flip") == pytest.approx(1 / 32)


def test_the_note_of_a_stored_summary_has_corrected_p_values(make_run):
    runs = [
        make_run(subject, score, estimator=name)
        for name, score in (("svc", 0.875), ("ridge", 0.875), ("lda", 0.625))
        for subject in range(1, 5)
    ]
    groups = summarise_groups(runs)
    observed = (0.875, 0.875, 0.625)
    p = [np.mean([sum(c) >= 4 * score for c in product((score, *NULL), repeat=4)]) for score in observed]
    for scores, expected in zip(split_groups(groups), holm_by_hand(p), strict=True):
        note = describe_group(scores).note
        heading, row = (
            line.split(" | ") for line in note.splitlines() if line.startswith(("| score", "| test"))
        )
        assert row[heading.index("p means")] == f"{expected:.2g}"
        assert "sign flip" not in heading, "four subjects cannot be significant"
        assert "P-values are corrected over 3 groups (Holm)" in note


def test_one_subject_is_no_group(make_run):
    assert summarise_groups([make_run(1), make_run(1)]) == []
    assert summarise_groups([]) == []


def test_the_newest_finished_run_of_a_subject_counts(make_run):
    runs = [make_run(1, 0.5), make_run(1, 0.75), make_run(1, status="FAILED", score=None, tested=False)]
    (group,) = summarise_groups([*runs, make_run(2, 0.75)])
    assert group.subjects["score"].tolist() == [0.75, 0.75]
    assert "subject 1 has 2 runs of this configuration; the newest counts" in group.notes


def test_subjects_that_have_not_finished_are_counted(make_run):
    runs = [make_run(1), make_run(2), make_run(10, status="FAILED", score=None, tested=False)]
    (group,) = summarise_groups(runs, n_planned=4)
    assert group.notes[0] == "2 of the 4 subjects of the sweep have finished"
    assert "subject 10 is left out: its run is FAILED" in group.notes


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tested": False}, r"subject 2 has no permutation test \(inference=permutation\)"),
        ({"sequential": True}, r"subject 2 has a sequential test.* repeat with inference.stop_early=false"),
    ],
)
def test_every_subject_needs_a_complete_permutation_test(make_run, options, reason):
    (group,) = summarise_groups([make_run(1), make_run(2, **options)])
    assert (group.mean_test, group.prevalence) == (None, None)
    assert pd.Series(group.notes).str.contains(reason).any(), group.notes
    assert group.mean == 0.875


def test_an_edited_null_distribution_is_named_and_the_mean_remains(make_run, tmp_path):
    runs = [make_run(1), make_run(2)]
    with (tmp_path / "run1" / "null_distribution.csv").open("a") as file:
        file.write("0.1\n")
    (group,) = summarise_groups(runs)
    assert group.mean_test is None
    assert any("null_distribution.csv of run 00000000" in note for note in group.notes)


def test_a_null_distribution_of_other_scores_is_refused(make_run, tmp_path):
    runs = [make_run(1), make_run(2)]
    runs[1].metrics["test_accuracy_mean"] = 0.5
    (group,) = summarise_groups(runs)
    assert group.mean_test is None
    assert any("does not begin with the run's test_accuracy" in note for note in group.notes)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"scheme": {"_target_": "sklearn.model_selection.KFold"}, "cv": "kfold5"}, "cv=kfold5"),
        (
            {"scheme": {"_target_": "harness.decoding.splitters.HoldOutLast"}, "cv": "holdout30"},
            "cv=holdout30",
        ),
        ({"conditions": ["face", "cat", "shoe"]}, "there are 3"),
        ({"classes": ["face"] * 7 + ["cat"] * 5}, "unequal numbers of volumes"),
    ],
)
def test_scores_whose_chance_level_is_not_one_half_are_not_tested_against_it(make_run, options, reason):
    (group,) = summarise_groups([make_run(subject, **options) for subject in (1, 2)])
    assert group.sign_flip is None
    assert any(f"no test against 0.5: {reason}" in note or reason in note for note in group.notes)
    assert group.mean_test is not None


def test_selected_scores_are_not_tested_against_one_half(make_run):
    runs = [make_run(subject) for subject in (1, 2)]
    for run in runs:
        run.metrics["selected_accuracy_mean"] = 0.9
    (group,) = summarise_groups(runs, ["selected_accuracy"])
    assert group.sign_flip is None
    assert any("selected accuracy: no test against 0.5" in note for note in group.notes)


def test_scores_of_leaky_runs_are_not_tested_against_one_half(make_run):
    leak = {"rule": "blocks_split", "verdict": "leak", "evidence": "4 of 8.", "reference": ""}
    runs = [make_run(1), make_run(2, findings=[leak])]
    (group,) = summarise_groups(runs)
    assert group.sign_flip is None
    assert any("the audit finds a leak in subject 2" in note for note in group.notes)


@pytest.mark.parametrize(("name", "content"), [("config.yaml", "cv: 1\n"), ("predictions.csv", "a\n1\n")])
def test_files_without_scheme_or_classes_leave_the_other_tests(make_run, tmp_path, name, content):
    runs = [make_run(1), make_run(2)]
    for number, run in enumerate(runs):
        (tmp_path / f"run{number}" / name).write_text(content)
        run.tags.pop(FILES_TAG)  # a run of an earlier version
    (group,) = summarise_groups(runs)
    assert group.sign_flip is None
    assert group.mean_test is not None
    assert any(f"{name} of run 00000000" in note for note in group.notes)


def test_few_subjects_cannot_be_significant(make_run):
    runs = [make_run(subject) for subject in range(1, 6)]
    noted = [note for note in summarise_groups(runs[:4])[0].notes if "cannot be significant" in note]
    assert len(noted) == 2  # majority null, sign flip: .0625
    assert all("with 4 subjects" in note for note in noted)
    # With five, 1/32; the majority null has (1/2 (1/8) + 1/2)^5 = .056.
    noted = [note for note in summarise_groups(runs)[0].notes if "cannot be significant" in note]
    assert [note.partition(":")[0] for note in noted] == ["prevalence (majority null)"]


def test_other_numbers_of_folds_and_an_unbalanced_order_are_noted(make_run):
    order = {"rule": "class_order", "verdict": "caution", "evidence": "9 of 12.", "reference": ""}
    runs = [make_run(1, n_folds="12"), make_run(5, n_folds="11", findings=[order])]
    notes = summarise_groups(runs)[0].notes
    assert any("12 folds in subject 1, 11 folds in subject 5" in note for note in notes)
    assert any("not balanced in 1 of 2 subjects" in note for note in notes)
    fair = [make_run(1), make_run(5, findings=[order | {"verdict": "ok"}])]
    assert not any("balanced" in note for note in summarise_groups(fair)[0].notes)


def test_undefined_scores_do_not_count(make_run):
    runs = [make_run(1), make_run(2), make_run(3, score=None, tested=False)]
    (group,) = summarise_groups(runs)
    assert group.n == 2
    assert group.mean_test is not None
    assert any("not defined in subject 3" in note for note in group.notes)


def test_the_record_has_metrics_members_and_valid_json(make_run):
    runs = [make_run(subject) for subject in (1, 2)]
    ((scores),) = split_groups(summarise_groups(runs))
    record = describe_group(scores)
    assert record.run_ids == (runs[0].run_id, runs[1].run_id)
    assert record.metrics["test_accuracy_mean"] == 0.875
    assert record.metrics["p_means/test_accuracy"] == 1 / 64
    assert record.metrics["p_prevalence_global/test_accuracy"] == 1 / 64
    content = json.loads(group_to_json(scores))
    assert content["scores"][0]["subjects"][1] == {
        "subject": "2",
        "run_id": runs[1].run_id,
        "score": 0.875,
        "p": None,
    }
    assert len(tabulate_subjects(scores)) == 2


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal(make_run, width):
    runs = [
        make_run(subject, score, NULL * 30, estimator=name, cv=cv)
        for name, score in (("svc", 0.875), ("ridge[alphas=[1,10]]", 0.625))
        for cv in ("logo", "kfold5")
        for subject in range(1, 7)
    ]
    groups = summarise_groups(runs)
    console = Console(width=width, file=io.StringIO())
    print_groups(console, groups)
    printed = console.file.getvalue()
    assert max(map(len, printed.splitlines())) <= width
    assert printed.count("0.875 ") == 2
    for word in ("svc", "ridge", "kfold5", "corrected over 4 groups (Holm)"):
        assert word in " ".join(printed.split())


def test_text_in_the_table_is_never_a_formula(make_run, tmp_path):
    write_group_files(summarise_groups([make_run("=1+1"), make_run(2)]), tmp_path)
    assert pd.read_csv(tmp_path / "group.csv", dtype=str)["subject"].tolist() == ["2", "'=1+1"]
