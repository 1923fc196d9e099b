"""The simulated data: Haxby's layout, the same bytes every time, and the calibrated difficulty."""

import errno
import hashlib
import os
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import LeaveOneGroupOut, cross_val_score
from sklearn.svm import LinearSVC

from harness.datasets.haxby import SUBJECTS
from harness.datasets.locations import cache_directory
from harness.datasets.simulated import CONDITIONS, VERSION, Simulated, write_subject
from harness.errors import DataError, UsageError

MASKS = ("mask4_vt", "mask8_face_vt", "mask8_house_vt", "mask8b_face_vt", "mask8b_house_vt")
FILES = {f"{name}.nii.gz" for name in MASKS} | {"bold.nii.gz", "anat.nii.gz", "labels.txt"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("simulated")


@pytest.fixture(scope="module")
def folder(root):
    return write_subject(root, 1)


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def start_python(code, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


WRITE = """
import sys
from pathlib import Path
from harness.datasets.simulated import write_subject
print(write_subject(Path(sys.argv[1]), 1))
"""


def read_array(path):
    return np.asanyarray(nib.load(path).dataobj)


def read_blocks(folder):
    """Return (run, condition, first volume, length) of every stretch of volumes."""
    rows = [line.split() for line in (folder / "labels.txt").read_text().splitlines()[1:]]
    stretches = []
    volumes_before = {}
    for (condition, run), members in groupby(rows, key=tuple):
        length = len(list(members))
        stretches.append((int(run), condition, volumes_before.get(run, 0), length))
        volumes_before[run] = volumes_before.get(run, 0) + length
    return stretches


class TestLayout:
    def test_files_are_those_of_the_archive(self, root, folder):
        assert folder == root / "haxby2001" / "subj1"
        assert {path.name for path in folder.iterdir()} == FILES
        assert (root / "haxby2001" / "mask.nii.gz").is_file()

    def test_labels_file_is_written_like_haxbys(self, folder):
        text = (folder / "labels.txt").read_bytes().decode("ascii")
        assert text.startswith("labels chunks\nrest 0\nrest 0\n")
        assert text.endswith("rest 11\n")
        assert text.count("\n") == 1 + 1452

    def test_blocks_start_when_haxbys_do(self, folder):
        blocks = [stretch for stretch in read_blocks(folder) if stretch[1] != "rest"]
        assert len(blocks) == 12 * 8
        for run in range(12):
            of_run = [block for block in blocks if block[0] == run]
            assert [first for *_, first, _ in of_run] == [6, 21, 35, 49, 63, 78, 92, 106]
            assert {length for *_, length in of_run} == {9}
            assert sorted(condition for _, condition, *_ in of_run) == sorted(CONDITIONS)

    def test_block_order_differs_between_runs(self, folder):
        orders = {
            run: tuple(condition for _, condition, *_ in stretches if condition != "rest")
            for run, stretches in groupby(read_blocks(folder), key=lambda stretch: stretch[0])
        }
        assert len(set(orders.values())) == 12

    def test_bold_is_int16_and_zero_outside_the_brain(self, root, folder):
        image = nib.load(folder / "bold.nii.gz")
        brain = read_array(root / "haxby2001" / "mask.nii.gz") > 0
        bold = np.asanyarray(image.dataobj)
        assert bold.dtype == np.int16
        assert bold.shape == (*brain.shape, 1452)
        assert image.header.get_zooms()[3] == 2.5
        assert not bold[~brain].any()
        assert 300 < bold[brain].min()
        assert bold[brain].max() < 2000

    def test_masks_lie_on_the_bold_grid_and_inside_vt(self, root, folder):
        bold = nib.load(folder / "bold.nii.gz")
        vt = read_array(folder / "mask4_vt.nii.gz") > 0
        assert 400 <= vt.sum() <= 700
        paths = [folder / f"{name}.nii.gz" for name in MASKS]
        for path in [*paths, root / "haxby2001" / "mask.nii.gz"]:
            mask = nib.load(path)
            np.testing.assert_array_equal(mask.affine, bold.affine)
            assert mask.shape == bold.shape[:3]
            assert set(np.unique(mask.dataobj)) == {0, 1}
        for condition in ("face", "house"):
            large = read_array(folder / f"mask8_{condition}_vt.nii.gz") > 0
            small = read_array(folder / f"mask8b_{condition}_vt.nii.gz") > 0
            assert not (large & ~vt).any()
            assert not (small & ~large).any()
            assert 0 < small.sum() < large.sum() < vt.sum()

    def test_vt_is_ventral_temporal_and_bilateral_in_mni_space(self, folder):
        image = nib.load(folder / "mask4_vt.nii.gz")
        x, y, z = nib.affines.apply_affine(
            image.affine, np.argwhere(read_array(folder / "mask4_vt.nii.gz"))
        ).T
        assert (np.abs(x) > 15).all()
        assert 0.4 < (x < 0).mean() < 0.6
        assert -80 < y.min() < y.max() < -25
        assert -30 < z.min() < z.max() < -4

    def test_anat_shows_the_brain_where_the_bold_mask_is(self, root, folder):
        anat = nib.load(folder / "anat.nii.gz")
        mask = nib.load(root / "haxby2001" / "mask.nii.gz")
        places = nib.affines.apply_affine(mask.affine, np.argwhere(np.asanyarray(mask.dataobj)))
        voxels = np.rint(nib.affines.apply_affine(np.linalg.inv(anat.affine), places)).astype(int)
        assert (np.asanyarray(anat.dataobj)[tuple(voxels.T)] > 0).mean() > 0.97
        elsewhere = nib.affines.apply_affine(mask.affine, np.argwhere(np.asanyarray(mask.dataobj) == 0))
        voxels = np.rint(nib.affines.apply_affine(np.linalg.inv(anat.affine), elsewhere)).astype(int)
        assert (np.asanyarray(anat.dataobj)[tuple(voxels.T)] > 0).mean() < 0.1

    def test_tuned_masks_prefer_their_category(self, folder):
        bold = read_array(folder / "bold.nii.gz")
        conditions = np.loadtxt(folder / "labels.txt", dtype=str, skiprows=1)[:, 0]
        for condition, other in (("face", "house"), ("house", "face")):
            tuned = bold[read_array(folder / f"mask8_{condition}_vt.nii.gz") > 0].mean(axis=0)
            assert tuned[conditions == condition].mean() > tuned[conditions == other].mean()

    def test_subject_stays_below_20_mb(self, folder):
        assert sum(path.stat().st_size for path in folder.iterdir()) < 20e6


class TestDeterminism:
    @pytest.mark.slow
    def test_another_process_with_another_thread_count_writes_the_same_bytes(self, folder, tmp_path):
        process = start_python(WRITE, tmp_path, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
        written, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert digests(Path(written.strip())) == digests(folder)

    def test_a_whole_subject_is_not_written_again(self, root, folder):
        before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        assert write_subject(root, 1) == folder
        assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before

    @pytest.mark.slow
    def test_subjects_and_seeds_differ_but_share_the_brain_mask(self, root, folder, tmp_path):
        mask = (root / "haxby2001" / "mask.nii.gz").read_bytes()
        of_other_subject = digests(write_subject(tmp_path, 2))
        of_other_seed = digests(write_subject(tmp_path, 1, seed=1))
        own = digests(folder)
        for other in (of_other_subject, of_other_seed):
            same = {name for name in FILES if own[name] == other[name]}
            assert same == {"anat.nii.gz"}
        assert (tmp_path / "haxby2001" / "mask.nii.gz").read_bytes() == mask


class TestInterruption:
    @pytest.mark.slow
    def test_two_processes_on_the_same_cold_subject_make_one(self, folder, tmp_path):
        processes = [start_python(WRITE, tmp_path) for _ in range(2)]
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
        home = tmp_path / "haxby2001"
        assert digests(home / "subj1") == digests(folder)
        assert {path.name for path in home.iterdir() if path.name[0] != "."} == {"subj1", "mask.nii.gz"}

    @pytest.mark.slow
    def test_a_kill_leaves_no_subject_and_is_cleaned_up(self, folder, tmp_path):
        killed_at_the_anat = """
import os
from harness.datasets import simulated
write = simulated._write_image
def write_or_die(path, data, affine):
    write(path, data, affine)
    if path.name == "anat.nii.gz":
        os._exit(9)
simulated._write_image = write_or_die
"""
        process = start_python(killed_at_the_anat + WRITE, tmp_path)
        process.communicate(timeout=120)
        assert process.returncode == 9
        home = tmp_path / "haxby2001"
        assert not (home / "subj1").exists()

        assert digests(write_subject(tmp_path, 1)) == digests(folder)
        assert {path.name for path in home.iterdir()} == {"subj1", "mask.nii.gz", ".subj1.lock"}

    @pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
    @pytest.mark.slow
    def test_a_full_disk_is_one_message_and_leaves_nothing_half_written(self, tmp_path):
        limited = """
import resource, sys
from pathlib import Path
from harness.datasets.simulated import write_subject
from harness.errors import DataError
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    write_subject(Path(sys.argv[1]), 1)
except DataError as error:
    print(error)
"""
        message, _ = start_python(limited, tmp_path).communicate(timeout=120)
        home = tmp_path / "haxby2001"
        assert str(home) in message
        assert os.strerror(errno.EFBIG) in message
        assert "HARNESS_CACHE" in message
        assert {path.name for path in home.iterdir()} <= {"mask.nii.gz", ".subj1.lock"}


class TestLoad:
    @pytest.mark.usefixtures("folder")
    def test_recording_comes_from_cache_dir_and_has_a_notice(self, root, tmp_path):
        # A whole subject under the name of the seed is read, so that no other one is simulated.
        (tmp_path / f"simulated-v{VERSION}-seed3").symlink_to(root)
        recording = Simulated(seed=3, cache_dir=str(tmp_path)).load(1)
        folder = tmp_path / f"simulated-v{VERSION}-seed3" / "haxby2001" / "subj1"
        assert recording.bold == folder / "bold.nii.gz"
        assert recording.anat == folder / "anat.nii.gz"
        assert recording.subject == 1
        assert recording.t_r == 2.5
        assert len(recording.labels) == 1452
        assert {"vt", "face", "house", "face_little", "house_little", "brain"} <= set(recording.masks)
        assert all(path.is_file() for path in recording.masks.values())
        assert recording.notice is not None
        assert "SIMULATED" in recording.notice
        assert "dataset=haxby" in recording.notice

    def test_default_cache_follows_the_environment(self, root, folder, tmp_path, monkeypatch):
        monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
        assert cache_directory() == tmp_path
        # A complete subject is found in HARNESS_CACHE, so that nothing is simulated.
        (tmp_path / f"simulated-v{VERSION}-seed0").symlink_to(root)
        assert Simulated().load(1).bold.resolve() == (folder / "bold.nii.gz").resolve()
        assert Simulated().load(1).space == "MNI152NLin2009aSym"

    def test_an_empty_variable_means_the_users_cache_directory(self, monkeypatch):
        monkeypatch.setenv("HARNESS_CACHE", "")
        assert cache_directory().is_absolute()
        assert "harness" in cache_directory().parts

    @pytest.mark.parametrize("subject", [0, 7, -1, "one"])
    def test_an_unknown_subject_is_refused(self, subject, tmp_path):
        with pytest.raises(DataError, match=rf"subject={subject!r} does not exist.*1 to 6; .*subject=1"):
            Simulated(cache_dir=tmp_path).load(subject)
        assert not list(tmp_path.iterdir())

    def test_a_negative_seed_is_refused(self, tmp_path):
        with pytest.raises(UsageError, match=r"dataset\.seed=-1 is negative"):
            Simulated(seed=-1, cache_dir=tmp_path).load(1)

    def test_a_cache_that_cannot_be_written_is_named(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(DataError, match="HARNESS_CACHE") as refusal:
            Simulated(cache_dir=tmp_path / "file").load(1)
        assert str(tmp_path / "file") in str(refusal.value)

    def test_an_incomplete_subject_is_refused_and_not_overwritten(self, tmp_path):
        folder = tmp_path / f"simulated-v{VERSION}-seed0" / "haxby2001" / "subj1"
        folder.mkdir(parents=True)
        for name in FILES - {"anat.nii.gz"}:
            (folder / name).touch()
        with pytest.raises(DataError, match=r"subj1 lacks anat.nii.gz; delete this directory"):
            Simulated(cache_dir=tmp_path).load(1)
        assert {path.name for path in folder.iterdir()} == FILES - {"anat.nii.gz"}


def mean_accuracy(X, conditions, runs, pair, estimator):
    """Return leave-one-run-out accuracy with nilearn's arithmetic; X is (n_volumes, n_voxels)."""
    selected = np.isin(conditions, pair)
    Z = X[selected].astype(np.float32)
    Z = (Z - Z.mean(axis=0)) / Z.std(axis=0, ddof=1)
    scores = cross_val_score(
        estimator, Z.astype(np.float64), conditions[selected], groups=runs[selected], cv=LeaveOneGroupOut()
    )
    return scores.mean()


@pytest.mark.slow
def test_difficulty_is_calibrated(tmp_path):
    svc = LinearSVC(C=100, max_iter=10_000, random_state=0)
    cat, house, elsewhere, dummy = [], [], [], []
    for subject in SUBJECTS:
        folder = write_subject(tmp_path, subject)
        conditions, runs = np.loadtxt(folder / "labels.txt", dtype=str, skiprows=1).T
        bold = read_array(folder / "bold.nii.gz")
        X = bold[read_array(folder / "mask4_vt.nii.gz") > 0].T
        cat.append(mean_accuracy(X, conditions, runs, ("face", "cat"), svc))
        house.append(mean_accuracy(X, conditions, runs, ("face", "house"), svc))
        dummy.append(mean_accuracy(X, conditions, runs, ("face", "cat"), DummyClassifier()))
        # The frontal end of the slab holds noise alone.
        frontal = bold[:, bold.shape[1] * 3 // 4 :].reshape(-1, bold.shape[3])
        frontal = frontal[frontal[:, 0] > 0].T
        elsewhere.append(mean_accuracy(frontal, conditions, runs, ("face", "house"), svc))

    assert np.mean(cat) == pytest.approx(0.80, abs=0.03)
    assert 0.70 <= min(cat) <= max(cat) <= 0.92
    assert np.mean(house) == pytest.approx(0.97, abs=0.015)
    assert min(house) >= 0.92
    assert dummy == [0.5] * 6
    # Standard error about 0.03.
    assert np.mean(elsewhere) == pytest.approx(0.5, abs=0.08)
