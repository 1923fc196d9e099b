"""The specification of a run: checked settings, and the objects that they name."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import OmegaConf

from harness.app.allowed_targets import (
    TARGET,
    build_object,
    check_grid,
    check_targets,
    import_allowed_class,
    list_arguments,
)
from harness.app.schema import RunSchema
from harness.errors import UsageError, format_unknown

if TYPE_CHECKING:
    from harness.datasets.recording import Dataset
    from harness.decoding.analysis import RegionDecoding
    from harness.decoding.decode import Decoding
    from harness.decoding.evaluation import Progress
    from harness.decoding.question import Question
    from harness.inference.settings import PermutationSettings
    from harness.samples.cache import SampleCache
    from harness.samples.contrasts import Contrast
    from harness.searchlight.settings import Searchlight

# Keys that say nothing about a result, and so are none of its parameters.
NOT_LOGGED = ("tracking", "figures", "cache", "resume", "model")


@dataclass(frozen=True)
class RunSpec:
    """The specification of one run: subject, question and resolved configuration.

    Attributes
    ----------
    permutation : PermutationSettings or None
        How the scores are tested; None for no test.
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
    analysis: "RegionDecoding | Searchlight"
    permutation: "PermutationSettings | None"
    name: str
    config: Mapping[str, Any]
    choices: Mapping[str, str]
    overrides: tuple[str, ...]

    @property
    def searchlight(self) -> "Searchlight | None":
        """The settings of a searchlight; None for a decoding."""
        from harness.searchlight.settings import Searchlight

        return self.analysis if isinstance(self.analysis, Searchlight) else None

    @property
    def params(self) -> dict[str, str]:
        """The choices, and the values of the configuration that no choice shows, on one level.

        The MLflow compare page starts with the first parameters by name in which runs differ, so those of the
        values come after the choices.
        """
        counted = {key: value for key, value in self.config.items() if key not in NOT_LOGGED}
        return {**self.choices, **_list_values(counted, self.choices)}

    def to_yaml(self) -> str:
        """Return the configuration as YAML."""
        return yaml.dump(dict(self.config), sort_keys=False, allow_unicode=True)


def build_spec(
    settings: Mapping[str, Any],
    contrast: "Contrast",
    options: Mapping[str, str],
    words: Mapping[str, str],
    name: str,
    overrides: tuple[str, ...] = (),
) -> RunSpec:
    """Build the objects that the settings of a run name.

    Parameters
    ----------
    settings : mapping of str to object
        Plain and complete, with ``cv.incomplete``.
    options : mapping of str to str
        The option of every group, for messages.
    words : mapping of str to str
        See `RunSpec.choices`.

    Raises
    ------
    UsageError
        If a ``_target_`` may not be built, or an argument is refused.
    """
    from harness.decoding.choices import Engine
    from harness.decoding.estimator import Estimator
    from harness.decoding.evaluation import Scoring
    from harness.decoding.nilearn_decoder import check_nilearn, check_parameters
    from harness.decoding.question import Question
    from harness.decoding.splitters import Scheme
    from harness.inference.settings import PermutationSettings
    from harness.samples.samples import Roi
    from harness.samples.signal import Signal
    from harness.searchlight.settings import Searchlight

    grid = check_grid(settings["estimator"])
    model = _instantiate("estimator", options["estimator"], settings["estimator"], excluded=("grid",))
    splitter = _instantiate("cv", options["cv"], settings["cv"], excluded=("incomplete",))
    analysis = _instantiate("analysis", options["analysis"], settings["analysis"])
    question = Question(
        contrast=contrast,
        estimator=Estimator(words["estimator"], model, grid),
        scheme=Scheme(words["cv"], splitter, settings["cv"]["incomplete"]),
        roi=Roi(**settings["roi"]),
        signal=Signal(**settings["signal"]),
        scoring=Scoring(**settings["scoring"] | {"report": tuple(settings["scoring"]["report"])}),
        engine=settings["engine"],
    )
    if question.engine == Engine.nilearn and isinstance(analysis, Searchlight):
        check_parameters(question.estimator)  # its SearchLight takes any standardisation
    elif question.engine == Engine.nilearn:
        check_nilearn(question.estimator, question.signal.zscore)
    return RunSpec(
        subject=settings["subject"],
        dataset=_instantiate("dataset", options["dataset"], settings["dataset"]),
        question=question,
        analysis=analysis,
        permutation=_read_permutation(settings["inference"], PermutationSettings),
        name=name,
        config=settings,
        choices=words,
        overrides=overrides,
    )


def _read_permutation(
    settings: Mapping[str, Any], build: "type[PermutationSettings]"
) -> "PermutationSettings | None":
    if settings["kind"] == "none":
        return None
    return build(**{key: value for key, value in settings.items() if key != "kind"})


def decode_request(
    spec: RunSpec, progress: "Progress | None" = None, cache: "SampleCache | None" = None
) -> "Decoding":
    """Load a run's recording and decode it; nothing is written."""
    from harness.decoding.decode import collect_warnings, count_messages, decode

    with collect_warnings() as caught:
        recording = spec.dataset.load(spec.subject)
    decoding = decode(recording, spec.question, progress=progress, cache=cache)
    return replace(decoding, warnings=(*count_messages(caught), *decoding.warnings))


def list_groups() -> list[str]:
    """Return the groups of options: every field of the schema that holds more than one value."""
    return [
        item.name
        for item in fields(RunSchema)
        if is_dataclass(item.default_factory) or item.default_factory is dict
    ]


def _instantiate(group: str, option: str, node: Mapping[str, Any], excluded: tuple[str, ...] = ()) -> Any:
    """Build the object that a group's ``_target_`` names, if it may be built and its arguments exist.

    The keys `excluded` are none of its arguments.
    """
    check_targets(group, node, group)
    built = import_allowed_class(group, str(node[TARGET]))
    arguments = list_arguments(built)
    for key in node:
        if key not in (TARGET, *arguments, *excluded):
            message = format_unknown(f"{group}.{key}", key, [*arguments, *excluded])
            chosen = f"{group}={option} is {built.__name__}"
            message += "" if message.endswith((".", "?")) else "."
            raise UsageError(f"{message} {chosen}. {_suggest_option(group, key)}")
    return build_object(group, {key: value for key, value in node.items() if key not in excluded})


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


def _list_values(config: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, str]:
    """Return a configuration as one level of dotted keys, without what the choice of a group shows as it is.

    That are values equal to the choice, such as ``roi.mask=vt`` with ``roi=vt``, and the classes of options.
    """
    return {
        f"value.{key}": value
        for key, value in _flatten(config).items()
        if not key.endswith("._target_") and value != choices.get(key.partition(".")[0])
    }


def _flatten(node: Any, prefix: str = "") -> dict[str, str]:
    """Return a nested configuration as one level of dotted keys."""
    if isinstance(node, Mapping) and node:
        return {
            key: value
            for name, child in node.items()
            for key, value in _flatten(child, f"{prefix}.{name}".lstrip(".")).items()
        }
    return {prefix: str(node)}
