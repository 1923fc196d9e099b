"""The sdist and the wheel: what they hold, and that the program runs where nothing else is installed.

They are built by ``python -m build``, as for a release, and the wheel is installed with all its requirements
into an empty virtual environment, by pip with the configuration of this machine.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
DATA = (".yaml", ".md", ".json", ".j2")  # of packages, without code

pytestmark = pytest.mark.slow


def call(*command, **options):
    """Run a command that must succeed, and return what it printed."""
    process = subprocess.run(command, capture_output=True, text=True, timeout=900, **options)
    assert process.returncode == 0, f"{command}\n{process.stdout[-3000:]}{process.stderr[-3000:]}"
    return process.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """Build the sdist, and the wheel from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT))
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(distributions, tmp_path_factory):
    """Install the wheel into an empty environment, and return the directory of its programs."""
    home = tmp_path_factory.mktemp("empty") / "venv"
    call(sys.executable, "-m", "venv", str(home))
    programs = home / ("Scripts" if os.name == "nt" else "bin")
    call(str(programs / "python"), "-m", "pip", "install", "--quiet", "--no-compile", str(distributions[1]))
    return programs


@pytest.fixture
def run_installed(installed, tmp_path):
    """Return a function that runs the installed program in another directory than the checkout."""
    folder = tmp_path / "else where"
    folder.mkdir()
    hidden = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*arguments, check=True):
        process = subprocess.run(
            [str(installed / "python"), "-m", "harness", *arguments],
            cwd=folder,
            env=hidden,
            capture_output=True,
            text=True,
            timeout=300,
        )
        if check:
            assert process.returncode == 0, process.stdout + process.stderr
        return process

    run.folder = folder
    return run


def read_wheel(wheel):
    """Return the files of a wheel; RECORD and WHEEL, which name the builder, are left out."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith(("/RECORD", "/WHEEL"))]
        return {name: archive.read(name) for name in names}


def list_tracked(*paths):
    return call("git", "-C", str(ROOT), "ls-files", *paths).splitlines()


def test_wheel_holds_the_package_with_all_of_its_data_and_nothing_else(distributions):
    packed = set(read_wheel(distributions[1]))
    expected = {f"harness/{name}" for name in list_tracked("conf", "experiments")}
    expected |= {name.removeprefix("src/") for name in list_tracked("src")}
    assert {
        "harness/py.typed",
        "harness/conf/config.yaml",
        "harness/experiments/subjects_grid.yaml",
    } <= expected
    assert any(name.endswith(".html.j2") for name in expected)
    metadata = {name for name in packed if ".dist-info/" in name}
    assert packed - metadata == expected
    assert any(name.endswith("/licenses/LICENSE") for name in metadata)


def test_sdist_holds_every_tracked_file(distributions):
    with tarfile.open(distributions[0]) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    tracked = set(list_tracked())
    assert {"LICENSE", "CITATION.cff", "README.md", "pyproject.toml"} <= tracked
    assert tracked <= packed
    made = {name for name in packed - tracked if not any(file.startswith(f"{name}/") for file in tracked)}
    assert {name for name in made if ".egg-info" not in name} == {"", "PKG-INFO", "setup.cfg"}


def test_tree_without_git_gives_the_same_wheel_as_the_sdist(distributions, tmp_path):
    wheel = distributions[1]
    for name in list_tracked():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / "tree" / name)
    version = wheel.name.split("-")[1]
    call(
        *(
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--outdir",
            str(tmp_path / "dist"),
            str(tmp_path / "tree"),
        ),
        env=os.environ | {"SETUPTOOLS_SCM_PRETEND_VERSION": version},
    )
    (other,) = (tmp_path / "dist").glob("*.whl")
    assert other.name == wheel.name
    assert read_wheel(other) == read_wheel(wheel)


def test_metadata_are_accepted_by_the_package_index(distributions):
    assert (
        call(sys.executable, "-m", "twine", "check", "--strict", *map(str, distributions)).count("PASSED")
        == 2
    )
    metadata = next(text for name, text in read_wheel(distributions[1]).items() if name.endswith("/METADATA"))
    assert metadata.decode().splitlines()[1] == "Name: fmri-decoding-harness"


def test_installed_program_decodes_simulated_data_and_compares_its_runs(installed, run_installed):
    call(str(installed / "python"), "-m", "pip", "check")
    code = "import harness; print(harness.__file__)"
    assert Path(call(str(installed / "python"), "-c", code).strip()).is_relative_to(installed.parent)
    version = run_installed("--version").stdout.splitlines()[0]
    assert re.fullmatch(r"harness \d+\.\d+\S*", version)
    assert call(str(installed / "harness"), "--version").startswith(version)
    assert "estimator" in run_installed("--help").stdout
    run_installed("estimator=svc", "cv=logo")
    (image,) = run_installed.folder.glob("mlruns/artifacts/*/artifacts/weights_face_vs_cat.nii.gz")
    assert image.stat().st_size > 0
    run_installed("-m", "estimator=ridge,dummy", "figures=off")
    assert "ridge" in run_installed("compare", "--sweep", "latest").stdout


def test_installed_program_finds_every_study(run_installed, tiny_subject):
    names = sorted(
        file.relative_to(ROOT / "experiments").with_suffix("").as_posix()
        for file in (ROOT / "experiments").rglob("*.yaml")
    )
    # One process composes two: importing Hydra anew for every study would take most of the time.
    for study in (names[0], names[-1]):
        run_installed("-cn", study, "--cfg", "job")
    unknown = run_installed("-cn", "no_such_study", check=False)
    assert unknown.returncode == 2
    offered = unknown.stderr.partition("expected one of: ")[2]
    assert unknown.stderr.startswith("error: unknown study 'no_such_study'")
    assert all(name in offered for name in names)
    overrides = ["dataset=haxby", f"dataset.data_dir={tiny_subject()}", "subject=1", "scoring.inner_folds=2"]
    process = run_installed("-cn", "subjects_grid", *overrides, "estimator=dummy,ridge", "figures=off")
    assert "2 done, 0 failed, 0 skipped, 0 remaining" in process.stderr


def test_lowest_declared_versions_can_be_installed_together(tmp_path):
    """Every bound is the version that is resolved, not a lower one that another package excludes."""
    lock = tmp_path / "lowest.txt"
    call(
        *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--resolution", "lowest-direct"),
        *(
            "--python-version",
            "3.11",
            "--extra",
            "test",
            "--output-file",
            str(lock),
            str(ROOT / "pyproject.toml"),
        ),
    )
    resolved = dict(re.findall(r"^([\w.-]+)==(\S+)", lock.read_text(), flags=re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = map(
        Requirement, [*project["dependencies"], *extras["test"], *extras["slurm"], *extras["server"]]
    )
    bounds = {
        canonicalize_name(each.name): Version(bound.version)
        for each in declared
        for bound in each.specifier
        if bound.operator == ">="
    }
    assert len(bounds) > 20
    # 3.6 and 3.6.1 are the same bound where there was no 3.6.
    found = {name: Version(resolved[name]) for name in bounds}
    raised = {name for name, bound in bounds.items() if _minor(found[name]) != _minor(bound)}
    assert raised == set()


def _minor(version):
    return version.major, version.minor
