"""``compare``: the runs of a store side by side, in tests of pairs, in a pivot table, and against chance."""

import argparse
from typing import TYPE_CHECKING

from harness.app.verbs.arguments import (
    add_run_arguments,
    print_json,
    print_seen_values,
    read_selection,
    read_store,
    write_table,
)
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.tracking.queries import RunQuery
    from harness.tracking.stored_run import StoredRun

LISTED = 100
EPILOG = (
    "by=KEY tests whether runs that differ in KEY alone differ in their test scores, for example "
    "by=estimator, by=roi, by=signal or by=estimator.grid.C: over the folds of one subject, or over "
    "subjects. It reads all selected runs; --most limits them. --maps takes searchlights that differ in "
    "subject alone, of one sweep or run one by one"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_run_arguments(parser, limit=LISTED)
    parser.set_defaults(most=None)
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--pivot", metavar="ROWS,COLUMNS", help="mean scores by two parameters, such as estimator,cv"
    )
    group.add_argument(
        "--chance", action="store_true", help="compare runs, and groups of subjects, with chance"
    )
    group.add_argument(
        "--maps",
        action="store_true",
        help="compute, from stored runs, searchlight maps over subjects in a common space, and store them as "
        "after a sweep",
    )
    parser.add_argument(
        "--score",
        metavar="NAME",
        help="for by=, --pivot and --chance: such as test_roc_auc, or several with commas "
        "(default: test_accuracy; with --chance the primary score of the permutation tests)",
    )
    parser.epilog = EPILOG


def run(options: argparse.Namespace) -> int:
    """Print the selected runs, or what is to be compared."""
    key = _take_key(options)
    if key and (options.pivot or options.chance or options.maps):
        other = f"--pivot {options.pivot}" if options.pivot else "--maps" if options.maps else "--chance"
        raise UsageError(f"by={key} and {other} are two tables; leave one of them out")
    if options.score and not (key or options.pivot or options.chance):
        raise UsageError(
            f"--score {options.score} selects what by=, --pivot or --chance compare; add one of them, "
            "such as by=estimator"
        )
    if options.pivot:
        return _print_pivot(options)
    if options.chance:
        return _print_chance(options)
    if options.maps:
        return _print_maps(options)
    if key:
        return _print_pairs(options, key)
    from harness.report.run_listing import print_comparison
    from harness.tracking.run_tables import compare_runs

    selection, uri = read_selection(options), read_store(options)
    comparison = compare_runs(uri, selection, options.most or LISTED)
    if options.json:
        print_json(
            {
                "sweep": comparison.sweep,
                "has_more": comparison.has_more,
                "ranked_within": comparison.ranked_within,
                "runs": comparison.runs,
            }
        )
    else:
        print_comparison(comparison)
    if comparison.runs.empty:
        print_seen_values(uri, selection, options.json)
    write_table(options.csv, comparison.runs, options.json)
    return 0


def _take_key(options: argparse.Namespace) -> str | None:
    """Remove ``by=KEY`` from the conditions, and return the key."""
    words = [word for word in options.conditions if word.startswith("by=")]
    options.conditions = [word for word in options.conditions if not word.startswith("by=")]
    if len(words) > 1:
        raise UsageError(f"{' '.join(words)}: by is given {len(words)} times; compare by one key at a time")
    if not words:
        return None
    key = words[0].removeprefix("by=").strip()
    if not key:
        raise UsageError("by= names no key; expected a parameter, such as by=estimator")
    return key


def _split_scores(options: argparse.Namespace) -> "Sequence[str] | None":
    """Return the scores of --score, None if there is no such option."""
    if options.score is None:
        return None
    names = [name.strip() for name in options.score.split(",")]
    if not all(names):
        raise UsageError(f"--score {options.score!r}: expected a score, such as test_roc_auc")
    return list(dict.fromkeys(names))


def _read_runs(options: argparse.Namespace) -> "tuple[str, RunQuery, list[StoredRun], list[str]]":
    """Return the store, the query, its runs, and a note if there are more."""
    from harness.tracking.queries import MAX_RUNS, select_runs
    from harness.tracking.stored_run import read_stored_runs

    selection, uri = read_selection(options), read_store(options)
    limit = options.most or MAX_RUNS
    selected = select_runs(uri, selection, limit)
    notes = [f"more than {limit} runs match; these are the newest"] if selected.has_more else []
    return uri, selection, read_stored_runs(selected.runs, uri), notes


