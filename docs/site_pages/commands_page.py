"""The reference of every command, from the parsers of the verbs."""

import argparse
import re
from importlib import import_module

from harness.app.verbs import VERBS
from site_pages.markdown import format_table, to_markdown

RUN = """\
## A run, a sweep, a study

```text
harness [GROUP=OPTION ...] [KEY=VALUE ...] [flags]
```

`harness` and `python -m harness` are the same. [Options](../options.md) and
[configuration keys](configuration.md) list what a run takes; these flags are Hydra's:

| flag | effect |
|---|---|
| `-m`, `--multirun` | a [sweep](../sweeps.md): one run for every combination of values |
| `-cn NAME`, `--config-name NAME` | a [study](../studies/index.md) |
| `-cd DIR`, `--config-dir DIR` | adds a directory with [options of your own](../own_options.md) |
| `-c job`, `--cfg job` | prints the configuration and runs nothing; `--resolve` resolves references |
| `-h`, `--help` | lists groups, options and values |
| `-sc install=bash` | prints what [completes words in the shell](../completion.md) |
| `-V`, `--version` | versions of harness, Python and the packages that a result depends on |

"""
STATUS = """\
## Exit status

| status | meaning |
|---|---|
| 0 | finished |
| 1 | a run failed, or a check did not succeed; the message gives the reason |
| 2 | a usage error: an option, key or value that is not accepted |
| 130, 143 | stopped by Ctrl-C, by SIGTERM |
"""


def format_commands_page() -> str:
    """Return the page: runs, then every verb with its usage and arguments."""
    parts = [
        "# Commands\n",
        "Generated from the parsers of the verbs; `python -m harness VERB --help` prints the same.\n",
        RUN,
        "## Verbs\n",
        format_table(
            ("verb", "what it does"),
            [(f"[`{verb}`](#{verb})", to_markdown(line)) for verb, line in VERBS.items()],
        ),
    ]
    parts += [_format_verb(verb) for verb in VERBS]
    return "\n".join([*parts, STATUS])


def make_parser(verb: str) -> argparse.ArgumentParser:
    """Return the parser of a verb, as `harness.app.verbs.run_verb` makes it, under its short name."""
    parser = argparse.ArgumentParser(prog=f"harness {verb}", description=VERBS[verb])
    import_module(f"harness.app.verbs.{verb}").add_arguments(parser)
    return parser


def _format_verb(verb: str) -> str:
    parser = make_parser(verb)
    actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    parts = [f"### {verb}\n", f"{to_markdown(VERBS[verb])}\n"]
    usage = re.sub(r"\s+", " ", parser.format_usage().removeprefix("usage: ")).replace(" [-h]", "")
    usage = usage.replace("python -m harness", "harness")
    parts.append(f"```text\n{_wrap(usage.strip())}\n```\n")
    rows = [(_format_names(action), _format_help(parser, action)) for action in actions]
    if rows:
        parts.append(format_table(("argument", "meaning"), rows))
    if parser.epilog:
        parts.append(f"{to_markdown(parser.epilog.rstrip('.'))}.\n")
    return "\n".join(parts)


def _wrap(usage: str, width: int = 90) -> str:
    """Return a usage line broken between arguments, the following lines indented."""
    pieces = re.findall(r"\[[^\[\]]*(?:\[[^\]]*\][^\[\]]*)*\]|\S+", usage)
    lines = [""]
    for piece in pieces:
        if len(lines[-1]) + len(piece) + 1 > width:
            lines.append("    ")
        lines[-1] += piece if not lines[-1].strip() else f" {piece}"
    return "\n".join(lines)


def _format_names(action: argparse.Action) -> str:
    """Return how an argument is typed, such as ``--out DIR``."""
    value = action.metavar or (None if action.option_strings else action.dest)
    if value is None and action.choices is not None:
        value = "|".join(map(str, action.choices))
    if value is None and action.nargs != 0:
        value = action.dest.upper()
    if not action.option_strings:
        return f"`{value}`"
    return ", ".join(f"`{name}{f' {value}' if value else ''}`" for name in action.option_strings)


def _format_help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = to_markdown(parser._get_formatter()._expand_help(action)) if action.help else ""
    if action.choices is not None:
        choices = ", ".join(f"`{choice}`" for choice in action.choices)
        default = f" (default: `{action.default}`)" if action.default is not None else ""
        text = f"{text}; {choices}{default}" if text else f"{choices}{default}"
    return text
