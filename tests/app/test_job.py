"""A run reads its data once, and is stored even if they cannot be read."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from harness.app.entry import run
from harness.datasets import images
from marks import first
from processes import read_runs

CONFIGURATIONS = {
    "haxby": ["dataset=haxby", "dataset.data_dir={root}"],
    "nifti": [
        "dataset=nifti",
        "++dataset.bold='{root}/sub-{{subject:02d}}/run-?.nii.gz'",
        "++dataset.events='{root}/sub-{{subject:02d}}/events-?.tsv'",
        "++dataset.masks.vt='{root}/sub-{{subject:02d}}/vt.nii.gz'",
    ],
    "bids": ["dataset=bids", "++dataset.root={root}", "roi=brain", "scoring.inner_folds=5"],
}


@pytest.fixture
def reads(monkeypatch):
    """Count how often every file is opened by what reads whole images."""
    counts = Counter()
    open_file = images.HashedFile.__init__

    def count(self, path):
        counts[Path(path).name] += 1
        open_file(self, path)

    monkeypatch.setattr(images.HashedFile, "__init__", count)
    return counts


@pytest.fixture
def run_job(request, tmp_path, monkeypatch, make_store, reads):
    """Return a function that runs overrides in this process, and returns the largest number of reads."""
    layout = request.param
    fixture = {"haxby": "tiny_subject", "nifti": "nifti_study", "bids": "bids_study"}[layout]
    data = request.getfixturevalue(fixture)
    root = data if layout == "nifti" else data()
    home = tmp_path / "home"
    make_store(home / "mlruns")
    monkeypatch.chdir(home)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    fixed = [word.format(root=root) for word in CONFIGURATIONS[layout]]
    fixed += ["subject=1", "estimator=dummy", "scoring.inner_folds=2", "figures=off"]

    def run_job(*overrides):
        reads.clear()
        status = run([*fixed, *overrides])
        counts = {n for name, n in reads.items() if name.endswith("bold.nii.gz") or name.startswith("run-")}
        return status, counts

    run_job.home, run_job.root = home, root
    return run_job


@pytest.mark.parametrize("run_job", first(1, CONFIGURATIONS), indirect=True)
def test_image_is_read_at_most_once(run_job, monkeypatch):
    assert run_job("resume=true") == (0, {1}), "cold cache"
    assert run_job("resume=true") == (0, set()), "finished before"
    assert run_job("resume=false") == (0, set()), "warm cache"
    assert run_job("resume=false", "cache=false") == (0, {1})
    _, runs = read_runs(run_job.home)
    assert len(runs) == 3, "the second one was skipped"
    for name in ("fingerprint.fingerprint_run", "provenance.digest_code"):
        monkeypatch.setattr(f"harness.tracking.{name}", lambda *args: pytest.fail("fingerprinted"))
    assert run_job("tracking=off", "cache=false") == (0, {1})
    assert run_job("tracking=off") == (0, set())


@pytest.mark.parametrize("run_job", first(1, ["haxby"]), indirect=True)
def test_data_are_loaded_and_digested_once(run_job, monkeypatch):
    from harness.datasets.haxby import Haxby
    from harness.samples import samples

    calls = Counter()

    def count(name, function):
        def counted(*args, **kwargs):
            calls[name, str(args[0]) if name == "digest_files" else ""] += 1
            return function(*args, **kwargs)

        return counted

    monkeypatch.setattr(Haxby, "load", count("load", Haxby.load))
    for name in ("read_mask", "select_confounds", "digest_files"):
        monkeypatch.setattr(samples, name, count(name, getattr(samples, name)))
    assert run_job("signal=per_run")[0] == 0
    assert {name for name, _ in calls} == {"load", "read_mask", "select_confounds", "digest_files"}
    assert set(calls.values()) == {1}, calls
    calls.clear()
    assert run_job("signal=per_run", "tracking=off")[0] == 0
    assert not [file for name, file in calls if name == "digest_files"], "no digest without tracking"


@pytest.mark.parametrize("run_job", ["haxby"], indirect=True)
def test_audit_is_printed_tagged_described_and_stored(run_job, capsys, tmp_path):
    """The 14 held-out of 32 volumes are three blocks of four volumes and half of another."""
    assert run_job("cv=holdout30", "cv.n_volumes=14", "contrast=face_vs_cat")[0] == 0
    printed = capsys.readouterr().out
    assert "leak     blocks_split: 1 of 8 blocks on both sides of a split (1 of 1 folds)\n" in printed
    assert printed.index("leak     blocks_split") < printed.index("caution  runs_split")
    assert re.search(r"\naudit    leak \(2 leaks, \d cautions, \d+ ok\); audit.json\n", printed)
    client, (stored,) = read_runs(run_job.home)
    assert stored.data.tags["harness.audit"] == "leak"
    assert "leak, blocks_split: 1 of 8 blocks" in stored.data.tags["mlflow.note.content"]
    file = client.download_artifacts(stored.info.run_id, "audit.json", str(tmp_path))
    findings = json.loads(Path(file).read_text())
    assert {key for finding in findings for key in finding} == {"rule", "verdict", "evidence", "reference"}
    assert [finding["rule"] for finding in findings if finding["verdict"] == "leak"] == [
        "blocks_split",
        "neighbours",
    ]
    assert run_job("cv=holdout30", "cv.n_volumes=14", "contrast=face_vs_cat", "resume=true")[0] == 0
    assert "audit    leak; audit.json of that run" in capsys.readouterr().out


@pytest.mark.parametrize("run_job", ["haxby"], indirect=True)
def test_run_whose_image_cannot_be_read_is_stored_as_failed(run_job, capsys):
    bold = run_job.root / "haxby2001" / "subj1" / "bold.nii.gz"
    bold.write_bytes(bold.read_bytes()[:5000])
    assert run_job() == (1, {1})
    _, (stored,) = read_runs(run_job.home)
    assert stored.info.status == "FAILED"
    assert "bold.nii.gz" in stored.data.tags["harness.error"]
    assert "bold.nii.gz" in capsys.readouterr().err
    labels = bold.with_name("labels.txt")
    labels.unlink()
    assert run_job()[0] == 1
    _, runs = read_runs(run_job.home)
    assert [run.info.status for run in runs] == ["FAILED", "FAILED"]
