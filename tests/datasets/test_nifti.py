"""NIfTI images in any layout: valid tables and events, and the messages about invalid ones."""

import warnings

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nilearn.masking import apply_mask
from nilearn.signal import clean

from harness.app.run_spec import decode_request
from harness.datasets.events import label_volumes, read_events
from harness.datasets.file_patterns import find_files, in_natural_order
from harness.datasets.nifti import Nifti
from harness.datasets.tables import read_confounds, read_table
from harness.errors import DataError, UsageError
from harness.samples.contrasts import make_contrast
from harness.samples.samples import Roi, load_samples
from harness.samples.signal import Signal

FACE_CAT = make_contrast(["face", "cat"])


@pytest.fixture
def home(nifti_study):
    return nifti_study / "sub-01"


def one_image(home, labels="labels.tsv", **more):
    return Nifti(home / "all.nii.gz", home / labels, **more)


def by_events(home, **more):
    return Nifti(f"{home}/run-?.nii.gz", events=f"{home}/events-?.tsv", **more)


# Tables -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\t", ","),
        lambda text: text.replace("\t", " \t "),
        lambda text: "\n" + text + "\n\n",
        lambda text: "\n".join("\t".join(reversed(line.split("\t"))) for line in text.splitlines()),
        lambda text: "\n".join(f"{line}\t7" for line in text.splitlines()).replace("7", "response", 1),
    ],
)
def test_tables_may_use_other_separators_line_ends_and_orders(home, change):
    expected = one_image(home).load(1).labels
    text = (home / "labels.tsv").read_text()
    (home / "labels.tsv").write_bytes(change(text).encode())
    pd.testing.assert_frame_equal(one_image(home).load(1).labels, expected)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["no column 'condition'", "nothing"]),
        (b"run\tlabel\n0\tface\n", ["no column 'condition'", "run, label"]),
        (b"run\tcondition\n", ["no rows"]),
        (b"condition\nface\n", ["no column 'run'", "all.nii.gz"]),
        (b"run\tcondition\tcondition\n0\tface\tcat\n", ["'condition' twice"]),
        (b"run\tcondition\n0\tface\n0\n", ["line 3", "1 cells"]),
        (b"run\tcondition\n0\tface\tx\n", ["line 2", "3 cells"]),
        (b"run\tcondition\n0\t\n", ["line 2", "condition is ''"]),
        (b"run\tcondition\n0\tn/a\n", ["line 2", "'n/a'"]),
        (b"run\tcondition\n0\tNaN\n", ["line 2", "'NaN'"]),
        (b"run\tcondition\n0\tN/A\n", ["line 2", "'N/A'"]),
        (b"run\tcondition\n\tface\n", ["line 2", "run is ''"]),
        (b"run\tcondition\n0.5\tface\n", ["line 2", "'0.5'"]),
        (b"run\tcondition\n-1\tface\n", ["line 2", "'-1'"]),
        (b"run\tcondition\nnan\tface\n", ["line 2", "'nan'"]),
        (b"run\tcondition\n0\tface\n1\tcat\n" + b"0\tface\n" * 97, ["run 0 comes back"]),
        (b"run\tcondition\n0\tface\n", ["1 rows", "99 volumes"]),
        (b"\xff\xfer\x00u\x00n\x00", ["cannot be read as text", "UTF-8"]),
        (b'run,condition\n0,"face\n', ["line"]),
    ],
)
def test_invalid_labels_are_refused(home, content, parts, refused):
    (home / "labels.tsv").write_bytes(content)
    refused(one_image(home), home / "labels.tsv", *parts)


cells = st.text(st.characters(codec="utf-8", exclude_characters="\t\r\n\x00"), max_size=5)


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(st.integers(0, 9), cells), max_size=5), ends=st.sampled_from(["\n", "\r\n"]))
def test_cells_are_read_as_text(tmp_path, rows, ends):
    file = tmp_path / "labels.tsv"
    lines = ["run\tcondition", *(f"{run}\t{name}" for run, name in rows)]
    file.write_bytes(ends.join(lines).encode())
    if not rows:
        with pytest.raises(DataError, match="no rows"):
            read_table(file)
        return
    table = read_table(file)
    assert table["condition"].tolist() == [name.strip() for _, name in rows]
    assert table["run"].tolist() == [str(run) for run, _ in rows]


