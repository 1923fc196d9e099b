"""What limits the interpretation of the predictions of a stored decoder."""

from collections.abc import Iterator, Sequence

import pandas as pd

from harness.decoding.stored_decoder import StoredDecoder

SHARE_TOLERANCE = 0.1  # of a class, from equal shares, above which a caution is given


def list_notices(
    decoder: StoredDecoder,
    table: pd.DataFrame,
    *,
    shortest_run: int,
    together: bool,
    digests: Sequence[str],
) -> Iterator[str]:
    """Yield what limits the interpretation of predictions.

    Parameters
    ----------
    table : DataFrame
        See `harness.decoding.prediction.Predictions`.
    shortest_run : int
        Volumes of the shortest of the new scanner runs.
    together : bool
        See `harness.decoding.prediction.NewVolumes`.
    digests : sequence of str
        Of the new images.
    """
    settings = decoder.settings
    trained = settings["trained_on"]
    if settings["kind"] == "dummy":
        yield f"{settings['estimator']} predicts from the labels of its training alone, not from the volumes"
        return
    if trained["image_sha256"] in digests:
        yield "the decoder was trained on this image: its predictions do not show how it generalises"
    if decoder.zscore == "own":
        yield from _list_own_notices(decoder, table, together)
    usual = trained["volumes_of_smallest_run"]
    if decoder.zscore == "run" and shortest_run < usual:
        yield (
            f"caution: a scanner run of {shortest_run} volumes; those of the training have {usual} or more, "
            "and every voxel is standardised by all volumes of its scanner run: mean and SD of a part differ"
        )
    if "class" not in table and any(
        settings["selection"][name] for name in ("lag", "trim_first", "trim_last")
    ):
        lag, first, last = (settings["selection"][name] for name in ("lag", "trim_first", "trim_last"))
        yield (
            f"all volumes are predicted; for the training, blocks were delayed by {lag} volumes and trimmed "
            f"by {first} and {last}"
        )


def _list_own_notices(decoder: StoredDecoder, table: pd.DataFrame, together: bool) -> Iterator[str]:
    """Yield what standardisation by the predicted volumes themselves implies for them."""
    sets = [table] if together else [part for _, part in table.groupby("image", sort=False)]
    whose = "of all images" if together else "of each image"
    if "class" not in table:
        yield (
            f"caution: signal.zscore=own standardises the volumes {whose} by their own mean and SD, as "
            "nilearn's Decoder does; values are comparable with the training only if they hold the "
            "classes in equal shares and no other conditions (--labels FILE selects them)"
        )
    else:
        equal = 1 / len(decoder.contrast)
        shares = [
            part["class"].value_counts(normalize=True).reindex(list(decoder.contrast), fill_value=0.0)
            for part in sets
        ]
        worst = max((share - equal).abs().max() for share in shares)
        if worst > SHARE_TOLERANCE:
            yield (
                f"caution: signal.zscore=own standardises the volumes {whose} by their own mean and SD, and "
                "the classes are not in equal shares: values are shifted towards the rarer class"
            )
    fewest = min(len(part) for part in sets)
    usual = decoder.settings["trained_on"]["samples_of_smallest_run"]
    if fewest < usual:
        yield (
            f"caution: {fewest} volumes are standardised together; the scanner runs of the training have "
            f"{usual} or more, so that mean and SD are less certain"
        )
