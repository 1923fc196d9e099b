"""Why two runs differ, and which of it can move the score."""

import json
import shutil
from pathlib import Path

import pytest

from harness.app.entry import run
from harness.app.verbs import run_verb
from processes import read_runs

pytestmark = pytest.mark.slow

CONDITIONS = ("face", "cat", "house")
TEST = ["inference=permutation", "inference.force=true", "inference.maps=false", "inference.processes=1"]


@pytest.fixture(scope="module")
def home(tmp_path_factory, make_store, tiny_subject):
    """A store with seven runs; the first is the one that the others are compared with."""
    home = tmp_path_factory.mktemp("explain")
    make_store(home / "mlruns")
    planted = {name: (0, number, 0) for number, name in enumerate(CONDITIONS)}
    shutil.copytree(tiny_subject(n_runs=4, conditions=CONDITIONS, planted=planted, effect=30), home / "data")
    shutil.copytree(home / "data", home / "moved")
    changes = {
        "first": [],
        "moved": ["dataset.data_dir=moved", "resume=false", "cache=false"],
        "brain": ["roi=brain", "signal.detrend=true"],
        "kfold": ["cv=kfold5", "cv.n_splits=3"],
        "house": ["contrast=face_vs_house"],
        "test": TEST,
        "failed": ["signal.lag=30"],
    }
    base = [
        "dataset=haxby",
        "subject=1",
        "estimator=lda",
        "figures=off",
        "scoring.inner_folds=2",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for name, words in changes.items():
            data = [] if name == "moved" else ["dataset.data_dir=data"]
            assert run([*base, *data, *words]) == int(name == "failed")
    _, runs = read_runs(home)
    ids = [stored.info.run_id for stored in sorted(runs, key=lambda stored: stored.info.start_time)]
    home_of = dict(zip(changes, ids, strict=True))
    return home, home_of


@pytest.fixture
def explain(home, monkeypatch, capsys):
    """Return a function from a run to why it differs from the first, as JSON."""
    directory, ids = home
    monkeypatch.chdir(directory)

    def explain_run(name, *arguments):
        assert run_verb(["explain", ids["first"], ids[name], "--json", *arguments]) == 0
        return json.loads(capsys.readouterr().out)

    return explain_run


def effects(found):
    return {(item["part"], item["name"]): item["effect"] for item in found["differences"]}


def test_moved_data_and_cache_cannot_move_the_score(explain):
    found = explain("moved")
    assert found["identical"]
    assert effects(found) == {
        ("choice", "location"): "no",
        ("setting", "dataset.data_dir"): "no",
        ("setting", "cache"): "no",
        ("setting", "resume"): "no",
    }
    assert found["volumes"]["changed"] == 0
    assert all(row["difference"] == 0 for row in found["scores"])


def test_region_and_signal_can_move_the_score(explain):
    found = explain("brain", "--volumes", "3")
    assert not found["identical"]
    assert effects(found) == {
        ("choice", "roi"): "yes",
        ("choice", "signal"): "yes",
        ("setting", "roi.mask"): "yes",
        ("setting", "signal.detrend"): "yes",
        ("data", "mask"): "yes",
        ("samples", "n_voxels"): "yes",
    }
    volumes = found["volumes"]
    assert volumes["joined"] == 4 * 2 * 4
    assert len(volumes["largest"]) == 3
    sizes = [abs(row["difference"]) for row in volumes["largest"]]
    assert sizes == sorted(sizes, reverse=True)


def test_other_folds_are_described(explain):
    found = explain("kfold")
    (folds,) = [item for item in found["differences"] if item["part"] == "folds"]
    assert folds["effect"] == "yes"
    assert (folds["first"], folds["second"]) == ("4 folds of 8", "3 folds of 10 to 11")
    assert found["volumes"]["notes"] == ["the folds differ: volumes are joined by their number alone"]


def test_settings_of_a_test_move_p_values_only(explain):
    found = explain("test")
    assert effects(found) == {
        ("choice", "inference"): "p-values only",
        ("setting", "inference.kind"): "p-values only",
        ("setting", "inference.maps"): "p-values only",
        ("setting", "inference.force"): "p-values only",
        ("setting", "inference.processes"): "no",
        ("relabellings", "list"): "p-values only",
    }
    assert found["volumes"]["changed"] == 0
    scores = {row["score"]: row["difference"] for row in found["scores"]}
    assert scores["test_accuracy"] == 0
    assert scores["p_value/test_accuracy"] is None


def test_other_classes_have_no_volumes_in_common(explain):
    found = explain("house")
    assert "differ in contrast (face_vs_cat, face_vs_house)" in found["volumes"]["reason"]
    assert effects(found)["choice", "contrast"] == "yes"


def test_run_without_results_is_explained_by_its_settings(explain, home):
    found = explain("failed")
    assert not found["identical"]
    assert any("is FAILED and has no results" in text for text in found["missing"])
    assert "FAILED" in found["volumes"]["reason"]


def test_edited_and_missing_files_are_named_and_the_rest_is_explained(explain, home):
    _, ids = home
    client, _ = read_runs(home[0])
    directory = Path(client.get_run(ids["brain"]).info.artifact_uri.removeprefix("file://"))
    before = {name: (directory / name).read_bytes() for name in ("predictions.csv", "config.yaml")}
    (directory / "predictions.csv").write_text("volume\n1\n")
    (directory / "config.yaml").unlink()
    try:
        found = explain("brain")
    finally:
        for name, content in before.items():
            (directory / name).write_bytes(content)
    for name in before:
        assert [text for text in found["missing"] if name in text], name
    assert effects(found)["data", "mask"] == "yes"
    assert effects(found)["choice", "roi"] == "yes"


def test_identical_runs_are_printed_as_such(home, monkeypatch, capsys):
    directory, ids = home
    monkeypatch.chdir(directory)
    assert run_verb(["explain", ids["first"][:12], ids["moved"][:12]]) == 0
    printed = capsys.readouterr().out
    assert "numbers  identical in every number" in printed
    assert "0 with another predicted class, 0 with another decision value" in printed
    assert run_verb(["explain", ids["first"], ids["brain"], "--volumes", "2"]) == 0
    assert "decision values that differ most" in capsys.readouterr().out


def test_usage_errors_are_one_message(home, monkeypatch, capsys):
    directory, ids = home
    monkeypatch.chdir(directory)
    assert run_verb(["explain", ids["first"], ids["first"]]) == 2
    assert "give two different runs" in capsys.readouterr().err
    assert run_verb(["explain", ids["first"], "no-such-run"]) == 2
    assert "no-such-run" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        run_verb(["explain", ids["first"], ids["brain"], "--volumes", "-1"])
    assert caught.value.code == 2
