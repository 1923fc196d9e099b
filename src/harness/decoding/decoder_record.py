"""The decoder of a run as data; see `harness.decoding.stored_decoder`."""

from dataclasses import asdict
from typing import Any

import numpy as np

from harness.decoding.choices import Engine
from harness.decoding.decode import Decoding
from harness.decoding.decoder import DummyDecoder, LinearDecoder, TrainingMoments
from harness.decoding.nilearn_decoder import NilearnDecoder
from harness.decoding.stored_decoder import StoredDecoder
from harness.samples.contrasts import file_word

PREPARATION = ("detrend", "smoothing_fwhm", "high_pass", "low_pass")
SELECTION = ("lag", "trim_first", "trim_last", "average_blocks")


def record_decoder(decoding: Decoding) -> StoredDecoder:
    """Return the final decoder of a run, the mean over folds, as arrays and plain settings.

    A decoder that cannot be applied without the classes of other packages is recorded with the reason.
    """
    arrays: dict[str, np.ndarray] = {}
    kind, reason, decoder = "none", "", decoding.decoder
    guesses = False
    if isinstance(decoder, DummyDecoder):
        kind, guesses = "dummy", decoder.guesses
        arrays["prior"] = decoder.prior
    elif isinstance(decoder, LinearDecoder):
        kind = "linear"
        arrays |= {"coef": decoder.coef, "intercept": decoder.intercept}
        if isinstance(decoder.standardise, TrainingMoments):
            arrays |= {"location": decoder.standardise.location, "scale": decoder.standardise.scale}
    elif isinstance(decoder, NilearnDecoder) and decoder.coef is not None:
        kind = "linear"
        arrays |= {"coef": decoder.coef, "intercept": np.ravel(decoder.decoder.intercept_)}
    else:
        reason = "nilearn does not expose the guesses of a dummy; repeat the run with engine=harness"
    if kind == "linear" and not all(np.isfinite(array).all() for array in arrays.values()):
        kind, reason = "none", "some of its weights are not finite"
    grid = decoding.samples.grid
    arrays |= {"mask": np.packbits(grid.mask), "affine": np.asarray(grid.affine, dtype=np.float64)}
    return StoredDecoder({"kind": kind, "reason": reason, "guesses": guesses} | _settings(decoding), arrays)


def _settings(decoding: Decoding) -> dict[str, Any]:
    question, samples, recording = decoding.question, decoding.samples, decoding.recording
    confounds = samples.sources.confounds
    signal = asdict(question.signal)
    classes = question.contrast.classes
    names = [f"decision_value_{file_word(name)}" for name in classes]
    sizes = recording.labels["run"].value_counts()
    _, selected = np.unique(samples.runs, return_counts=True)
    return {
        "classes": [str(name) for name in decoding.decoder.classes],
        "contrast": {name: list(members) for name, members in question.contrast.members.items()},
        "columns": names if len(classes) > 2 else ["decision_value"],
        "zscore": str(signal["zscore"]),
        "cleaning": {name: signal[name] for name in PREPARATION},
        "selection": {name: signal[name] for name in SELECTION},
        "confounds": [] if confounds is None else [str(name) for name in confounds.columns],
        "dtype": None if question.engine == Engine.nilearn else "float32",
        "t_r": recording.t_r,
        "shape": list(samples.grid.mask.shape),
        "estimator": question.estimator.name,
        "trained_on": {
            "dataset": recording.dataset,
            "subject": recording.subject,
            "image_sha256": samples.image_digest,
            "volumes_of_smallest_run": int(sizes.min()),
            "samples_of_smallest_run": int(selected.min()),
        },
    }
