"""Documented Python gives the results of the command line; importing the package is light."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from documented_pages import is_compared, list_steps

import harness
from processes import harness as run_harness
from processes import read_runs

BLOCKS = [step for step in list_steps() if is_compared(step)]
SHOW = """
import json
folds = {name: [float(value).hex() for value in decoding.folds[name]] for name in decoding.score_columns}
means = {name: float(value).hex() for name, value in decoding.flat_scores().items()}
best = [float(value).hex() for value in decoding.folds["best_C"]]
values = [float(value).hex() for value in decoding.predictions["decision_value"]]
name = decoding.question.estimator.name
found = {"folds": folds, "means": means, "best_C": best, "values": values, "name": name}
print("\\n" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def command_line(tmp_path_factory):
    """Client and run of the command that the Python blocks replace."""
    folder = tmp_path_factory.mktemp("command line")
    run_harness(folder, "estimator=svc", "cv=logo", "figures=off")
    client, (run,) = read_runs(folder)
    return client, run


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=[f"{step.page}-{step.line}" for step in BLOCKS])
def test_the_notebook_example_has_the_metrics_of_the_command_line(block, command_line, tmp_path):
    client, run = command_line
    process = subprocess.run(
        [sys.executable, "-c", block.text + SHOW],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout.splitlines()[-1])
    assert found["name"] == run.data.params["estimator"]
    assert found["means"]["test_accuracy_mean"]
    for name, value in found["means"].items():
        assert float.fromhex(value) == run.data.metrics[name], name
    file = client.download_artifacts(run.info.run_id, "predictions.csv", str(tmp_path))
    with Path(file).open(newline="") as table:
        stored = [float(row["decision_value"]) for row in csv.DictReader(table)]
    assert [float.fromhex(value) for value in found["values"]] == stored
    assert len(found["folds"]) >= 4
    for name, values in [*found["folds"].items(), ("best_C", found["best_C"])]:
        key = re.sub("^(test|selected)_", r"\1/", name)
        history = sorted(client.get_metric_history(run.info.run_id, key), key=lambda item: item.step)
        assert [float.fromhex(value) for value in values] == [item.value for item in history], name


def test_python_that_replaces_a_command_is_documented():
    assert len(BLOCKS) >= 2


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, harness\n"
        "heavy = {'hydra', 'nilearn', 'sklearn', 'mlflow', 'pandas', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "harness.Simulated\n"
        "heavy = {'hydra', 'mlflow', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr


def test_every_name_of_the_package_can_be_imported():
    assert "decode" in harness.__all__
    assert set(harness.__all__) <= set(dir(harness))
    for name in harness.__all__:
        assert getattr(harness, name).__module__.startswith("harness."), name
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = harness.no_such_name
    with pytest.raises(ImportError, match="no_such_name"):
        from harness import no_such_name  # noqa: F401


def test_composed_objects_equal_those_of_the_package():
    request = harness.compose_request(["estimator=svc", "cv=logo"])
    assert request.question.estimator.name == "svc"
    assert type(request.question.estimator.model) is harness.ExactLinearSVC
    assert request.question.roi == harness.Roi()
    assert request.question.signal == harness.Signal()
    assert request.question.scoring == harness.Scoring()
    assert request.question.contrast.members == harness.make_contrast(["face", "cat"]).members
