"""What a report on several runs shows of searchlights: their maps side by side, a table, and methods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.affines import apply_affine, voxel_sizes

from harness.errors import TrackingError, first_line
from harness.inference.corrections import format_p
from harness.report.canvas import literal
from harness.report.map_figures import find_flat_axis
from harness.report.methods_facts import Methods
from harness.report.report_page import Block, DataTable, Drawing, Text, write_words
from harness.report.run_record import RunRecord
from harness.report.run_sections import show_methods
from harness.report.score_map import ScoreMap, draw_colour_bar, make_colours
from harness.report.searchlight_methods import write_searchlight_methods
from harness.report.searchlight_report import show_stored
from harness.report.sweep_record import SweepRecord
from harness.searchlight.descriptions import describe_within, name_correction
from harness.tracking.run_tables import map_values
from harness.tracking.stored_map import read_map, read_record
from harness.tracking.stored_run import StoredRun
from harness.tracking.tags import AUDIT_TAG, INFERENCE_TAG

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_MAPS = 24  # of a figure
MAX_TABLE = 200
N_COLUMNS = 4
METRICS = {
    "max_score": "highest score",
    "median_score": "median score",
    "n_spheres": "spheres",
    "n_corrected": "centres with p <= .05, corrected",
    "smallest_p_fwe": "smallest p, corrected",
}


@dataclass(frozen=True, eq=False)
class SearchlightSweep:
    """The blocks of a report on several searchlights.

    Attributes
    ----------
    record : SweepRecord
        Of searchlights only.
    """

    record: SweepRecord

    @cached_property
    def records(self) -> Mapping[str, dict[str, Any] | TrackingError]:
        """Content of ``searchlight.json`` of every run, or why it cannot be read."""
        found: dict[str, dict[str, Any] | TrackingError] = {}
        for run in self.record.finished:
            try:
                found[run.run_id] = read_record(run)
            except TrackingError as error:
                found[run.run_id] = error
        return found

    @cached_property
    def ordered(self) -> list[StoredRun]:
        """The runs in the order of their varying parameters."""
        names = self.record.varying_names
        return sorted(
            self.record.finished, key=lambda run: [_order(run.params.get(name, "")) for name in names]
        )

    def maps(self) -> list[Block]:
        """Return the figures of the maps, one per chance level and score, and what could not be drawn."""
        groups: dict[tuple[float, str], list[tuple[str, ScoreMap]]] = {}
        unread: list[str] = []
        for run in self.ordered[:MAX_MAPS]:
            try:
                shown = show_stored(read_map(run))
                groups.setdefault((shown.chance, shown.unit), []).append((self._label(run), shown))
            except TrackingError as error:
                unread.append(first_line(error))
        blocks: list[Block] = []
        for number, ((chance, unit), panels) in enumerate(groups.items()):
            limits = [shown.limits for _, shown in panels]
            common = min(low for low, _ in limits), max(high for _, high in limits)
            panels = [(label, replace(shown, common_limits=common)) for label, shown in panels]
            rows = -(-len(panels) // N_COLUMNS)
            caption = (
                f"{unit[0].upper()}{unit[1:]}, mean over folds, of the sphere around every voxel, in the "
                f"slice with the highest score of the run; white: chance ({chance:.3g}), the same colours in "
                "all maps."
            )
            if any(shown.significant is not None for _, shown in panels):
                caption += " Outlined: p <= .05, corrected over voxels. " + describe_within(self._correction)
            blocks.append(
                Drawing(
                    "searchlights" if number == 0 else f"searchlights_{number + 1}",
                    (7.0, 0.15 + 1.95 * rows),
                    partial(draw_panels, panels=panels),
                    f"Maps of {len(panels)} searchlights; scores from {common[0]:.3f} to {common[1]:.3f}.",
                    caption,
                )
            )
        if len(self.ordered) > MAX_MAPS:
            hidden = len(self.ordered) - MAX_MAPS
            blocks.append(Text(f"{hidden} more maps: select runs with NAME=VALUE.", "note"))
        blocks += [Text(f"Not in the figure: {text}", "notice") for text in dict.fromkeys(unread)]
        return [*blocks, *self._tabulate()]

    @property
    def _correction(self) -> str | None:
        """The correction of the maps, None where they differ."""
        names = {
            str(found["settings"]["correction"])
            for found in self.records.values()
            if not isinstance(found, TrackingError)
        }
        return names.pop() if len(names) == 1 else None

    def _label(self, run: StoredRun) -> str:
        names = [name for name in self.record.varying_names if name != "subject"]
        words = [write_words(run.params.get(name, "")) for name in names]
        if "subject" in self.record.varying_names or not words:
            words.append(f"sub-{run.params.get('subject', '?')}")
        return ", ".join(words)

    def _tabulate(self) -> list[Block]:
        rows = []
        for run in self.ordered[:MAX_TABLE]:
            row: dict[str, object] = {"run": run.run_id[:8]}
            row |= {name: write_words(run.params.get(name, "")) for name in self.record.varying_names}
            values = map_values(run.metrics)
            row |= {
                words: values.get(name, np.nan)
                for name, words in METRICS.items()
                if any(name in other.metrics for other in self.ordered)
            }
            found = self.records[run.run_id]
            if not isinstance(found, TrackingError) and "test" in found:
                row["correction"] = name_correction(found["settings"]["correction"])
            rows.append(row | {"audit": run.tags.get(AUDIT_TAG, "")})
        table = pd.DataFrame(rows)
        for words in ("spheres", "centres with p <= .05, corrected"):
            if words in table:
                table[words] = ["-" if pd.isna(value) else f"{value:.0f}" for value in table[words]]
        words = METRICS["smallest_p_fwe"]
        if words in table:
            table[words] = ["-" if pd.isna(value) else format_p(value) for value in table[words]]
        caption = "The highest score of a map is a selected one; it is not an estimate of decoding accuracy."
        if len(self.ordered) > MAX_TABLE:
            caption += f" The first {MAX_TABLE} of {len(self.ordered)} runs."
        return [DataTable(table.fillna("-") if "correction" in table else table, caption)]

    def methods(self) -> list[Block]:
        """Return the methods text of what the searchlights share, with the values that vary."""
        varying = self.record.params[1]
        varied = "; ".join(f"{name}: {', '.join(map(str, values))}" for name, values in varying.items())
        notice = Text(
            f"Generated from the configuration of run {self._described.title}; these settings vary: "
            f"{varied or 'none'}. Adapt the sentences on them.",
            "notice",
        )
        return [notice, *show_methods(self._write_methods)]

    @property
    def _described(self) -> StoredRun:
        """The run whose configuration the methods text describes: the newest tested one."""
        tested = [run for run in self.record.finished if INFERENCE_TAG in run.tags]
        return (tested or self.record.finished)[0]

    def _write_methods(self) -> Methods:
        shown, varying = self._described, self.record.params[1]
        params = dict(shown.params) | {name: ", ".join(map(str, values)) for name, values in varying.items()}
        facts = RunRecord(shown, "the recording is not read").method_facts()
        shared = self._share_counts()
        return write_searchlight_methods(replace(facts, params=params, n_blocks=None), shared)

    def _share_counts(self) -> dict[str, Any]:
        """Return those counts of the runs' records that all runs share."""
        read = [found for found in self.records.values() if not isinstance(found, TrackingError)]
        names = ("n_spheres", "n_small", "sphere_sizes")
        return {
            name: read[0][name]
            for name in names
            if len(read) == len(self.records) and all(found.get(name) == read[0].get(name) for found in read)
        }