def test_runs_are_counted_by_the_images_if_the_table_has_none(home):
    labelled = one_image(home).load(1).labels
    (home / "labels.tsv").write_text("\n".join(["condition", *labelled["condition"]]))
    pd.testing.assert_frame_equal(Nifti(f"{home}/run-?.nii.gz", home / "labels.tsv").load(1).labels, labelled)


def test_runs_are_counted_by_the_tables_if_there_is_one_per_run(home, refused):
    labelled = one_image(home).load(1).labels
    for run, part in labelled.groupby("run"):
        (home / f"labels-{run}.csv").write_text("\n".join(["condition", *part["condition"]]))
    recording = one_image(home, "labels-?.csv").load(1)
    pd.testing.assert_frame_equal(recording.labels, labelled)
    assert [file.name for file in recording.labels_file] == [f"labels-{run}.csv" for run in range(3)]
    (home / "labels-1.csv").write_text("condition,run\nface,0\n")
    refused(one_image(home, "labels-?.csv"), "labels-0.csv has no column 'run'")
    for run in range(3):
        (home / f"labels-{run}.csv").write_text("condition,run\nface,1\n")
    refused(one_image(home, "labels-?.csv"), "labels-0.csv", "labels-1.csv", "both have a run 1")


def test_rows_and_volumes_of_every_run_must_agree(home, refused):
    """The whole may agree where the runs do not: two images in the wrong order."""
    image = nib.load(home / "run-0.nii.gz")
    nib.save(image.slicer[..., :30], home / "run-0.nii.gz")
    nib.save(
        nib.concat_images([nib.load(home / "run-1.nii.gz"), image.slicer[..., :3]], axis=3), home / "x.nii"
    )
    bold = [home / "run-0.nii.gz", home / "x.nii", home / "run-2.nii.gz"]
    message = refused(Nifti(bold, home / "labels.tsv"), "33 rows for run 0", "run-0.nii.gz has 30 volumes")
    assert "order of the runs" in message
    refused(Nifti(bold[:2], home / "labels.tsv"), "99 rows", "run-0.nii.gz and 1 more has 66 volumes")
    halves = [home / "a.nii", home / "b.nii"]
    whole = nib.load(home / "all.nii.gz")
    nib.save(whole.slicer[..., :40], halves[0])
    nib.save(whole.slicer[..., 40:], halves[1])
    refused(Nifti(halves, home / "labels.tsv"), "3 runs", "2 images")


def test_images_may_have_one_volume_each(home, refused):
    expected = one_image(home).load(1)
    volumes = []
    for number, volume in enumerate(nib.four_to_three(nib.load(home / "all.nii.gz"))):
        volumes.append(home / f"volume-{number}.nii")
        nib.save(volume, volumes[-1])
    recording = Nifti(f"{home}/volume-*.nii", home / "labels.tsv", masks={"vt": home / "vt.nii.gz"}).load(1)
    assert recording.bold == tuple(volumes)  # 10 after 9
    pd.testing.assert_frame_equal(recording.labels, expected.labels)
    samples = load_samples(recording, FACE_CAT, Roi(), Signal())
    masked = apply_mask(expected.bold, str(home / "vt.nii.gz"), dtype=np.float32)
    np.testing.assert_array_equal(samples.X, masked[samples.volumes])
    refused(Nifti(f"{home}/volume-?.nii", events=f"{home}/events-?.tsv"), "3 files", "10 3D images")


# Events -----------------------------------------------------------------------------------------------------


def test_events_label_the_volumes_that_the_table_labels(home):
    recording = by_events(home).load(1)
    pd.testing.assert_frame_equal(recording.labels, one_image(home).load(1).labels)
    assert recording.t_r == 2.0


