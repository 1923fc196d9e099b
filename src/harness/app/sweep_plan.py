"""The plan of a sweep: what its jobs are, known before the first one starts."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from harness.app.composition import expand_grid, parse_overrides
from harness.app.conflicts import check_launching, check_tracking
from harness.app.job import experiment_name
from harness.app.overrides import quote_override
from harness.app.sweep_loader import SweepConfigLoader
from harness.errors import UsageError


@dataclass(frozen=True)
class Plan:
    """A sweep, known before its first job.

    Attributes
    ----------
    config : DictConfig
        What all jobs have in common, with Hydra's own configuration.
    jobs : list of list of str
        The overrides of every job.
    experiments : tuple of str
        The MLflow experiments of its runs.
    loader : ConfigLoader
        Composes the jobs.
    """

    config: DictConfig
    jobs: list[list[str]]
    experiments: tuple[str, ...]
    loader: ConfigLoader

    @property
    def tracking(self) -> Mapping[str, Any]:
        """See `harness.app.schema.TrackingSchema`."""
        plain = OmegaConf.to_container(self.config.tracking, resolve=True, enum_to_str=True)
        assert isinstance(plain, dict)
        return {str(key): value for key, value in plain.items()}


def plan_multirun(name: str, words: list[str], multirun: bool) -> Plan | None:
    """Expand the overrides `words` of a sweep into its jobs; needs `composing`.

    Returns None for one run: without -m (`multirun`) and without a study's ``hydra.mode: MULTIRUN``.
    """
    if not multirun and name == "config" and not any("hydra.mode" in word for word in words):
        return None
    loader = GlobalHydra.instance().config_loader()
    if multirun:
        words = [*words, "hydra.mode=MULTIRUN"]
    config = loader.load_configuration(name, words, RunMode.MULTIRUN, validate_sweep_overrides=multirun)
    if config.hydra.mode != RunMode.MULTIRUN:
        return None
    check_launching(words, multirun=True)
    varied, of_hydra = split_overrides(words)
    return _plan_jobs(loader, name, expand_grid([*_list_params(config), *varied]), of_hydra)


def read_studies(studies: Sequence[str]) -> dict[str, list[str]]:
    """Return what each of several studies varies, as overrides; needs `composing`.

    Raises
    ------
    UsageError
        If a study changes anything other than ``hydra.sweeper.params``.
    """
    loader = GlobalHydra.instance().config_loader()
    plain = loader.load_configuration("config", [], RunMode.RUN)
    params = {}
    for study in studies:
        config = loader.load_configuration(study, [], RunMode.RUN)
        _check_params_alone(study, config, plain)
        params[study] = [quote_override(word) for word in _list_params(config)]
    return params


def plan_studies(
    params: Mapping[str, list[str]],
    words: list[str],
    fixed: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> tuple[Plan, dict[str, list[int]]]:
    """Plan one sweep of the jobs of several studies; needs `composing`.

    An override in `words` takes the place of the values that the studies give its key; an option of a group
    also of those of the keys below. Jobs that several studies share are planned once.

    Parameters
    ----------
    params : mapping of str to list of str
        By study, see `read_studies`.
    fixed : mapping of str to collection of str, optional
        By study, the groups whose values it keeps: overrides of these do not reach its jobs.

    Returns
    -------
    plan : Plan
    numbers : dict of str to list of int
        The jobs of every study, by their place in the plan.
    """
    loader = GlobalHydra.instance().config_loader()
    words = [*words, "hydra.mode=MULTIRUN"]
    check_launching(words, multirun=True)
    varied, of_hydra = split_overrides(words)
    jobs: dict[frozenset[str], list[str]] = {}
    numbers: dict[str, list[int]] = {}
    for study, own in params.items():
        reaching = exclude_groups(varied, fixed.get(study, ()))
        typed = [override.key_or_group for override in parse_overrides(reaching)]
        kept = exclude_groups(own, [key for key in typed if "/" not in key and "." not in key])
        found = {frozenset(job): job for job in expand_grid([*kept, *reaching])}
        for identity, job in found.items():
            jobs.setdefault(identity, job)
        numbers[study] = [list(jobs).index(identity) for identity in found]
    return _plan_jobs(loader, "config", list(jobs.values()), of_hydra), numbers


def exclude_groups(words: Sequence[str], groups: Collection[str]) -> list[str]:
    """Return the overrides, typed or quoted, that change nothing of these groups; needs `composing`."""
    parsed = parse_overrides([quote_override(word) for word in words])
    keys = [re.split("[./]", override.key_or_group)[0] for override in parsed]
    return [word for word, key in zip(words, keys, strict=True) if key not in groups]


def _check_params_alone(study: str, config: DictConfig, plain: DictConfig) -> None:
    """Raise unless a study is its ``hydra.sweeper.params``: else a sweep of several would lose the rest."""
    for key in map(str, plain):
        if key != "hydra" and config[key] != plain[key]:
            raise UsageError(
                f"the study {study} changes {key} outside of hydra.sweeper.params; studies that are run "
                f"together have their values there: hydra: {{sweeper: {{params: {{{key}: ...}}}}}}"
            )


def _check_sweeper(config: DictConfig) -> None:
    if not str(config.hydra.sweeper._target_).endswith(".BasicSweeper"):
        raise UsageError(
            f"hydra.sweeper._target_={config.hydra.sweeper._target_}: sweeps take Hydra's basic sweeper; "
            "leave out hydra/sweeper, and list the values: KEY=A,B or KEY=range(1,7)"
        )
    if config.hydra.launcher.get("n_jobs") == 0:
        raise UsageError("hydra.launcher.n_jobs=0: expected a number of processes; -1: one per core")


def compose_sweep(name: str, words: list[str]) -> DictConfig:
    """Compose what the jobs of a sweep have in common, with Hydra's own configuration; needs `composing`."""
    return GlobalHydra.instance().config_loader().load_configuration(name, words, RunMode.MULTIRUN)


