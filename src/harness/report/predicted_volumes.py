"""The figure of single held-out volumes of a decoding with true and predicted class."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from nibabel.affines import apply_affine

from harness.datasets.images import average_volumes, digest_files
from harness.decoding.decode import Decoding
from harness.errors import DataError
from harness.report.canvas import new_figure
from harness.report.captions import describe_data, describe_method, draw_caption
from harness.report.map_figures import find_peak
from harness.report.volume_figures import (
    LINE_HEIGHT,
    ShownVolume,
    find_display,
    measure_panel,
    place_grid,
)
from harness.samples.blocks import find_blocks
from harness.samples.contrasts import file_word
from harness.samples.samples import choose_volumes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_CLASSES = 8
CHOICES = ("most certain correct", "least certain", "most certain wrong")
WIDTH = 7.8  # inches
LINES = 4  # of a title
CORRECT, WRONG = ("#56B4E9", "solid"), ("#D55E00", "dashed")
RULE = (
    "Per true class: the most certain correct and wrong predictions of all folds, and the least certain "
    "other one. Frame: solid, correct; dashed, wrong."
)


def choose_predictions(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Choose single predictions, up to three per true class of the first eight classes.

    They are the correct and the wrong one with the largest certainty, and of the others the one with the
    smallest; of equal ones the first row. Certainty is the absolute decision value, with more than two
    classes the difference of the two largest.

    Parameters
    ----------
    predictions : DataFrame, one row per held-out volume and fold
        See `harness.decoding.evaluation.Evaluation`.

    Returns
    -------
    chosen : DataFrame
        Rows of `predictions` with a column ``choice``, one of `CHOICES`.
    """
    certainty = _measure_certainty(predictions)
    is_correct = (predictions["class"].astype(str) == predictions["predicted"].astype(str)).to_numpy()
    rows: list[int] = []
    choices: list[str] = []
    for name in classes[:MAX_CLASSES]:
        is_free = (predictions["class"].astype(str) == name).to_numpy(copy=True)
        for choice, is_candidate, ordered in (
            (CHOICES[0], is_correct, -certainty),
            (CHOICES[2], ~is_correct, -certainty),
            (CHOICES[1], np.ones_like(is_correct), certainty),
        ):
            candidates = np.flatnonzero(is_free & is_candidate)
            if len(candidates):
                row = int(candidates[np.argmin(ordered[candidates])])
                rows.append(row)
                choices.append(choice)
                is_free[row] = False
    return predictions.iloc[rows].assign(choice=choices)


def _measure_certainty(predictions: pd.DataFrame) -> np.ndarray:
    if "decision_value" in predictions:
        return predictions["decision_value"].abs().to_numpy(dtype=float)
    columns = [name for name in predictions.columns if name.startswith("decision_value_")]
    values = np.sort(predictions[columns].to_numpy(dtype=float), axis=1)
    return values[:, -1] - values[:, -2]


def draw_predicted_volumes(decoding: Decoding, file: Path) -> None:
    """Draw single held-out volumes as recorded, in the plane of the largest weight, as a PNG.

    The recording is read again, since a run keeps the voxels of its mask only.

    Raises
    ------
    DataError
        If the recording cannot be read, or is no longer the one that was decoded.
    """
    chosen = choose_predictions(decoding.predictions, decoding.samples.contrast.classes)
    members = find_members(decoding, chosen["volume"].tolist())
    volumes = average_volumes(decoding.recording.bold, members)
    if digest_files(decoding.recording.bold) != decoding.samples.image_digest:
        raise DataError("the image was changed after it was decoded")
    shape, affine = volumes[0].shape, decoding.samples.grid.affine
    display = find_display(shape, affine, find_plane(decoding), "z")
    n_rows = chosen["class"].nunique()
    width = WIDTH / len(CHOICES)
    row = (width - 0.1) * measure_panel(shape, affine, display[0]) + (LINES + 1) * LINE_HEIGHT
    height = row * n_rows + 1.0
    with new_figure(file, (WIDTH, height)) as figure:
        title = f"Single held-out volumes, {describe_data(decoding)}"
        draw_caption(figure, title, describe_method(decoding), f"{RULE} {describe_volumes(decoding)}")
        place_predictions(figure, chosen, volumes, members, affine, display)


