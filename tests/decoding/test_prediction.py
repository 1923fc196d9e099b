"""Predictions of the stored decoder: those of the run's own decoder, of nilearn's, and refusals."""

import json
import shutil
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.decoding import Decoder
from nilearn.image import index_img
from nilearn.signal import clean
from sklearn.model_selection import LeaveOneGroupOut

from harness.app.run_spec import decode_request
from harness.decoding.decoder_record import record_decoder
from harness.decoding.prediction import NewVolumes, predict_volumes
from harness.decoding.served_decoder import ServedDecoder
from harness.decoding.stored_decoder import PredictionError, pack_decoder, unpack_decoder, zscore
from harness.errors import DataError, DesignError, UsageError

TABLE = "confounds.tsv"
T_R = 2.5  # seconds, of Haxby's recordings
AFFINE = np.array([[-3.5, 0, 0, 68.25], [0, 3.75, 0, -118.1], [0, 0, 3.75, -118.1], [0, 0, 0, 1]])


def store(decoding):
    """Return the decoder of a decoding after a round through its files."""
    files = pack_decoder(record_decoder(decoding))
    return unpack_decoder(files["decoder.json"], files["decoder.npz"])


@pytest.fixture(scope="module")
def subject(tiny_subject):
    """A subject of 4 scanner runs of 21 volumes, as ``dataset.data_dir``."""
    data_dir = tiny_subject(planted={"face": (1, 1, 1), "cat": (2, 2, 2)}, block=6)
    home = data_dir / "haxby2001" / "subj1"
    drift = np.random.default_rng(5).normal(size=(84, 2)).cumsum(axis=0)
    pd.DataFrame(drift, columns=["drift", "motion"]).to_csv(home / TABLE, sep="\t", index=False)
    return home


@pytest.fixture(scope="module")
def decode_subject(subject, compose):
    """Return a function from overrides to the decoding of the subject."""

    @cache
    def decode(*overrides):
        data = ("dataset=haxby", f"dataset.data_dir={subject.parents[1]}", "subject=1", "scoring.inner=runs")
        return decode_request(compose(*data, *overrides))

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


OPTIONS = {
    "own": [],
    "per_run": ["signal=per_run"],
    "train": ["signal=train_only"],
    "none": ["signal.zscore=none"],
    "own, detrended": ["signal.detrend=true"],
    "smoothed": ["signal.smoothing_fwhm=6"],
    "filtered": ["signal=per_run", "signal.high_pass=0.02"],
    "without confounds": ["signal=per_run", "signal.confounds=[motion]"],
    "delayed and trimmed": ["signal=per_run", "signal.lag=1", "signal.trim_last=1"],
    "averaged": ["signal.average_blocks=true"],
    "three classes": ["contrast.conditions=[house,face,cat]"],
    "first class first in the alphabet": ["contrast.conditions=[cat,face]"],
    "grouped": ["contrast.conditions=[{animate:[face,cat]},{house:[house]}]"],
    "ridge": ["estimator=ridge"],
    "lda": ["estimator=lda"],
    "logistic": ["estimator=logistic"],
    "liblinear": ["estimator=svc_liblinear"],
    "dummy": ["estimator=dummy"],
    "dummy of three classes": ["estimator=dummy", "contrast.conditions=[house,face,cat]"],
    "screened": ["roi=brain", "roi.screening_percentile=0.1"],
    "nilearn": ["engine=nilearn"],
    "nilearn, per run": ["engine=nilearn", "signal=per_run"],
    "nilearn, three classes": ["engine=nilearn", "contrast.conditions=[house,face,cat]"],
}


