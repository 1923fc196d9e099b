"""Comparisons of runs by processes, in another directory than the checkout."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from processes import harness, read_runs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_subject):
    """Return a directory with runs of two estimators under two schemes, and one of another mask."""
    folder = tmp_path_factory.mktemp("comparing")
    data = ["dataset=haxby", f"dataset.data_dir={tiny_subject()}", "subject=1", "figures=off"]
    harness(folder, "-m", *data, "scoring.inner_folds=2", "estimator=ridge,lda", "cv=logo,stratified5")
    return folder


def test_by_tests_the_folds_that_the_runs_stored(store):
    process = harness(store, "compare", "by=estimator", "--json", "--csv", "pairs.csv")
    found = json.loads(process.stdout)
    by_scheme = {item["fixed"]["cv"]: item for item in found["comparisons"]}
    assert set(by_scheme) == {"logo", "stratified5"}
    client, runs = read_runs(store)
    folds = {
        run.data.params["estimator"]: pd.read_csv(client.download_artifacts(run.info.run_id, "folds.csv"))
        for run in runs
        if run.data.params["cv"] == "logo"
    }
    (pair,) = by_scheme["logo"]["table"]
    d = folds["lda"]["test_accuracy"] - folds["ridge"]["test_accuracy"]
    assert (pair["first"], pair["second"], pair["n"]) == ("lda", "ridge", 4)
    np.testing.assert_allclose(pair["difference"], d.mean(), atol=1e-12)
    assert "n_test/n_train 0.333" in by_scheme["logo"]["test"]
    assert by_scheme["stratified5"]["refusal"].startswith("no p-value")
    assert len(pd.read_csv(store / "pairs.csv")) == 2


def test_printed_comparisons_name_tests_and_refusals(store):
    printed = harness(store, "compare", "by=estimator").stdout
    for words in ("baseline: no difference", "correction: none, one pair", "the audit calls the runs leaky"):
        assert words in printed
    pivot = harness(store, "compare", "--pivot", "estimator,cv").stdout
    assert "within each cv only" in pivot
    ranked = harness(store, "compare").stdout
    assert "The best first within each cv" in ranked
    assert "permutation" in harness(store, "compare", "--chance").stdout


def test_an_edited_file_leaves_its_run_out(store, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(store, copy)
    harness(copy, "relocate")
    _, runs = read_runs(copy)
    (run,) = [r for r in runs if r.data.params["cv"] == "logo" and r.data.params["estimator"] == "lda"]
    (copy / "mlruns" / "artifacts" / run.info.run_id / "artifacts" / "folds.csv").write_text("fold\n1\n")
    process = harness(copy, "compare", "by=estimator", "cv=logo", check=False)
    assert process.returncode == 1
    assert process.stderr.count("\n") == 1
    assert f"folds.csv of run {run.info.run_id[:8]}" in process.stderr
    assert "was edited" in process.stderr
