"""An experiment-tracking research harness for fMRI decoding.

What a notebook needs is here. It is imported at its first use: ``--help`` and completion need none of it.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.app.composition import RunSpec, compose_request, compose_requests, decode_request
    from harness.datasets.bids import Bids
    from harness.datasets.haxby import Haxby
    from harness.datasets.nifti import Nifti
    from harness.datasets.recording import Recording
    from harness.datasets.simulated import Simulated
    from harness.decoding.decode import Decoding, decode
    from harness.decoding.decoder import Estimator
    from harness.decoding.evaluation import Scheme, Scoring
    from harness.decoding.question import Question
    from harness.decoding.splitters import HoldOutLast
    from harness.errors import HarnessError
    from harness.samples.contrasts import make_contrast
    from harness.samples.samples import Roi
    from harness.samples.signal import Signal
    from harness.solvers.estimators import (
        ExactLDA,
        ExactLinearSVC,
        ExactLogisticRegressionCV,
        ExactRidgeClassifierCV,
    )

# MLflow reports its use over the network unless told not to, and reads this when it is imported. A harness
# for people's data sends nothing anywhere.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

_MODULES = {
    "Bids": "harness.datasets.bids",
    "Decoding": "harness.decoding.decode",
    "Estimator": "harness.decoding.decoder",
    "ExactLDA": "harness.solvers.estimators",
    "ExactLinearSVC": "harness.solvers.estimators",
    "ExactLogisticRegressionCV": "harness.solvers.estimators",
    "ExactRidgeClassifierCV": "harness.solvers.estimators",
    "HarnessError": "harness.errors",
    "Haxby": "harness.datasets.haxby",
    "HoldOutLast": "harness.decoding.splitters",
    "Nifti": "harness.datasets.nifti",
    "Question": "harness.decoding.question",
    "Recording": "harness.datasets.recording",
    "Roi": "harness.samples.samples",
    "RunSpec": "harness.app.composition",
    "Scheme": "harness.decoding.evaluation",
    "Scoring": "harness.decoding.evaluation",
    "Signal": "harness.samples.signal",
    "Simulated": "harness.datasets.simulated",
    "compose_request": "harness.app.composition",
    "compose_requests": "harness.app.composition",
    "decode": "harness.decoding.decode",
    "decode_request": "harness.app.composition",
    "make_contrast": "harness.samples.contrasts",
}

__all__ = [
    "Bids",
    "Decoding",
    "Estimator",
    "ExactLDA",
    "ExactLinearSVC",
    "ExactLogisticRegressionCV",
    "ExactRidgeClassifierCV",
    "HarnessError",
    "Haxby",
    "HoldOutLast",
    "Nifti",
    "Question",
    "Recording",
    "Roi",
    "RunSpec",
    "Scheme",
    "Scoring",
    "Signal",
    "Simulated",
    "compose_request",
    "compose_requests",
    "decode",
    "decode_request",
    "make_contrast",
]


def __getattr__(name: str) -> Any:
    """Import what is used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
