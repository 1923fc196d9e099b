"""What a page of the documentation shows to be run is run, in its order, as a user would paste it."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import pytest
import yaml
from documented_pages import (
    COMMAND,
    ROOT,
    TRANSLATED,
    is_compared,
    list_mixed_blocks,
    list_pages,
    list_steps,
    parse_steps,
    read_steps,
)
from documented_rules import EXCEPTIONS, FAILING, PREPARED, SHORTER
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from processes import read_runs

PAGES = list_pages()
STEPS = list_steps()
COMMANDS = [step for step in STEPS if step.kind == "command"]
RUN_PAGES = [
    page
    for page in PAGES
    if TRANSLATED[0] not in page
    and any(step.page == page and step.kind in ("command", "python", "yaml") for step in STEPS)
]
PLACEHOLDER = re.compile(r"\b(RUN_A|RUN_B|RUN|DIRECTORY|868f30a7)(?=[ \"]|$)")
BARE_VERB = re.compile(r"python -m harness [a-z]+")
HAXBY_CONDITIONS = ("face", "cat", "house", "chair", "bottle", "scissors", "shoe", "scrambledpix")


def children_seconds():
    """Return the processor time of all processes that were started, and have ended."""
    used = os.times()
    return used.children_user + used.children_system


def find_exception(step):
    return next((rule for rule in EXCEPTIONS if re.search(rule.pattern, step.command)), None)


def shorten(step):
    """Return a command with further overrides, unless its output is shown."""
    found = [rule.overrides for rule in SHORTER if re.search(rule.pattern, step.command)]
    return " ".join([step.command, *(found if not step.output else ())])


# What pages assume ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory, worker_id):
    """Return a cache that all workers share: simulated subjects and masked volumes are made once."""
    base = tmp_path_factory.getbasetemp()
    cache = (base if worker_id == "master" else base.parent) / "documented cache"
    cache.mkdir(exist_ok=True)
    return cache


@pytest.fixture(scope="session")
def haxby(tiny_subject):
    """Return a directory with six subjects in Haxby's layout, of 120 voxels each."""
    directory = tiny_subject(n_runs=8, conditions=HAXBY_CONDITIONS)
    for subject in range(2, 7):
        shutil.copytree(directory / "haxby2001" / "subj1", directory / "haxby2001" / f"subj{subject}")
    return directory