def write_events(path, *rows, header="onset\tduration\ttrial_type"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_volume_takes_the_event_that_covers_its_middle(tmp_path):
    # TR 2 s: the middles are at 1, 3, 5 ... s.
    file = write_events(
        tmp_path / "events.tsv",
        "7\t2\tcat",  # from the very middle of volume 3 to that of 4, which it does not hold
        "0.999\t0.002\tface",
        "2\t2.0005\thouse",  # ends a little within the next volume, which is not its own
        "4.0\t1.0\tshoe",  # ends in the middle of volume 2
        "-3\t2.5\tbottle",  # over before the first middle
    )
    conditions, n_lost = label_volumes(read_events(file), 6, 2.0, file)
    assert conditions.tolist() == ["face", "house", "rest", "cat", "rest", "rest"]
    assert n_lost == 2


def test_rounding_of_decimal_times_does_not_move_events(tmp_path):
    """0.1 + 0.2 is not 0.3: blocks of three volumes with a TR of 0.1 s lose or gain none."""
    rows = [f"{0.3 * block!r}\t{0.1 + 0.2!r}\tc{block}" for block in range(50)]
    file = write_events(tmp_path / "events.tsv", *rows)
    conditions, n_lost = label_volumes(read_events(file), 150, 0.1, file)
    assert conditions.tolist() == [f"c{block}" for block in range(50) for _ in range(3)]
    assert n_lost == 0


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    t_r=st.sampled_from([0.72, 1.0, 2.0, 2.2, 2.5]),
    gaps=st.lists(st.tuples(st.floats(0, 9), st.floats(0, 9)), max_size=6),
)
def test_labels_of_events_equal_a_search_volume_by_volume(tmp_path, t_r, gaps):
    onset, events = 0.0, []
    for gap, duration in gaps:
        onset += round(gap, 2) + 0.005
        events.append((onset, round(duration, 2), f"c{len(events)}"))
        onset += round(duration, 2)
    expected = []
    for volume in range(20):
        middle = volume * t_r + t_r / 2
        expected.append(
            next((n for start, long, n in events if start - 1e-6 <= middle < start + long - 1e-6), "rest")
        )
    file = tmp_path / "events.tsv"
    write_events(file, *(f"{start!r}\t{long!r}\t{name}" for start, long, name in events), "1\t1\tn/a")
    conditions, _ = label_volumes(read_events(file), 20, t_r, file)
    assert conditions.tolist() == expected


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        (["0\t4\tface", "3\t4\tcat"], ["lines 2 and 3", "'face' and 'cat'", "volume 1 (3 s)", "trial_types"]),
        (["1_0\t4\tface"], ["line 2", "onset of 'face' is '1_0'"]),
        (["0x1\t4\tface"], ["line 2", "onset of 'face' is '0x1'"]),
        (["\u0661\t4\tface"], ["line 2", "onset of 'face' is '\u0661'"]),
        (["0\t1_0\tface"], ["line 2", "duration of 'face' is '1_0'"]),
        (["0\tInfinity\tface"], ["duration of 'face' is 'Infinity'"]),
        (["n/a\t4\tface"], ["line 2", "onset of 'face' is 'n/a'"]),
        (["nan\t4\tface"], ["line 2", "onset of 'face' is 'nan'"]),
        (["inf\t4\tface"], ["onset of 'face' is 'inf'"]),
        (["0\tn/a\tface"], ["duration of 'face' is 'n/a'"]),
        (["0\t-1\tface"], ["duration of 'face' is '-1'", "not negative"]),
        (["1,5\t4\tface"], ["onset of 'face' is '1,5'"]),
        (["0\t4"], ["line 2", "2 cells"]),
        ([], ["no rows"]),
    ],
)
def test_invalid_events_tables_are_refused(home, rows, parts, refused):
    file = write_events(home / "events-1.tsv", *rows)
    refused(by_events(home), file, *parts)


def test_overlapping_events_of_one_condition_are_merged(tmp_path):
    # TR 2 s: the middles are at 1, 3, 5 ... s.
    file = write_events(
        tmp_path / "events.tsv", "0\t4\tface", "2\t4\tface", "2\t2\tface", "2\t2\tface", "8\t2\tcat"
    )
    conditions, n_lost = label_volumes(read_events(file), 6, 2.0, file)
    assert conditions.tolist() == ["face", "face", "face", "rest", "cat", "rest"]
    assert n_lost == 0


