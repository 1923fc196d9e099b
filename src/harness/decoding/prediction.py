"""Predictions of a stored decoder for new volumes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from harness.datasets.haxby import read_labels as read_haxby_labels
from harness.datasets.headers import NiftiHeader, read_nifti_header
from harness.datasets.nifti import read_labels
from harness.datasets.recording import Recording
from harness.datasets.tables import read_confounds, read_table
from harness.decoding.prediction_notices import list_notices
from harness.decoding.stored_decoder import PredictionError, StoredDecoder
from harness.errors import DataError, DesignError, UsageError
from harness.samples.blocks import average_blocks, find_blocks, shift_conditions, trim_blocks
from harness.samples.confounds import select_confounds
from harness.samples.signal import Signal, clean_runs
from harness.samples.smoothing import mask_smoothed
from harness.samples.volumes import MaskedVolumes, read_masked

UNKNOWN = ""  # condition of a volume without a label


@dataclass(frozen=True, eq=False)
class NewVolumes:
    """Images to predict, and the tables that describe their volumes.

    Attributes
    ----------
    images : tuple of Path
        In order of time. Each is a scanner run of its own unless a table says otherwise.
    together : bool
        Whether the volumes of all images are standardised together where the decoder standardises predicted
        volumes by their own mean and SD, and not those of each image.
    labels : Path or None
        Table with one row per volume of all images: ``condition``, and ``run`` if an image holds several
        scanner runs. Only the volumes of the contrast are predicted, chosen as for the training.
    runs : Path or None
        Instead of `labels`: a table with the column ``run``.
    confounds : tuple of Path
        One table per scanner run.
    t_r : float or None
        Repetition time in seconds, if the images' headers have none.
    """

    images: tuple[Path, ...]
    together: bool = False
    labels: Path | None = None
    runs: Path | None = None
    confounds: tuple[Path, ...] = ()
    t_r: float | None = None


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of new volumes.

    Attributes
    ----------
    table : DataFrame, one row per predicted volume, or per block if blocks are averaged
        ``image``, ``volume`` (in its image, from 0; of a block the first), ``run``, with labels ``condition``
        and ``class``, then ``predicted`` and the decision values: above 0 is evidence for the contrast's
        first class; for more than two classes one column per class.
    notices : tuple of str
        What limits the interpretation.
    """

    table: pd.DataFrame
    notices: tuple[str, ...]

    def with_notices(self, notices: Sequence[str]) -> "Predictions":
        """Return the same predictions with more notices."""
        return replace(self, notices=(*self.notices, *notices))

    @property
    def accuracy(self) -> float | None:
        """Share of correctly predicted volumes; None without labels."""
        if "class" not in self.table:
            return None
        return float((self.table["class"] == self.table["predicted"]).mean())


def predict_volumes(decoder: StoredDecoder, new: NewVolumes) -> Predictions:
    """Prepare new volumes as those of the training were prepared, and predict them.

    Raises
    ------
    DataError
        If a file is missing or damaged, or volumes do not fit the decoder.
    DesignError
        If volumes cannot be cleaned as those of the training were, or none is of the contrast.
    UsageError
        If a table is missing, or has no effect.
    """
    try:
        decoder.require_applicable()
        headers = [read_nifti_header(image) for image in new.images]
        for header in headers:
            decoder.check_space(str(header.path), header.shape, header.affine)
        _check_tables(decoder, new)
        described = _describe_volumes(decoder, new, headers)
        t_r = _find_t_r(decoder, new, headers)
        confounds = _read_confounds(new, described)
        parts = [
            _predict_set(decoder, images, described.iloc[rows], t_r, confounds)
            for images, rows in _list_sets(decoder, new, described)
        ]
    except PredictionError as error:
        raise DataError(str(error)) from error
    table = pd.concat([part for part, _ in parts], ignore_index=True)
    if new.labels is None:
        table = table.drop(columns=["condition", "class"])
    if table.empty:
        raise DesignError(
            f"{new.labels}: no volume is of the conditions of the contrast "
            f"({', '.join(_class_of_condition(decoder))}); conditions there: "
            f"{', '.join(sorted(described['condition'].unique())[:20])}"
        )
    digests = [digest for _, digest in parts]
    notices = list_notices(
        decoder,
        table,
        shortest_run=int(described.groupby(["image", "run"]).size().min()),
        together=new.together,
        digests=digests,
    )
    return Predictions(table, tuple(notices))


