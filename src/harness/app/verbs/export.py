"""``export``: the decoder of a stored run as an MLflow model."""

import argparse
from pathlib import Path

from harness.app.verbs.arguments import add_run_argument, add_store_arguments, read_store

EPILOG = (
    "The model takes a table with the column image, paths of 4D NIfTI files, and needs no harness; "
    "docs/predict.md shows how it is loaded and served."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_run_argument(parser)
    add_store_arguments(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write the model to a new directory, and not to the store"
    )
    parser.epilog = EPILOG


def run(options: argparse.Namespace) -> int:
    """Export the decoder, and print where the model is and how it is used."""
    from harness.tracking.model_export import export_to_directory, log_model
    from harness.tracking.queries import find_stored_run
    from harness.tracking.run_decoder import read_decoder

    uri = read_store(options)
    stored = find_stored_run(options.run, uri)
    decoder = read_decoder(stored)
    if options.out is not None:
        export_to_directory(decoder, stored.run_id, options.out)
        model, setting = str(options.out.resolve()), ""
    else:
        model = f"models:/{log_model(decoder, stored.run_id, uri)}"
        setting = f"MLFLOW_TRACKING_URI={uri} "
    print(f"model    {model}")
    print(f"predict  {setting}mlflow models predict -m {model} -t csv -i images.csv --env-manager local")
    print("         images.csv: the column image, paths of 4D NIfTI files")
    return 0
