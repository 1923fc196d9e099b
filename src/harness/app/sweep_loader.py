"""The configurations of a sweep's jobs, composed once per combination of options."""

import re
from collections.abc import Sequence
from copy import deepcopy
from typing import Any
from uuid import uuid4

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.plugins.config_source import ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

# The loader of this process's sweep, by its id. A launcher sends a new copy of the loader with every job, so
# what a worker has composed can only be kept outside the copy. A process works on one sweep at a time.
_restored: dict[str, "SweepConfigLoader"] = {}


class SweepConfigLoader(ConfigLoader):
    """Hydra's loader, which composes jobs that differ in values alone only once.

    Values such as ``subject=3`` are applied to a copy of what the options of the groups make, as Hydra itself
    does at the end: 5 ms per job instead of 67. The configurations equal Hydra's own.

    Parameters
    ----------
    loader : ConfigLoader
        Composes everything else.
    """

    def __init__(self, loader: ConfigLoader, identifier: str = "") -> None:
        self._loader = loader
        self._id = identifier or uuid4().hex
        self._configs: dict[tuple[str, ...], DictConfig] = {}
        self._groups: dict[str, bool] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Send Hydra's loader alone; the receiving process keeps the configurations that it composes."""
        return _restore, (self._loader, self._id)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Compose the configuration of one job."""
        overrides = OverridesParser.create().parse_overrides(list(sweep_overrides))
        values = [override for override in overrides if self._is_value(override, master_config)]
        options = [override for override in overrides if override not in values]
        try:
            if not any(_is_removed_or_added(override) for override in overrides):
                return self._apply(master_config, options, values, overrides)
        except Exception:  # composed by Hydra alone, it raises Hydra's own message
            pass
        return self._loader.load_sweep_config(master_config, list(sweep_overrides))

    def _apply(
        self,
        master_config: DictConfig,
        options: Sequence[Override],
        values: Sequence[Override],
        overrides: Sequence[Override],
    ) -> DictConfig:
        key = tuple(str(override.input_line) for override in options)
        if key not in self._configs:
            self._configs[key] = self._loader.load_sweep_config(master_config, list(key))
        config = deepcopy(self._configs[key])
        for override in values:
            force = override.type == OverrideType.FORCE_ADD
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True, force_add=force)
        task = [str(override.input_line) for override in overrides if not override.is_hydra_override()]
        config.hydra.overrides.task = task
        if not OmegaConf.is_interpolation(config.hydra.job, "override_dirname"):  # Hydra 1.4 derives it
            config.hydra.job.override_dirname = _name_directory(overrides, config.hydra.job.config)
        return config

    def _is_value(self, override: Override, master_config: DictConfig) -> bool:
        """Whether Hydra reads an override as a value, not as an option of a group."""
        return (
            override.package is None
            and not override.is_sweep_override()
            and not override.is_hydra_override()
            and override.key_or_group != "hydra"
            and (
                isinstance(override.value(), dict) or not self._is_group(override.key_or_group, master_config)
            )
        )

    def _is_group(self, key: str, master_config: DictConfig) -> bool:
        if key not in self._groups:
            hydra = master_config.hydra
            options = self._loader.get_group_options(
                key, None, hydra.job.config_name, list(hydra.overrides.hydra)
            )
            self._groups[key] = bool(options)
        return self._groups[key]

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """Compose one configuration, as Hydra does."""
        return self._loader.load_configuration(
            config_name, overrides, run_mode, from_shell, validate_sweep_overrides
        )

    def get_search_path(self) -> ConfigSearchPath:
        """Return where options are searched."""
        return self._loader.get_search_path()

    def get_sources(self) -> list[ConfigSource]:
        """Return the sources of options on the search path."""
        return self._loader.get_sources()

    def list_groups(self, parent_name: str) -> list[str]:
        """Return the groups below a group."""
        return self._loader.list_groups(parent_name)

    def get_group_options(
        self,
        group_name: str,
        results_filter: ObjectType | None = ObjectType.CONFIG,
        config_name: str | None = None,
        overrides: list[str] | None = None,
    ) -> list[str]:
        """Return the options of a group."""
        return self._loader.get_group_options(group_name, results_filter, config_name, overrides)

    def compute_defaults_list(self, config_name: str | None, overrides: list[str], run_mode: RunMode) -> Any:
        """Return Hydra's defaults list of a configuration."""
        return self._loader.compute_defaults_list(config_name, overrides, run_mode)


def _restore(loader: ConfigLoader, identifier: str) -> SweepConfigLoader:
    if identifier not in _restored:
        _restored.clear()
        _restored[identifier] = SweepConfigLoader(loader, identifier)
    return _restored[identifier]


def _is_removed_or_added(override: Override) -> bool:
    return override.type not in (OverrideType.CHANGE, OverrideType.FORCE_ADD)


def _name_directory(overrides: Sequence[Override], names: DictConfig) -> str:
    """Return ``hydra.job.override_dirname`` as Hydra 1.3 defines it."""
    excluded = names.override_dirname.exclude_keys
    lines = sorted(
        str(override.input_line)
        for override in overrides
        if not override.is_hydra_override() and override.key_or_group not in excluded
    )
    return re.sub("=", names.override_dirname.kv_sep, names.override_dirname.item_sep.join(lines))
