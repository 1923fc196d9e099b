"""The checks of ``doctor``, one by one; one that fails is a diagnosis."""

import os
import re
import shlex
import shutil
import sys
import webbrowser
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness.app.doctor import (
    cache,
    data,
    environment,
    examination,
    file_system,
    machine,
    programs,
    selection,
    store,
)
from harness.app.hydra_errors import format_launcher_error
from harness.checks.diagnosis import Diagnosis
from harness.datasets.bids import Bids
from harness.datasets.haxby import MASK_FILES, Haxby
from harness.datasets.simulated import Simulated
from harness.errors import DataError, UsageError
from harness.samples.array_directory import ArrayDirectory

ALL_FILES = {"bold.nii.gz", "labels.txt", "anat.nii.gz", *MASK_FILES.values()}


@pytest.fixture(scope="module")
def selected():
    """What is examined without overrides."""
    found, error = selection.select([], None, False)
    assert error is None
    return found


@pytest.fixture
def home(tiny_subject, tmp_path, monkeypatch):
    """Subject 1 with all files, in a data directory of nilearn."""
    for name in ("NILEARN_SHARED_DATA", "NILEARN_DATA"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    copied = tmp_path / "NILEARN_DATA" / "haxby2001"
    shutil.copytree(tiny_subject(), copied.parent, dirs_exist_ok=True)
    for name in ALL_FILES:
        if not (copied / "subj1" / name).exists():
            shutil.copy(copied / "subj1" / "mask4_vt.nii.gz", copied / "subj1" / name)
    return copied / "subj1"


def diagnose(check, chosen):
    return {item.name: item for item in check(chosen)}


def test_complete_subject_is_found_in_nilearns_directories(home, selected):
    (found,) = data.check_haxby(selected)
    assert (found.status, found.facts["complete"]) == ("ok", [1])
    assert found.facts["directory"] == str(home.parent)
    assert found.facts["missing_files"] == {}


def test_absent_data_are_no_fault_unless_they_were_chosen(selected, tmp_path, monkeypatch):
    for name in ("NILEARN_SHARED_DATA", "NILEARN_DATA"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("HOME", str(tmp_path))
    (found,) = data.check_haxby(selected)
    assert (found.status, found.facts["complete"]) == ("ok", [])
    places = [
        tmp_path / name / "haxby2001" for name in ("NILEARN_SHARED_DATA", "NILEARN_DATA", "nilearn_data")
    ]
    assert found.text.endswith(f": {', '.join(map(str, places))}")
    chosen, _ = selection.select(
        ["dataset=haxby", f"dataset.data_dir={tmp_path}", "subject=2,3"], None, False
    )
    both = list(data.check_haxby(chosen))
    assert [(item.status, item.facts["subject"]) for item in both] == [("fault", 2), ("fault", 3)]
    assert both[1].command.endswith(f"fetch dataset=haxby dataset.data_dir={tmp_path} subject=3")


def test_subject_that_is_cut_short_is_named(home, selected):
    content = (home / "bold.nii.gz").read_bytes()
    (home / "bold.nii.gz").write_bytes(content[: len(content) // 2])
    found = diagnose(data.check_haxby, selected)["haxby subject 1"]
    assert found.status == "caution"
    assert "bold.nii.gz is damaged or cut short" in found.text
    own = replace(selected, loader=Haxby(home.parents[1]), subjects=(1,))
    assert diagnose(data.check_haxby, own)["haxby subject 1"].status == "fault"


def test_flipped_bit_is_found_by_verification_alone(home, selected):
    content = bytearray((home / "bold.nii.gz").read_bytes())
    content[len(content) // 2] ^= 1
    (home / "bold.nii.gz").write_bytes(content)
    assert "haxby subject 1" not in diagnose(data.check_haxby, selected)
    found = diagnose(data.check_haxby, replace(selected, verify=True))["haxby subject 1"]
    assert "bold.nii.gz" in found.text


def test_missing_masks_are_named_and_missing_images_are_damage(home, selected):
    (home / "mask8_face_vt.nii.gz").unlink()
    (found,) = data.check_haxby(selected)
    assert (found.status, found.facts["missing_files"]) == ("ok", {"1": ["mask8_face_vt.nii.gz"]})
    (home / "labels.txt").unlink()
    assert "labels.txt is missing" in diagnose(data.check_haxby, selected)["haxby subject 1"].text


def test_other_files_than_the_published_ones_are_named(home, selected):
    home.rename(home.with_name("subj2"))  # the subject whose files have published digests
    found = diagnose(data.check_haxby, selected)["haxby subject 2"]
    assert found.status == "caution"
    assert "instead of 284094471" in found.text and "labels.txt has SHA-256" in found.text
    assert found.command.startswith("mv ")


def test_published_labels_of_subject_2_are_verified(home, selected, shared_data):
    home.rename(home.with_name("subj2"))
    shutil.copy(shared_data / "labels" / "subj2" / "labels.txt", home.with_name("subj2") / "labels.txt")
    found = diagnose(data.check_haxby, selected)["haxby subject 2"]
    assert "bold.nii.gz has" in found.text and "labels.txt" not in found.text


def test_interrupted_download_is_named(home, selected):
    part = home.parent / ".subj4-unfinished" / "subj4-2010.01.14.tar.gz.part"
    part.parent.mkdir()
    part.write_bytes(bytes(3_000_000))
    found = diagnose(data.check_haxby, selected)["haxby download 4"]
    assert (found.status, found.facts["bytes"]) == ("caution", 3_000_000)
    assert found.command.endswith("fetch dataset=haxby subject=4")


def test_simulated_subject_that_lacks_a_file_is_a_fault_of_that_subject(home, selected, tmp_path):
    directory = tmp_path / "simulated-v1-seed5"
    shutil.copytree(home.parent, directory / "haxby2001")
    shutil.copy(home / "mask4_vt.nii.gz", directory / "haxby2001" / "mask.nii.gz")
    chosen = replace(selected, loader=Simulated(seed=5, cache_dir=tmp_path), subjects=(1,))
    (found,) = data.check_simulated(chosen)
    assert (found.status, found.facts["complete"]) == ("ok", [1])
    (directory / "haxby2001" / "subj1" / "anat.nii.gz").unlink()
    (found,) = data.check_simulated(chosen)
    assert (found.name, found.status) == ("simulated subject 1", "fault")
    assert found.command == f"rm -r {directory / 'haxby2001' / 'subj1'}"


@pytest.mark.parametrize(("dataset", "loader"), [("haxby", Haxby()), ("simulated", Simulated())])
def test_subject_that_does_not_exist_is_a_fault(selected, dataset, loader):
    chosen = replace(selected, dataset=dataset, loader=loader, subjects=(9,))
    (found,) = data.check_selected(chosen)
    assert (found.name, found.status) == (f"{dataset} subject 9", "fault")


def test_subject_that_cannot_be_simulated_is_a_fault_next_to_a_complete_one(
    home, selected, tmp_path, monkeypatch
):
    directory = tmp_path / "simulated-v1-seed0" / "haxby2001"
    shutil.copytree(home.parent, directory)
    shutil.copy(home / "mask4_vt.nii.gz", directory / "mask.nii.gz")
    chosen = replace(selected, loader=Simulated(cache_dir=tmp_path), subjects=(2,))
    assert [item.status for item in data.check_simulated(chosen)] == ["ok"]
    monkeypatch.setattr(data, "find_write_problem", lambda path: ("Read-only file system", path))
    assert [item.status for item in data.check_simulated(chosen)] == ["ok", "fault"]


def test_other_data_sets_are_loaded_and_their_errors_are_faults(selected, tmp_path):
    chosen = replace(selected, dataset="bids", loader=Bids(root=tmp_path / "none"), subjects=(4,))
    (found,) = data.check_selected(chosen)
    assert (found.name, found.status) == ("bids subject 4", "fault")
    assert "doctor dataset=bids dataset.root=PATH" in found.command
    assert list(data.check_selected(selected)) == []


def test_overrides_are_read_without_hydra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "harness.app.composition", None)
    words = ["dataset=haxby", f"dataset.data_dir='{tmp_path}'", "subject=1,3", "tracking.folder=runs"]
    found, error = selection.select(words, None, True)
    assert isinstance(error, ImportError)
    assert (found.dataset, found.options, found.subjects) == ("haxby", {"data_dir": str(tmp_path)}, (1, 3))
    assert (found.tracking, found.store_directory, found.verify) == ("local", Path("runs"), True)
    absent = list(data.check_haxby(found))
    assert [(item.status, item.facts["subject"]) for item in absent] == [("fault", 1), ("fault", 3)]


@pytest.mark.parametrize("words", [["dataset=hxby"], ["tracking.uri=http://host"]])
def test_wrong_overrides_are_usage_errors(words):
    with pytest.raises(UsageError):
        selection.select(words, None, False)


def test_store_directory_that_is_a_file_cannot_be_used(selected, tmp_path):
    (tmp_path / "mlruns").touch()
    (found,) = store.check_store(replace(selected, store_directory=tmp_path / "mlruns"))
    assert (found.name, found.status) == ("directory", "fault")
    assert "tracking.folder=" in found.command


@pytest.mark.parametrize("name", ["mlflow.db", "store.lock"])
def test_file_of_the_store_that_is_read_only_is_a_fault(selected, make_store, tmp_path, monkeypatch, name):
    make_store(tmp_path / "mlruns")
    chosen, file = replace(selected, store_directory=tmp_path / "mlruns"), tmp_path / "mlruns" / name
    assert f"write {name}" not in diagnose(store.check_store, chosen)
    permitted = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != file and permitted(path, mode))
    found = diagnose(store.check_store, chosen)[f"write {name}"]
    assert (found.status, found.command) == ("fault", f"chmod u+rw {file}")


@pytest.mark.parametrize("name", ["artifacts", "running"])
def test_part_of_the_store_that_is_a_file_is_a_fault(selected, tmp_path, name):
    (tmp_path / "mlruns").mkdir()
    part = tmp_path / "mlruns" / name
    part.write_text("")
    found = diagnose(store.check_store, replace(selected, store_directory=part.parent))
    found = found[f"write {name}"]
    assert (found.status, found.command) == ("fault", f"mv {part} {part}.damaged")
    assert "it is not a directory" in found.text


@pytest.mark.parametrize("name", ["artifacts", "running"])
@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_part_of_the_store_without_permission_is_a_fault(selected, tmp_path, name):
    part = tmp_path / "mlruns" / name
    part.mkdir(parents=True)
    part.chmod(0o500)
    found = diagnose(store.check_store, replace(selected, store_directory=part.parent))
    found = found[f"write {name}"]
    assert (found.status, found.command) == ("fault", f"chmod u+rwx {part}")


@pytest.mark.skipif(os.name == "nt", reason="files of Windows have no such mode")
def test_own_file_without_permission_is_repaired_by_chmod(tmp_path):
    file = tmp_path / "mlflow.db"
    file.write_text("")

    def check():
        raise PermissionError(13, "Permission denied", str(file))

    (found,) = examination._carry_out("store", "database", check, [])
    assert found.command == f"chmod u+rw {file}"


def test_no_full_directory_is_suggested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    total = shutil.disk_usage(tmp_path).total
    assert file_system.suggest_directory("store", 1) == str(tmp_path / "store")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=total, free=5))
    assert file_system.suggest_directory("store", 6) is None
    monkeypatch.setattr(file_system, "find_write_problem", lambda path: ("full", path))
    assert file_system.suggest_directory("store", 1) is None


def test_speed_of_a_disk_with_little_space_is_not_measured(selected, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=160 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(file_system, "measure_speed", lambda path: pytest.fail("measured"))
    found = diagnose(file_system.check_disks, replace(selected, store_directory=tmp_path))
    found = found["store"]
    assert found.facts["write_mb_per_s"] is None
    assert found.command.startswith("du ")


def test_store_in_use_is_ok_and_killed_runs_are_a_caution(selected, make_store, tmp_path):
    opened = make_store(tmp_path / "mlruns")
    run = opened.client.create_run(opened.experiment_id, start_time=1).info.run_id
    opened.running.mkdir()
    (opened.running / f"{run}.lock").touch()
    found = diagnose(store.check_store, replace(selected, store_directory=tmp_path / "mlruns"))
    assert [item.status for item in found.values()] == ["ok", "ok", "ok", "caution"]
    assert found["database"].facts["state"] == "current"
    if os.name == "posix":
        assert found["running"].facts["killed"] == [run]
    assert f"runs --failed --folder {tmp_path / 'mlruns'}" in found["running"].command


@pytest.mark.skipif(sys.platform == "win32", reason="the current directory cannot be deleted")
def test_deleted_current_directory_is_a_fault(selected, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    (found,) = environment.check_directory(selected)
    assert (found.status, found.command) == ("fault", "cd ~")


def test_digest_of_the_environment_is_the_same_twice_and_another_one_after_a_change(selected, monkeypatch):
    (first,), (second,) = (environment.check_digest(selected) for _ in range(2))
    assert first.facts["digest"] == second.facts["digest"]
    for function in ("package_versions", "describe_machine"):
        with monkeypatch.context() as changed:
            changed.setattr(f"harness.tracking.provenance.{function}", lambda: {"numpy": "0"})
            (other,) = environment.check_digest(selected)
        assert other.facts["digest"] != first.facts["digest"]


def test_tracking_that_is_off_needs_no_store(selected):
    (found,) = store.check_store(replace(selected, tracking="off"))
    assert found.status == "ok"


def test_server_that_does_not_answer_is_a_fault(selected, tmp_path):
    chosen = replace(selected, tracking="server", uri="http://127.0.0.1:9", store_directory=tmp_path)
    (found,) = store.check_store(chosen)
    assert (found.status, found.facts["answers"]) == ("fault", False)


def test_cache_is_measured_and_damaged_entries_are_counted(selected, tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    arrays = ArrayDirectory(tmp_path / "samples" / "format-3")
    for name in "ab":
        arrays.write(name, [np.zeros(1000)], {"files": [["f"]], "preprocessing": {}, "shape": [10, 100]})
    arrays.write("image-c-d", [], {})
    (found,) = cache.check_cache(selected)
    sizes = [file.stat().st_size for file in (tmp_path / "samples" / "format-3").glob("[ab].arrays")]
    assert (found.status, found.facts["entries"], found.facts["bytes"]) == ("ok", 2, sum(sizes))
    (tmp_path / "samples" / "format-3" / "b.arrays").write_bytes(b"nothing")
    (found,) = cache.check_cache(selected)
    assert (found.status, found.facts["damaged"]) == ("caution", 1)
    monkeypatch.setenv("HARNESS_CACHE", "off")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    (found,) = cache.check_cache(selected)
    assert (found.status, found.facts["enabled"]) == ("ok", False)
    assert not (tmp_path / "other").exists()


def test_disks_of_store_and_cache_are_measured_and_nothing_is_left(selected, tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    found = diagnose(file_system.check_disks, replace(selected, store_directory=tmp_path / "mlruns"))
    assert {item.facts.get("directory") for item in (found["store"], found["cache"])} == {str(tmp_path)}
    assert found["store"].facts["free_bytes"] == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
    assert found["store"].facts["write_mb_per_s"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/below/it", "link", "link/below"])
def test_directory_below_a_file_cannot_be_written(tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    problem, place = file_system.find_write_problem(tmp_path / name)
    assert (problem, place) == ("it is not a directory", tmp_path / name.split("/")[0])


@pytest.mark.parametrize(("free", "status"), [(10**10, "ok"), (10**9, "caution"), (10**7, "fault")])
def test_little_space_is_a_caution_and_none_a_fault(selected, tmp_path, monkeypatch, free, status):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    usage = SimpleNamespace(total=10**12, used=0, free=free)
    monkeypatch.setattr(file_system.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(file_system, "measure_speed", lambda path: file_system.DiskSpeed(1.0, 1.0))
    assert (
        diagnose(file_system.check_disks, replace(selected, store_directory=tmp_path))["store"].status
        == status
    )


def test_gram_matrix_is_timed_with_the_number_of_its_operations(selected, monkeypatch):
    monkeypatch.setattr(machine, "MEASURED_SECONDS", 0.0)
    (found,) = machine.check_speed(selected)
    # n (n + 1) p for one triangle of the Gram matrix, n^3 / 3 for its factor
    operations = 216 * 217 * 577 + 216**3 / 3
    assert found.facts["gflops"] == pytest.approx(operations / found.facts["best_seconds"] / 1e9)


def test_blas_libraries_are_those_of_threadpoolctl(selected, monkeypatch):
    from threadpoolctl import threadpool_info

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    (found,) = machine.check_blas(selected)
    assert {item["filepath"] for item in found.facts["libraries"]} == {
        item["filepath"] for item in threadpool_info()
    }
    assert found.facts["variables"]["OMP_NUM_THREADS"] == "3"


@pytest.fixture
def much_memory(tmp_path, monkeypatch):
    """A machine of 2 TB, whose container has no limit."""
    memory = SimpleNamespace(total=2 * 10**12, available=10**12)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    monkeypatch.setattr(machine, "CGROUP_LIMIT", tmp_path / "memory.max")
    (tmp_path / "memory.max").write_text("max\n")
    return memory


@pytest.mark.parametrize(("available", "status"), [(10**12, "ok"), (10**9, "caution")])
def test_little_available_memory_is_a_caution(selected, much_memory, available, status):
    much_memory.available = available
    (found,) = machine.check_memory(selected)
    assert (found.status, found.facts["available_bytes"]) == (status, available)
    assert "the container" not in found.facts["limits"]


@pytest.mark.parametrize(("limit", "status"), [(8 * 10**9, "ok"), (10**9, "caution")])
def test_limit_of_the_container_is_not_available_memory(selected, much_memory, limit, status):
    machine.CGROUP_LIMIT.write_text(f"{limit}\n")
    (found,) = machine.check_memory(selected)
    assert (found.status, found.facts["limits"]["the container"]) == (status, limit)
    assert found.facts["available_bytes"] == 10**12


@pytest.mark.parametrize(("name", "kind"), [("ulimit -v", "RLIMIT_AS"), ("ulimit -d", "RLIMIT_DATA")])
def test_limits_of_ulimit_are_those_of_the_process(selected, much_memory, monkeypatch, name, kind):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(getattr(resource, kind))
    limit = 10**12 if before[1] == resource.RLIM_INFINITY else before[1]
    resource.setrlimit(getattr(resource, kind), (limit, before[1]))
    try:
        (found,) = machine.check_memory(selected)
    finally:
        resource.setrlimit(getattr(resource, kind), before)
    assert found.facts["limits"][name] == limit


def test_launchers_and_sbatch_are_found(selected, tmp_path, monkeypatch):
    (tmp_path / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = diagnose(programs.check_launchers, selected)
    assert found["sbatch"].facts["path"] == str(tmp_path / "sbatch")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(programs, "name_plugin", lambda name: f"no-such-{name}")
    found = diagnose(programs.check_launchers, selected)
    assert (found["sbatch"].facts["path"], found["joblib launcher"].status) == (None, "ok")
    words = {name: shlex.split(found[name].command)[1:] for name in ("joblib launcher", "submitit launcher")}
    assert words["joblib launcher"][:3] == ["-m", "pip", "install"]
    assert [re.split("[<>=]", word)[0] for word in words["joblib launcher"][3:]] == ["hydra-joblib-launcher"]
    # docs/slurm.md needs both
    assert [re.split("[<>=]", word)[0] for word in words["submitit launcher"][3:]] == [
        "hydra-submitit-launcher",
        "submitit",
    ]


@pytest.mark.parametrize("name", ["joblib", "submitit"])
def test_launcher_that_is_not_installed_is_one_message_with_the_command_of_doctor(selected, name):
    """The message is Hydra's for a ``_target_`` that cannot be imported."""
    error = RuntimeError(f"Unknown plugin class : 'hydra_plugins.hydra_{name}_launcher.launcher.Launcher'")
    message = format_launcher_error(error)
    assert isinstance(message, UsageError)
    assert f"hydra/launcher={name} is not installed" in str(message)
    assert f"-m pip install 'hydra-{name}-launcher" in str(message)


@pytest.mark.parametrize(
    ("desktop", "name", "status"),
    [("", "firefox", "caution"), (":0", "w3m", "caution"), (":0", "firefox", "ok")],
)
def test_browser_needs_a_desktop(selected, monkeypatch, desktop, name, status):
    monkeypatch.setattr(programs.sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", desktop)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(webbrowser, "get", lambda: SimpleNamespace(name=name))
    (found,) = programs.check_browser(selected)
    assert found.status == status


@pytest.mark.parametrize(
    ("error", "before", "status"),
    [
        (RuntimeError("a defect"), [], "fault"),
        (SystemExit(2), [], "fault"),
        (RecursionError(), [], "fault"),
        (PermissionError(13, "Permission denied", "/data"), [], "fault"),
        (DataError("labels.txt is missing"), [], "fault"),
        (ImportError("numpy"), [Diagnosis("packages", "numpy", "fault", "is missing")], "caution"),
    ],
)
def test_exception_of_a_check_is_a_diagnosis_after_those_before_it(error, before, status):
    def check():
        yield Diagnosis("store", "first", "ok", "fine")
        raise error

    first, second = examination._carry_out("store", "database", check, before)
    assert first.status == "ok"
    assert (second.group, second.name, second.status) == ("store", "database", status)
    assert second.text and (second.command or status == "caution")


def test_what_compiled_code_writes_to_standard_output_is_discarded(capfd):
    print("before", flush=True)
    with examination._without_output():
        os.write(1, b"of compiled code")
    print("after", flush=True)
    assert capfd.readouterr().out == "before\nafter\n"


def test_matplotlib_makes_no_directory_in_the_home_directory(monkeypatch):
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    with examination._matplotlib_elsewhere():
        directory = Path(os.environ["MPLCONFIGDIR"])
        assert directory.is_dir()
    assert not directory.exists()
    assert "MPLCONFIGDIR" not in os.environ
