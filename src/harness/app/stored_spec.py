"""The specification of a run from its own record: the stored configuration, not today's options."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.app.allowed_targets import TARGET
from harness.app.composition import name_contrast
from harness.app.conflicts import check_inference
from harness.app.normalisation import list_parameters, normalise
from harness.app.run_names import NOT_NAMED, is_path
from harness.app.run_spec import RunSpec, build_spec, list_groups
from harness.app.schema import RunSchema
from harness.errors import TrackingError, UsageError, first_line
from harness.tracking.tags import DIRECTORY_TAG

if TYPE_CHECKING:
    from harness.samples.contrasts import Contrast
    from harness.tracking.stored_run import StoredRun

# Keys without which a record says nothing about a run; every version wrote them.
REQUIRED = ("dataset", "subject", "contrast", "roi", "signal", "estimator", "cv")
PATTERN_SIGNS = frozenset("{}*?[]")  # of paths that stand for several files
# What else of a configuration has no influence on the numbers, and may change from machine to machine.
MOVABLE = ("roi.mask", "analysis.mask", "signal.confounds_file", "inference.processes", "analysis.processes")
MASKS = ("roi.mask", "analysis.mask")
PROCESSES = ("inference.processes", "analysis.processes")
# Runs of versions without the group `analysis` are decodings.
EARLIER_ANALYSIS = {TARGET: "harness.decoding.analysis.RegionDecoding"}


@dataclass(frozen=True)
class StoredSpec:
    """A run as it was specified, and in what its record had to be completed.

    Attributes
    ----------
    notes : tuple of str
        One per key that the record lacks, because an earlier version wrote it.
    """

    spec: RunSpec
    notes: tuple[str, ...] = ()


def read_stored_spec(stored: "StoredRun", overrides: Sequence[str] = ()) -> StoredSpec:
    """Return the specification of a stored run.

    Parameters
    ----------
    overrides : sequence of str
        Where data are now, as ``dataset.data_dir=/new/place``.

    Raises
    ------
    TrackingError
        If the record is missing, damaged, or of a version whose keys this one does not know.
    UsageError
        If an override is more than a location, or a ``_target_`` may not be built.
    """
    settings, notes = complete_settings(stored.read_config(), f"run {stored.title}")
    settings = _anchor_places(settings, stored.tags.get(DIRECTORY_TAG))
    settings = relocate_settings(settings, overrides)
    check_inference(settings["inference"])
    words = {key: value for key in _list_words() if (value := stored.params.get(key)) is not None}
    words.setdefault("analysis", "decoding")
    for group in ("estimator", "cv", "dataset", "contrast"):
        if group not in words:
            words[group] = str(settings[group].get(TARGET, group)).rpartition(".")[2]
            notes.append(f"the run has no parameter {group!r}; its results are named {words[group]!r}")
    contrast = _restore_contrast(settings["contrast"]["conditions"], words["contrast"])
    try:
        spec = build_spec(settings, contrast, words, words, stored.name)
    except UsageError as error:
        raise UsageError(f"config.yaml of run {stored.title}: {error}") from error
    return StoredSpec(spec, tuple(notes))


def complete_settings(settings: Mapping[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """Return stored settings checked against the schema, its defaults in place of keys that are missing.

    Parameters
    ----------
    where : str
        The run in messages.

    Returns
    -------
    settings : dict of str to object
    notes : list of str
        The keys that were missing, each with the default that is used.

    Raises
    ------
    TrackingError
        If a key is unknown, an indispensable one is missing, or a value has another type.
    """
    from harness.decoding.splitters import Scheme

    absent = [key for key in REQUIRED if settings.get(key) is None]
    if absent:
        raise TrackingError(
            f"config.yaml of {where} has no {absent[0]!r}, without which the run cannot be repeated; "
            "start it again from the command line"
        )
    unknown, missing = _compare_keys(settings)
    if unknown:
        raise TrackingError(
            f"config.yaml of {where} has {', '.join(map(repr, unknown))}, which this version of the harness "
            "does not know; replay it with the version that wrote it (harness.version.harness of the run)"
        )
    try:
        merged = OmegaConf.merge(OmegaConf.structured(RunSchema), dict(settings))
        plain = OmegaConf.to_container(merged, resolve=False, enum_to_str=True)
    except OmegaConfBaseException as error:
        raise TrackingError(
            f"config.yaml of {where} cannot be used: {first_line(error)}; replay it with the version of the "
            "harness that wrote it (harness.version.harness of the run)"
        ) from error
    assert isinstance(plain, dict)
    completed = {str(key): value for key, value in plain.items()}
    if "incomplete" not in completed["cv"]:
        completed["cv"] = {"incomplete": Scheme.incomplete} | completed["cv"]
        missing.append("cv.incomplete")
    completed["analysis"] = completed["analysis"] or EARLIER_ANALYSIS
    notes = [
        f"config.yaml has no {key}, which is newer; this version's default is used: {_find(completed, key)!r}"
        for key in missing
    ]
    return completed, notes


def relocate_settings(settings: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return settings with other places of the data.

    Raises
    ------
    UsageError
        If an override is not ``KEY=VALUE``, or changes more than where the data are.
    """
    changed = dict(settings)
    locations = list_location_keys(settings)
    for override in overrides:
        key, equals, text = override.lstrip("+").partition("=")
        if not equals or not text:
            raise UsageError(
                f"{override!r} is not a place; expected KEY=VALUE, such as dataset.data_dir=/new/place"
            )
        value = _parse_value(key, text)
        _check_location(override, key, value, locations)
        group, *rest = key.split(".")
        changed[group] = _replace(changed[group], rest, value, override)
    return changed


