"""The only room that knows Hydra: it composes a run, builds the objects, decodes, tracks and reports.

Start-up imports Hydra and the schema alone, so that ``--help`` and completion answer at once; everything that
computes is imported inside the job.
"""

import inspect
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, is_dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import hydra
from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from harness.arguments import say_to_hydra, sort_arguments
from harness.errors import UsageError
from harness.schema import RunSchema
from harness.targets import check_grid, check_keys, check_targets, describe_unknown, locate_class

if TYPE_CHECKING:
    from harness.cache import SampleCache
    from harness.contrasts import Contrast
    from harness.datasets.recording import Dataset
    from harness.decoder import Estimator
    from harness.decoding import Decoding
    from harness.evaluation import Progress, Scheme, Scoring
    from harness.samples import Roi
    from harness.signals import Signal
    from harness.tracking import TrackedRun

ConfigStore.instance().store(name="schema", node=RunSchema)
OmegaConf.register_new_resolver("harness.unique", lambda: uuid4().hex[:8], use_cache=False, replace=True)


@dataclass(frozen=True)
class Failure:
    """A job that did not come to its end."""

    overrides: tuple[str, ...]
    error: BaseException
    one_of_many: bool


# Jobs that failed in this process, while the front door is open. Hydra itself raises only the first failure
# of a multirun, and loses the traceback of the others.
_failures: list[Failure] | None = None


