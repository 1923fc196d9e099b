"""From overrides to plain objects: Hydra composes a configuration, which is checked and built.

What computes is imported when objects are built, so that ``--help`` and completion answer at once.
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import fields, is_dataclass
from functools import lru_cache
from itertools import islice, product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from hydra import compose, initialize_config_dir, initialize_config_module
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationResolutionError

from harness.app.allowed_targets import (
    check_keys,
)
from harness.app.conflicts import (
    check_inference,
    check_launching,
    check_model,
    check_searchlight,
    check_tracking,
)
from harness.app.hydra_errors import explaining
from harness.app.overrides import quote_override
from harness.app.run_names import (
    NOT_NAMED,
    find_locations,
    is_path,
    label_location,
    list_changes,
    name_option,
    shorten,
)
from harness.app.run_spec import RunSpec, build_spec, list_groups
from harness.app.schema import RunSchema
from harness.errors import UsageError, format_unknown
from harness.tracking.ledger import SWEEP_DIRECTORY_VARIABLE

if TYPE_CHECKING:
    from harness.samples.contrasts import Contrast

SHARING = ("processes", "batch_size")  # arguments of an analysis on which no number depends
MAX_NAME = 250  # characters of a run's name that MLflow's databases hold
MAX_JOBS = 100_000  # of a sweep; every one is composed before the first one starts

# The launchers' options have the names of the plugins' own, which validate them; Hydra warns about that.
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against", UserWarning)
# Without an accounting database submitit warns whenever it reads the queue, and finds its jobs all the same.
os.environ.setdefault("SUBMITIT_LOG_LEVEL", "ERROR")
# Hydra 1.4 and its OmegaConf deprecate what 1.3 requires.
warnings.filterwarnings("ignore", r"register_new_resolver\(\) is deprecated", UserWarning)
warnings.filterwarnings("ignore", "The version_base parameter is deprecated")

ConfigStore.instance().store(name="schema", node=RunSchema)
OmegaConf.register_new_resolver("harness.unique", lambda: uuid4().hex[:8], use_cache=False, replace=True)


# What --config-dir names. Hydra makes the plugin below by itself and passes it nothing; it would search the
# directory of its own flag last, and `compose` has no such argument.
_config_dir: ContextVar[Path | None] = ContextVar("config_dir", default=None)


class OwnDirectories(SearchPathPlugin):
    """Search the user's own directories for studies and options, and then the studies of the package."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the directories that exist: --config-dir, ``experiments``, ``conf``."""
        named = _config_dir.get()
        for directory in (*([named] if named is not None else []), Path("experiments"), Path("conf")):
            if directory.is_dir():
                search_path.append(provider="harness", path=f"file://{directory.absolute()}")
        search_path.append(provider="harness", path="pkg://harness.experiments")


Plugins.instance().register(OwnDirectories)


@contextmanager
def searching(config_dir: Path | None) -> Iterator[None]:
    """Search a directory of the user's own options and studies before the others, within this context."""
    token = _config_dir.set(config_dir)
    try:
        yield
    finally:
        _config_dir.reset(token)


@contextmanager
def composing(config_dir: Path | None = None, config_path: str | None = None) -> Iterator[None]:
    """Initialise Hydra for `compose`, with the options and studies that the command line finds.

    `config_dir` is a directory of the user's own options and studies; `config_path` a directory, or a package
    ``pkg://NAME``, that replaces ``harness.conf``.
    """
    if config_dir is not None and not config_dir.is_dir():
        raise UsageError(
            f"--config-dir {config_dir} is not a directory; give the directory that holds GROUP/OPTION.yaml"
        )
    path = config_path or "pkg://harness.conf"
    with searching(config_dir):
        if path.startswith("pkg://"):
            initialised: Any = initialize_config_module(path.removeprefix("pkg://"), version_base="1.3")
        else:
            initialised = initialize_config_dir(str(Path(path).absolute()), version_base="1.3")
        with initialised:
            yield


def check_study(name: str) -> None:
    """Raise a UsageError, which lists the studies, unless a study of this name exists; needs `composing`."""
    sources = GlobalHydra.instance().config_loader().get_sources()
    is_option = name.partition("/")[0] in list_groups()
    if not is_option and any(source.is_config(name) for source in sources):
        return
    raise UsageError(format_unknown(name, name, list_studies(), "study"))