intervals = st.tuples(st.integers(0, 12), st.integers(1, 6), st.sampled_from("ab"))


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(intervals, min_size=1, max_size=6))
def test_a_volume_is_refused_only_if_two_conditions_cover_it(tmp_path, events):
    """TR 1 s, whole seconds: volume v lies in the event from `start` on if start <= v < start + seconds."""
    claims = [{name for start, long, name in events if start <= v < start + long} for v in range(20)]
    file = tmp_path / "events.tsv"
    write_events(file, *(f"{start}\t{long}\t{name}" for start, long, name in events))
    if any(len(claim) > 1 for claim in claims):
        with pytest.raises(DataError, match=r"'[ab]' and '[ab]' overlap"):
            label_volumes(read_events(file), 20, 1.0, file)
    else:
        conditions, _ = label_volumes(read_events(file), 20, 1.0, file)
        assert conditions.tolist() == [claim.pop() if claim else "rest" for claim in claims]


@pytest.mark.parametrize("word", ["", "N/A", "NaN", "nan", "NA", "#N/A", "<NA>"])
def test_events_without_a_condition_are_skipped_with_a_warning(tmp_path, word):
    """n/a is how BIDS writes it; what else programs write is left out with a warning."""
    rows = ["0\t4\tface", f"4\t2\t{word}", "8\t2\tn/a"]
    file = write_events(tmp_path / "events.tsv", *rows)
    with pytest.warns(UserWarning, match=rf"line 3: trial_type is '{word}'.*n/a"):
        events = read_events(file)
    assert events["condition"].tolist() == ["face"]
    # Chosen conditions leave no doubt.
    assert read_events(file, trial_types=["face"])["condition"].tolist() == ["face"]


@pytest.mark.parametrize("word", ["none", "null", "None", "na", "nano", "0"])
def test_a_condition_may_be_called_none_or_null(tmp_path, word):
    file = write_events(tmp_path / "events.tsv", f"0\t4\t{word}")
    assert read_events(file)["condition"].tolist() == [word]


def test_events_need_onset_duration_and_condition(home, refused):
    file = write_events(home / "events-0.tsv", "0\t2\tface", header="onset\tduration\tstimulus")
    refused(by_events(home), file, "no column 'trial_type'", "stimulus")
    write_events(home / "events-0.tsv", "0\t2\tface", header="onset\tlength\ttrial_type")
    refused(by_events(home), "no column 'duration'")


def test_trial_types_choose_the_events(home, refused):
    expected = by_events(home).load(1).labels
    for run in range(3):
        file = home / f"events-{run}.tsv"
        lines = file.read_text().splitlines()
        file.write_text("\n".join([*lines, "0\t66\twhole_run", "5\tn/a\tbutton", "1\t3\tn/a"]))
    refused(by_events(home), "line 9", "'button'", "trial_types")
    labels = by_events(home, trial_types=["face", "cat", "house"]).load(1).labels
    pd.testing.assert_frame_equal(labels, expected)


def test_events_column_names_the_condition(home):
    expected = by_events(home).load(1).labels
    for run in range(3):
        file = home / f"events-{run}.tsv"
        file.write_text(file.read_text().replace("trial_type", "stimulus"))
    pd.testing.assert_frame_equal(by_events(home, events_column="stimulus").load(1).labels, expected)


def test_events_without_a_volume_are_counted_in_one_warning(home):
    for run in range(2):
        with (home / f"events-{run}.tsv").open("a") as file:
            file.write("66\t8\tface\n65.5\t0\tcat\n")
    with pytest.warns(UserWarning) as warned:
        labels = by_events(home).load(1).labels
    assert len(warned) == 1
    message = str(warned[0].message)
    for part in ("2 of 8 in", "events-0.tsv", "0 to 66 s", "and in 1 more"):
        assert part in message
    assert len(labels) == 99


