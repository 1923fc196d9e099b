"""The commands that the README shows are run as a user would paste them, in the order of the page."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from processes import read_runs

README = (Path(__file__).parents[2] / "README.md").read_text()
# The page's indented lines, a command that continues on the next line as one.
LINES = re.sub(r"\\\n +", "", README).splitlines()
COMMANDS = [
    line.strip().removeprefix("pip install . && ")
    for line in LINES
    if re.match(r"    (pip install \. && )?python -m harness ", line)
]
# Commands that are covered elsewhere.
DOWNLOADS = "fetch dataset=haxby"  # tests/datasets
SERVES = "harness ui"  # tests/app/test_ui.py
APPLIES = "harness predict"  # tests/front_door/test_predict.py: it needs new volumes
REFUSED = "estimator=svm"  # the example of an error
# Sweeps of 18 runs and more are shortened; of two overrides of one key, the last counts.
SHORTER = {
    "-cn subjects_grid": "subject=1,2 estimator=dummy",
    "-cn estimators_by_cv": "estimator=dummy",
    "cv=holdout30,kfold5,logo": "subject=2 cv=logo",
}


def yaml_blocks():
    """Return the option files that the page shows, by their path."""
    return {
        block[1]: re.sub("^    ", "", block[2], flags=re.MULTILINE)
        for block in re.finditer(r"    # (my_conf/\S+\.yaml)\n((?:    .+\n)+)", README)
    }


@pytest.fixture(scope="module")
def pasted(tmp_path_factory, tiny_subject):
    """Return a function that runs a command of the page in a directory with what the page assumes."""
    directory = tmp_path_factory.mktemp("readme")
    haxby = tiny_subject(n_runs=8)
    for home in (haxby, directory / "my" / "data"):
        shutil.copytree(haxby / "haxby2001" / "subj1", home / "haxby2001" / "subj2")
    studies = directory / "my" / "studies"
    studies.mkdir(parents=True)
    (studies / "my_study.yaml").write_text(
        "# @package _global_\ndefaults:\n  - config\n  - override /estimator: dummy\n  - _self_\n"
    )
    for path, text in yaml_blocks().items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("/data/", f"{directory}/data/"))

    def run(command):
        command = re.sub(r"(?<=[='\" ])/(data|my)/", f"{directory}/\\1/", command)
        binaries = directory / "bin"
        binaries.mkdir(exist_ok=True)
        if not (binaries / "python").exists():
            (binaries / "python").symlink_to(sys.executable)
        environment = os.environ | {
            "NILEARN_DATA": str(haxby),
            "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        return subprocess.run(
            ["bash", "-c", command],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
        )

    run.directory = directory
    return run


def test_every_kind_of_command_is_on_the_page():
    assert len(COMMANDS) >= 20
    for part in (DOWNLOADS, SERVES, "inspect", "compare", "runs", "dataset=bids", "--config-dir"):
        assert any(part in command for command in COMMANDS), part
    assert set(yaml_blocks()) == {"my_conf/dataset/mine.yaml", "my_conf/estimator/svc_balanced.yaml"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [command for command in COMMANDS if "/data/" not in command and "=mine" not in command]
)
def test_command_of_the_readme_succeeds(pasted, command):
    if any(part in command for part in (DOWNLOADS, SERVES, APPLIES)):
        command = command.partition("#")[0] + " --help"
    for sweep, overrides in SHORTER.items():
        if sweep in command:
            command = f"{command.partition('#')[0]} {overrides}"
    if "RUN_A" in command:
        _, runs = read_runs(pasted.directory)
        command = command.replace("RUN_A", runs[0].info.run_id).replace("RUN_B", runs[1].info.run_id)
    process = pasted(command)
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout


@pytest.mark.slow
def test_commands_on_data_of_ones_own_succeed(pasted, nifti_study, bids_study):
    data = pasted.directory / "data"
    shutil.copytree(nifti_study, data, dirs_exist_ok=True)
    for subject in ("sub-01", "sub-02"):
        shutil.copy(data / subject / "all.nii.gz", data / subject / "bold.nii.gz")
    shutil.copy(data / "sub-01" / "vt.nii.gz", data / "vt.nii.gz")
    shutil.copytree(bids_study(), data / "ds000105")
    mine = data / "mine"
    shutil.copytree(data / "ds000105", mine)
    for table in mine.rglob("*_desc-confounds_timeseries.tsv"):
        n_volumes = len(table.read_text().splitlines()) - 1
        names = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
        rows = ["\t".join(str((row * (i + 2)) % 7) for i in range(6)) for row in range(n_volumes)]
        table.write_text("\n".join(["\t".join(names), *rows]) + "\n")
    (data / "rois").mkdir()
    shutil.copy(data / "vt.nii.gz", data / "rois" / "sub-01_ffa.nii.gz")
    commands = [command for command in COMMANDS if "/data/" in command]
    own = [command for command in COMMANDS if "dataset=mine" in command]
    assert len(commands) == 4
    assert len(own) == 1
    for command in commands + own:
        process = pasted(f"{command.partition('#')[0]} scoring.inner_folds=2")  # the study has few volumes
        assert process.returncode == 0, command + process.stdout + process.stderr


def test_example_of_an_error_is_the_message(pasted):
    (command,) = [line.strip().removeprefix("$ ") for line in LINES if REFUSED in line and "$ " in line]
    process = pasted(command)
    assert process.returncode == 2
    expected = next(line.strip() for line in LINES if line.strip().startswith("error: unknown option"))
    start, end = expected.split("...")
    assert process.stderr.strip().startswith(start.strip())
    assert process.stderr.strip().endswith(end.strip())