def _check_tables(decoder: StoredDecoder, new: NewVolumes) -> None:
    settings = decoder.settings
    if new.labels is not None and new.runs is not None:
        raise UsageError("--labels and --runs both name the scanner runs; give the column run in --labels")
    if settings["confounds"] and not new.confounds:
        raise UsageError(
            f"the decoder was trained on volumes from which {', '.join(settings['confounds'])} had been "
            "regressed out; give the same columns of the new volumes with --confounds FILE, one per scanner "
            "run"
        )
    if new.confounds and not settings["confounds"]:
        raise UsageError(
            f"--confounds {new.confounds[0]} has no effect: the decoder was trained without confounds; leave "
            "it out"
        )
    if settings["selection"]["average_blocks"] and new.labels is None:
        raise UsageError(
            "the decoder was trained on averages of blocks (signal.average_blocks=true), which cannot be "
            "found without the conditions; give them with --labels FILE"
        )
    if new.together and decoder.zscore != "own":
        raise UsageError(
            f"--together has no effect with signal.zscore={decoder.zscore}, by which no image influences "
            "another; leave it out"
        )


def _describe_volumes(
    decoder: StoredDecoder, new: NewVolumes, headers: Sequence[NiftiHeader]
) -> pd.DataFrame:
    """Return image, volume in its image, run and condition of every volume."""
    counts = [header.n_volumes for header in headers]
    if new.labels is not None:
        is_haxby = new.labels.name.endswith(".txt")  # the labels of its subjects
        table = read_haxby_labels(new.labels) if is_haxby else read_labels([new.labels], headers)
        source: Path | None = new.labels
    elif new.runs is not None:
        table, source = _read_runs(new.runs), new.runs
    else:
        runs = np.repeat(np.arange(len(headers)), counts)
        table, source = pd.DataFrame({"condition": UNKNOWN, "run": runs}), None
    if len(table) != sum(counts):
        raise DataError(
            f"{source} has {len(table)} rows, but the images have {sum(counts)} volumes; expected one "
            "row per volume of all images, in their order"
        )
    return pd.DataFrame(
        {
            "image": np.repeat([str(image) for image in new.images], counts),
            "volume": np.concatenate([np.arange(count) for count in counts]),
            "run": table["run"].to_numpy(),
            "condition": table["condition"].to_numpy(dtype=str),
        }
    )


def _read_runs(file: Path) -> pd.DataFrame:
    table = read_table(file, ["run"])
    for line, run in table["run"].items():
        if not (run.isdecimal() and run.isascii() and len(run) < 10):
            raise DataError(f"{file}, line {line}: run is {run!r}; expected a whole number, for example 0")
    return pd.DataFrame({"condition": UNKNOWN, "run": table["run"].astype(int).to_numpy()})


def _find_t_r(decoder: StoredDecoder, new: NewVolumes, headers: Sequence[NiftiHeader]) -> float | None:
    """Return the repetition time of all images, which filters need."""
    cleaning = decoder.settings["cleaning"]
    if cleaning["high_pass"] is None and cleaning["low_pass"] is None:
        if new.t_r is not None:
            raise UsageError(
                f"--t-r {new.t_r:g} has no effect: the decoder was trained on volumes without a "
                "filter; leave it out"
            )
        return None
    for header in headers:
        t_r = header.t_r if new.t_r is None else new.t_r
        if t_r is None:
            raise DataError(
                f"{header.path} has no repetition time with a unit in its header, but the decoder was "
                f"trained on filtered volumes with {decoder.settings['t_r']:g} s; give it with --t-r SECONDS"
            )
        decoder.check_t_r(str(header.path), t_r)
    return float(decoder.settings["t_r"])


def _read_confounds(new: NewVolumes, described: pd.DataFrame) -> pd.DataFrame | None:
    """Return the confounds of every volume of all images."""
    if not new.confounds:
        return None
    counts = described.groupby(["image", "run"], sort=False).size().tolist()
    if len(new.confounds) != len(counts):
        raise UsageError(
            f"--confounds names {len(new.confounds)} tables, but there are {len(counts)} scanner runs; "
            "expected one table per scanner run"
        )
    return read_confounds(new.confounds, counts)


def _list_sets(
    decoder: StoredDecoder, new: NewVolumes, described: pd.DataFrame
) -> Iterator[tuple[tuple[Path, ...], slice]]:
    """Yield the images that are prepared together, and the rows of their volumes."""
    if decoder.zscore != "own" or new.together:
        yield new.images, slice(0, len(described))
        return
    first = 0
    for image, count in zip(new.images, _count_volumes(described), strict=True):
        yield (image,), slice(first, first + count)
        first += count