def test_events_need_one_image_per_run(home, refused):
    refused(Nifti(home / "all.nii.gz", events=f"{home}/events-?.tsv"), "3 files", "1 4D images", "all.nii.gz")


# Repetition time --------------------------------------------------------------------------------------------


def rewrite_header(path, unit, t_r):
    image = nib.load(path)
    image = nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine)
    image.header.set_xyzt_units("mm", unit)
    image.header.set_zooms((*image.header.get_zooms()[:3], t_r))
    nib.save(image, path)


def test_repetition_time_is_read_in_any_unit(home):
    for run in range(3):
        rewrite_header(home / f"run-{run}.nii.gz", "msec", 2000)
    assert by_events(home).load(1).t_r == 2.0


@pytest.mark.parametrize(("unit", "t_r"), [(None, 2.0), ("sec", 0.0), ("hz", 2.0)])
def test_events_need_a_repetition_time(home, unit, t_r, refused):
    for run in range(3):
        rewrite_header(home / f"run-{run}.nii.gz", unit, t_r)
    refused(by_events(home), "run-0.nii.gz", "repetition time", "dataset.t_r=2")
    pd.testing.assert_frame_equal(by_events(home, t_r=2).load(1).labels, one_image(home).load(1).labels)
    # A table of labels needs none, except for filtering.
    rewrite_header(home / "all.nii.gz", unit, t_r)
    recording = one_image(home, masks={"vt": home / "vt.nii.gz"}).load(1)
    assert recording.t_r is None
    assert len(load_samples(recording, FACE_CAT, Roi(), Signal("run", detrend=True)).X) == 60
    with pytest.raises(DataError, match=r"signal\.high_pass=0\.01.*dataset\.t_r=2"):
        load_samples(recording, FACE_CAT, Roi(), Signal(high_pass=0.01))


def test_repetition_times_of_runs_must_be_equal(home, refused):
    rewrite_header(home / "run-2.nii.gz", "sec", 2.5)
    refused(by_events(home), "2.0 s", "run-0.nii.gz", "2.5 s", "run-2.nii.gz", "dataset.t_r=2")
    assert by_events(home, t_r=2).load(1).t_r == 2


@pytest.mark.parametrize("t_r", [0, -2.0, float("nan")])
def test_repetition_time_must_be_positive(home, t_r):
    with pytest.raises(UsageError, match=r"dataset\.t_r="):
        by_events(home, t_r=t_r)


# Files ------------------------------------------------------------------------------------------------------


def test_images_and_labels_are_required(home):
    with pytest.raises(UsageError, match=r"dataset\.bold is not given"):
        Nifti(labels="labels.tsv")
    with pytest.raises(UsageError, match="expected one of the two"):
        Nifti(home / "all.nii.gz")
    with pytest.raises(UsageError, match="expected one of the two"):
        Nifti(home / "all.nii.gz", "labels.tsv", events="events.tsv")
    with pytest.raises(UsageError, match=r"dataset\.bold=\[\] is empty"):
        Nifti([], "labels.tsv").load(1)


def test_a_missing_mask_names_key_and_file(nifti_study, refused):
    dataset = one_image(
        nifti_study / "sub-{subject:02d}", masks={"ffa": nifti_study / "{subject}-ffa.nii.gz"}
    )
    refused(dataset, "dataset.masks.ffa", nifti_study / "2-ffa.nii.gz", "no subject has a file", subject=2)


def test_missing_files_name_key_and_file(home, refused):
    refused(one_image(home, "labelz.tsv"), "dataset.labels", home / "labelz.tsv")
    refused(one_image(home, "*.csv"), "dataset.labels", home / "*.csv")
    refused(one_image(home, anat=home / "anat.nii.gz"), "dataset.anat", "anat.nii.gz")
    refused(one_image(home, confounds=home / "motion.tsv"), "dataset.confounds", "motion.tsv")
    refused(one_image(home, confounds=home / "confounds-0.tsv"), "1 files", "3 runs")
    refused(one_image(home, anat=home / "run-?.nii.gz"), "matches 3 files")


