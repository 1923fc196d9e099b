"""What methods texts are written from, and what they are: records, and the reading of configurations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Methods:
    """A methods text.

    Attributes
    ----------
    paragraphs : tuple of str
        Data and preprocessing; decoding; inference; software.
    references : tuple of str
        With DOI where the publication has one.
    missing : tuple of str
        What COBIDAS asks for and no configuration knows, to be added by the author.
    """

    paragraphs: tuple[str, ...]
    references: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class MethodFacts:
    """What a methods text is written from.

    Attributes
    ----------
    config : mapping of str to object
        The resolved configuration.
    params : mapping of str to str
        Choices, and ``n_samples``, ``n_voxels``, ``n_folds``. A parameter that varies over the runs is
        written as its values, separated by commas.
    versions : mapping of str to str
    n_blocks : int or None
        Stimulation blocks that were decoded.
    n_relabellings : int or None
        Relabellings that were computed, the true labelling included.
    inference_method : str
        ``enumerated`` or ``random``; empty for a run that was not tested, whatever its configuration.
    has_tested_maps : bool
        Whether activation patterns were tested.
    t_r : float or None
        Repetition time in seconds.
    voxel_sizes : tuple of float
        In mm; empty where unknown.
    """

    config: Mapping[str, Any]
    params: Mapping[str, str]
    versions: Mapping[str, str]
    n_blocks: int | None = None
    n_relabellings: int | None = None
    inference_method: str = ""
    has_tested_maps: bool = False
    t_r: float | None = None
    voxel_sizes: tuple[float, ...] = ()


def list_class_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the classes of a configuration; none where it names none."""
    return tuple(name for name, _ in list_classes(config_section(config, "contrast").get("conditions")))


def config_section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a group of the configuration; empty where it is absent or not a group."""
    node = config.get(name)
    return node if isinstance(node, Mapping) else {}


def config_class(config: Mapping[str, Any], group: str) -> str:
    """Return the class of a group of the configuration, without its package."""
    return str(config_section(config, group).get("_target_", "")).rpartition(".")[2]


def list_classes(conditions: object) -> list[tuple[str, Sequence[object]]]:
    """Return the classes of a contrast with their conditions."""
    classes: list[tuple[str, Sequence[object]]] = []
    for item in conditions if isinstance(conditions, list) else []:
        if isinstance(item, Mapping):
            classes += [(str(name), list(group)) for name, group in item.items()]
        else:
            classes.append((str(item), [item]))
    return classes


def join_values(values: object) -> str:
    """Return values separated by commas."""
    if isinstance(values, Sequence) and not isinstance(values, str):
        return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    return str(values)
