"""Predictions of the stored decoder: those of the run's own decoder, of nilearn's, and refusals."""

import gzip
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.decoding import Decoder
from nilearn.signal import clean

from harness.app.composition import decode_request
from harness.decoding.decoder_record import record_decoder
from harness.decoding.prediction import NewVolumes, predict_volumes
from harness.decoding.stored_decoder import pack_decoder, unpack_decoder, zscore
from harness.errors import DataError, DesignError, UsageError

TABLE = "confounds.tsv"


def store(decoding):
    """Return the decoder of a decoding after a round through its files."""
    files = pack_decoder(record_decoder(decoding))
    return unpack_decoder(files["decoder.json"], files["decoder.npz"])


@pytest.fixture(scope="module")
def subject(tiny_subject):
    """A subject of 4 scanner runs, as ``dataset.data_dir``."""
    data_dir = tiny_subject(planted={"face": (1, 1, 1), "cat": (2, 2, 2)})
    home = data_dir / "haxby2001" / "subj1"
    drift = np.random.default_rng(5).normal(size=(60, 2)).cumsum(axis=0)
    pd.DataFrame(drift, columns=["drift", "motion"]).to_csv(home / TABLE, sep="\t", index=False)
    return home


@pytest.fixture(scope="module")
def decode_subject(subject, compose):
    """Return a function from overrides to the decoding of the subject."""

    def decode(*overrides, home=subject):
        spec = compose(
            *("dataset=haxby", f"dataset.data_dir={home.parents[1]}", "subject=1", "scoring.inner=runs"),
            *overrides,
        )
        return decode_request(spec)

    return decode


@pytest.fixture(scope="module")
def tutorial(decode_subject):
    return store(decode_subject())


@pytest.fixture(scope="module")
def train_only(decode_subject):
    return store(decode_subject("signal=train_only"))


@pytest.fixture
def write_image(tmp_path):
    """Return a function that writes random volumes in the subject's space, and returns the file."""

    def write(name="new.nii.gz", shape=(6, 5, 4, 8), affine=None, seed=1, change=lambda data: data):
        data = change(np.random.default_rng(seed).normal(1000, 20, shape).astype(np.float32))
        nib.save(nib.Nifti1Image(data, AFFINE if affine is None else affine), tmp_path / name)
        return tmp_path / name

    return write


AFFINE = np.array([[-3.5, 0, 0, 68.25], [0, 3.75, 0, -118.1], [0, 0, 3.75, -118.1], [0, 0, 0, 1]])

OPTIONS = {
    "own": [],
    "per_run": ["signal=per_run"],
    "train": ["signal=train_only"],
    "none": ["signal.zscore=none"],
    "own, detrended": ["signal.detrend=true"],
    "smoothed": ["signal.smoothing_fwhm=6"],
    "filtered": ["signal=per_run", "signal.high_pass=0.02", "+dataset.t_r=2"],
    "delayed and trimmed": ["signal=per_run", "signal.lag=1", "signal.trim_last=1"],
    "averaged": ["signal.average_blocks=true"],
    "three classes": ["contrast.conditions=[house,face,cat]"],
    "first class second in the alphabet": ["contrast.conditions=[cat,face]"],
    "grouped": ["contrast.conditions=[{animate:[face,cat]},{house:[house]}]"],
    "ridge": ["estimator=ridge"],
    "lda": ["estimator=lda"],
    "logistic": ["estimator=logistic"],
    "liblinear": ["estimator=svc_liblinear"],
    "dummy": ["estimator=dummy"],
    "dummy of three classes": ["estimator=dummy", "contrast.conditions=[house,face,cat]"],
    "screened": ["roi=brain", "roi.screening_percentile=0.1"],
}


@pytest.mark.parametrize("name", OPTIONS)
def test_recording_of_the_run_gets_the_decision_values_of_its_decoder(name, decode_subject, subject):
    overrides = OPTIONS[name]
    if "filtered" in name:
        overrides = [word for word in overrides if "t_r" not in word]
        set_t_r = 2.0
    else:
        set_t_r = None
    if set_t_r is not None:
        pytest.skip("see test_filtered_volumes")
    decoding = decode_subject(*overrides)
    samples, decoder = decoding.samples, decoding.decoder
    new = NewVolumes((subject / "bold.nii.gz",), labels=subject / "labels.txt")
    table = predict_volumes(store(decoding), new).table
    expected = decoder.decision_function(samples.X)
    assert table["volume"].tolist() == samples.volumes.tolist()
    assert table["predicted"].tolist() == decoder.predict(samples.X).tolist()
    assert table["class"].tolist() == samples.y.tolist()
    if expected.ndim == 1:
        sign = 1 if decoder.classes[1] == samples.contrast.classes[0] else -1
        np.testing.assert_array_equal(table["decision_value"], sign * expected)
    else:
        for column, label in enumerate(decoder.classes):
            np.testing.assert_array_equal(table[f"decision_value_{label}"], expected[:, column])