def test_a_file_listed_twice_is_refused(home, refused):
    run = home / "run-0.nii.gz"
    refused(Nifti([run, run], home / "labels.tsv"), "dataset.bold", "twice")
    try:
        (home / "run-3.nii.gz").symlink_to(run)
    except OSError:
        pytest.skip("this system gives no links to its users")
    refused(Nifti(f"{home}/run-?.nii.gz", home / "labels.tsv"), "run-3.nii.gz is listed twice")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not an image that can be read"),
        (b"not an image", "the compressed data are damaged"),
        (b"\x1f\x8b\x08\x00\x00", "the compressed data are damaged"),
    ],
)
def test_other_content_than_an_image_is_refused(home, content, words, refused):
    (home / "all.nii.gz").write_bytes(content)
    refused(one_image(home), home / "all.nii.gz", words)


def test_an_image_of_five_dimensions_is_refused(home, refused):
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2, 2, 2), dtype=np.int16), np.eye(4)), home / "all.nii.gz")
    refused(one_image(home), "5 dimensions")


@pytest.mark.parametrize(
    "template", ["{sub}/bold.nii", "{subject:z}/bold.nii", "{/bold.nii", "{0}", "{subject.x}"]
)
def test_other_braces_than_the_subject_are_refused(home, template, refused):
    refused(Nifti(template, "labels.tsv"), "dataset.bold", template, "{subject:02d}", kind=UsageError)


def test_a_missing_subject_lists_the_available_ones(nifti_study, refused):
    (nifti_study / "sub-10x").mkdir()
    dataset = one_image(nifti_study / "sub-{subject:02d}")
    refused(dataset, "subject 7", "sub-07", "subject 1, 2;", subject=7)
    nested = Nifti(f"{nifti_study}/sub-{{subject:02d}}/run-?.nii.gz", "labels.tsv")
    refused(nested, "subject 1, 2;", subject=7)


def test_images_that_do_not_depend_on_the_subject_cause_a_notice(home, nifti_study):
    assert "every subject has the same images, here called 5" in one_image(home).load(5).notice
    assert one_image(nifti_study / "sub-{subject:02d}").load(1).notice is None


def test_paths_may_be_relative_or_begin_with_a_tilde(home, monkeypatch):
    monkeypatch.chdir(home)
    assert one_image(home.relative_to(home)).load(1).labels.shape == (99, 2)
    assert len(find_files("dataset.bold", "../sub-01/run-?.nii.gz", 1)) == 3
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    assert find_files("dataset.bold", "~/run-*.nii.gz", 1) == tuple(
        home / f"run-{n}.nii.gz" for n in range(3)
    )


def test_a_name_with_brackets_is_not_a_wildcard_if_the_file_exists(tmp_path):
    (tmp_path / "run[1].nii").touch()
    assert find_files("dataset.bold", tmp_path / "run[1].nii", 1) == (tmp_path / "run[1].nii",)


def test_numbers_in_names_are_sorted_by_value():
    assert in_natural_order(["run-10", "run-2", "run-1", "a", ""]) == ["", "a", "run-1", "run-2", "run-10"]


# Confounds --------------------------------------------------------------------------------------------------


def test_confounds_are_regressed_out_as_nilearn_does(home):
    recording = one_image(home, masks={"vt": home / "vt.nii.gz"}, confounds=f"{home}/confounds-?.tsv").load(1)
    assert recording.confounds["drift"].tolist() == [v + run for run in range(3) for v in range(33)]
    samples = load_samples(recording, FACE_CAT, Roi(), Signal("none", confounds=["drift"]))
    masked = apply_mask(recording.bold, str(home / "vt.nii.gz"), dtype=np.float32)
    runs = np.repeat(range(3), 33)
    parts = [
        clean(
            masked[runs == run],
            confounds=recording.confounds[runs == run].to_numpy(),
            detrend=False,
            standardize=None,
            filter=False,
        )
        for run in range(3)
    ]
    np.testing.assert_array_equal(samples.X, np.concatenate(parts)[samples.volumes])


