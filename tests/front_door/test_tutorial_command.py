"""``python -m harness tutorial`` as a process: its sweep, its comparison, its page, and its exit status."""

import json
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from processes import harness, read_runs

N_RUNS, BLOCK = 12, 4  # of the subject on disk, which has one block of each condition per scanner run


def write_values(file, n_samples):
    """Write values that the design of the subject decides: volumes, mask and labels."""
    content = {
        "source": "the design",
        "settings": {"dataset": "haxby", "subject": 1},
        "sections": {
            "fit_on_all": {
                "n_samples": {"value": n_samples},
                "class_counts": {"value": [N_RUNS * BLOCK] * 2},
                "class_order": {"value": ["cat", "face"]},
            },
            "coefficients": {"n_voxels": {"value": 4 * 5 * 4}, "coef_shape": {"value": [1, 4 * 5 * 4]}},
            "holdout30": {"test_accuracy": {"value": None}},
        },
    }
    file.write_text(json.dumps(content))


def list_finished(folder):
    return [run for run in read_runs(folder)[1] if run.info.status == "FINISHED"]


@pytest.mark.slow
def test_an_interrupted_tutorial_is_resumed_and_compared(tmp_path, tiny_subject):
    data = ["dataset=haxby", f"dataset.data_dir={tiny_subject(n_runs=N_RUNS)}", "subject=1"]
    command = ["tutorial", *data, "--published", "values.json"]
    write_values(tmp_path / "values.json", 2 * N_RUNS * BLOCK - 1)

    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *command], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 200
    sweeps = tmp_path / "mlruns" / "sweeps"
    while not list(sweeps.glob("*/jobs/*.finished")) and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 130, errors
    assert "the same command resumes the sweep" in errors
    before = {run.info.run_id for run in list_finished(tmp_path)}
    assert 1 <= len(before) < 6

    # One value of the file is wrong, which shows in the exit status.
    process = harness(tmp_path, *command, "--csv", "cells.csv", "--json", check=False)
    assert process.returncode == 1
    shown = json.loads(process.stdout)
    after = {run.info.run_id for run in list_finished(tmp_path)}
    assert before < after
    assert len(after) == 6
    assert set(shown["runs"].values()) == after
    assert f"{len(before)} skipped" in process.stderr
    assert shown["cells"][0] == {
        "section": "fit_on_all",
        "quantity": "n_samples",
        "fold": None,
        "published": 95,
        "obtained": 96,
        "verdict": "differs",
        "difference": 1.0,
        "reason": "",
    }
    table = pd.read_csv(tmp_path / "cells.csv")
    assert table["verdict"].tolist() == ["differs"] + ["equal"] * 4 + ["not applicable"]
    (directory,) = (tmp_path / "mlruns" / "tutorial").iterdir()  # that of the interrupted command
    page = directory / "index.html"
    text = page.read_text()
    assert f"python -m harness -cn tutorial/holdout30 {' '.join(data)}" in text
    assert 'href="inspection/index.html"' in text
    assert (page.parent / "inspection" / "index.html").is_file()
    # The figures of the sections, and none that is missing.
    assert text.count("<img") == 7
    assert "is missing" not in text
