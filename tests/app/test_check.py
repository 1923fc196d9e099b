"""The verb check: its exit status, its messages, and what it refuses."""

import json

import pytest

from harness.app.verbs import run_verb
from processes import harness


@pytest.fixture(scope="module")
def overrides(tiny_subject):
    """Of a subject whose five scanner runs show face before cat in three, and cat before house in four."""
    data_dir = tiny_subject(n_runs=5)
    return ["dataset=haxby", f"dataset.data_dir={data_dir}", "subject=1", "cache=false"]


def check(overrides, directory, *more):
    return run_verb(["check", *overrides, *more, "--out", str(directory)])


def test_a_design_without_findings_has_status_0(overrides, tmp_path, capsys):
    assert check(overrides, tmp_path / "page", "contrast=face_vs_cat") == 0
    printed = capsys.readouterr()
    assert "None of the" in printed.out
    assert f"page     {tmp_path / 'page' / 'index.html'}" in printed.out
    assert printed.err == ""
    record = json.loads((tmp_path / "page" / "design.json").read_text())
    assert record["order"][0]["k"] == 3
    assert record["relabellings"] == "enumerated"
    # 2 orders in each of 5 scanner runs; renaming the classes halves them.
    assert record["n_relabellings"] == 16


def test_an_unbalanced_order_has_status_1(overrides, tmp_path, capsys):
    assert check(overrides, tmp_path, "contrast=cat_vs_house", "estimator=ridge") == 1
    assert "'cat' comes before 'house' in 4 of 5 scanner runs" in capsys.readouterr().out


def test_options_of_inference_choose_the_relabellings(overrides, tmp_path):
    more = ["inference=permutation", "inference.n=19", "inference.limit=1", "signal.average_blocks=true"]
    check(overrides, tmp_path, "estimator=ridge", *more)
    record = json.loads((tmp_path / "design.json").read_text())
    assert (record["relabellings"], record["n_relabellings"]) == ("random", 20)


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        (["estimator=dummy"], 2, "labels alone"),
        (["estimator=svd"], 2, "Did you mean 'svc'?"),
        (["inference=permutation", "inference.relabel=order_preserving"], 2, "exchanges blocks within"),
        (["contrast=face_vs_shoe"], 1, "'shoe'"),
        (["cv.splitter=x"], 2, "splitter"),
        (["roi=nowhere.nii"], 2, "nowhere"),
    ],
)
def test_what_a_run_refuses_is_refused(overrides, tmp_path, capsys, more, status, words):
    assert check(overrides, tmp_path / "page", *more) == status
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and words in printed.err
    assert "Traceback" not in printed.err
    assert not (tmp_path / "page").exists()


def test_a_single_scanner_run_is_refused_with_a_reason(tiny_subject, tmp_path, capsys):
    overrides = ["dataset=haxby", f"dataset.data_dir={tiny_subject(n_runs=1)}", "subject=1", "cache=false"]
    assert check(overrides, tmp_path / "page") == 1
    assert "cv=logo cannot split" in capsys.readouterr().err
    assert not (tmp_path / "page").exists()
    assert check(overrides, tmp_path, "cv=stratified5", "cv.n_splits=2") == 1
    assert "no other order of the classes" in capsys.readouterr().err


def test_a_directory_that_cannot_be_written_is_reported_before_the_check(overrides, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert check(overrides, tmp_path / "file") == 2
    assert "choose another directory with --out" in capsys.readouterr().err


def test_an_interrupted_check_has_status_130_and_leaves_no_page(overrides, tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.report.design_page.draw_accuracies", interrupt)
    assert check(overrides, tmp_path, "estimator=ridge") == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_process_exits_with_the_status_of_the_check(overrides, tmp_path):
    found = harness(tmp_path, "check", *overrides, "contrast=cat_vs_house", check=False)
    assert found.returncode == 1
    assert found.stderr == ""
    (page,) = tmp_path.glob("mlruns/check/*/index.html")
    assert f"page     {page}" in found.stdout
    assert harness(tmp_path, "check", *overrides, "contrast=face_vs_cat", check=False).returncode == 0
    assert harness(tmp_path, "check", *overrides, "contrast=face_vs_ct", check=False).returncode == 2
    assert "exit status" in harness(tmp_path, "check", "--help").stdout
