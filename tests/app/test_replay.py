"""A replay of every kind of run is identical; what changed since is reported."""

import gzip
import io
import json
import shutil
from pathlib import Path

import harness.conf
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from harness.app.entry import run
from harness.app.verbs import run_verb
from harness.inference.null_scores import RelabelledAnalysis
from harness.tracking.file_digests import write_digests
from harness.tracking.relocation import relocate_store
from marks import first
from processes import read_runs

CONF = Path(harness.conf.__path__[0])
CONDITIONS = ("face", "cat", "house", "chair", "bottle", "scissors", "shoe", "scrambledpix")
PERMUTATION = ["inference=permutation", "estimator=ridge", "scoring.inner=runs", "inference.processes=1"]
RANDOM = ["inference.n=30", "inference.limit=2"]  # random relabellings, although there are few distinct ones
FEW = ["inference.n=19", "inference.limit=2"]
LIBLINEAR = ["estimator._target_=sklearn.svm.LinearSVC", "estimator.C=1", "~estimator.grid"]
FOUR_CLASSES = "contrast.conditions=[{one:[face,cat]},house,chair,shoe]"
MAP = ["analysis=searchlight", "analysis.radius=6", "analysis.min_voxels=3", "estimator=ridge"]
TESTED_MAP = [*MAP, "inference=permutation", "inference.n=30", "inference.limit=2"]
# Every option that can change how a number is computed; in the default suite, one of each mechanism.
KINDS = {
    "svc": [],
    "train_only": ["signal=train_only", "estimator=lda"],
    "dummy": ["estimator=dummy", "seed=3"],
    "random_test": [*PERMUTATION, *RANDOM, "cv=holdout30"],
    "all8": ["contrast=all8", "estimator=ridge"],
    "ridge": ["estimator=ridge"],
    "ridge_fixed": ["estimator=ridge_fixed"],
    "logistic": ["estimator=logistic"],
    "svc_liblinear": ["estimator=svc_liblinear"],
    "svc_l1": ["estimator=svc_l1"],
    "logistic_liblinear": ["estimator=logistic_liblinear", "cv=holdout30"],
    "dummy_prior": ["estimator=dummy", "estimator.strategy=prior"],
    "grid": ["estimator.grid.C=[0.1,3,1e3]"],
    "another_class": [*LIBLINEAR, "++estimator.random_state=2"],
    "kfold5": ["cv=kfold5"],
    "stratified5": ["cv=stratified5"],
    "shuffled": ["cv=stratified5", "cv.shuffle=true", "cv.random_state=5"],
    "holdout30": ["cv=holdout30", "cv.n_volumes=13"],
    "incomplete": ["cv=kfold5", "cv.n_splits=8", "cv.incomplete=skip"],
    "per_run": ["signal=per_run"],
    "detrended": ["signal.detrend=true"],
    "smoothed": ["signal.smoothing_fwhm=6"],
    "shifted": ["signal.lag=1", "signal.trim_first=1"],
    "averaged": ["signal.average_blocks=true", "estimator=lda"],
    "no_zscore": ["signal.zscore=none"],
    "brain": ["roi=brain"],
    "screened": ["roi=brain", "roi.screening_percentile=0.16"],
    "accuracy": ["scoring=accuracy", "scoring.report=[accuracy]"],
    "balanced": ["scoring=balanced_accuracy"],
    "inner_runs": ["scoring.inner=runs"],
    "tested_map": [*TESTED_MAP],
    "map": [*MAP, "analysis.scorer=roc_auc", "roi=brain", "analysis.mask=vt"],
    "map_of_lda": [*MAP[:-1], "estimator=lda", "analysis.batch_size=5", "analysis.processes=2"],
    "map_of_svc": [*MAP[:-1], "estimator=svc"],
    "map_of_nilearn": [*MAP[:-1], "engine=nilearn", "cv=holdout30"],
    "tfce": [*TESTED_MAP, "analysis.correction=tfce", "analysis.statistic=decision_value"],
    "clusters": [
        *TESTED_MAP,
        *("analysis.correction=cluster_size", "analysis.cluster_z=1", "analysis.keep_maps=3"),
        "analysis.statistic=accuracy",
    ],
    "grouped": ["contrast=animate_vs_inanimate"],
    "three": ["contrast.conditions=[face,cat,house]"],
    "four_groups": [FOUR_CLASSES, "estimator=lda"],
    "nilearn": ["engine=nilearn", "cv=holdout30"],
    "nilearn_three": ["engine=nilearn", "contrast.conditions=[face,cat,house]", "estimator=ridge"],
    "enumerated": [*PERMUTATION],
    "processes": [*PERMUTATION[:-1], "inference.processes=2", "cv=holdout30"],
    "sequential": [*PERMUTATION, *RANDOM, "inference.stop_early=true"],
    "without_maps": [*PERMUTATION, *RANDOM, "inference.maps=false", "inference.seed=4"],
    "partition": [*PERMUTATION, *RANDOM, "contrast=animate_vs_inanimate", "inference.null=partition"],
    "order": [*PERMUTATION, "inference.relabel=order_preserving", "inference.force=true"],
    "test_of_svc": [*PERMUTATION, *RANDOM, "estimator=svc"],
    "test_of_nilearn": [
        *PERMUTATION,
        "inference.n=19",
        "inference.limit=2",
        "engine=nilearn",
        "cv=holdout30",
    ],
}


