"""The cache of masked samples: never wrong, never half there, and never in the way."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from harness.app.verbs import run_verb
from harness.datasets.images import digest_files
from harness.errors import DataError
from harness.samples import cache as cache_module
from harness.samples.cache import SampleCache
from harness.samples.volumes import MaskedVolumes, read_masked

AFFINE = np.diag([3.5, 3.75, 3.75, 1.0])


@pytest.fixture
def mask(rng):
    return rng.random((6, 5, 4)) < 0.5


def write_bold(path, seed=0, n_volumes=20):
    values = np.random.default_rng(seed).integers(0, 3000, (6, 5, 4, n_volumes)).astype(np.int16)
    nib.save(nib.Nifti1Image(values, AFFINE), path)
    return path


@pytest.fixture
def bold(tmp_path):
    return write_bold(tmp_path / "bold.nii.gz")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "_said", set())
    return SampleCache(tmp_path / "cache")


class Counted:
    """A computation that counts how often it is asked for."""

    def __init__(self, bold, mask):
        self.bold, self.mask, self.n_calls = bold, mask, 0

    def __call__(self):
        self.n_calls += 1
        return read_masked(self.bold, self.mask, AFFINE)


def assert_same(actual, expected):
    for name in ("data", "mean_volume", "affine"):
        array = getattr(actual, name)
        np.testing.assert_array_equal(array, getattr(expected, name))
        assert array.dtype == getattr(expected, name).dtype
        assert not array.flags.writeable
    assert actual.digest == expected.digest


def entry_folder(cache):
    (folder,) = (cache.folder / "entries").iterdir()
    return folder


def test_cold_warm_and_off_are_the_same_bits(cache, bold, mask, tmp_path):
    direct = read_masked(bold, mask, AFFINE)
    off = SampleCache(tmp_path / "unused", enabled=False).fetch(bold, mask, AFFINE)
    cold = cache.fetch(bold, mask, AFFINE)
    warm = cache.fetch(bold, mask, AFFINE)
    for masked in (off, cold, warm):
        assert_same(masked, direct)
    assert not (tmp_path / "unused").exists()


def test_a_warm_hit_is_a_memory_map_and_reads_no_image(cache, bold, mask, monkeypatch):
    compute = Counted(bold, mask)
    cache.fetch(bold, mask, AFFINE, compute=compute)
    monkeypatch.setattr(cache_module, "digest_files", lambda bold: pytest.fail("the image was read"))
    warm = cache.fetch(bold, mask, AFFINE, compute=compute)
    assert compute.n_calls == 1
    mapped = warm.data
    while not isinstance(mapped, np.memmap):
        mapped = mapped.base
    assert Path(mapped.filename) == entry_folder(cache) / "samples.npy"
    assert type(warm.data) is np.ndarray


def test_infinities_and_nan_come_back(cache, tmp_path, mask):
    values = np.full((6, 5, 4, 3), np.nan, dtype=np.float32)
    values[..., 1] = -np.inf
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "bold.nii")
    cold = cache.fetch(tmp_path / "bold.nii", mask, AFFINE)
    assert_same(cache.fetch(tmp_path / "bold.nii", mask, AFFINE), cold)
    assert np.isneginf(cold.data[1]).all()


def test_lists_of_images_are_cached_in_their_order(cache, tmp_path, mask):
    paths = [write_bold(tmp_path / f"run{i}.nii.gz", seed=i, n_volumes=3) for i in range(3)]
    one = cache.fetch(paths, mask, AFFINE)
    assert_same(cache.fetch(paths, mask, AFFINE), read_masked(paths, mask, AFFINE))
    other = cache.fetch(paths[::-1], mask, AFFINE)
    assert len(cache.entries()) == 2
    np.testing.assert_array_equal(other.data[:3], one.data[-3:])


# What decides on an entry.


def test_mask_affine_and_preprocessing_decide(cache, bold, mask):
    def fetch(mask=mask, affine=AFFINE, preprocessing=None):
        compute = Counted(bold, mask)
        cache.fetch(bold, mask, affine, preprocessing, compute)
        return compute.n_calls

    other = mask.copy()
    other[tuple(np.argwhere(mask)[0])] = False
    # The same bytes in another shape are another mask.
    reshaped = mask.reshape(4, 5, 6)
    assert fetch() == 1
    assert fetch(other) == 1
    assert fetch(affine=AFFINE * (1 + 1e-9)) == 1
    assert fetch(preprocessing={"smoothing_fwhm": 4}) == 1
    assert fetch(preprocessing={"smoothing_fwhm": 5, "confounds": ["a", "b"]}) == 1
    assert cache_module._digest_recipe(mask, AFFINE, {}) != cache_module._digest_recipe(reshaped, AFFINE, {})
    assert fetch() == fetch(other) == fetch(preprocessing={"smoothing_fwhm": 4}) == 0
    assert fetch(preprocessing={"confounds": ["a", "b"], "smoothing_fwhm": 5}) == 0


def test_a_changed_image_is_read_anew(cache, bold, mask):
    before = cache.fetch(bold, mask, AFFINE)
    status = bold.stat()
    content = nib.load(bold).get_fdata().astype(np.int16) + 1
    nib.save(nib.Nifti1Image(content, AFFINE), bold)
    os.utime(bold, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = cache.fetch(bold, mask, AFFINE)
    np.testing.assert_array_equal(after.data, before.data + 1)


def test_an_image_of_the_same_size_and_time_is_not_mistaken(cache, tmp_path, mask):
    one, other = (write_bold(tmp_path / f"{seed}.nii", seed=seed) for seed in (1, 2))
    before = cache.fetch(one, mask, AFFINE)
    status = one.stat()
    # In place: the inode stays, and so do the size and the modification time.
    one.write_bytes(other.read_bytes())
    os.utime(one, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert one.stat().st_size == status.st_size
    assert (cache.fetch(one, mask, AFFINE).data != before.data).any()


@pytest.mark.parametrize("change", ["touch", "move", "copy"])
def test_the_same_bytes_share_an_entry(cache, bold, mask, change, tmp_path):
    compute = Counted(bold, mask)
    cold = cache.fetch(bold, mask, AFFINE, compute=compute)
    found = bold
    if change == "touch":
        os.utime(bold, ns=(1, 1))
    elif change == "move":
        found = bold.rename(tmp_path / "moved.nii.gz")
    else:
        found = shutil.copy(bold, tmp_path / "copy.nii.gz")
    digested = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache_module, "digest_files", lambda b: digested.append(b) or digest_files(b))
        for _ in range(3):
            assert_same(cache.fetch(found, mask, AFFINE, compute=compute), cold)
    assert compute.n_calls == 1
    assert digested == [found]


def test_an_image_that_changes_while_it_is_read_is_not_kept(cache, bold, mask, tmp_path):
    def compute():
        masked = read_masked(bold, mask, AFFINE)
        write_bold(bold, seed=9)
        return masked

    cache.fetch(bold, mask, AFFINE, compute=compute)
    assert cache.entries() == []


def test_errors_of_reading_pass_and_leave_nothing(cache, bold, mask, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        cache.fetch(tmp_path / "nowhere.nii.gz", mask, AFFINE)
    bold.write_bytes(bold.read_bytes()[:-9])
    for _ in range(2):
        with pytest.raises(DataError, match="damaged or cut short"):
            cache.fetch(bold, mask, AFFINE)
    assert cache.entries() == []
    assert list((cache.folder / "unfinished").glob("*")) == []


# Damaged entries.


def truncate(path, keep):
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * keep))


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[int(position * (len(content) - 1))] ^= 0x08
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["samples.npy", "mean_volume.npy", "entry.json"])
@pytest.mark.parametrize(
    "damage",
    [
        *[pytest.param(lambda path, at=at: flip(path, at), id=f"flip{at}") for at in (0, 0.05, 0.4, 0.9, 1)],
        *[pytest.param(lambda path, k=k: truncate(path, k), id=f"keep{k}") for k in (0, 0.02, 0.5, 0.999)],
        pytest.param(lambda path: path.unlink(), id="lost"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes() + b"\0"), id="longer"),
    ],
)
def test_a_damaged_entry_is_noticed_said_and_rebuilt(cache, bold, mask, name, damage):
    cold = cache.fetch(bold, mask, AFFINE)
    damage(entry_folder(cache) / name)
    with pytest.warns(UserWarning, match="cached samples in .* are damaged: .* made anew") as said:
        assert_same(cache.fetch(bold, mask, AFFINE), cold)
    assert len(said) == 1
    assert_same(cache.fetch(bold, mask, AFFINE), cold)
    assert cache.check() == {}


def test_a_damaged_record_of_an_image_costs_a_digest_only(cache, bold, mask):
    compute = Counted(bold, mask)
    cold = cache.fetch(bold, mask, AFFINE, compute=compute)
    (record,) = (cache.folder / "digests").iterdir()
    for damage in (b"", b"{}", b"null", b"[1]", b"\xff", record.read_bytes().replace(b"digest", b"digset")):
        record.write_bytes(damage)
        assert_same(cache.fetch(bold, mask, AFFINE, compute=compute), cold)
    assert compute.n_calls == 1


def test_damage_of_a_large_entry_is_found_at_its_next_use(cache, bold, mask):
    """A whole brain's samples are some hundred megabytes."""

    def compute():
        data = np.ones((1000, 17_000), dtype=np.float32)
        return MaskedVolumes(data, np.ones(mask.shape, np.float32), digest_files(bold), AFFINE)

    cache.fetch(bold, mask, AFFINE, {}, compute)
    file = entry_folder(cache) / "samples.npy"
    assert file.stat().st_size > 64 * 2**20
    flip(file, 0.7)
    with pytest.warns(UserWarning, match=r"bytes of samples\.npy have changed"):
        again = cache.fetch(bold, mask, AFFINE, {}, compute)
    assert (again.data == 1).all()


