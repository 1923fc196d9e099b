"""``tutorial``: the sections of nilearn's introduction to decoding as one sweep, against published values."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.app.overrides import format_command
from harness.app.verbs.arguments import add_override_arguments, print_json, write_table
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.app.tutorial import PlannedTutorial, SectionPage
    from harness.comparison.published import PublishedValues
    from harness.comparison.published_cells import Cell
    from harness.report.inspection_index import PagePart
    from harness.report.tutorial_page import TutorialSection
    from harness.tracking.ledger import Sweep
    from harness.tracking.stored_run import StoredRun

INSPECTION = "inspection"  # directory of the page of `inspect`


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_override_arguments(parser, "dataset=haxby subject=2")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="directory of the page (default: one per configuration in mlruns/tutorial)",
    )
    parser.add_argument(
        "--published",
        type=Path,
        metavar="FILE",
        help="JSON file of the values to compare with (default: those of nilearn's introduction)",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the comparison to FILE")
    parser.add_argument(
        "--json", action="store_true", help="write JSON, and nothing else, to standard output"
    )
    parser.epilog = (
        "Finished runs are not computed again: after an interruption, repeat the command. Exit status: 0 if "
        "all runs finished and every comparable value is equal, 1 otherwise, 2 after a usage error"
    )


@dataclass(frozen=True)
class _Results:
    """What the sweep left.

    Attributes
    ----------
    runs : mapping of str to StoredRun or str
        The finished run of every section, or why there is none.
    """

    sweep: "Sweep"
    status: int
    runs: "Mapping[str, StoredRun | str]"
    cells: "Sequence[Cell]"


def run(options: argparse.Namespace) -> int:
    """Inspect the subject, run all sections as one sweep, and compare their values with published ones."""
    try:
        return _run(options)
    except KeyboardInterrupt:
        print("stopped; the same command resumes the tutorial", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    from harness.app.composition import compose_job, composing
    from harness.app.hydra_errors import explaining
    from harness.app.inspection import write_inspection
    from harness.app.interrupts import exit_on_termination_signals
    from harness.app.job import open_configured_store, open_store_once
    from harness.app.overrides import quote_override
    from harness.app.tutorial import (
        LOOKING,
        SECTIONS,
        name_tutorial,
        plan_tutorial,
        read_published_values,
        read_section_pages,
    )
    from harness.comparison.published import read_published_file
    from harness.report.inspection_index import INDEX
    from harness.report.page_directory import check_page_directory
    from harness.report.report_page import RECORD

    open_store_once.cache_clear()
    _check_table_file(options.csv)
    if options.out is not None:
        check_page_directory(options.out, RECORD, "files")
        check_page_directory(options.out / INSPECTION, INDEX, "what")
    published = (
        read_published_values()
        if options.published is None
        else read_published_file(options.published, SECTIONS)
    )
    pages = read_section_pages()
    words = [quote_override(word) for word in options.overrides]
    with exit_on_termination_signals(), redirect_stdout(sys.stderr if options.json else sys.stdout):
        with composing(options.config_dir):
            with explaining(words, passing=(OSError,)):
                planned = plan_tutorial(options.overrides)
                spec = compose_job([quote_override(word) for word in planned.typed[LOOKING]])
            print(
                f"inspecting {spec.params['dataset']} subject {spec.subject} ...", file=sys.stderr, flush=True
            )
            recording = spec.dataset.load(spec.subject)
            name = name_tutorial(planned, spec, recording, published)
            directory = options.out or Path(planned.plan.tracking["folder"]) / "tutorial" / name
            directory = directory.absolute()
            command = format_command(planned.typed[LOOKING], options.config_dir)
            # Before anything is written: the error of a store that cannot be used.
            open_configured_store(planned.plan.tracking, planned.plan.experiments[0])
            parts = write_inspection(
                spec, recording, (), directory / INSPECTION, command, decoding_follows=True
            )
            results = _run_sections(planned, options, published)
        if results.status > 128:  # stopped by a signal; the sweep's summary says how it is resumed
            return results.status
        sections = _describe_sections(options, planned, pages, results)
        page = _write_page(options, planned, pages[0], published, results, sections, parts, directory)
    _print(options, published, results, page)
    return _exit_status(results)


def _check_table_file(file: Path | None) -> None:
    """Raise before anything is computed if the file of --csv has no directory, or is one."""
    if file is None:
        return
    if file.is_dir():
        raise UsageError(f"--csv {file} is a directory; give a file in it, such as {file / 'cells.csv'}")
    if not (directory := file.absolute().parent).is_dir():
        raise UsageError(f"--csv {file}: {directory} is not a directory; create it, or choose another file")


def _run_sections(
    planned: "PlannedTutorial", options: argparse.Namespace, published: "PublishedValues"
) -> _Results:
    """Run the sweep, and compare its runs with published values; needs `composing`."""
    from harness.app.multirun import run_multirun
    from harness.comparison.published_cells import compare_published
    from harness.tracking.ledger import Sweep

    sweep = Sweep.begin(Path(planned.plan.tracking["folder"]) / "sweeps")
    named = argparse.Namespace(
        config_dir=options.config_dir, config_name=None, overrides=list(options.overrides)
    )
    status = run_multirun(planned.plan, _list_arguments(options), named, sweep)
    runs = _read_runs(planned, sweep)
    return _Results(sweep, status, runs, compare_published(published, runs, planned.expected))


def _list_arguments(options: argparse.Namespace) -> list[str]:
    """Return the command line of the verb."""
    values = {
        "--config-dir": options.config_dir,
        "--out": options.out,
        "--published": options.published,
        "--csv": options.csv,
    }
    flags = [word for flag, value in values.items() if value is not None for word in (flag, str(value))]
    return ["tutorial", *options.overrides, *flags, *(["--json"] if options.json else [])]


def _read_runs(planned: "PlannedTutorial", sweep: "Sweep") -> "dict[str, StoredRun | str]":
    """Return the finished run of every section, or why there is none."""
    from harness.app.job import open_configured_store
    from harness.errors import HarnessError
    from harness.tracking.queries import find_stored_run

    plan = planned.plan
    store = open_configured_store(plan.tracking, plan.experiments[0])
    assert store is not None  # tracking=off was refused
    outcomes = {outcome.job: outcome for outcome in sweep.outcomes()}
    runs: dict[str, StoredRun | str] = {}
    for section, job in planned.jobs.items():
        outcome = outcomes.get(job)
        if outcome is None or outcome.run_id is None or outcome.status not in ("finished", "skipped"):
            reason = "it was not run" if outcome is None else outcome.error or outcome.status
            runs[section] = reason.strip().splitlines()[0]
            continue
        try:
            runs[section] = find_stored_run(outcome.run_id, store.uri)
        except HarnessError as error:
            runs[section] = str(error)
    return runs


def _describe_sections(
    options: argparse.Namespace,
    planned: "PlannedTutorial",
    pages: "Sequence[SectionPage]",
    results: _Results,
) -> "list[TutorialSection]":
    """Return what the page shows of the sections that are runs."""
    from harness.report.tutorial_page import TutorialSection

    return [
        TutorialSection(
            page.name,
            page.title,
            page.question,
            page.reading,
            format_command(planned.typed[page.name], options.config_dir, ["-cn", f"tutorial/{page.name}"]),
            results.runs[page.name],
            [cell for cell in results.cells if cell.section == page.name],
            page.published,
        )
        for page in pages
        if page.name in results.runs
    ]


def _write_page(
    options: argparse.Namespace,
    planned: "PlannedTutorial",
    looking: "SectionPage",
    published: "PublishedValues",
    results: _Results,
    sections: "Sequence[TutorialSection]",
    parts: "Sequence[PagePart]",
    directory: Path,
) -> Path:
    """Write the page of the tutorial; return its file."""
    from harness.report.tutorial_page import LookingSection, write_tutorial_page

    config = planned.plan.config
    page, *_ = write_tutorial_page(
        f"Tutorial: {config.hydra.runtime.choices['dataset']} subject {config.subject}",
        f"sweep {results.sweep.id}; {format_command(_list_arguments(options))}",
        published.source,
        LookingSection(
            looking.title,
            looking.question,
            looking.reading,
            format_command(planned.typed[looking.name], options.config_dir, ["inspect"]),
            INSPECTION,
            parts,
        ),
        sections,
        directory,
    )
    return page


def _print(options: argparse.Namespace, published: "PublishedValues", results: _Results, page: Path) -> None:
    """Print the comparison as a table or as JSON, and write the file of --csv."""
    from harness.report.published_table import list_cells, print_cells
    from harness.tracking.stored_run import StoredRun

    if options.json:
        print_json(
            {
                "sweep": results.sweep.id,
                "source": published.source,
                "page": str(page),
                "runs": {
                    section: run.run_id if isinstance(run, StoredRun) else None
                    for section, run in results.runs.items()
                },
                "cells": [_describe_cell(cell) for cell in results.cells],
            }
        )
    else:
        print_cells(results.cells, published.source)
        print(f"page     {page}")
    write_table(options.csv, list_cells(results.cells), options.json)


def _describe_cell(cell: "Cell") -> dict[str, Any]:
    """Return a cell for JSON; a single value is not a list."""
    shown: dict[str, Any] = {"section": cell.section, "quantity": cell.quantity, "fold": cell.fold}
    for name, values in (("published", cell.published), ("obtained", cell.obtained)):
        shown[name] = list(values) if len(values) > 1 else next(iter(values), None)
    return shown | {"verdict": cell.verdict.value, "difference": cell.difference, "reason": cell.reason}


def _exit_status(results: _Results) -> int:
    """Return 0 if all runs finished and all applicable values are equal; 2 after a usage error; else 1."""
    from harness.comparison.published_cells import CellVerdict

    failing = (CellVerdict.differs, CellVerdict.missing, CellVerdict.absent)
    wrong = any(cell.verdict in failing for cell in results.cells)
    wrong = wrong or any(isinstance(run, str) for run in results.runs.values())
    return results.status or int(wrong)