def run(arguments: list[str]) -> int:
    """Compose and run one job, or a multirun of several.

    Parameters
    ----------
    arguments : list of str
        Hydra's overrides and flags.

    Returns
    -------
    status : int
        0 if every run finished, 1 if a run failed, 2 if the request makes no sense, 130 after Ctrl-C.
    """
    global _failures
    _failures = []
    sys.argv = ["harness", *map(say_to_hydra, sort_arguments(arguments))]
    with_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Hydra prints its own errors and exits; with this it lets them through, to be said better below.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        _main()
    except (HydraException, OmegaConfBaseException) as error:
        if with_traceback:
            raise
        print(f"error: {_explain(error)}", file=sys.stderr)
        return UsageError.exit_status
    except OSError as error:
        # Hydra's own output folder; a run's files have messages of their own.
        print(f"error: {error}; check that this folder can be written", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if with_traceback or not type(error).__module__.startswith("yaml."):
            raise
        print(f"error: a configuration file cannot be read: {error}", file=sys.stderr)
        return UsageError.exit_status
    failures = _failures
    if not failures:
        return 0
    if any(failure.one_of_many for failure in failures):
        from harness.display import show_failures

        show_failures({" ".join(failure.overrides): failure.error for failure in failures})
    statuses = {getattr(failure.error, "exit_status", 1) for failure in failures}
    return statuses.pop() if len(statuses) == 1 else 1


def compose_request(overrides: list[str], config_dir: Path | None = None) -> "Request":
    """Compose and check the request that a run with these overrides would be, and run nothing.

    Parameters
    ----------
    overrides : list of str
        ``GROUP=OPTION`` and ``KEY=VALUE``, as a run takes them.
    config_dir : Path, optional
        Folder of the user's own options.

    Returns
    -------
    Request

    Raises
    ------
    UsageError
        If they make no sense, in the words of a run, or ask for several values of one key.
    """
    requests = compose_requests(overrides, config_dir)
    if len(requests) > 1:
        raise UsageError(
            f"{' '.join(overrides)!r} asks for {len(requests)} at once; give one value of each key"
        )
    return requests[0]


def compose_requests(overrides: list[str], config_dir: Path | None = None) -> list["Request"]:
    """Compose the requests that a multirun with these overrides would be: one per combination of values.

    Parameters
    ----------
    overrides : list of str
        As `compose_request` takes them, and several values of a key: ``subject=1,2``, ``subject=range(1,7)``.
    config_dir : Path, optional
        Folder of the user's own options.

    Returns
    -------
    requests : list of Request

    Raises
    ------
    UsageError
        If they make no sense, in the words of a run.
    """
    if config_dir is not None and not config_dir.is_dir():
        raise UsageError(
            f"--config-dir {config_dir} is no folder; give the folder that holds GROUP/OPTION.yaml"
        )
    own = [] if config_dir is None else [f"hydra.searchpath=[{config_dir.absolute().as_uri()}]"]
    try:
        words = [say_to_hydra(word) for word in overrides]
        values = [
            [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
            if override.is_sweep_override()
            else [word]
            for word, override in zip(words, OverridesParser.create().parse_overrides(words), strict=True)
        ]
        with initialize_config_module("harness.conf", version_base="1.3"):
            configs = [
                (compose("config", [*one, *own], return_hydra_config=True), one) for one in product(*values)
            ]
        requests = []
        for config, one in configs:
            choices = config.hydra.runtime.choices
            with open_dict(config):
                del config["hydra"]
            requests.append(build_request(config, choices, one))
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(_explain(error)) from error
    return requests


@hydra.main(version_base="1.3", config_path="pkg://harness.conf", config_name="config")
def _main(config: DictConfig) -> None:
    """Run one job, and keep its failure for the end, so that the other jobs of a multirun go on."""
    try:
        run_job(config)
    except Exception as error:
        if _failures is None:
            raise  # a launcher's worker process, which has its own way of reporting
        from harness.display import show_error

        job = HydraConfig.get()
        show_error(error)
        _failures.append(Failure(tuple(job.overrides.task), error, job.mode == RunMode.MULTIRUN))


@dataclass(frozen=True)
class Request:
    """What one composed configuration asks for, as plain objects.

    Attributes
    ----------
    subject : int
    dataset_option : str
        What the user types after ``dataset=``.
    dataset, contrast, roi, signal, estimator, scheme, scoring, engine
        What `harness.decoding.decode` takes.
    figures : {"auto", "full", "light", "off"}
    cache : bool
        Whether masked volumes are kept from one run to the next.
    tracking : mapping of str to object
        See `harness.schema.TrackingSchema`.
    name : str
        Name of the run, such as ``sub-2 face_vs_cat vt svc logo``.
    params : mapping of str to str
        The group choices and the resolved configuration, flat.
    config : str
        The resolved configuration, as YAML.
    overrides : tuple of str
        What the user typed.
    """

    subject: int
    dataset_option: str
    dataset: "Dataset"
    contrast: "Contrast"
    roi: "Roi"
    signal: "Signal"
    estimator: "Estimator"
    scheme: "Scheme"
    scoring: "Scoring"
    engine: str
    figures: Any
    cache: bool
    tracking: Mapping[str, Any]
    name: str
    params: Mapping[str, str]
    config: str
    overrides: tuple[str, ...]


def build_request(config: DictConfig, choices: Mapping[str, str], overrides: Sequence[str] = ()) -> Request:
    """Check a composed configuration and build the objects that it names.

    Parameters
    ----------
    config : DictConfig
        See `harness.schema.RunSchema`.
    choices : mapping of str to str
        The option that was chosen of every group.
    overrides : sequence of str
        What the user typed; an option of which a value was changed is not called by its bare name.

    Returns
    -------
    Request

    Raises
    ------
    UsageError
        If a key or a value is not in the vocabulary, or a ``_target_`` may not be built.
    """
    from harness.contrasts import make_contrast
    from harness.decoder import Estimator
    from harness.evaluation import Scheme, Scoring
    from harness.samples import Roi
    from harness.signals import Signal

    asked = _check_config(config)
    words = {group: _name_option(group, choices[group], overrides) for group in _groups()}
    unchanged = words["contrast"] == choices["contrast"]
    contrast = make_contrast(asked["contrast"]["conditions"], choices["contrast"] if unchanged else None)
    roi = Roi(**asked["roi"])
    grid = check_grid(asked["estimator"])
    model = _instantiate("estimator", asked["estimator"], apart=("grid",))
    words |= {"contrast": contrast.name, "roi": roi.name, "subject": str(asked["subject"])}
    return Request(
        subject=asked["subject"],
        dataset_option=choices["dataset"],
        dataset=_instantiate("dataset", asked["dataset"]),
        contrast=contrast,
        roi=roi,
        signal=Signal(**asked["signal"]),
        estimator=Estimator(words["estimator"], model, grid),
        scheme=Scheme(words["cv"], _instantiate("cv", asked["cv"])),
        scoring=Scoring(**asked["scoring"] | {"report": tuple(asked["scoring"]["report"])}),
        engine=asked["engine"],
        figures=asked["figures"],
        cache=asked["cache"],
        tracking=asked["tracking"],
        name=_run_name(words),
        params=words
        | {"engine": asked["engine"], "seed": str(asked["seed"])}
        | _flatten(
            {key: value for key, value in asked.items() if key not in ("tracking", "figures", "cache")}
        ),
        config=OmegaConf.to_yaml(config, resolve=True),
        overrides=tuple(word.removeprefix("++") for word in overrides),
    )


def decode_request(
    request: Request, progress: "Progress | None" = None, cache: "SampleCache | None" = None
) -> "Decoding":
    """Decode what was asked for; nothing is written.

    Parameters
    ----------
    request : Request
    progress, cache
        See `harness.decoding.decode`.

    Returns
    -------
    Decoding
    """
    from harness.decoding import decode

    return decode(
        lambda: request.dataset.load(request.subject),
        request.contrast,
        request.estimator,
        request.scheme,
        request.roi,
        request.signal,
        request.scoring,
        request.engine,
        progress,
        cache,
    )


def run_job(config: DictConfig) -> "Decoding":
    """Decode what a composed configuration asks for, track it, and show the result.

    Parameters
    ----------
    config : DictConfig
        See `harness.schema.RunSchema`.

    Returns
    -------
    Decoding

    Raises
    ------
    HarnessError
        If the request, the data or the store make no sense; a run that was started is then FAILED.
    """
    start = time.perf_counter()
    job = HydraConfig.get()
    several = job.mode == RunMode.MULTIRUN
    request = build_request(config, job.runtime.choices, job.overrides.task)
    figures: Any = ("light" if several else "full") if request.figures == "auto" else request.figures

    from harness.artifacts import write_artifacts
    from harness.cache import SampleCache
    from harness.display import ProgressBar, show_decoding

    seconds = {"startup": time.perf_counter() - start}
    with _terminable(), _open_run(request) as tracked, ProgressBar(request.name) as progress:
        decoding = decode_request(request, progress, SampleCache(enabled=None if request.cache else False))
        progress("figures", 1, 1)
        with _artifact_folder(tracked is None, Path(job.runtime.output_dir)) as folder:
            begin = time.perf_counter()
            decoding = write_artifacts(decoding, folder, request.config, figures)
            seconds |= {**decoding.seconds, "figures": time.perf_counter() - begin}
            if tracked is not None:
                tracked.finish(decoding, folder, seconds)
            where = str(folder) if tracked is None else tracked.where
    show_decoding(decoding, request.name, where, tracked, brief=several)
    return decoding


def _name_option(group: str, option: str, overrides: Sequence[str]) -> str:
    """Name an option with the values of it that were changed: ``kfold5[n_splits=10]``."""
    pattern = re.compile(rf"^[+~]*{group}\.(?!data_dir|cache_dir|folder|uri|experiment)(.+)$")
    changed = [match.group(1) for match in map(pattern.match, overrides) if match]
    return f"{option}[{','.join(changed)}]" if changed else option


def _run_name(words: Mapping[str, str]) -> str:
    """Name a run by what is asked most often: ``sub-2 face_vs_cat vt svc logo``, and by what is unusual."""
    parts = [f"sub-{words['subject']}", words["contrast"], words["roi"], words["estimator"], words["cv"]]
    usual = {"signal": "tutorial", "scoring": "roc_auc"}
    return " ".join(parts + [words[group] for group, option in usual.items() if words[group] != option])


@contextmanager
def _terminable() -> Iterator[None]:
    """Let what schedulers, containers and closed terminals send end a run as Ctrl-C does: with a status."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), stop) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


@contextmanager
def _open_run(request: Request) -> Iterator["TrackedRun | None"]:
    """Start the tracked run, or none with ``tracking=off``."""
    tracking = request.tracking
    if tracking["kind"] == "off":
        yield None
        return
    from harness.stores import check_server, open_store
    from harness.tracking import track_run

    server = tracking["kind"] == "server"
    if server:
        check_server(str(tracking["uri"]))
    store = open_store(
        tracking["uri"] if server else None,
        Path(tracking["folder"]),
        tracking["experiment"] or f"{request.dataset_option} decoding",
    )
    tags = {"harness.overrides": " ".join(request.overrides)}
    with track_run(store, request.name, request.params, tags) as tracked:
        yield tracked


def _artifact_folder(keep: bool, output: Path) -> Any:
    """Return a context manager whose folder is Hydra's own to keep, or one that lasts until it is logged."""
    if keep:
        folder = output / "artifacts"
        folder.mkdir(parents=True, exist_ok=True)
        return nullcontext(folder)
    return _temporary_folder()


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        yield Path(folder)


def _groups() -> list[str]:
    """Return the groups of options: every field of the schema that holds more than one value."""
    return [
        item.name
        for item in fields(RunSchema)
        if item.name not in ("subject", "seed", "engine", "figures", "cache")
    ]


def _check_config(config: DictConfig) -> dict[str, Any]:
    """Resolve a configuration into plain objects, and refuse keys that were smuggled in with ``+``."""
    asked = OmegaConf.to_container(config, resolve=True, throw_on_missing=True, enum_to_str=True)
    assert isinstance(asked, dict)
    check_keys("", asked, [item.name for item in fields(RunSchema)])
    for item in fields(RunSchema):
        if is_dataclass(item.default_factory):
            check_keys(item.name, asked[item.name], [part.name for part in fields(item.default_factory)])
    return {str(key): value for key, value in asked.items()}


def _instantiate(group: str, node: Mapping[str, Any], apart: tuple[str, ...] = ()) -> Any:
    """Build the object that a group's ``_target_`` names, if it may be built and its arguments exist.

    The keys `apart` are none of its arguments.
    """
    needed = {"dataset": "load", "estimator": "fit", "cv": "split"}[group]
    check_targets(group, node)
    built = locate_class(group, str(node.get("_target_", "")))
    if not hasattr(built, needed):
        raise UsageError(
            f"{group}._target_={node['_target_']!r} has no method {needed!r}, so it is no {group}"
        )
    arguments = [name for name in inspect.signature(built).parameters if name not in ("args", "kwargs")]
    given = {key: value for key, value in node.items() if key != "_target_"}
    check_keys(group, given, [*arguments, *apart])
    try:
        return hydra.utils.instantiate(
            {key: value for key, value in node.items() if key not in apart}, _convert_="all"
        )
    except HydraException as error:
        cause = error.__cause__ or error
        raise UsageError(f"{group}: {node['_target_']} cannot be built: {cause}") from error


def _flatten(node: Any, prefix: str = "config") -> dict[str, str]:
    """Return a nested configuration as one level of dotted keys."""
    if isinstance(node, Mapping) and node:
        return {
            key: value
            for name, child in node.items()
            for key, value in _flatten(child, f"{prefix}.{name}").items()
        }
    return {prefix: str(node)}


def _explain(error: BaseException) -> str:
    """Say a Hydra or OmegaConf error in one message that names the key and what is allowed."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        return describe_unknown(f"{group}={option}", option, sorted(error.options), "option")
    if isinstance(error, OverrideParseException):
        asked = str(error.override).removeprefix("++")
        return (
            f"{asked!r} cannot be read: {str(error).splitlines()[0]}. A value with special characters is "
            "quoted twice, for the shell and for Hydra: \"KEY='VALUE'\""
        )
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    for cause in causes:
        parent = getattr(cause, "parent_node", None)
        if isinstance(cause, ConfigAttributeError | ConfigKeyError) and isinstance(parent, DictConfig):
            key = str(getattr(cause, "full_key", None) or cause.key)
            allowed = sorted({str(name) for name in parent} - {"hydra"})
            return describe_unknown(key, key.rpartition(".")[2], allowed)
    details = ("full_key:", "object_type=", "reference_type=")
    lines = [line.strip() for cause in causes for line in str(cause).splitlines()]
    # OmegaConf repeats the message of the cause, and adds types that say nothing to a user.
    return ": ".join(dict.fromkeys(line for line in lines if line and not line.startswith(details)))
