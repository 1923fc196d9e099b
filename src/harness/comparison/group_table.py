"""Group summaries as one table: for the terminal, reports and stored runs."""

import math
from collections.abc import Sequence
from functools import partial

import pandas as pd

from harness.comparison.group import GroupSummary
from harness.inference.corrections import format_p

# Columns of numbers, their headings and what they are; the order is that of the tables.
HEADINGS = {
    "n": "n",
    "mean": "mean",
    "sd": "SD",
    "baseline": "null mean",
    "p_holm": "p means",
    "p_majority": "majority",
    "gamma0": "more than",
    "largest_gamma0": "at most",
    "p_half": "sign flip",
}
SHARES = ("more than", "at most")
TESTS = {"p means": "means", "majority": "prevalence_majority", "sign flip": "sign_flip"}
EXPLAINED = {
    "null mean": "null mean: of the subjects' null distributions.",
    "p means": "p means: permutation of means, of the global null hypothesis that no subject has an effect.",
    "majority": "majority: p of the null hypothesis that at most half of the population has an effect "
    "(prevalence inference).",
    "more than": "more than: the share of the population above which the effect is present (5 % level).",
    "at most": "at most: the largest share that these numbers of subjects and relabellings allow.",
    "sign flip": "sign flip: one-sided, against 0.5, of the global null hypothesis.",
}


def tabulate_groups(groups: Sequence[GroupSummary], names: Sequence[str] = ()) -> pd.DataFrame:
    """Return one row per group.

    Parameters
    ----------
    names : sequence of str
        Parameters, which are the first columns.

    Returns
    -------
    table : DataFrame
        The parameters; ``n, mean, sd``; ``baseline``: mean of the group's null distribution; ``p_means`` and
        ``p_holm``: permutation of means, before and after Holm's correction over the groups that have it;
        ``p_majority`` and ``p_half`` (sign-flip test of score - .5): corrected; ``gamma0, largest_gamma0``:
        prevalence; and ``note``, one per line. NaN where there is no test, and, of corrected p-values, where
        it cannot be significant.
    """
    rows = []
    for group in groups:
        found = group.prevalence
        row: dict[str, object] = {name: group.params.get(name, "") for name in names}
        row |= {"n": group.n, "mean": group.mean, "sd": group.sd, "baseline": group.null_mean}
        row["p_means"] = group.p_values.get("means", math.nan)
        row["p_holm"] = group.corrected_p("means")
        row["p_majority"] = group.corrected_p("prevalence_majority")
        for name in ("gamma0", "largest_gamma0"):
            share = None if found is None else getattr(found, name)
            row[name] = math.nan if share is None else share
        row["p_half"] = group.corrected_p("sign_flip")
        rows.append(row | {"note": "\n".join(group.notes)})
    columns = ["n", "mean", "sd", "baseline", "p_means", *list(HEADINGS)[4:], "note"]
    return pd.DataFrame(rows, columns=[*names, *columns])


def format_groups(table: pd.DataFrame, with_limit: bool = False) -> pd.DataFrame:
    """Return the numbers of `tabulate_groups` as text, without columns that have none.

    Parameters
    ----------
    with_limit : bool
        Whether the largest possible share of the population has a column.
    """
    cells = {"n": table["n"].astype(str)}
    for column, heading in list(HEADINGS.items())[1:]:
        values = table[column].astype(float)
        if values.notna().any() and (with_limit or heading != "at most"):
            cells[heading] = values.map(partial(_format, heading=heading))
    return pd.DataFrame(cells)


def _format(value: float, heading: str) -> str:
    if math.isnan(value):
        return "-"
    if heading in TESTS:
        return format_p(value)
    return f"{value:.2f}" if heading in SHARES else f"{value:.3f}"


def explain_columns(cells: pd.DataFrame, groups: Sequence[GroupSummary]) -> str:
    """Return what the columns of `format_groups` are, and how their p-values are corrected."""
    texts = ["n: subjects; mean and SD (ddof=1) over them."]
    texts += [text for heading, text in EXPLAINED.items() if heading in cells]
    if cells.isin(["-"]).any(axis=None):
        texts.append("-: not tested, or cannot be significant.")
    return " ".join([*texts, *_describe_correction(cells, groups)])


def _describe_correction(cells: pd.DataFrame, groups: Sequence[GroupSummary]) -> list[str]:
    numbers = {
        heading: " or ".join(
            map(str, sorted({group.n_tests[test] for group in groups if test in group.n_tests}))
        )
        for heading, test in TESTS.items()
        if heading in cells
    }
    if set(numbers.values()) <= {"1"}:
        return []
    shares = ", the shares are not" if "more than" in cells else ""
    if len(set(numbers.values())) == 1:
        return [f"P-values are corrected over {next(iter(numbers.values()))} groups (Holm){shares}."]
    listed = ", ".join(f"{heading}: {number}" for heading, number in numbers.items())
    return [
        f"P-values are corrected (Holm) over the groups of a score that have the test ({listed}){shares}."
    ]