def list_studies() -> list[str]:
    """Return the studies that can be named by -cn, such as ``subjects_grid``; needs `composing`.

    Those in directories follow the others, as ``tutorial/holdout30``.
    """
    found: set[str] = set()
    for source in GlobalHydra.instance().config_loader().get_sources():
        if source.provider not in ("main", "harness") or not source.is_group(""):
            continue
        found.update(source.list("", ObjectType.CONFIG))
        for group in source.list("", ObjectType.GROUP):
            if group != "hydra" and group not in list_groups():
                found.update(f"{group}/{name}" for name in source.list(group, ObjectType.CONFIG))
    return sorted(found - {"config"}, key=lambda name: ("/" in name, name))


def compose_request(overrides: list[str], config_dir: Path | None = None) -> RunSpec:
    """Compose and check the run that overrides describe, for example ``["subject=2", "estimator=svc"]``.

    `config_dir` is a directory of the user's own options. Several values of a key raise a `UsageError`.
    """
    (spec,) = compose_requests(overrides, config_dir, limit=1)
    return spec


def compose_requests(
    overrides: list[str], config_dir: Path | None = None, limit: int = MAX_JOBS
) -> list[RunSpec]:
    """Compose and check the runs of a sweep: one per combination of values, for example ``subject=1,2``."""
    words = [quote_override(word) for word in overrides]
    check_launching(words, multirun=False)
    with explaining(words), composing(config_dir):
        jobs = expand_grid(words)
        if len(jobs) > limit:
            raise UsageError(
                f"{' '.join(overrides)!r} has {len(jobs)} combinations of values; give one value of each key"
            )
        return [compose_job(job) for job in jobs]


def compose_job(job: Sequence[str]) -> RunSpec:
    """Compose and check the run of one job of a sweep; needs `composing`."""
    config = compose("config", list(job), return_hydra_config=True)
    choices = config.hydra.runtime.choices
    with open_dict(config):
        del config["hydra"]
    return build_request(config, choices, job)


def expand_grid(words: Sequence[str]) -> list[list[str]]:
    """Return the overrides of every job of a sweep: each combination of values once; needs `composing`.

    Of several overrides of a key, the last counts. More than `MAX_JOBS` combinations raise a `UsageError`.
    """
    values: dict[str, list[str]] = {}
    for word, override in zip(words, parse_overrides(words), strict=True):
        key = override.get_key_element()
        values[key] = [word]
        if override.is_sweep_override():
            # One more than is allowed suffices to refuse them.
            found = islice(override.sweep_string_iterator(), MAX_JOBS + 1)
            values[key] = [f"{key}={value}" for value in found]
        if not values[key]:
            raise UsageError(
                f"{word.removeprefix('++')!r} has no values; glob(...) matches the options of a group"
            )
    if prod(map(len, values.values())) > MAX_JOBS:
        many = max(values, key=lambda key: len(values[key]))
        raise UsageError(
            f"{many.removeprefix('++')} has too many values: a sweep has at most {MAX_JOBS} runs; give fewer"
        )
    return [list(job) for job in product(*values.values())]


