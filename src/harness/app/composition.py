"""What a run asks for: overrides are composed by Hydra, checked, and become plain objects.

What computes is imported when objects are built, so that ``--help`` and completion answer at once.
"""

import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum, EnumType
from functools import lru_cache
from importlib.resources import files
from itertools import islice, product
from math import prod
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints
from uuid import uuid4

import yaml
from hydra import compose, initialize_config_module
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from harness.app.allowed_targets import (
    TARGET,
    build_object,
    check_grid,
    check_keys,
    check_targets,
    import_allowed_class,
    list_arguments,
)
from harness.app.conflicts import check_launching, check_tracking
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
from harness.app.schema import RunSchema
from harness.errors import HarnessError, UsageError, format_unknown
from harness.tracking.ledger import VARIABLE as SWEEP_VARIABLE

if TYPE_CHECKING:
    from harness.datasets.recording import Dataset
    from harness.decoding.decode import Decoding
    from harness.decoding.evaluation import Progress
    from harness.decoding.question import Question
    from harness.samples.cache import SampleCache
    from harness.samples.contrasts import Contrast

# Keys that say nothing about a result, and so are none of its parameters.
NOT_LOGGED = ("tracking", "figures", "cache", "resume")
MAX_NAME = 250  # characters of a run's name that MLflow's databases hold
MAX_JOBS = 100_000  # of a sweep; every one is composed before the first one starts

ConfigStore.instance().store(name="schema", node=RunSchema)
OmegaConf.register_new_resolver("harness.unique", lambda: uuid4().hex[:8], use_cache=False, replace=True)


class _OwnFolders(SearchPathPlugin):
    """Finds studies and options in the user's own directories, and then the studies of the package."""

    # What --config-dir names. Hydra itself would search it last, and `compose` takes none.
    named: Path | None = None

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        own = [] if self.named is None else [self.named]
        for folder in (*own, Path("experiments"), Path("conf")):
            if folder.is_dir():
                search_path.append(provider="harness", path=f"file://{folder.absolute()}")
        search_path.append(provider="harness", path="pkg://harness.experiments")


Plugins.instance().register(_OwnFolders)


@contextmanager
def searching(config_dir: Path | None) -> Iterator[None]:
    """Search a directory of the user's own options and studies before the others, within this context."""
    before, _OwnFolders.named = _OwnFolders.named, config_dir
    try:
        yield
    finally:
        _OwnFolders.named = before


@contextmanager
def composing(config_dir: Path | None = None) -> Iterator[None]:
    """Find options and studies as the command line does, inside of this context.

    Parameters
    ----------
    config_dir : Path, optional
        Folder of the user's own options and studies.

    Raises
    ------
    UsageError
        If there is no such folder.
    """
    if config_dir is not None and not config_dir.is_dir():
        raise UsageError(
            f"--config-dir {config_dir} is no folder; give the folder that holds GROUP/OPTION.yaml"
        )
    with searching(config_dir), initialize_config_module("harness.conf", version_base="1.3"):
        yield


def check_study(name: str, config_dir: Path | None = None) -> None:
    """Refuse a study that does not exist.

    Parameters
    ----------
    name : str
        What ``--config-name`` is followed by.
    config_dir : Path, optional
        Directory of the user's own studies.

    Raises
    ------
    UsageError
        If there is none of this name; the message lists those that there are.
    """
    with composing(config_dir):
        sources = GlobalHydra.instance().config_loader().get_sources()
    is_option = name.partition("/")[0] in _groups()
    if not is_option and any(source.is_config(name) for source in sources):
        return
    own = [source for source in sources if source.provider in ("main", "harness") and source.is_group("")]
    studies = {study for source in own for study in source.list("", ObjectType.CONFIG)} - {"config"}
    raise UsageError(format_unknown(name, name, sorted(studies), "study"))


@dataclass(frozen=True)
class RunSpec:
    """One run: a question, the subject that it is put to, and the configuration that both came from.

    Attributes
    ----------
    subject : int
    dataset : Dataset
    question : Question
    name : str
        Name of the run, for example, ``sub-2 face_vs_cat vt svc logo``.
    config : mapping of str to object
        The resolved configuration as plain dictionaries, lists and numbers.
    choices : mapping of str to str
        What was chosen of every group, as the user would type it, and ``location``, where data lie elsewhere.
    overrides : tuple of str
        What the user typed.
    """

    subject: int
    dataset: "Dataset"
    question: "Question"
    name: str
    config: Mapping[str, Any]
    choices: Mapping[str, str]
    overrides: tuple[str, ...]

    @property
    def params(self) -> dict[str, str]:
        """The choices and the configuration on one level, for comparing runs."""
        counted = {key: value for key, value in self.config.items() if key not in NOT_LOGGED}
        return {**self.choices, **_flatten(counted)}

    def to_yaml(self) -> str:
        """Return the configuration as YAML."""
        return yaml.dump(dict(self.config), sort_keys=False, allow_unicode=True)


