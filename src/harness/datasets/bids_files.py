"""Files of a BIDS data set: listing them, comparing their entities, and finding which apply to an image.

nilearn lists the files and parses their names [1]_. Which file applies to an image follows the inheritance
principle [2]_: all entities of the file are in the image's name; of several files, the one in the deepest
directory applies, and of one directory that with the most entities. Entities of format `index` are integers:
``run-1`` equals ``run-01``.

PyBIDS implements the same rules. Indexing 100 subjects takes it 12.5 s and 347 MB, and this module 25 ms; the
tests compare the two.

References
----------
.. [1] `nilearn.interfaces.bids.get_bids_files`, `nilearn.interfaces.bids.parse_bids_filename`
.. [2] https://bids-specification.readthedocs.io/en/stable/common-principles.html#the-inheritance-principle
"""

import glob
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nilearn.interfaces.bids import get_bids_files, parse_bids_filename

from harness.datasets.file_patterns import in_natural_order, natural_key
from harness.errors import DataError, UsageError

Labels = str | int | Sequence[str | int]
INDICES = ("run", "echo", "flip", "inv", "split", "chunk")  # `format: index` in BIDS's schema
FUNCTIONAL_SPACE = "func"  # fMRIPrep's name for the scanner's own grid, whose files have no `space` entity
NIFTI = "nii*"


@dataclass(frozen=True)
class BidsFile:
    """A file and the entities in its name, as they are written there."""

    path: Path
    entities: Mapping[str, str]

    @classmethod
    def parse(cls, path: str) -> "BidsFile":
        """Read the entities from a file's name."""
        entities = parse_bids_filename(path)["entities"]
        return cls(Path(path), {key: value for key, value in entities.items() if value is not None})

    @property
    def comparable(self) -> Mapping[str, str]:
        """The entities, with indices as integers, that is without leading zeros."""
        return {key: as_index(label) if key in INDICES else label for key, label in self.entities.items()}

    @property
    def space(self) -> str:
        """The space in the notation of fMRIPrep's ``--output-spaces``."""
        parts = [f"{key}-{self.entities[key]}" for key in ("cohort", "res", "den") if key in self.entities]
        return ":".join([self.entities.get("space", FUNCTIONAL_SPACE), *parts])

    def label(self, entity: str) -> str:
        """Return the label of an entity, or an empty text."""
        return self.entities.get(entity, "")


def as_index(label: str) -> str:
    """Return a number without leading zeros; any other label as it is."""
    return label.lstrip("0") or "0" if re.fullmatch("[0-9]+", label) else label


