"""Reading runs back from a store."""

import hashlib
import json
from datetime import UTC, datetime

import pandas as pd
import pytest

from harness.errors import TrackingError
from harness.tracking.file_digests import write_digests
from harness.tracking.stored_run import StoredRun
from harness.tracking.tags import FILES_TAG


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
