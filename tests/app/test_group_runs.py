"""Group summaries of sweeps over subjects, through the command line, read back with MLflow's own client."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from harness.app.entry import run
from processes import harness, read_runs
from services import start_server

SWEEP = ["-m", "subject=1,2", "estimator=ridge", "scoring.inner=runs", "figures=off"]


@pytest.fixture(scope="module")
def two_subjects(tiny_subject):
    """The data directory of two subjects of six scanner runs, with 32 distinct relabellings each."""
    home = tiny_subject(n_runs=6, planted={"face": (1, 2, 2)}, effect=60)
    other = tiny_subject(n_runs=6, planted={"face": (1, 2, 2)}, effect=40, seed=8)
    (other / "haxby2001" / "subj1").rename(home / "haxby2001" / "subj2")
    return home


@pytest.fixture
def home(tmp_path, monkeypatch, make_store, two_subjects):
    make_store(tmp_path / "mlruns")
    monkeypatch.chdir(tmp_path)
    return tmp_path, [*SWEEP, "dataset=haxby", f"dataset.data_dir={two_subjects}"]


def read_groups(directory):
    """Return the client, the runs of the groups experiment, and those of the subjects."""
    client, runs = read_runs(directory)
    kinds = {item.experiment_id: item.tags.get("harness.kind") for item in client.search_experiments()}
    groups = [item for item in runs if kinds[item.info.experiment_id] == "groups"]
    return client, groups, [item for item in runs if item not in groups]


def test_sweep_over_subjects_ends_with_a_run_of_its_own(home):
    directory, arguments = home
    process = harness(directory, *arguments, "inference=permutation", "inference.maps=false")
    assert "test accuracy over subjects" in process.stdout
    client, (group,), subjects = read_groups(directory)
    assert client.get_experiment(group.info.experiment_id).name == "haxby decoding groups"
    assert (group.info.status, group.data.params["n_subjects"]) == ("FINISHED", "2")
    assert group.data.params["estimator"] == "ridge"
    assert "subject" not in group.data.params
    assert set(group.data.tags["harness.group.runs"].split()) == {item.info.run_id for item in subjects}
    assert group.data.tags["harness.sweep"] == subjects[0].data.tags["harness.sweep"]

    nulls = []
    for item in subjects:
        path = client.download_artifacts(item.info.run_id, "null_distribution.csv")
        with Path(path).open() as file:
            nulls.append(np.array([float(row["test_accuracy"]) for row in csv.DictReader(file)]))
    metrics = group.data.metrics
    scores = [item.data.metrics["test_accuracy_mean"] for item in subjects]
    assert metrics["test_accuracy_mean"] == pytest.approx(np.mean(scores), abs=1e-12)
    assert metrics["test_accuracy_std"] == pytest.approx(np.std(scores, ddof=1), abs=1e-12)
    sums = np.add.outer(*nulls)
    assert metrics["p_means/test_accuracy"] == pytest.approx((sums >= sums[0, 0] - 1e-10).mean(), abs=1e-12)
    minima = np.minimum.outer(*nulls)
    p = (minima >= minima[0, 0] - 1e-10).mean()
    assert metrics["p_prevalence_global/test_accuracy"] == pytest.approx(p, abs=1e-12)
    content = json.loads(Path(client.download_artifacts(group.info.run_id, "group.json")).read_text())
    assert content["scores"][0]["n"] == 2
    table = Path(client.download_artifacts(group.info.run_id, "group.csv")).read_text()
    assert table.startswith("score_name,subject,run_id,score,p\ntest_accuracy,1,")
    assert "permutation of means" in group.data.tags["mlflow.note.content"]


def test_repeated_sweep_replaces_its_group_run(home, capsys):
    directory, arguments = home
    assert run(arguments) == 0
    _, (first,), subjects = read_groups(directory)
    assert "no permutation test (inference=permutation)" in " ".join(capsys.readouterr().out.split())
    assert run(arguments) == 0
    client, (second,), again = read_groups(directory)
    assert {item.info.run_id for item in again} == {item.info.run_id for item in subjects}
    assert second.info.run_id != first.info.run_id
    assert client.get_run(first.info.run_id).info.lifecycle_stage == "deleted"
    assert second.data.tags["harness.sweep"].split()[0] == first.data.tags["harness.sweep"]
    assert len(second.data.tags["harness.sweep"].split()) == 2


@pytest.mark.slow
def test_resumed_sweep_replaces_the_summary_of_fewer_subjects_but_no_smaller_study(home, two_subjects):
    directory, arguments = home
    data = two_subjects / "haxby2001"
    assert run(["subject=1,2,3" if word == "subject=1,2" else word for word in arguments]) == 1
    assert run(["subject=2,1" if word == "subject=1,2" else word for word in arguments]) == 0
    _, groups, _ = read_groups(directory)
    assert {item.data.tags["harness.group.planned"] for item in groups} == {"2"}  # the same runs
    shutil.copytree(data / "subj1", data / "subj3")
    try:
        assert run(["subject=1,2,3" if word == "subject=1,2" else word for word in arguments]) == 0
    finally:
        shutil.rmtree(data / "subj3")
    _, groups, _ = read_groups(directory)
    assert {item.data.params["n_subjects"] for item in groups} == {"2", "3"}


@pytest.mark.slow
def test_each_configuration_has_a_group_run(home):
    directory, arguments = home
    assert run([*arguments, "estimator=ridge,lda"]) == 0
    _, groups, _ = read_groups(directory)
    assert {item.data.params["estimator"] for item in groups} == {"ridge", "lda"}


@pytest.mark.slow
def test_failed_subject_is_counted(home, capsys, two_subjects):
    _, arguments = home
    assert run(["subject=1,2,9" if word == "subject=1,2" else word for word in arguments]) == 1
    assert "2 of the 3 subjects of the sweep have finished" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_sweep_over_one_subject_has_no_group_run(home):
    directory, arguments = home
    assert (
        run(["subject=1" if word == "subject=1,2" else word for word in arguments] + ["cv=logo,kfold5"]) == 0
    )
    assert read_groups(directory)[1] == []


@pytest.mark.slow
def test_unwritable_group_run_does_not_lose_the_summary(home, monkeypatch, capsys):
    directory, arguments = home

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.report.group_tables.write_group_files", fail)
    assert run(arguments) == 0
    printed = capsys.readouterr()
    assert "test accuracy over subjects" in printed.out
    assert "sweep    " in printed.out
    (line,) = [line for line in printed.err.splitlines() if line.startswith("error")]
    assert "No space left on device" in line
    assert read_groups(directory)[1] == []


def test_group_run_is_found_by_the_ui_and_by_no_other_query(home):
    from harness.errors import UsageError
    from harness.tracking.queries import RunQuery, find_run, list_experiments, select_runs
    from harness.tracking.store import local_store_uri

    directory, arguments = home
    assert run(arguments) == 0
    _, (group,), _ = read_groups(directory)
    uri = local_store_uri(directory / "mlruns")
    identifier = group.info.run_id
    assert find_run(identifier[:12], uri, with_groups=True).info.run_id == identifier
    assert find_run("latest", uri, with_groups=True).info.run_id != identifier
    with pytest.raises(UsageError, match="summary of a group of subjects"):
        find_run(identifier, uri)
    assert {item.data.params["subject"] for item in select_runs(uri, RunQuery(), 10).runs} == {"1", "2"}
    assert set(list_experiments(uri)) == {"tests", "haxby decoding"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="PostgreSQL is started as POSIX systems do")
def test_group_run_on_a_server(home):
    directory, arguments = home
    with start_server() as server:
        store = ["tracking=server", f"tracking.uri={server.uri}"]
        process = harness(directory, *arguments, *store)
        client = MlflowClient(server.uri)
        experiment = client.get_experiment_by_name("haxby decoding groups")
        (group,) = client.search_runs([experiment.experiment_id])
        path = Path(client.download_artifacts(group.info.run_id, "group.csv"))
        assert len(path.read_text().splitlines()) == 1 + 2 * 2  # subjects, scores
    assert f"{server.uri}/#/experiments/{experiment.experiment_id}/runs/{group.info.run_id}" in process.stdout
