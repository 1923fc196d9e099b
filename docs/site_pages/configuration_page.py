"""The reference of every configuration key, from the schema, the files of ``conf/`` and docstrings.

For the groups that the schema types, the meaning of a key is the entry of the class that the settings build;
for the open groups (``_target_`` and its arguments) it is the comment in the option's file. So a key is
described once, where it is implemented.
"""

import inspect
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

import harness
from harness.app import schema
from harness.decoding.splitters import Incomplete, Scheme
from site_pages.markdown import format_code, format_table, to_markdown

# The open groups, whose options name a class, and the typed ones with the class that documents their keys.
OPEN_GROUPS = ("analysis", "dataset", "estimator", "cv")
TYPED_GROUPS = {
    "contrast": None,
    "roi": "harness.samples.samples.Roi",
    "signal": "harness.samples.signal.Signal",
    "scoring": "harness.decoding.evaluation.Scoring",
    "inference": "harness.inference.settings.PermutationSettings",
    "tracking": None,
}
ORDER = (
    *("dataset", "contrast", "roi", "signal", "estimator", "cv"),
    *("scoring", "analysis", "inference", "tracking"),
)
# Keys that neither a docstring nor a comment of an option's file describes.
MEANINGS = {
    "subject": "the subject's number; with `-m`, several: `subject=1,2` or `subject='range(1,7)'`",
    "contrast.conditions": "the classes: conditions, or `{name: [conditions]}` for a class of several",
    "cv.incomplete": "what happens to [folds that lack a class](../options.md#folds-that-lack-a-class)",
    "inference.kind": "whether the scores are tested",
    "scoring.inner": "folds inside a training set that choose parameters: `stratified` splits every scanner "
    "run, `runs` leaves one scanner run out at a time",
    "tracking.kind": "where runs are stored",
    "tracking.folder": "directory of the local store, of Hydra's output, and of the status of sweeps",
    "tracking.uri": "address of the MLflow server",
    "tracking.experiment": 'MLflow experiment of the run; null: `"<dataset> decoding"`',
}
SCHEMA_CLASSES = {"roi": schema.RoiSchema, "signal": schema.SignalSchema, "scoring": schema.ScoringSchema} | {
    "contrast": schema.ContrastSchema,
    "inference": schema.InferenceSchema,
    "tracking": schema.TrackingSchema,
}
INTRODUCTION = """\
Every option of every group, and every key with its type, its default and its meaning; generated from the
schema and the files in `conf/`. `GROUP=OPTION` chooses an option, `GROUP.KEY=VALUE` changes a value:
[Options](../options.md) has the overview and the rules, and `python -m harness --help` the values of a run.

[A run](#a-run) · {groups} · [launchers](#launchers)
"""
DOCS = Path(__file__).parents[1]
LAUNCHERS = "hydra_plugins."  # which are documented by Hydra, and may not be installed


@dataclass(frozen=True)
class Option:
    """One file of ``conf/``.

    Attributes
    ----------
    description : str
        The comment at the beginning of the file.
    values : mapping of str to object
        The content, without ``_target_``.
    comments : mapping of str to str
        The comment behind each key on the top level.
    """

    name: str
    description: str
    target: str
    values: Mapping[str, Any]
    comments: Mapping[str, str]


def format_configuration_page() -> str:
    """Return the page: keys of a run on the top level, then each group, then the launchers."""
    conf = Path(str(files("harness.conf")))
    defaults = _read_defaults(conf)
    parts = [
        "# Configuration keys\n",
        INTRODUCTION.format(groups=" · ".join(f"[{group}](#{group})" for group in ORDER)),
        _format_top(conf),
    ]
    for group in ORDER:
        options = read_options(conf / group)
        body = _format_typed(group, options) if group in TYPED_GROUPS else _format_open(group, options)
        parts += [f"## {group}\n", _format_options(group, options, defaults[group]), body]
    launchers = read_options(conf / "hydra" / "launcher")
    parts += [
        "## Launchers\n",
        "`hydra/launcher=OPTION` distributes the runs of a sweep (`-m`); without it they run one by one.\n",
        _format_options("hydra/launcher", launchers, ""),
        _format_open("hydra.launcher", launchers),
    ]
    return "\n".join(parts)


def read_options(directory: Path) -> list[Option]:
    """Return the options of a group, ordered by name."""
    return [_read_option(path) for path in sorted(directory.glob("*.yaml"))]


