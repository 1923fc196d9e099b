"""Studies in BIDS: events from the raw tree, images, masks and confounds from fMRIPrep's derivatives.

nilearn finds the files and takes their names apart [1]_; which file belongs to which image follows BIDS's
inheritance principle [2]_: a file applies to an image if the image's name has all of its entities; the one
of the lowest level wins, and of one level that with the most entities. Entities that BIDS defines as an index
are numbers: ``run-1`` is ``run-01``.

References
----------
.. [1] `nilearn.interfaces.bids.get_bids_files`, `nilearn.interfaces.bids.parse_bids_filename`
.. [2] BIDS specification, https://bids-specification.readthedocs.io/en/stable/common-principles.html
"""

import glob
import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import nibabel as nib
import numpy as np
from nilearn.interfaces.bids import get_bids_files, parse_bids_filename

from harness.datasets.acquisition import are_comparable, read_times
from harness.datasets.events import label_runs
from harness.datasets.file_patterns import fill_subject, find_masks, in_natural_order, natural_key
from harness.datasets.headers import read_nifti_header
from harness.datasets.images import read_mask
from harness.datasets.locations import cache_folder, expand_path
from harness.datasets.options import check_options
from harness.datasets.recording import Recording
from harness.datasets.tables import read_confounds
from harness.errors import DataError, UsageError

Labels = str | int | Sequence[str | int]
INDICES = ("run", "echo", "flip", "inv", "split", "chunk")  # `format: index` in BIDS's schema
FUNCTIONAL_SPACE = "func"  # fMRIPrep's name for the scanner's own grid, whose files have no `space` entity


