"""Data on disk: which subjects are complete, and which are partial or damaged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.app.doctor.cache import format_redirection
from harness.app.doctor.file_system import find_write_problem
from harness.app.doctor.installation import format_command, quote
from harness.app.doctor.selection import Selection
from harness.checks.diagnosis import Diagnosis, Status
from harness.errors import HarnessError, first_line, pluralise

if TYPE_CHECKING:
    from harness.datasets.haxby import Haxby
    from harness.datasets.simulated import Simulated

CHEAP_BYTES = 1_000_000  # files up to this size are always compared with their digests
FETCH = ("harness", "fetch", "dataset=haxby")


@dataclass(frozen=True)
class SubjectFiles:
    """The files of one subject in Haxby's layout.

    Attributes
    ----------
    damage : str or None
        Why the subject cannot be decoded.
    difference : str or None
        How its files differ from the published ones.
    missing : tuple of str
        Optional files that are not there.
    verified : tuple of str
        Files whose digests are the published ones.
    """

    subject: int
    directory: Path
    damage: str | None
    difference: str | None = None
    missing: tuple[str, ...] = ()
    verified: tuple[str, ...] = ()


def check_haxby(selection: Selection) -> Iterator[Diagnosis]:
    """List the subjects of Haxby 2001 in every directory that is searched."""
    from harness.datasets.haxby import SUBJECTS, Haxby

    own = isinstance(selection.loader, Haxby)
    dataset = selection.loader if own else Haxby()
    if selection.loader is None and selection.dataset == "haxby":
        dataset = Haxby(selection.options.get("data_dir"))
    found: set[int] = set()
    searched = list(dict.fromkeys(path.absolute() for path in dataset.candidates()))
    for directory in searched:
        subjects = [
            _examine_subject(directory, number, selection.verify) for number in _list_subjects(directory)
        ]
        complete = [item for item in subjects if item.damage is None]
        found |= {item.subject for item in complete}
        if complete:
            yield _describe_complete(directory, complete)
        for item in subjects:
            if item.damage is not None:
                yield _describe_damage(item, dataset, own and item.subject in selection.subjects)
            elif item.difference is not None:
                yield _describe_difference(item, dataset)
        yield from _find_unfinished(directory, dataset)
    absent = (
        sorted(set(selection.subjects) & set(SUBJECTS) - found) if own or selection.dataset == "haxby" else []
    )
    for subject in absent:
        if not any((directory / f"subj{subject}").is_dir() for directory in searched):
            text = f"is not in {', '.join(map(str, searched))}"
            fetch = _format_fetch(subject, dataset)
            yield Diagnosis(
                "data", f"haxby subject {subject}", Status.fault, text, fetch, {"subject": subject}
            )
    if not found and not absent:
        places = ", ".join(str(path.absolute()) for path in dataset.own_directories())
        text = f"not on disk (optional; dataset=haxby needs it): {places}"
        facts = {"searched": list(map(str, searched)), "complete": []}
        yield Diagnosis("data", "haxby", Status.ok, text, _format_fetch(2, dataset), facts)


def _list_subjects(directory: Path) -> list[int]:
    found = [path.name[4:] for path in directory.glob("subj?") if path.is_dir()]
    return sorted(int(number) for number in found if number in "123456")


def _examine_subject(directory: Path, subject: int, verify: bool) -> SubjectFiles:
    """Check that the files of a subject exist and are whole; with `verify`, read them to the end."""
    from harness.datasets.haxby import list_missing
    from harness.datasets.haxby_download import compare_with_published, find_damage, list_expected
    from harness.datasets.images import stream_volumes

    home = directory / f"subj{subject}"
    try:
        damage = find_damage(home)
        if damage is not None:
            return SubjectFiles(subject, directory, damage)
        same, differences = compare_with_published(home, subject, *(() if verify else (CHEAP_BYTES,)))
        if verify:
            for file in sorted(home.glob("*.nii.gz")):
                for _ in stream_volumes(file):
                    pass
    except (HarnessError, OSError) as error:
        return SubjectFiles(subject, directory, first_line(error))
    missing = tuple(list_missing(home, list_expected(subject)))
    difference = "; ".join(differences) or None
    return SubjectFiles(subject, directory, None, difference, missing, tuple(same))


def _describe_complete(directory: Path, subjects: list[SubjectFiles]) -> Diagnosis:
    numbers = [item.subject for item in subjects]
    lacking = {item.subject: list(item.missing) for item in subjects if item.missing}
    text = f"{_name_subjects(numbers)} complete ({directory})"
    if lacking:
        text += "; without " + "; ".join(f"{', '.join(names)} (subject {n})" for n, names in lacking.items())
    verified = {item.subject: list(item.verified) for item in subjects if item.verified}
    if verified:
        text += "; published digests: " + "; ".join(
            f"{', '.join(names)} (subject {n})" for n, names in verified.items()
        )
    facts = {
        "directory": str(directory),
        "complete": numbers,
        "missing_files": {str(number): names for number, names in lacking.items()},
        "verified_files": {str(number): names for number, names in verified.items()},
    }
    return Diagnosis("data", "haxby", Status.ok, text, None, facts)


def _name_subjects(numbers: list[int]) -> str:
    return f"{pluralise(len(numbers), 'subject')} {', '.join(map(str, numbers))}"


def _describe_damage(item: SubjectFiles, dataset: Haxby, is_required: bool) -> Diagnosis:
    status, fetch = Status.fault if is_required else Status.caution, _format_fetch(item.subject, dataset)
    facts = {"subject": item.subject, "directory": str(item.directory)}
    return Diagnosis("data", f"haxby subject {item.subject}", status, str(item.damage), fetch, facts)


def _describe_difference(item: SubjectFiles, dataset: Haxby) -> Diagnosis:
    home = item.directory / f"subj{item.subject}"
    text = f"differs from the published files: {item.difference}. Unless that is intended, fetch it again"
    aside = f"mv {quote(home)} {quote(home.with_name(home.name + '-other'))}"
    again = f"{aside} && {_format_fetch(item.subject, dataset)}"
    facts = {"subject": item.subject, "directory": str(item.directory)}
    return Diagnosis("data", f"haxby subject {item.subject}", Status.caution, text, again, facts)


def _find_unfinished(directory: Path, dataset: Haxby) -> Iterator[Diagnosis]:
    """Find downloads that were interrupted."""
    from harness.datasets.haxby import SUBJECTS
    from harness.datasets.haxby_download import unfinished_directory

    for subject in SUBJECTS:
        unfinished = unfinished_directory(directory, subject)
        if unfinished.is_dir():
            n_bytes = sum(file.stat().st_size for file in unfinished.rglob("*") if file.is_file())
            text = f"its download is not finished: {n_bytes / 1e6:.0f} MB in {unfinished}; fetch resumes it"
            facts = {"subject": subject, "directory": str(unfinished), "bytes": n_bytes}
            fetch = _format_fetch(subject, dataset)
            yield Diagnosis("data", f"haxby download {subject}", Status.caution, text, fetch, facts)


def _format_fetch(subject: int, dataset: Haxby) -> str:
    place = [] if dataset.data_dir is None else [f"dataset.data_dir={dataset.data_dir}"]
    return format_command(*FETCH, *place, f"subject={subject}")


def check_simulated(selection: Selection) -> Iterator[Diagnosis]:
    """List the simulated subjects in the cache."""
    from harness.datasets.haxby import BRAIN_FILE, SUBJECT_FILES, SUBJECTS, list_missing
    from harness.datasets.haxby_download import find_damage
    from harness.datasets.simulated import Simulated

    own = isinstance(selection.loader, Simulated)
    dataset: Simulated = selection.loader if own else Simulated()
    directory = dataset.directory() / "haxby2001"
    complete: list[int] = []
    for subject in SUBJECTS:
        home = directory / f"subj{subject}"
        if not home.is_dir():
            continue
        missing = list_missing(home, SUBJECT_FILES) + list_missing(directory, (BRAIN_FILE,))
        damage = f"{home} lacks {', '.join(missing)}" if missing else find_damage(home)
        if damage is None:
            complete.append(subject)
            continue
        status = Status.fault if own and subject in selection.subjects else Status.caution
        text = f"{damage}; the next run simulates it again"
        name = f"simulated subject {subject}"
        yield Diagnosis("data", name, status, text, f"rm -r {quote(home)}", {"subject": subject})
    facts: dict[str, object] = {"directory": str(directory), "complete": complete}
    if complete:
        text = f"{_name_subjects(complete)} complete ({directory})"
        yield Diagnosis("data", "simulated", Status.ok, text, None, facts)
    absent = [number for number in selection.subjects if own and not (directory / f"subj{number}").exists()]
    if absent or not any(directory.glob("subj?")):
        simulation = _check_simulation(directory, own, facts)
        if simulation.status != Status.ok or not complete:
            yield simulation


def _check_simulation(directory: Path, own: bool, facts: dict[str, object]) -> Diagnosis:
    """Check whether subjects can be simulated."""
    problem, place = find_write_problem(directory)
    if problem is None:
        text = f"none yet; a run simulates its subject in {directory}"
        return Diagnosis("data", "simulated", Status.ok, text, None, facts)
    text = f"{place} cannot be written: {problem}, so no subject can be simulated"
    return Diagnosis(
        "data", "simulated", Status.fault if own else Status.caution, text, format_redirection(), facts
    )


def check_selected(selection: Selection) -> Iterator[Diagnosis]:
    """Load the labels of subjects of other data sets, such as ``bids``, and list their files."""
    from harness.datasets.haxby import SUBJECTS, Haxby
    from harness.datasets.images import list_files
    from harness.datasets.simulated import Simulated

    if selection.loader is None:
        return
    if isinstance(selection.loader, Haxby | Simulated):
        for subject in sorted(set(selection.subjects) - set(SUBJECTS)):
            text = f"does not exist; expected subject={SUBJECTS[0]} to {SUBJECTS[-1]}"
            retry = format_command("harness", "doctor", f"dataset={selection.dataset}", "subject=1")
            name = f"{selection.dataset} subject {subject}"
            yield Diagnosis("data", name, Status.fault, text, retry, {"subject": subject})
        return
    for subject in selection.subjects:
        name = f"{selection.dataset} subject {subject}"
        try:
            recording = selection.loader.load(subject)
        except HarnessError as error:
            key = re.search(r"dataset\.\w+", str(error))
            words = [f"dataset={selection.dataset}", *([f"{key.group()}=PATH"] if key else [])]
            retry = format_command("harness", "doctor", *words, f"subject={subject}")
            yield Diagnosis("data", name, Status.fault, str(error), retry, {"subject": subject})
            continue
        files = list_files(recording.bold)
        text = (
            f"{len(files)} images, {len(recording.labels)} volumes with labels, {len(recording.masks)} masks"
        )
        facts = {"subject": subject, "files": list(map(str, files)), "masks": sorted(recording.masks)}
        yield Diagnosis("data", name, Status.ok, text, None, facts)
