"""The wheel: what a user installs holds the configuration and runs from another folder."""

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


@pytest.mark.slow
def test_wheel_holds_every_option(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("harness/conf/")}
    options = {
        f"harness/conf/{file.relative_to(ROOT / 'conf').as_posix()}"
        for file in (ROOT / "conf").rglob("*.yaml")
    }
    assert options
    assert options <= packed


@pytest.mark.slow
def test_installed_wheel_runs_from_another_folder(wheel, tmp_path, tiny_subject):
    site = tmp_path / "site"
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
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    code = (
        "import sys, harness; from pathlib import Path\n"
        f"assert Path(harness.__file__).is_relative_to({str(site)!r}), harness.__file__\n"
        "from harness.__main__ import main; main()"
    )
    asked = ["dataset=haxby", f"dataset.data_dir={tiny_subject()}", "subject=1", "scoring.inner_folds=3"]
    process = subprocess.run(
        [sys.executable, "-c", code, *asked],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    assert len(list(elsewhere.glob("mlruns/artifacts/*/artifacts/weights_face_vs_cat.nii.gz"))) == 1