class Page:
    """A directory in which the commands of one page are run."""

    def __init__(self, directory, haxby, cache):
        self.directory = directory
        self.haxby = haxby
        self.environment = os.environ | {
            "HARNESS_CACHE": str(cache),
            "NILEARN_DATA": str(haxby),
            "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def fill_in(self, text):
        """Replace what a reader replaces: places on another machine, and names of runs."""
        text = re.sub(r"(?<=[='\" ])/(data|my|new)/", rf"{self.directory}/\1/", text)
        text = re.sub(r"=DIR\b", f"={self.haxby}", text)
        text = re.sub(r"--sweep ID\b", "--sweep latest", text)
        if PLACEHOLDER.search(text):
            _, runs = read_runs(self.directory)
            finished = [run for run in runs if run.info.status == "FINISHED"]
            ids = [run.info.run_id for run in finished if "harness.group.runs" not in run.data.tags]
            names = {"RUN_A": ids[0], "RUN_B": ids[-1], "RUN": ids[0], "868f30a7": ids[0][:8]}
            names["DIRECTORY"] = f"{self.directory}/mlruns/artifacts/{ids[0]}/artifacts"
            text = PLACEHOLDER.sub(lambda found: names[found[0]], text)
        return text

    def run(self, command):
        start = children_seconds()
        process = subprocess.run(
            ["bash", "-c", command],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        print(f"{children_seconds() - start:6.1f} s CPU  {command}")
        return process


@pytest.fixture
def page(request, tmp_path, haxby, shared_cache):
    """Return the directory of a page with what the page assumes."""
    name = request.node.callspec.params["name"]
    text = (ROOT / name).read_text()
    directory = tmp_path / "page"
    directory.mkdir()
    own = "harness cache clear" in text
    page = Page(directory, haxby, directory / "cache" if own else shared_cache)
    for place in ("my/data", "new/place"):
        shutil.copytree(haxby, directory / place)
    if "/data/" in text:
        studies = [request.getfixturevalue("nifti_study"), request.getfixturevalue("bids_study")()]
        write_studies(directory / "data", *studies)
    studies = directory / "my" / "studies"
    studies.mkdir()
    (studies / "my_study.yaml").write_text(
        "# @package _global_\ndefaults:\n  - config\n  - override /estimator: dummy\n  - _self_\n"
    )
    if ".nii.gz" in text:
        write_new_volumes(directory, request.getfixturevalue("simulated_subject"))
    for overrides in PREPARED.get(name, ()):
        if "SHARED" in overrides:
            overrides = overrides.replace("SHARED", str(request.getfixturevalue("shared_data")))
        process = page.run(page.fill_in(f"python -m harness {overrides}"))
        assert process.returncode == 0, process.stdout + process.stderr
    return page


@pytest.fixture(scope="session")
def simulated_subject(shared_cache):
    """Return the directory of the simulated subject 2."""
    from harness import Simulated

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(shared_cache))
        Simulated().load(2)
    (directory,) = shared_cache.glob("simulated-*/haxby2001/subj2")
    return directory


def write_studies(data, nifti, bids):
    """Write what pages show of data of one's own: images with a table of labels, and BIDS."""
    shutil.copytree(nifti, data)
    for subject in ("sub-01", "sub-02"):
        shutil.copy(data / subject / "all.nii.gz", data / subject / "bold.nii.gz")
    shutil.copy(data / "sub-01" / "vt.nii.gz", data / "vt.nii.gz")
    shutil.copytree(bids, data / "ds000105")
    mine = data / "mine"
    shutil.copytree(bids, mine)
    names = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
    for table in mine.rglob("*_desc-confounds_timeseries.tsv"):
        n_volumes = len(table.read_text().splitlines()) - 1
        rows = ["\t".join(str((row * (i + 2)) % 7) for i in range(6)) for row in range(n_volumes)]
        table.write_text("\n".join(["\t".join(names), *rows]) + "\n")
    (data / "rois").mkdir()
    shutil.copy(data / "vt.nii.gz", data / "rois" / "sub-01_ffa.nii.gz")


def write_new_volumes(directory, subject):
    """Write volumes for `predict`: all of them, their labels, and the last two scanner runs."""
    labels = (subject / "labels.txt").read_text().split("\n", 1)[1].split()
    conditions, runs = labels[::2], labels[1::2]
    rows = [f"{condition}\t{run}" for condition, run in zip(conditions, runs, strict=True)]
    (directory / "labels.tsv").write_text("\n".join(["condition\trun", *rows]) + "\n")
    shutil.copy(subject / "bold.nii.gz", directory / "new.nii.gz")
    image = nib.load(subject / "bold.nii.gz")
    for run in (9, 10):
        start = runs.index(str(run))
        nib.save(image.slicer[..., start : start + runs.count(str(run))], directory / f"run-{run}.nii.gz")


# The commands -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN_PAGES)
def test_everything_that_a_page_shows_can_be_run(page, name):
    steps = read_steps(name)
    faults, done = [], set()
    for step in steps:
        if step.kind == "command":
            if find_exception(step) or (step.is_inline and step.command in done):
                continue
            done.add(step.command)
            if step.command.startswith("export "):
                page.environment |= dict(word.split("=", 1) for word in shlex.split(step.command)[1:])
            else:
                faults += run_command(page, step)
        elif step.file:
            file = page.directory / step.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(page.fill_in(step.text))
        elif step.kind == "yaml":
            assert yaml.safe_load(step.text), step
    blocks = [step for step in steps if step.kind == "python" and not step.file]
    blocks = [step for step in blocks if not is_compared(step)]  # test_notebook.py
    faults += run_blocks(page, blocks) if blocks else []
    assert not faults, "\n\n".join(faults)


def run_command(page, step):
    """Run a command of a page; return what is wrong with it."""
    command = shorten(step)
    if step.is_inline and BARE_VERB.fullmatch(step.command):
        command += " --help"  # a sentence names the verb
    try:
        process = page.run(page.fill_in(command))
    except subprocess.TimeoutExpired:
        return [f"{step}\n  not finished after 300 s; add it to SHORTER in documented_rules.py"]
    output = process.stdout + process.stderr
    is_refused = step.output.startswith("error:")
    fails = is_refused or any(re.search(pattern, command) for pattern in FAILING)
    if fails != (process.returncode != 0) or "Traceback" in output or "Warning:" in process.stderr:
        return [f"{step}\n  exit status {process.returncode}: {command}\n{output[-3000:]}"]
    if is_refused:
        output = process.stderr.strip().splitlines()[-1]
    if not output_is_shown(page.fill_in(step.output), output, whole=is_refused):
        return [f"{step}\n  the page shows\n{step.output}\n  and it prints\n{output[-3000:]}"]
    return []


def output_is_shown(shown, printed, whole=False):
    """Return whether a page shows a part of what was printed, or all of it; ``...`` is anything.

    Spaces, ends of lines and the lines of tables do not count.
    """
    printed = re.sub("[\u2500-\u257f]", " ", printed)
    words = [re.escape(word).replace(r"\.\.\.", ".*?") for word in shown.split()]
    match = re.fullmatch if whole else re.search
    return match(r"\s+".join(words), printed.strip(), flags=re.DOTALL) is not None


def run_blocks(page, blocks):
    """Run the Python blocks of a page as one script, whose line numbers are those of the page."""
    script = ""
    for block in blocks:
        script += "\n" * (block.line - 1 - script.count("\n")) + block.text
    file = page.directory / "blocks.py"
    file.write_text(page.fill_in(script))
    process = page.run("python blocks.py")
    return [f"{blocks[0].page}, Python:\n{process.stderr}"] if process.returncode else []


OPTION_FILES = [step for step in STEPS if step.kind == "yaml" and step.file]


@pytest.mark.parametrize("step", OPTION_FILES, ids=[step.file for step in OPTION_FILES])
def test_an_option_file_composes_with_the_values_that_it_shows(step, tmp_path):
    file = Path(step.file)
    root, group, name = file.parts[0], "/".join(file.parts[1:-1]), file.stem
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(step.text)
    overrides = [f"{group}={name}", f"hydra.searchpath=[file://{tmp_path / root}]"]
    with initialize_config_module("harness.conf", version_base="1.3"):
        config = compose("config", overrides=overrides, return_hydra_config=True)
    composed = OmegaConf.to_container(OmegaConf.select(config, group.replace("/", ".")), resolve=False)
    for key, value in yaml.safe_load(step.text).items():
        assert key == "defaults" or composed[key] == value, key


# The tables -------------------------------------------------------------------------------------------------


def test_every_kind_of_command_is_documented():
    assert len(COMMANDS) >= 100
    for part in (
        "fetch",
        "inspect",
        "compare",
        "runs",
        "replay",
        "dataset=bids",
        "--config-dir",
        "searchlight",
    ):
        assert any(part in step.command for step in COMMANDS), part


@pytest.mark.parametrize("rule", EXCEPTIONS, ids=[rule.pattern for rule in EXCEPTIONS])
def test_every_exception_is_on_a_page_and_a_test_does_the_same(rule):
    found = [match[0] for step in COMMANDS if (match := re.search(rule.pattern, step.command))]
    assert found
    assert rule.reason
    if rule.covered_by:
        file, _, name = rule.covered_by.partition("::")
        assert file.startswith("tests/")
        text = (ROOT / file).read_text()
        words = {word for part in found for word in re.findall(r"\w[\w-]*", part)} - {"harness", "launcher"}
        assert any(re.search(rf"\b{word}\b", text) for word in words), words
        assert f"def {name}" in text


@pytest.mark.parametrize("rule", SHORTER, ids=[rule.pattern for rule in SHORTER])
def test_every_shortened_command_is_on_a_page(rule):
    commands = [step for step in COMMANDS if not find_exception(step)]
    assert any(re.search(rule.pattern, step.command) for step in commands)


@pytest.mark.parametrize("name", [page for page in PAGES if TRANSLATED[0] in page])
def test_a_translation_shows_the_commands_of_its_original(name):
    shown = [[step.text for step in read_steps(page)] for page in (name, name.replace(*TRANSLATED))]
    assert shown[0] == shown[1]


def test_prepared_pages_and_failing_commands_exist():
    assert set(PREPARED) <= set(PAGES)
    for pattern in FAILING:
        assert any(re.search(pattern, step.command) for step in COMMANDS), pattern


def test_no_block_hides_a_command():
    for step in STEPS:
        if step.kind == "text":
            assert not re.search(r"\bharness \w|^ *(\$|python|pip) ", step.text, flags=re.MULTILINE), step


def test_a_block_has_one_language_because_readers_copy_it_whole():
    for page in PAGES:
        for line, kinds in list_mixed_blocks((ROOT / page).read_text(encoding="utf-8")):
            raise AssertionError(f"{page}:{line}: {kinds}; make a fenced block of each")
    mixed = "    # a.yaml\n    b: 1\n\n    python -m harness\n\ntext\n\n    ls\n"
    assert list_mixed_blocks(mixed) == [(1, ["bash", "yaml"])]


def test_commands_are_found_in_blocks_with_prompts_and_after_option_files():
    text = (
        "Text `python -m harness a=1`.\n\n"
        "    # conf/x.yaml\n    a: 1\n\n    python -m harness x=x \\\n        y=2  # why\n\n"
        "```console\n$ python -m harness bad\nerror: bad\n\nexpected good\n```\n"
    )
    inline, option, plain, prompted = parse_steps("page", text)
    assert (inline.command, inline.is_inline) == ("python -m harness a=1", True)
    assert (option.file, option.line) == ("conf/x.yaml", 3)
    assert (plain.command, plain.line) == ("python -m harness x=x y=2", 6)
    assert (prompted.command, prompted.output) == ("python -m harness bad", "error: bad\n\nexpected good")
    assert COMMAND.match(prompted.command)


def test_shown_output_is_compared_but_for_dots_and_spaces():
    assert output_is_shown("error: a ... c", "error: a   b\n c")
    assert not output_is_shown("error: a ... d", "error: a b c")
    assert output_is_shown("svc 0.894", "│ svc │ 0.894 │")
    assert not output_is_shown("0.894", "0.895")
    assert output_is_shown("b", "a b c") and not output_is_shown("b", "a b c", whole=True)
