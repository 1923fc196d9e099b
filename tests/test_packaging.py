"""The wheel: what a user installs holds the configuration and runs from another directory."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return a function that runs the command line of the installed wheel from a directory."""
    site = tmp_path_factory.mktemp("site")
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    code = (
        "import sys, harness; from pathlib import Path\n"
        f"assert Path(harness.__file__).is_relative_to({str(site)!r}), harness.__file__\n"
        "from harness.__main__ import main; main()"
    )

    def run(folder, *arguments):
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture
def elsewhere(tmp_path):
    folder = tmp_path / "else where"
    folder.mkdir()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conf", "experiments"])
def test_wheel_holds_every_option_and_study(wheel, name):
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    files = {
        f"harness/{name}/{file.relative_to(ROOT / name).as_posix()}" for file in (ROOT / name).rglob("*.yaml")
    }
    if name == "experiments":  # the tutorial's published values, and what it prints on them
        shown = [*(ROOT / name / "tutorial").glob("*.json"), *(ROOT / name / "tutorial").glob("*.md")]
        files |= {f"harness/{name}/tutorial/{file.name}" for file in shown}
    assert files
    assert files <= packed


@pytest.mark.slow
def test_installed_wheel_runs_from_another_directory(installed, elsewhere, tiny_subject):
    overrides = ["dataset=haxby", f"dataset.data_dir={tiny_subject()}", "subject=1", "scoring.inner_folds=3"]
    process = installed(elsewhere, *overrides)
    assert process.returncode == 0, process.stderr
    assert len(list(elsewhere.glob("mlruns/artifacts/*/artifacts/weights_face_vs_cat.nii.gz"))) == 1


@pytest.mark.slow
def test_installed_wheel_finds_every_study(installed, elsewhere, tiny_subject):
    home = ROOT / "experiments"
    studies = sorted(file.relative_to(home).with_suffix("").as_posix() for file in home.rglob("*.yaml"))
    studies.sort(key=lambda name: "/" in name)  # those in directories follow the others
    for study in studies:
        process = installed(elsewhere, "-cn", study, "--cfg", "job")
        assert process.returncode == 0, process.stderr
    unknown = installed(elsewhere, "-cn", "no_such_study")
    assert unknown.returncode == 2
    assert unknown.stderr.startswith(
        f"error: unknown study 'no_such_study'; expected one of: {', '.join(studies)}."
    )
    overrides = ["dataset=haxby", f"dataset.data_dir={tiny_subject()}", "subject=1", "scoring.inner_folds=2"]
    process = installed(elsewhere, "-cn", "subjects_grid", *overrides, "estimator=dummy,ridge", "figures=off")
    assert process.returncode == 0, process.stderr
    assert "2 done, 0 failed, 0 skipped, 0 remaining" in process.stderr
