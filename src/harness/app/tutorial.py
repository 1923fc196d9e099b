"""The tutorial: its sections, their studies and pages, and the published values."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from harness.app.composition import compose_job, expand_grid, parse_overrides
from harness.app.conflicts import SEARCHLIGHT, check_launching
from harness.app.inspection import name_page
from harness.app.overrides import quote_override
from harness.app.sweep_plan import (
    Plan,
    compose_sweep,
    exclude_groups,
    plan_studies,
    read_studies,
    split_overrides,
)
from harness.errors import UsageError
from harness.tracking.choices import TrackingKind

if TYPE_CHECKING:
    from harness.app.run_spec import RunSpec
    from harness.comparison.published import PublishedValues
    from harness.datasets.recording import Recording

LOOKING = "looking"  # the section before decoding, which is a page of `inspect` and no run
SECTIONS = (
    *("fit_on_all", "holdout30", "kfold5", "stratified5", "leave_one_run_out"),
    *("coefficients", "dummy", "predicted_volumes"),
)
PACKAGE = "harness.experiments.tutorial"
PUBLISHED_FILE = "published.json"
FIXED = {LOOKING: ("hydra",), "dummy": ("estimator",)}
"""By section, the groups of which it takes no override: the baseline is the same for every decoder."""
NOT_SHOWN = ("hydra", "tracking", "resume", "cache")  # keys on which the page does not depend


@dataclass(frozen=True)
class SectionPage:
    """What the page of a section says, without Markdown's marks.

    Attributes
    ----------
    question, reading, published : str
        The paragraphs that begin with **Question.**, **How to read it.** and **In the published
        values,**; the last, which can be empty, holds for the published data alone.
    """

    name: str
    title: str
    question: str
    reading: str
    published: str = ""


@dataclass(frozen=True)
class PlannedTutorial:
    """The sweep of a tutorial.

    Attributes
    ----------
    jobs : mapping of str to int
        The job of every section; sections can share one.
    expected : mapping of str to mapping of str to str
        The parameters that the run of every section has without the user's overrides.
    typed : mapping of str to list of str
        The user's overrides that every section takes, that on looking included.
    """

    plan: Plan
    jobs: Mapping[str, int]
    expected: Mapping[str, Mapping[str, str]]
    typed: Mapping[str, list[str]]


def plan_tutorial(typed: Sequence[str]) -> PlannedTutorial:
    """Plan the runs of all sections as one sweep; needs `composing`.

    Parameters
    ----------
    typed : sequence of str
        The user's overrides, which take the place of the sections' own; but see `FIXED`.

    Raises
    ------
    UsageError
        If an override has several values, runs are not stored, or are searchlights.
    """
    words = [quote_override(word) for word in typed]
    _check_words(words)
    params = read_studies([f"tutorial/{section}" for section in SECTIONS])
    fixed = {f"tutorial/{section}": FIXED.get(section, ()) for section in SECTIONS}
    plan, numbers = plan_studies(params, words, fixed)
    choices = {own: compose_job(own).choices for own in dict.fromkeys(map(tuple, params.values()))}
    return PlannedTutorial(
        plan,
        {section: jobs[0] for section, jobs in zip(SECTIONS, numbers.values(), strict=True)},
        {section: choices[tuple(own)] for section, own in zip(SECTIONS, params.values(), strict=True)},
        {section: exclude_groups(typed, FIXED.get(section, ())) for section in (LOOKING, *SECTIONS)},
    )


def name_tutorial(
    planned: PlannedTutorial, spec: "RunSpec", recording: "Recording", published: "PublishedValues"
) -> str:
    """Name the directory of the page by its recording, the configurations of its runs and the comparison."""
    plan = planned.plan
    runs = []
    for number in planned.jobs.values():
        config = plan.loader.load_sweep_config(plan.config, plan.jobs[number])
        runs.append({key: _to_plain(config[key]) for key in map(str, config) if key not in NOT_SHOWN})
    return name_page(spec, recording, others={"runs": runs, "published": asdict(published)})


def _to_plain(node: Any) -> Any:
    if OmegaConf.is_config(node):
        return OmegaConf.to_container(node, resolve=True, enum_to_str=True)
    return node


def _check_words(words: list[str]) -> None:
    """Raise for overrides that no tutorial can have, before the studies are composed."""
    check_launching([*words, "hydra.mode=MULTIRUN"], multirun=True)
    varied, of_hydra = split_overrides(words)
    jobs = expand_grid(varied)
    if len(jobs) > 1:
        parsed = zip(varied, parse_overrides(varied), strict=True)
        several = [word.removeprefix("++") for word, override in parsed if override.is_sweep_override()]
        raise UsageError(
            f"{' '.join(several)!r} has several values; every section of the tutorial is one run: give one "
            "value, and repeat the command for the next"
        )
    schemes = [word for word in words if word not in exclude_groups(words, ("cv",))]
    if schemes:
        typed = " ".join(word.lstrip("+") for word in schemes)
        raise UsageError(
            f"{typed!r}: every section of the tutorial has a cross-validation of its own; leave it out, and "
            "run a single decoding with it: python -m harness cv=..."
        )
    config = compose_sweep("config", [*jobs[0], *of_hydra])
    if config.tracking.kind == TrackingKind.off:
        raise UsageError(
            "tracking=off stores no runs, and the tutorial reads its values from stored runs; leave it out"
        )
    if config.analysis.get("_target_") == SEARCHLIGHT:
        raise UsageError(
            f"analysis={config.hydra.runtime.choices['analysis']}: the sections of the tutorial decode one "
            "region; leave it out"
        )


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
        Markdown: a heading and paragraphs.
    """
    title, _, body = text.partition("\n")
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", body)]
    return SectionPage(
        name,
        _strip_marks(title.lstrip("# ")),
        _find_paragraph(paragraphs, "**Question.**"),
        _find_paragraph(paragraphs, "**How to read it.**"),
        _find_paragraph(paragraphs, "**In the published values,**"),
    )


def _find_paragraph(paragraphs: Sequence[str], start: str) -> str:
    found = [part.removeprefix(start).strip() for part in paragraphs if part.startswith(start)]
    return _strip_marks(" ".join(found))


def _strip_marks(text: str) -> str:
    """Return Markdown without images, links, emphasis and code marks."""
    text = re.sub(r"\s*!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
    return re.sub(r"\*\*?([^*]+)\*\*?|`([^`]+)`", lambda found: found[1] or found[2], text)


def _read_text(name: str) -> str:
    return files(PACKAGE).joinpath(name).read_text(encoding="utf-8")
