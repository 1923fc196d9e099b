"""What is printed of searchlight maps over subjects."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console
from rich.table import Table

from harness.inference.corrections import ALPHA
from harness.searchlight.descriptions import describe_within

if TYPE_CHECKING:
    from harness.comparison.group_maps import GroupMaps, RefusedGroup

HEADINGS = {
    "n": "n",
    "max_score": "highest mean score",
    "n_means": "p means <= .05",
    "p_means": "smallest p",
    "p_holm": "p Holm",
    "n_cluster_size": "cluster size",
    "n_prevalence_majority": "majority",
    "max_gamma0": "more than",
    "n_sign_flip_tfce": "sign flip TFCE",
}
EXPLAINED = {
    "n_prevalence_majority": "majority is corrected for voxels with information in no one.",
    "max_gamma0": "more than: the largest share of the population above which the effect is present (5 % "
    "level).",
}


def print_group_maps(
    console: Console, groups: Sequence["GroupMaps"], refused: Sequence["RefusedGroup"] = ()
) -> None:
    """Print one row per configuration, the notes, and why others have no maps."""
    if groups:
        from harness.comparison.group_map_record import explain_several

        table = tabulate_group_maps(groups)
        varying = [str(name) for name in table if name not in HEADINGS]
        shown = Table()
        for name in varying:
            shown.add_column(name, overflow="fold")
        kept = [name for name in HEADINGS if table[name].notna().any()]
        for name in kept:
            shown.add_column(HEADINGS[name], justify="right")
        for _, row in table.iterrows():
            shown.add_row(*(str(row[name]) for name in varying), *(_format(name, row[name]) for name in kept))
        console.print("searchlight maps over subjects", style="italic")
        console.print(shown)
        console.print(" ".join([*_explain(kept), explain_several(groups), describe_within()]))
        for note, which in _collect_notes(groups, varying).items():
            console.print(f"note: {which}{note}", style="yellow", markup=False, highlight=False)
    for item in refused:
        which = item.params.get("contrast", "")
        console.print(
            f"note: {which + ': ' if which else ''}{item.reason}",
            style="yellow",
            markup=False,
            highlight=False,
        )


def tabulate_group_maps(groups: Sequence["GroupMaps"]) -> pd.DataFrame:
    """Return one row per configuration: the parameters that vary, and the columns of `HEADINGS`.

    NaN where there is no test.
    """
    from harness.comparison.group_map_record import measure_maps

    params = pd.DataFrame([dict(item.params) for item in groups]).fillna("")
    varying = [str(name) for name in params if params[name].nunique() > 1]
    rows = []
    for item in groups:
        metrics = measure_maps(item)
        row: dict[str, object] = {name: item.params.get(name, "") for name in varying}
        row |= {"n": item.n, "max_score": metrics["max_mean_score"]}
        row["p_means"] = metrics.get("smallest_p/means", math.nan)
        row["p_holm"] = metrics.get("p_holm/means", math.nan)
        row["max_gamma0"] = metrics.get("max_gamma0", math.nan)
        for name in ("means", "cluster_size", "prevalence_majority", "sign_flip_tfce"):
            row[f"n_{name}"] = metrics.get(f"n_corrected/{name}", math.nan)
        if item.prevalence is not None and item.prevalence.smallest_p_majority > ALPHA:
            row["n_prevalence_majority"] = math.nan  # it could not have been rejected
        rows.append(row)
    return pd.DataFrame(rows, columns=[*varying, *HEADINGS])


def _explain(shown: Sequence[str]) -> list[str]:
    """Return what the columns of a table are."""
    counts = [HEADINGS[name] for name in shown if name.startswith("n_")]
    words = [f"{', '.join(counts)}: numbers of voxels with a corrected p of at most .05."] if counts else []
    return [*words, *(text for name, text in EXPLAINED.items() if name in shown)]


def _format(name: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    if name == "n" or name.startswith("n_"):
        return str(int(value))
    return f"{value:.2g}" if name.startswith("p") else f"{value:.3f}"


def _collect_notes(groups: Sequence["GroupMaps"], varying: Sequence[str]) -> dict[str, str]:
    """Return every note once, with the groups that it concerns unless it concerns all."""
    concerned: dict[str, list[str]] = {}
    for item in groups:
        which = " ".join(item.params.get(name, "") for name in varying)
        for note in item.notes:
            concerned.setdefault(note, []).append(which)
    return {
        note: "" if len(which) == len(groups) else f"{'; '.join(which)}: "
        for note, which in concerned.items()
    }
