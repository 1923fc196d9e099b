"""The verbs, such as ``python -m harness fetch``: each is a module with ``add_arguments`` and ``run``."""

from __future__ import annotations

import sys
from importlib import import_module

from harness.app.argument_parser import ArgumentParser
from harness.errors import HarnessError, UsageError, suggest

# The module of each verb, and the first line of its --help.
VERBS = {
    "doctor": "Check Python, packages, store, data and machine, and print what repairs each fault.",
    "cache": "List, check, trim or clear the cache of masked volumes.",
    "compare": "Print the newest runs side by side, the best first.",
    "runs": "List the newest runs, or sweeps, and their status.",
    "explain": "Explain why two runs differ: settings, data, versions, code, folds, and single volumes.",
    "replay": "Repeat a stored run from its own record, and check that every number is identical.",
    "predict": "Apply the decoder of a run to new volumes: classes and decision values.",
    "export": "Write the decoder of a run as an MLflow model, to its store or to a directory.",
    "report": "Write one page on a run or a sweep, and figures fit for a paper.",
    "ui": "Start the MLflow UI on this machine, until Ctrl-C.",
    "relocate": "Repair a run store that was moved or copied, so that its files are found.",
    "tutorial": "Run nilearn's introduction to decoding, and compare every number with the published one.",
    "inspect": "Write a page on a subject before decoding: images, design, shapes, signal quality.",
    "check": "Check whether the classes can be predicted from the design alone, without the brain.",
    "fetch": "Download subjects (or make simulated ones), and check that they are complete.",
}


def run_verb(arguments: list[str]) -> int:
    """Run a verb with its arguments; return 0 if it succeeded, 1 if it failed, 2 after a usage error."""
    verb, *rest = arguments
    try:
        if verb not in VERBS:
            raise UsageError(
                f"unknown verb {verb!r}; expected one of: {', '.join(VERBS)}.{suggest(verb, VERBS)} "
                "A run takes GROUP=OPTION or KEY=VALUE, such as estimator=svc; see python -m harness --help"
            )
        module = import_module(f"{__name__}.{verb}")
        parser = ArgumentParser(prog=f"python -m harness {verb}", description=VERBS[verb])
        module.add_arguments(parser)
        return int(module.run(parser.parse_intermixed_args(rest)))
    except (HarnessError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_status", 1)
    except KeyboardInterrupt:
        return 130
