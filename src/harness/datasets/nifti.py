"""NIfTI images in any layout, with a table that labels every volume, or with events."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from harness.datasets.events import label_runs
from harness.datasets.file_patterns import Paths, find_file, find_files, find_masks
from harness.datasets.headers import NiftiHeader, read_nifti_header
from harness.datasets.options import check_options
from harness.datasets.recording import Recording, describe_files
from harness.datasets.spaces import check_space
from harness.datasets.tables import is_missing, read_confounds, read_table
from harness.errors import DataError, UsageError


@dataclass(frozen=True)
class Nifti:
    """Images and labels at any paths.

    Every path may contain ``{subject}``, or ``{subject:02d}`` for two digits. `bold`, `labels`, `events` and
    `confounds` are a path, a list of paths, or a path with wildcards, whose files are taken in the order of
    their names, ``run-2`` before ``run-10``.

    Parameters
    ----------
    bold : str, Path or sequence of them
        One 4D image, or one per run, in the order of time; or 3D images, one per volume.
    labels : str, Path or sequence of them, optional
        TSV or CSV with one row per volume and the columns ``condition`` and ``run`` (a whole number). If
        there is one image, or one table, per run, ``run`` can be left out: runs are counted from 0.
    events : str, Path or sequence of them, optional
        Instead of `labels`: one BIDS ``events.tsv`` per run, with the columns ``onset``, ``duration`` and
        ``trial_type``; see `harness.datasets.events` for which volume belongs to which event. Needs one image
        per run. Runs are counted from 0.
    t_r : float, optional
        Repetition time in seconds; by default that of the images' headers.
    masks : mapping of str to str or Path
        Mask images, by the names that ``roi.mask`` takes.
    anat : str or Path, optional
        Anatomical image.
    confounds : str, Path or sequence of them, optional
        One TSV per run, one row per volume; ``signal.confounds`` chooses columns.
    events_column : str
        Column of the events with the condition.
    trial_types : sequence of str or int, optional
        The conditions whose events are used; by default all, which must not overlap.
    space : str, optional
        The space of a template that the images of all subjects were normalised to, for example
        ``MNI152NLin2009cAsym``; maps of several subjects are only compared in one space.
    """

    bold: Paths | None = None
    labels: Paths | None = None
    events: Paths | None = None
    t_r: float | None = None
    masks: Mapping[str, str | Path] = field(default_factory=dict)
    anat: str | Path | None = None
    confounds: Paths | None = None
    events_column: str = "trial_type"
    trial_types: Sequence[str | int] | None = None
    space: str | None = None

    def __post_init__(self) -> None:
        check_options(self)
        check_space("dataset.space", self.space)
        if self.bold is None:
            raise UsageError("dataset.bold is not given; expected a 4D image, or one per run")
        if (self.labels is None) == (self.events is None):
            raise UsageError(
                f"dataset.labels={self.labels}, dataset.events={self.events}: expected one of the two, a "
                "table with a row per volume, or events.tsv with onset, duration and trial_type"
            )
        if self.events is None and (self.events_column != "trial_type" or self.trial_types is not None):
            raise UsageError(
                f"dataset.events_column={self.events_column!r}, dataset.trial_types={self.trial_types} "
                "choose events, and have no effect on dataset.labels; leave them out, or give dataset.events"
            )
        if self.t_r is not None and not self.t_r > 0:
            raise UsageError(
                f"dataset.t_r={self.t_r}: expected more than 0 seconds, or null for the header's"
            )

    def load(self, subject: int) -> Recording:
        """Return the recording of one subject.

        Parameters
        ----------
        subject : int
            The number that replaces ``{subject}`` in the paths.

        Raises
        ------
        DataError
            If a file is missing or cannot be read, or the numbers of files, rows and volumes do not match.
        UsageError
            If a path has anything else than the subject in braces.
        """
        assert self.bold is not None
        bold = find_files("dataset.bold", self.bold, subject)
        headers = [read_nifti_header(file) for file in bold]
        t_r = find_t_r(headers) if self.t_r is None else float(self.t_r)
        if self.events is not None:
            labels_files = find_files("dataset.events", self.events, subject)
            labels = self._label_by_events(labels_files, headers, t_r)
        else:
            assert self.labels is not None
            labels_files = find_files("dataset.labels", self.labels, subject)
            labels = read_labels(labels_files, headers)
        return Recording(
            dataset="nifti",
            subject=subject,
            bold=bold[0] if len(bold) == 1 else bold,
            labels=labels,
            labels_file=labels_files[0] if len(labels_files) == 1 else labels_files,
            masks=find_masks(self.masks, subject),
            anat=None if self.anat is None else find_file("dataset.anat", self.anat, subject),
            t_r=t_r,
            confounds=self._read_confounds(subject, labels["run"]),
            notice=self._notice(subject),
            space=self.space,
        )

    def _label_by_events(
        self, files: Sequence[Path], headers: Sequence[NiftiHeader], t_r: float | None
    ) -> pd.DataFrame:
        if len(files) != len(headers) or not all(header.is_series for header in headers):
            kind = "4D" if all(header.is_series for header in headers) else "3D"
            raise DataError(
                f"dataset.events are {len(files)} files, the first {files[0]}, and dataset.bold "
                f"{len(headers)} {kind} images, the first {headers[0].path}; expected one 4D image "
                "and one events file per run, or dataset.labels with a row per volume"
            )
        if t_r is None:
            raise DataError(
                f"{headers[0].path} has no repetition time in seconds in its header, which assigns events to "
                "volumes; set it, for example dataset.t_r=2"
            )
        counts = [header.n_volumes for header in headers]
        return label_runs(files, range(len(files)), counts, t_r, self.events_column, self.trial_types)

    def _read_confounds(self, subject: int, runs: pd.Series) -> pd.DataFrame | None:
        if self.confounds is None:
            return None
        files = find_files("dataset.confounds", self.confounds, subject)
        counts = runs.groupby(runs, sort=False).size().tolist()
        if len(files) != len(counts):
            raise DataError(
                f"dataset.confounds are {len(files)} files, the first {files[0]}, for {len(counts)} runs; "
                "expected one per run"
            )
        return read_confounds(files, counts)

    def _notice(self, subject: int) -> str | None:
        paths = [self.bold] if isinstance(self.bold, str | Path) else list(self.bold or [])
        if any("{subject" in str(path) for path in paths):
            return None
        return f"dataset.bold has no {{subject}}: every subject has the same images, here called {subject}."


def find_t_r(headers: Sequence[NiftiHeader]) -> float | None:
    """Return the repetition time of all images in seconds, None if no header has it; they must be equal."""
    for header in headers[1:]:
        if header.t_r != headers[0].t_r:
            raise DataError(
                f"the repetition times of runs differ: {headers[0].t_r} s in {headers[0].path}, "
                f"{header.t_r} s in {header.path}; set the right one, for example dataset.t_r=2"
            )
    return headers[0].t_r


def read_labels(files: Sequence[Path], headers: Sequence[NiftiHeader]) -> pd.DataFrame:
    """Read the condition and the run of every volume.

    Parameters
    ----------
    files : sequence of Path
        Tables, in the order of time.
    headers : sequence of NiftiHeader
        Headers of the labelled images.

    Raises
    ------
    DataError
        If a table cannot be read, a row is incomplete, or an image has another number of volumes than rows.
    """
    parts = []
    for file in files:
        table = read_table(file, ["condition"])
        for line, condition in table["condition"].items():
            if is_missing(condition):
                raise DataError(
                    f"{file}, line {line}: condition is {condition!r}; expected a name in every row, for "
                    "example face, or rest if there is no stimulus"
                )
        parts.append(pd.DataFrame({"condition": table["condition"], "run": _number_runs(table, file)}))
    labels = pd.concat(parts, ignore_index=True).astype({"condition": str})
    without = [file for file, part in zip(files, parts, strict=True) if part["run"].isna().any()]
    if 0 < len(without) < len(files):
        raise DataError(f"{without[0]} has no column 'run', and other tables have one; add or remove it")
    if without:
        labels["run"] = _runs_of_files(files, [len(part) for part in parts], headers)
    else:
        _refuse_shared_runs(parts, files)
    labels = labels.astype({"run": int})
    _check_counts(labels, files, headers)
    return labels


def _number_runs(table: pd.DataFrame, file: Path) -> Sequence[int | None]:
    """Return the column ``run`` as integers, or None for every row if there is no such column."""
    if "run" not in table:
        return [None] * len(table)
    for line, run in table["run"].items():
        if not re.fullmatch("[0-9]{1,9}", run):
            raise DataError(f"{file}, line {line}: run is {run!r}; expected a whole number, for example 0")
    return table["run"].astype(int).tolist()


def _refuse_shared_runs(parts: Sequence[pd.DataFrame], files: Sequence[Path]) -> None:
    """Refuse tables with the same run number, whose runs would become one."""
    homes: dict[int, Path] = {}
    for part, file in zip(parts, files, strict=True):
        for run in part["run"].unique().tolist():
            if homes.setdefault(run, file) != file:
                raise DataError(
                    f"{homes[run]} and {file} both have a run {run}; expected another number for every run, "
                    "or tables of one run each without the column 'run'"
                )


def _runs_of_files(
    files: Sequence[Path], n_rows: Sequence[int], headers: Sequence[NiftiHeader]
) -> np.ndarray:
    """Return runs counted by the tables, or else by the images."""
    if len(files) > 1:
        return np.repeat(np.arange(len(files)), n_rows)
    counts = [header.n_volumes for header in headers]
    if len(headers) == 1 or not all(header.is_series for header in headers):
        raise DataError(
            f"{files[0]} has no column 'run'; expected a whole number in every row, because one image, "
            f"{headers[0].path}, does not show where a run ends"
        )
    if sum(counts) != n_rows[0]:
        raise _unequal(files, n_rows[0], headers)
    return np.repeat(np.arange(len(headers)), counts)


def _check_counts(labels: pd.DataFrame, files: Sequence[Path], headers: Sequence[NiftiHeader]) -> None:
    """Check that all images, and each of several runs, have as many volumes as rows."""
    name = describe_files(tuple(files))
    runs = labels["run"].to_numpy()
    starts = np.flatnonzero(np.diff(runs, prepend=-1))
    ids = runs[starts]
    if len(labels) != sum(header.n_volumes for header in headers):
        raise _unequal(files, len(labels), headers)
    if len(headers) == 1 or not any(header.is_series for header in headers) or len(set(ids)) < len(ids):
        return  # `Recording` refuses a run in two pieces
    if len(ids) != len(headers):
        raise DataError(
            f"{name} has {len(ids)} runs, and dataset.bold is {len(headers)} images, the first "
            f"{headers[0].path}; expected one image, or one per run"
        )
    counts = np.diff(starts, append=len(runs))
    for run, count, header in zip(ids, counts, headers, strict=True):
        if count != header.n_volumes:
            raise DataError(
                f"{name} has {count} rows for run {run}, but {header.path} has {header.n_volumes} "
                "volumes; expected one row per volume, and the images in the order of the runs"
            )


def _unequal(files: Sequence[Path], n_rows: int, headers: Sequence[NiftiHeader]) -> DataError:
    n_volumes = sum(header.n_volumes for header in headers)
    images = describe_files(tuple(header.path for header in headers))
    return DataError(
        f"{describe_files(tuple(files))} has {n_rows} rows, but {images} has {n_volumes} volumes; expected "
        "one row per volume"
    )