QUICK = (
    *("own", "per_run", "train", "smoothed", "filtered", "averaged", "delayed and trimmed"),
    *("three classes", "ridge", "dummy", "screened"),
)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in OPTIONS]
)
def test_recording_of_the_run_gets_the_decision_values_of_its_decoder(name, decode_subject, subject):
    confounds = (subject / TABLE,) if "confounds" in name else ()
    overrides = [*OPTIONS[name], *(f"signal.confounds_file={file}" for file in confounds)]
    decoding = decode_subject(*overrides)
    samples, decoder = decoding.samples, decoding.decoder
    if confounds:  # the table of the recording, one file per scanner run
        whole = pd.read_csv(confounds[0], sep="\t")
        confounds = tuple(subject / f"confounds-{run}.tsv" for run in range(4))
        for run, file in enumerate(confounds):
            whole.iloc[21 * run : 21 * run + 21].to_csv(file, sep="\t", index=False)
    new = NewVolumes(
        (subject / "bold.nii.gz",),
        labels=subject / "labels.txt",
        confounds=confounds,
        t_r=T_R if name == "filtered" else None,
    )
    table = predict_volumes(store(decoding), new).table
    expected = decoder.decision_function(samples.X)
    assert table["volume"].tolist() == samples.volumes.tolist()
    assert table["run"].tolist() == samples.runs.tolist()
    assert table["predicted"].tolist() == decoder.predict(samples.X).tolist()
    assert table["class"].tolist() == samples.y.tolist()
    if expected.ndim == 1:
        sign = 1 if decoder.classes[1] == samples.contrast.classes[0] else -1
        np.testing.assert_array_equal(table["decision_value"], sign * expected)
    else:
        for column, label in enumerate(decoder.classes):
            np.testing.assert_array_equal(table[f"decision_value_{label}"], expected[:, column])


