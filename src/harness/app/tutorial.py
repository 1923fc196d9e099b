"""The tutorial: its sections, their studies and pages, and the published values."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from harness.app.composition import compose_job
from harness.app.sweep_plan import Plan, plan_studies, read_studies
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.comparison.published import PublishedValues

LOOKING = "looking"  # the section before decoding, which is a page of `inspect` and no run
SECTIONS = (
    *("fit_on_all", "holdout30", "kfold5", "stratified5", "leave_one_run_out"),
    *("coefficients", "dummy", "predicted_volumes"),
)
PACKAGE = "harness.experiments.tutorial"
PUBLISHED_FILE = "published.json"


@dataclass(frozen=True)
class SectionPage:
    """What the page of a section says, without Markdown's marks.

    Attributes
    ----------
    question, reading : str
        The paragraphs that begin with **Question.** and **How to read it.**
    commands : tuple of str
        The command lines, the one of the section first.
    """

    name: str
    title: str
    question: str
    reading: str
    commands: tuple[str, ...]


@dataclass(frozen=True)
class PlannedTutorial:
    """The sweep of a tutorial.

    Attributes
    ----------
    jobs : mapping of str to int
        The job of every section; sections can share one.
    expected : mapping of str to mapping of str to str
        The parameters that the run of every section has without the user's overrides.
    """

    plan: Plan
    jobs: Mapping[str, int]
    expected: Mapping[str, Mapping[str, str]]


def plan_tutorial(words: list[str]) -> PlannedTutorial:
    """Plan the runs of all sections as one sweep; needs `composing`.

    Parameters
    ----------
    words : list of str
        The user's overrides, quoted; they take the place of the sections' own.

    Raises
    ------
    UsageError
        If an override has several values, runs are not stored, or are searchlights.
    """
    params = read_studies([f"tutorial/{section}" for section in SECTIONS])
    plan, numbers = plan_studies(params, words)
    if any(len(jobs) > 1 for jobs in numbers.values()):
        several = [word for word in words if _may_vary(word)]
        raise UsageError(
            f"{' '.join(several)!r} has several values; every section of the tutorial is one run: give one "
            "value, and repeat the command for the next"
        )
    if plan.tracking["kind"] == "off":
        raise UsageError(
            "tracking=off stores no runs, and the tutorial reads its values from stored runs; leave it out"
        )
    if any("analysis=searchlight" in job for job in plan.jobs):
        raise UsageError("analysis=searchlight: the sections of the tutorial decode one region; leave it out")
    choices = {own: compose_job(own).choices for own in dict.fromkeys(map(tuple, params.values()))}
    return PlannedTutorial(
        plan,
        {section: jobs[0] for section, jobs in zip(SECTIONS, numbers.values(), strict=True)},
        {section: choices[tuple(own)] for section, own in zip(SECTIONS, params.values(), strict=True)},
    )


def _may_vary(word: str) -> bool:
    return bool(re.search(r"=.*(,|\(.*\))", word))


def read_published_values() -> "PublishedValues":
    """Return the published values of the tutorial, which the package has as data."""
    from harness.comparison.published import read_published

    return read_published(_read_text(PUBLISHED_FILE), PUBLISHED_FILE, SECTIONS)


def read_section_pages() -> tuple[SectionPage, ...]:
    """Return the pages of all sections in their order, that on looking first."""
    return tuple(parse_section_page(name, _read_text(f"{name}.md")) for name in (LOOKING, *SECTIONS))


def parse_section_page(name: str, text: str) -> SectionPage:
    """Return what the page of a section says.

    Parameters
    ----------
    text : str
        Markdown: a heading, paragraphs and indented commands.
    """
    title, _, body = text.partition("\n")
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", body)]
    commands = re.findall(r"^ {4}(python -m harness .*?)(?: +#.*)?$", body, flags=re.MULTILINE)
    return SectionPage(
        name,
        _strip_marks(title.lstrip("# ")),
        _find_paragraph(paragraphs, "**Question.**"),
        _find_paragraph(paragraphs, "**How to read it.**"),
        tuple(command.strip() for command in commands),
    )


def _find_paragraph(paragraphs: Sequence[str], start: str) -> str:
    found = [part.removeprefix(start).strip() for part in paragraphs if part.startswith(start)]
    return _strip_marks(" ".join(found))


def _strip_marks(text: str) -> str:
    """Return Markdown without links, emphasis and code marks."""
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
    return re.sub(r"\*\*?([^*]+)\*\*?|`([^`]+)`", lambda found: found[1] or found[2], text)


def _read_text(name: str) -> str:
    return files(PACKAGE).joinpath(name).read_text(encoding="utf-8")
