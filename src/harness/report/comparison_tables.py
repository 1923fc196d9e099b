"""Printed comparisons of runs: pairs, scores against chance, and mean scores by two parameters."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from rich.console import Console

from harness.comparison.chance import ChanceComparison
from harness.comparison.group_table import HEADINGS, format_groups
from harness.comparison.paired import PairedComparison
from harness.inference.corrections import format_p
from harness.report.console import PlainConsole
from harness.report.fitted_table import print_first_that_fits
from harness.tracking.choices import EARLIER_PARAMS
from harness.tracking.run_tables import PivotTable

# Headings of numbers begin so.
NUMBERS = ("mean", "difference", "t", "g", "p", "score", "volumes", *HEADINGS.values())
PAIR = "first - second"


def print_pairs(comparisons: Sequence[PairedComparison], notes: Sequence[str] = ()) -> None:
    """Print paired comparisons, with their tests, baselines and corrections."""
    console = PlainConsole()
    if not comparisons:
        console.print("no such runs")
        return
    same = _find_same([comparison.fixed for comparison in comparisons])
    _print_fixed(console, same)
    for comparison in comparisons:
        own = {name: value for name, value in comparison.fixed.items() if name not in same}
        words = "".join(f", {name}={value}" for name, value in own.items())
        console.print(f"\n{_name_score(comparison.score)} by {comparison.key}{words}", soft_wrap=True)
        if comparison.table.empty:
            console.print(f"refused: {comparison.refusal}", soft_wrap=True)
            continue
        cells = _pair_cells(comparison)
        narrow = cells.drop(columns=["mean first", "mean second"])
        chosen = print_first_that_fits(console, [cells, narrow], wrapping=PAIR, right=NUMBERS)
        unit = "folds" if comparison.unit == "fold" else "subjects"
        if comparison.refusal:
            console.print(comparison.refusal, soft_wrap=True)
        else:
            console.print(
                f"{comparison.test}; n: {unit}; baseline: no difference; "
                f"correction: {comparison.correction}.",
                soft_wrap=True,
            )
        if chosen:
            console.print("Not shown on a terminal this narrow: the two means; --csv FILE writes them.")
        pairs: dict[str, list[str]] = {}
        for pair, note in zip(cells[PAIR], comparison.table["note"], strict=True):
            pairs.setdefault(note, []).append(pair)
        _print_notes(console, [f"{', '.join(named)}: {note}" for note, named in pairs.items() if note])
    console.print()
    shared = dict.fromkeys(note for comparison in comparisons for note in comparison.notes)
    _print_notes(console, [*notes, *shared])
    if any(comparison.test != "none" and comparison.unit == "fold" for comparison in comparisons):
        console.print(
            "Over folds the conclusion is about new volumes of the same subject and session, not about "
            "people.",
            soft_wrap=True,
        )


def tabulate_pairs(comparisons: Sequence[PairedComparison]) -> pd.DataFrame:
    """Return one table of paired comparisons, with a row per pair."""
    tables = []
    for comparison in comparisons:
        table = comparison.table.copy()
        named = {"by": comparison.key, "score": comparison.score, "unit": comparison.unit}
        for place, (name, value) in enumerate({**named, **comparison.fixed}.items()):
            table.insert(place, name, value)
        tables.append(table.assign(test=comparison.test, correction=comparison.correction))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["by", "score"])


def print_chance(comparisons: Sequence[ChanceComparison], notes: Sequence[str] = ()) -> None:
    """Print the scores of runs, and of groups of subjects, against chance."""
    console = PlainConsole()
    if not comparisons:
        console.print("no such runs")
        return
    for comparison in comparisons:
        _print_fixed(console, comparison.fixed)
        runs = comparison.runs
        console.print(f"\n{_name_score(comparison.score)} of runs against chance")
        numbers = pd.DataFrame(
            {
                "volumes": runs["n"].astype(str),
                "score": _format(runs["score"]),
                "null mean": _format(runs["baseline"]),
                "p": _format_p(runs["p"]),
                "p Holm": _format_p(runs["p_holm"]),
                "run": runs["run_id"].str[:8],
            }
        )
        _print_options(console, runs, "run_id", numbers)
        console.print(
            f"p: one-sided permutation test of each run; baseline: the run's own null distribution; "
            f"correction: {_describe_holm(runs['p'])}.",
            soft_wrap=True,
        )
        _print_row_notes(console, runs)
        if len(comparison.groups):
            _print_groups(console, comparison)
        _print_notes(console, comparison.notes)
    _print_notes(console, notes)


def tabulate_chance(comparisons: Sequence[ChanceComparison]) -> pd.DataFrame:
    """Return one table of scores against chance: a row per run, and per group of subjects."""
    tables = []
    for comparison in comparisons:
        for level, table in (("run", comparison.runs), ("subjects", comparison.groups)):
            if len(table):
                renamed = table.rename(columns={"score": "value", "mean": "value"})
                tables.append(renamed.assign(level=level, score=comparison.score, **comparison.fixed))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["level", "score"])


def print_pivot(pivot: PivotTable) -> None:
    """Print mean scores by two parameters."""
    console = PlainConsole()
    if pivot.means.empty:
        console.print("no such runs")
        return
    _print_fixed(console, pivot.fixed)
    several = int(pivot.counts.to_numpy().max()) > 1
    cells = pivot.means.map(lambda mean: "" if pd.isna(mean) else f"{mean:.3f}")
    counts = pivot.counts.map(lambda count: f" ({count})" if several and count else "")
    console.print(f"{_name_score(pivot.score)}: {pivot.rows} by {pivot.columns}")
    table = (cells + counts).rename_axis(None, axis=1)
    table.columns = [f"{name}" for name in table.columns]
    right = tuple(table.columns)
    wide = table.reset_index().astype(str)
    stacked = wide.melt(wide.columns[0], var_name=pivot.columns, value_name="mean")
    stacked = stacked[stacked["mean"] != ""]
    chosen = print_first_that_fits(console, [wide, stacked], right=(*right, "mean"))
    words = "mean over folds" + (", and over the runs whose number is in brackets" if several else "")
    console.print(f"{words}.")
    mixed = [name for name in pivot.scales if several and name in pivot.averaged]
    if mixed:
        name, values = mixed[0], pivot.averaged[mixed[0]]
        console.print(
            f"Cells mix {name} ({', '.join(values)}), whose scores have no common scale: select one, such as "
            f"{name}={values[-1]}, or make it one of the two parameters.",
            style="yellow",
            soft_wrap=True,
        )
    elif pivot.scales:
        console.print(
            f"Compare scores within each {' and '.join(pivot.scales)} only: scores of different schemes, "
            "scorings or numbers of classes have no common scale.",
            soft_wrap=True,
        )
    if several and pivot.averaged:
        listed = "; ".join(f"{name} ({', '.join(values)})" for name, values in pivot.averaged.items())
        console.print(f"Averaged over: {listed}.", soft_wrap=True)
    if chosen and len(right) > 1:
        console.print("One row per cell on a terminal this narrow.")
    if pivot.n_repeated:
        console.print(f"{pivot.n_repeated} older runs of the same configuration do not count.")
    if pivot.n_without:
        console.print(f"{pivot.n_without} runs without this score, or not FINISHED, do not count.")


def _print_groups(console: Console, comparison: ChanceComparison) -> None:
    groups = comparison.groups
    console.print(f"\n{_name_score(comparison.score)} of subjects against chance")
    _print_options(console, groups, "n", format_groups(groups))
    console.print(comparison.explanation, soft_wrap=True)
    _print_row_notes(console, groups)


def _print_options(console: Console, table: pd.DataFrame, until: str, numbers: pd.DataFrame) -> None:
    """Print numbers behind the options of each row: a column each, or one that wraps."""
    names = list(table.columns[: list(table.columns).index(until)])
    options = table[names].astype(str)
    merged = [" ".join(f"{name}={row[name]}" for name in names) for row in options.to_dict("records")]
    wide = pd.concat([options, numbers], axis=1)
    narrow = numbers.copy()
    if names:
        narrow.insert(0, "options", merged)
    print_first_that_fits(console, [wide, narrow, _break_headings(narrow)], wrapping="options", right=NUMBERS)


def _break_headings(cells: pd.DataFrame) -> pd.DataFrame:
    return cells.set_axis([str(name).replace(" ", "\n") for name in cells], axis=1)


def _print_row_notes(console: Console, table: pd.DataFrame) -> None:
    """Print the notes of rows, each once, with the number of rows that have it."""
    counts = table["note"].str.split("\n").explode().value_counts().drop("", errors="ignore")
    _print_notes(console, [f"{note} ({count} of {len(table)} rows)" for note, count in counts.items()])


def _print_notes(console: Console, notes: Sequence[str]) -> None:
    for note in notes:
        console.print(f"- {note}", soft_wrap=True)


def _print_fixed(console: Console, fixed: Mapping[str, str]) -> None:
    # The usual analysis distinguishes nothing.
    fixed = {name: value for name, value in fixed.items() if EARLIER_PARAMS.get(name) != value}
    if fixed:
        console.print("  ".join(f"{name}={value}" for name, value in fixed.items()).rstrip())


def _pair_cells(comparison: PairedComparison) -> pd.DataFrame:
    table = comparison.table
    differences = [
        f"{difference:+.3f}" + ("" if math.isnan(low) else f" [{low:+.3f}, {high:+.3f}]")
        # Rounded first: -1e-17 would be printed as -0.000.
        for difference, low, high in table[["difference", "low", "high"]].astype(float).round(3).to_numpy()
        + 0.0
    ]
    cells = {
        PAIR: (table["first"] + " - " + table["second"]).tolist(),
        "n": table["n"].astype(str).tolist(),
        "mean first": _format(table["mean_first"]),
        "mean second": _format(table["mean_second"]),
        "difference" if comparison.refusal else "difference [95 %]": differences,
    }
    if comparison.unit == "subject":
        cells["g"] = _format(table["effect"], "+.2f")
    elif not comparison.refusal:
        cells["t"] = _format(table["statistic"].astype(float).round(2) + 0.0, "+.2f")
    if not comparison.refusal:
        cells |= {"p": _format_p(table["p"]), "p Holm": _format_p(table["p_holm"])}
    return pd.DataFrame(cells)


def _find_same(records: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return what is the same in all records."""
    first, *others = records
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def _describe_holm(p_values: pd.Series) -> str:
    n = int(p_values.notna().sum())
    return f"Holm over {n} tests of this score" if n > 1 else "none, one test" if n else "none"


def _name_score(score: str) -> str:
    return score.replace("_", " ")


def _format(values: pd.Series, form: str = ".3f") -> list[str]:
    return ["-" if math.isnan(value) else format(value, form) for value in values.astype(float)]


def _format_p(values: pd.Series) -> list[str]:
    return ["-" if math.isnan(value) else format_p(value) for value in values.astype(float)]