@pytest.mark.parametrize(
    "name", ["own", "per_run", "train", "smoothed", "filtered", "three classes", "dummy"]
)
def test_served_decoder_predicts_as_the_verb_does(name, decode_subject, write_image):
    decoder = store(decode_subject(*OPTIONS[name]))
    images = (write_image("a.nii.gz", (6, 5, 4, 21)), write_image("b.nii", (6, 5, 4, 21), seed=2))
    t_r = T_R if name == "filtered" else None
    tables = [predict_volumes(decoder, NewVolumes((image,), t_r=t_r)).table for image in images]
    expected = pd.concat(tables, ignore_index=True)
    served = ServedDecoder(decoder).predict(pd.DataFrame({"image": [str(image) for image in images]}))
    pd.testing.assert_frame_equal(served, expected.drop(columns="run"), check_exact=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zscore_is_that_of_nilearn_to_the_last_bit(rng, dtype):
    X = rng.normal(1000, 20, (37, 50)).astype(dtype)
    X[:, 3] = 7
    expected = clean(X, detrend=False, standardize="zscore_sample", filter=False)
    np.testing.assert_array_equal(zscore(X), expected)


@pytest.mark.slow
def test_other_scanner_runs_are_predicted_as_by_a_live_nilearn_decoder(compose, shared_data, tmp_path):
    """Trained on scanner runs 0 to 8 of a real subject; 9 to 11 are predicted."""
    home = shared_data / "haxby2001-vt" / "haxby2001"
    table = pd.read_csv(home / "subj1" / "labels.txt", sep=" ")
    bold = nib.load(home / "subj1" / "bold.nii.gz")
    chosen = table["labels"].isin(["face", "cat"])
    train, test = (
        np.flatnonzero(chosen & (table["chunks"] < 9)),
        np.flatnonzero(chosen & (table["chunks"] > 8)),
    )
    trained = tmp_path / "haxby2001"
    shutil.copytree(home, trained)
    nib.save(index_img(bold, train), trained / "subj1" / "bold.nii.gz")
    table.iloc[train].to_csv(trained / "subj1" / "labels.txt", sep=" ", index=False)
    nib.save(index_img(bold, test), tmp_path / "new.nii.gz")
    overrides = ["dataset=haxby", f"dataset.data_dir={tmp_path}", "subject=1"]
    new = NewVolumes((tmp_path / "new.nii.gz",))

    image, labels = nib.load(trained / "subj1" / "bold.nii.gz"), table["labels"].iloc[train].to_numpy()
    for options, estimator, grid in (
        (["engine=nilearn", "estimator=svc_liblinear"], "svc", {"C": [1.0, 10.0, 100.0]}),
        (["estimator=ridge"], "ridge_classifier", None),
    ):
        live = Decoder(
            estimator=estimator,
            mask=nib.load(home / "subj1" / "mask4_vt.nii.gz"),
            cv=LeaveOneGroupOut(),
            param_grid=grid,
            scoring="roc_auc",
            screening_percentile=100,
            standardize="zscore_sample",
        )
        live.fit(image, labels, groups=table["chunks"].iloc[train].to_numpy())
        predicted = predict_volumes(store(decode_request(compose(*overrides, *options))), new).table
        expected = live.decision_function(str(tmp_path / "new.nii.gz"))  # above 0: face, second by name
        np.testing.assert_allclose(predicted["decision_value"], expected, rtol=0, atol=1e-8)
        assert predicted["predicted"].tolist() == live.predict(str(tmp_path / "new.nii.gz")).tolist()
        assert (predicted["predicted"].to_numpy() == table["labels"].iloc[test].to_numpy()).mean() > 0.7


def test_images_are_standardised_each_by_itself_unless_together(tutorial, write_image):
    first, second = write_image("a.nii.gz"), write_image("b.nii.gz", seed=2, change=lambda data: data + 50)
    both = predict_volumes(tutorial, NewVolumes((first, second))).table
    alone = predict_volumes(tutorial, NewVolumes((second,))).table
    np.testing.assert_array_equal(both["decision_value"][8:], alone["decision_value"])
    assert both["volume"].tolist() == [*range(8), *range(8)]
    together = predict_volumes(tutorial, NewVolumes((first, second), together=True)).table
    whole = first.with_name("whole.nii")
    nib.save(nib.concat_images([nib.load(first), nib.load(second)], axis=3), whole)
    expected = predict_volumes(tutorial, NewVolumes((whole,))).table
    np.testing.assert_array_equal(together["decision_value"], expected["decision_value"])
    assert not np.allclose(together["decision_value"], both["decision_value"])


def test_scanner_runs_in_one_image_are_cleaned_each_by_itself(decode_subject, write_image, tmp_path):
    decoder = store(decode_subject("signal=per_run"))
    parts = [write_image(f"{seed}.nii", (6, 5, 4, 21), seed=seed) for seed in (1, 2)]
    nib.save(nib.concat_images([nib.load(part) for part in parts], axis=3), tmp_path / "whole.nii")
    (tmp_path / "runs.tsv").write_text("run\n" + "1\n" * 21 + "2\n" * 21)
    whole = predict_volumes(decoder, NewVolumes((tmp_path / "whole.nii",), runs=tmp_path / "runs.tsv"))
    apart = predict_volumes(decoder, NewVolumes(tuple(parts)))
    np.testing.assert_array_equal(whole.table["decision_value"], apart.table["decision_value"])
    assert whole.table["run"].tolist() == [1] * 21 + [2] * 21


def test_one_volume_is_predicted_if_the_training_standardises(train_only, write_image):
    one = write_image("one.nii.gz", (6, 5, 4))
    assert len(predict_volumes(train_only, NewVolumes((one,))).table) == 1


REFUSED = {
    "another shape": (
        {"shape": (6, 5, 5, 8)},
        r"new\.nii\.gz: has volumes of shape \(6, 5, 5\), but .* trained on \(6, 5, 4\); resample the image",
    ),
    "another affine": ({"affine": AFFINE * 1.01}, r"(?s)its affine differs .*image:.*decoder:.*resample"),
    "one volume, 4D": ({"shape": (6, 5, 4, 1)}, "is a single volume, but signal.zscore=own"),
    "one volume, 3D": ({"shape": (6, 5, 4)}, "is a single volume, but signal.zscore=own"),
    "one volume repeated": (
        {"change": lambda data: np.repeat(data[..., :1], 8, axis=-1)},
        "80 of the 80 voxels of the decoder are the same in all 8 volumes",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_volumes_that_do_not_fit_are_refused(name, tutorial, write_image):
    changes, message = REFUSED[name]
    image = write_image(**changes)
    with pytest.raises(DataError, match=message):
        predict_volumes(tutorial, NewVolumes((image,)))
    with pytest.raises(PredictionError):
        ServedDecoder(tutorial).predict(pd.DataFrame({"image": [str(image)]}))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_inside_the_mask_are_refused(value, tutorial, write_image):
    def spoil(data):
        data[0, 0, 0, 3] = value
        return data

    image = write_image(change=spoil)
    message = r"1 of the 80 voxels of the decoder hold NaN or infinite values, first in volume 3 \(from 0\)"
    with pytest.raises(DataError, match=message):
        predict_volumes(tutorial, NewVolumes((write_image("fine.nii.gz"), image)))
    with pytest.raises(PredictionError, match=message):
        ServedDecoder(tutorial).predict(pd.DataFrame({"image": [str(image)]}))


def test_value_that_is_not_finite_outside_the_mask_has_no_influence(tutorial, write_image):
    def spoil(data):
        data[5, 4, 3, 3] = np.nan
        return data

    clean_image, spoilt = write_image("a.nii.gz"), write_image("b.nii.gz", change=spoil)
    tables = [predict_volumes(tutorial, NewVolumes((image,))).table for image in (clean_image, spoilt)]
    np.testing.assert_array_equal(tables[0]["decision_value"], tables[1]["decision_value"])


@pytest.mark.parametrize("damage", ["cut", "checksum", "not an image", "missing"])
def test_damaged_files_are_refused(damage, tutorial, write_image):
    image = write_image()
    content = bytearray(image.read_bytes())
    if damage == "missing":
        image.unlink()
    else:
        content[-6] ^= 1  # of the CRC32, which ends 4 bytes before the end
        changed = {"cut": content[: len(content) // 2], "checksum": content, "not an image": b"text"}
        image.write_bytes(changed[damage])
    with pytest.raises(DataError, match=r"new\.nii\.gz: "):
        predict_volumes(tutorial, NewVolumes((image,)))
    with pytest.raises(PredictionError, match=r"new\.nii\.gz: "):
        ServedDecoder(tutorial).predict(pd.DataFrame({"image": [str(image)]}))


@pytest.fixture
def write_text(tmp_path):
    """Return a function that writes a table and returns the file."""

    def write(text, name="table.tsv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_tables_that_do_not_fit_are_refused(tutorial, train_only, write_image, write_text):
    image = write_image()
    short = write_text("run\n0\n")
    with pytest.raises(DataError, match=r"table\.tsv has 1 rows, but the images have 8 volumes"):
        predict_volumes(tutorial, NewVolumes((image,), runs=short))
    with pytest.raises(DataError, match="line 2: run is 'x'; expected a whole number"):
        predict_volumes(tutorial, NewVolumes((image,), runs=write_text("run\nx\n")))
    with pytest.raises(DataError, match="has no column 'run'"):
        predict_volumes(tutorial, NewVolumes((image,), runs=write_text("chunk\n1\n")))
    with pytest.raises(UsageError, match="--labels and --runs both name the scanner runs"):
        predict_volumes(tutorial, NewVolumes((image,), runs=short, labels=short))
    with pytest.raises(UsageError, match=r"--confounds .* has no effect: the decoder was trained without"):
        predict_volumes(tutorial, NewVolumes((image,), confounds=(short,)))
    with pytest.raises(UsageError, match=r"--together has no effect with signal.zscore=train"):
        predict_volumes(train_only, NewVolumes((image,), together=True))
    with pytest.raises(UsageError, match=r"--t-r 2\.5 has no effect"):
        predict_volumes(tutorial, NewVolumes((image,), t_r=2.5))
    other = write_text("condition\trun\n" + "house\t0\n" * 8)
    with pytest.raises(DesignError, match=r"no volume is of the conditions .*\(face, cat\).* there: house"):
        predict_volumes(tutorial, NewVolumes((image,), labels=other))


def test_confounds_are_required_and_counted(decode_subject, subject, write_image, write_text):
    decoder = store(decode_subject("signal=per_run", f"signal.confounds_file={subject / TABLE}"))
    image = write_image(shape=(6, 5, 4, 21))
    with pytest.raises(UsageError, match=r"drift, motion had been regressed out; give .* --confounds FILE"):
        predict_volumes(decoder, NewVolumes((image,)))
    table = write_text("drift\n" + "".join(f"{row**2}\n" for row in range(21)))
    with pytest.raises(UsageError, match="--confounds names 2 tables, but there are 1 scanner runs"):
        predict_volumes(decoder, NewVolumes((image,), confounds=(table, table)))
    with pytest.raises(DataError, match="has no column 'motion'"):
        predict_volumes(decoder, NewVolumes((image,), confounds=(table,)))


def test_blocks_are_required_where_they_are_averaged(decode_subject, write_image):
    decoder = store(decode_subject("signal.average_blocks=true"))
    with pytest.raises(UsageError, match=r"averages of blocks .* cannot be found without .* --labels FILE"):
        predict_volumes(decoder, NewVolumes((write_image(),)))


def test_another_repetition_time_is_refused_where_volumes_are_filtered(decode_subject, write_image):
    decoder = store(decode_subject(*OPTIONS["filtered"]))
    image = write_image(shape=(6, 5, 4, 21))
    with pytest.raises(DataError, match=r"no repetition time with a unit .* with 2\.5 s; give it with --t-r"):
        predict_volumes(decoder, NewVolumes((image,)))
    with pytest.raises(
        DataError, match=r"repetition time of 2 s, but .* 2\.5 s and signal.high_pass=0.02 Hz"
    ):
        predict_volumes(decoder, NewVolumes((image,), t_r=2.0))
    loaded = nib.load(image)
    loaded.header.set_xyzt_units("mm", "msec")
    loaded.header.set_zooms((3.5, 3.75, 3.75, 2000))
    other = image.with_name("other.nii.gz")
    nib.save(loaded, other)
    with pytest.raises(DataError, match="repetition time of 2 s"):
        predict_volumes(decoder, NewVolumes((other,)))
    with pytest.raises(PredictionError, match="repetition time of 2 s"):
        ServedDecoder(decoder).predict(pd.DataFrame({"image": [str(other)]}))


def test_limits_of_scaling_are_noted(tutorial, train_only, decode_subject, write_image, write_text):
    image = write_image(shape=(6, 5, 4, 12))
    notices = " ".join(predict_volumes(tutorial, NewVolumes((image,))).notices)
    assert "standardises the volumes of each image by their own mean and SD" in notices
    unbalanced = write_text("condition\trun\n" + "face\t0\n" * 9 + "cat\t0\n" * 3)
    notices = " ".join(predict_volumes(tutorial, NewVolumes((image,), labels=unbalanced)).notices)
    assert "the classes are not in equal shares" in notices
    balanced = write_text("condition\trun\n" + "face\t0\n" * 6 + "cat\t0\n" * 6)
    assert predict_volumes(tutorial, NewVolumes((image,), labels=balanced)).notices == ()
    assert predict_volumes(train_only, NewVolumes((image,))).notices == ()
    per_run = store(decode_subject("signal=per_run"))
    assert "a scanner run of 12 volumes; those of the training have 21" in " ".join(
        predict_volumes(per_run, NewVolumes((image,))).notices
    )


def test_training_image_is_recognised(tutorial, subject):
    notices = predict_volumes(
        tutorial, NewVolumes((subject / "bold.nii.gz",), labels=subject / "labels.txt")
    ).notices
    assert "was trained on this image" in notices[0]


def test_edited_and_damaged_decoders_are_refused(decode_subject):
    files = pack_decoder(record_decoder(decode_subject()))
    settings, arrays = files["decoder.json"], files["decoder.npz"]
    spoilt = bytearray(arrays)
    spoilt[len(spoilt) // 2] ^= 1
    with pytest.raises(PredictionError, match=r"decoder\.npz is not the file that belongs to decoder\.json"):
        unpack_decoder(settings, bytes(spoilt))
    with pytest.raises(PredictionError, match=r"decoder\.json is damaged"):
        unpack_decoder(settings[:100], arrays)
    content = json.loads(settings)
    with pytest.raises(PredictionError, match="has the format 2, but expected 1"):
        unpack_decoder(json.dumps(content | {"format": 2}).encode(), arrays)
    for name, changed in {"shape": [6, 5, 3], "classes": ["cat", "face", "house"], "zscore": "train"}.items():
        with pytest.raises(PredictionError, match=r"decoder\.npz is damaged"):
            unpack_decoder(json.dumps(content | {name: changed}).encode(), arrays)
    del content["zscore"]
    with pytest.raises(PredictionError, match="has no 'zscore'"):
        unpack_decoder(json.dumps(content).encode(), arrays)


def test_decoder_that_cannot_be_stored_states_why(decode_subject, write_image):
    decoder = store(decode_subject("engine=nilearn", "estimator=dummy"))
    with pytest.raises(DataError, match="cannot be applied: nilearn does not expose the guesses of a dummy"):
        predict_volumes(decoder, NewVolumes((write_image(),)))


def test_stored_settings_name_no_path_of_this_machine(decode_subject, subject):
    files = pack_decoder(record_decoder(decode_subject(f"signal.confounds_file={subject / TABLE}")))
    assert str(Path(subject).parent) not in files["decoder.json"].decode()