def test_check_reads_every_byte_and_removes_what_is_damaged(cache, bold, mask, tmp_path):
    cache.fetch(bold, mask, AFFINE)
    flip(entry_folder(cache) / "samples.npy", 0.7)
    whole = write_bold(tmp_path / "whole.nii.gz", seed=5)
    cache.fetch(whole, mask, AFFINE)
    ((key, problem),) = cache.check().items()
    assert key in problem
    assert "bytes of samples.npy have changed" in problem
    (entry,) = cache.entries()
    assert entry.images == [str(whole)]
    assert cache.check() == {}


def test_an_entry_of_another_format_is_rebuilt(cache, bold, mask):
    cold = cache.fetch(bold, mask, AFFINE)
    sidecar = entry_folder(cache) / "entry.json"
    content = json.loads(sidecar.read_text())["content"]
    sidecar.unlink()
    cache_module._write_json(sidecar, content | {"format": 0})
    with pytest.warns(UserWarning, match="written in format 0, and this is 2"):
        assert_same(cache.fetch(bold, mask, AFFINE), cold)


# Bounds.


def test_entries_say_what_they_hold(cache, bold, mask):
    cache.fetch(bold, mask, AFFINE, {"smoothing_fwhm": 4.0})
    (entry,) = cache.entries()
    assert entry.images == [str(bold)]
    assert entry.preprocessing == {"smoothing_fwhm": 4.0}
    assert entry.shape == (20, mask.sum())
    assert entry.n_bytes == sum(path.stat().st_size for path in entry_folder(cache).iterdir())
    assert abs(entry.last_used - time.time()) < 60


