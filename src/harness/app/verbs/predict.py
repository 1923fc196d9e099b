"""``predict``: the decoder of a stored run applied to new volumes."""

import argparse
from pathlib import Path

from harness.app.verbs.arguments import (
    add_run_argument,
    add_store_arguments,
    print_json,
    read_store,
    write_table,
)

EPILOG = (
    "Every image is a scanner run of its own; where the run's volumes were standardised by their own mean "
    "and SD (signal=tutorial), the volumes of every image are standardised by theirs. docs/predict.md "
    "explains what scaling means for new volumes."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_run_argument(parser)
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE", help="NIfTI images, in order of time"
    )
    add_store_arguments(parser)
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="table with a row per volume: condition, and run if an image holds several scanner runs; "
        "predicts the volumes of the contrast and prints the accuracy",
    )
    parser.add_argument(
        "--runs",
        type=Path,
        metavar="FILE",
        help="without labels: table with the column run, a row per volume",
    )
    parser.add_argument(
        "--confounds",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="tables of the confounds that the run regressed out, one per scanner run",
    )
    parser.add_argument(
        "--t-r",
        type=float,
        metavar="SECONDS",
        help="repetition time, where the run filters and the images' headers have none",
    )
    parser.add_argument(
        "--together",
        action="store_true",
        help="with signal=tutorial: standardise the volumes of all images together",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the table to FILE")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.epilog = EPILOG


def run(options: argparse.Namespace) -> int:
    """Predict new volumes; print and write the table."""
    from harness.decoding.decode import collect_warnings, count_messages
    from harness.decoding.prediction import NewVolumes, predict_volumes
    from harness.report.prediction_table import predictions_to_dict, print_predictions
    from harness.tracking.queries import find_stored_run
    from harness.tracking.run_decoder import read_decoder

    uri = read_store(options)
    stored = find_stored_run(options.run, uri)
    decoder = read_decoder(stored)
    new = NewVolumes(
        images=tuple(options.images),
        together=options.together,
        labels=options.labels,
        runs=options.runs,
        confounds=tuple(options.confounds),
        t_r=options.t_r,
    )
    with collect_warnings() as caught:
        predictions = predict_volumes(decoder, new)
    warned = tuple(f"warning: {text}" for text in count_messages(caught))
    predictions = predictions.with_notices(warned)
    if options.json:
        print_json(predictions_to_dict(stored.run_id, predictions))
    else:
        title = f"run {stored.title}: {' vs '.join(decoder.contrast)}; positive = {decoder.contrast[0]}"
        print_predictions(title if len(decoder.contrast) == 2 else title.partition(";")[0], predictions)
    write_table(options.csv, predictions.table, options.json)
    return 0