def split_overrides(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the overrides of runs, and those of Hydra itself."""
    own = [override.is_hydra_override() for override in parse_overrides(words)]
    runs = [word for word, of_hydra in zip(words, own, strict=True) if not of_hydra]
    return runs, [word for word, of_hydra in zip(words, own, strict=True) if of_hydra]


def _list_params(config: DictConfig) -> list[str]:
    return [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]


def _plan_jobs(loader: ConfigLoader, name: str, jobs: list[list[str]], of_hydra: list[str]) -> Plan:
    """Plan jobs whose overrides are known."""
    fixed = [word for word in jobs[0] if all(word in job for job in jobs)]
    config = compose_sweep(name, [*fixed, *of_hydra])
    _check_sweeper(config)
    _check_one_store(jobs, fixed)
    datasets = {word.removeprefix("dataset=") for job in jobs for word in job if word.startswith("dataset=")}
    chosen = datasets or {str(config.hydra.runtime.choices["dataset"])}
    plan = Plan(config, jobs, (), SweepConfigLoader(loader))
    check_tracking(plan.tracking)
    _check_values(plan)
    experiments = sorted({experiment_name(plan.tracking, dataset) for dataset in chosen})
    return Plan(config, jobs, tuple(experiments), plan.loader)


def _check_one_store(jobs: Sequence[Sequence[str]], fixed: Sequence[str]) -> None:
    for word in dict.fromkeys(word for job in jobs for word in job):
        if word.lstrip("+").startswith("tracking") and word not in fixed:
            key = word.partition("=")[0]
            raise UsageError(f"{key} has several values; a sweep has one store: choose one")


def _check_values(plan: Plan) -> None:
    """Compose as many jobs as show every value once.

    A wrong value is reported before anything runs; values that are wrong only in combination, by their job.
    """
    seen: set[str] = set()
    for job in plan.jobs:
        if not seen.issuperset(job):
            plan.loader.load_sweep_config(plan.config, job)
            seen.update(job)
