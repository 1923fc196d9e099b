"""The cache of masked volumes: its answers are those of reading, and its failures do not stop a run."""

import errno
import hashlib
import multiprocessing
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
def cache(tmp_path):
    return SampleCache(tmp_path / "cache")


class Counted:
    """A computation that counts how often it is called."""

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


def entry_files(cache):
    return sorted(cache.directory.rglob("*.arrays"))


def entry_file(cache):
    (file,) = entry_files(cache)
    return file


def unfinished_files(cache):
    return list(cache.directory.rglob("unfinished/*"))


def test_cold_warm_and_disabled_cache_give_the_same_bits(cache, bold, mask, tmp_path):
    direct = read_masked(bold, mask, AFFINE)
    off = SampleCache(tmp_path / "unused", enabled=False).fetch(bold, mask, AFFINE)
    cold = cache.fetch(bold, mask, AFFINE)
    warm = cache.fetch(bold, mask, AFFINE)
    for masked in (off, cold, warm):
        assert_same(masked, direct)
    assert not (tmp_path / "unused").exists()


def test_warm_cache_maps_a_file_and_does_not_read_the_image(cache, bold, mask, monkeypatch):
    compute = Counted(bold, mask)
    cache.fetch(bold, mask, AFFINE, compute=compute)
    monkeypatch.setattr(cache_module, "digest_files", lambda bold: pytest.fail("the image was read"))
    warm = cache.fetch(bold, mask, AFFINE, compute=compute)
    assert compute.n_calls == 1
    mapped = warm.data
    while not isinstance(mapped, np.memmap):
        mapped = mapped.base
    assert Path(mapped.filename) == entry_file(cache)
    assert type(warm.data) is np.ndarray


def test_values_that_are_not_finite_are_cached(cache, tmp_path, mask):
    values = np.full((6, 5, 4, 3), np.nan, dtype=np.float32)
    values[..., 1] = -np.inf
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "bold.nii")
    cold = cache.fetch(tmp_path / "bold.nii", mask, AFFINE)
    assert_same(cache.fetch(tmp_path / "bold.nii", mask, AFFINE), cold)
    assert np.isneginf(cold.data[1]).all()


def test_list_of_images_is_cached_in_its_order(cache, tmp_path, mask):
    paths = [write_bold(tmp_path / f"run{i}.nii.gz", seed=i, n_volumes=3) for i in range(3)]
    one = cache.fetch(paths, mask, AFFINE)
    assert_same(cache.fetch(paths, mask, AFFINE), read_masked(paths, mask, AFFINE))
    other = cache.fetch(paths[::-1], mask, AFFINE)
    assert len(cache.entries()) == 2
    np.testing.assert_array_equal(other.data[:3], one.data[-3:])


# Keys ------------------------------------------------------------------------------------------------------


def test_mask_affine_and_preprocessing_are_part_of_the_key(cache, bold, mask):
    def fetch(mask=mask, affine=AFFINE, preprocessing=None):
        compute = Counted(bold, mask)
        cache.fetch(bold, mask, affine, preprocessing, compute)
        return compute.n_calls

    other = mask.copy()
    other[tuple(np.argwhere(mask)[0])] = False
    assert fetch() == 1
    assert fetch(other) == 1
    assert fetch(affine=AFFINE * (1 + 1e-9)) == 1
    assert fetch(preprocessing={"smoothing_fwhm": 4}) == 1
    assert fetch(preprocessing={"smoothing_fwhm": 5, "confounds": ["a", "b"]}) == 1
    assert fetch() == fetch(other) == fetch(preprocessing={"smoothing_fwhm": 4}) == 0
    assert fetch(preprocessing={"confounds": ["a", "b"], "smoothing_fwhm": 5}) == 0


