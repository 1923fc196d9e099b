"""Hydra's own sweeper and loader, but for work that they repeat. Hydra finds its plugins in this package."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from uuid import uuid4

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(BasicSweeper):
    """Composes, before the first job, no more combinations than show every value once.

    Hydra's own composes all of them, 0.1 s each, one after the other, and every job composes its own again.
    A value that is wrong is found all the same before anything runs; two values that are wrong only together
    are found by their job.
    """

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take over the sweep, as Hydra asks for it, and hand on a loader that remembers."""
        loader = RememberingLoader(hydra_context.config_loader.get_search_path())
        super().setup(
            hydra_context=HydraContext(loader, hydra_context.callbacks),
            task_function=task_function,
            config=config,
        )

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Check that every value of the grid can be composed.

        Parameters
        ----------
        batch : sequence of sequence of str
            The overrides of every job.
        """
        seen: set[str] = set()
        for overrides in batch:
            if not seen.issuperset(overrides):
                super().validate_batch_is_legal([overrides])
                seen.update(overrides)


@dataclass
class _Memory:
    """What one process knows of one sweep."""

    repository: IConfigRepository
    configs: dict[tuple[str, ...], DictConfig] = field(default_factory=dict)


# By the name of the loader; a process works on one sweep at a time.
_memories: dict[str, _Memory] = {}


class RememberingLoader(ConfigLoaderImpl):
    """Composes the options of the groups once for all jobs of a sweep that differ in values alone.

    Hydra applies values such as ``subject=3`` after everything else, to the composed configuration: this is
    all that is left to do for the next subject, in a tenth of the time. What the loader hands out equals what
    Hydra's own does.

    Parameters
    ----------
    search_path : ConfigSearchPath
        Where the options are found.
    """

    def __init__(self, search_path: ConfigSearchPath) -> None:
        super().__init__(search_path)
        # Launchers send the loader to their workers with every job; there, this finds what was composed.
        self.name = uuid4().hex

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Compose the configuration of one job.

        Parameters
        ----------
        master_config : DictConfig
            That of the sweep.
        sweep_overrides : list of str
            What the job is asked to do.

        Returns
        -------
        config : DictConfig
        """
        memory = self._remember(master_config)
        overrides = OverridesParser.create().parse_overrides(sweep_overrides)
        values = [override for override in overrides if _is_value(override, memory.repository)]
        options = tuple(str(override.input_line) for override in overrides if override not in values)
        if options not in memory.configs:
            memory.configs[options] = super().load_sweep_config(master_config, list(options))
        config = deepcopy(memory.configs[options])
        self._apply_overrides_to_config(values, config)
        task = [override for override in overrides if not override.is_hydra_override()]
        config.hydra.overrides.task = [override.input_line for override in task]
        named = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            task, exclude_keys=named.exclude_keys, item_sep=named.item_sep, kv_sep=named.kv_sep
        )
        return config

    def _remember(self, master_config: DictConfig) -> _Memory:
        if self.name not in _memories:
            _memories.clear()
            _, repository = self._parse_overrides_and_create_caching_repo(
                master_config.hydra.job.config_name, list(master_config.hydra.overrides.hydra)
            )
            _memories[self.name] = _Memory(repository)
        return _memories[self.name]


def _is_value(override: Override, repository: IConfigRepository) -> bool:
    """Whether Hydra takes an override for a value, by its own rule, and not for an option of a group."""
    return (
        override.package is None
        and not override.is_sweep_override()
        and not override.is_hydra_override()
        and override.key_or_group != "hydra"
        and (isinstance(override.value(), dict) or not repository.group_exists(override.key_or_group))
    )