@dataclass(frozen=True)
class Bids:
    """A BIDS data set that fMRIPrep has preprocessed.

    Parameters
    ----------
    root : str or Path
        The raw data set, which holds ``sub-01`` and so on; events are read from it.
    derivatives : str or Path, optional
        The preprocessed data, a path inside `root` or an absolute one. By default the only folder in
        ``derivatives`` that has subjects, or the one called ``fmriprep``.
    task : str, optional
        Needed where there are several.
    session : str, int, or sequence of them, optional
        By default all sessions, in the order of their acquisition times: ``acq_time`` in ``scans.tsv``, or in
        ``sessions.tsv``. Where these give no order, the sessions are taken by name, and a notice records it.
    run : str, int, or sequence of them, optional
        By default all runs of a session, in the order of their acquisition times in ``scans.tsv``, or else of
        their numbers. A whole number means whatever zeros it is written with.
    space : str, optional
        As in fMRIPrep's ``--output-spaces``: ``T1w``, ``MNI152NLin2009cAsym``, with ``:res-2`` where there
        are several resolutions; ``func`` is the scanner's own grid. Needed where there are several.
    entities : mapping of str to str
        What else the images' names must have, such as ``{acq: mb}``; null: must not have.
    subject_label : str, optional
        What follows ``sub-`` for a subject, such as ``CON{subject:02d}``. By default the label whose number
        is the subject's, whatever zeros and letters are before it, if there is only one.
    masks : mapping of str to str or Path
        Further mask images, by the names that ``roi.mask`` takes; the paths may hold ``{subject}``.
    t_r : float, optional
        Repetition time in seconds; by default what the JSON files say, or else the images' headers.
    events_column : str
        Column of the events that names the condition.
    trial_types : sequence of str or int, optional
        The only conditions whose events count, where there are others that overlap with them.
    cache_dir : str or Path, optional
        Where the intersection of the runs' brain masks is written; by default
        `harness.datasets.locations.cache_folder`.
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
            raise UsageError("dataset.root is not given; expected the folder of a BIDS data set")
        if self.t_r is not None and not self.t_r > 0:
            raise UsageError(f"dataset.t_r={self.t_r} must be more than 0 seconds, or null for the files'")

    def load(self, subject: int) -> Recording:
        """Return the recording of one subject.

        Parameters
        ----------
        subject : int
            1 means ``sub-01``, ``sub-1``, or whatever is there; see `subject_label`.

        Returns
        -------
        Recording
            Runs have their own numbers where these are all different, else they are counted from 1, over
            sessions. The mask ``brain`` is where the brain masks of all runs agree.

        Raises
        ------
        DataError
            If something is missing, ambiguous or unreadable.
        """
        root = expand_path("dataset.root", str(self.root))
        if not root.is_dir():
            raise DataError(f"dataset.root={root} is no folder; expected that of a BIDS data set")
        derivatives = self._find_derivatives(root)
        label = self._find_label(derivatives, subject)
        images, notice = _in_order_of_time(self._choose_images(derivatives, label, subject), root, label)
        headers = [read_nifti_header(image.path) for image in images]
        counts = [header.n_volumes for header in headers]
        t_r = self._find_t_r(root, derivatives, label, images, [header.t_r for header in headers])
        events = _list_files(root, label, "events", "tsv", inherited=True)
        events_files = [_find_events(image, events, root, label) for image in images]
        runs = _number_runs(images)
        labels = label_runs(events_files, runs, counts, t_r, self.events_column, self.trial_types)
        confounds = _find_confounds(derivatives, label, images)
        brain = self._find_brain(derivatives, label, images)
        bold = tuple(image.path for image in images)
        return Recording(
            dataset=root.resolve().name,
            subject=subject,
            bold=bold[0] if len(bold) == 1 else bold,
            labels=labels,
            labels_file=events_files[0] if len(bold) == 1 else tuple(events_files),
            masks=({} if brain is None else {"brain": brain}) | find_masks(self.masks, subject),
            anat=_find_anat(derivatives, label, images[0]),
            t_r=t_r,
            confounds=None if confounds is None else read_confounds(confounds, counts),
            notice=notice,
        )

    def _find_derivatives(self, root: Path) -> Path:
        home = root / "derivatives"
        if self.derivatives is not None:
            chosen = root / expand_path("dataset.derivatives", self.derivatives)
            if not chosen.is_dir():
                raise DataError(
                    f"dataset.derivatives={str(self.derivatives)!r}: {chosen} is no folder; "
                    f"in {home}: {', '.join(_folders(home)) or 'nothing'}"
                )
            return chosen
        if (home / "fmriprep").is_dir():
            return home / "fmriprep"
        found = [home / name for name in _folders(home) if _list_labels(home / name)]
        if _list_labels(home):
            found.append(home)
        if len(found) != 1:
            there = ", ".join(folder.name for folder in found) or "no folder with subjects"
            raise DataError(
                f"{home} has {there}; expected what fMRIPrep has made of the data: "
                "name its folder, such as dataset.derivatives=/data/fmriprep"
            )
        return found[0]

    def _find_label(self, derivatives: Path, subject: int) -> str:
        labels = _list_labels(derivatives)
        if self.subject_label is not None:
            wanted = fill_subject(self.subject_label, subject, "dataset.subject_label").removeprefix("sub-")
            found = [label for label in labels if label == wanted]
            called = f"subject {subject} (sub-{wanted})"
        else:
            found = [label for label in labels if label.isdecimal() and int(label) == subject]
            if not found:
                found = [label for label in labels if _number_of(label) == subject]
            called = f"subject {subject}"
        if len(found) == 1:
            return found[0]
        there = ", ".join(f"sub-{label}" for label in labels) or "no subjects"
        if found:
            raise DataError(
                f"{called} can be {' or '.join(f'sub-{label}' for label in found)} in {derivatives}; "
                "say which, such as dataset.subject_label=CON{subject:02d}"
            )
        raise DataError(
            f"{called} is not in {derivatives}; there: {there}. Choose one of them with subject=NUMBER, or "
            "say how they are called, such as dataset.subject_label=CON{subject:02d}"
        )

    def _choose_images(self, derivatives: Path, label: str, subject: int) -> "list[_File]":
        """Return the preprocessed images of the chosen runs, sorted by session and run."""
        files = _list_files(derivatives, label, "bold", "nii*", filters=[("desc", "preproc")])
        images = [file for file in files if re.search(r"\.nii(\.gz)?$", file.path.name)]
        if not images:
            raise DataError(
                f"{derivatives / f'sub-{label}'} has no func/sub-{label}_task-..._desc-preproc_bold.nii.gz; "
                "expected the images that fMRIPrep writes"
            )
        who = f"subject {subject} of {derivatives}"
        images = _restrict(images, "task", self.task, who)
        images = _restrict(images, "ses", self.session, who, key="session")
        images = _restrict(images, "run", self.run, who)
        for entity, wanted in self.entities.items():
            images = _restrict_to(images, str(entity), wanted, who)
        _refuse_several(images, "task", who)
        images = _restrict_space(images, self.space, who)
        by_run: dict[tuple[str, str], _File] = {}
        for image in images:
            twin = by_run.setdefault((image.label("ses"), _as_index(image.label("run"))), image)
            if twin is not image:
                raise _ambiguous(twin, image, who)
        return sorted(
            images, key=lambda image: (natural_key(image.label("ses")), natural_key(image.label("run")))
        )

    def _find_t_r(
        self,
        root: Path,
        derivatives: Path,
        label: str,
        images: "Sequence[_File]",
        of_headers: Sequence[float | None],
    ) -> float:
        """Return the repetition time, in seconds: asked for, of the JSON files, or of the headers."""
        if self.t_r is not None:
            return float(self.t_r)
        near = _list_files(derivatives, label, "bold", "json", inherited=True)
        far = _list_files(root, label, "bold", "json", inherited=True)
        found = [
            _read_t_r(image, near) or _read_t_r(image, far) or of_header
            for image, of_header in zip(images, of_headers, strict=True)
        ]
        for image, t_r in zip(images, found, strict=True):
            if t_r is None:
                raise DataError(
                    f"{image.path}: neither a JSON file (RepetitionTime) nor the image's header says its "
                    "repetition time in seconds; give it, such as dataset.t_r=2"
                )
            if t_r != found[0]:
                raise DataError(
                    f"the repetition times of runs differ: {found[0]} s in {images[0].path}, {t_r} s in "
                    f"{image.path}; choose runs that are alike with dataset.run=[...], or give dataset.t_r"
                )
        assert found[0] is not None
        return found[0]

    def _find_brain(self, derivatives: Path, label: str, images: "Sequence[_File]") -> Path | None:
        """Return the brain mask: that of all runs, or where those of every run agree."""
        masks = [
            file
            for file in _list_files(derivatives, label, "mask", "nii*", filters=[("desc", "brain")])
            if re.search(r"\.nii(\.gz)?$", file.path.name)
        ]
        found = [_applying(image, [mask for mask in masks if mask.space == image.space]) for image in images]
        if not any(found):
            return None
        paths = []
        for image, mask in zip(images, found, strict=True):
            if mask is None:
                expected = re.sub(r"desc-preproc_bold\.nii", "desc-brain_mask.nii", str(image.path))
                raise DataError(f"{expected} is missing, the brain mask of a run, while other runs have one")
            if mask.path not in paths:
                paths.append(mask.path)
        folder = (
            cache_folder() if self.cache_dir is None else expand_path("dataset.cache_dir", self.cache_dir)
        )
        return intersect_brains(paths, folder / "brain-masks")


def intersect_brains(masks: Sequence[Path], folder: Path) -> Path:
    """Write where the brain masks of several runs agree, unless it is there already.

    A voxel that lies outside of one run's mask was not measured there, or holds something else than brain.

    Parameters
    ----------
    masks : sequence of Path
    folder : Path
        The file's name there is a digest of the masks.

    Returns
    -------
    Path
        The first of the masks where all are the same file, byte by byte.

    Raises
    ------
    DataError
        If the masks do not fit each other, or `folder` cannot be written.
    """
    try:
        contents = {hashlib.sha256(mask.read_bytes()).hexdigest() for mask in masks}
    except OSError as error:
        raise DataError(f"{masks[0]} or another brain mask cannot be read: {error}") from error
    if len(contents) == 1:
        return masks[0]
    intersection, affine = read_mask(masks[0])
    for mask in masks[1:]:
        brain, brain_affine = read_mask(mask)
        if brain.shape != intersection.shape or not np.allclose(brain_affine, affine):
            raise DataError(
                f"the brain masks of the runs, {masks[0]} and {mask}, cannot be intersected: their shapes, "
                f"{intersection.shape} and {brain.shape}, or their affines differ. Expected one grid: choose "
                "dataset.space=, dataset.session= or dataset.run=[...]"
            )
        intersection &= brain
    target = folder / f"{hashlib.sha256(chr(10).join(sorted(contents)).encode()).hexdigest()[:32]}.nii.gz"
    if target.is_file():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as unfinished:
            nib.save(nib.Nifti1Image(intersection.astype(np.uint8), affine), Path(unfinished) / target.name)
            (Path(unfinished) / target.name).replace(target)
    except OSError as error:
        raise DataError(
            f"the brain mask of all runs cannot be written to {folder}: {error}; choose another folder with "
            "dataset.cache_dir= or the environment variable HARNESS_CACHE"
        ) from error
    return target


@dataclass(frozen=True)
class _File:
    """A file and what its name says."""

    path: Path
    entities: Mapping[str, str]

    @property
    def comparable(self) -> Mapping[str, str]:
        """The entities, with indices as numbers without leading zeros."""
        return {key: _as_index(label) if key in INDICES else label for key, label in self.entities.items()}

    @property
    def space(self) -> str:
        """The space as fMRIPrep's ``--output-spaces`` names it."""
        parts = [f"{key}-{self.entities[key]}" for key in ("cohort", "res", "den") if key in self.entities]
        return ":".join([self.entities.get("space", FUNCTIONAL_SPACE), *parts])

    def label(self, entity: str) -> str:
        """Return what the name has for an entity, or nothing."""
        return self.entities.get(entity, "")


