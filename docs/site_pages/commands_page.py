"""The reference of every command, from the parsers of the verbs."""

from argparse import ArgumentParser, HelpFormatter
from functools import partial
from importlib import import_module

from harness.app.verbs import VERBS
from site_pages.markdown import format_table, to_markdown

WIDTH = 88  # characters of a line, which the column of a page shows
RUN = """\
## A run, a sweep, a study

```text
harness [GROUP=OPTION ...] [KEY=VALUE ...] [flags]
```

`harness` and `python -m harness` are the same. [Options](../options.md) and
[configuration keys](configuration.md) list what a run takes; its flags, Hydra's except for `-V`:

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
    """Return the page: runs, then every verb with its ``--help``."""
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


def _format_verb(verb: str) -> str:
    """Return the section of a verb: what ``--help`` prints in a terminal of `WIDTH` characters."""
    parser = ArgumentParser(
        prog=f"python -m harness {verb}",
        description=VERBS[verb],
        formatter_class=partial(HelpFormatter, width=WIDTH),
    )
    import_module(f"harness.app.verbs.{verb}").add_arguments(parser)
    return f"### {verb}\n\n```text\n{parser.format_help()}```\n"
