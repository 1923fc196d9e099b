"""What is printed at the end of a run."""

from typing import TYPE_CHECKING

import pandas as pd
from rich.table import Table

from harness.report.captions import describe_data, describe_size
from harness.report.console import PlainConsole, format_score, print_store_commands
from harness.report.inference_tables import print_audit, print_inference
from harness.samples.contrasts import file_word

if TYPE_CHECKING:
    from harness.decoding.decode import Decoding
    from harness.tracking.run_result import RunResult
    from harness.tracking.run_writer import FinishedRun, TrackedRun
    from harness.tracking.store import Store

MAX_FOLDS_SHOWN = 20


def print_run(
    result: "RunResult", name: str, artifacts: str, tracked: "TrackedRun | None", hint: str = ""
) -> None:
    """Print the scores of a run, where its files are, and how to compare it.

    Parameters
    ----------
    name : str
        Name of the run.
    artifacts : str
        Where the files are.
    tracked : TrackedRun or None
        None for a run without tracking.
    hint : str
        The command that adds a permutation test, printed where the run has none.
    """
    console, decoding = PlainConsole(), result.decoding
    console.print(_fold_table(decoding, name))
    console.print(f"data     {describe_data(decoding)}; {describe_size(decoding)}")
    console.print(
        "selected: parameters chosen on the fold that is scored, as nilearn's cv_scores_; "
        "test: volumes that took part in no choice. SD: over folds (ddof=1)."
    )
    if len(decoding.samples.contrast.classes) > 2:
        console.print("selected scores are means over classes, each against the rest.")
    for text in decoding.describe_optimism():
        console.print(text)
    console.print(
        f"train_accuracy {decoding.train_accuracy:.3f} (on the volumes fitted: no measure of decoding)"
    )
    print_audit(console, result.findings)
    if result.inference is not None:
        print_inference(console, result.inference)
    elif hint:
        console.print(hint, soft_wrap=True)
    for text in decoding.notices:
        console.print(text, style="yellow")
    console.print(f"files    {artifacts}", soft_wrap=True)
    if tracked is not None:
        print_store_commands(console, tracked.store)
        console.print(f"this run {tracked.page}", soft_wrap=True)


def print_finished(name: str, run: "FinishedRun", store: "Store") -> None:
    """Print the scores of a run that is skipped because another has its result.

    Parameters
    ----------
    name : str
        Name of the skipped run.
    run : FinishedRun
        The run that has its result.
    """
    console = PlainConsole()
    console.print(
        f"{name} has finished before, with the same data, configuration and code: run {run.run_id} "
        f"({run.name}). resume=false computes it again.",
        soft_wrap=True,
    )
    for score in (key.removesuffix("_mean") for key in sorted(run.scores) if key.endswith("_mean")):
        mean, sd = run.scores[f"{score}_mean"], run.scores.get(f"{score}_std")
        console.print(f"  {score:24} {format_score(mean, sd)}")
    if run.audit:
        console.print(f"audit    {run.audit}; audit.json of that run has why")
    print_store_commands(console, store)


def _fold_table(decoding: "Decoding", name: str) -> Table:
    folds, summary = decoding.folds, decoding.summarise()
    shown = ["fold", "runs_held_out", "n_test", *decoding.score_columns]
    # The one-vs-rest scores of every class do not fit a terminal; folds.csv has them.
    classes = decoding.samples.contrast.classes
    if len(classes) > 2:
        of_classes = tuple(f"_{file_word(name)}" for name in classes)
        shown = [column for column in shown if not column.endswith(of_classes)]
    else:
        shown += [column for column in folds.columns if column.startswith("best_")]
    table = Table(title=name, title_style="bold", show_footer=False)
    for column in shown:
        table.add_column(column.replace("_", " ").replace("runs held out", "runs out"), justify="right")
    if len(folds) <= MAX_FOLDS_SHOWN:
        for _, row in folds.iterrows():
            table.add_row(*(_format_cell(column, row[column]) for column in shown))
        table.add_section()
    for label, key in (("mean", "mean"), ("SD", "sd")):
        values = summary[key].to_dict()
        cells = [_format_cell(column, values.get(column, "")) for column in shown[1:]]
        table.add_row(label, *cells, style="bold" if key == "mean" else None)
    return table


def _format_cell(column: str, value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if pd.isna(value):
        return "-"
    return f"{value:g}" if column.startswith("best_") else f"{value:.3f}"