def _folders(home: Path) -> list[str]:
    if not home.is_dir():
        return []
    return in_natural_order(path.name for path in home.iterdir() if path.is_dir())


def _list_labels(folder: Path) -> list[str]:
    """Return what follows ``sub-`` in the names of a folder's subjects."""
    return [name.removeprefix("sub-") for name in _folders(folder) if name.startswith("sub-")]


def _list_files(
    folder: Path,
    label: str,
    suffix: str,
    extension: str,
    filters: Sequence[tuple[str, str]] = (),
    *,
    inherited: bool = False,
) -> list[_File]:
    """Let nilearn list a subject's functional files, and those of the levels above."""
    # nilearn takes the folder for a wildcard, too.
    main = glob.escape(str(folder))
    paths = set(get_bids_files(main, suffix, extension, label, "func", list(filters)))
    if inherited:
        paths |= set(get_bids_files(main, suffix, extension, label, "", list(filters)))
        # Where there are sessions, the line above lists only theirs, and not what lies beside them.
        for level in (main, f"{main}/sub-{glob.escape(label)}"):
            found = get_bids_files(level, f"*{suffix}", extension, filters=list(filters), sub_folder=False)
            paths |= set(found)
    return [_parse(path) for path in sorted(paths) if parse_bids_filename(path)["suffix"] == suffix]