def test_the_least_recently_used_goes_first(tmp_path, cache, mask):
    paths = [write_bold(tmp_path / f"{seed}.nii.gz", seed=seed) for seed in range(4)]
    for path in paths[:3]:
        cache.fetch(path, mask, AFFINE)
    ages = {str(path): 1e9 + age for age, path in enumerate(paths)}
    for folder in (cache.folder / "entries").iterdir():
        (image,) = json.loads((folder / "entry.json").read_text())["content"]["files"]
        os.utime(folder / "entry.json", (ages[image[0]],) * 2)
    cache.fetch(paths[0], mask, AFFINE)  # used again: now the second is the oldest
    size = cache.entries()[0].n_bytes
    small = SampleCache(tmp_path / "cache", max_bytes=3 * size + size // 2)
    small.fetch(paths[3], mask, AFFINE)
    assert {entry.images[0] for entry in cache.entries()} == {str(paths[i]) for i in (0, 2, 3)}
    assert len(list((cache.folder / "digests").iterdir())) == 3
    assert len(cache.trim(size + size // 2)) == 2
    assert len(cache.entries()) == 1
    cache.clear()
    assert cache.entries() == []
    assert not cache.folder.exists()


def test_samples_beyond_the_limit_are_not_kept_and_this_is_said(cache, bold, mask, tmp_path):
    small = SampleCache(tmp_path / "cache", max_bytes=1000)
    with pytest.warns(UserWarning, match="more than its limit of 1000"):
        masked = small.fetch(bold, mask, AFFINE)
    assert_same(masked, read_masked(bold, mask, AFFINE))
    assert small.entries() == []


def test_samples_in_use_survive_clearing(cache, bold, mask):
    cold = cache.fetch(bold, mask, AFFINE)
    warm = cache.fetch(bold, mask, AFFINE)
    cache.clear()
    assert_same(warm, cold)


# Places where nothing can be written.


def fetch_twice_and_expect_one_warning(cache, bold, mask):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(2):
            assert_same(cache.fetch(bold, mask, AFFINE), read_masked(bold, mask, AFFINE))
    (warning,) = said
    assert "does not keep these samples" in str(warning.message)
    assert str(cache.folder) in str(warning.message)
    return str(warning.message)


def test_a_folder_that_cannot_be_made_is_said_once(cache, bold, mask, tmp_path):
    (tmp_path / "file").write_text("in the way")
    fetch_twice_and_expect_one_warning(SampleCache(tmp_path / "file" / "cache"), bold, mask)


def test_a_read_only_folder_still_gives_what_it_has(cache, bold, mask, tmp_path, monkeypatch):
    cold = cache.fetch(bold, mask, AFFINE)
    other = write_bold(tmp_path / "other.nii.gz", seed=3)

    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    # The superuser may write everywhere, so that permissions alone would not show this.
    for name in ("mkdir", "rename", "replace", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(cache_module, "FileLock", refuse)
    assert_same(cache.fetch(bold, mask, AFFINE), cold)
    assert "Read-only file system" in fetch_twice_and_expect_one_warning(cache, other, mask)


@pytest.mark.parametrize("n_writes", range(6))
def test_a_disk_that_fills_up_is_said_once_and_nothing_half_written_stays(
    cache, bold, mask, monkeypatch, n_writes
):
    synced = cache_module._sync
    done = []

    def fill_up(file):
        if len(done) == n_writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done.append(file)
        synced(file)

    monkeypatch.setattr(cache_module, "_sync", fill_up)
    if n_writes < 4:  # samples, mean volume, sidecar, record of the image
        assert "No space left" in fetch_twice_and_expect_one_warning(cache, bold, mask)
    else:
        cache.fetch(bold, mask, AFFINE)
    assert len(cache.entries()) == (n_writes >= 3)
    assert list((cache.folder / "unfinished").glob("*")) == []
    assert cache.check() == {}


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.name != "posix" or shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        pytest.skip("mounting a small disk takes the superuser")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_small_disk_fills_up(cache, small_disk, tmp_path, mask):
    long = write_bold(tmp_path / "long.nii.gz", n_volumes=400)
    on_disk = SampleCache(small_disk)
    assert "No space left" in fetch_twice_and_expect_one_warning(on_disk, long, mask)
    assert on_disk.entries() == []
    assert [path for path in small_disk.rglob("*") if path.is_file() and path.stat().st_size] == []
    # What fits is kept.
    short = write_bold(tmp_path / "short.nii.gz", n_volumes=2)
    on_disk.fetch(short, mask, AFFINE)
    assert len(on_disk.entries()) == 1


# Where it is, and whether.


def test_the_environment_says_where_and_whether(monkeypatch, tmp_path, bold, mask):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "chosen"))
    SampleCache().fetch(bold, mask, AFFINE)
    assert len(SampleCache().entries()) == 1
    assert (tmp_path / "chosen" / "samples").is_dir()
    monkeypatch.setenv("HARNESS_CACHE", "off")
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    assert_same(SampleCache().fetch(bold, mask, AFFINE), read_masked(bold, mask, AFFINE))
    assert set(tmp_path.iterdir()) == before
    assert SampleCache(tmp_path / "chosen").enabled
    assert not SampleCache(tmp_path / "chosen", enabled=False).enabled


# Processes.

WORKER = """
import hashlib, os, signal, sys, time
from pathlib import Path
import numpy as np
from harness.samples import cache as cache_module
from harness.samples.cache import SampleCache
from harness.datasets.images import read_mask
from harness.samples.volumes import read_masked

bold, mask_file, folder, log, go, die_at = sys.argv[1:]
mask, affine = read_mask(Path(mask_file))

def note(what):
    with open(log, "a") as file:
        file.write(what + "\\n")

def die(*arguments, **options):
    note("died")
    os.kill(os.getpid(), signal.SIGKILL)

def compute():
    note("computed")
    if die_at == "reading":
        die()
    time.sleep(0.3)
    return read_masked(Path(bold), mask, affine)

if die_at == "writing samples":
    def write_half(self, content):
        self._file.write(content[: len(content) // 2])
        self._file.flush()
        die()
    cache_module._SummedFile.write = write_half
elif die_at == "writing sidecar":
    cache_module._write_json = die
elif die_at == "renaming":
    cache_module.SampleCache._remove = die
elif die_at == "recording":
    cache_module.SampleCache._write_digest_record = die

note("ready")
while not Path(go).exists():
    time.sleep(0.01)
masked = SampleCache(Path(folder)).fetch(Path(bold), mask, affine, compute=compute)
note(hashlib.sha256(np.ascontiguousarray(masked.data).tobytes()).hexdigest())
"""


class Workers:
    """Processes that ask one cache for the same samples, all at once."""

    def __init__(self, tmp_path, bold, mask):
        self.log, self.go = tmp_path / "log", tmp_path / "go"
        self.folder = tmp_path / "cache"
        self.mask_file = tmp_path / "mask.nii"
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), AFFINE), self.mask_file)
        self.bold = bold

    def run(self, n_processes, die_at="never"):
        self.log.write_text("")
        self.go.unlink(missing_ok=True)
        arguments = [self.bold, self.mask_file, self.folder, self.log, self.go, die_at]
        command = [sys.executable, "-W", "error", "-c", WORKER, *map(str, arguments)]
        processes = [subprocess.Popen(command) for _ in range(n_processes)]
        while self.lines().count("ready") < n_processes and all(p.poll() is None for p in processes):
            time.sleep(0.02)
        self.go.touch()
        return [process.wait(timeout=60) for process in processes]

    def lines(self):
        return self.log.read_text().splitlines()


