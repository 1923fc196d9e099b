"""Reading runs back from a store."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from harness.errors import TrackingError
from harness.tracking.file_digests import write_digests
from harness.tracking.stored_run import StoredRun, choose_newest
from harness.tracking.tags import FILES_TAG, INFERENCE_TAG


@pytest.fixture
def stored(tmp_path):
    pd.DataFrame({"fold": [1, 2], "test_accuracy": [0.1 + 0.2, 1 / 3]}).to_csv(
        tmp_path / "folds.csv", index=False
    )
    (tmp_path / "config.yaml").write_text("subject: 2\n")
    (tmp_path / "weights.png").write_bytes(b"a picture")
    tags = {FILES_TAG: write_digests(tmp_path)}
    return StoredRun(
        uri="sqlite:///none.db",
        artifact_uri=tmp_path.as_uri(),
        run_id="0123456789abcdef" * 2,
        name="sub-2 face_vs_cat vt svc logo",
        status="FINISHED",
        experiment_id="1",
        started=datetime.now(UTC),
        params={},
        metrics={},
        tags=tags,
    )


def test_tables_are_read_to_the_last_bit(stored):
    assert stored.read_table("folds.csv")["test_accuracy"].tolist() == [0.1 + 0.2, 1 / 3]
    assert stored.read_config() == {"subject": 2}


def test_the_list_has_the_digest_of_every_data_file(stored, tmp_path):
    listed = json.loads((tmp_path / "files.json").read_text())
    expected = {
        name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        for name in ("config.yaml", "folds.csv")
    }
    assert listed == expected


@pytest.mark.parametrize("name", ["folds.csv", "files.json"])
def test_an_edited_file_is_refused(stored, tmp_path, name):
    with (tmp_path / name).open("a") as file:
        file.write(" ")
    with pytest.raises(TrackingError, match=rf"{name} of run 01234567 .* is not the file that the run wrote"):
        stored.read_table("folds.csv")


def test_a_missing_file_is_named(stored, tmp_path):
    (tmp_path / "folds.csv").unlink()
    with pytest.raises(TrackingError, match=r"run 01234567 .* has no folds\.csv in file:"):
        stored.read_table("folds.csv")
    assert not stored.has_file("audit.json")
    assert stored.read_findings() == ()


def test_the_newest_run_of_a_configuration_is_chosen_in_the_order_of_the_runs(stored):
    runs = [
        replace(stored, run_id=name, started=stored.started + timedelta(hours=hour), params=params)
        for name, hour, params in (
            ("d", 3, {"estimator": "lda"}),
            ("c", 1, {"estimator": "svc", "inference": "permutation"}),
            ("b", 2, {"estimator": "svc", "inference": "none", "n_voxels": "8"}),
            ("a", 0, {"estimator": "svc", "inference": "none"}),
        )
    ]
    assert [run.run_id for run in choose_newest(runs)] == ["d", "b"]
    assert [run.run_id for run in choose_newest(runs[::-1])] == ["b", "d"]
    assert [run.run_id for run in choose_newest(runs, ())] == ["d", "c", "b"]


@pytest.mark.parametrize(("kind", "null"), [("enumerated", [0.75, 0.5, 0.25]), ("random", [0.5, 0.25])])
def test_a_null_distribution_has_the_true_labelling_where_it_is_an_enumeration(stored, tmp_path, kind, null):
    (tmp_path / "null_distribution.csv").write_text("test_accuracy\n0.75\n0.5\n0.25\n")
    run = replace(stored, tags={INFERENCE_TAG: kind})
    assert run.read_null_scores("test_accuracy").tolist() == null
    with pytest.raises(TrackingError, match="has no column test_roc_auc"):
        run.read_null_scores("test_roc_auc")