def _anchor_places(settings: dict[str, Any], directory: str | None) -> dict[str, Any]:
    """Return settings in which relative places that do not exist here are below the run's own directory."""
    if directory is None or Path(directory) == Path.cwd():
        return settings
    changed = dict(settings)
    for place in (*list_location_keys(settings), *MASKS, "signal.confounds_file"):
        group, key = place.split(".")
        value = changed[group].get(key)
        if value is not None and (place not in MASKS or is_path(value)):
            changed[group] = changed[group] | {key: _anchor(value, Path(directory))}
    return changed


def _anchor(node: Any, directory: Path) -> Any:
    """Return a path, or a list or mapping of paths, below a directory if they exist only there."""
    if isinstance(node, Mapping):
        return {key: _anchor(value, directory) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_anchor(value, directory) for value in node]
    if not isinstance(node, str) or Path(node).expanduser().is_absolute():
        return node
    fixed = Path(*takewhile(lambda part: not PATTERN_SIGNS.intersection(part), Path(node).parts))
    return str(directory / node) if (directory / fixed).exists() and not fixed.exists() else node


def prepare_settings(settings: Mapping[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """Return normalised settings, and which keys say where the files of the data set are."""
    return normalise({"analysis": EARLIER_ANALYSIS} | dict(settings)), list_location_keys(settings)


def list_location_keys(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of a configuration that say where the files of the data set are."""
    dataset = settings.get("dataset")
    parameters = list_parameters(dataset) if isinstance(dataset, Mapping) else {}
    return tuple(f"dataset.{name}" for name, each in parameters.items() if "Path" in str(each.annotation))


def _check_location(override: str, key: str, value: Any, locations: Sequence[str]) -> None:
    """Raise a UsageError unless a key says where data are, and nothing about what is computed."""
    from harness.tracking.fingerprint import NOT_COUNTED

    if any(key == place or key.startswith(f"{place}.") for place in locations):
        return
    if key in PROCESSES:
        if not isinstance(value, int) or isinstance(value, bool):
            raise UsageError(f"{override!r}: expected a number of processes, such as {key}=2")
        return
    if key in MASKS and not is_path(str(value)):
        raise UsageError(f"{override!r} names another mask; expected the new path of the same image")
    if key in MOVABLE:
        return
    if key.partition(".")[0] in NOT_COUNTED and not key.startswith("dataset"):
        raise UsageError(f"{override!r} has no effect on a replay, which stores nothing; leave it out")
    places = [place for place in locations if place.rpartition(".")[2] not in NOT_NAMED]
    raise UsageError(
        f"{override!r} would make it another run: a replay repeats the stored configuration, and only where "
        f"its data are can change: {', '.join([*places, *MOVABLE])}. For another configuration start a run: "
        f"python -m harness {override}"
    )


def _parse_value(key: str, text: str) -> Any:
    """Return a list, a mapping or null, a number of processes, and everything else as text."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if key in PROCESSES and isinstance(value, int):
        return value
    return value if value is None or isinstance(value, list | dict | str) else text


def _replace(node: Any, keys: Sequence[str], value: Any, override: str) -> dict[str, Any]:
    """Return a mapping in which one value, at any depth, is another."""
    if not isinstance(node, Mapping) or not keys:
        raise UsageError(f"{override!r}: there is no such key; see config.yaml of the run")
    key, *rest = keys
    return dict(node) | {key: _replace(node.get(key), rest, value, override) if rest else value}


def _compare_keys(settings: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the keys that the schema does not have, and those of it that the settings lack."""
    unknown, missing = [], []
    known = {item.name: item for item in fields(RunSchema)}
    unknown += [str(key) for key in settings if key not in known]
    for name, item in known.items():
        if name not in settings:
            missing.append(name)
            continue
        factory, node = item.default_factory, settings[name]
        if factory is MISSING or not is_dataclass(factory) or not isinstance(node, Mapping):
            continue
        parts = [part.name for part in fields(factory)]
        unknown += [f"{name}.{key}" for key in node if key not in parts]
        missing += [f"{name}.{part}" for part in parts if part not in node]
    return unknown, missing


def _find(settings: Mapping[str, Any], key: str) -> Any:
    group, _, rest = key.partition(".")
    return settings[group][rest] if rest else settings[group]


def _list_words() -> tuple[str, ...]:
    return (*list_groups(), "subject", "engine", "seed", "location")


def _restore_contrast(conditions: Any, word: str) -> "Contrast":
    """Build the contrast; of more than three classes, its name in files is the option that was typed."""
    from harness.samples.contrasts import make_contrast

    contrast = make_contrast(conditions)
    return contrast if name_contrast(contrast) == word else make_contrast(conditions, word)
