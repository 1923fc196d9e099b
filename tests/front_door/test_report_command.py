"""``python -m harness report`` as a user starts it, in another directory."""

import pytest

from processes import harness, read_runs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    harness(folder, "estimator=svc", "cv=logo")
    return folder


def test_the_report_of_a_run_is_written_and_logged(store):
    client, (run,) = read_runs(store)
    process = harness(store, "report", run.info.run_id[:8])
    page = store / "mlruns" / "reports" / run.info.run_id / "index.html"
    assert f"page     {page}" in process.stdout
    content = page.read_text(encoding="utf-8")
    assert "Can face vs cat be decoded from vt of subject 2 (simulated)?" in content
    assert "This section is missing" not in content
    assert f"{run.data.metrics['test_roc_auc_mean']:.3f}" in content
    names = {file.name for file in page.parent.iterdir()}
    drawn = ("scores", "confusion", "score_by_parameter", "maps", "volumes")
    assert {f"{name}{suffix}" for name in drawn for suffix in (".png", ".svg")} <= names
    logged = {item.path for item in client.list_artifacts(run.info.run_id, "report")}
    assert {"report/index.html", "report/maps.svg"} <= logged
    after = client.get_run(run.info.run_id)
    assert after.info.status == "FINISHED"
    assert after.data.metrics == run.data.metrics
    assert after.data.tags == run.data.tags


def test_a_report_of_filtered_runs_goes_to_its_own_directory(store, tmp_path):
    process = harness(store, "report", "estimator=svc", "--out", str(tmp_path / "out"))
    assert (tmp_path / "out" / "index.html").is_file()
    assert "not copied" in process.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "which run or sweep?"),
        (
            ("nosuchrun",),
            "another directory are in its mlruns: change to that directory, or name it with --folder",
        ),
        (("--sweep", "latest"), "there are no sweeps"),
        (("estimator=lda",), "no runs match"),
        (("one", "two"), "a report is on one run or one sweep"),
        (("latest", "subject=2"), "is one run, which subject=2 cannot select"),
        (("latest", "--no-images", "--out", "mlruns/mlflow.db"), "choose another directory with --out"),
    ],
)
def test_bad_input_is_one_message(store, words, message, monkeypatch, capsys):
    from harness.app.verbs import run_verb

    monkeypatch.chdir(store)
    assert run_verb(["report", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
