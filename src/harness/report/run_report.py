"""The report of one run: what it asks, its scores, maps, predictions, audit and methods."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from harness.decoding.choices import Scorer
from harness.decoding.grid_scores import DESCRIPTIONS
from harness.decoding.scores import nominal_chance
from harness.errors import TrackingError
from harness.inference.corrections import format_p
from harness.report.grid_figure import can_draw_grid
from harness.report.map_figures import (
    StoredImages,
    choose_volumes,
    draw_maps,
    draw_volumes,
    render_view,
    view_aspect,
)
from harness.report.matrix_figures import count_confusions, draw_confusions, matrix_size
from harness.report.methods_text import write_methods
from harness.report.report_page import (
    Block,
    DataTable,
    Drawing,
    Frame,
    Section,
    Text,
    make_section,
    write_number,
    write_report,
    write_words,
)
from harness.report.run_record import RunRecord, list_score_words
from harness.report.run_sections import describe_audit, describe_methods, list_run_files
from harness.report.score_figures import (
    draw_folds,
    draw_grid_scores,
    draw_nulls,
)
from harness.report.searchlight_report import describe_searchlight_run
from harness.tracking.queries import COMPARED_PARAMS
from harness.tracking.stored_run import NULL_TABLE, StoredRun
from harness.tracking.tags import AUDIT_TAG, NOTICES_TAG, PRIMARY_TAG

N_PREDICTIONS = 12  # rows of the table that replaces the figure of volumes
VIEW = {"black_bg": False, "dim": 0, "width_view": 800}
MAPS = {"weights": "weights", "pattern": "activation pattern"}


def write_run_report(run: StoredRun, images: StoredImages | str, directory: Path) -> list[Path]:
    """Write the report of a finished run; see `harness.report.report_page.write_report`.

    Parameters
    ----------
    images : StoredImages or str
        The recording, or the reason why it is not available.

    Raises
    ------
    TrackingError
        If the run is not FINISHED.
    UsageError
        If the directory cannot be written.
    """
    run.require_finished()
    title, subtitle, sections = describe_run(run, images)
    return write_report(title, subtitle, sections, directory)


def describe_run(run: StoredRun, images: StoredImages | str) -> tuple[str, str, list[Section]]:
    """Return title, subtitle and sections of the report of a run; a section that cannot be read says why."""
    if run.is_searchlight:
        return describe_searchlight_run(run, images)
    record = RunRecord(run, images)
    content = DecodingBlocks(record)
    builders: dict[str, tuple[str, Callable[[], Sequence[Block]]]] = {
        "summary": ("Question and answer", content.answer),
        "scores": ("Scores per fold", content.scores),
        "confusion": ("Confusion matrix", content.confusion),
        "parameter": ("Score by parameter value", content.grid),
        "maps": ("Weights and activation patterns", content.maps),
        "brain": ("Interactive brain", content.views),
        "volumes": ("Single held-out volumes", content.volumes),
        "audit": ("Audit", partial(describe_audit, record)),
        "null": ("Null distribution", content.null),
        "methods": ("Methods", partial(describe_methods, write_methods, record)),
        "files": ("Files and versions", partial(list_run_files, run)),
    }
    sections = [make_section(anchor, *entry) for anchor, entry in builders.items()]
    subtitle = f"run {run.run_id}, {run.started.isoformat(sep=' ', timespec='minutes')}"
    return run.name, subtitle, sections


@dataclass(frozen=True, eq=False)
class DecodingBlocks:
    """The blocks of every section of a run's report."""

    record: RunRecord

    def answer(self) -> list[Block]:
        """Return question and answer in words."""
        params, tags = self.record.run.params, self.record.run.tags
        classes = " vs ".join(self.record.classes) or write_words(params.get("contrast", "?"))
        question = (
            f"Can {classes} be decoded from {write_words(params.get('roi', '?'))} of subject "
            f"{params.get('subject', '?')} ({write_words(params.get('dataset', '?'))})?"
        )
        blocks: list[Block] = [Text(question, "lead"), Text(self._describe_answer())]
        blocks += [Text(notice, "notice") for notice in tags.get(NOTICES_TAG, "").splitlines()]
        facts = {key: params[key] for key in COMPARED_PARAMS if params.get(key)}
        counts = {"n_samples": "volumes decoded", "n_voxels": "voxels", "n_folds": "folds"}
        facts |= {words: params[key] for key, words in counts.items() if key in params}
        table = pd.DataFrame({"setting": list(facts), "value": list(facts.values())})
        return [*blocks, DataTable(table, "The run.")]

    def _describe_answer(self) -> str:
        column = self.record.primary
        values = self.record.folds[column].astype(float)
        n = int(values.notna().sum())
        spread = f", SD {values.std():.3f} over {n} folds" if n > 1 else ", one fold, no SD"
        text = f"Mean {self.record.score_words.get(column, column)} {write_number(values.mean())}{spread}"
        p = self.record.run.metrics.get(f"p_value/{column}")
        if p is None:
            text += f"; not tested (nominal chance {nominal_chance(column, len(self.record.classes)):.3f})"
        else:
            text += f"; p = {format_p(p)} (permutation of block labels, one-sided)"
        verdict = self.record.run.tags.get(AUDIT_TAG)
        return f"{text}. Audit: {verdict or 'not audited'}."

    def scores(self) -> list[Block]:
        """Return the figure and the table of the scores per fold."""
        folds, words = self.record.folds, self.record.score_words
        if not words:
            raise TrackingError(f"folds.csv of run {self.record.run.title} has no scores")
        bands = {column: self.record.band(column) for column in words}
        by_run = "runs_held_out" in folds and folds["runs_held_out"].astype(str).str.len().max() <= 4
        labels = folds["runs_held_out" if by_run else "fold"].astype(str).tolist()
        what = "held-out scanner run" if by_run else "fold"
        means = "; ".join(f"{words[column]} {folds[column].mean():.3f}" for column in words)
        has_null = any(band.limits is not None for band in bands.values())
        band_words = (
            "The grey band is the 95 % range of the mean over folds under relabelled blocks, dotted its "
            "mean; single folds vary more."
            if has_null
            else "The dashed line is nominal chance (balanced classes), not a test."
        )
        figure = Drawing(
            "scores",
            (6.8 if len(words) > 1 else 4.4, 0.9 + 1.75 * -(-len(words) // 2)),
            partial(draw_folds, names=words, bands=bands, labels=labels, folds=folds, what=what),
            f"One point per fold and score, with the mean over folds. Means: {means}.",
            f"Scores per fold. Diamond: mean and SD over folds. {band_words} Test scores: parameters chosen "
            "without the held-out volumes; selected scores: on the scored fold, optimistic.",
        )  # fmt: skip
        summary = pd.DataFrame(
            {
                "score": list(words.values()),
                "mean": [folds[column].mean() for column in words],
                "SD": [folds[column].std() for column in words],
                "lowest": [folds[column].min() for column in words],
                "highest": [folds[column].max() for column in words],
                "p": [self.record.run.metrics.get(f"p_value/{column}", np.nan) for column in words],
                "chance": [bands[column].middle for column in words],
            }
        )
        caption = "SD over folds (n - 1). chance: mean of the null distribution, or nominal chance."
        if len(words) > 1 and summary["p"].notna().any():
            caption += " p-values of several scores are not corrected for their number."
        shown = folds.rename(columns=lambda column: column.replace("_", " "))  # headings that can wrap
        return [figure, DataTable(summary, caption), DataTable(shown, "All folds.")]

    def confusion(self) -> list[Block]:
        """Return the confusion matrix of the held-out volumes."""
        predictions = self.record.predictions
        found = sorted(set(predictions["class"].astype(str)) | set(predictions["predicted"].astype(str)))
        classes = self.record.classes if set(found) <= set(self.record.classes) else tuple(found)
        counts = count_confusions(predictions, classes)
        n, right = int(counts.sum()), int(np.trace(counts))
        table = pd.DataFrame(counts, columns=list(classes))
        table.insert(0, "true class", list(classes))
        cell = 0.75 if len(classes) <= 3 else 0.56
        figure = Drawing(
            "confusion",
            matrix_size(len(classes), len(classes), cell),
            partial(draw_confusions, counts=counts, classes=classes),
            f"Confusion matrix of {len(classes)} classes; {right} of {n} held-out volumes on its diagonal.",
            f"Held-out volumes of all folds, {right} of {n} predicted correctly ({right / max(n, 1):.1%}). "
            "Rows: true class; percentages: of the row.",
        )
        return [figure, DataTable(table, "Number of volumes by true (rows) and predicted class (columns).")]

    def grid(self) -> list[Block]:
        """Return the figure of the score by the value of a parameter; nothing where nothing was chosen."""
        if not self.record.run.has_file("grid_scores.csv"):
            return []
        table = self.record.run.read_table("grid_scores.csv")
        if table["value"].nunique() < 2:
            return []
        if "class" in table:  # in the order of the contrast, as in the other sections
            places = {label: place for place, label in enumerate(self.record.classes)}
            table = table.sort_values("class", key=lambda labels: labels.map(places), kind="stable")
        name, scorer = str(table["parameter"].iloc[0]), str(table["scorer"].iloc[0])
        if not can_draw_grid(table):
            means = table.groupby("value", sort=False)["score"].mean().reset_index()
            return [DataTable(means, f"Mean score over folds by {name}.")]
        # Estimators with a search of their own choose inside the training volumes.
        chosen = "The estimator chose by it, inside the training volumes."
        if scorer in list(Scorer):
            chosen = (
                "These choices make the selected scores; test scores come from choices inside the training "
                "volumes."
            )
        n_panels = table["class"].nunique() if "class" in table else 1
        rows = -(-n_panels // 4)
        figure = Drawing(
            "score_by_parameter",
            (min(7.0, 4.4 + 1.1 * (n_panels - 1)), 1.2 + 1.9 * rows),
            partial(draw_grid_scores, table=table),
            f"Score of every value of {name}; lines: folds, the thick line their mean.",
            f"{DESCRIPTIONS.get(scorer, scorer)}, by {name}. {chosen}",
        )
        return [figure]

    def maps(self) -> list[Block]:
        """Return the figure of weights and patterns; a sentence for a decoder without weights."""
        names = self.record.map_names
        if not names:
            return [Text("This run stores no weights: its estimator has none.")]
        rows = []
        for name in names:
            row = [
                (f"{words}: {write_words(name)}", self.record.run.read_image(f"{kind}_{name}.nii.gz"))
                for kind, words in MAPS.items()
                if self.record.run.has_file(f"{kind}_{name}.nii.gz")
            ]
            rows.append(row)
        images = self.record.images if isinstance(self.record.images, StoredImages) else None
        where = self.record.describe_background()
        figure = Drawing(
            "maps",
            (7.0, 1.75 * len(rows)),
            partial(draw_maps, maps=rows, images=images),
            "Weights and activation patterns of every class in three orthogonal slices, "
            f"{self.record.positive} in red.",
            f"Weights (left; mean over folds, per SD of the voxel) and activation pattern (right) in slices "
            f"through the largest weight; the weakest 70 % are left out. Red: {self.record.positive}; blue: "
            f"the other. {where} Weights show what the decoder uses, also to remove noise, and are not "
            "activation; patterns show where the signal covaries with the decoder's output (Haufe 2014).",
        )
        return [figure]

    def views(self) -> list[Block]:
        """Return the interactive views of weights and pattern."""
        frames: list[Block] = []
        images = self.record.images if isinstance(self.record.images, StoredImages) else None
        for name in self.record.map_names[:1]:
            for kind, words in MAPS.items():
                if self.record.run.has_file(f"{kind}_{name}.nii.gz"):
                    image = self.record.run.read_image(f"{kind}_{name}.nii.gz")
                    shown = f"{words} of {write_words(name)}"
                    background = None if images is None else images.background
                    frames += [
                        Text(f"{shown[0].upper()}{shown[1:]}; click to move through it."),
                        Frame(
                            f"interactive view: {shown}",
                            partial(render_view, image, background, **VIEW),
                            view_aspect(image if background is None else background),
                        ),
                    ]
        if len(self.record.map_names) > 1:
            frames.append(
                Text(f"The other {len(self.record.map_names) - 1} classes are in the run's files.", "note")
            )
        return frames

    def volumes(self) -> list[Block]:
        """Return single held-out volumes with true and predicted class, or a table of predictions."""
        chosen = choose_volumes(self.record.predictions)
        averaged = self.record.signal.get("average_blocks")
        if averaged or isinstance(self.record.images, str):
            reason = "samples are averages of blocks" if averaged else str(self.record.images)
            step = max(1, len(self.record.predictions) // N_PREDICTIONS)
            table = self.record.predictions.iloc[::step]
            return [
                Text(f"The volumes are not shown: {reason}.", "notice"),
                DataTable(table.head(N_PREDICTIONS), "Some predictions; all are in predictions.csv."),
            ]
        names = self.record.map_names
        weights = self.record.run.read_image(f"weights_{names[0]}.nii.gz") if names else None
        right = int((chosen["class"] == chosen["predicted"]).sum())
        figure = Drawing(
            "volumes",
            (7.0, 2.1 * -(-len(chosen) // 4) + 0.1),
            partial(draw_volumes, chosen=chosen, images=self.record.images, weights=weights),
            f"{len(chosen)} single volumes in one slice, {right} predicted correctly and "
            f"{len(chosen) - right} wrongly, with their true and predicted classes.",
            f"Single held-out volumes as recorded, before standardisation: {right} correct (blue) and "
            f"{len(chosen) - right} wrong ones (red), in the slice of the "
            "largest weight. Classes differ by small changes over many voxels, which are hard to see.",
        )
        return [figure, DataTable(chosen, "These volumes; all predictions are in predictions.csv.")]

    def null(self) -> list[Block]:
        """Return the null distributions of a tested run."""
        if not self.record.run.has_file(NULL_TABLE):
            return []
        table = self.record.run.read_null()
        names, bands, rows = {}, {}, []
        for column, words in list_score_words(table.columns).items():
            values = table[column].to_numpy(dtype=float)
            p = self.record.run.metrics.get(f"p_value/{column}", np.nan)
            primary = self.record.run.tags.get(PRIMARY_TAG) == column
            note = "" if primary else ", not corrected"
            names[column] = f"{words}: {write_number(values[0])}, p = {format_p(p)}{note}"
            bands[column] = band = self.record.band(column)
            null_values = (np.nan,) * 3 if band.limits is None else (band.middle, *band.limits)
            rows.append((words, values[0], *null_values, p, "primary" if primary else "not corrected"))
        summary = pd.DataFrame(rows, columns=["score", "run", "null mean", "2.5 %", "97.5 %", "p", "role"])
        kind = "distinct" if self.record.run.is_enumerated else "random"
        rule = "p = (b + 1) / (m + 1), one-sided."
        if self.record.run.has_complete_test:
            kind = kind.replace("distinct", "all distinct")
        else:
            rule = (
                "A sequential test (inference.stop_early=true) has no mean and no range under relabelling; "
                "p: Besag and Clifford (1991), one-sided."
            )
        figure = Drawing(
            "null_distribution",
            (5.6, 0.8 + 1.15 * len(names)),
            partial(draw_nulls, table=table, names=names, bands=bands),
            f"Histograms of the scores under {len(table) - 1} relabellings with the score of the run.",
            f"Scores under relabelling ({kind} relabellings of the blocks, {len(table)} with the true one) "
            f"and the score of the run (blue). {rule}",
        )
        return [figure, DataTable(summary)]
