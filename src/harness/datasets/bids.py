"""Data sets in BIDS: events from the raw tree; images, masks and confounds from fMRIPrep's derivatives."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.datasets.acquisition import order_by_acquisition
from harness.datasets.bids_files import (
    FUNCTIONAL_SPACE,
    NIFTI,
    BidsFile,
    Labels,
    find_applicable,
    list_directories,
    list_files,
    list_subject_labels,
    number_runs,
    read_name,
    select_entity,
    select_labels,
    select_space,
    sort_runs,
)
from harness.datasets.brain_masks import intersect_brain_masks
from harness.datasets.events import label_runs
from harness.datasets.file_patterns import fill_subject, find_masks
from harness.datasets.headers import read_nifti_header
from harness.datasets.locations import cache_directory, expand_path
from harness.datasets.options import check_options
from harness.datasets.recording import Recording
from harness.datasets.spaces import find_common_space
from harness.datasets.tables import read_confounds
from harness.errors import DataError, UsageError


@dataclass(frozen=True)
class Bids:
    """A BIDS data set that fMRIPrep has preprocessed.

    Parameters
    ----------
    root : str or Path
        The raw data set, which contains ``sub-01`` and so on; events are read from it.
    derivatives : str or Path, optional
        The preprocessed data, a path inside `root` or an absolute one. By default the only directory in
        ``derivatives`` that has subjects, or the one called ``fmriprep``.
    task : str, optional
        Required if there are several.
    session : str, int, or sequence of them, optional
        By default all sessions, in the order of their acquisition times: ``acq_time`` in ``scans.tsv``, or in
        ``sessions.tsv``. Where these give no order, the sessions are sorted by name, and a notice records it.
    run : str, int, or sequence of them, optional
        By default all runs of a session, in the order of their acquisition times in ``scans.tsv``, or else of
        their numbers. Leading zeros do not matter.
    space : str, optional
        As in fMRIPrep's ``--output-spaces``: ``T1w``, ``MNI152NLin2009cAsym``, with ``:res-2`` if there
        are several resolutions; ``func`` is the scanner's own grid. Required if there are several.
    entities : mapping of str to str
        Further entities of the images, for example ``{acq: mb}``; null: images without the entity.
    subject_label : str, optional
        What follows ``sub-``, for example ``CON{subject:02d}``. By default the only label with the subject's
        number, whatever letters and zeros precede it.
    masks : mapping of str to str or Path
        Further mask images, by the names that ``roi.mask`` takes; the paths may contain ``{subject}``.
    t_r : float, optional
        Repetition time in seconds; by default that of the JSON files, or else of the images' headers.
    events_column : str
        Column of the events with the condition.
    trial_types : sequence of str or int, optional
        The conditions whose events are used; by default all, which must not overlap.
    cache_dir : str or Path, optional
        Where the intersection of the runs' brain masks is written; by default
        `harness.datasets.locations.cache_directory`.
    """

    root: str | Path | None = None
    derivatives: str | Path | None = None
    task: str | int | None = None
    session: Labels | None = None
    run: Labels | None = None
    space: str | None = None
    entities: Mapping[str, str | int | None] = field(default_factory=dict)
    subject_label: str | None = None
    masks: Mapping[str, str | Path] = field(default_factory=dict)
    t_r: float | None = None
    events_column: str = "trial_type"
    trial_types: Sequence[str | int] | None = None
    cache_dir: str | Path | None = None

    def __post_init__(self) -> None:
        check_options(self)
        if self.root is None:
            raise UsageError("dataset.root is not given; expected the directory of a BIDS data set")
        if self.t_r is not None and not self.t_r > 0:
            raise UsageError(f"dataset.t_r={self.t_r}: expected more than 0 seconds, or null for the files'")

    def load(self, subject: int) -> Recording:
        """Return the recording of one subject.

        Parameters
        ----------
        subject : int
            1 means ``sub-01``, ``sub-1``, or another label with this number; see `subject_label`.

        Returns
        -------
        Recording
            Runs have their own numbers if these all differ, else they are counted from 1, over sessions. The
            mask ``brain`` is the intersection of the brain masks of all runs.

        Raises
        ------
        DataError
            If a file is missing, ambiguous or unreadable.
        """
        root = expand_path("dataset.root", str(self.root))
        if not root.is_dir():
            raise DataError(f"dataset.root={root} is not a directory; expected that of a BIDS data set")
        derivatives = self._find_derivatives(root)
        label = self._find_label(derivatives, subject)
        images, notice = order_by_acquisition(self._choose_images(derivatives, label, subject), root, label)
        headers = [read_nifti_header(image.path) for image in images]
        counts = [header.n_volumes for header in headers]
        t_r = self._find_t_r(root, derivatives, label, images, [header.t_r for header in headers])
        events = _find_events(root, label, images)
        confounds = _find_confounds(derivatives, label, images)
        brain = self._find_brain(derivatives, label, images)
        bold = tuple(image.path for image in images)
        return Recording(
            dataset=read_name(root),
            subject=subject,
            bold=bold[0] if len(bold) == 1 else bold,
            labels=label_runs(events, number_runs(images), counts, t_r, self.events_column, self.trial_types),
            labels_file=events[0] if len(events) == 1 else events,
            masks=({} if brain is None else {"brain": brain}) | find_masks(self.masks, subject),
            anat=_find_anat(derivatives, label, images[0]),
            t_r=t_r,
            confounds=None if confounds is None else read_confounds(confounds, counts),
            notice=notice,
            space=find_common_space(images[0].entities.get("space"), images[0].entities.get("cohort")),
        )

    def _find_derivatives(self, root: Path) -> Path:
        parent = root / "derivatives"
        if self.derivatives is not None:
            chosen = root / expand_path("dataset.derivatives", self.derivatives)
            if not chosen.is_dir():
                raise DataError(
                    f"dataset.derivatives={str(self.derivatives)!r}: {chosen} is not a directory; "
                    f"in {parent}: {', '.join(list_directories(parent)) or 'nothing'}"
                )
            return chosen
        if (parent / "fmriprep").is_dir():
            return parent / "fmriprep"
        candidates = [*(parent / name for name in list_directories(parent)), parent]
        found = [directory for directory in candidates if list_subject_labels(directory)]
        if len(found) != 1:
            names = ", ".join(directory.name for directory in found) or "no directory with subjects"
            raise DataError(
                f"{parent} has {names}; expected one directory that fMRIPrep has written: name it, for "
                "example dataset.derivatives=/data/fmriprep"
            )
        return found[0]

    def _find_label(self, derivatives: Path, subject: int) -> str:
        labels = list_subject_labels(derivatives)
        description = f"subject {subject}"
        if self.subject_label is not None:
            wanted = fill_subject(self.subject_label, subject, "dataset.subject_label").removeprefix("sub-")
            found = [label for label in labels if label == wanted]
            description += f" (sub-{wanted})"
        else:
            found = [label for label in labels if label.isdecimal() and int(label) == subject]
            found = found or [label for label in labels if re.fullmatch(f"[A-Za-z]+0*{subject}", label)]
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(
                f"{description} can be {' or '.join(f'sub-{label}' for label in found)} in {derivatives}; "
                "expected one: name it, for example with dataset.subject_label=CON{subject:02d}"
            )
        available = ", ".join(f"sub-{label}" for label in labels) or "no subjects"
        raise DataError(
            f"{description} is not in {derivatives}; available: {available}. Choose one with subject=NUMBER, "
            "or describe the labels, for example with dataset.subject_label=CON{subject:02d}"
        )

    def _choose_images(self, derivatives: Path, label: str, subject: int) -> list[BidsFile]:
        """Return the preprocessed images of the chosen runs, sorted by session and run."""
        images = list_files(derivatives, label, "bold", NIFTI, desc="preproc")
        if not images:
            raise DataError(
                f"{derivatives / f'sub-{label}'} has no func/sub-{label}_task-..._desc-preproc_bold.nii.gz; "
                "expected the images that fMRIPrep writes"
            )
        name = f"subject {subject} of {derivatives}"
        images = select_labels(images, "task", self.task, name)
        images = select_labels(images, "ses", self.session, name, key="session")
        images = select_labels(images, "run", self.run, name)
        for entity, wanted in self.entities.items():
            images = select_entity(images, str(entity), wanted, name)
        return sort_runs(select_space(images, self.space, name), name)

    def _find_t_r(
        self,
        root: Path,
        derivatives: Path,
        label: str,
        images: Sequence[BidsFile],
        of_headers: Sequence[float | None],
    ) -> float:
        """Return the repetition time in seconds: the option's, the JSON files', or the headers'."""
        if self.t_r is not None:
            return float(self.t_r)
        sidecars = [list_files(tree, label, "bold", "json", inherited=True) for tree in (derivatives, root)]
        found: list[float] = []
        for image, of_header in zip(images, of_headers, strict=True):
            t_r = _read_t_r(image, sidecars[0]) or _read_t_r(image, sidecars[1]) or of_header
            if t_r is None:
                raise DataError(
                    f"{image.path}: neither a JSON file (RepetitionTime) nor the image's header gives the "
                    "repetition time in seconds; set it, for example dataset.t_r=2"
                )
            if found and t_r != found[0]:
                raise DataError(
                    f"the repetition times of runs differ: {found[0]} s in {images[0].path}, {t_r} s in "
                    f"{image.path}; choose runs with the same one with dataset.run=[...], or set dataset.t_r"
                )
            found.append(t_r)
        return found[0]

    def _find_brain(self, derivatives: Path, label: str, images: Sequence[BidsFile]) -> Path | None:
        """Return the intersection of the runs' brain masks, or None if no run has one."""
        masks = list_files(derivatives, label, "mask", NIFTI, desc="brain")
        found = [
            find_applicable(image, [mask for mask in masks if mask.space == image.space]) for image in images
        ]
        if not any(found):
            return None
        paths: dict[Path, None] = {}
        for image, mask in zip(images, found, strict=True):
            if mask is None:
                expected = re.sub(r"desc-preproc_bold\.nii", "desc-brain_mask.nii", str(image.path))
                raise DataError(
                    f"{expected} is missing, a run's brain mask, while other runs have one; run fMRIPrep "
                    "again, or choose runs with dataset.run=[...]"
                )
            paths[mask.path] = None
        cache = (
            cache_directory() if self.cache_dir is None else expand_path("dataset.cache_dir", self.cache_dir)
        )
        return intersect_brain_masks(list(paths), cache / "brain-masks")


