"""What a report on a sweep shows of its searchlight maps over subjects, from the stored group runs."""

import io
import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.comparison.group_map_record import OVER_VOXELS, TESTS
from harness.errors import TrackingError, first_line
from harness.inference.corrections import format_p
from harness.report.report_page import Block, DataTable, Drawing, Text
from harness.searchlight.descriptions import describe_within
from harness.tracking.stored_run import StoredRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECORD = "group_maps.json"
SIZE = (7.0, 4.42)  # inches, in the proportions of the figure of a group run
METHODS = (
    "Over subjects, maps were tested by permutation of means (the mean over subjects of the standardised "
    "statistic, against means of one relabelled map of every subject, corrected over voxels by the "
    "distribution of the maximum) and by permutation-based prevalence inference (the smallest statistic over "
    "subjects under the same combinations); null hypotheses: {nulls}."
)


def select_group_maps(runs: Sequence[StoredRun]) -> list[StoredRun]:
    """Return those group runs that are of searchlight maps."""
    return [run for run in runs if run.has_file(RECORD)]


def show_group_maps(runs: Sequence[StoredRun]) -> list[Block]:
    """Return the table, the notes, the figure and the place of the files of stored maps over subjects."""
    rows: list[dict[str, object]] = []
    figures: list[Block] = []
    notes: list[str] = []
    nulls: dict[str, str] = {}
    for run in runs:
        try:
            record: dict[str, Any] = json.loads(run.read_file(RECORD))
            contrast, tests = str(record["settings"]["contrast"]), record["tests"]
            row = {"maps": run.name, "subjects": record["n"], "highest mean score": record["max_mean_score"]}
            for name, found in tests.items():
                words = TESTS.get(name, name)
                row[words] = f"{found['n_corrected']} voxels, smallest p {format_p(found['smallest_p'])}"
                nulls[words] = str(found["null_hypothesis"])
            notes += [f"{run.name}: {note}" for note in record["notes"]]
        except (TrackingError, ValueError, KeyError, TypeError) as error:
            notes.append(f"{RECORD} of run {run.title} cannot be read: {first_line(error)}")
            continue
        rows.append(row)
        try:
            picture = run.read_file(f"group_{contrast}.png")
        except TrackingError as error:
            notes.append(first_line(error))
        else:
            name = "group_maps" if not figures else f"group_maps_{len(figures) + 1}"
            words = f"Mean score over subjects: {run.name}."
            figures.append(Drawing(name, SIZE, partial(_draw, picture=picture), words, words))
    caption = f"Voxels with p <= .05, corrected. {OVER_VOXELS}. {describe_within()}"
    table = [DataTable(pd.DataFrame(rows).fillna("-"), caption)] if rows else []
    described = "; ".join(f"{name}: {words}" for name, words in nulls.items())
    places = [Text(f"Files: MLflow run {run.title} of the experiment of the groups.", "note") for run in runs]
    methods = [Text(METHODS.format(nulls=described))] if TESTS["means"] in nulls else []
    return [*table, *(Text(note, "note") for note in dict.fromkeys(notes)), *figures, *places, *methods]


def _draw(figure: "Figure", picture: bytes) -> None:
    from matplotlib.image import imread

    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(imread(io.BytesIO(picture), format="png"))
    axes.set_axis_off()
