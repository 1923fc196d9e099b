"""The predictions of a stored decoder, printed or as JSON."""

from typing import TYPE_CHECKING

from rich.table import Table

from harness.report.console import PlainConsole

if TYPE_CHECKING:
    from harness.decoding.prediction import Predictions

MAX_ROWS = 40  # on the terminal; --csv and --json have all of them


def print_predictions(title: str, predictions: "Predictions") -> None:
    """Print the predictions, their counts per image and class, and what limits them."""
    console = PlainConsole()
    console.print(title, soft_wrap=True)
    table = predictions.table
    values = [name for name in table.columns if name.startswith("decision_value")]
    shown = table.head(MAX_ROWS)
    images = [str(image) for image in shown["image"].unique()]
    names = [name for name in table.columns if name not in ("image", *values)]
    grid = Table(box=None, pad_edge=False)
    for name in (*names, *values):
        is_number = name in values or name in ("volume", "run")
        grid.add_column(name.removeprefix("decision_value_"), justify="right" if is_number else "left")
    for image in images:
        if table["image"].nunique() > 1:
            grid.add_row(f"{image}:")
        for _, row in shown[shown["image"] == image].iterrows():
            grid.add_row(*(str(row[name]) for name in names), *(f"{row[name]:+.3f}" for name in values))
    console.print(grid)
    if len(table) > MAX_ROWS:
        console.print(f"... and {len(table) - MAX_ROWS} more rows; --csv FILE writes them", soft_wrap=True)
    for image, part in ((str(name), part) for name, part in table.groupby("image", sort=False)):
        counts = part["predicted"].value_counts()
        listed = ", ".join(f"{count} {label}" for label, count in counts.items())
        console.print(f"{image}: {len(part)} predicted: {listed}", soft_wrap=True)
    if predictions.accuracy is not None:
        console.print(f"accuracy {predictions.accuracy:.3f} over {len(table)} rows", soft_wrap=True)
    for notice in predictions.notices:
        console.print(notice, soft_wrap=True)


def predictions_to_dict(run_id: str, predictions: "Predictions") -> dict[str, object]:
    """Return the predictions as plain records, for JSON."""
    return {
        "run": run_id,
        "accuracy": predictions.accuracy,
        "notices": predictions.notices,
        "predictions": predictions.table,
    }