def compose_request(overrides: list[str], config_dir: Path | None = None) -> RunSpec:
    """Compose and check the request that a run with these overrides would be, and run nothing.

    Parameters
    ----------
    overrides : list of str
        ``GROUP=OPTION`` and ``KEY=VALUE``, as a run takes them.
    config_dir : Path, optional
        Folder of the user's own options.

    Returns
    -------
    RunSpec

    Raises
    ------
    UsageError
        If they make no sense, in the words of a run, or ask for several values of one key.
    """
    (request,) = compose_requests(overrides, config_dir, limit=1)
    return request


def compose_requests(
    overrides: list[str], config_dir: Path | None = None, limit: int = MAX_JOBS
) -> list[RunSpec]:
    """Compose the requests that a multirun with these overrides would be: one per combination of values.

    Parameters
    ----------
    overrides : list of str
        As `compose_request` takes them, and several values of a key: ``subject=1,2``, ``subject=range(1,7)``.
    config_dir : Path, optional
        Folder of the user's own options.
    limit : int
        The most requests that may be asked for.

    Returns
    -------
    specs : list of RunSpec

    Raises
    ------
    UsageError
        If they make no sense, in the words of a run, or are too many.
    """
    words = [quote_override(word) for word in overrides]
    check_launching(words, multirun=False)
    with explaining(words), composing(config_dir):
        jobs = expand_grid(words)
        if len(jobs) > limit:
            raise UsageError(
                f"{' '.join(overrides)!r} has {len(jobs)} combinations of values; give one value of each key"
            )
        requests = []
        for one in jobs:
            config = compose("config", one, return_hydra_config=True)
            choices = config.hydra.runtime.choices
            with open_dict(config):
                del config["hydra"]
            requests.append(build_request(config, choices, one))
    return requests


