"""``check``: whether the classes can be predicted from the design alone, without brain activity."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.app.overrides import format_command
from harness.app.verbs.arguments import add_override_arguments
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.app.run_spec import RunSpec
    from harness.checks.design_check import DesignCheck
    from harness.report.progress import ProgressBar
    from harness.samples.cache import SampleCache
    from harness.samples.samples import RecordedSamples

EPILOG = (
    "exit status: 0 if no design variable predicts the classes; 1 if one does (corrected p at most .05), if "
    "the order of the classes is unbalanced (|2k/R - 1| at least .5) or predicts the opposite class, or "
    "after an error; 2 after a usage error"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_override_arguments(parser, "dataset=haxby subject=2 contrast=face_vs_cat")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="directory of the page and the tables (default: one per configuration in mlruns/check)",
    )
    parser.epilog = EPILOG


def run(options: argparse.Namespace) -> int:
    """Check the design of a run, write its page and tables; return 1 if there are findings."""
    from harness.app.composition import compose_request
    from harness.app.inspection import SHOWN, name_page
    from harness.report.design_page import RECORD
    from harness.report.page_directory import check_page_directory

    if options.out is not None:
        check_page_directory(options.out, RECORD, "n_relabellings")
    spec = compose_request(options.overrides, options.config_dir)
    _check_settings(spec)

    from harness.decoding.decode import collect_warnings, count_messages, read_question_samples
    from harness.report.design_page import print_check, write_check
    from harness.report.progress import ProgressBar
    from harness.samples.cache import SampleCache
    from harness.samples.samples import open_sources

    question = spec.question
    cache = SampleCache(enabled=None if spec.config["cache"] else False)
    with ProgressBar(f"check {spec.name}") as progress:
        with collect_warnings() as caught:
            recording = spec.dataset.load(spec.subject)
            sources = open_sources(recording, question.roi, question.signal)
            samples = read_question_samples(sources, question, cache)
        notices = [] if recording.notice is None else [recording.notice]
        notices += [f"warning: {text}" for text in count_messages(caught)]
        groups = (*SHOWN, "estimator", "cv", "inference")
        directory = options.out or Path("mlruns") / "check" / name_page(spec, recording, groups)
        with _made_directory(directory):
            check = _check_design(spec, samples, cache, notices, progress)
    command = format_command(options.overrides, options.config_dir)
    try:
        files = write_check(check, directory.absolute(), command)
    except OSError as error:
        raise _cannot_write(directory, error) from error
    print_check(check, files)
    return int(bool(check.findings))


def _check_settings(spec: "RunSpec") -> None:
    """Raise a UsageError for what the check cannot do, before data are read."""
    if spec.question.estimator.is_dummy:
        raise UsageError(
            f"estimator={spec.question.estimator.name} predicts from the labels alone, so that no design "
            "variable can be decoded with it; choose another, for example, estimator=svc"
        )
    if spec.permutation is not None and (spec.permutation.relabel, spec.permutation.null) != (
        "blocks",
        "conditions_alike",
    ):
        raise UsageError(
            f"inference.relabel={spec.permutation.relabel} inference.null={spec.permutation.null}: the check "
            "tests the order itself, so that it exchanges blocks within scanner runs; of the options of "
            "inference, leave these out"
        )


def _check_design(
    spec: "RunSpec",
    samples: "RecordedSamples",
    cache: "SampleCache",
    notices: list[str],
    progress: "ProgressBar",
) -> "DesignCheck":
    from harness.checks.design_check import DesignCheck
    from harness.checks.design_variables import collect_variables
    from harness.decoding.decode import collect_warnings, count_messages
    from harness.inference.design_test import run_design_test
    from harness.samples.block_table import tabulate_blocks
    from harness.samples.class_order import describe_positions, list_balances

    question, settings = spec.question, spec.permutation
    variables, restrictions = collect_variables(samples, question.signal, cache)
    chosen = {} if settings is None else {"n": settings.n, "limit": settings.limit, "seed": settings.seed}
    values = {variable.name: variable.values for variable in variables}
    with collect_warnings() as caught:
        test = run_design_test(samples, values, question, progress=progress, **chosen)
    restrictions += [f"warning: {text}" for text in count_messages(caught)]
    table, classes = tabulate_blocks(samples), samples.contrast.classes
    return DesignCheck(
        title=spec.name,
        table=test.table.assign(description=[variable.description for variable in variables]),
        balances=list_balances(table, classes),
        positions=describe_positions(table, classes),
        n_relabellings=test.n_relabellings,
        is_enumerated=test.is_enumerated,
        notices=(*notices, *restrictions, *test.notices),
    )


@contextmanager
def _made_directory(directory: Path) -> Iterator[None]:
    """Make the directory before the check takes its time, and remove it again if the check fails."""
    is_new = not directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(directory, error) from error
    try:
        yield
    except BaseException:
        if is_new:
            with suppress(OSError):
                directory.rmdir()
        raise


def _cannot_write(directory: Path, error: OSError) -> UsageError:
    return UsageError(f"{directory} cannot be written: {error}; choose another directory with --out")
