"""Maps over subjects at the end of a sweep of searchlights and later, read back with MLflow's own client."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from harness.app.entry import run
from harness.app.verbs import run_verb
from processes import read_runs

SEARCHLIGHT = ["analysis=searchlight", "analysis.radius=8", "analysis.min_voxels=2", "estimator=ridge"]


@pytest.fixture(scope="module")
def two_subjects(tiny_subject):
    """Options of two subjects of six scanner runs in one space, with 32 distinct relabellings each."""
    home = tiny_subject(n_runs=6, planted={"face": (1, 2, 2)}, effect=60)
    other = tiny_subject(n_runs=6, planted={"face": (1, 2, 2)}, effect=60, seed=8)
    (other / "haxby2001" / "subj1").rename(home / "haxby2001" / "subj2")
    for subject in (1, 2):
        directory = home / "haxby2001" / f"subj{subject}"
        text = (directory / "labels.txt").read_text().replace("labels chunks", "condition run")
        (directory / "labels.tsv").write_text(text.replace(" ", "\t"))
    place = f"{home}/haxby2001/subj{{subject}}"
    masks = f"{{brain: '{home}/haxby2001/mask.nii.gz'}}"
    return [
        *("dataset=nifti", f"dataset.bold='{place}/bold.nii.gz'", f"dataset.labels='{place}/labels.tsv'"),
        *("dataset.t_r=2.5", f"dataset.masks={masks}", "roi=brain", "figures=off"),
    ]


@pytest.fixture
def home(tmp_path, monkeypatch, make_store, two_subjects):
    make_store(tmp_path / "mlruns")
    monkeypatch.chdir(tmp_path)
    return tmp_path, [*SEARCHLIGHT, *two_subjects]


def read_groups(directory):
    """Return the client, the runs of the groups experiment, and those of the subjects."""
    client, runs = read_runs(directory)
    kinds = {item.experiment_id: item.tags.get("harness.kind") for item in client.search_experiments()}
    groups = [item for item in runs if kinds[item.info.experiment_id] == "groups"]
    return client, groups, [item for item in runs if item not in groups]


def load(client, item, name):
    return nib.load(client.download_artifacts(item.info.run_id, name)).get_fdata()


def test_sweep_of_searchlights_ends_with_maps_over_subjects(home, capsys):
    directory, arguments = home
    words = ["-m", "subject=1,2", *arguments, "dataset.space=template", "inference=permutation"]
    assert run(words) == 0
    assert "searchlight maps over subjects" in capsys.readouterr().out
    client, (group,), subjects = read_groups(directory)
    assert (group.info.status, group.data.params["n_subjects"]) == ("FINISHED", "2")
    assert set(group.data.tags["harness.group.runs"].split()) == {item.info.run_id for item in subjects}
    scores = [load(client, item, "searchlight_face_vs_cat.nii.gz") for item in subjects]
    mean = load(client, group, "group_mean_face_vs_cat.nii.gz")
    np.testing.assert_allclose(mean, np.mean(scores, axis=0), atol=1e-12)
    # Both subjects have their information in this voxel, so that it is in the spheres with the largest mean.
    p = load(client, group, "group_p_fwe_face_vs_cat.nii.gz")
    nulls = []
    for item in subjects:
        stored = np.load(client.download_artifacts(item.info.run_id, "relabelled_maps.npz"))
        kept = stored["maps"].astype(np.float64)
        assert str(stored["space"]) == "template"
        nulls.append((kept - kept.mean(axis=0)) / np.where(kept.std(axis=0) > 0, kept.std(axis=0), 1))
    maxima = np.array([(first + second).max() for first in nulls[0] for second in nulls[1]])
    expected = [(maxima >= value - 1e-6).mean() for value in nulls[0][0] + nulls[1][0]]
    np.testing.assert_allclose(p.ravel()[stored["voxels"]], expected, atol=1e-9)
    content = json.loads(Path(client.download_artifacts(group.info.run_id, "group_maps.json")).read_text())
    assert content["space"] == "template"
    assert group.data.metrics["smallest_p/means"] == pytest.approx(min(expected))

    capsys.readouterr()
    assert run_verb(["report", "--sweep", "latest", "--no-log", "--out", str(directory / "page")]) == 0
    page = next((directory / "page").glob("*.html")).read_text()
    assert "Searchlight maps over subjects" in page
    assert "permutation of means, maximum statistic" in page
    assert group.info.run_id[:8] in page
    assert list((directory / "page").rglob("group_maps*.png"))


@pytest.mark.slow
def test_subjects_run_one_by_one_are_compared_later(home, capsys):
    directory, arguments = home
    for subject in (1, 2):
        words = [*arguments, "dataset.space=template", "inference=permutation", f"subject={subject}"]
        assert run(words) == 0
    capsys.readouterr()
    assert run_verb(["compare", "--maps", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [group["n"] for group in content["groups"]] == [2]
    assert run_verb(["compare", "--maps"]) == 0
    _, (group,), _ = read_groups(directory)  # the second replaces the first
    assert group.data.params["n_subjects"] == "2"
    assert run_verb(["compare", "--maps", "subject=1"]) == 1
    assert "all of subject 1" in capsys.readouterr().err


@pytest.mark.slow
def test_subjects_without_a_common_space_have_no_group_run(home, capsys):
    directory, arguments = home
    assert run(["-m", "subject=1,2", *arguments]) == 0
    assert "not in a common space" in " ".join(capsys.readouterr().out.split())
    assert read_groups(directory)[1] == []
    assert run_verb(["compare", "--maps"]) == 1


@pytest.mark.slow
def test_full_disk_leaves_the_summary_and_no_group_run(home, monkeypatch, capsys):
    directory, arguments = home

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.report.group_map_files.write_group_maps", fail)
    assert run(["-m", "subject=1,2", *arguments, "dataset.space=template"]) == 0
    printed = capsys.readouterr()
    assert "searchlight maps over subjects" in printed.out
    (line,) = [line for line in printed.err.splitlines() if line.startswith("error")]
    assert "No space left on device" in line
    assert read_groups(directory)[1] == []