def _read_option(path: Path) -> Option:
    lines = path.read_text(encoding="utf-8").splitlines()
    first = next((row for row, line in enumerate(lines) if not line.startswith("#")), len(lines))
    description = " ".join(line.lstrip("# ") for line in lines[:first])
    values = yaml.safe_load("\n".join(lines)) or {}
    comments = {
        match[1]: match[2]
        for line in lines
        if (match := re.match(r"(\w+):(?:(?!\s#)[^\"]|\"[^\"]*\")*?\s+# ?(.*)$", line))
    }
    target = values.pop("_target_", "")
    return Option(path.stem, description, target, values, comments)


def _read_defaults(conf: Path) -> dict[str, str]:
    """Return the option of each group that a run has without overrides."""
    listed = yaml.safe_load((conf / "config.yaml").read_text(encoding="utf-8"))["defaults"]
    return {
        key: value
        for entry in listed
        if isinstance(entry, dict)
        for key, value in entry.items()
        if "/" not in key
    }


def _format_top(conf: Path) -> str:
    """Return the section on the keys that belong to no group."""
    option = _read_option(conf / "config.yaml")
    hints = get_type_hints(schema.RunSchema)
    rows = []
    for field in fields(schema.RunSchema):
        if field.name in (*OPEN_GROUPS, *TYPED_GROUPS):
            continue
        meaning = MEANINGS.get(field.name) or option.comments[field.name]
        rows.append(_format_key("", field.name, hints[field.name], option.values[field.name], meaning))
    return "## A run\n\n" + format_table(("key", "type", "default", "meaning"), rows)


def _format_options(group: str, options: list[Option], default: str) -> str:
    """Return the table of a group's options; pairs of conditions share one row."""
    rows, pairs = [], []
    for option in options:
        if group == "contrast" and re.fullmatch(r"\w+_vs_\w+", option.name) and _is_pair(option):
            pairs.append(option.name)
            continue
        mark = " (default)" if option.name == default else ""
        rows.append((f"`{group}={option.name}`{mark}", _link_pages(to_markdown(option.description))))
    if pairs:
        names = ", ".join(f"`{name}`" + (" (default)" if name == default else "") for name in pairs)
        rows.append((names, "The pairs of Haxby's eight conditions; the first one is the positive class."))
    return format_table(("option", "what it is"), rows)


def _link_pages(text: str) -> str:
    """Return a text with links to the pages that it names, such as ``docs/joblib.md``."""

    def link(match: re.Match[str]) -> str:
        title = (DOCS / match[1]).read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        return f"[{title}](../{match[1]})"

    return re.sub(r"\bdocs/(\w+\.md)", link, text)


def _is_pair(option: Option) -> bool:
    """Return whether a contrast has two classes of one condition each."""
    conditions = option.values.get("conditions", [])
    return len(conditions) == 2 and all(isinstance(condition, str) for condition in conditions)


def _format_typed(group: str, options: list[Option]) -> str:
    """Return the keys of a group that the schema types, with the values of its options that differ."""
    declared = SCHEMA_CLASSES[group]
    documented = _read_entries(TYPED_GROUPS[group])
    hints = get_type_hints(declared)
    rows = []
    for field in fields(declared):
        factory = field.default_factory
        default = field.default if factory is MISSING else factory()
        key = f"{group}.{field.name}"
        meaning = MEANINGS.get(key) or documented.get(field.name, "")
        if not meaning:
            raise ValueError(f"{key} has no description; document it in {TYPED_GROUPS[group]}")
        shown = (
            []
            if group == "contrast"
            else [
                f"`{_format_value(option.values[field.name])}` with `{group}={option.name}`"
                for option in options
                if option.values.get(field.name, default) not in (default, _to_plain(default))
            ]
        )
        rows.append(_format_key(group, field.name, hints[field.name], default, meaning, shown))
    return format_table(("key", "type", "default", "meaning"), rows)


def _format_open(group: str, options: list[Option]) -> str:
    """Return, for each option, its class and the arguments that its file sets."""
    parts = []
    for option in options:
        parts.append(f"### {group.replace('.', '/')}={option.name}\n")
        if not option.target.startswith(LAUNCHERS):
            parts.append(f"{_link_class(option.target)}{_format_more(option)}\n")
        rows = [
            (
                f"`{group}.{key}`",
                _format_argument_type(option, key),
                format_code(_format_value(value)),
                to_markdown(_describe(option, key, options)),
            )
            for key, value in option.values.items()
        ]
        if group == "cv":
            rows.append(
                _format_key("cv", "incomplete", Incomplete, Scheme.incomplete, MEANINGS["cv.incomplete"])
            )
        if rows:
            parts.append(format_table(("key", "type", "default", "meaning"), rows))
    return "\n".join(parts)