def _parse(path: str) -> _File:
    """Take a file's name apart."""
    entities = parse_bids_filename(path)["entities"]
    return _File(Path(path), {key: value for key, value in entities.items() if value is not None})


def _applying(image: _File, files: Sequence[_File]) -> _File | None:
    """Return the file that applies to an image, by BIDS's inheritance principle."""
    applying = sorted(
        (
            file
            for file in files
            if (file.comparable.items() - {("desc", file.label("desc"))}) <= image.comparable.items()
        ),
        key=_rank,
        reverse=True,
    )
    if len(applying) > 1 and _rank(applying[0]) == _rank(applying[1]):
        raise DataError(
            f"{applying[0].path} and {applying[1].path} both apply to {image.path}; expected one: "
            "remove or rename the other"
        )
    return applying[0] if applying else None


def _rank(file: _File) -> tuple[int, int]:
    """Return how near a file is to the images: its level, then its number of entities."""
    return len(file.path.parts), len(file.entities)


def _as_index(label: str) -> str:
    """Return a number without leading zeros; anything else as it is."""
    return label.lstrip("0") or "0" if re.fullmatch("[0-9]+", label) else label


def _same_label(label: str, wanted: str | int) -> bool:
    return _as_index(label) == _as_index(str(wanted))


def _in_order_of_time(images: Sequence[_File], root: Path, label: str) -> tuple[list[_File], str | None]:
    """Sort images, which come by session and run, by time; return a notice where an order is assumed."""
    sessions = list(dict.fromkeys(image.label("ses") for image in images))
    times = _find_scan_times(images, root, label)
    table = root / f"sub-{label}" / f"sub-{label}_sessions.tsv"
    starts = _find_session_starts(images, times, table) if len(sessions) > 1 else {}
    in_order = sorted(sessions, key=starts.__getitem__) if starts else sessions
    order = sorted(
        range(len(images)),
        key=lambda i: (in_order.index(images[i].label("ses")), times[i] if times else i),
    )
    notice = None
    if len(sessions) > 1 and not starts:
        notice = (
            f"sub-{label} has the sessions {', '.join(sessions)}, and no acquisition times (acq_time in "
            "scans.tsv or sessions.tsv) that order them: they are taken in this order, by name. If another "
            f"is right, write the times into {table}."
        )
    return [images[i] for i in order], notice