def draw_panels(figure: "Figure", panels: Sequence[tuple[str, ScoreMap]]) -> None:
    """Draw one slice of every map, that with its highest score, with the same colours, and a colour bar.

    Parameters
    ----------
    panels : sequence of (title, ScoreMap)
    """
    n_columns = min(N_COLUMNS, len(panels))
    n_rows = -(-len(panels) // n_columns)
    right = 0.88
    for number, (title, shown) in enumerate(panels):
        row, column = divmod(number, n_columns)
        place = (
            right * column / n_columns,
            1 - (row + 1) / n_rows,
            right / n_columns * 0.97,
            0.86 / n_rows,
        )
        axes = figure.add_axes(place)
        _draw_slice(axes, shown)
        axes.set_title(literal(_shorten(title)), fontsize=7.5, pad=2)
    height = min(0.7, 1.3 / (1.95 * n_rows + 0.15))
    draw_colour_bar(figure.add_axes((0.9, 0.5 - height / 2, 0.013, height)), panels[0][1])


def _draw_slice(axes: "Axes", shown: ScoreMap) -> None:
    def turn(values: np.ndarray) -> Any:
        return np.asarray(
            nib.as_closest_canonical(nib.Nifti1Image(values.astype(np.float64), shown.affine)).dataobj
        )

    image = nib.as_closest_canonical(shown.image)
    values, centres = turn(shown.scores), turn(shown.centres) > 0.5
    flat = find_flat_axis(image)
    axis = 2 if flat is None else flat
    across, up = [other for other in range(3) if other != axis]
    peak = np.unravel_index(np.where(centres, np.fmax(values, -np.inf), -np.inf).argmax(), values.shape)
    place = int(peak[axis])
    low, high = shown.limits
    sizes = voxel_sizes(image.affine)
    pixels = np.ma.masked_where(~centres, values).take(place, axis=axis).T
    # Grey, so that voxels at chance, which are white, can be seen.
    axes.imshow(np.full(pixels.shape, 0.22), origin="lower", cmap="gray_r", vmin=0, vmax=1)
    axes.imshow(
        pixels,
        origin="lower",
        cmap=make_colours(shown),
        vmin=low,
        vmax=high,
        aspect=sizes[up] / sizes[across],
        interpolation="nearest",
    )
    if shown.significant is not None:
        outlined = (turn(shown.significant) > 0.5).take(place, axis=axis).T
        if outlined.any():
            _outline(axes, outlined)
    millimetres = apply_affine(image.affine, [place if a == axis else 0 for a in range(3)])[axis]
    axes.text(0.0, 0.0, f"{'xyz'[axis]} = {millimetres:.0f} mm", transform=axes.transAxes, fontsize=6.5)
    if axis != 0:
        for side, x in (("L", 0.02), ("R", 0.94)):
            axes.text(x, 0.92, side, transform=axes.transAxes, fontsize=7)
    axes.set_axis_off()


def _outline(axes: "Axes", chosen: np.ndarray) -> None:
    """Draw the outline of pixels along their edges."""
    fine = np.kron(np.pad(chosen, 1), np.ones((4, 4)))
    up, across = ((np.arange(size) + 0.5) / 4 - 1.5 for size in fine.shape)
    axes.contour(across, up, fine, levels=[0.5], colors="black", linewidths=0.9)


def _shorten(title: str, limit: int = 34) -> str:
    return title if len(title) <= limit else f"{title[: limit - 3]}..."


def _order(value: str) -> tuple[int, float, str]:
    """Order numbers by value, before other words."""
    return (0, float(value), "") if value.isdigit() else (1, 0.0, value)