def _describe(option: Option, key: str, options: list[Option]) -> str:
    """Return the comment behind a key, here or in another option of the group, or the class's own entry."""
    if key in option.comments:
        return option.comments[key]
    if key == "grid":
        return "values that are tried, for each parameter"
    if option.values[key] == "${seed}":
        return "the `seed` of the run"
    if option.target.startswith(LAUNCHERS):
        others = [other.comments[key] for other in options if key in other.comments]
        return others[0] if others else "see Hydra's documentation of the launcher"
    if option.target.startswith("harness."):
        return _read_entries(option.target).get(key, "")
    return f"see {{py:obj}}`~{option.target}`"


def _format_argument_type(option: Option, key: str) -> str:
    """Return the annotated type of a class's argument, or else that of its value."""
    if option.target.startswith("harness."):
        kind = _import(option.target)
        hints = get_type_hints(kind.__init__)
        if key in hints:
            return _format_type(_drop_none(hints[key]) if option.values[key] is None else hints[key])
    value = option.values[key]
    if value == "${seed}":
        return "whole number"
    if value is None:
        return ""
    return (
        "mapping" if isinstance(value, dict) else "list" if isinstance(value, list) else _NAMES[type(value)]
    )


def _link_class(target: str) -> str:
    """Return a link to a class: of harness under its public name, where it has one."""
    name = target.rpartition(".")[2]
    public = f"harness.{name}" if name in harness.__all__ else target
    return f"{{py:obj}}`{target} <{public}>`" if public != target else f"{{py:obj}}`{target}`"


def _format_more(option: Option) -> str:
    """Return the arguments of a class that its option leaves at their defaults."""
    signature = inspect.signature(_import(option.target))
    more = [
        name
        for name, parameter in signature.parameters.items()
        if name not in option.values
        and name not in option.values.get("grid", {})
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    return f"; further arguments: {', '.join(f'`{name}`' for name in more)}" if more else ""


def _format_key(
    group: str, key: str, hint: Any, default: Any, meaning: str, shown: list[str] | None = None
) -> tuple[str, str, str, str]:
    default_text = format_code(_format_value(default))
    if shown:
        default_text += "; " + ", ".join(shown)
    if default is None:  # the default shows that null is possible
        hint = _drop_none(hint)
    return f"`{group + '.' if group else ''}{key}`", _format_type(hint), default_text, to_markdown(meaning)


def _drop_none(hint: Any) -> Any:
    """Return a type without None."""
    kinds = [argument for argument in get_args(hint) if argument is not NoneType]
    return Union[tuple(kinds)] if get_origin(hint) in (Union, UnionType) else hint  # noqa: UP007


_NAMES = {bool: "`true`, `false`", int: "whole number", float: "number", str: "text", Path: "path"}


def _format_type(hint: Any) -> str:
    """Return a type as a user reads it: allowed values of an enum, ``null`` where it may be left out."""
    if hint in _NAMES:
        return _NAMES[hint]
    if inspect.isclass(hint) and issubclass(hint, Enum):
        return ", ".join(f"`{member.value}`" for member in hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        kinds = [argument for argument in arguments if argument is not NoneType]
        if Path in kinds:  # a text is a path here
            kinds.remove(str)
        inner = dict.fromkeys(_format_type(argument) for argument in kinds)
        return " or ".join([*inner, *(["`null`"] if NoneType in arguments else [])])
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return "mapping"
    inner_type = "" if arguments[0] is Any else _format_type(arguments[0])
    return f"list of {inner_type}" if inner_type and " or " not in inner_type else "list"


def _to_plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return [_to_plain(item) for item in value] if isinstance(value, list) else value


def _format_value(value: Any) -> str:
    """Return a value as it is written on the command line."""
    value = _to_plain(value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_format_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_format_value, value))}]"
    return str(value)


def _import(target: str) -> Any:
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)


def _read_entries(target: str | None) -> dict[str, str]:
    """Return the parameters, or attributes, that a class's docstring describes, as text."""
    from numpydoc.docscrape import ClassDoc

    if target is None:
        return {}
    documented = ClassDoc(_import(target), config={"show_class_members": False})
    found = {}
    for entry in (*documented["Parameters"], *documented["Attributes"]):
        for name in entry.name.split(","):
            found[name.strip()] = " ".join(re.sub("^- ", "<br>", line.strip()) for line in entry.desc)
    return found