def _read_t_r(image: BidsFile, sidecars: Sequence[BidsFile]) -> float | None:
    """Return the repetition time of the nearest JSON file that gives one."""
    left = list(sidecars)
    while (sidecar := find_applicable(image, left)) is not None:
        try:
            content = json.loads(sidecar.path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{sidecar.path} cannot be read as JSON: {error}; fetch it again") from error
        t_r = content.get("RepetitionTime") if isinstance(content, dict) else None
        if t_r is not None:
            if isinstance(t_r, bool) or not isinstance(t_r, int | float) or not 0 < t_r < 1000:
                raise DataError(
                    f"{sidecar.path}: RepetitionTime is {t_r!r}; expected seconds, more than 0; correct it, "
                    "or set dataset.t_r"
                )
            return float(t_r)
        left.remove(sidecar)
    return None


def _find_events(root: Path, label: str, images: Sequence[BidsFile]) -> tuple[Path, ...]:
    """Return the events of every run."""
    events = list_files(root, label, "events", "tsv", inherited=True)
    paths = []
    for image in images:
        found = find_applicable(image, events)
        if found is None:
            raise DataError(
                f"{_expected_events(root, label, image)} is missing, and no events file of a level above "
                f"applies to {image.path.name}; expected a table with onset, duration and trial_type: fetch "
                "the raw data, or choose other runs with dataset.run=[...] or another task with dataset.task="
            )
        paths.append(found.path)
    return tuple(paths)


def _expected_events(root: Path, label: str, image: BidsFile) -> Path:
    """Return where the events of an image usually are."""
    levels = [f"sub-{label}", *([f"ses-{image.entities['ses']}"] if "ses" in image.entities else [])]
    of_derivatives = ("sub", "ses", "space", "cohort", "res", "den", "desc")
    kept = [f"{key}-{value}" for key, value in image.entities.items() if key not in of_derivatives]
    return root.joinpath(*levels, "func", "_".join([*levels, *kept, "events.tsv"]))


def _find_confounds(derivatives: Path, label: str, images: Sequence[BidsFile]) -> list[Path] | None:
    """Return the confounds of every run, or None if no run has them."""
    tables = [
        file
        for suffix in ("timeseries", "regressors")  # the name until fMRIPrep 20.2
        for file in list_files(derivatives, label, suffix, "tsv", desc="confounds")
    ]
    found = [find_applicable(image, tables) for image in images]
    if not any(found):
        return None
    paths = []
    for image, table in zip(images, found, strict=True):
        if table is None:
            raise DataError(
                f"{image.path} has no desc-confounds_timeseries.tsv, while other runs have one; run fMRIPrep "
                "again, or choose the runs that have it with dataset.run=[...]"
            )
        paths.append(table.path)
    return paths


def _find_anat(derivatives: Path, label: str, image: BidsFile) -> Path | None:
    """Return the T1-weighted image in the space of `image`, if there is one."""
    space = image.entities.get("space", FUNCTIONAL_SPACE)
    if space == FUNCTIONAL_SPACE:
        return None  # fMRIPrep does not resample the anatomy to the scanner's grid
    anatomies = list_files(derivatives, label, "T1w", NIFTI, desc="preproc", modality="anat")
    return next((file.path for file in anatomies if file.entities.get("space", "T1w") == space), None)
