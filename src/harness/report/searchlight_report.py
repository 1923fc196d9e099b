"""The report of one searchlight: its map, peaks, test, audit and methods."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd

from harness.checks.findings import Verdict
from harness.inference.corrections import ALPHA, format_p
from harness.report.map_figures import StoredImages, find_flat_axis, view_aspect
from harness.report.methods_facts import MethodFacts, Methods
from harness.report.report_page import (
    Block,
    DataTable,
    Drawing,
    Frame,
    Section,
    Text,
    make_section,
    write_number,
    write_score,
    write_words,
)
from harness.report.run_record import RunRecord
from harness.report.run_sections import describe_audit, describe_methods, list_run_files
from harness.report.score_map import ScoreMap, draw_score_maps, render_score_view
from harness.report.searchlight_artifacts import MAXIMA, PEAKS
from harness.report.searchlight_figures import draw_maximum_nulls
from harness.report.searchlight_methods import write_searchlight_methods
from harness.report.searchlight_summary import describe_null
from harness.searchlight.descriptions import (
    describe_correction,
    describe_within,
    name_correction,
    name_relabellings,
)
from harness.tracking.queries import COMPARED_PARAMS
from harness.tracking.stored_map import StoredMap, read_map, read_record
from harness.tracking.stored_run import StoredRun
from harness.tracking.tags import AUDIT_TAG, NOTICES_TAG

MAX_PEAKS = 20
VIEW = {"black_bg": False, "dim": 0, "width_view": 800}
PEAK_WORDS = {
    "x_mm": "x (mm)",
    "y_mm": "y (mm)",
    "z_mm": "z (mm)",
    "p": "p (not corrected)",
    "p_fwe": "p corrected",
    "n_voxels": "voxels of the sphere",
    "cluster_mm3": "cluster (mm^3)",
}


def describe_searchlight_run(run: StoredRun, images: StoredImages | str) -> tuple[str, str, list[Section]]:
    """Return title, subtitle and sections of the report of a searchlight."""
    record = RunRecord(run, images)
    content = SearchlightBlocks(record)
    builders: dict[str, tuple[str, Callable[[], Sequence[Block]]]] = {
        "summary": ("Question and answer", content.answer),
        "map": ("Score map", content.map),
        "peaks": ("Peaks", content.peaks),
        "brain": ("Interactive brain", content.views),
        "test": ("Test of the map", content.test),
        "audit": ("Audit", partial(describe_audit, record)),
        "methods": ("Methods", content.methods),
        "files": ("Files and versions", partial(list_run_files, run)),
    }
    sections = [make_section(anchor, *entry) for anchor, entry in builders.items()]
    subtitle = f"run {run.run_id}, {run.started.isoformat(sep=' ', timespec='minutes')}"
    return run.name, subtitle, sections


def show_stored(found: StoredMap) -> ScoreMap:
    """Return the map of a stored searchlight as it is drawn."""
    return ScoreMap(
        scores=found.to_volume(found.scores),
        centres=found.to_volume(np.ones(len(found.voxels), dtype=bool)),
        affine=found.affine,
        significant=None if found.p is None else found.to_volume(found.p <= ALPHA),
        chance=found.record["chance"],
        unit=write_score(found.record["settings"]["scorer"]),
    )


@dataclass(frozen=True, eq=False)
class SearchlightBlocks:
    """The blocks of every section of a searchlight's report."""

    record: RunRecord

    @cached_property
    def found(self) -> dict[str, Any]:
        """Counts, thresholds and settings."""
        return read_record(self.record.run)

    @cached_property
    def shown(self) -> ScoreMap:
        """The score map."""
        return show_stored(read_map(self.record.run))

    @property
    def correction(self) -> str:
        """The correction that thresholds the map."""
        return str(self.found["settings"]["correction"])

    def answer(self) -> list[Block]:
        """Return question and answer in words, and the settings."""
        params, found, settings = self.record.run.params, self.found, self.found["settings"]
        classes = " vs ".join(found["classes"])
        question = (
            f"Where in {write_words(params.get('roi', '?'))} of subject {params.get('subject', '?')} "
            f"({write_words(params.get('dataset', '?'))}) do spheres of {settings['radius']:g} mm "
            f"distinguish {write_words(classes)}?"
        )
        blocks: list[Block] = [Text(question, "lead"), Text(self._describe_answer())]
        notices = self.record.run.tags.get(NOTICES_TAG, "").splitlines()
        blocks += [Text(notice, "notice") for notice in notices]
        facts = {key: params[key] for key in COMPARED_PARAMS if params.get(key)}
        sizes = found["sphere_sizes"]
        facts |= {
            "radius": f"{settings['radius']:g} mm",
            "spheres": str(found["n_spheres"]),
            "voxels of a sphere": f"{sizes['smallest']} to {sizes['largest']}, median {sizes['median']:g}",
            "centres left out": f"{found['n_small']} (fewer than {settings['min_voxels']} voxels)",
            "voxels that spheres take": str(found["n_voxels"]),
            "volumes decoded": str(found["n_samples"]),
            "folds": str(found["n_folds"]),
        }
        table = pd.DataFrame({"setting": list(facts), "value": list(map(str, facts.values()))})
        return [*blocks, DataTable(table, "The run.")]

    def _describe_answer(self) -> str:
        scorer, found = self.found["settings"]["scorer"], self.found
        scores = found["scores"][scorer]
        text = f"Highest {write_score(scorer)} {write_number(scores['max'])}, median "
        text += f"{write_number(scores['median'])}; nominal chance {found['chance']:.3f}. "
        if test := found.get("test"):
            if (null_mean := test.get("median_null_mean")) is not None:  # earlier versions have none
                is_leaky = self.record.run.tags.get(AUDIT_TAG) == Verdict.leak
                null = describe_null(null_mean, test["statistic"], is_leaky)
                text += f"{null[0].upper()}{null[1:]}. "
            chosen = test["corrections"][self.correction]
            text += f"{describe_correction(chosen['n_corrected'], found['n_spheres'], self.correction)}; "
            text += f"smallest corrected p {format_p(chosen['smallest_p'])}"
            text += f". {describe_within(self.correction)}"
        else:
            text += "The map is not tested: the highest of many scores is above chance without information."
        return f"{text} Audit: {self.record.run.tags.get(AUDIT_TAG) or 'not audited'}."

    def map(self) -> list[Block]:
        """Return the figure of the map."""
        shown, flat = self.shown, find_flat_axis(self.shown.image)
        images = self.record.images if isinstance(self.record.images, StoredImages) else None
        low, high = shown.limits
        caption = (
            f"{shown.unit[0].upper()}{shown.unit[1:]}, mean over folds, of the sphere around every voxel, "
            f"in slices through the highest score; white: chance ({shown.chance:.3g})."
        )
        if shown.significant is not None:
            n = int(shown.significant.sum())
            found = describe_correction(n, self.found["n_spheres"], self.correction)
            caption += f" {'Outlined: ' if n else ''}{found}. {describe_within(self.correction)}"
        figure = Drawing(
            "score_map",
            (7.0, 4.2) if flat is None else (5.6, 3.4),
            partial(_draw_map, shown=shown, images=images),
            f"Map of {self.found['n_spheres']} scores from {low:.3f} to {high:.3f} on slices of the brain.",
            f"{caption} {self.record.describe_background()} Left is left.",
        )
        return [figure]

    def peaks(self) -> list[Block]:
        """Return the table of the peaks."""
        table, rule = self.record.run.read_table(PEAKS), self.found["peaks"]["rule"]
        n = len(table)
        caption = f"Peaks of {self.found['peaks']['of']}, of clusters of voxels with {write_words(rule)}"
        caption += f"; the first {MAX_PEAKS} of {n}, all in {PEAKS}." if n > MAX_PEAKS else "."
        shown = table.head(MAX_PEAKS).rename(columns=PEAK_WORDS)
        return [DataTable(shown.rename(columns={name: write_words(name) for name in shown}), caption)]

    def views(self) -> list[Block]:
        """Return the interactive views of the score map and of the thresholded map."""
        images = self.record.images if isinstance(self.record.images, StoredImages) else None
        background = None if images is None else images.background
        maps = {"score map": self.shown.image}
        if self.shown.significant is not None and self.shown.significant.any():
            maps["scores with a corrected p of at most .05"] = self.shown.thresholded
        blocks: list[Block] = []
        for words, image in maps.items():
            blocks += [
                Text(f"{words[0].upper()}{words[1:]}; click to move through it."),
                Frame(
                    f"interactive view: {words}",
                    partial(render_score_view, image, self.shown, background, **VIEW),
                    view_aspect(image if background is None else background),
                ),
            ]
        return blocks

    def test(self) -> list[Block]:
        """Return the null distributions of the maximum, and what every correction found."""
        test = self.found.get("test")
        if test is None:
            return []
        maxima = self.record.run.read_columns(MAXIMA, tuple(test["corrections"]))
        rows = [
            (
                name_correction(name),
                item["observed_maximum"],
                np.nan if item["threshold"] is None else item["threshold"],
                item["n_corrected"],
                format_p(item["smallest_p"]),
                "thresholds the map" if name == self.correction else "",
            )
            for name, item in test["corrections"].items()
        ]
        columns = ["correction", "maximum", "threshold", "centres with p <= .05", "smallest p", ""]
        figure = Drawing(
            "maxima",
            (5.6, 0.8 + 1.4 * len(rows)),
            partial(
                draw_maximum_nulls,
                maxima=maxima,
                thresholds={name: item["threshold"] for name, item in test["corrections"].items()},
                smallest_p={name: item["smallest_p"] for name, item in test["corrections"].items()},
            ),
            f"Histograms of the maximum of the map under {test['n_relabellings'] - 1} relabellings.",
            "Maximum over the map under relabelling, and under the true labelling (blue). A corrected p is "
            "the share of relabellings whose maximum reaches the value of the voxel.",
        )
        which = name_relabellings(test["enumerated"])
        text = (
            f"Statistic: {write_score(test['statistic'])}, mean over folds, standardised in every sphere by "
            f"its mean and SD over {test['n_relabellings']} relabellings ({which}); smallest possible p "
            f"{format_p(test['smallest_p'])}."
        )
        notes: list[Block] = [Text(caution, "notice") for caution in test["cautions"]]
        return [Text(text), *notes, figure, DataTable(pd.DataFrame(rows, columns=columns))]

    def methods(self) -> list[Block]:
        """Return the methods text, to be copied."""

        def write(facts: MethodFacts) -> Methods:
            n = self.found.get("test", {}).get("n_relabellings")
            return write_searchlight_methods(replace(facts, n_relabellings=n), self.found)

        return describe_methods(write, self.record)


def _draw_map(figure: Any, shown: ScoreMap, images: StoredImages | None) -> None:
    draw_score_maps(figure, shown, None if images is None else images.background, top=0.02, bottom=0.01)
