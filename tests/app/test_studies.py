"""Studies are found by name from any directory; an unknown name is refused with a list of the studies."""

from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from omegaconf import OmegaConf

from harness.app.composition import check_study, composing
from harness.app.entry import run
from processes import harness

ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "experiments"
SHIPPED = sorted(
    (file.relative_to(STUDIES).with_suffix("").as_posix() for file in STUDIES.rglob("*.yaml")),
    key=lambda name: ("/" in name, name),
)
OWN = """defaults:
  - config
  - _self_
seed: {seed}
hydra:
  mode: MULTIRUN
  sweeper: {{params: {{subject: '1,2'}}}}
"""


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    folder = tmp_path / "else where"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write_study(folder, name, seed):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.yaml").write_text(OWN.format(seed=seed))
    return folder


def test_there_are_studies():
    assert SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_every_study_is_found_from_anywhere(elsewhere, name):
    written = OmegaConf.load(ROOT / "experiments" / f"{name}.yaml")
    with composing():
        config = hydra_compose(name, return_hydra_config=True)
    assert config.hydra.sweeper.params == written.hydra.sweeper.params


@pytest.mark.parametrize("name", SHIPPED)
def test_every_study_has_a_page(name):
    page = (ROOT / "experiments" / f"{name}.md").read_text()
    assert f"python -m harness -cn {name}" in page


def test_a_study_of_the_current_directory_comes_before_the_shipped_one(elsewhere):
    write_study(elsewhere / "experiments", SHIPPED[0], seed=5)
    with composing():
        assert hydra_compose(SHIPPED[0]).seed == 5


def test_a_study_of_the_config_directory_comes_first(elsewhere):
    write_study(elsewhere / "experiments", SHIPPED[0], seed=5)
    own = write_study(elsewhere / "own", SHIPPED[0], seed=6)
    with composing(own):
        assert hydra_compose(SHIPPED[0]).seed == 6
    # Hydra puts the directory into its search path by itself, behind those of the current directory.
    assert "seed: 6" in harness(elsewhere, "-cd", "own", "-cn", SHIPPED[0], "--cfg", "job").stdout
    assert "seed: 5" in harness(elsewhere, "-cn", SHIPPED[0], "--cfg", "job").stdout


@pytest.mark.parametrize(
    "more", [[], ["-m"], ["--cfg", "job"], ["subject=1"], ["--info", "defaults"]], ids=str
)
@pytest.mark.parametrize(
    "typed", ["subjects_gird", "nothing_like_it", "grids/subjects_grid", "dataset/haxby"]
)
def test_an_unknown_study_is_answered_with_those_there_are(elsewhere, capsys, typed, more):
    write_study(elsewhere / "experiments", "mine", seed=1)
    write_study(elsewhere / "own", "yours", seed=1)
    assert run(["-cd", "own", "-cn", typed, *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: unknown study {typed!r}; expected one of: ")
    assert error.count("\n") == 1
    assert "search path" not in error
    for name in (*SHIPPED, "mine", "yours"):
        assert name in error
    for name in ("schema", "config,", "_dummy_empty_config_"):
        assert name not in error
    if typed == "subjects_gird":
        assert "Did you mean 'subjects_grid'?" in error


@pytest.mark.parametrize("typed", [f"{SHIPPED[0]}.yaml", "config"])
def test_names_that_hydra_takes_are_taken(typed):
    with composing():
        check_study(typed)


def test_a_config_directory_that_does_not_exist_is_one_message(elsewhere, capsys):
    assert run(["-cd", "nowhere", "-cn", SHIPPED[0]]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_a_shipped_study_runs_outside_of_the_checkout(elsewhere, tiny_subject):
    data = ["dataset=haxby", f"dataset.data_dir={tiny_subject()}", "scoring.inner_folds=2", "figures=off"]
    process = harness(elsewhere, "-cn", "subjects_grid", *data, "subject=1", "estimator=dummy,ridge")
    assert "2 done, 0 failed, 0 skipped, 0 remaining" in process.stderr
