"""Haxby's layout on disk: required and optional files, and the messages about the others."""

import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from requests.exceptions import ConnectionError as NoConnection

from harness.datasets.haxby import MASK_FILES, Haxby, read_labels, read_subject
from harness.datasets.haxby_download import SERVERS
from harness.errors import DataError


@pytest.fixture
def offline(monkeypatch):
    """Make every request fail; return the requested addresses."""
    requested = []

    def get(address, **options):
        requested.append(address)
        raise NoConnection("HTTPConnectionPool(host='data.pymvpa.org', port=80): Max retries exceeded")

    monkeypatch.setattr("requests.get", get)
    return requested


# Labels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", range(1, 7))
def test_the_real_labels_of_every_subject(shared_data, subject):
    file = shared_data / "labels" / f"subj{subject}" / "labels.txt"
    expected = np.loadtxt(file, dtype=str, skiprows=1)
    labels = read_labels(file)
    assert labels.shape == (1452, 2)
    assert labels["condition"].tolist() == expected[:, 0].tolist()
    assert labels["run"].tolist() == expected[:, 1].astype(int).tolist()
    assert labels["run"].dtype.kind == "i"
    # Nine volumes of every category in every run, but for subject 5, whose run 8 has no labels.
    counts = labels["condition"].value_counts()
    assert counts.drop("rest").unique().tolist() == [99 if subject == 5 else 108]


fields = st.sampled_from(
    "face cat rest scissors 0 1 11 -1 1.0 1.5 1e2 1e300 nan NaN NA null inf -inf True 0x1 1_0 \u0661 "
    "99999999999999999999 labels chunks".split()
) | st.text(alphabet="ab1\"'#,;\\.-é\x00", min_size=1, max_size=3)
lines = st.lists(fields, max_size=4).flatmap(
    lambda words: st.sampled_from([" ", "\t", "  "]).map(lambda blank: blank.join(words))
)
good_line = st.tuples(st.sampled_from(["face", "cat", "rest"]), st.integers(0, 11)).map(
    "{0[0]} {0[1]}".format
)
label_files = st.builds(
    lambda header, body, end: "\n".join([header, *body]) + end,
    st.sampled_from(["labels chunks", "labels\tchunks", "labels", "chunks labels", "labels chunks x", ""]),
    st.lists(good_line | lines, max_size=6),
    st.sampled_from(["", "\n"]),
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(label_files)
@example("labels chunks\nface 0 0\ncat 0 0\n")  # a field too many in every line
@example("labels chunks\nface 0\ncat\n")
@example('labels chunks\n"face 0\ncat 0"\n')
@example("labels chunks\nface 1e300\n")
@example("labels chunks\nface 99999999999999999999\n")
def test_labels_are_read_line_by_line_or_refused(tmp_path, text):
    file = tmp_path / "labels.txt"
    file.write_text(text, encoding="utf-8", newline="")
    try:
        labels = read_labels(file)
    except DataError as error:
        assert str(file) in str(error)
        assert "\n" not in str(error)
        return
    header, *rows = [line.split() for line in text.split("\n") if line.strip()]
    assert header == ["labels", "chunks"]
    assert labels["condition"].tolist() == [name for name, _ in rows]
    assert labels["run"].tolist() == [float(run) for _, run in rows]
    assert labels["run"].dtype.kind == "i"
    assert labels.index.tolist() == list(range(len(rows)))


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
@example(b"labels chunks\n\xff\xfe 0\n")
@example(b"\x1f\x8b\x08\x00labels")
def test_any_bytes_are_a_table_or_one_message(tmp_path, content):
    file = tmp_path / "labels.txt"
    file.write_bytes(content)
    try:
        labels = read_labels(file)
    except DataError as error:
        assert str(file) in str(error)
    else:
        assert len(labels) > 0
        assert list(labels.columns) == ["condition", "run"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("", ["[]", "'labels chunks'"]),
        ("labels chunks\n", ["no rows", "one row per volume"]),
        ("label,chunk\nface,0\n", ["['label,chunk']", "'labels chunks'"]),
        ("labels chunks\nface 0\nface one\n", ["line 3", "'face one'", "'face 0'"]),
        ("labels chunks\nface 0\ncat 0.5\n", ["line 3", "'cat 0.5'"]),
        ("labels chunks\nface\ncat 0\n", ["line 2", "'face"]),
        ("labels chunks\nface 0\n\ncat x\n", ["line 4", "'cat x'"]),
        ("labels chunks\nface 0\nNaN 0\n", ["line 3", "'NaN 0'"]),
    ],
)
def test_invalid_labels_name_the_line_and_the_value(tmp_path, text, words):
    file = tmp_path / "labels.txt"
    file.write_text(text)
    with pytest.raises(DataError) as raised:
        read_labels(file)
    for word in [str(file), *words]:
        assert word in str(raised.value)


def test_a_run_in_two_pieces_is_refused(tiny_subject):
    folder = tiny_subject() / "haxby2001"
    labels = folder / "subj1" / "labels.txt"
    labels.write_text("labels chunks\nface 3\ncat 7\nface 3\n")
    with pytest.raises(DataError, match=r"labels\.txt: run 3 comes back after another run, at volume 2"):
        read_subject(folder, 1, dataset="haxby")


