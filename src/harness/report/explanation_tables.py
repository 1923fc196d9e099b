"""Why two runs differ, and whether a replay is identical: printed, and as JSON."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.table import Table

from harness.comparison.differences import Difference, Effect
from harness.comparison.map_differences import MapDifferences
from harness.comparison.numbers import NumberChange
from harness.comparison.volumes import VolumeDifferences
from harness.inference.corrections import format_p
from harness.report.console import PlainConsole
from harness.report.fitted_table import print_first_that_fits

if TYPE_CHECKING:
    from rich.console import Console

    from harness.comparison.explanation import Explanation
    from harness.comparison.replay import Replay
    from harness.tracking.stored_run import StoredRun

VALUES = ("first", "second", "difference")  # columns of decision values
MAX_CHANGES = 20  # rows of a table of numbers


def print_explanation(explanation: "Explanation") -> None:
    """Print why two runs differ."""
    console = PlainConsole()
    for name, run in (("first", explanation.first), ("second", explanation.second)):
        status = "" if run.status == "FINISHED" else f", {run.status}"
        console.print(f"{name:8} {run.run_id[:12]} {run.name} ({run.started:%Y-%m-%d %H:%M}{status})")
    _print_differences(
        console, explanation.differences, ("first", "second"), "settings, data, code or machine"
    )
    _print_scores(console, explanation)
    if explanation.maps is None:
        _print_volumes(console, explanation.volumes)
    else:
        _print_maps(console, explanation.maps)
    if explanation.is_identical:
        console.print("numbers  identical in every number: scores, predictions, maps and tests")
    elif explanation.changes and explanation.first.status == explanation.second.status == "FINISHED":
        files = dict.fromkeys(change.file for change in explanation.changes)
        console.print(f"numbers  differ in {', '.join(files)}", soft_wrap=True)
    for text in explanation.missing:
        console.print(f"missing  {text}", style="yellow", soft_wrap=True)


def print_replay(replay: "Replay") -> None:
    """Print whether a repetition has the numbers of the stored run, and what changed since."""
    console, stored = PlainConsole(), replay.stored
    console.print(f"run      {stored.run_id[:12]} {stored.name} ({stored.started:%Y-%m-%d %H:%M})")
    compared = f"{replay.n_files} files and {replay.n_metrics} metrics"
    moving = [item for item in replay.differences if item.effect not in (Effect.no, Effect.unknown)]
    if not replay.is_identical:
        console.print(f"replay   DIFFERENT in {len(replay.changes)} places, of {compared}")
        _print_changes(console, replay.changes)
    elif moving:
        changed = ", ".join(dict.fromkeys(f"{item.part} {item.name}" for item in moving))
        console.print(
            f"replay   every number is identical to the last bit, in {compared}, although this "
            f"changed: {changed}",
            soft_wrap=True,
        )
    else:
        console.print(f"replay   identical: every number, to the last bit, in {compared}")
    _print_differences(console, replay.differences, ("then", "now"), "data, versions, code and machine")
    if replay.changes and not moving:
        console.print(
            "cause    nothing that is recorded changed and could move a number: a stored file was edited, or "
            "the computation is not deterministic on this machine",
            soft_wrap=True,
        )
    for text in replay.notes:
        console.print(f"note     {text}", soft_wrap=True)


def _print_differences(
    console: "Console", differences: Sequence[Difference], names: tuple[str, str], parts: str
) -> None:
    if not differences:
        console.print(f"same     {parts}: no recorded difference")
        return
    table = Table(title="what differs", title_justify="left")
    for column in ("part", "name", *names, "can move the score", "why"):
        table.add_column(column, overflow="fold")
    for item in differences:
        table.add_row(item.part, item.name, item.first, item.second, str(item.effect), item.reason)
    console.print(table)


def _print_scores(console: "Console", explanation: "Explanation") -> None:
    if explanation.scores.empty:
        return
    table = Table(title="scores (mean over folds)", title_justify="left")
    for column in explanation.scores.columns:
        table.add_column(column, justify="left" if column == "score" else "right")
    for _, row in explanation.scores.iterrows():
        digits = 0 if row["score"].startswith("n_") else 3
        is_p = row["score"].startswith(("p_value/", "smallest_p"))
        values = [
            format_p(row[name]) if is_p and not math.isnan(row[name]) else _format(row[name], digits=digits)
            for name in ("first", "second")
        ]
        table.add_row(row["score"], *values, _format(row["difference"], sign=True, digits=digits))
    console.print(table)


def _print_volumes(console: "Console", volumes: VolumeDifferences | str) -> None:
    if isinstance(volumes, str):
        console.print(f"volumes  not compared: {volumes}", soft_wrap=True)
        return
    console.print(
        f"volumes  {volumes.n_joined} held-out volumes in both; {volumes.n_other_prediction} with another "
        f"predicted class, {volumes.n_changed} with another decision value"
    )
    for text in volumes.notes:
        console.print(f"         {text}", soft_wrap=True)
    if volumes.table.empty:
        return
    table = volumes.table
    columns = [str(name) for name in table.columns if name != "decision" or table[name].any()]
    cells = pd.DataFrame(
        {
            name.replace("_", " "): [
                _format(value, sign=True, digits=4) if name in VALUES else str(value) for value in table[name]
            ]
            for name in columns
        }
    )
    console.print("decision values that differ most")
    # On a narrow terminal, fold and volume say which row it is, and the values are the answer.
    shorter = cells.drop(columns=["condition", "run"], errors="ignore")
    narrow = cells[[name for name in cells if name in ("volume", "fold", "decision", *VALUES)]]
    print_first_that_fits(console, [cells, shorter, narrow], right=("volume", "run", "fold", *VALUES))


def _print_maps(console: "Console", maps: MapDifferences | str) -> None:
    if isinstance(maps, str):
        console.print(f"maps     not compared: {maps}", soft_wrap=True)
        return
    where = ", ".join(f"{value:.0f}" for value in maps.where)
    console.print(
        f"maps     {maps.n_first} and {maps.n_second} centres, {maps.n_both} in both; {maps.n_changed} with "
        "another score"
    )
    if maps.n_changed:
        console.print(
            f"maps     correlation {_format(maps.correlation)}; mean difference "
            f"{_format(maps.mean, sign=True)}, largest {_format(maps.largest, sign=True)} at ({where}) mm"
        )
    counts = ["not tested" if number is None else str(number) for number in maps.n_corrected]
    console.print(f"maps     voxels with p <= .05, corrected: {counts[0]} and {counts[1]}")


def _print_changes(console: "Console", changes: Sequence[NumberChange]) -> None:
    table = Table(title="numbers that differ", title_justify="left")
    for column in ("file", "part", "differ", "largest", "where", "then", "now"):
        table.add_column(column, overflow="fold")
    for change in changes[:MAX_CHANGES]:
        largest = "" if change.largest is None else f"{change.largest:.3g}"
        count = f"{change.n_changed} of {change.n_compared}"
        table.add_row(change.file, change.part, count, largest, change.where, change.first, change.second)
    console.print(table)
    if len(changes) > MAX_CHANGES:
        console.print(f"{len(changes) - MAX_CHANGES} more; --json prints all")


def explanation_to_dict(explanation: "Explanation") -> dict[str, Any]:
    """Return an explanation as plain records, for JSON."""
    volumes = explanation.volumes
    compared: dict[str, Any] = {"reason": volumes}
    if isinstance(volumes, VolumeDifferences):
        compared = {
            "joined": volumes.n_joined,
            "other_prediction": volumes.n_other_prediction,
            "changed": volumes.n_changed,
            "largest": volumes.table.to_dict("records"),
            "notes": list(volumes.notes),
        }
    maps: dict[str, Any] | None = None
    if explanation.maps is not None:
        reason = {"reason": explanation.maps}
        maps = reason if isinstance(explanation.maps, str) else asdict(explanation.maps)
    return {
        "first": _describe_run(explanation.first),
        "second": _describe_run(explanation.second),
        "identical": explanation.is_identical,
        "differences": [asdict(item) for item in explanation.differences],
        "scores": explanation.scores.to_dict("records"),
        "volumes": compared,
        "maps": maps,
        "changes": [asdict(change) for change in explanation.changes],
        "missing": list(explanation.missing),
    }


def replay_to_dict(replay: "Replay") -> dict[str, Any]:
    """Return a replay as plain records, for JSON."""
    return {
        "run": _describe_run(replay.stored),
        "identical": replay.is_identical,
        "files": replay.n_files,
        "metrics": replay.n_metrics,
        "changes": [asdict(change) for change in replay.changes],
        "differences": [asdict(item) for item in replay.differences],
        "notes": list(replay.notes),
    }


def _describe_run(run: "StoredRun") -> dict[str, str]:
    return {"run_id": run.run_id, "name": run.name, "status": run.status, "started": run.started.isoformat()}


def _format(value: float, sign: bool = False, digits: int = 3) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