def test_confounds_need_one_row_per_volume_of_the_run(home, refused):
    (home / "confounds-1.tsv").write_text("drift\n1\n2\n")
    dataset = one_image(home, confounds=f"{home}/confounds-?.tsv")
    refused(dataset, home / "confounds-1.tsv", "2 rows", "33 volumes")


def test_runs_in_another_order_than_their_numbers_keep_their_volumes(home):
    """Cleaning by run gives every volume back in its place, whatever the runs are called."""
    signal = Signal("run", detrend=True)
    expected = load_samples(
        one_image(home, masks={"vt": home / "vt.nii.gz"}).load(1), FACE_CAT, Roi(), signal
    )
    text = (home / "labels.tsv").read_text()
    (home / "labels.tsv").write_text(text.replace("\n0\t", "\n9\t"))
    recording = one_image(home, masks={"vt": home / "vt.nii.gz"}).load(1)
    assert recording.labels["run"].unique().tolist() == [9, 1, 2]
    np.testing.assert_array_equal(load_samples(recording, FACE_CAT, Roi(), signal).X, expected.X)


def test_confounds_are_read_to_the_last_digit(tmp_path, rng):
    values = rng.normal(size=200) * 10.0 ** rng.integers(-12, 12, size=200)
    (tmp_path / "a.tsv").write_text("\n".join(["x", *map(repr, values.tolist())]))
    np.testing.assert_array_equal(read_confounds([tmp_path / "a.tsv"], [200])["x"], values)


@pytest.mark.parametrize("word", ["", "n/a", "N/A", "NaN", "nan", "NA"])
def test_every_spelling_of_a_missing_confound_is_nan(tmp_path, word):
    (tmp_path / "a.tsv").write_text(f"x\ty\n{word}\t1\n2\t2\n")
    np.testing.assert_array_equal(read_confounds([tmp_path / "a.tsv"], [2])["x"], [np.nan, 2])


def test_runs_may_have_different_confounds(tmp_path):
    (tmp_path / "a.tsv").write_text("x\tword\tmotion_outlier00\nn/a\tup\t0\n1\tdown\t1\n")
    (tmp_path / "b.tsv").write_text("x\ty\n2\t5\n3\t6\n4\t\n")
    table = read_confounds([tmp_path / "a.tsv", tmp_path / "b.tsv"], [2, 3])
    np.testing.assert_array_equal(table["x"], [np.nan, 1, 2, 3, 4])
    np.testing.assert_array_equal(table["y"], [np.nan, np.nan, 5, 6, np.nan])
    # An outlier that another run does not have is nowhere in that run.
    np.testing.assert_array_equal(table["motion_outlier00"], [0, 1, 0, 0, 0])
    assert table["word"].tolist()[:2] == ["up", "down"]


# Through the front door -------------------------------------------------------------------------------------


def test_a_composed_request_decodes(compose, nifti_study):
    home = f"{nifti_study}/sub-{{subject:02d}}"
    request = compose(
        "dataset=nifti",
        f"++dataset.bold='{home}/run-?.nii.gz'",
        f"++dataset.events='{home}/events-?.tsv'",
        f"++dataset.masks.vt='{home}/vt.nii.gz'",
        "subject=2",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoding = decode_request(request)
    assert len(decoding.folds) == 3
    # Four voxels rise while faces are shown.
    assert decoding.folds["test_accuracy"].mean() > 0.9
    weights = np.asarray(decoding.weights[0].mean.dataobj)
    assert np.unravel_index(weights.argmax(), weights.shape)[:2] == (0, 0)


# Spaces -----------------------------------------------------------------------------------------------------


def test_space_of_a_template_is_that_of_the_recording(home):
    assert one_image(home).load(1).space is None
    assert one_image(home, space="MNI152NLin2009cAsym").load(1).space == "MNI152NLin2009cAsym"


@pytest.mark.parametrize("space", ["T1w", "func", "native", "", "MNI 152", "../space", 152])
def test_space_of_one_subject_or_without_a_name_is_refused(home, space):
    with pytest.raises(UsageError, match=r"dataset\.space="):
        one_image(home, space=space)
