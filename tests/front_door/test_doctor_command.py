"""``python -m harness doctor`` in real processes, also in environments that are broken."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.metadata import requires
from pathlib import Path

import pytest

import harness as package
from processes import harness

SOURCES = str(Path(package.__file__).parents[1])
REQUIRED = [text for text in requires("fmri-decoding-harness") if "extra ==" not in text]
# The keys that docs/doctor.md promises.
DOCUMENT = ["format", "status", "exit_status", "environment_digest", "seconds", "checks"]
CHECK = ["group", "name", "status", "text", "command", "facts"]
GROUPS = ["python", "packages", "configuration", "environment", "store", "data", "cache", "launchers"]
GROUPS += ["browser", "machine", "disk"]
# Hides packages, as if they were not installed, from everything that this Python starts.
HIDE = """
import os, sys

class Hider:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["HIDDEN"].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hider())
"""


@pytest.fixture
def doctor(tmp_path):
    """Return a function that runs ``doctor --json`` in a new directory: its status and its document."""
    (tmp_path / "work").mkdir()

    def run(*arguments, directory=tmp_path / "work", **environment):
        environment = {"HARNESS_CACHE": str(tmp_path / "cache")} | environment
        process = harness(directory, "doctor", "--json", *arguments, check=False, **environment)
        assert process.stderr == ""
        document = json.loads(process.stdout)
        assert list(document) == DOCUMENT
        assert all(list(check) == CHECK for check in document["checks"])
        assert document["exit_status"] == process.returncode
        return process.returncode, document

    return run


def by_name(document, group):
    return {check["name"]: check for check in document["checks"] if check["group"] == group}


def fault_names(document):
    return [check["name"] for check in document["checks"] if check["status"] == "fault"]


@pytest.mark.slow
def test_healthy_environment_has_no_fault_and_nothing_is_created(doctor, tmp_path):
    status, document = doctor()
    assert (status, fault_names(document)) == (0, [])
    assert document["status"] in ("ok", "caution")
    assert list(dict.fromkeys(check["group"] for check in document["checks"])) == GROUPS
    packages = by_name(document, "packages")
    assert len(packages["imports"]["facts"]["imported"]) == len(REQUIRED)
    assert set(REQUIRED) >= {f"numpy{packages['numpy']['facts']['required']}"}
    assert len(document["environment_digest"]) == 64
    assert by_name(document, "store")["database"]["facts"]["state"] == "absent"
    assert by_name(document, "machine")["speed"]["facts"]["gflops"] > 0
    assert [path.name for path in tmp_path.rglob("*")] == ["work"]
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
    keys = {key for check in document["checks"] for key in check["facts"]}
    assert {key for key in (*DOCUMENT, *CHECK, *keys) if f"`{key}`" not in page} == set(), "not documented"


def test_python_without_any_package_gets_a_report(tmp_path):
    """A source checkout on PYTHONPATH; as in a course, where nothing was installed yet."""
    bare = getattr(sys, "_base_executable", sys.executable)
    command = [bare, "-S", "-m", "harness", "doctor"]
    # Not the installation's own packages, if there is no virtual environment.
    process = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": SOURCES}, capture_output=True, text=True
    )
    assert (process.returncode, process.stderr) == (1, "")
    words = " ".join(process.stdout.split())
    assert "not installed: its options (harness.conf) are not found" in words
    assert words.count("is required, but not installed") >= len(REQUIRED) - 1, "isal depends on the machine"
    assert "pip install 'numpy>=2" in process.stdout


def test_wrong_override_is_a_usage_error(tmp_path):
    process = harness(tmp_path, "doctor", "dataset=hxby", check=False)
    assert (process.returncode, process.stdout) == (2, "")
    assert "Did you mean 'haxby'?" in process.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hidden", "unchecked"),
    [
        ("nilearn", ["composition"]),
        ("mlflow", []),
        ("hydra", ["composition"]),
        ("sklearn", ["composition"]),
        ("matplotlib", []),
        ("rich,packaging,psutil", ["composition"]),
    ],
)
def test_missing_package_is_named_with_its_command(doctor, tmp_path, hidden, unchecked):
    (tmp_path / "sitecustomize.py").write_text(HIDE)
    status, document = doctor("tracking.folder=runs", PYTHONPATH=str(tmp_path), HIDDEN=hidden)
    assert status == 1
    distributions = {"hydra": "hydra-core", "sklearn": "scikit-learn"}
    names = {f"import {distributions.get(name, name)}" for name in hidden.split(",")}
    assert names <= set(fault_names(document))
    others = [name for name in fault_names(document) if not name.startswith("import ")]
    assert others == unchecked
    repairs = by_name(document, "packages")
    assert all("pip install" in repairs[name]["command"] for name in names)
    assert by_name(document, "store")["directory"]["facts"]["directory"].endswith("runs"), (
        "without Hydra, too"
    )


@pytest.mark.slow
def test_old_package_is_named_with_both_versions(doctor, tmp_path):
    info = tmp_path / "site" / "nilearn-0.14.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nilearn\nVersion: 0.14.0\n")
    status, document = doctor(PYTHONPATH=str(info.parent))
    assert (status, fault_names(document)) == (1, ["nilearn"])
    nilearn = by_name(document, "packages")["nilearn"]
    assert nilearn["facts"]["version"] == "0.14.0"
    assert "--upgrade" in nilearn["command"]


@pytest.mark.slow
def test_damaged_store_is_a_fault_and_stays_as_it_is(doctor, make_store, tmp_path):
    store = make_store(tmp_path / "work" / "mlruns")
    content = bytearray((store.directory / "mlflow.db").read_bytes())
    content[20_000:24_000] = b"\xff" * 4000
    (store.directory / "mlflow.db").write_bytes(content)
    status, document = doctor()
    assert (status, fault_names(document)) == (1, ["database"])
    assert (store.directory / "mlflow.db").read_bytes() == content
    assert by_name(document, "store")["database"]["command"].startswith("mv ")


@pytest.mark.slow
def test_moved_store_is_repaired_by_the_command_that_is_printed(doctor, make_store, tmp_path):
    store = make_store(tmp_path / "before" / "mlruns")
    run = store.client.create_run(store.experiment_id)
    store.client.log_text(run.info.run_id, "kept", "note.txt")
    store.client.set_terminated(run.info.run_id)
    shutil.move(store.directory, tmp_path / "work" / "mlruns")
    status, document = doctor()
    assert (status, fault_names(document)) == (1, ["place"])
    repair = by_name(document, "store")["place"]["command"]
    subprocess.run(repair, shell=True, check=True, cwd=tmp_path / "work", capture_output=True)
    assert doctor()[0] == 0


@pytest.mark.slow
def test_newer_store_is_a_fault_and_older_one_a_caution(doctor, make_store, tmp_path):
    store = make_store(tmp_path / "work" / "mlruns")
    for revision, expected in (("ffffffffffff", ("fault", 1)), ("bda7b8c39065", ("caution", 0))):
        with closing(sqlite3.connect(store.directory / "mlflow.db")) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        before = (store.directory / "mlflow.db").read_bytes()
        status, document = doctor()
        assert (by_name(document, "store")["database"]["status"], status) == expected
        assert (store.directory / "mlflow.db").read_bytes() == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts small disks, as root")
@pytest.mark.parametrize("options", ["size=64k", "ro"])
def test_full_and_read_only_disks_are_faults(doctor, tmp_path, options):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(small)], check=False).returncode:
        pytest.skip("this machine does not allow mounting a disk")
    try:
        if options != "ro":
            with (small / "filler").open("wb") as file, pytest.raises(OSError, match="space"):
                file.write(bytes(1 << 20))
        status, document = doctor(directory=small, HARNESS_CACHE=str(small / "cache"))
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)
    assert status == 1
    assert by_name(document, "store")["directory"]["status"] == "fault"
    assert by_name(document, "data")["simulated"]["status"] == "fault", "no subject can be simulated"
    assert by_name(document, "cache")["samples"]["status"] == "caution", "runs continue without it"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="becomes another user")
def test_user_without_a_home_gets_a_report(tmp_path):
    """A user that the system does not know, as in containers, without HOME."""
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    names = {name: value for name, value in os.environ.items() if name not in ("HOME", "HARNESS_CACHE")}
    command = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
    readable = subprocess.run([*command, sys.executable, "-c", "import harness"], check=False, env=names)
    if readable.returncode:
        pytest.skip("the packages cannot be read by another user")
    process = subprocess.run(
        [*command, sys.executable, "-m", "harness", "doctor", "--json"],
        cwd=tmp_path,
        env=names,
        capture_output=True,
        text=True,
    )
    document = json.loads(process.stdout)
    assert by_name(document, "environment")["home"]["status"] == "caution"
    assert by_name(document, "store")["directory"]["status"] == "fault"
    assert "Traceback" not in process.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="closes a file descriptor with a shell")
@pytest.mark.parametrize("arguments", [["--version"], ["doctor"], ["doctor", "--json"]])
def test_closed_standard_output_is_one_message(tmp_path, arguments):
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "harness", *arguments]
    process = subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False)
    assert process.returncode == 1
    assert process.stderr.startswith("error: standard output cannot be written")
    assert process.stderr.count("\n") == 1


@pytest.mark.slow
def test_home_that_does_not_exist_is_not_created(doctor, tmp_path):
    names = {"HOME": str(tmp_path / "absent"), "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": ""}
    _, document = doctor(**names)
    assert by_name(document, "environment")["home"]["status"] == "caution"
    assert not (tmp_path / "absent").exists()