def parse_overrides(words: Sequence[str]) -> list[Override]:
    """Parse overrides in Hydra's grammar; ``glob(...)`` finds the options that `composing` makes known."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    return parser.parse_overrides(list(words))


@explaining()
def build_request(config: DictConfig, choices: Mapping[str, str], overrides: Sequence[str] = ()) -> RunSpec:
    """Check a composed configuration and build the objects that it names.

    Parameters
    ----------
    config : DictConfig
        See `harness.app.schema.RunSchema`.
    choices : mapping of str to str
        The option that was chosen of every group.
    overrides : sequence of str
        What the user typed.

    Raises
    ------
    UsageError
        If a key or a value is not in the vocabulary, or a ``_target_`` may not be built.
    """
    from harness.decoding.splitters import Scheme
    from harness.samples.contrasts import make_contrast

    settings = _check_config(config, choices)
    defaults = _compose_defaults(config, choices)
    for composed in (settings, defaults):
        composed["cv"] = {"incomplete": Scheme.incomplete} | composed["cv"]
    unchanged = not list_changes(settings["contrast"], defaults["contrast"])
    contrast = make_contrast(settings["contrast"]["conditions"], choices["contrast"] if unchanged else None)
    words = _name_choices(settings, defaults, choices) | {"contrast": name_contrast(contrast)}
    typed = tuple(word.removeprefix("++") for word in overrides)
    return build_spec(settings, contrast, choices, words, _run_name(words, choices), typed)


def _compose_defaults(config: DictConfig, choices: Mapping[str, str]) -> dict[str, Any]:
    """Compose the chosen options as they are, without any change of a value but subject, seed and engine."""
    words = tuple(f"{group}={choices[group]}" for group in list_groups() if choices.get(group))
    # In a sweep the options stay the same, also for workers, to which every job brings another loader.
    during = os.environ.get(SWEEP_DIRECTORY_VARIABLE) or GlobalHydra.instance().config_loader()
    defaults = deepcopy(_compose_once(words, during))
    for key in ("subject", "seed", "engine"):
        defaults[key] = config[key]
    plain = {}
    for group in list_groups():
        try:
            plain[group] = OmegaConf.to_container(defaults[group], resolve=True, enum_to_str=True)
        except InterpolationResolutionError:  # it stands for something that is only on the command line
            plain[group] = OmegaConf.to_container(defaults[group], resolve=False, enum_to_str=True)
    return plain


@lru_cache(maxsize=64)
def _compose_once(words: tuple[str, ...], during: object) -> DictConfig:
    return compose("config", list(words))


def _name_choices(
    settings: Mapping[str, Any], defaults: Mapping[str, Any], choices: Mapping[str, str]
) -> dict[str, str]:
    """Name the option of every group with its changes, and what else distinguishes runs."""
    words = {
        group: name_option(choices[group], list_changes(settings[group], defaults[group]))
        for group in list_groups()
    }
    words["tracking"] = choices["tracking"]
    words["analysis"] = name_option(
        choices["analysis"], list_changes(settings["analysis"], defaults["analysis"], SHARING)
    )
    locations = find_locations(settings["dataset"], defaults["dataset"])
    excluded = (*locations, *NOT_NAMED)
    words["dataset"] = name_option(
        choices["dataset"], list_changes(settings["dataset"], defaults["dataset"], excluded)
    )
    mask = settings["roi"]["mask"]
    if mask != defaults["roi"]["mask"]:
        changes = list_changes(settings["roi"], defaults["roi"], ("mask",))
        words["roi"] = name_option(label_location(mask) if is_path(mask) else mask, changes)
    words |= {
        "subject": str(settings["subject"]),
        "engine": settings["engine"],
        "seed": str(settings["seed"]),
    }
    return words | ({"location": label_location(locations)} if locations else {})


def name_contrast(contrast: "Contrast") -> str:
    """Name a contrast by its classes; with their conditions where these do not follow from the names."""
    grouped = {name: members for name, members in contrast.members.items() if members != (name,)}
    if not grouped:
        return contrast.name
    return contrast.option or name_option(contrast.name, list_changes(grouped, {}))


def _run_name(words: Mapping[str, str], choices: Mapping[str, str]) -> str:
    """Name a run by subject, contrast, region, estimator and scheme, and by changed options."""
    parts = [f"sub-{words['subject']}", words["contrast"], words["roi"], words["estimator"], words["cv"]]
    defaults = {
        "analysis": "decoding",
        "signal": "tutorial",
        "scoring": "roc_auc",
        "inference": "none",
        "dataset": choices["dataset"],
    }
    parts += [words[group] for group, option in defaults.items() if words[group] != option]
    plain = {"engine": "harness", "seed": "0", "location": None}
    parts += [f"{key}={words[key]}" for key, value in plain.items() if words.get(key) != value]
    return shorten(" ".join(parts), MAX_NAME)


def _check_config(config: DictConfig, choices: Mapping[str, str]) -> dict[str, Any]:
    """Resolve a configuration into plain objects; refuse keys that are unknown, and keys that are missing."""
    settings = OmegaConf.to_container(config, resolve=True, throw_on_missing=True, enum_to_str=True)
    assert isinstance(settings, dict)
    check_keys("", settings, [item.name for item in fields(RunSchema)])
    absent = [item.name for item in fields(RunSchema) if item.name not in settings]
    absent += [group for group in list_groups() if group not in choices]
    if absent:
        raise UsageError(f"every run needs {absent[0]!r}, which ~{absent[0]} removes; leave that out")
    for item in fields(RunSchema):
        if is_dataclass(item.default_factory):
            check_keys(item.name, settings[item.name], [part.name for part in fields(item.default_factory)])
    check_tracking(settings["tracking"], settings["resume"])
    check_inference(settings["inference"])
    named = {str(key): value for key, value in settings.items()}
    check_model(named)
    check_searchlight(named)
    return named
