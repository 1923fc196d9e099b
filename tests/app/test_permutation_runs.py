"""The permutation test of a run, through the command line, read back with MLflow's own client."""

import pandas as pd
import pytest

from harness.app.entry import run
from harness.inference.null_scores import RelabelledAnalysis
from marks import first
from processes import read_runs

# Six scanner runs with one block of each class: 32 distinct relabellings.
TINY = [
    "dataset=haxby",
    "subject=1",
    "estimator=ridge",
    "scoring.inner=runs",
    "inference=permutation",
    "figures=off",
]


@pytest.fixture
def home(tmp_path, monkeypatch, make_store, tiny_subject):
    """A directory with an empty store; the data have six scanner runs and information in one voxel."""
    home = tmp_path / "home"
    make_store(home / "mlruns")
    monkeypatch.chdir(home)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    data = tiny_subject(n_runs=6, planted={"face": (1, 2, 2)}, effect=60)
    return home, [*TINY, f"dataset.data_dir={data}"]


def test_p_values_tag_and_null_distribution_are_stored(home):
    directory, overrides = home
    assert run(overrides) == 0
    client, (stored,) = read_runs(directory)
    metrics, tags = stored.data.metrics, stored.data.tags
    assert tags["harness.inference"] == "enumerated"
    assert metrics["n_relabellings"] == 32
    table = pd.read_csv(client.download_artifacts(stored.info.run_id, "null_distribution.csv"))
    assert len(table) == 32
    for score in ("test_accuracy", "test_roc_auc", "selected_roc_auc"):
        assert table[score].iloc[0] == pytest.approx(metrics[f"{score}_mean"], abs=1e-9)
        expected = (table[score] >= table[score].iloc[0] - 1e-10).mean()
        assert metrics[f"p_value/{score}"] == pytest.approx(expected, abs=1e-12)
    assert "32" in tags["mlflow.note.content"]
    names = {file.path for file in client.list_artifacts(stored.info.run_id)}
    assert {f"pattern_{kind}_face_vs_cat.nii.gz" for kind in ("z", "p", "p_fwe")} <= names
    assert {"stability_patterns", "p_value/stability_patterns"} <= set(metrics)


def test_relabellings_of_an_exact_solver_are_solved_together(home, monkeypatch):
    """A loop over relabellings would take ten times as long."""
    monkeypatch.setattr("harness.inference.null_scores.evaluate", lambda *_: pytest.fail("a loop"))
    _, overrides = home
    assert run([*overrides, "inference.processes=1", "inference.maps=false"]) == 0


def test_run_without_inference_has_no_p_value_and_names_the_command(home, capsys):
    directory, overrides = home
    assert run([*overrides, "inference=none"]) == 0
    _, (stored,) = read_runs(directory)
    assert not [name for name in stored.data.metrics if name.startswith("p_value")]
    assert "harness.inference" not in stored.data.tags
    assert "inference=permutation" in capsys.readouterr().out


@pytest.mark.slow
def test_processes_do_not_change_the_fingerprint(home):
    directory, overrides = home
    assert run([*overrides, "resume=true"]) == 0
    assert run([*overrides, "resume=true", "inference.processes=2"]) == 0
    assert len(read_runs(directory)[1]) == 1


@pytest.mark.slow
def test_interrupted_test_is_resumed_by_the_same_command(home, monkeypatch, capsys):
    directory, overrides = home
    overrides = [*overrides, "inference.processes=1", "inference.maps=false"]
    computed = []
    compute = RelabelledAnalysis.compute
    monkeypatch.setattr(RelabelledAnalysis, "chunk_size", 4)

    def interrupt(analysis, relabellings, rows):
        if len(computed) == 3:
            raise KeyboardInterrupt
        computed.extend([len(rows)])
        return compute(analysis, relabellings, rows)

    monkeypatch.setattr(RelabelledAnalysis, "compute", interrupt)
    assert run(overrides) == 130
    monkeypatch.setattr(RelabelledAnalysis, "compute", compute)
    resumed = []

    def count(analysis, relabellings, rows):
        resumed.append(len(rows))
        return compute(analysis, relabellings, rows)

    monkeypatch.setattr(RelabelledAnalysis, "compute", count)
    assert run(overrides) == 0
    assert sum(computed) == 12
    assert sum(resumed) == 32 - 12
    client, runs = read_runs(directory)
    assert sorted(stored.info.status for stored in runs) == ["FINISHED", "KILLED"]
    resumed.clear()
    assert run(overrides) == 0
    assert sum(resumed) == 32, "nothing is left of a test that is stored"
    tables = [
        pd.read_csv(client.download_artifacts(stored.info.run_id, "null_distribution.csv"))
        for stored in read_runs(directory)[1]
        if stored.info.status == "FINISHED"
    ]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