# Subjects ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "folder, n_volumes, masks",
    [("haxby2001-slice", 1452, {"vt", "brain"}), ("haxby2001-vt", 864, {"vt"})],
)
def test_real_subjects_without_anatomy_and_with_few_masks(shared_data, offline, folder, n_volumes, masks):
    home = shared_data / folder / "haxby2001"
    recording = Haxby(data_dir=shared_data / folder).load(1)
    assert recording.bold == home / "subj1" / "bold.nii.gz"
    assert recording.labels_file == home / "subj1" / "labels.txt"
    assert len(recording.labels) == n_volumes
    assert recording.anat is None
    assert set(recording.masks) == masks
    assert all(path.is_file() for path in recording.masks.values())
    assert (recording.dataset, recording.subject, recording.t_r) == ("haxby", 1, 2.5)
    assert not offline


def test_every_mask_and_the_anatomy_where_they_exist(tiny_subject):
    folder = tiny_subject() / "haxby2001"
    vt = folder / "subj1" / "mask4_vt.nii.gz"
    for name in [*MASK_FILES.values(), "anat.nii.gz"]:
        if name != vt.name:
            shutil.copy(vt, folder / "subj1" / name)
    recording = read_subject(folder, 1, dataset="copy", notice="made of copies")
    assert set(recording.masks) == {"vt", "face", "house", "face_little", "house_little", "brain"}
    assert recording.masks["face_little"].name == "mask8b_face_vt.nii.gz"
    assert recording.masks["brain"] == folder / "mask.nii.gz"
    assert recording.anat == folder / "subj1" / "anat.nii.gz"
    assert recording.notice == "made of copies"


@pytest.mark.parametrize("down", ["", "haxby2001"])
def test_data_dir_is_haxby2001_or_its_parent(tiny_subject, offline, down):
    data_dir = tiny_subject()
    recording = Haxby(data_dir=str(data_dir / down)).load(1)
    assert recording.bold == data_dir / "haxby2001" / "subj1" / "bold.nii.gz"
    assert not offline


def test_data_dir_may_begin_with_a_tilde(tiny_subject, offline, monkeypatch):
    data_dir = tiny_subject()
    monkeypatch.setenv("HOME", str(data_dir.parent))
    assert Haxby(data_dir=f"~/{data_dir.name}").load(1).bold.is_file()


@pytest.mark.parametrize("variable", ["NILEARN_DATA", "NILEARN_SHARED_DATA"])
def test_without_data_dir_nilearns_directories_are_searched(tiny_subject, offline, monkeypatch, variable):
    data_dir = tiny_subject()
    monkeypatch.setenv(variable, str(data_dir))
    assert Haxby().load(1).bold == data_dir / "haxby2001" / "subj1" / "bold.nii.gz"
    assert not offline


@pytest.mark.parametrize("subject", [0, 7, -1])
def test_an_unknown_subject_is_refused(offline, subject):
    with pytest.raises(DataError, match=rf"subject={subject}: .* 1 to 6"):
        Haxby().load(subject)
    assert not offline


@pytest.mark.parametrize("file", ["bold.nii.gz", "labels.txt"])
def test_a_missing_file_is_named(tiny_subject, offline, file):
    data_dir = tiny_subject()
    path = data_dir / "haxby2001" / "subj1" / file
    path.unlink()
    with pytest.raises(DataError) as raised:
        Haxby(data_dir=data_dir).load(1)
    assert str(raised.value).startswith(f"{path} is missing")
    assert not offline


def test_a_failed_download_lists_the_alternatives(tiny_subject, offline):
    data_dir = tiny_subject()
    with pytest.raises(DataError) as raised:
        Haxby(data_dir=data_dir).load(4)
    message = str(raised.value)
    assert offline == [f"{server}subj4-2010.01.14.tar.gz" for server in SERVERS]
    assert "HTTPConnectionPool" not in message
    assert "\n" not in message
    for word in [
        "subject 4",
        str(data_dir),
        "available: subj1",
        "no connection",
        "dataset.data_dir",
        "simulated",
    ]:
        assert word in message


def test_a_failed_download_gives_the_reason(tiny_subject, monkeypatch):
    def download(published, file):
        raise OSError("[Errno 28] No space left on device\nand more")

    monkeypatch.setattr("harness.datasets.haxby_download.download", download)
    with pytest.raises(DataError, match="No space left on device") as raised:
        Haxby(data_dir=tiny_subject()).load(2)
    assert "and more" not in str(raised.value)


def test_load_refuses_a_mistyped_data_dir_and_creates_nothing(tmp_path, offline):
    missing = tmp_path / "dta" / "haxby"
    with pytest.raises(DataError, match=r"dataset\.data_dir=.* is not a directory.*harness fetch") as raised:
        Haxby(data_dir=missing).load(1)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []
    assert not offline
    with pytest.raises(DataError, match="no connection"):
        Haxby(data_dir=missing).fetch(1)
    assert offline