def _find_scan_times(images: Sequence[_File], root: Path, label: str) -> list[datetime]:
    """Return the acquisition time of every image, or nothing where ``scans.tsv`` does not have them all."""
    scans: dict[str, list[tuple[_File, datetime | None]]] = {}
    times = []
    for image in images:
        session = image.label("ses")
        if session not in scans:
            folder = root / f"sub-{label}" / (f"ses-{session}" if session else "")
            stem = f"sub-{label}_ses-{session}" if session else f"sub-{label}"
            read = read_times(folder / f"{stem}_scans.tsv", "filename")
            bold = [name for name in read if re.search(r"_bold\.nii(\.gz)?$", name)]
            scans[session] = [(_parse(name), read[name]) for name in bold]
        # The echoes of a run are one image after preprocessing, and so are magnitude and phase.
        fitting = [
            (len(scan.entities), time)
            for scan, time in scans[session]
            if {item for item in scan.comparable.items() if item[0] not in ("echo", "part")}
            <= image.comparable.items()
        ]
        times.append(max(fitting, key=lambda each: each[0])[1] if fitting else None)
    known = [time for time in times if time is not None]
    return known if are_comparable(times) else []


def _find_session_starts(
    images: Sequence[_File], times: Sequence[datetime], table: Path
) -> dict[str, datetime]:
    """Return when every session began, by its scans or by ``sessions.tsv``; nothing where that is unknown."""
    scanned: dict[str, datetime] = {}
    for image, time in zip(images, times, strict=False):  # there are times of all images, or of none
        session = image.label("ses")
        scanned[session] = min(time, scanned.get(session, time))
    read = read_times(table, "session_id")
    listed = {session: read.get(f"ses-{session}") for session in {image.label("ses") for image in images}}
    for starts in (scanned, listed):
        known = {session: start for session, start in starts.items() if start is not None}
        if are_comparable(starts.values()) and len(set(known.values())) == len(starts):
            return known
    return {}


def _number_of(label: str) -> int | None:
    found = re.fullmatch(r"[A-Za-z]+0*([0-9]+)", label)
    return int(found[1]) if found else None


def _restrict(
    images: Sequence[_File], entity: str, wanted: Labels | None, who: str, key: str | None = None
) -> list[_File]:
    """Keep the images that have one of the labels that are asked for."""
    if wanted is None:
        return list(images)
    asked = [wanted] if isinstance(wanted, str | int) else list(wanted)
    there = in_natural_order({image.label(entity) for image in images} - {""})
    for each in asked:
        if not any(_same_label(label, each) for label in there):
            raise DataError(
                f"dataset.{key or entity}={each!r} is not among the files of {who}; "
                f"there: {', '.join(there) or f'no file name has {entity}-'}"
            )
    return [image for image in images if any(_same_label(image.label(entity), each) for each in asked)]


def _restrict_to(images: Sequence[_File], entity: str, wanted: str | int | None, who: str) -> list[_File]:
    """Keep the images that have a label, or, with None, that have none."""
    kept = [
        image
        for image in images
        if (entity not in image.entities if wanted is None else _same_label(image.label(entity), wanted))
    ]
    if not kept:
        there = in_natural_order({image.label(entity) or "null" for image in images})
        raise DataError(
            f"dataset.entities.{entity}={wanted if wanted is not None else 'null'} fits no image of {who}; "
            f"there: {', '.join(there)}"
        )
    return kept


def _restrict_space(images: Sequence[_File], wanted: str | None, who: str) -> list[_File]:
    there = in_natural_order({image.space for image in images})
    kept = list(images)
    if wanted is not None:
        kept = [image for image in images if wanted in (image.space, image.space.split(":")[0])]
        if not kept:
            raise DataError(
                f"dataset.space={wanted!r} is not among the images of {who}; there: {', '.join(there)}"
            )
    left = in_natural_order({image.space for image in kept})
    if len(left) > 1:
        raise DataError(
            f"{who} has images in several spaces, {', '.join(left)}; choose one, such as "
            f"dataset.space={left[0]}"
        )
    return kept


