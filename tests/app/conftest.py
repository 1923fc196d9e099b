"""Composition for tests that make hundreds of requests."""

from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from harness.app import composition
from harness.app.sweep_loader import SweepConfigLoader


class JobComposer:
    """Composes as the jobs of a sweep are composed: ten times as fast as single runs, by the same rules.

    That both make the same configurations is tested in test_sweep_loader.
    """

    def __init__(self):
        self._loaders = {}

    def __call__(self, config_name, overrides, return_hydra_config=False):
        config_loader = GlobalHydra.instance().config_loader()
        search_path = config_loader.get_search_path()
        key = (config_name, *(element.path for element in search_path.get_path()), Path.cwd())
        if key not in self._loaders:
            loader = SweepConfigLoader(config_loader)
            self._loaders[key] = loader, loader.load_configuration(config_name, [], RunMode.MULTIRUN)
        loader, master = self._loaders[key]
        return loader.load_sweep_config(master, list(overrides))


@pytest.fixture(scope="session")
def job_composer():
    return JobComposer()


@pytest.fixture
def quick_composition(monkeypatch, job_composer):
    """Let `compose_request` compose in 0.01 s instead of 0.1 s."""
    monkeypatch.setattr(composition, "compose", job_composer)