@pytest.fixture
def home(tmp_path, monkeypatch, make_store):
    """A directory with an empty store."""
    home = tmp_path / "home"
    make_store(home / "mlruns")
    monkeypatch.chdir(home)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return home


@pytest.fixture(scope="module")
def subject(tiny_subject):
    """A subject with all conditions, whose signal has information that is not perfect."""
    planted = {name: (0, number % 5, number // 5) for number, name in enumerate(CONDITIONS)}
    return tiny_subject(n_runs=6, conditions=CONDITIONS, planted=planted, effect=30)


@pytest.fixture
def run_subject(home, subject):
    """Return a function that runs overrides on the subject."""

    def run_overrides(*overrides):
        fixed = ["dataset=haxby", f"dataset.data_dir={subject}", "subject=1", "figures=off"]
        whole = {"scoring.inner=runs", "analysis=searchlight"}.intersection(overrides)
        fixed += [] if whole else ["scoring.inner_folds=2"]
        assert run([*fixed, *overrides]) == 0

    return run_overrides


def replay(capsys, *arguments):
    """Return the exit status of a replay, and what it prints as JSON."""
    capsys.readouterr()
    status = run_verb(["replay", "latest", "--json", *arguments])
    printed = capsys.readouterr()
    return status, json.loads(printed.out) if printed.out else printed.err


def test_every_option_is_replayed():
    """A new option of a group needs a kind of its own, or the name of one that replays the same code."""
    replayed = {word for words in KINDS.values() for word in words}
    groups = {
        "analysis": {"decoding"},
        "estimator": {"svc"},
        "cv": {"logo"},
        "signal": {"tutorial"},
        "scoring": {"roc_auc"},
        "inference": {"none"},
    }
    for group, usual in groups.items():
        options = {file.stem for file in (CONF / group).glob("*.yaml")}
        assert options == usual | {option for option in options if f"{group}={option}" in replayed}


@pytest.mark.parametrize("kind", first(2, KINDS))
def test_replay_is_identical(kind, run_subject, capsys):
    run_subject(*KINDS[kind])
    status, found = replay(capsys)
    assert (status, found["changes"]) == (0, [])
    assert found["identical"]
    assert found["differences"] == []
    assert found["notes"] == []
    expected = {"folds.csv", "predictions.csv", "audit.json"}
    expected |= {"null_distribution.csv"} if "inference=permutation" in KINDS[kind] else set()
    assert found["files"] >= len(expected)
    assert found["metrics"] >= (3 if "analysis=searchlight" in KINDS[kind] else 5)


@pytest.fixture(scope="module")
def kept(tmp_path_factory, make_store, subject):
    """A directory with data and a store with one run, of which tests take copies."""
    home = tmp_path_factory.mktemp("kept")
    make_store(home / "mlruns")
    shutil.copytree(subject, home / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        words = ["dataset=haxby", "dataset.data_dir=data", "subject=1", "estimator=lda", "cv=holdout30"]
        assert run([*words, "figures=off", "scoring.inner_folds=2"]) == 0
    return home


@pytest.fixture
def home_of_run(tmp_path, monkeypatch, kept):
    """A copy of the directory with one run."""
    home = tmp_path / "copy"
    shutil.copytree(kept, home)
    relocate_store(home / "mlruns")
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def stored(home_of_run):
    """The store's client, the run, and the directory of its files."""
    client, (found,) = read_runs(home_of_run)
    client.set_tag(found.info.run_id, "harness.directory", str(home_of_run))  # which it was copied to
    return client, found, Path(found.info.artifact_uri.removeprefix("file://"))


def rewrite(stored, name, content):
    """Change a file of a run together with the digests by which an edit would be found."""
    client, found, directory = stored
    (directory / name).write_bytes(content)
    client.set_tag(found.info.run_id, "harness.files", write_digests(directory))


def edit_config(stored, edit):
    _, _, directory = stored
    config = yaml.safe_load((directory / "config.yaml").read_text())
    edit(config)
    rewrite(stored, "config.yaml", yaml.dump(config).encode())


def test_changed_image_is_named_with_the_numbers_that_it_moved(home_of_run, stored, capsys):
    bold = home_of_run / "data" / "haxby2001" / "subj1" / "bold.nii.gz"
    image = nib.load(bold)
    voxels = np.asanyarray(image.dataobj).copy()
    voxels[0, 0, 0, 1] += 200
    nib.save(nib.Nifti1Image(voxels, image.affine, image.header), bold)
    status, found = replay(capsys)
    assert status == 1
    assert [(item["part"], item["name"], item["effect"]) for item in found["differences"]] == [
        ("data", "bold", "yes")
    ]
    assert {"predictions.csv", "weights_face_vs_cat.nii.gz"} <= {item["file"] for item in found["changes"]}
    assert run_verb(["replay", "latest"]) == 1
    printed = capsys.readouterr().out
    assert "DIFFERENT" in printed
    assert "data │ bold" in " ".join(printed.split())


@pytest.mark.slow
def test_labels_with_another_comment_leave_the_numbers_but_are_named(home_of_run, stored, capsys):
    labels = home_of_run / "data" / "haxby2001" / "subj1" / "labels.txt"
    labels.write_text(labels.read_text() + "\n")
    status, found = replay(capsys)
    assert (status, found["identical"]) == (0, True)
    assert [item["name"] for item in found["differences"]] == ["labels"]
    assert run_verb(["replay", "latest"]) == 0
    assert "although this changed: data labels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tag", "part"),
    first(
        1,
        [
            ("harness.version.numpy", ("version", "numpy", "yes")),
            ("harness.version.mlflow", ("version", "1 other package", "no")),
            ("harness.code", ("code", "harness", "yes")),
            ("harness.code.mylab", ("code", "mylab", "unknown")),
        ],
    ),
)
def test_another_version_is_named_although_the_numbers_are_identical(stored, tag, part, capsys):
    client, found, _ = stored
    client.set_tag(found.info.run_id, tag, "1.0")
    status, document = replay(capsys)
    assert status == 0
    assert [(item["part"], item["name"], item["effect"]) for item in document["differences"]] == [part]
    assert run_verb(["replay", "latest"]) == 0
    assert ("although this changed" in capsys.readouterr().out) == (part[2] == "yes")


@pytest.mark.slow
def test_another_machine_is_named(stored, capsys):
    _, _, directory = stored
    text = (directory / "environment.txt").read_text()
    lines = [line if not line.startswith("# BLAS") else "# BLAS: mkl 2024.1" for line in text.splitlines()]
    rewrite(stored, "environment.txt", "\n".join(lines).encode())
    status, found = replay(capsys)
    assert status == 0
    assert [(item["name"], item["first"], item["effect"]) for item in found["differences"]] == [
        ("BLAS", "mkl 2024.1", "last digits")
    ]


@pytest.mark.parametrize("name", first(1, ["folds.csv", "weights_face_vs_cat.nii.gz", "audit.json"]))
def test_edited_or_missing_file_is_not_identical(stored, name, capsys):
    _, _, directory = stored
    content = (directory / name).read_bytes()
    (directory / name).write_bytes(content + b"\n")
    status, found = replay(capsys)
    assert status == 1
    assert [(item["file"], "edited" in item["where"]) for item in found["changes"]] == [(name, True)]
    (directory / name).unlink()
    status, found = replay(capsys)
    assert status == 1
    assert [(item["file"], "deleted" in item["where"]) for item in found["changes"]] == [(name, True)]
    (directory / name).write_bytes(content)
    assert replay(capsys)[0] == 0


def test_environment_that_was_edited_is_named_in_the_notes(stored, capsys):
    file = stored[2] / "environment.txt"
    content = file.read_bytes()
    file.write_bytes(content + b"\n")
    found = replay(capsys)[1]
    assert [note for note in found["notes"] if "environment.txt" in note and "edited" in note]
    file.write_bytes(content)
    assert not [note for note in replay(capsys)[1]["notes"] if "environment.txt" in note]


def test_one_flipped_bit_of_a_table_is_found(stored, capsys):
    _, _, directory = stored
    table = pd.read_csv(directory / "predictions.csv")
    before = float(table.loc[5, "decision_value"])
    after = float(np.nextafter(before, np.inf))
    table.loc[5, "decision_value"] = after
    rewrite(stored, "predictions.csv", table.to_csv(index=False).encode())
    status, found = replay(capsys)
    assert status == 1
    (change,) = found["changes"]
    assert (change["file"], change["part"]) == ("predictions.csv", "decision_value")
    assert (change["n_changed"], change["n_compared"]) == (1, len(table))
    assert change["largest"] == abs(after - before)
    assert (float(change["first"]), float(change["second"])) == (after, before)
    assert change["where"].startswith(f"fold 1, volume {table.loc[5, 'volume']}, class ")
    assert run_verb(["replay", "latest"]) == 1
    assert "a stored file was edited" in capsys.readouterr().out


@pytest.mark.slow
def test_one_flipped_bit_of_an_image_and_of_a_metric_is_found(stored, capsys):
    client, found, directory = stored
    name = "weights_face_vs_cat.nii.gz"
    image = nib.load(directory / name)
    voxels = np.asanyarray(image.dataobj).copy()
    voxels[2, 1, 3] = np.nextafter(voxels[2, 1, 3], np.inf, dtype=voxels.dtype)
    stream = io.BytesIO(nib.Nifti1Image(voxels, image.affine, image.header).to_bytes())
    rewrite(stored, name, gzip.compress(stream.getvalue()))
    accuracy = found.data.metrics["test_accuracy_mean"]
    client.log_metric(found.info.run_id, "test_accuracy_mean", float(np.nextafter(accuracy, 1)))
    status, document = replay(capsys)
    assert status == 1
    assert [(item["file"], item["part"], item["where"]) for item in document["changes"]] == [
        (name, "voxels", "voxel 2, 1, 3"),
        ("metrics", "test_accuracy_mean", ""),
    ]


def test_data_at_another_place_are_found_with_an_override(home_of_run, stored, capsys):
    (home_of_run / "data").rename(home_of_run / "moved")
    status, message = replay(capsys)
    assert status == 1
    assert "dataset.data_dir=data is not a directory" in message
    assert "dataset.data_dir=/new/place" in message
    status, found = replay(capsys, "dataset.data_dir=moved")
    assert (status, found["identical"]) == (0, True)
    assert [(item["name"], item["effect"]) for item in found["differences"]] == [("dataset.data_dir", "no")]


def test_relative_places_are_those_of_the_directory_in_which_the_run_was_started(
    home_of_run, stored, monkeypatch, capsys
):
    monkeypatch.chdir(Path.cwd().parent)
    status, found = replay(capsys, "--folder", str(home_of_run / "mlruns"))
    assert (status, found["identical"]) == (0, True)


def test_other_configuration_is_refused(stored, capsys):
    status, message = replay(capsys, "estimator=svc")
    assert status == 2
    assert "'estimator=svc' would make it another run" in message


def test_run_without_results_is_refused(stored, capsys):
    client, found, _ = stored
    for status in ("FAILED", "RUNNING"):
        client.update_run(found.info.run_id, status=status)
        code, message = replay(capsys)
        assert code == 1
        assert status in message
    assert run_verb(["replay", "no-such-run"]) == 2


@pytest.mark.slow
def test_options_that_were_deleted_are_not_needed(home, subject, run_subject, capsys):
    own = home / "options" / "estimator"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("_target_: harness.solvers.estimators.ExactLinearSVC\ngrid: {C: [7]}\n")
    run_subject("--config-dir", str(own.parent), "estimator=mine", "cv=holdout30")
    shutil.rmtree(own.parent)
    status, found = replay(capsys)
    assert (status, found["identical"]) == (0, True)


@pytest.mark.slow
def test_class_that_may_not_be_built_is_refused(stored, capsys):
    edit_config(stored, lambda config: config["estimator"].update(_target_="subprocess.Popen", args="true"))
    status, message = replay(capsys)
    assert status == 2
    assert "subprocess.Popen" in message
    assert "allowed package" in message


@pytest.mark.slow
def test_record_of_a_later_version_is_refused(stored, capsys):
    edit_config(stored, lambda config: config["signal"].update(wavelet="db4"))
    status, message = replay(capsys)
    assert status == 1
    assert "signal.wavelet" in message


def test_record_of_an_earlier_version_is_completed_with_a_note(stored, capsys):
    """As stores were before there were tests, digests of files, and a digest of the code."""

    def remove_newer_keys(config):
        del config["inference"], config["scoring"]["inner"], config["cv"]["incomplete"]

    edit_config(stored, remove_newer_keys)
    client, found, directory = stored
    (directory / "files.json").unlink()
    (directory / "audit.json").unlink()
    for tag in [name for name in found.data.tags if name.startswith(("harness.files", "harness.code"))]:
        client.delete_tag(found.info.run_id, tag)
    status, document = replay(capsys)
    assert status == 0
    for key in ("inference", "scoring.inner", "cv.incomplete"):
        assert [note for note in document["notes"] if f"has no {key}," in note], key
    assert [note for note in document["notes"] if "audit.json" in note]
    assert [(item["name"], item["effect"]) for item in document["differences"]] == [("harness", "unknown")]


@pytest.mark.slow
def test_estimator_without_a_seed_is_named_where_numbers_differ(run_subject, capsys):
    run_subject(*LIBLINEAR, "cv=holdout30")
    status, found = replay(capsys)
    assert (status, found["differences"]) == (1, [])
    assert [note for note in found["notes"] if note.startswith("estimator.random_state is null")]


@pytest.mark.slow
def test_stopped_replay_stores_nothing(home_of_run, stored, monkeypatch, capsys):
    def stop(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.app.computation.compute_run", stop)
    assert run_verb(["replay", "latest"]) == 130
    assert "stopped" in capsys.readouterr().err
    assert len(read_runs(home_of_run)[1]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["nifti", "bids"])
def test_other_data_sets_and_confounds_are_replayed(layout, home, request, capsys):
    fixture = request.getfixturevalue(f"{layout}_study")
    fixed = {
        "nifti": [
            "dataset=nifti",
            f"++dataset.bold='{fixture}/sub-{{subject:02d}}/run-?.nii.gz'",
            f"++dataset.events='{fixture}/sub-{{subject:02d}}/events-?.tsv'",
            f"++dataset.confounds='{fixture}/sub-{{subject:02d}}/confounds-?.tsv'",
            f"++dataset.masks.vt='{fixture}/sub-{{subject:02d}}/vt.nii.gz'",
            "signal.confounds=[drift]",
            "signal.high_pass=0.02",
        ],
        "bids": ["dataset=bids", "roi=brain", "signal.confounds=[trans_x]"],
    }[layout]
    fixed += [f"++dataset.root={fixture()}"] if layout == "bids" else []
    assert run([*fixed, "subject=1", "scoring.inner_folds=2", "figures=off"]) == 0
    status, found = replay(capsys)
    assert (status, found["changes"], found["differences"]) == (0, [], [])


@pytest.mark.slow
def test_resumed_test_is_replayed(home, run_subject, subject, monkeypatch, capsys):
    """The replay computes every relabelling, also those that the run had from its first try."""
    compute, computed = RelabelledAnalysis.compute, []
    monkeypatch.setattr(RelabelledAnalysis, "chunk_size", 4)

    def interrupt(analysis, relabellings, rows):
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(len(rows))
        return compute(analysis, relabellings, rows)

    monkeypatch.setattr(RelabelledAnalysis, "compute", interrupt)
    overrides = [*PERMUTATION, "cv=holdout30", "inference.maps=false"]
    fixed = ["dataset=haxby", f"dataset.data_dir={subject}", "subject=1", "figures=off"]
    assert run([*fixed, *overrides]) == 130
    monkeypatch.setattr(RelabelledAnalysis, "compute", compute)
    run_subject(*overrides)
    again = []

    def count(analysis, relabellings, rows):
        again.append(len(rows))
        return compute(analysis, relabellings, rows)

    monkeypatch.setattr(RelabelledAnalysis, "compute", count)
    status, found = replay(capsys)
    assert (status, found["changes"]) == (0, [])
    assert sum(again) == 32