def _refuse_several(images: Sequence[_File], entity: str, who: str) -> None:
    there = in_natural_order({image.label(entity) for image in images})
    if len(there) > 1:
        raise DataError(
            f"{who} has several {entity}s, {', '.join(there)}; choose one, such as "
            f"dataset.{entity}={there[0]}"
        )


def _ambiguous(one: _File, other: _File, who: str) -> DataError:
    """Say by what two images of one run differ, and how to choose."""
    differing = sorted(
        key
        for key in {*one.entities, *other.entities}
        if one.comparable.get(key) != other.comparable.get(key)
    )
    if not differing:
        return DataError(f"{one.path} and {other.path} are there for the same run; remove one of them")
    key = differing[0]
    labels = [one.entities.get(key, "null"), other.entities.get(key, "null")]
    return DataError(
        f"{who} has two images of one run, {one.path.name} and {other.path.name}; choose by "
        f"{key} ({', '.join(labels)}), such as dataset.entities.{key}={labels[0]}"
    )


def _number_runs(images: Sequence[_File]) -> list[int]:
    """Return the runs' own numbers where these are all different, else count them from 1."""
    labels = [image.label("run") for image in images]
    if all(label.isdecimal() for label in labels) and len({int(label) for label in labels}) == len(labels):
        return [int(label) for label in labels]
    return list(range(1, len(images) + 1))


def _find_events(image: _File, events: Sequence[_File], root: Path, label: str) -> Path:
    found = _applying(image, events)
    if found is None:
        kept = [
            f"{key}-{value}"
            for key, value in image.entities.items()
            if key not in ("sub", "ses", "space", "cohort", "res", "den", "desc")
        ]
        session = image.label("ses")
        where = root / f"sub-{label}" / (f"ses-{session}" if session else "") / "func"
        name = "_".join([f"sub-{label}", *([f"ses-{session}"] if session else []), *kept, "events.tsv"])
        raise DataError(
            f"{where / name} is missing, and no events file of a level above applies to {image.path.name}; "
            "expected onset, duration and trial_type of what was shown: fetch the raw data, or choose other "
            "runs with dataset.run=[...], or another task with dataset.task="
        )
    return found.path


def _find_confounds(derivatives: Path, label: str, images: Sequence[_File]) -> list[Path] | None:
    """Return the confounds of every run, or None where no run has them."""
    tables = [
        file
        for suffix in ("timeseries", "regressors")  # the name until fMRIPrep 20.2
        for file in _list_files(derivatives, label, suffix, "tsv", filters=[("desc", "confounds")])
    ]
    found = [_applying(image, tables) for image in images]
    if not any(found):
        return None
    paths = []
    for image, table in zip(images, found, strict=True):
        if table is None:
            raise DataError(
                f"{image.path} comes without desc-confounds_timeseries.tsv, while other runs have it; run "
                "fMRIPrep again, or choose the runs that have it with dataset.run=[...]"
            )
        paths.append(table.path)
    return paths


def _find_anat(derivatives: Path, label: str, image: _File) -> Path | None:
    """Return the T1-weighted image that lies in the same space, if there is one."""
    space = image.entities.get("space", FUNCTIONAL_SPACE)
    if space == FUNCTIONAL_SPACE:
        return None  # the anatomy was not moved to the scanner's grid
    found = get_bids_files(glob.escape(str(derivatives)), "T1w", "nii*", label, "anat", [("desc", "preproc")])
    for path in sorted(found):
        if parse_bids_filename(path)["entities"].get("space", "T1w") == space:
            return Path(path)
    return None


def _read_t_r(image: _File, sidecars: Sequence[_File]) -> float | None:
    """Return the repetition time of the nearest JSON file that says one."""
    left = list(sidecars)
    while (sidecar := _applying(image, left)) is not None:
        try:
            content = json.loads(sidecar.path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{sidecar.path} cannot be read as JSON: {error}; fetch it again") from error
        t_r = content.get("RepetitionTime") if isinstance(content, dict) else None
        if t_r is not None:
            if isinstance(t_r, bool) or not isinstance(t_r, int | float) or not 0 < t_r < 1000:
                raise DataError(
                    f"{sidecar.path}: RepetitionTime is {t_r!r}; expected seconds, more than 0; correct it, "
                    "or give dataset.t_r"
                )
            return float(t_r)
        left.remove(sidecar)
    return None