def test_changed_image_is_read_again(cache, bold, mask):
    before = cache.fetch(bold, mask, AFFINE)
    status = bold.stat()
    content = nib.load(bold).get_fdata().astype(np.int16) + 1
    nib.save(nib.Nifti1Image(content, AFFINE), bold)
    os.utime(bold, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = cache.fetch(bold, mask, AFFINE)
    np.testing.assert_array_equal(after.data, before.data + 1)


def test_changed_image_of_the_same_size_time_and_inode_is_read_again(cache, tmp_path, mask):
    one, other = (write_bold(tmp_path / f"{seed}.nii", seed=seed) for seed in (1, 2))
    before = cache.fetch(one, mask, AFFINE)
    status = one.stat()
    # In place: the inode stays, and so do the size and the modification time.
    one.write_bytes(other.read_bytes())
    os.utime(one, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert one.stat().st_size == status.st_size
    assert (cache.fetch(one, mask, AFFINE).data != before.data).any()


@pytest.mark.parametrize("change", ["touch", "move", "copy"])
def test_moved_copied_or_touched_image_is_found_by_its_content(cache, bold, mask, change, tmp_path):
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


def test_image_that_changes_while_it_is_read_is_not_cached(cache, bold, mask, tmp_path):
    def compute():
        masked = read_masked(bold, mask, AFFINE)
        write_bold(bold, seed=9)
        return masked

    cache.fetch(bold, mask, AFFINE, compute=compute)
    assert cache.entries() == []


def test_errors_of_reading_are_raised_and_leave_no_file(cache, bold, mask, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        cache.fetch(tmp_path / "nowhere.nii.gz", mask, AFFINE)
    bold.write_bytes(bold.read_bytes()[:-9])
    for _ in range(2):
        with pytest.raises(DataError, match="damaged or cut short"):
            cache.fetch(bold, mask, AFFINE)
    assert cache.entries() == []
    assert unfinished_files(cache) == []


def test_digest_of_an_unchanged_image_is_known_without_reading_it(cache, bold, tmp_path, monkeypatch):
    digest = hashlib.sha256(bold.read_bytes()).hexdigest()
    assert cache.find_digest(bold) is None
    assert cache.digest(bold) == digest
    monkeypatch.setattr(cache_module, "digest_files", lambda bold: pytest.fail("the image was read"))
    assert cache.digest(bold) == cache.find_digest(bold) == digest
    assert cache.entries() == []
    write_bold(bold, seed=1)
    assert cache.find_digest(bold) is None
    assert cache.find_digest(tmp_path / "missing.nii.gz") is None


def test_image_and_list_of_one_image_have_their_own_digests(cache, bold, mask):
    alone, listed = cache.fetch(bold, mask, AFFINE), cache.fetch([bold], mask, AFFINE)
    assert alone.digest == digest_files(bold) == cache.find_digest(bold)
    assert listed.digest == digest_files([bold]) == cache.find_digest([bold]) != alone.digest


def test_digest_of_a_cached_image_is_known(cache, bold, mask):
    masked = cache.fetch(bold, mask, AFFINE)
    assert cache.find_digest(bold) == masked.digest == digest_files(bold)


# Damaged entries --------------------------------------------------------------------------------------------


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[int(position * (len(content) - 1))] ^= 0x08
    path.write_bytes(content)


def truncate(path, share):
    os.truncate(path, int(share * path.stat().st_size))


@pytest.mark.parametrize(
    "damage",
    [
        *[pytest.param(lambda path, at=at: flip(path, at), id=f"flip{at}") for at in (0, 0.05, 0.4, 0.9, 1)],
        *[pytest.param(lambda path, k=k: truncate(path, k), id=f"keep{k}") for k in (0, 0.02, 0.5, 0.999)],
        pytest.param(lambda path: path.write_bytes(path.read_bytes() + b"\0"), id="longer"),
    ],
)
def test_damaged_entry_is_computed_again_with_a_warning(cache, bold, mask, damage):
    cold = cache.fetch(bold, mask, AFFINE)
    damage(entry_file(cache))
    with pytest.warns(UserWarning, match=r"Sample cache: .* is damaged: .* computed again") as warned:
        assert_same(cache.fetch(bold, mask, AFFINE), cold)
    assert len(warned) == 1
    assert_same(cache.fetch(bold, mask, AFFINE), cold)
    assert cache.check() == {}


def test_damaged_entry_of_a_moved_image_is_replaced(cache, bold, mask, tmp_path):
    cold = cache.fetch(bold, mask, AFFINE)
    flip(entry_file(cache), 0.7)
    moved = bold.rename(tmp_path / "moved.nii.gz")
    with pytest.warns(UserWarning, match="is damaged"):
        assert_same(cache.fetch(moved, mask, AFFINE), cold)
    assert cache.check() == {}
    assert_same(cache.fetch(moved, mask, AFFINE), cold)


@pytest.mark.slow
def test_damage_of_a_large_entry_is_found_at_its_next_use(cache, bold, mask):
    """The samples of a whole brain take some hundred megabytes."""

    def compute():
        data = np.ones((1000, 17_000), dtype=np.float32)
        return MaskedVolumes(data, np.ones(mask.shape, np.float32), digest_files(bold), AFFINE.copy())

    cache.fetch(bold, mask, AFFINE, {}, compute)
    file = entry_file(cache)
    assert file.stat().st_size > 64 * 2**20
    flip(file, 0.7)
    with pytest.warns(UserWarning, match="is damaged"):
        again = cache.fetch(bold, mask, AFFINE, {}, compute)
    assert (again.data == 1).all()


def test_check_removes_damaged_entries(cache, bold, mask, tmp_path):
    cache.fetch(bold, mask, AFFINE)
    flip(entry_file(cache), 0.7)
    whole = write_bold(tmp_path / "whole.nii.gz", seed=5)
    cache.fetch(whole, mask, AFFINE)
    ((key, problem),) = cache.check().items()
    assert key in problem
    assert "is damaged: the checksum" in problem
    (entry,) = cache.entries()
    assert entry.images == [str(whole)]
    assert cache.check() == {}


# Size -------------------------------------------------------------------------------------------------------


def test_entries_describe_what_they_hold(cache, bold, mask):
    cache.fetch(bold, mask, AFFINE, {"smoothing_fwhm": 4.0})
    (entry,) = cache.entries()
    assert entry.images == [str(bold)]
    assert entry.preprocessing == {"smoothing_fwhm": 4.0}
    assert entry.shape == (20, mask.sum())
    assert entry.n_bytes == entry_file(cache).stat().st_size
    assert abs(entry.last_used - time.time()) < 60


def test_least_recently_used_entries_are_removed(tmp_path, cache, mask):
    paths = [write_bold(tmp_path / f"{seed}.nii.gz", seed=seed) for seed in range(4)]
    for number, path in enumerate(paths[:3]):
        present = set(entry_files(cache))
        cache.fetch(path, mask, AFFINE)
        (new,) = set(entry_files(cache)) - present
        os.utime(new, (1e9 + number,) * 2)
    cache.fetch(paths[0], mask, AFFINE)  # used again: now the second is the least recently used
    size = cache.entries()[0].n_bytes
    small = SampleCache(tmp_path / "cache", max_bytes=3 * size + size // 2)
    small.fetch(paths[3], mask, AFFINE)
    assert {entry.images[0] for entry in cache.entries()} == {str(paths[i]) for i in (0, 2, 3)}
    assert len(cache.trim(size + size // 2)) == 2
    assert len(cache.entries()) == 1
    cache.clear()
    assert cache.entries() == []
    assert not cache.directory.exists()


def test_entries_of_the_previous_format_are_removed_and_other_files_are_not(cache, bold, mask):
    for name in ("entries", "digests", "own data of the user"):
        (cache.directory / name / "0123").mkdir(parents=True)
    (cache.directory / "entries" / "0123" / "entry.json").touch()
    cache.fetch(bold, mask, AFFINE)
    kept = {cache_module.FORMAT, "own data of the user"}
    assert {path.name for path in cache.directory.iterdir()} == kept
    assert len(cache.entries()) == 1
    cache.clear()
    assert {path.name for path in cache.directory.iterdir()} == {"own data of the user"}


def test_directories_without_entries_of_the_previous_format_remain(cache, bold, mask):
    (cache.directory / "entries" / "0123").mkdir(parents=True)
    cache.fetch(bold, mask, AFFINE)
    assert (cache.directory / "entries" / "0123").is_dir()


def test_masked_volumes_above_the_limit_are_not_stored(cache, bold, mask, tmp_path):
    small = SampleCache(tmp_path / "cache", max_bytes=1000)
    with pytest.warns(UserWarning, match="more than the limit of 1000"):
        masked = small.fetch(bold, mask, AFFINE)
    assert_same(masked, read_masked(bold, mask, AFFINE))
    assert small.entries() == []


def test_arrays_in_use_remain_valid_when_the_cache_is_cleared(cache, bold, mask):
    cold = cache.fetch(bold, mask, AFFINE)
    warm = cache.fetch(bold, mask, AFFINE)
    cache.clear()
    assert_same(warm, cold)


# Directories that cannot be written -------------------------------------------------------------------------


def fetch_twice_and_expect_one_warning(cache, bold, mask):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            assert_same(cache.fetch(bold, mask, AFFINE), read_masked(bold, mask, AFFINE))
    (warning,) = caught
    assert "cannot store masked volumes" in str(warning.message)
    assert str(cache.directory) in str(warning.message)
    return str(warning.message)


def test_directory_that_cannot_be_created_is_one_warning(bold, mask, tmp_path):
    (tmp_path / "file").touch()
    fetch_twice_and_expect_one_warning(SampleCache(tmp_path / "file" / "cache"), bold, mask)


def test_read_only_directory_is_still_read(cache, bold, mask, tmp_path, monkeypatch):
    cold = cache.fetch(bold, mask, AFFINE)
    other = write_bold(tmp_path / "other.nii.gz", seed=3)

    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    # The superuser may write everywhere, so that permissions alone would not show this.
    for name in ("mkdir", "rename", "replace", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr(os, "utime", refuse)
    assert_same(cache.fetch(bold, mask, AFFINE), cold)
    assert "Read-only file system" in fetch_twice_and_expect_one_warning(cache, other, mask)


def test_full_disk_is_one_warning_and_leaves_no_file(cache, bold, mask, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    assert "No space left" in fetch_twice_and_expect_one_warning(cache, bold, mask)
    assert cache.digest(bold) == digest_files(bold)
    assert entry_files(cache) == unfinished_files(cache) == []


@pytest.fixture
def small_disk(tmp_path):
    directory = tmp_path / "disk"
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(directory)]
    if os.name != "posix" or shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        pytest.skip("mounting a small disk requires the superuser")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_small_disk_stores_what_fits(small_disk, tmp_path, mask):
    long = write_bold(tmp_path / "long.nii.gz", n_volumes=400)
    on_disk = SampleCache(small_disk)
    assert "No space left" in fetch_twice_and_expect_one_warning(on_disk, long, mask)
    assert on_disk.entries() == []
    assert [path for path in small_disk.rglob("*") if path.is_file() and path.stat().st_size] == []
    short = write_bold(tmp_path / "short.nii.gz", n_volumes=2)
    on_disk.fetch(short, mask, AFFINE)
    assert len(on_disk.entries()) == 1


def test_environment_variable_sets_the_directory_or_switches_the_cache_off(monkeypatch, tmp_path, bold, mask):
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


# Processes --------------------------------------------------------------------------------------------------


def fetch_in_process(bold, mask, directory, log, barrier, kill_at):
    """Fetch once, and append to the log what happens.

    `kill_at` is a moment at which the process kills itself: "reading" the image, "writing" the entry, or the
    number of an operation on the files of the cache, from 0.
    """

    def note(text):
        with log.open("a") as file:
            file.write(text + "\n")

    def compute():
        note("computed")
        if kill_at == "reading":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.2)
        return read_masked(bold, mask, AFFINE)

    def count_operations(event, arguments, counted=[]):  # noqa: B006  # the operations so far
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.utime"):
            if str(directory) in str(arguments[0]):
                counted.append(event)
                if len(counted) == kill_at + 1:
                    os.kill(os.getpid(), signal.SIGKILL)

    if kill_at == "writing":  # the system kills it when the file exceeds half of its size
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (mask.sum() * 20 * 4 // 2, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    barrier.wait()
    if isinstance(kill_at, int):
        sys.addaudithook(count_operations)
    masked = SampleCache(directory).fetch(bold, mask, AFFINE, compute=compute)
    note(hashlib.sha256(masked.data.tobytes()).hexdigest())


@pytest.fixture
def run_processes(tmp_path, bold, mask):
    """Return a function that fetches in several processes at once; it returns exit codes and the log."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nibabel", "pytest", "harness.samples.cache"])
    log = tmp_path / "log"

    def run(n_processes=1, kill_at=None):
        log.write_text("")
        arguments = (bold, mask, tmp_path / "cache", log, context.Barrier(n_processes), kill_at)
        processes = [context.Process(target=fetch_in_process, args=arguments) for _ in range(n_processes)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout=60)
        return [process.exitcode for process in processes], log.read_text().splitlines()

    return run


@pytest.mark.parametrize("n_processes", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_one_of_several_processes_computes(run_processes, cache, bold, mask, n_processes):
    codes, lines = run_processes(n_processes)
    assert codes == [0] * n_processes
    assert lines.count("computed") == 1
    expected = hashlib.sha256(read_masked(bold, mask, AFFINE).data.tobytes()).hexdigest()
    assert lines.count(expected) == n_processes
    assert len(cache.entries()) == 1
    assert cache.check() == {}


def assert_usable_after_a_kill(cache, bold, mask):
    assert cache.check() == {}
    compute = Counted(bold, mask)
    n_entries = len(cache.entries())
    assert_same(cache.fetch(bold, mask, AFFINE, compute=compute), read_masked(bold, mask, AFFINE))
    assert compute.n_calls == 1 - n_entries
    assert len(cache.entries()) == 1
    assert cache.check() == {}


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limit of file sizes on this system")
@pytest.mark.parametrize("kill_at", [pytest.param("reading", marks=pytest.mark.slow), "writing"])
def test_killed_process_leaves_no_entry(run_processes, cache, bold, mask, kill_at):
    (code,), lines = run_processes(kill_at=kill_at)
    assert code < 0
    assert lines == ["computed"]
    assert cache.entries() == []
    assert len(unfinished_files(cache)) == (kill_at == "writing")
    assert_usable_after_a_kill(cache, bold, mask)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 on this system")
def test_kill_at_any_operation_leaves_no_half_entry(run_processes, cache, bold, mask):
    for number in range(100):
        (code,), lines = run_processes(kill_at=number)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        assert_usable_after_a_kill(cache, bold, mask)
        cache.clear()
    assert number > 10
    assert len(lines) == 2


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limit of file sizes on this system")
def test_processes_compute_once_after_a_kill(run_processes, cache):
    assert run_processes(kill_at="writing")[0][0] < 0
    codes, lines = run_processes(2)
    assert codes == [0, 0]
    assert lines.count("computed") == 1


@pytest.mark.parametrize("size", ["nan", "inf", "-1"])
def test_size_to_trim_to_is_finite_and_not_negative(size, capsys):
    from harness.app.verbs import run_verb

    assert run_verb(["cache", "trim", f"--to={size}"]) == 2
    assert f"--to {float(size)} is not a size" in capsys.readouterr().err
