"""The loader of a sweep composes the same configurations as Hydra's own."""

import pickle

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from harness.app.composition import composing
from harness.app.sweep_loader import SweepConfigLoader

JOBS = [
    ["subject=1", "estimator=svc", "cv=logo"],
    ["subject=3", "seed=4", "estimator=svc", "cv=logo"],
    ["subject=3", "estimator=dummy", "cv=kfold5", "figures=off", "tracking.folder='a b'"],
    ["++estimator.grid.C=[1,2]", "estimator=svc", "roi.mask=face"],
    ["++cv.n_splits=4", "cv=kfold5", "scoring.report=[accuracy]"],
    ["++dataset.n_subjects=3", "dataset=simulated"],
    ["+unheard=3", "subject=1"],
    ["~signal.lag", "~tracking", "subject=1"],
    ["~cv", "subject=1"],
    ["signal.lag=1", "signal={lag: 3}"],
    ["++estimator.grid.C=[4]", "++estimator.grid={C: [5]}", "estimator=svc"],
    ["hydra.job.chdir=true", "hydra/job_logging=default", "subject=1"],
    [],
]


@pytest.fixture(scope="module")
def composed(tmp_path_factory):
    """Hydra's loader, and the configuration of a sweep."""
    with pytest.MonkeyPatch.context() as patch, composing():
        patch.setenv("HARNESS_SWEEP", str(tmp_path_factory.mktemp("sweep")))
        theirs = GlobalHydra.instance().config_loader()
        yield theirs, theirs.load_configuration("config", ["tracking=off"], RunMode.MULTIRUN)


@pytest.fixture
def loaders(composed):
    """Hydra's loader, ours, and the configuration of a sweep."""
    theirs, sweep = composed
    return theirs, SweepConfigLoader(theirs), sweep


def compose(loader, sweep, job):
    """Return what a job is composed to, with all that Hydra notes of it, or what is wrong with it."""
    try:
        return OmegaConf.to_yaml(loader.load_sweep_config(sweep, list(job)))
    except (HydraException, ValueError) as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("jobs", [JOBS[:3], pytest.param(JOBS[3:], marks=pytest.mark.slow)])
def test_jobs_are_composed_as_hydra_composes_them(loaders, jobs):
    theirs, ours, sweep = loaders
    expected = [compose(theirs, sweep, job) for job in jobs]
    assert len(set(expected)) == len(jobs)
    # In another order the second time, when all of them are cached.
    assert [compose(ours, sweep, job) for job in jobs] == expected
    assert [compose(ours, sweep, job) for job in reversed(jobs)] == expected[::-1]


OVERRIDES = [*sorted({word for job in JOBS for word in job}), "cv=stratified5", "engine=nilearn", "roi=brain"]


@pytest.mark.slow
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
@given(st.lists(st.lists(st.sampled_from(OVERRIDES), max_size=4), min_size=1, max_size=3))
def test_any_jobs_are_composed_as_hydra_composes_them(loaders, jobs):
    theirs, ours, sweep = loaders
    for job in jobs:
        assert compose(ours, sweep, job) == compose(theirs, sweep, job)


@pytest.mark.parametrize(
    "job",
    [
        ["subject=two"],
        ["estimator=svx"],
        *(
            pytest.param(job, marks=pytest.mark.slow)
            for job in (
                ["roi.masc=face"],
                ["subject=1,2"],
                ["nonsense=1"],
                ["cv@signal=logo"],
                ["scoring.select={a: 1}"],
            )
        ),
    ],
    ids=lambda job: job[0],
)
def test_errors_have_hydras_own_message(loaders, job):
    theirs, ours, sweep = loaders
    expected = compose(theirs, sweep, job)
    assert "Exception: " in expected
    assert compose(ours, sweep, job) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of_sweep", "jobs"),
    [
        (["~cv"], [["cv=kfold5"], ["+cv=kfold5"], ["subject=1"], ["+cv=logo", "subject=3"]]),
        (["hydra.searchpath=[file://own]"], [["+mine=option"], ["+mine=3"], ["mine=option"]]),
    ],
)
def test_options_that_the_sweep_itself_lacks_are_options(tmp_path, monkeypatch, loaders, of_sweep, jobs):
    monkeypatch.chdir(tmp_path)
    theirs, ours, _ = loaders
    (tmp_path / "own" / "mine").mkdir(parents=True)
    (tmp_path / "own" / "mine" / "option.yaml").write_text("# @package _global_\nseed: 5\n")
    sweep = theirs.load_configuration("config", of_sweep, RunMode.MULTIRUN)
    # Hydra hands the words of the command line on to the jobs.
    for job in jobs:
        words = [word for word in of_sweep if not word.startswith("hydra")] + job
        assert compose(ours, sweep, words) == compose(theirs, sweep, words)


def test_a_job_changes_nothing_for_the_next_one(loaders):
    _, ours, sweep = loaders
    first = ours.load_sweep_config(sweep, ["subject=1"])
    first.subject, first.hydra.job.num, first.roi.mask = 5, 7, "face"
    second = ours.load_sweep_config(sweep, ["seed=1"])
    assert (second.subject, second.roi.mask) == (2, "vt")
    assert OmegaConf.is_missing(second.hydra.job, "num")


def test_options_are_composed_once_per_sweep_and_process(loaders, monkeypatch):
    theirs, ours, sweep = loaders
    composed = []
    load = type(theirs).load_sweep_config

    def load_and_count(self, config, overrides):
        composed.append(list(overrides))
        return load(self, config, overrides)

    monkeypatch.setattr(type(theirs), "load_sweep_config", load_and_count)
    for subject in range(1, 4):
        for cv in ("logo", "kfold5"):
            ours.load_sweep_config(sweep, [f"subject={subject}", f"cv={cv}"])
    assert composed == [["cv=logo"], ["cv=kfold5"]]
    # As in a worker, which receives a copy of the loader with every job.
    for subject in range(1, 4):
        copy = pickle.loads(pickle.dumps(ours))
        copy.load_sweep_config(sweep, ["cv=logo", f"seed={subject}"])
    assert composed[2:] == [["cv=logo"]]
