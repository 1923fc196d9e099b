"""Two results are identical to the last bit, or it is named where they differ."""

import gzip
import io
import json

import nibabel as nib
import numpy as np
import pytest

from harness.comparison.numbers import Results, compare_file, compare_results, is_compared, select_metrics

TABLE = "fold,volume,class,decision_value\n1,10,cat,0.25\n1,11,face,-0.5\n2,12,NA,\n"


def image(voxels, shift=0.0):
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[0, 3] = shift
    return gzip.compress(nib.Nifti1Image(voxels, affine).to_bytes())


def arrays(**named):
    stream = io.BytesIO()
    np.savez(stream, **named)
    return stream.getvalue()


def describe(changes):
    return [(change.part, change.n_changed, change.where, change.first, change.second) for change in changes]


def test_how_a_number_is_written_does_not_count():
    written = TABLE.replace("0.25", "2.5e-1").replace("\n", "\r\n")
    assert compare_file("a.csv", TABLE.encode(), written.encode()) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("0.25", "0.75", ("decision_value", 1, "fold 1, volume 10, class cat", "0.25", "0.75")),
        ("face", "cat", ("class", 1, "fold 1, volume 11", "face", "cat")),
        ("NA", "nan", ("class", 1, "fold 2, volume 12", "NA", "nan")),
        ("NA,", "NA,0.5", ("decision_value", 1, "fold 2, volume 12, class NA", "nan", "0.5")),
        ("decision_value", "score", ("decision_value", 1, "", "present", "missing")),
        ("2,12,NA,\n", "", ("rows", 1, "", "3", "2")),
    ],
)
def test_change_of_a_table_is_described(old, new, expected):
    changed = TABLE.replace(old, new)
    assert expected in describe(compare_file("a.csv", TABLE.encode(), changed.encode()))


def test_largest_difference_of_a_column_is_named_with_its_row():
    changed = TABLE.replace("0.25", "0.26").replace("-0.5", "0.5")
    (change,) = compare_file("a.csv", TABLE.encode(), changed.encode())
    assert (change.n_changed, change.n_compared, change.largest) == (2, 3, 1.0)
    assert change.where == "fold 1, volume 11, class face"


def test_value_that_only_one_of_them_has_is_the_largest_difference():
    changed = TABLE.replace("0.25", "1000").replace("NA,", "NA,0.5")
    (change,) = compare_file("a.csv", TABLE.encode(), changed.encode())
    assert change.largest == np.inf
    assert change.where == "fold 2, volume 12, class NA"


@pytest.mark.parametrize("bit", [0, 31, 63])
def test_every_bit_of_a_float_counts(bit):
    before = np.array([1.5, 0.0])
    after = before.copy()
    after.view(np.uint64)[1] ^= np.uint64(1) << np.uint64(bit)  # the last one turns 0 into -0
    (change,) = compare_file("a.npz", arrays(x=before), arrays(x=after))
    assert (change.n_changed, change.where) == (1, "entry 1")


def test_undefined_values_are_equal_whatever_their_bits():
    before = np.array([np.nan])
    after = before.copy()
    after.view(np.uint64)[0] ^= np.uint64(1)
    assert compare_file("a.npz", arrays(x=before), arrays(x=after)) == []


def test_images_are_compared_by_voxels_and_affine_not_by_their_compression():
    voxels = np.zeros((3, 2, 2), dtype=np.float32)
    slow = gzip.compress(gzip.decompress(image(voxels)), compresslevel=1, mtime=5)
    assert compare_file("a.nii.gz", image(voxels), slow) == []
    other = voxels.copy()
    other[2, 0, 1] = -0.25
    (change,) = compare_file("a.nii.gz", image(voxels), image(other))
    assert (change.part, change.where, change.largest) == ("voxels", "voxel 2, 0, 1", 0.25)
    (change,) = compare_file("a.nii.gz", image(voxels), image(voxels, shift=1.5))
    assert (change.part, change.where, change.largest) == ("affine", "entry 0, 3", 1.5)
    (change,) = compare_file("a.nii.gz", image(voxels), image(voxels[:2]))
    assert (change.where, change.first, change.second) == ("shape", "(3, 2, 2)", "(2, 2, 2)")


def test_arrays_of_text_and_missing_arrays_are_compared():
    before = arrays(classes=np.array(["face", "cat"]), intercept=np.float64(0.5))
    after = arrays(classes=np.array(["face", "dog"]))
    assert describe(compare_file("d.npz", before, after)) == [
        ("classes", 1, "entry 1", "cat", "dog"),
        ("intercept", 1, "", "present", "missing"),
    ]


def test_findings_are_compared_by_their_rule():
    before = [{"rule": "runs_split", "verdict": "ok"}, {"rule": "blocks_split", "verdict": "ok"}]
    after = [{"rule": "blocks_split", "verdict": "leak"}, {"rule": "runs_split", "verdict": "ok"}]
    contents = [json.dumps(findings).encode() for findings in (before, after)]
    assert describe(compare_file("audit.json", *contents)) == [("blocks_split.verdict", 1, "", "ok", "leak")]


@pytest.mark.parametrize("name", ["a.csv", "a.nii.gz", "a.npz", "a.json"])
@pytest.mark.parametrize("content", [b"", b"\x00\xffrubbish", b"{"])
def test_damaged_file_differs_and_raises_nothing(name, content):
    good = {"a.csv": TABLE.encode(), "a.nii.gz": image(np.zeros((1, 1, 1), dtype=np.float32))}
    good |= {"a.npz": arrays(x=np.zeros(1)), "a.json": b"[1]"}
    assert compare_file(name, good[name], content)


def test_array_of_objects_is_never_unpickled():
    (change,) = compare_file("a.npz", arrays(x=np.zeros(1)), arrays(x=np.array([{}], dtype=object)))
    assert "cannot be read" in change.where


def test_files_and_metrics_that_only_one_result_has_differ():
    first = Results({"folds.csv": b"a\n1\n"}, {"test_accuracy_mean": 0.5, "train_accuracy": 1.0})
    second = Results({"grid_scores.csv": b"a\n1\n"}, {"test_accuracy_mean": 0.5})
    assert [(item.file, item.part, item.first, item.second) for item in compare_results(first, second)] == [
        ("folds.csv", "", "present", "missing"),
        ("grid_scores.csv", "", "missing", "present"),
        ("metrics", "train_accuracy", "1.0", "missing"),
    ]
    assert compare_results(first, first) == []


def test_file_that_cannot_be_read_differs_also_from_itself():
    damaged = Results({}, {}, {"folds.csv": "it was edited"})
    (change,) = compare_results(damaged, damaged)
    assert (change.file, change.where) == ("folds.csv", "it was edited")


def test_durations_descriptions_and_corrections_over_a_sweep_are_not_compared():
    metrics = {"test_accuracy_mean": 0.5, "seconds/fit": 2.0, "system/seconds_fit": 2.0}
    metrics |= {"p_fwe/test_accuracy": 0.04}  # which the sweep adds, not the run
    assert select_metrics(metrics) == {"test_accuracy_mean": 0.5}
    names = ["folds.csv", "config.yaml", "environment.txt", "files.json", "weights_a.nii.gz", "weights_a.png"]
    assert list(filter(is_compared, [*names, "model/MLmodel", "model/decoder.npz", "decoder.npz"])) == [
        "folds.csv",
        "weights_a.nii.gz",
        "decoder.npz",
    ]