def read_name(root: Path) -> str:
    """Return the ``Name`` in ``dataset_description.json``, of 80 characters at most, or ``bids``."""
    try:
        name = json.loads((root / "dataset_description.json").read_text(encoding="utf-8-sig"))["Name"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return "bids"
    return " ".join(name.split())[:80] or "bids" if isinstance(name, str) else "bids"


def list_directories(parent: Path) -> list[str]:
    """Return the names of the directories in `parent`, none if it does not exist."""
    if not parent.is_dir():
        return []
    return in_natural_order(path.name for path in parent.iterdir() if path.is_dir())


def list_subject_labels(directory: Path) -> list[str]:
    """Return what follows ``sub-`` in the names of the subjects' directories."""
    return [name.removeprefix("sub-") for name in list_directories(directory) if name.startswith("sub-")]


def list_files(
    directory: Path,
    label: str,
    suffix: str,
    extension: str,
    *,
    desc: str | None = None,
    modality: str = "func",
    inherited: bool = False,
) -> list[BidsFile]:
    """Return a subject's files of one kind, and with `inherited` also those of the levels above."""
    main = glob.escape(str(directory))  # nilearn uses it as a wildcard
    filters = [] if desc is None else [("desc", desc)]
    paths = set(get_bids_files(main, suffix, extension, label, modality, filters))
    if inherited:
        paths |= set(get_bids_files(main, suffix, extension, label, "", filters))
        # Where there are sessions, the line above lists only what is in their directories.
        for level in (main, f"{main}/sub-{glob.escape(label)}"):
            paths |= set(get_bids_files(level, f"*{suffix}", extension, filters=filters, sub_folder=False))
    return [
        BidsFile.parse(path)
        for path in sorted(paths)
        if parse_bids_filename(path)["suffix"] == suffix and re.search(r"\.(nii|nii\.gz|tsv|json)$", path)
    ]


def find_applicable(image: BidsFile, files: Sequence[BidsFile]) -> BidsFile | None:
    """Return the file that applies to an image by the inheritance principle, whatever its ``desc``."""
    applicable = sorted(
        (
            file
            for file in files
            if file.comparable.items() - {("desc", file.label("desc"))} <= image.comparable.items()
        ),
        key=_precedence,
        reverse=True,
    )
    if len(applicable) > 1 and _precedence(applicable[0]) == _precedence(applicable[1]):
        raise DataError(
            f"{applicable[0].path} and {applicable[1].path} both apply to {image.path}; expected one file: "
            "remove or rename the other"
        )
    return applicable[0] if applicable else None


def _precedence(file: BidsFile) -> tuple[int, int]:
    """Return the depth of a file's directory, then the number of its entities."""
    return len(file.path.parts), len(file.entities)


def select_labels(
    images: Sequence[BidsFile], entity: str, wanted: Labels | None, subject: str, key: str | None = None
) -> list[BidsFile]:
    """Return the images whose entity has one of the wanted labels; None means all images."""
    if wanted is None:
        return list(images)
    labels = {as_index(str(each)): each for each in ([wanted] if isinstance(wanted, str | int) else wanted)}
    if not labels:
        raise UsageError(f"dataset.{key or entity}=[] is empty; expected labels, or null for all of them")
    existing = in_natural_order({image.label(entity) for image in images} - {""})
    for index, each in labels.items():
        if index not in map(as_index, existing):
            raise DataError(
                f"dataset.{key or entity}={each!r} is not among the files of {subject}; "
                f"available: {', '.join(existing) or f'no file name contains {entity}-'}"
            )
    return [image for image in images if image.label(entity) and as_index(image.label(entity)) in labels]


def select_entity(
    images: Sequence[BidsFile], entity: str, wanted: str | int | None, subject: str
) -> list[BidsFile]:
    """Return the images whose entity has the wanted label, or, if None, that lack the entity."""
    expected = None if wanted is None else as_index(str(wanted))
    kept = [
        image
        for image in images
        if (as_index(image.entities[entity]) if entity in image.entities else None) == expected
    ]
    if not kept:
        existing = in_natural_order({image.label(entity) or "null" for image in images})
        raise DataError(
            f"dataset.entities.{entity}={wanted if wanted is not None else 'null'} matches no image of "
            f"{subject}; available: {', '.join(existing)}"
        )
    return kept


def select_space(images: Sequence[BidsFile], wanted: str | None, subject: str) -> list[BidsFile]:
    """Return the images of one space; `wanted` may leave out the resolution if there is only one."""
    kept = [image for image in images if wanted in (None, image.space, image.space.split(":")[0])]
    if not kept:
        existing = in_natural_order({image.space for image in images})
        raise DataError(
            f"dataset.space={wanted!r} is not among the images of {subject}; available: {', '.join(existing)}"
        )
    left = in_natural_order({image.space for image in kept})
    if len(left) > 1:
        raise DataError(
            f"{subject} has images in several spaces, {', '.join(left)}; choose one, for example "
            f"dataset.space={left[0]}"
        )
    return kept


def sort_runs(images: Sequence[BidsFile], subject: str) -> list[BidsFile]:
    """Return images of one task and space by session and run; refuse two images of one run."""
    tasks = in_natural_order({image.label("task") for image in images})
    if len(tasks) > 1:
        raise DataError(
            f"{subject} has several tasks, {', '.join(tasks)}; choose one, for example "
            f"dataset.task={tasks[0]}"
        )
    by_run: dict[tuple[str, str], BidsFile] = {}
    for image in images:
        other = by_run.setdefault((image.label("ses"), as_index(image.label("run"))), image)
        if other is not image:
            raise DataError(_describe_ambiguity(other, image, subject))
    return sorted(
        images, key=lambda image: (natural_key(image.label("ses")), natural_key(image.label("run")))
    )


def _describe_ambiguity(one: BidsFile, other: BidsFile, subject: str) -> str:
    """Return how two images of one run differ, and the option that chooses between them."""
    differing = sorted(
        key
        for key in {*one.entities, *other.entities}
        if one.comparable.get(key) != other.comparable.get(key)
    )
    if not differing:
        return f"{one.path} and {other.path} are images of the same run; expected one: remove the other"
    key = differing[0]
    labels = [image.entities.get(key, "null") for image in (one, other)]
    return (
        f"{subject} has two images of one run, {one.path.name} and {other.path.name}; choose by "
        f"{key} ({', '.join(labels)}), for example dataset.entities.{key}={labels[0]}"
    )


def number_runs(images: Sequence[BidsFile]) -> list[int]:
    """Return the runs' own numbers if these all differ, else 1, 2, 3, and so on."""
    labels = [image.label("run") for image in images]
    if all(label.isdecimal() for label in labels) and len({int(label) for label in labels}) == len(labels):
        return [int(label) for label in labels]
    return list(range(1, len(images) + 1))
