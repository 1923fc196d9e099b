"""The decoder of a stored run: verified, or refused with the reason."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from harness.decoding.stored_decoder import StoredDecoder, pack_decoder
from harness.errors import TrackingError
from harness.tracking.file_digests import write_digests
from harness.tracking.run_decoder import read_decoder
from harness.tracking.stored_run import StoredRun
from harness.tracking.tags import FILES_TAG


@pytest.fixture
def stored(tmp_path):
    settings = {
        "kind": "dummy",
        "reason": "",
        "guesses": False,
        "classes": ["cat", "face"],
        "contrast": {"face": ["face"], "cat": ["cat"]},
        "columns": ["decision_value"],
        "zscore": "own",
        "cleaning": {},
        "shape": [2, 2, 2],
    }
    arrays = {
        "prior": np.array([[0.5, 0.5]]),
        "mask": np.packbits(np.ones(8, dtype=bool)),
        "affine": np.eye(4),
    }
    for name, content in pack_decoder(StoredDecoder(settings, arrays)).items():
        (tmp_path / name).write_bytes(content)
    return StoredRun(
        uri="sqlite:///none.db",
        artifact_uri=tmp_path.as_uri(),
        run_id="0123456789abcdef" * 2,
        name="a run",
        status="FINISHED",
        experiment_id="1",
        started=datetime.now(UTC),
        params={},
        metrics={},
        tags={FILES_TAG: write_digests(tmp_path)},
    )


def test_decoder_is_read(stored):
    decoder = read_decoder(stored)
    assert decoder.contrast == ("face", "cat")
    assert decoder.n_voxels == 8


@pytest.mark.parametrize("status", ["RUNNING", "FAILED"])
def test_unfinished_run_is_refused(status, stored):
    with pytest.raises(TrackingError, match=rf"is {status} and has no results"):
        read_decoder(replace(stored, status=status))


def test_run_of_an_earlier_version_is_refused(stored, tmp_path):
    for name in ("decoder.json", "decoder.npz"):
        (tmp_path / name).unlink()
    message = r"run 01234567 \(a run\) has no decoder .* earlier version .* repeat the run"
    with pytest.raises(TrackingError, match=message):
        read_decoder(replace(stored, tags={FILES_TAG: write_digests(tmp_path)}))
    with pytest.raises(TrackingError, match=message):
        read_decoder(replace(stored, tags={}))  # before the files were listed


@pytest.mark.parametrize("name", ["decoder.json", "decoder.npz"])
def test_edited_file_is_refused(name, stored, tmp_path):
    with (tmp_path / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(TrackingError, match=rf"{name} of run .* is not the file that the run wrote"):
        read_decoder(stored)
    with pytest.raises(TrackingError, match=r"run 01234567 .*: decoder\.|repeat the run"):
        (tmp_path / "decoder.npz").write_bytes(b"text")
        read_decoder(replace(stored, tags={}))


def test_deleted_file_is_refused(stored, tmp_path):
    (tmp_path / "decoder.npz").unlink()
    with pytest.raises(TrackingError, match=r"has no decoder\.npz in file:"):
        read_decoder(stored)