@contextmanager
def explaining(words: Sequence[str] = (), passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn whatever is raised while a configuration is composed and its objects are built into a UsageError.

    Parameters
    ----------
    words : sequence of str
        The overrides, for the message.
    passing : tuple of types
        Exceptions that are raised as they are, beside a `HarnessError`. Those of Hydra never are, although
        that of a missing option is an OSError, too.

    Raises
    ------
    UsageError
        In place of every other exception.
    """
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:  # Hydra and OmegaConf also raise AssertionError, TypeError and others
        too_long = isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG
        if isinstance(error, passing) and not isinstance(error, HydraException) and not too_long:
            raise
        raise UsageError(explain_error(error, words)) from error


def expand_grid(words: Sequence[str]) -> list[list[str]]:
    """Return the overrides of every job of a grid: each combination of values once.

    Parameters
    ----------
    words : sequence of str
        Overrides, as Hydra takes them. The last word on a key counts.

    Returns
    -------
    jobs : list of list of str

    Raises
    ------
    UsageError
        If a key has no value, or there are too many combinations.
    """
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    values: dict[str, list[str]] = {}
    for word, override in zip(words, parser.parse_overrides(list(words)), strict=True):
        key = override.get_key_element()
        if override.is_sweep_override():
            # One more than is allowed tells that there are too many, whatever their number.
            found = islice(override.sweep_string_iterator(), MAX_JOBS + 1)
            values[key] = [f"{key}={value}" for value in found]
        else:
            values[key] = [word]
        if not values[key]:
            raise UsageError(
                f"{word.removeprefix('++')!r} has no value at all; glob(...) finds options of a group"
            )
    n_jobs = prod(map(len, values.values()))
    if n_jobs > MAX_JOBS:
        many = max(values, key=lambda key: len(values[key]))
        raise UsageError(
            f"{many.removeprefix('++')} has too many values: a sweep has at most {MAX_JOBS} runs; give fewer"
        )
    return [list(job) for job in product(*values.values())]


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

    Returns
    -------
    RunSpec

    Raises
    ------
    UsageError
        If a key or a value is not in the vocabulary, or a ``_target_`` may not be built.
    """
    from harness.decoding.decoder import Estimator
    from harness.decoding.evaluation import Scheme, Scoring
    from harness.decoding.question import Question
    from harness.samples.contrasts import make_contrast
    from harness.samples.samples import Roi
    from harness.samples.signal import Signal

    settings = _check_config(config, choices)
    usual = _compose_usual(config, choices)
    for composed in (settings, usual):
        composed["cv"] = {"incomplete": Scheme.incomplete} | composed["cv"]
    unchanged = not list_changes(settings["contrast"], usual["contrast"])
    contrast = make_contrast(settings["contrast"]["conditions"], choices["contrast"] if unchanged else None)
    grid = check_grid(settings["estimator"])
    model = _instantiate("estimator", choices["estimator"], settings["estimator"], apart=("grid",))
    words = _choose_words(settings, usual, choices) | {"contrast": _name_contrast(contrast)}
    splitter = _instantiate("cv", choices["cv"], settings["cv"], apart=("incomplete",))
    return RunSpec(
        subject=settings["subject"],
        dataset=_instantiate("dataset", choices["dataset"], settings["dataset"]),
        question=Question(
            contrast=contrast,
            estimator=Estimator(words["estimator"], model, grid),
            scheme=Scheme(words["cv"], splitter, settings["cv"]["incomplete"]),
            roi=Roi(**settings["roi"]),
            signal=Signal(**settings["signal"]),
            scoring=Scoring(**settings["scoring"] | {"report": tuple(settings["scoring"]["report"])}),
            engine=settings["engine"],
        ),
        name=_run_name(words, choices),
        config=settings,
        choices=words,
        overrides=tuple(word.removeprefix("++") for word in overrides),
    )


def decode_request(
    spec: RunSpec, progress: "Progress | None" = None, cache: "SampleCache | None" = None
) -> "Decoding":
    """Load a run's recording and decode it; nothing is written."""
    from harness.decoding.decode import collect_warnings, count_messages, decode

    with collect_warnings() as caught:
        recording = spec.dataset.load(spec.subject)
    decoding = decode(recording, spec.question, progress=progress, cache=cache)
    return replace(decoding, warnings=(*count_messages(caught), *decoding.warnings))


def _compose_usual(config: DictConfig, choices: Mapping[str, str]) -> dict[str, Any]:
    """Compose the chosen options as they are, without any change of a value but subject, seed and engine."""
    words = tuple(f"{group}={choices[group]}" for group in _groups() if choices.get(group))
    # In a sweep the options stay the same, also for workers, to which every job brings another loader.
    during = os.environ.get(SWEEP_VARIABLE) or GlobalHydra.instance().config_loader()
    usual = deepcopy(_compose_once(words, during))
    for key in ("subject", "seed", "engine"):
        usual[key] = config[key]
    plain = {}
    for group in _groups():
        try:
            plain[group] = OmegaConf.to_container(usual[group], resolve=True, enum_to_str=True)
        except InterpolationResolutionError:  # it stands for something that is only on the command line
            plain[group] = OmegaConf.to_container(usual[group], resolve=False, enum_to_str=True)
    return plain


@lru_cache(maxsize=64)
def _compose_once(words: tuple[str, ...], during: object) -> DictConfig:
    return compose("config", list(words))


def _choose_words(
    asked: Mapping[str, Any], usual: Mapping[str, Any], choices: Mapping[str, str]
) -> dict[str, str]:
    """Name what was chosen of every group, and what else tells runs apart."""
    words = {
        group: name_option(choices[group], list_changes(asked[group], usual[group])) for group in _groups()
    }
    words["tracking"] = choices["tracking"]
    locations = find_locations(asked["dataset"], usual["dataset"])
    apart = (*locations, *NOT_NAMED)
    words["dataset"] = name_option(
        choices["dataset"], list_changes(asked["dataset"], usual["dataset"], apart)
    )
    mask = asked["roi"]["mask"]
    if mask != usual["roi"]["mask"]:
        changes = list_changes(asked["roi"], usual["roi"], ("mask",))
        words["roi"] = name_option(label_location(mask) if is_path(mask) else mask, changes)
    words |= {"subject": str(asked["subject"]), "engine": asked["engine"], "seed": str(asked["seed"])}
    return words | ({"location": label_location(locations)} if locations else {})


def _name_contrast(contrast: "Contrast") -> str:
    """Name a contrast by its classes; with their conditions where these do not follow from the names."""
    grouped = {name: members for name, members in contrast.members.items() if members != (name,)}
    if not grouped:
        return contrast.name
    return contrast.option or name_option(contrast.name, list_changes(grouped, {}))


def _run_name(words: Mapping[str, str], choices: Mapping[str, str]) -> str:
    """Name a run by what is asked most often: ``sub-2 face_vs_cat vt svc logo``, and by what is unusual."""
    parts = [f"sub-{words['subject']}", words["contrast"], words["roi"], words["estimator"], words["cv"]]
    usual = {"signal": "tutorial", "scoring": "roc_auc", "dataset": choices["dataset"]}
    parts += [words[group] for group, option in usual.items() if words[group] != option]
    plain = {"engine": "harness", "seed": "0", "location": None}
    parts += [f"{key}={words[key]}" for key, value in plain.items() if words.get(key) != value]
    return shorten(" ".join(parts), MAX_NAME)


def _groups() -> list[str]:
    """Return the groups of options: every field of the schema that holds more than one value."""
    return [
        item.name
        for item in fields(RunSchema)
        if is_dataclass(item.default_factory) or item.default_factory is dict
    ]


def _check_config(config: DictConfig, choices: Mapping[str, str]) -> dict[str, Any]:
    """Resolve a configuration into plain objects; refuse keys that are unknown, and keys that are missing."""
    asked = OmegaConf.to_container(config, resolve=True, throw_on_missing=True, enum_to_str=True)
    assert isinstance(asked, dict)
    check_keys("", asked, [item.name for item in fields(RunSchema)])
    absent = [item.name for item in fields(RunSchema) if item.name not in asked]
    absent += [group for group in _groups() if group not in choices]
    if absent:
        raise UsageError(f"every run needs {absent[0]!r}, which ~{absent[0]} removes; leave that out")
    for item in fields(RunSchema):
        if is_dataclass(item.default_factory):
            check_keys(item.name, asked[item.name], [part.name for part in fields(item.default_factory)])
    check_tracking(asked["tracking"], asked["resume"])
    return {str(key): value for key, value in asked.items()}


def _instantiate(group: str, option: str, node: Mapping[str, Any], apart: tuple[str, ...] = ()) -> Any:
    """Build the object that a group's ``_target_`` names, if it may be built and its arguments exist.

    The keys `apart` are none of its arguments.
    """
    check_targets(group, node, group)
    built = import_allowed_class(group, str(node[TARGET]))
    arguments = list_arguments(built)
    for key in node:
        if key not in (TARGET, *arguments, *apart):
            message = format_unknown(f"{group}.{key}", key, [*arguments, *apart])
            chosen = f"{group}={option} is {built.__name__}"
            raise UsageError(f"{message.rstrip('.')}. {chosen}. {_suggest_option(group, key)}")
    return build_object(group, {key: value for key, value in node.items() if key not in apart})


def _suggest_option(group: str, key: str) -> str:
    """Name the options of a group that take an argument, and what to type."""
    having = []
    for file in files("harness.conf").joinpath(group).iterdir():
        if file.name.endswith(".yaml"):
            option = OmegaConf.to_container(OmegaConf.create(file.read_text(encoding="utf-8")))
            assert isinstance(option, dict)
            if key in list_arguments(import_allowed_class(group, str(option[TARGET]))):
                having.append(file.name.removesuffix(".yaml"))
    having.sort()
    if not having:
        return f"No option of {group} takes {key!r}."
    return f"Options that take {key!r}: {', '.join(having)}; type {group}={having[0]} {group}.{key}=VALUE."


def _flatten(node: Any, prefix: str = "config") -> dict[str, str]:
    """Return a nested configuration as one level of dotted keys."""
    if isinstance(node, Mapping) and node:
        return {
            key: value
            for name, child in node.items()
            for key, value in _flatten(child, f"{prefix}.{name}").items()
        }
    return {prefix: str(node)}


def explain_error(error: BaseException, words: Sequence[str] = ()) -> str:
    """Say a Hydra or OmegaConf error in one message that names the key and what is allowed.

    Parameters
    ----------
    error : BaseException
    words : sequence of str
        The overrides, where they are known.

    Returns
    -------
    message : str
    """
    if isinstance(error, MissingConfigException) and error.options:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        own = "; for classes of your own: contrast.conditions=[face,house]" if group == "contrast" else ""
        return format_unknown(f"{group}={option}", option, sorted(error.options), "option") + own
    if isinstance(error, OverrideParseException):
        asked = str(error.override).removeprefix("++")
        return (
            f"{asked!r} cannot be read as GROUP=OPTION or KEY=VALUE. A value with special characters is "
            "quoted twice, for the shell and for Hydra: \"KEY='VALUE'\""
        )
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    for cause in causes:
        if isinstance(cause, yaml.YAMLError):
            reason = " ".join(str(cause).split())
            return f"a configuration file cannot be read: {reason}; correct its YAML"
        if isinstance(cause, OmegaConfBaseException) and getattr(cause, "full_key", None):
            return _explain_key(cause, str(error).splitlines()[0])
    if isinstance(error, HydraException):
        return _explain_composition(str(error))
    typed = " ".join(word.removeprefix("++") for word in words)
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{typed!r} names an option that no file can have: a name is that long in no file system"
    if isinstance(error, UnicodeDecodeError):
        return f"{typed!r}: a configuration file is not UTF-8 text ({error.reason}); save it as UTF-8"
    return (
        f"{typed or 'the configuration'!r} cannot be composed; check that its keys exist and that their "
        "values are of the right type (HYDRA_FULL_ERROR=1 shows where this was found)"
    )


def _explain_key(error: OmegaConfBaseException, first: str) -> str:
    """Explain why a key cannot have its value; `first` is the first line of Hydra's own message."""
    key, parent = str(error.full_key), error.parent_node
    if isinstance(error, ConfigAttributeError | ConfigKeyError) and isinstance(parent, DictConfig):
        return format_unknown(key, key.rpartition(".")[2], sorted({str(name) for name in parent} - {"hydra"}))
    expected = _describe_type(key) or "a value of another type"
    typed = first.partition("Error merging override ")[2].removeprefix("++") or f"{key}={error.value}"
    if isinstance(error, MissingMandatoryValue):
        return f"{key} has no value; give one, such as {key}=VALUE"
    if isinstance(error, InterpolationResolutionError):
        reason = re.sub(r"(While dereferencing interpolation .*?\}'): .*", r"\1", str(error).splitlines()[0])
        return f"{key}: {reason}; expected ${{KEY}}, with another key whose value is {expected}"
    if typed.startswith("~"):
        return f"{typed!r} cannot be used: {key} cannot be removed; give it another value"
    return f"{typed!r} cannot be used; {key} takes {expected}"


def _explain_composition(text: str) -> str:
    """Say what Hydra could not compose in the words of a run."""
    for pattern, message in (
        (r"Could not override '(.*)'", "{0!r} is not a key or a group; see python -m harness --help"),
        (
            r"Could not delete '?(.*?)'?\.? (No match|from config)",
            "~{0} removes nothing: there is no such option",
        ),
        (r"Could not delete from config. (.*) does not exist", "~{0} removes nothing: there is no such key"),
        (r"Could not append to config. An item is already at '(.*)'", "{0!r} exists; leave out the +"),
        (r"(.*) appears more than once in the final", "{0!r} is chosen twice; leave out the +"),
        (r"Error merging override (?:\+\+)?(.*)", "{0!r} cannot be used; that key takes another value"),
        (
            r"Ambiguous value for argument '(\+\+)?(.*)'",
            "{1!r} has several values: -m makes a run of each; KEY=[A,B] is a list, \"KEY='A,B'\" a text",
        ),
    ):
        found = re.match(pattern, text)
        if found is not None:
            return message.format(*found.groups())
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _describe_type(key: str) -> str | None:
    """Say what a key of the schema takes; None for keys of the open groups and of Hydra."""
    hint: Any = RunSchema
    for part in re.sub(r"\[.*", "", key).split("."):
        hints = get_type_hints(hint) if is_dataclass(hint) else {}
        if part not in hints:
            return None
        hint = hints[part]
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return " or ".join(_describe_kind(kind) for kind in kinds)


def _describe_kind(kind: Any) -> str:
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        return "a list" if item is Any else f"a list of {_describe_kind(item)}"
    if isinstance(kind, EnumType):
        members: list[Enum] = list(kind)
        return f"one of {', '.join(str(member.value) for member in members)}"
    if is_dataclass(kind) or get_origin(kind) is dict:
        return "the name of an option"
    named = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}
    return named[kind]
