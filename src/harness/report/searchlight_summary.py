"""What is printed at the end of a searchlight."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from rich.table import Table

from harness.checks.findings import Verdict, worst_verdict
from harness.decoding.scores import nominal_chance
from harness.errors import count
from harness.inference.corrections import format_p
from harness.report.captions import describe_data
from harness.report.console import PlainConsole, print_store_commands
from harness.report.inference_tables import print_audit
from harness.report.searchlight_peaks import Peaks, list_peaks
from harness.searchlight.descriptions import describe_within, name_correction, name_relabellings
from harness.searchlight.map_test import MapTest

if TYPE_CHECKING:
    from harness.checks.findings import Finding
    from harness.searchlight.result import SearchlightResult
    from harness.tracking.run_writer import TrackedRun

MAX_PEAKS = 8
P_COLUMNS = ("p", "p_fwe", "p_tfce", "p_cluster_size")


def print_searchlight(
    result: "SearchlightResult",
    findings: "Sequence[Finding]",
    name: str,
    where: str,
    tracked: "TrackedRun | None",
    hint: str = "",
) -> None:
    """Print the spheres, scores, test and peaks of a searchlight, and where its files are.

    Parameters
    ----------
    findings : sequence of Finding
        Of the audit.
    name : str
        Name of the run.
    where : str
        Where the files are.
    tracked : TrackedRun or None
        None for a run without tracking.
    hint : str
        The command that adds a test, printed where the run has none.
    """
    console, settings, question = PlainConsole(), result.settings, result.question
    console.print(_tabulate_peaks(list_peaks(result), name))
    samples = result.samples
    unit = "blocks" if question.signal.average_blocks else "volumes"
    console.print(
        f"data     {describe_data(result)}; {len(samples.y)} {unit}, {samples.n_voxels} voxels; "
        f"{question.estimator.name}, cv={question.scheme.name}, {count(result.n_folds, 'fold')}"
    )
    console.print(f"spheres  {describe_spheres(result)}")
    scores, chance = result.score_map, nominal_chance(settings.scorer, len(samples.contrast.classes))
    console.print(
        f"scores   {settings.scorer.replace('_', ' ')}: highest {np.nanmax(scores):.3f}, median "
        f"{np.nanmedian(scores):.3f}; nominal chance {chance:.3f}"
    )
    _print_test(console, result, findings)
    print_audit(console, findings)
    if hint and result.test is None:
        console.print(hint, soft_wrap=True)
    if result.recording.notice is not None:
        console.print(result.recording.notice, style="yellow")
    for text in result.warnings:
        console.print(f"warning: {text}", style="yellow")
    console.print(f"files    {where}", soft_wrap=True)
    if tracked is not None:
        print_store_commands(console, tracked.store)
        console.print(f"this run {tracked.page}", soft_wrap=True)


def _print_test(console: PlainConsole, result: "SearchlightResult", findings: Sequence["Finding"]) -> None:
    """Print what the test found, or how a map without one is to be read."""
    if result.test is None:
        console.print(
            "A centre has the score of the sphere around it. The highest of many scores is above chance "
            "without any information: the map is not tested."
        )
        return
    for line in describe_test(result.test, result.settings.correction):
        console.print(f"test     {line}")
    is_leaky = worst_verdict(findings) == Verdict.leak
    null = describe_null(result.test.median_null_mean, result.test.statistic, is_leaky)
    console.print(f"test     {null}")
    console.print(describe_within(result.settings.correction))
    for text in result.test.cautions:
        console.print(f"caution: {text}", style="yellow")


def describe_spheres(result: "SearchlightResult") -> str:
    """Return number, radius and sizes of the spheres, and how many were left out, in words."""
    settings, spheres, sizes = result.settings, result.spheres, result.spheres.sizes
    text = f"{len(spheres)} of radius {settings.radius:g} mm, of {sizes.min()} to {sizes.max()} voxels "
    text += f"(median {np.median(sizes):g}), centres: {result.question.roi.name}"
    if spheres.n_small:
        text += f"; {spheres.n_small} left out: fewer than {settings.min_voxels} voxels"
    return text


def describe_test(test: MapTest, chosen: str) -> list[str]:
    """Return what the test of a map found, a sentence per correction, the chosen one first."""
    n = len(test.maxima)
    which = name_relabellings(test.relabellings.enumerated)
    lines = [
        f"{n} relabellings of the blocks ({which}) of {test.statistic.replace('_', ' ')}; smallest possible "
        f"p: {format_p(1 / n)}"
    ]
    for name in sorted(test.corrected, key=lambda name: name != chosen):
        corrected = test.corrected[name]
        n_voxels, smallest = corrected.n_significant, corrected.smallest_p
        text = f"{name_correction(name)}: {n_voxels} of {len(corrected.p)} centres with p <= .05"
        text += f", smallest p {format_p(smallest)}"
        if corrected.threshold is not None:
            text += f", threshold {corrected.threshold:.4g}"
        lines.append(text)
    return lines


def describe_null(median: float, statistic: str, is_leaky: bool) -> str:
    """Return what the null distributions of a map have as their mean, and whether it replaces chance.

    Parameters
    ----------
    median : float
        Over centres, of the mean of the null distribution.
    is_leaky : bool
        Whether the audit found a leak.
    """
    text = f"null distribution: median over centres of its mean {median:.3f} ({statistic})"
    if is_leaky:
        text += "; because of the leak, scores have to be read against it, not against nominal chance"
    return text


def _tabulate_peaks(peaks: Peaks, name: str) -> Table:
    """Return the highest peaks as a table of at most 80 columns."""
    shown = peaks.table.head(MAX_PEAKS)
    table = Table(title=name, title_style="bold", caption=_describe_peaks(peaks), caption_justify="left")
    table.add_column("peak", justify="right")
    table.add_column("x, y, z (mm)", justify="right")
    table.add_column("score", justify="right")
    tested = [column for column in ("z", *P_COLUMNS) if column in shown]
    for column in tested:
        table.add_column(column.replace("cluster_size", "cluster").replace("_", " "), justify="right")
    table.add_column("voxels", justify="right")
    table.add_column("mm^3", justify="right")
    for row in shown.to_dict("records"):
        place = ", ".join(f"{row[f'{axis}_mm']:.0f}" for axis in "xyz")
        cells = [f"{row[column]:.2f}" if column == "z" else format_p(row[column]) for column in tested]
        size = "" if pd.isna(row["cluster_mm3"]) else f"{row['cluster_mm3']:.0f}"
        table.add_row(str(row["cluster"]), place, f"{row['score']:.3f}", *cells, str(row["n_voxels"]), size)
    return table


def _describe_peaks(peaks: Peaks) -> str:
    words = f"clusters: {peaks.rule}"
    hidden = len(peaks.table) - MAX_PEAKS
    if hidden > 0:
        words += f"; {hidden} more in peaks.csv"
    return f"{words}. p is not corrected" if "p" in peaks.table else words