def _print_pairs(options: argparse.Namespace, key: str) -> int:
    from harness.comparison.comparability import check_key
    from harness.comparison.paired import compare_by
    from harness.report.comparison_tables import print_pairs, tabulate_pairs

    check_key(key)
    scores = _split_scores(options)
    uri, selection, runs, notes = _read_runs(options)
    comparisons = compare_by(runs, key, scores) if runs else []
    if scores is None and comparisons:  # one score is the usual question; the others are named
        comparisons = [item for item in comparisons if item.score == comparisons[0].score]
    if options.json:
        print_json({"by": key, "notes": notes, "comparisons": [item.to_dict() for item in comparisons]})
    else:
        print_pairs(comparisons, notes)
    if not runs:
        print_seen_values(uri, selection, options.json)
    write_table(options.csv, tabulate_pairs(comparisons), options.json)
    return 0


def _print_chance(options: argparse.Namespace) -> int:
    from harness.comparison.chance import compare_with_chance
    from harness.report.comparison_tables import print_chance, tabulate_chance

    scores = _split_scores(options)
    uri, selection, runs, notes = _read_runs(options)
    comparisons = compare_with_chance(runs, scores) if runs else []
    if options.json:
        print_json({"notes": notes, "comparisons": [vars(item) for item in comparisons]})
    else:
        print_chance(comparisons, notes)
    if not runs:
        print_seen_values(uri, selection, options.json)
    write_table(options.csv, tabulate_chance(comparisons), options.json)
    return 0


def _print_maps(options: argparse.Namespace) -> int:
    """Compute, store and print searchlight maps over subjects; exit status 1 if there are none."""
    from harness.app.group_maps import store_group_maps
    from harness.comparison.group_map_record import maps_to_plain
    from harness.comparison.group_maps import refuse_ungrouped
    from harness.report.console import PlainConsole
    from harness.report.group_map_tables import print_group_maps, tabulate_group_maps
    from harness.tracking.group_run import open_store_of

    uri, selection, runs, notes = _read_runs(options)
    if not runs:
        print_seen_values(uri, selection, options.json)
        return 0
    refuse_ungrouped(runs)
    store = open_store_of(options.uri, options.folder, runs[0].experiment_id)
    found = store_group_maps(store, runs)
    if options.json:
        refused = [{"params": dict(item.params), "reason": item.reason} for item in found.refused]
        groups = [maps_to_plain(maps) for maps in found.groups]
        print_json({"notes": notes, "groups": groups, "refused": refused, "runs": found.pages})
    else:
        console = PlainConsole()
        print_group_maps(console, found.groups, found.refused)
        for note in notes:
            console.print(note, style="yellow")
        for page in found.pages:
            console.print(f"group    {page}", soft_wrap=True)
    if found.groups:
        write_table(options.csv, tabulate_group_maps(found.groups), options.json)
    return 0 if len(found.pages) == len(found.groups) and not found.refused else 1


def _print_pivot(options: argparse.Namespace) -> int:
    from harness.report.comparison_tables import print_pivot
    from harness.tracking.queries import MAX_RUNS
    from harness.tracking.run_tables import parse_pivot, pivot_runs

    rows, columns = parse_pivot(options.pivot)
    scores = _split_scores(options) or ["test_accuracy"]
    if len(scores) > 1:
        raise UsageError(f"--score {options.score}: a pivot table shows one score; name one")
    selection, uri = read_selection(options), read_store(options)
    pivot = pivot_runs(uri, selection, rows, columns, scores[0], options.most or MAX_RUNS)
    table = pivot.means.rename_axis(None, axis=1).reset_index()
    if options.json:
        print_json(vars(pivot) | {"means": table, "counts": pivot.counts.reset_index()})
    else:
        print_pivot(pivot)
    if pivot.means.empty:
        print_seen_values(uri, selection, options.json)
    write_table(options.csv, table, options.json)
    return 0