def _predict_set(
    decoder: StoredDecoder,
    images: tuple[Path, ...],
    described: pd.DataFrame,
    t_r: float | None,
    confounds: pd.DataFrame | None,
) -> tuple[pd.DataFrame, str]:
    """Predict the volumes of one set of images; return them and the digest of the images."""
    masked = _read_volumes(decoder, images)
    for name, rows in described.reset_index().groupby("image").indices.items():
        decoder.check_finite(str(name), masked.data[rows])
    data = _clean(decoder, masked.data, described, t_r, confounds)
    chosen, conditions = _choose_rows(decoder, described)
    X = np.ascontiguousarray(data[chosen])
    table = described.iloc[chosen].assign(condition=conditions[chosen])
    table["class"] = table["condition"].map(_class_of_condition(decoder))
    if not len(chosen):
        return table, masked.digest
    if decoder.settings["selection"]["average_blocks"]:
        blocks = find_blocks(conditions, described["run"].to_numpy())
        X, first = average_blocks(X, blocks[chosen])
        table = table.iloc[first]
    if decoder.zscore == "own":
        decoder.check_scaling(_name_images(images), X)
    return table.assign(**decoder.predict(X)), masked.digest


def _read_volumes(decoder: StoredDecoder, images: tuple[Path, ...]) -> MaskedVolumes:
    """Read the voxels of the decoder as those of the training were read."""
    mask, affine, name = decoder.mask, decoder.affine, "the decoder"
    dtype = np.float32 if decoder.settings["dtype"] == "float32" else None
    files = images[0] if len(images) == 1 and read_nifti_header(images[0]).is_series else images
    fwhm = decoder.settings["cleaning"]["smoothing_fwhm"]
    if fwhm is not None:
        return mask_smoothed(files, mask, affine, fwhm, mask_name=name, dtype=dtype)
    return read_masked(files, mask, affine, mask_name=name, dtype=dtype)


def _clean(
    decoder: StoredDecoder,
    data: np.ndarray,
    described: pd.DataFrame,
    t_r: float | None,
    confounds: pd.DataFrame | None,
) -> np.ndarray:
    """Clean the volumes of whole scanner runs as those of the training were cleaned."""
    settings = decoder.settings
    signal = Signal(decoder.zscore, **settings["cleaning"], confounds=settings["confounds"] or None)
    if not signal.cleans_runs or settings["kind"] == "dummy":
        return data
    labels = described[["condition", "run"]].reset_index(drop=True)
    runs, images = labels["run"].to_numpy(), described["image"].to_numpy()
    name = _name_images([Path(image) for image in dict.fromkeys(images.tolist())])
    for run in dict.fromkeys(runs.tolist()):
        first = images[runs == run][0]
        where = first if len(set(runs[images == first].tolist())) == 1 else f"{first}, run {run}"
        decoder.check_scaling(where, data[runs == run])
    recording = Recording(
        dataset=name,
        subject=settings["trained_on"]["subject"],
        bold=(),
        labels=labels,
        labels_file=Path(name),
        masks={},
        t_r=t_r,
        confounds=None if confounds is None else confounds.loc[described.index].reset_index(drop=True),
    )
    return clean_runs(data, runs, signal, recording, select_confounds(signal, recording, runs))


def _choose_rows(decoder: StoredDecoder, described: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the volumes that are predicted, and the condition of every volume, as for the training.

    All of them where no condition is known; else those of the contrast, delayed and trimmed.
    """
    shown, runs = described["condition"].to_numpy(dtype=str), described["run"].to_numpy()
    if (shown == UNKNOWN).all():
        return np.arange(len(shown)), shown
    selection = decoder.settings["selection"]
    conditions = shift_conditions(shown, runs, selection["lag"])
    kept = trim_blocks(conditions, runs, selection["trim_first"], selection["trim_last"])
    return np.flatnonzero(kept & np.isin(conditions, list(_class_of_condition(decoder)))), conditions


def _class_of_condition(decoder: StoredDecoder) -> dict[str, str]:
    return {member: name for name, members in decoder.settings["contrast"].items() for member in members}


def _count_volumes(described: pd.DataFrame) -> list[int]:
    """Return the number of volumes of every image; a volume 0 begins one."""
    starts = np.flatnonzero(described["volume"] == 0)
    return np.diff(starts, append=len(described)).tolist()


def _name_images(images: Sequence[Path]) -> str:
    return str(images[0]) if len(images) == 1 else f"{images[0]} and {len(images) - 1} more"