@pytest.fixture
def workers(tmp_path, bold, mask):
    return Workers(tmp_path, bold, mask)


@pytest.mark.parametrize("n_processes", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_processes_on_a_cold_subject_compute_once(workers, cache, bold, mask, n_processes):
    assert workers.run(n_processes) == [0] * n_processes
    lines = workers.lines()
    assert lines.count("computed") == 1
    expected = hashlib.sha256(read_masked(bold, mask, AFFINE).data.tobytes()).hexdigest()
    assert lines.count(expected) == n_processes
    assert len(cache.entries()) == 1
    assert cache.check() == {}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 on this system")
@pytest.mark.parametrize(
    ("die_at", "n_entries"),
    [("reading", 0), ("writing samples", 0), ("writing sidecar", 0), ("renaming", 0), ("recording", 1)],
)
def test_a_kill_leaves_nothing_that_looks_whole(workers, cache, bold, mask, die_at, n_entries, monkeypatch):
    assert workers.run(1, die_at) == [-signal.SIGKILL]
    assert workers.lines().count("died") == 1
    assert len(cache.entries()) == n_entries
    assert cache.check() == {}

    compute = Counted(bold, mask)
    assert_same(cache.fetch(bold, mask, AFFINE, compute=compute), read_masked(bold, mask, AFFINE))
    assert compute.n_calls == 1 - n_entries
    assert len(cache.entries()) == 1
    # What the dead left is not taken for the work of the living, until it is old.
    left = list((cache.folder / "unfinished").iterdir())
    assert len(left) == (die_at in ("writing samples", "writing sidecar", "renaming"))
    monkeypatch.setattr(cache_module, "_ABANDONED_AFTER", -1)
    cache.trim()
    assert list((cache.folder / "unfinished").iterdir()) == []
    assert len(cache.entries()) == 1


def test_who_waits_for_a_killed_process_computes_itself(workers, cache, bold, mask):
    assert workers.run(1, "writing samples") == [-signal.SIGKILL]
    assert workers.run(2) == [0, 0]
    assert workers.lines().count("computed") == 1


@pytest.mark.parametrize("size", ["nan", "inf", "-1"])
def test_a_size_to_trim_to_is_a_finite_number(size, capsys):
    assert run_verb(["cache", "trim", f"--to={size}"]) == 2
    assert f"--to {float(size)} is not a size" in capsys.readouterr().err