def find_members(decoding: Decoding, volumes: Sequence[int]) -> list[list[int]]:
    """Return the volumes that the samples consist of: themselves, or the selected ones of their block.

    Parameters
    ----------
    volumes : sequence of int
        Indices of predictions, which are those of the first volume of a block where blocks are averaged.
    """
    question = decoding.question
    if not question.signal.average_blocks:
        return [[int(volume)] for volume in volumes]
    recording = decoding.recording
    selected, _, conditions = choose_volumes(recording, question.contrast, question.signal)
    blocks = find_blocks(conditions, recording.labels["run"].to_numpy())[selected]
    places = [np.flatnonzero(selected == volume)[0] for volume in volumes]
    return [selected[blocks == blocks[place]].tolist() for place in places]


def find_plane(decoding: Decoding) -> tuple[float, ...]:
    """Return the position of the largest weight, in mm; without weights, the centre of the mask."""
    if decoding.weights:
        return find_peak(decoding.weights[0].mean)
    grid = decoding.samples.grid
    return tuple(float(mm) for mm in apply_affine(grid.affine, np.argwhere(grid.mask).mean(axis=0)))


def place_predictions(
    figure: "Figure",
    chosen: pd.DataFrame,
    volumes: Sequence[np.ndarray],
    members: Sequence[Sequence[int]],
    affine: np.ndarray,
    display: tuple[str, Sequence[float]],
) -> None:
    """Draw chosen predictions into a figure: a row per true class, a column per choice."""
    names = list(dict.fromkeys(chosen["class"].astype(str)))
    shown: list[ShownVolume | None] = [None] * (len(names) * len(CHOICES))
    for record, values, indices in zip(chosen.to_dict("records"), volumes, members, strict=True):
        place = names.index(str(record["class"])) * len(CHOICES) + CHOICES.index(record["choice"])
        frame = CORRECT if str(record["class"]) == str(record["predicted"]) else WRONG
        shown[place] = ShownVolume(values, title_prediction(record, indices), frame)
    height = figure.get_size_inches()[1]
    area = (0.45 / height, 1 - 0.55 / height)
    place_grid(figure, shown, affine, display, (len(names), len(CHOICES)), lines=LINES, area=area)


def title_prediction(record: Mapping[Hashable, Any], indices: Sequence[int]) -> tuple[str, ...]:
    """Return the lines of a title: choice, volume, true and predicted class, decision value.

    Parameters
    ----------
    record : mapping
        A row of `choose_predictions`.
    indices : sequence of int
        The volumes that were averaged.
    """
    true, predicted = str(record["class"]), str(record["predicted"])
    what = f"volume {indices[0]}" if len(indices) == 1 else f"mean of volumes {indices[0]}-{indices[-1]}"
    name = "decision_value"
    if name not in record:
        name = f"decision_value_{file_word(predicted)}"
    of_class = "" if name == "decision_value" else f" of {predicted}"
    return (
        str(record["choice"]),
        f"{what}, scanner run {record['run']}, fold {record['fold']}",
        f"true: {true}, predicted: {predicted} ({'correct' if true == predicted else 'WRONG'})",
        f"decision value{of_class}: {float(record[name]):.3f}",
    )


def describe_volumes(decoding: Decoding) -> str:
    """Return what the pictures and the decision values are."""
    classes = decoding.samples.contrast.classes
    sentences = ["Volumes as recorded, before cleaning and standardisation."]
    if decoding.question.signal.average_blocks:
        sentences = ["Means over the selected volumes of a block, as recorded."]
    if len(classes) == 2:
        sentences.append(f"Decision values above 0: {classes[0]}.")
    if len(classes) > MAX_CLASSES:
        sentences.append(f"The first {MAX_CLASSES} of {len(classes)} classes.")
    return " ".join(sentences)
