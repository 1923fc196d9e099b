"""The command line of runs: arguments in, exit status out.

Start-up imports Hydra and the schema alone, so that ``--help`` and completion answer at once; everything that
computes is imported inside the job.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import configure_log
from hydra.core.utils import run_job as run_hydra_job
from hydra.types import HydraContext, RunMode

from harness.app.argument_parser import ArgumentParser
from harness.app.composition import check_study, composing, searching
from harness.app.conflicts import check_launching
from harness.app.hydra_errors import explaining
from harness.app.interrupts import exit_on_termination_signals
from harness.app.job import open_store_once
from harness.app.job_callbacks import JobCallbacks
from harness.app.multirun import run_multirun
from harness.app.overrides import quote_override
from harness.app.sweep_plan import plan_multirun
from harness.app.worker import run_single_job
from harness.errors import HarnessError, UsageError

# Flags that show something and run nothing; Hydra handles them.
SHOWING_FLAGS = ("help", "hydra_help", "version", "cfg", "info", "shell_completion", "experimental_rerun")


def run(arguments: list[str]) -> int:
    """Compose and run one job, or a sweep of several.

    Parameters
    ----------
    arguments : list of str
        Hydra's overrides and flags, in any order.

    Returns
    -------
    status : int
        0 if every run finished, 1 if a run failed, 2 after a usage error, 130 after Ctrl-C.
    """
    open_store_once.cache_clear()
    options = _parse_arguments(arguments)
    try:
        with exit_on_termination_signals():
            return _run(options, arguments)
    except HarnessError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1" and error.__cause__ is not None:
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        # Hydra's own output directory; the files of a run have messages of their own.
        print(
            f"error: {error}; check that this directory can be written, or choose another with "
            "tracking.folder=...",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parse Hydra's flags, which may stand between overrides."""
    parser = ArgumentParser("harness", add_help=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--run", "-r", action="store_true")
    parser.add_argument("--config-name", "-cn")
    parser.add_argument("--config-dir", "-cd", type=Path)
    parser.add_argument("--config-path", "-cp")
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("--cfg", "-c", choices=["job", "hydra", "all"])
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--package", "-p")
    parser.add_argument("--info", "-i", nargs="?", const="all")
    parser.add_argument("--shell-completion", "-sc", action="store_true")
    parser.add_argument("--experimental-rerun")
    return parser.parse_intermixed_args(arguments)


def _run(options: argparse.Namespace, arguments: list[str]) -> int:
    words = [quote_override(word) for word in options.overrides]
    name = options.config_name or "config"
    shown = next((flag for flag in SHOWING_FLAGS if getattr(options, flag)), None)
    if shown is not None and options.multirun and not options.shell_completion:
        raise UsageError(f"--{shown.replace('_', '-')} shows one run and launches none; leave out -m")
    with composing(options.config_dir, options.config_path):
        with explaining(words, passing=(OSError,)):
            if options.config_name is not None and options.config_path is None:
                check_study(name)
            if options.cfg or options.info:  # Hydra itself would print a traceback
                GlobalHydra.instance().config_loader().load_configuration(name, words, RunMode.RUN)
            plan = None if shown else plan_multirun(name, words, options.multirun)
            if plan is None and not shown:
                check_launching(words, multirun=False)
                return _run_once(name, words)
        if plan is not None:
            return run_multirun(plan, arguments, options)
    with explaining(words, passing=(OSError,)), searching(options.config_dir):
        return _show(options, arguments, words)


def _run_once(name: str, words: list[str]) -> int:
    """Run one job in this process."""
    loader = GlobalHydra.instance().config_loader()
    config = loader.load_configuration(name, [*words, "hydra.mode=RUN"], RunMode.RUN)
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    callbacks = JobCallbacks(config)
    callbacks.notify("on_run_start", config=config, config_name=name)
    context = HydraContext(loader, callbacks)  # type: ignore[arg-type]  # the declared class is private
    done = run_hydra_job(run_single_job, config, "hydra.run.dir", None, context)
    callbacks.notify("on_run_end", config=config, config_name=name, job_return=done)
    return int(done.return_value)


def _show(options: argparse.Namespace, arguments: Sequence[str], words: Sequence[str]) -> int:
    """Let Hydra handle a flag that shows something."""
    flags = list(arguments)
    for word in options.overrides:
        flags.remove(word)
    statuses = [0]
    decorate = hydra.main(version_base="1.3", config_path="pkg://harness.conf", config_name="config")
    show = decorate(lambda config: statuses.append(run_single_job(config)))  # for --experimental-rerun
    before = sys.argv
    sys.argv = ["harness", *flags, *words]  # `hydra.main` reads nothing else, and takes flags first
    try:
        show()
    finally:
        sys.argv = before
    return statuses[-1]