@pytest.mark.slow
def test_checkpoint_is_removed_once_the_run_is_stored(home):
    directory, overrides = home
    assert run(overrides) == 0
    assert not list((directory / "mlruns").rglob("relabellings/*"))


@pytest.mark.slow
def test_sweep_over_estimators_is_corrected_by_the_maximum_statistic(home, capsys):
    directory, overrides = home
    overrides = [word for word in overrides if not word.startswith("estimator")]
    assert run(["-m", *overrides, "estimator=ridge,lda"]) == 0
    client, runs = read_runs(directory)
    ids = [stored.info.run_id for stored in runs]
    files = [client.download_artifacts(identifier, "null_distribution.csv") for identifier in ids]
    z = pd.DataFrame({i: pd.read_csv(file)["test_roc_auc"] for i, file in zip(ids, files, strict=True)})
    z = (z - z.mean()) / z.std(ddof=0)
    for stored in runs:
        expected = (z.max(axis=1) >= z[stored.info.run_id].iloc[0] - 1e-10).mean()
        assert stored.data.metrics["p_fwe/test_roc_auc"] == pytest.approx(expected, abs=1e-12)
    assert "corrected" in capsys.readouterr().out


@pytest.mark.slow
def test_sequential_tests_of_a_sweep_have_no_maps_and_are_not_corrected(home):
    directory, overrides = home
    overrides = [word for word in overrides if not word.startswith("estimator")]
    assert run(["-m", *overrides, "estimator=ridge,lda", "inference.stop_early=true"]) == 0
    client, runs = read_runs(directory)
    assert len(runs) == 2
    for stored in runs:
        assert "p_value/test_roc_auc" in stored.data.metrics
        assert "p_fwe/test_roc_auc" not in stored.data.metrics
        names = {file.path for file in client.list_artifacts(stored.info.run_id)}
        assert "null_distribution.csv" in names
        assert not [name for name in names if name.startswith("pattern_p")]


@pytest.mark.slow
def test_primary_score_that_is_not_the_selecting_one_is_corrected(home):
    directory, overrides = home
    overrides = [word for word in overrides if not word.startswith("estimator")]
    assert run(["-m", *overrides, "estimator=ridge,lda", "scoring.report=[accuracy]"]) == 0
    assert all("p_fwe/test_accuracy" in stored.data.metrics for stored in read_runs(directory)[1])


def test_dummy_has_no_p_value_but_a_notice(home):
    directory, overrides = home
    assert run([*overrides, "estimator=dummy", "scoring.inner_folds=10"]) == 0
    _, (stored,) = read_runs(directory)
    assert not [name for name in stored.data.metrics if name.startswith("p_value")]
    assert "no p-value" in stored.data.tags["harness.notices"]


@pytest.mark.parametrize("override", ["inference.n=500", "inference.maps=false", "inference.seed=3"])
def test_options_of_a_test_are_refused_without_one(override, capsys):
    assert run([override]) == 2
    assert f"type inference=permutation {override}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "words"),
    first(
        2,
        [
            ("inference.n=5", "inference.n=5"),
            ("inference.n=10000000", "inference.n=10000000"),
            ("inference.limit=0", "inference.limit=0"),
            ("inference.relabel=volumes", "order_preserving"),
            ("inference.null=mine", "conditions_alike"),
            ("inference.seed=-1", "inference.seed=-1"),
            ("inference.processes=0", "inference.processes=0"),
            ("inference=permutations", "permutation"),
            ("inference.null=partition", "partition"),
        ],
    ),
)
def test_bad_option_is_one_message(home, capsys, override, words):
    _, overrides = home
    key = override.partition("=")[0]
    kept = [word for word in overrides if word.partition("=")[0] != key]
    assert run([*kept, override]) in (1, 2)
    message = capsys.readouterr().err
    assert message.startswith("error: ") and words in message
    assert "Traceback" not in message
